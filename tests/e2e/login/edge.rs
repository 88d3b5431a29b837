//! What is in the way of those who want in without a password, or in somebody else's name.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Server, ServerBuilder, User};

/// A server that has a login of its own: with the one that everybody knows, it answers to nobody elsewhere.
fn own() -> ServerBuilder {
    ServerBuilder::new(User::Myself).env("SB_NATIVE_USERNAME", "admin").env("SB_NATIVE_PASSWORD", "admin")
}

async fn log_in(server: &Server, username: &str, password: &str, from: Option<&str>) -> Response {
    let mut request = antimony_host::client::http().post(format!("{}/api/users/login/native", server.url));
    if let Some(from) = from {
        request = request.header("x-forwarded-for", from);
    }
    request.json(&json!({"username": username, "password": password})).send().await.unwrap()
}

/// Fails until it is told to wait; answers how often it failed, and what it is told.
async fn hammer(server: &Server, name: &str, from: Option<&str>) -> (usize, Response) {
    for failures in 0..1000 {
        let answer = log_in(server, name, "wrong", from).await;
        if answer.status() != 400 {
            return (failures, answer);
        }
    }
    panic!("nobody says stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_told_to_wait_and_locks_nobody_else_out() {
    let server = own().start().await;
    let (failures, answer) = hammer(&server, "admin", Some("198.51.100.1")).await;
    assert!((20..40).contains(&failures), "{failures}");
    assert_eq!(answer.status(), 429);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    let said: Value = answer.json().await.unwrap();
    assert!(said["code"] == 5000 && said["message"].as_str().unwrap().contains("try again"), "{said}");
    assert!(said.get("payload").is_none());
    // Not even with the right password, from there; but from everywhere else, with the same name.
    assert_eq!(log_in(&server, "admin", "admin", Some("198.51.100.1")).await.status(), 429);
    assert_eq!(log_in(&server, "admin", "admin", Some("198.51.100.2")).await.status(), 200);
    assert_eq!(log_in(&server, "admin", "admin", None).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_believed_only_from_a_proxy_that_is_trusted() {
    let server = own().config("server:\n  trustedProxies: [192.0.2.0/24]\n").start().await;
    let mut failures = 0;
    for from in 1..=100 {
        if log_in(&server, "admin", "wrong", Some(&format!("198.51.100.{from}"))).await.status() == 400 {
            failures += 1;
        }
    }
    assert!(failures < 60, "{failures} of 100 have made up an address");
    let config = "server:\n  trustedProxies: [proxy.example]\n";
    let failed = ServerBuilder::new(User::Myself).config(config).try_start().await.err().expect("no address");
    assert!(failed.output.contains("server.trustedProxies") && failed.output.contains('2'), "{}", failed.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing() {
    let server = Server::start().await;
    let login = server.api().log_in("admin", "admin").await.unwrap();
    let http = antimony_host::client::http();
    let cookies = format!("accessToken={}; authToken={}", login.access_token, login.refresh_token);
    let host = server.url.strip_prefix("http://").unwrap();
    let create = async |name: &str, headers: &[(&str, &str)]| {
        let mut request = http.post(format!("{}/api/collections", server.url)).header("cookie", &cookies);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = json!({"name": name, "publicWrite": true, "publicDeploy": true});
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    let own = format!("http://{host}");
    for foreign in [
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")][..],
        &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:1")],
        &[("origin", "http://127.0.0.1:1")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        assert_eq!(create("evil", foreign).await, 403, "{foreign:?}");
    }
    // As the web client does it, in new browsers and old, and as programs do.
    assert_eq!(create("new", &[("sec-fetch-site", "same-origin"), ("origin", &own)]).await, 200);
    assert_eq!(create("old", &[("origin", &own)]).await, 200);
    assert_eq!(create("program", &[]).await, 200);
    let bearer = format!("Bearer {}", login.access_token);
    assert_eq!(create("bearer", &[("origin", "https://evil.example"), ("authorization", &bearer)]).await, 200);

    let collections = server.api().with_token(&login.access_token).get("/collections").await.unwrap();
    let mut names: Vec<&str> =
        collections.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bearer", "new", "old", "program"]);

    // Neither logged out nor logged in as somebody else; and reading is left to the browser, which keeps it to itself.
    let foreign = async |method: Method, path: &str| {
        let request = http.request(method, format!("{}{path}", server.url)).header("cookie", &cookies);
        let request = request.header("sec-fetch-site", "cross-site").header("origin", "https://evil.example");
        request.json(&json!({"username": "admin", "password": "admin"})).send().await.unwrap()
    };
    for path in ["/users/logout", "/api/users/login/native"] {
        let answer = foreign(Method::POST, path).await;
        assert_eq!(answer.status(), 403);
        assert!(answer.headers().get("set-cookie").is_none());
    }
    let read = foreign(Method::GET, "/collections").await;
    assert_eq!((read.status().as_u16(), read.headers().get("access-control-allow-origin")), (200, None));
}
