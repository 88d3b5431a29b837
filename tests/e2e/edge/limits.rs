//! A client that asks for too much, or takes too long, is refused, and others are served meanwhile.

use std::net::UdpSocket;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::io::AsyncReadExt;

use super::Wire;
use crate::harness::{Raw, Server, ServerBuilder, User, eventually, leave_out, within};

/// Limits that are soon reached. The times are short where a test waits for their end, and long elsewhere.
async fn server(limits: &str) -> Server {
    ServerBuilder::new(User::Myself).config(&format!("server:\n  limits: {{ {limits} }}\n")).start().await
}

/// Somebody else, who is served all the while.
async fn others_are_served(server: &Server) {
    let answer = within(
        "an answer to somebody else",
        antimony_host::client::http().get(format!("{}/healthz", server.url)).send(),
    )
    .await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    Raw::open(&server.url).await;
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_long_are_refused() {
    let server = server("headBytes: 8192, headerFields: 16, uriBytes: 300").await;
    let field = |length: usize| format!("GET /healthz HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(length));
    let fields = |count: usize| {
        let fields: String = (0..count).map(|number| format!("f{number}: x\r\n")).collect();
        format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n")
    };
    let path = |length: usize| {
        format!("GET /healthz?{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "x".repeat(length - 9))
    };
    for (request, expected) in [
        (field(20_000), "431"),
        (field(200_000), "431"),
        (fields(13), "200"),
        (fields(40), "431"),
        (path(300), "200"),
        (path(301), "414"),
    ] {
        let mut wire = Wire::open(&server.url).await;
        wire.send(&request).await;
        let answer = wire.answer().await;
        assert_eq!(status(&answer), expected, "{:.60}: {answer}", request);
        others_are_served(&server).await;
    }
    let mut wire = Wire::open(&server.url).await;
    wire.send(path(301)).await;
    let answer = wire.answer().await;
    assert!(answer.contains("\"code\":5422") && answer.contains("300 bytes"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_long_are_refused() {
    let server = server("bodyBytes: 2048").await;
    let token = server.admin().await.token;
    let post = |length: usize| {
        format!(
            "POST /collections HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: \
             application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let body = |length: usize| {
        let frame = "{\"name\":\"\",\"publicWrite\":true,\"publicDeploy\":true}".len();
        format!("{{\"name\":\"{}\",\"publicWrite\":true,\"publicDeploy\":true}}", "x".repeat(length - frame))
    };
    for (length, expected) in [(100, "200"), (2048, "422"), (2049, "413")] {
        let mut wire = Wire::open(&server.url).await;
        wire.send(post(length) + &body(length)).await;
        let answer = wire.answer().await;
        assert_eq!(status(&answer), expected, "{length} bytes: {answer}");
    }
    // One that claims to be long is refused before it has come, one that doesn't say as soon as it is.
    let mut wire = Wire::open(&server.url).await;
    wire.send(post(1 << 40)).await;
    assert_eq!(status(&wire.answer().await), "413");
    let mut wire = Wire::open(&server.url).await;
    wire.send(post(0).replace("content-length: 0", "transfer-encoding: chunked")).await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    for _ in 0..3 {
        wire.send(&chunk).await;
    }
    assert_eq!(status(&wire.answer().await), "413");
    others_are_served(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_too_long_for_a_head_or_asks_nothing_is_cut_off() {
    let server = server("headSeconds: 2").await;
    let mut silent = Wire::open(&server.url).await;
    let mut half = Wire::open(&server.url).await;
    half.send("GET /healthz HTTP/1.1\r\nhost: loc").await;
    // It sends something all the time, and never comes to an end.
    let mut dripping = Wire::open(&server.url).await;
    dripping.send("GET /healthz HTTP/1.1\r\n").await;
    let (mut reader, mut writer) = dripping.0.into_split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while writer.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let mut idle = Wire::open(&server.url).await;
    idle.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&idle.answer().await), "200", "and the connection stays open");
    // A web socket isn't idle, however little comes over it.
    let mut socket = Raw::open(&server.url).await;
    for (name, wire) in [("silent", &mut silent), ("half", &mut half), ("idle", &mut idle)] {
        let rest = wire.rest().await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{name}: {rest}");
    }
    let mut rest = Vec::new();
    let _ = within("the end of the connection", reader.read_to_end(&mut rest)).await;
    drip.await.expect("it has noticed");
    others_are_served(&server).await;
    assert!(socket.send("40/nowhere,").await);
    assert!(socket.until("44/nowhere").await.is_some(), "the web socket is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_too_long_for_a_body_is_told_so() {
    let server = server("bodySeconds: 1").await;
    let login = "POST /users/login/native HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: 1000\r\n\r\n{\"username\":";
    let mut slow = Wire::open(&server.url).await;
    slow.send(login).await;
    let answer = slow.answer().await;
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(answer.contains("within 1 s"), "{answer}");
    // Packets of a polling client.
    let opened = antimony_host::client::http()
        .get(format!("{}/socket.io/?EIO=4&transport=polling", server.url))
        .send()
        .await
        .expect("an answer");
    let opened = opened.text().await.expect("text");
    let opened: serde_json::Value = serde_json::from_str(&opened[1..]).expect("an open packet");
    let session = opened["sid"].as_str().expect("an id");
    let mut slow = Wire::open(&server.url).await;
    slow.send(format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={session} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n40"
    ))
    .await;
    let answer = slow.answer().await;
    assert!(status(&answer).starts_with('4') || status(&answer).starts_with('5'), "{answer}");
    others_are_served(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_turned_away_and_those_that_are_there_go_on() {
    let server = server("connections: 12").await;
    let mut first = Wire::open(&server.url).await;
    let mut socket = Raw::open(&server.url).await;
    let mut more = Vec::new();
    for _ in 0..10 {
        let mut wire = Wire::open(&server.url).await;
        wire.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(status(&wire.answer().await), "200");
        more.push(wire);
    }
    let mut refused = Wire::open(&server.url).await;
    let answer = refused.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too many connections"), "{answer:?}");
    first.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&first.answer().await), "200");
    assert!(socket.send("40/nowhere,").await && socket.until("44/nowhere").await.is_some());
    drop(more.pop());
    eventually(async || {
        let mut wire = Wire::open(&server.url).await;
        // Whoever is turned away may notice it while sending.
        if !wire.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await {
            return Err("turned away".to_owned());
        }
        let answer = wire.rest().await;
        let counted = answer.contains("antimony_connections_refused_total{reason=\"all\"}")
            && answer.contains("antimony_connections 12");
        if counted { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// An address of this machine that isn't a loopback one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent by this: the system only chooses by which way it would be.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_too_many_connections_gets_no_more_and_others_do() {
    let Some(address) = own_address() else {
        return leave_out("connections of one address", "this machine has no address but loopback");
    };
    let builder = ServerBuilder::new(User::Myself).listen("0.0.0.0:0").env("SB_NATIVE_USERNAME", "a");
    let builder = builder.env("SB_NATIVE_PASSWORD", "b").config("server:\n  limits: { connectionsPerAddress: 3 }\n");
    let server = builder.start().await;
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let far = format!("http://{address}:{port}");
    let near = format!("http://127.0.0.1:{port}");
    let mut there = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(&far).await;
        wire.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(status(&wire.answer().await), "200");
        there.push(wire);
    }
    let answer = Wire::open(&far).await.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer:?}");
    // Those of this machine are counted by nobody.
    let mut local = Vec::new();
    for _ in 0..10 {
        let mut wire = Wire::open(&near).await;
        wire.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(status(&wire.answer().await), "200");
        local.push(wire);
    }
    there[0].send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&there[0].answer().await), "200");
}
