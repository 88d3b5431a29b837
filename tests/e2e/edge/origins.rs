//! Pages of other sites, and what browsers are told.

use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::harness::{Server, ServerBuilder, User, eventually, within};

const OURS: &str = "https://portal.example";
const FOREIGN: &str = "https://evil.example";

/// With a login of its own: with the one that everybody knows, a server answers to nobody elsewhere.
fn listed() -> ServerBuilder {
    let builder =
        ServerBuilder::new(User::Myself).env("SB_NATIVE_USERNAME", "admin").env("SB_NATIVE_PASSWORD", "admin");
    builder.config(&format!("server:\n  cors:\n    origins: ['{OURS}']\n"))
}

async fn ask(server: &Server, method: Method, path: &str, origin: &str) -> reqwest::Response {
    let request =
        antimony_host::client::http().request(method, format!("{}{path}", server.url)).header("origin", origin);
    let request = request.header("access-control-request-method", "PATCH");
    within("an answer", request.send()).await.expect("an answer")
}

/// Opens a web socket as a page of this site does; the status, if it isn't taken.
async fn socket(server: &Server, fields: &[(&'static str, &str)]) -> Result<(), StatusCode> {
    let url = format!("{}/socket.io/?EIO=4&transport=websocket", server.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().expect("a request");
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    match within("a web socket", tokio_tungstenite::connect_async(request)).await {
        Ok((mut socket, _)) => {
            let open = within("a packet", socket.next()).await.expect("it is open").expect("a packet");
            assert!(matches!(open, Message::Text(text) if text.starts_with('0')));
            Ok(())
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
            Err(StatusCode::from_u16(answer.status().as_u16()).expect("a status"))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_get_to_see_nothing_unless_they_are_listed() {
    let (closed, open) = (Server::start().await, listed().start().await);
    for (server, origin, expected) in
        [(&closed, OURS, None), (&closed, FOREIGN, None), (&open, OURS, Some(OURS)), (&open, FOREIGN, None)]
    {
        for (method, path) in
            [(Method::GET, "/users/login/config"), (Method::OPTIONS, "/api/labs/1"), (Method::GET, "/nowhere")]
        {
            let answer = ask(server, method.clone(), path, origin).await;
            let field = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(field("access-control-allow-origin").as_deref(), expected, "{method} {path} from {origin}");
            if expected.is_some() {
                assert_eq!(field("access-control-allow-credentials").as_deref(), Some("true"));
                assert!(field("vary").is_some_and(|vary| vary.contains("origin")), "{method} {path}");
            }
            if expected.is_some() && method == Method::OPTIONS {
                assert!(field("access-control-allow-methods").is_some_and(|methods| methods.contains("PATCH")));
                assert!(field("access-control-allow-headers").is_some_and(|names| names.contains("authorization")));
            }
        }
        let polled = ask(server, Method::GET, "/socket.io/?EIO=4&transport=polling", origin).await;
        let status = if expected.is_some() { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(polled.status(), status, "polling from {origin}");
    }
    let answer = ask(&open, Method::GET, "/labs", OURS).await;
    assert_eq!(answer.headers()["access-control-expose-headers"], "x-total-count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_gets_no_socket_and_everybody_else_does() {
    let server = listed().start().await;
    let own = server.url.clone();
    let other_port = "http://127.0.0.1:4200";
    for fields in [
        &[][..],
        &[("origin", own.as_str())],
        &[("origin", OURS)],
        // What a proxy leaves of the name, and a development server beside it.
        &[("origin", other_port)],
        &[("origin", "https://labs.example"), ("x-forwarded-host", "labs.example")],
    ] {
        assert_eq!(socket(&server, fields).await, Ok(()), "{fields:?}");
    }
    for fields in [
        &[("origin", FOREIGN)][..],
        // Cookies don't make it less foreign; they count for nothing on a socket.
        &[("origin", FOREIGN), ("cookie", "accessToken=x; authToken=y")],
        &[("origin", "null")],
    ] {
        assert_eq!(socket(&server, fields).await, Err(StatusCode::FORBIDDEN), "{fields:?}");
    }
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_that_try_again_and_again_do_not_fill_the_log() {
    let mut server = Server::start().await;
    let http = antimony_host::client::http();
    let url = format!("{}/socket.io/?EIO=4&transport=polling", server.url);
    for _ in 0..500 {
        let refused = http.get(&url).header("origin", "https://evil.example").send().await.unwrap();
        assert_eq!(refused.status(), 403);
    }
    assert!(server.terminate().await.success());
    eventually(async || match server.log().contains("shutting down") {
        true => Ok(()),
        false => Err("the log hasn't ended".to_owned()),
    })
    .await;
    let lines = server.log().lines().filter(|line| line.contains("evil.example")).count();
    assert!((1..40).contains(&lines), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_browsers_to_be_careful() {
    let server = Server::start().await;
    for path in
        ["/", "/labs", "/nowhere", "/healthz", "/metrics", "/socket.io/?EIO=4&transport=polling", "/socket.io/?x"]
    {
        let answer = within("an answer", antimony_host::client::http().get(format!("{}{path}", server.url)).send())
            .await
            .expect("an answer");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(
                answer.headers().get(name).map(|value| value.as_bytes()),
                Some(value.as_bytes()),
                "{path} {name}"
            );
        }
        assert!(!answer.headers().contains_key("strict-transport-security"), "{path}: it has no TLS of its own");
    }
    let builder = ServerBuilder::new(User::Myself).config("server:\n  headers:\n    security: false\n");
    let off = builder.start().await;
    let answer = within("an answer", antimony_host::client::http().get(format!("{}/labs", off.url)).send())
        .await
        .expect("an answer");
    assert!(!answer.headers().contains_key("x-content-type-options"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_none_is_named_when_the_server_starts() {
    let builder = ServerBuilder::new(User::Myself).config("server:\n  cors:\n    origins: ['*']\n");
    let output = builder.try_start().await.err().expect("it doesn't start").output;
    for word in ["cors", "origins", "any site"] {
        assert!(output.contains(word), "{word} is missing in: {output}");
    }
}
