//! What an operator asks of a running server from the command line, by its REST API.

use anyhow::Context as _;
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::client::Api;

/// Holds an administrator's token, for those who don't want it in the list of processes.
const ENV_TOKEN: &str = "ANTIMONY_TOKEN";

/// Which server, and who asks.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where the server listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// An administrator's access token, as `antimony-host token --admin` prints it [default: the value of ANTIMONY_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Has the server read its configuration again. Answers what is in force then, in a sentence.
pub(crate) async fn reload(server: &ServerArgs) -> anyhow::Result<String> {
    ask(server, "/plugins/reload").await
}

/// Has the server go back to the plugins before. Answers what is in force then, in a sentence.
pub(crate) async fn rollback(server: &ServerArgs) -> anyhow::Result<String> {
    ask(server, "/plugins/rollback").await
}

async fn ask(server: &ServerArgs, path: &str) -> anyhow::Result<String> {
    let token = server.token.clone().or_else(|| std::env::var(ENV_TOKEN).ok()).filter(|token| !token.is_empty());
    let token = token.with_context(|| format!("give an administrator's token by --token or {ENV_TOKEN}"))?;
    let state = Api::anonymous(&server.url).with_token(&token).request(Method::POST, path, None).await?;
    Ok(in_words(&state))
}

fn in_words(state: &Value) -> String {
    let plugins = state["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |plugin: &Value| {
        let digest: String = text(&plugin["digest"]).chars().take(12).collect();
        let [hook, name, version, path] = ["hook", "name", "version", "path"].map(|key| text(&plugin[key]));
        let mode = if plugin["mode"] == "enforce" { "" } else { ", only watched" };
        format!("\n  {hook}: {name} {version} ({path}, sha256 {digest}…{mode})")
    };
    let lines: String = plugins.iter().map(line).collect();
    format!("in force is generation {}:{lines}", state["reload"]["generation"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_told_line_by_line() {
        let state = serde_json::json!({"reload": {"generation": 3}, "plugins": [{
            "hook": "auth-policy", "name": "quota", "version": "1.0", "path": "q.wasm", "digest": "0123456789abcdef",
            "mode": "monitor",
        }]});
        let said = in_words(&state);
        let expected =
            "in force is generation 3:\n  auth-policy: quota 1.0 (q.wasm, sha256 0123456789ab…, only watched)";
        assert_eq!(said, expected);
    }
}
