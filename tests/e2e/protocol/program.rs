//! The real program, and what no client in its right mind sends to it: whatever it is, it is answered or cut, and nobody else
//! notices.

use std::time::{Duration, Instant};

use antimony_host::socket::MAX_MESSAGE;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::wire::{Frame, Polling, WebSocket, payload, request};
use crate::harness::{Client, Server, within};

/// A server, somebody who minds their own business there, and a token to try things with.
struct Scene {
    server: Server,
    bystander: Client,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start().await;
        let bystander = server.admin().await;
        Self { server, bystander }
    }

    /// Joins `/lab-commands` over a web socket of its own.
    async fn joined(&self) -> WebSocket {
        let (mut socket, _) = WebSocket::session(&self.server.url).await;
        socket.send(format!("40/lab-commands,{}", self.auth())).await;
        let answer = socket.text().await;
        assert!(answer.starts_with("40/lab-commands,{\"sid\":"), "{answer}");
        socket
    }

    fn auth(&self) -> Value {
        json!({ "token": self.bystander.token })
    }

    /// Asserts that the server lives, and that whoever was connected still is.
    async fn nobody_noticed(&mut self) {
        assert!(self.server.is_alive());
        let answer = self.bystander.command("01890000-0000-7000-8000-000000000000", 5, json!({})).await;
        assert_eq!(crate::harness::code_of(answer), 5005);
    }
}

/// Asks for something that is answered with an error that says that there is no such lab.
const QUESTION: &str = r#"42/lab-commands,77["data",{"labId":"01890000-0000-7000-8000-000000000000","command":5}]"#;

/// Asserts that the connection still carries commands, and that nothing was sent before the answer.
async fn still_works(socket: &mut WebSocket, after: &str) {
    socket.send(QUESTION).await;
    let answer = socket.text().await;
    assert!(answer.starts_with(r#"43/lab-commands,77[{"code":5005,"#), "after {after}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_main_namespace_and_the_connection_survives_asking_for_it() {
    let scene = Scene::set().await;
    for packet in ["40".to_owned(), "40/,".to_owned(), format!("40{}", scene.auth())] {
        let (mut socket, _) = WebSocket::session(&scene.server.url).await;
        socket.send(&packet).await;
        assert_eq!(socket.text().await, r#"44{"message":"Invalid namespace"}"#, "{packet}");
        socket.send(format!("40/lab-updates,{}", scene.auth())).await;
        assert!(socket.text().await.starts_with("40/lab-updates,{"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_with_a_connect_decides_whether_it_is_let_in() {
    let scene = Scene::set().await;
    let refused = |words: &str| format!("44/lab-commands,{{\"message\":\"{words}\"}}");
    for (auth, answer) in [
        (String::new(), refused("Unauthorized")),
        ("{}".to_owned(), refused("Unauthorized")),
        ("[]".to_owned(), refused("Unauthorized")),
        ("{".to_owned(), refused("Unauthorized")),
        (r#"{"token":""}"#.to_owned(), refused("Invalid Token")),
        (r#"{"token":7}"#.to_owned(), refused("Invalid Token")),
        (r#"{"token":{"token":"x"}}"#.to_owned(), refused("Invalid Token")),
        (r#"{"token":"nonsense"}"#.to_owned(), refused("Invalid Token")),
        (scene.auth().to_string(), "40/lab-commands,{\"sid\":".to_owned()),
    ] {
        let (mut socket, _) = WebSocket::session(&scene.server.url).await;
        socket.send(format!("40/lab-commands,{auth}")).await;
        let said = socket.text().await;
        assert!(said.starts_with(&answer), "{auth}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_packet_ends_its_connection_and_no_other() {
    let mut scene = Scene::set().await;
    for nonsense in [
        // No packet of the transport.
        "x",
        "",
        "9",
        "0{}",
        "2probe",
        "5",
        "é",
        // A message that is no packet.
        "4",
        "47",
        "4abc",
        "4é",
        // An event without a name, or whose payload is no list.
        "42/lab-commands",
        "42/lab-commands,",
        "42/lab-commands,{}",
        "42/lab-commands,[]",
        "42/lab-commands,[1]",
        "42/lab-commands,7{}",
        "42/lab-commands,x[\"data\"]",
        "42/lab-commands,\"data\"",
        "42/lab-commands,[\"data\"",
        // Attachments that nobody could count.
        "45/lab-commands,[\"data\"]",
        "45-/lab-commands,[\"data\"]",
        "4599999999999999999999-/lab-commands,[\"data\"]",
    ] {
        let mut socket = scene.joined().await;
        socket.try_send(nonsense).await;
        within(nonsense, socket.closed()).await;
    }
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_mean_nothing_here_are_passed_over() {
    let mut scene = Scene::set().await;
    for pointless in [
        // Answers to what was never asked.
        "3",
        "43/lab-commands,5[]",
        "43/lab-commands,5[{\"payload\":null}]",
        // Events that nobody listens to, and for what isn't there.
        r#"42/lab-commands,["nonsense"]"#,
        r#"42/nowhere,["data",1]"#,
        r#"42["data",1]"#,
        "42",
        "41/nowhere,",
        // Joining again.
        "40/lab-commands,{}",
        "40/lab-commands,{",
        // A number that no acknowledgement could have.
        r#"42/lab-commands,99999999999999999999["data",1]"#,
    ] {
        let mut socket = scene.joined().await;
        socket.send(pointless).await;
        still_works(&mut socket, pointless).await;
    }
    scene.nobody_noticed().await;
}

/// As with the official server: a client that speaks where it isn't has lost track of what it does.
#[tokio::test(flavor = "multi_thread")]
async fn speaking_in_a_namespace_that_was_not_joined_ends_the_connection() {
    let mut scene = Scene::set().await;
    for packet in
        [r#"42/lab-updates,["data",1]"#, r#"42/lab-updates,5["data",1]"#, "43/lab-updates,5[]", "41/lab-updates,"]
    {
        let mut socket = scene.joined().await;
        socket.send(packet).await;
        within(packet, socket.closed()).await;
    }
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_where_a_command_is_due_are_answered_as_an_error() {
    let mut scene = Scene::set().await;
    let mut socket = scene.joined().await;
    socket.send(r#"451-/lab-commands,8["data",{"_placeholder":true,"num":0}]"#).await;
    socket.send_bytes(b"\x00\xff").await;
    let answer = socket.text().await;
    assert!(answer.starts_with(r#"43/lab-commands,8[{"code":5422,"#), "{answer}");
    // A placeholder of nothing.
    socket.send(r#"42/lab-commands,9["data",{"_placeholder":true,"num":3}]"#).await;
    let answer = socket.text().await;
    assert!(answer.starts_with(r#"43/lab-commands,9[{"code":5422,"#), "{answer}");
    still_works(&mut socket, "bytes").await;
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_packet_has_announced_end_the_connection() {
    let mut scene = Scene::set().await;
    let mut socket = scene.joined().await;
    socket.send_bytes(b"whose?").await;
    socket.closed().await;
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_may_not_be_larger_than_any_message_even_together() {
    let mut scene = Scene::set().await;
    // From somebody who has joined, and from somebody who has not even said who they are.
    for mut socket in [scene.joined().await, WebSocket::session(&scene.server.url).await.0] {
        let placeholder = |number: u8| json!({ "_placeholder": true, "num": number });
        let event = json!(["data", placeholder(0), placeholder(1), placeholder(2)]);
        let began = Instant::now();
        socket.send(format!("453-/lab-commands,8{event}")).await;
        // The third of them is never sent.
        socket.send_bytes(&vec![0; MAX_MESSAGE - 1000]).await;
        socket.send_bytes(&[0; 2000]).await;
        socket.closed().await;
        // Whoever has no namespace is cut after 45 seconds anyway.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
    scene.nobody_noticed().await;
}

/// A command with so much in it.
fn large(bytes: usize) -> String {
    let mut packet = r#"42/lab-commands,8["data",""#.to_owned();
    packet.extend(std::iter::repeat_n('x', bytes - packet.len() - 2));
    packet.push_str("\"]");
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_ends_its_connection_and_one_below_is_answered() {
    let mut scene = Scene::set().await;
    let mut socket = scene.joined().await;
    socket.send(large(MAX_MESSAGE)).await;
    let answer = socket.text().await;
    assert!(answer.starts_with(r#"43/lab-commands,8[{"code":5422,"#), "{answer}");
    socket.try_send(large(MAX_MESSAGE + 1)).await;
    socket.closed().await;
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_over_the_limit_is_too_large_and_ends_its_session() {
    let mut scene = Scene::set().await;
    let session = Polling::session(&scene.server.url).await;
    session.send(&format!("40/lab-commands,{}", scene.auth())).await;
    assert!(session.next().await[0].starts_with("40/lab-commands,{"));
    session.send(&large(MAX_MESSAGE - 1000)).await;
    assert!(session.next().await[0].starts_with(r#"43/lab-commands,8[{"code":5422,"#));
    assert_eq!(session.post(large(MAX_MESSAGE + 1)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    session.is_over().await;
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_nested_a_hundred_thousand_deep_is_answered_or_cut() {
    let mut scene = Scene::set().await;
    let depth = 100_000;
    for (open, close) in [("[", "]"), (r#"{"labId":"#, "}")] {
        let mut socket = scene.joined().await;
        let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        socket.send(format!(r#"42/lab-commands,8["data",{nested}]"#)).await;
        match socket.next().await {
            None => {}
            Some(Frame::Text(text)) => assert!(text == "1" || text.contains("5422"), "{text}"),
            other => panic!("{other:?}"),
        }
        // Or before anybody is let in.
        let (mut stranger, _) = WebSocket::session(&scene.server.url).await;
        stranger.send(format!("40/lab-commands,{{\"token\":{nested}}}")).await;
        match stranger.next().await {
            None => {}
            Some(Frame::Text(text)) => assert!(text == "1" || text.starts_with("44/lab-commands,"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_with_the_protocols_codes() {
    let mut scene = Scene::set().await;
    let session = Polling::session(&scene.server.url).await;
    let of_session = format!("&sid={}", session.sid);
    let unknown = "&sid=AAAAAAAAAAAAAAHs";
    for (method, query, code) in [
        (Method::GET, "EIO=4&transport=grpc".to_owned(), "0"),
        (Method::GET, "EIO=4".to_owned(), "0"),
        (Method::GET, String::new(), "5"),
        (Method::GET, "EIO=3&transport=polling".to_owned(), "5"),
        (Method::GET, "EIO=5&transport=polling".to_owned(), "5"),
        (Method::GET, "EIO=&transport=polling".to_owned(), "5"),
        (Method::GET, format!("EIO=4&transport=polling{unknown}"), "1"),
        (Method::POST, format!("EIO=4&transport=polling{unknown}"), "1"),
        (Method::GET, "EIO=4&transport=polling&sid=".to_owned(), "1"),
        (Method::GET, "EIO=4&transport=polling&sid=..%2f..%2f".to_owned(), "1"),
        (Method::POST, "EIO=4&transport=polling".to_owned(), "2"),
        (Method::DELETE, "EIO=4&transport=polling".to_owned(), "2"),
    ] {
        let (status, body) = request(&scene.server.url, method.clone(), &query, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {query}: {body}");
        let said: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{method} {query}: {body}"));
        assert_eq!(said["code"], code, "{method} {query}: {body}");
    }
    for (method, query) in [
        (Method::PUT, format!("EIO=4&transport=polling{of_session}")),
        (Method::GET, "EIO=4&transport=websocket".to_owned()),
        (Method::GET, format!("EIO=4&transport=websocket{of_session}")),
    ] {
        let (status, body) = request(&scene.server.url, method.clone(), &query, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {query}: {body}");
    }
    // All that was nothing to the session.
    session.take_first_ping().await;
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_for_an_unknown_session_is_closed() {
    let mut scene = Scene::set().await;
    let query = "EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAHs";
    let mut socket = WebSocket::open(&scene.server.url, query).await.unwrap();
    socket.try_send("2probe").await;
    socket.closed().await;
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_transport_that_goes_wrong_costs_that_session_only() {
    let mut scene = Scene::set().await;
    for frames in [&["2probe", "4abc"][..], &["5"], &["nonsense"], &["40/lab-commands,"]] {
        let session = Polling::session(&scene.server.url).await;
        let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
        let mut socket = WebSocket::open(&scene.server.url, &query).await.unwrap();
        for frame in frames {
            socket.try_send(*frame).await;
        }
        while let Some(frame) = socket.next().await {
            assert!(["3probe", "1"].map(Frame::text).contains(&frame), "{frames:?}: {frame:?}");
        }
        crate::harness::eventually(async || match session.get().await.0 {
            StatusCode::BAD_REQUEST => Ok(()),
            status => Err(format!("{frames:?}: {status}")),
        })
        .await;
    }
    scene.nobody_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_by_polling_keeps_all_namespaces_apart() {
    let scene = Scene::set().await;
    let session = Polling::session(&scene.server.url).await;
    let auth = scene.auth();
    let connects: Vec<_> =
        ["/lab-commands", "/lab-updates", "/nowhere"].iter().map(|path| format!("40{path},{auth}")).collect();
    session.send(&payload(&connects.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.extend(session.next().await);
    }
    for (path, number) in [("/lab-commands", 0), ("/lab-updates", 0), ("/nowhere", 4)] {
        let prefix = format!("4{number}{path},");
        assert!(answers.iter().any(|answer| answer.starts_with(&prefix)), "{path}: {answers:?}");
    }
    session.send(QUESTION).await;
    assert!(session.next().await[0].starts_with(r#"43/lab-commands,77[{"code":5005,"#));
    tokio::time::timeout(Duration::from_secs(60), session.post("1")).await.expect("a goodbye").0.is_success();
    session.is_over().await;
}
