//! A real OpenID provider: npm's oidc-provider, started by the test and told by it what to do.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Server, ServerBuilder, User, leave_out, within};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oidc");

/// The secret that server and provider share.
pub(crate) const SECRET: &str = "the secret of both: 100% & more";

/// A provider that runs. It ends when this is dropped.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    http: reqwest::Client,
    _child: Child,
}

impl Provider {
    /// Starts one; `None`: `test` was left out, and why has been said.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        Self::with(test, json!({})).await
    }

    /// The same with other options.
    pub(crate) async fn with(test: &str, mut options: Value) -> Option<Self> {
        let version = std::process::Command::new("node").arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            leave_out(test, "there is no node on this machine");
            return None;
        }
        if !Path::new(FOLDER).join("node_modules/oidc-provider/package.json").exists() {
            leave_out(test, "there is no OpenID provider: run tests/oidc/prepare");
            return None;
        }
        options["clients"] = json!([{
            "client_id": "antimony",
            "client_secret": SECRET,
            "redirect_uris": ["http://labs.test/api/users/login/success"],
            "grant_types": ["authorization_code", "refresh_token"],
        }]);
        let mut node = Command::new("node");
        node.current_dir(FOLDER).arg("provider.mjs").arg(options.to_string()).kill_on_drop(true);
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the provider", lines.next_line()).await.unwrap().expect("it says where it listens");
        let issuer = line.strip_prefix("listening on ").expect(&line).to_owned();
        let provider = Self { issuer, http: antimony_host::client::http(), _child: child };
        let (ada, bob) =
            (json!({"groups": ["course", "staff"], "email": "ada@labs.test"}), json!({"groups": ["course"]}));
        provider.tell(json!({"accounts": {"ada": ada, "bob": bob}})).await;
        Some(provider)
    }

    /// Tells it what to do, and answers what it has done; `tests/oidc/provider.mjs` says what there is.
    pub(crate) async fn tell(&self, what: Value) -> Value {
        let answer = self.http.post(format!("{}/control", self.issuer)).json(&what).send().await;
        answer.expect("the provider answers").json().await.expect("JSON")
    }

    /// The configuration of a server that has people log in by it.
    pub(crate) fn config(&self) -> String {
        format!(
            "auth:\n  enableNative: false\n  enableOpenId: true\n  openIdIssuer: {}\n  openIdClientId: antimony\n  \
             openIdRedirectHost: http://labs.test/api\n  openIdAdminGroups: [staff]\n",
            self.issuer
        )
    }

    /// A server that has people log in by it.
    pub(crate) async fn server(&self) -> Server {
        ServerBuilder::new(User::Myself).config(&self.config()).env("SB_OIDC_SECRET", SECRET).start().await
    }
}
