//! Whatever the log is set to, no secret is in it.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use reqwest::Method;
use serde_json::json;

use crate::harness::postgres::{MISSING, Postgres};
use crate::harness::{Client, Place, Raw, Server, ServerBuilder, User, eventually, leave_out, next};
use crate::login::browser::{Browser, query};
use crate::login::provider::{self, Provider};

/// What people and operators trust the server with, each to be recognised in any log.
const PASSWORD: &str = "pw-3f9c1e-operators-own";
const WRONG_PASSWORD: &str = "pw-77ab20-typed-wrongly";
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
        // As it is, in bytes as debug output has them, in hexadecimal, and as part of an address, form or header field.
        let bytes = secret.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
        let hexadecimal: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let (query, form) = (percent_encoded(secret, "%20"), percent_encoded(secret, "+"));
        let base64 = base64::prelude::BASE64_STANDARD.encode(secret);
        for form in [secret.as_str(), &bytes, &hexadecimal, &query, &form, base64.trim_end_matches('=')] {
            if let Some(line) = text.lines().find(|line| line.contains(form)) {
                hits.push((*what, secret.as_str(), line.chars().take(400).collect()));
            }
        }
    }
    hits
}

fn percent_encoded(text: &str, space: &str) -> String {
    let each = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => char::from(byte).to_string(),
        b' ' => space.to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(each).collect()
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

    nothing_is_written_of(&secrets, &mut server, &["/users/login/native", "sqlx", "story"]).await;
}

/// Ends the server, and looks for secrets in all that it has written. These parts are in its log, or else it isn't on.
async fn nothing_is_written_of(secrets: &[(&'static str, String)], server: &mut Server, parts: &[&str]) {
    server.terminate().await;
    let decisions = std::fs::read_to_string(server.place().data().join("decisions.log")).expect("the decision log");
    assert!(decisions.contains("story"), "the story is in it");
    let hits = found(secrets, &decisions);
    assert!(hits.is_empty(), "in the decision log: {hits:#?}");
    eventually(
        async || {
            if server.log().contains("shutting down") { Ok(()) } else { Err("the log hasn't ended".to_owned()) }
        },
    )
    .await;
    let log = server.log();
    for part in [" DEBUG "].iter().chain(parts) {
        assert!(log.contains(part), "the log has no {part:?}: is it on?");
    }
    let hits = found(secrets, log);
    assert!(hits.is_empty(), "in the log of {} bytes: {hits:#?}", log.len());
}

const OWN: &str = "own-5be1c9-of-alice";
const OWN_NEXT: &str = "own-81fa30-of-alice";
const OWN_WRONG: &str = "own-2d77e4-typed-wrongly";

/// `antimony-host user …`, with a password on its standard input, telling all that it can.
fn user(place: &Place, arguments: &[&str], password: &str) -> Output {
    let mut command = place.command();
    command.arg("user").args(arguments).arg("--data").arg(place.data()).env("ANTIMONY_LOG", "trace");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    writeln!(child.stdin.take().expect("piped"), "{password}").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    output
}

/// The hashes in the file of users, and their parts.
fn hashes(place: &Place) -> Vec<(&'static str, String)> {
    let text = std::fs::read_to_string(place.data().join("users.yml")).expect("the users");
    let hashes = text.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
    let hashes: Vec<_> = hashes.filter(|word| word.starts_with("$argon2id$")).collect();
    assert_eq!(hashes.len(), 1, "{text}");
    let parts = hashes[0].split('$').rev().take(2).map(str::to_owned);
    parts.map(|part| ("a hash of a password, or its salt", part)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_a_provider_of_logins_and_local_users_trust_the_server_with_is_in_no_log() {
    let test = "secrets of databases and providers in logs";
    let Some(provider) = Provider::start(test).await else { return };
    let Some(postgres) = Postgres::start() else { return leave_out(test, MISSING) };
    postgres.sql("postgres", &format!("CREATE USER guarded PASSWORD '{DATABASE_PASSWORD}'"));
    let database = postgres.database();
    postgres.sql("postgres", &format!("GRANT CREATE ON DATABASE {} TO guarded", database.name));
    // In the clear, so that it goes over the wire as it is.
    postgres.write("pg_hba.conf", "local all guarded password\nlocal all antimony trust\n");
    postgres.sql("postgres", "SELECT pg_reload_conf()");
    let flow = database.flow().replace("user: antimony", "user: guarded");
    let config = provider.config().replace("enableNative: false", "enableNative: true");
    let config = format!("{config}database: {flow}\n");

    let place = Place::new(User::Myself);
    let mut said = String::new();
    let mut note = |output: Output| {
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    };
    note(user(&place, &["add", "alice", "--password-stdin", "--collection", "story"], OWN));
    let mut secrets = hashes(&place);
    let start = |place: &Arc<Place>, password: &str| {
        let builder = ServerBuilder::at(place).config(&config).env("ANTIMONY_LOG", "trace").env("RUST_LOG", "trace");
        builder.env("SB_OIDC_SECRET", provider::SECRET).env("SB_DATABASE_PASSWORD", password)
    };
    let refused = start(&place, WRONG_PASSWORD).try_start().await.err().expect("a wrong password");
    assert!(refused.output.contains("SB_DATABASE_PASSWORD"), "{}", refused.output);
    let mut server = start(&place, DATABASE_PASSWORD).start().await;

    // By the provider: to the end, refused, refreshed, left.
    let browser = Browser::new(&server.url);
    let back = browser.through(&browser.begin().await, "ada").await;
    for of_login in ["code", "state"] {
        secrets.push(("what somebody comes back from the provider with", query(&back, of_login)));
    }
    let answer = browser.get(&back).await;
    for (what, cookie) in [("a refresh token", "authToken"), ("an access token", "accessToken")] {
        secrets.push((what, signature(answer.cookie(cookie))));
    }
    let ada = answer.cookie("accessToken").to_owned();
    assert_eq!(browser.get(&back).await.status, 400, "twice");
    let refreshed = browser.refresh().await.json()["payload"].as_str().expect("a token").to_owned();
    secrets.push(("a refreshed access token", signature(&refreshed)));
    provider.tell(json!({"down": true})).await;
    assert_eq!(browser.refresh().await.status, 503);
    provider.tell(json!({"down": false})).await;
    assert_eq!(browser.refresh().await.status, 200);

    // Local users: wrongly, rightly, with another password.
    let api = server.api();
    api.log_in("alice", OWN_WRONG).await.expect_err("a wrong password");
    let alice = api.log_in("alice", OWN).await.expect("the right one");
    note(user(&place, &["set-password", "alice", "--password-stdin"], OWN_NEXT));
    secrets.extend(hashes(&place));
    eventually(async || api.log_in("alice", OWN_NEXT).await.map(drop).map_err(|error| error.to_string())).await;
    api.refresh(&alice.refresh_token).await.expect_err("its password is another one");
    api.log_out(Some(&alice.refresh_token)).await.expect("logged out");
    for token in [&alice.refresh_token, &alice.access_token] {
        secrets.push(("a local user's token", signature(token)));
    }

    // Tokens where they don't belong, by every way in.
    let http = antimony_host::client::http();
    for path in ["/labs", "/api/labs", "/nowhere", "/users/login/refresh", "/socket.io/", "/docs", "/openapi.json"] {
        for name in ["token", "access_token", "accessToken", "authToken"] {
            let url = format!("{}{path}?{name}={ada}&EIO=4&transport=polling", server.url);
            http.get(url).send().await.expect("an answer");
        }
    }
    let operator = server.api().with_token(&ada);
    operator.create_collection("story", true, true).await.expect("created");
    assert_eq!(browser.post("/api/users/logout").await.status, 200);
    postgres.crash();
    operator.get("/topologies").await.expect_err("it is kept in the database");
    tokio::task::block_in_place(|| postgres.run());
    eventually(async || operator.get("/topologies").await.map(drop).map_err(|error| error.to_string())).await;

    let given = provider.tell(json!({})).await["given"].take();
    let given = given.as_array().expect("a list").iter().map(|one| one.as_str().expect("text").to_owned());
    secrets.extend(given.map(|one| ("a code or token of the provider's", one)));
    let basic = format!("antimony:{}", percent_encoded(provider::SECRET, "+"));
    secrets.extend(
        [
            ("SB_OIDC_SECRET", provider::SECRET),
            ("SB_OIDC_SECRET with the client's id", &basic),
            ("SB_DATABASE_PASSWORD", DATABASE_PASSWORD),
            ("a wrong SB_DATABASE_PASSWORD", WRONG_PASSWORD),
            ("a local user's password", OWN),
            ("a local user's next password", OWN_NEXT),
            ("a local user's wrong password", OWN_WRONG),
        ]
        .map(|(what, secret)| (what, secret.to_owned())),
    );
    for (what, text) in [("what the commands say", &said), ("the log of a server that didn't start", &refused.output)] {
        let hits = found(&secrets, text);
        assert!(hits.is_empty(), "in {what}: {hits:#?}");
    }
    nothing_is_written_of(&secrets, &mut server, &["/users/login/success", "sqlx", "the database is back"]).await;
}
