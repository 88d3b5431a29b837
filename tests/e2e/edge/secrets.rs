//! Whatever the log is set to, no secret is in it.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Client, Raw, Server, ServerBuilder, User, eventually, next};

/// What people and operators trust the server with, each to be recognised in any log.
const PASSWORD: &str = "pw-3f9c1e-operators-own";
const WRONG_PASSWORD: &str = "pw-77ab20-typed-wrongly";
const OIDC_SECRET: &str = "oidc-51d0aa-client-secret";
const DATABASE_PASSWORD: &str = "db-90ce4f-password";
const IN_TOPOLOGY: &str = "topo-c0ffee-license";
const TYPED: &str = "typed-8d21b7-into-a-shell";
const IN_QUERY: &str = "query-44fe19-token";
const IN_HEADER: &str = "header-0bd8c2-token";
const IN_COOKIE: &str = "cookie-e713d5-session";
const MALFORMED: &str = "malformed-6aa2f0-password";

/// A password that somebody has sent as a number.
const NUMBER: &str = "90517734402816";

const TOPOLOGY: &str = "name: story
topology:
  nodes:
    n1:
      kind: linux
      env:
        LICENSE: topo-c0ffee-license
";

/// Where and how a secret is in a text, if it is.
fn found<'a>(secrets: &'a [(&'static str, String)], text: &str) -> Vec<(&'static str, &'a str, String)> {
    let mut hits = Vec::new();
    for (what, secret) in secrets {
        // As it is, in bytes as debug output has them, and in hexadecimal.
        let bytes = secret.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
        let hexadecimal: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        for form in [secret.as_str(), &bytes, &hexadecimal] {
            if let Some(line) = text.lines().find(|line| line.contains(form)) {
                hits.push((*what, secret.as_str(), line.chars().take(400).collect()));
            }
        }
    }
    hits
}

/// A token without its signature is none, so that its last part is the secret one.
fn signature(token: &str) -> String {
    token.rsplit('.').next().expect("a last part").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_into_any_log_at_any_level() {
    if !User::Myself.can_run_labs("secrets in logs") {
        return;
    }
    let mut builder = ServerBuilder::new(User::Myself);
    for (name, value) in [
        ("ANTIMONY_LOG", "trace"),
        ("RUST_LOG", "trace"),
        ("SB_NATIVE_USERNAME", "operator"),
        ("SB_NATIVE_PASSWORD", PASSWORD),
        ("SB_OIDC_SECRET", OIDC_SECRET),
        ("SB_DATABASE_PASSWORD", DATABASE_PASSWORD),
    ] {
        builder = builder.env(name, value);
    }
    let mut server = builder.start().await;

    server.api().log_in("operator", WRONG_PASSWORD).await.expect_err("a wrong password");
    let login = server.api().log_in("operator", PASSWORD).await.expect("the right one");
    let refreshed = server.api().refresh(&login.refresh_token).await.expect("another access token");
    let http = antimony_host::client::http();
    let get = async |path: &str, field: &str, value: &str| {
        http.get(format!("{}{path}", server.url)).header(field, value).send().await.expect("an answer").status()
    };
    get(&format!("/labs?token={IN_QUERY}"), "authorization", &format!("Bearer {IN_HEADER}")).await;
    get(&format!("/nowhere?token={IN_QUERY}"), "cookie", &format!("accessToken={IN_COOKIE}; authToken={IN_COOKIE}"))
        .await;
    get("/users/login/refresh", "cookie", &format!("authToken={IN_COOKIE}")).await;
    get("/labs", "authorization", &format!("Basic {IN_HEADER}")).await;
    get(&format!("/users/login/success?code={IN_QUERY}&state={IN_QUERY}"), "cookie", "a=b").await;
    for body in [
        format!(r#"{{"username": "operator", "password": "{MALFORMED}""#),
        format!(r#"{{"username": "operator", "password": ["{MALFORMED}"]}}"#),
        format!(r#"["{MALFORMED}"]"#),
        format!(r#"{{"username": "operator", "password": {NUMBER}}}"#),
        format!(r#"{{"username": ["operator"], "{MALFORMED}": 5}}"#),
    ] {
        let url = format!("{}/users/login/native", server.url);
        http.post(url).header("content-type", "application/json").body(body).send().await.expect("an answer");
    }

    let operator = Client::connect(&server, &login.access_token).await;
    let lab = operator.create_lab("course", TOPOLOGY).await;
    let topologies = operator.api.get("/topologies").await.expect("the topologies");
    let path = format!("/topologies/{}", topologies[0]["id"].as_str().expect("an id"));
    for definition in [
        format!("name: story\ntopology: [{IN_TOPOLOGY}"),
        format!("name: story\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      exec: {IN_TOPOLOGY}\n"),
        format!("name: story\ntopology:\n  nodes: {IN_TOPOLOGY}\n"),
    ] {
        let broken = json!({ "definition": definition });
        operator.api.request(Method::PATCH, &path, Some(&broken)).await.expect_err("it is no topology");
    }
    operator.deploy(&lab).await.expect("deployed");
    let shell = operator.open_shell(&lab, "n1").await;
    let mut terminal = operator.join(&format!("/shells/{shell}")).await;
    terminal.emit("data", json!(format!("echo {TYPED}-x | tr x y\n"))).await.expect("sent");
    let mut seen = String::new();
    while !seen.contains(&format!("{TYPED}-y")) {
        seen.push_str(&next(&mut terminal).await.data().to_string());
    }

    // Tokens that are none, by both transports.
    let mut raw = Raw::open(&server.url).await;
    assert!(!raw.join("/lab-updates", IN_HEADER).await);
    raw.send(format!("42/lab-commands,1[\"data\",\"{IN_HEADER}\"]")).await;
    let polling = format!("{}/socket.io/?EIO=4&transport=polling&token={IN_QUERY}", server.url);
    let opened = http.get(&polling).send().await.expect("an answer").text().await.expect("text");
    let opened: serde_json::Value = serde_json::from_str(&opened[1..]).expect("an open packet");
    let session = format!("{polling}&sid={}", opened["sid"].as_str().expect("an id"));
    let join = format!("40/lab-updates,{{\"token\":\"{}\"}}", login.access_token);
    http.post(&session).body(join).send().await.expect("an answer");
    http.get(&session).send().await.expect("an answer").text().await.expect("text");

    let student = server.token("student", &["course"]);
    let refused = server.api().with_token(&student).request(Method::DELETE, &path, None).await;
    refused.expect_err("not theirs");
    operator.destroy(&lab).await.expect("destroyed");
    server
        .api()
        .with_token(&login.access_token)
        .request(Method::POST, "/users/logout", None)
        .await
        .expect("logged out");
    server
        .api()
        .with_token(&login.access_token)
        .request(Method::POST, "/plugins/reload", None)
        .await
        .expect("reloaded");

    let mut secrets: Vec<(&'static str, String)> = [
        ("SB_NATIVE_PASSWORD", PASSWORD),
        ("a password typed wrongly", WRONG_PASSWORD),
        ("SB_OIDC_SECRET", OIDC_SECRET),
        ("SB_DATABASE_PASSWORD", DATABASE_PASSWORD),
        ("what is in a topology", IN_TOPOLOGY),
        ("what is typed into a shell", TYPED),
        ("a token in a query", IN_QUERY),
        ("a token in a header field", IN_HEADER),
        ("a cookie", IN_COOKIE),
        ("a password in a malformed body", MALFORMED),
        ("a password that is a number", NUMBER),
    ]
    .map(|(what, secret)| (what, secret.to_owned()))
    .into();
    for (what, token) in [
        ("an access token", &login.access_token),
        ("a refresh token", &login.refresh_token),
        ("a refreshed access token", &refreshed),
        ("a user's access token", &student),
    ] {
        secrets.push((what, signature(token)));
    }
    let key = std::fs::read(server.place().data().join("signing.key")).expect("the key");
    secrets.push(("the signing key", key.iter().map(|b| format!("{b:02x}")).collect()));

    server.terminate().await;
    let decisions = std::fs::read_to_string(server.place().data().join("decisions.log")).expect("the decision log");
    assert!(decisions.contains("story"), "the story is in it");
    let secret_hits = found(&secrets, &decisions);
    assert!(secret_hits.is_empty(), "in the decision log: {secret_hits:#?}");
    eventually(async || {
        if server_log(&mut server).contains("shutting down") { Ok(()) } else { Err("the log hasn't ended".to_owned()) }
    })
    .await;
    let log = server_log(&mut server);
    // That it was looked for where there is something to be found.
    for part in [" DEBUG ", "/users/login/native", "sqlx", "story"] {
        assert!(log.contains(part), "the log has no {part:?}: is it on?");
    }
    let hits = found(&secrets, &log);
    assert!(hits.is_empty(), "in the log of {} bytes: {hits:#?}", log.len());
}

fn server_log(server: &mut Server) -> String {
    server.log().to_owned()
}
