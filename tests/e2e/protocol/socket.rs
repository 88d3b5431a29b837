//! The packets: joining and leaving namespaces, events, acknowledgements, bytes, and nonsense.

use serde_json::{Value, json};

use super::servers::{CALM, Listening, socket_io, socket_io_that_wants_a_namespace};
use super::wire::{Frame, WebSocket};

async fn server() -> Listening {
    socket_io(CALM).await
}

/// Joins by this packet, and asserts that the server lets the client in and greets it with what it gave.
async fn is_let_in(packet: &str, prefix: &str, auth: &str) {
    let server = server().await;
    let (mut socket, handshake) = WebSocket::session(&server.url).await;
    socket.send(packet).await;
    let answer = socket.text().await;
    let joined: Value = serde_json::from_str(answer.strip_prefix(&format!("40{prefix}")).unwrap()).unwrap();
    let sid = joined["sid"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(!sid.is_empty() && joined == json!({ "sid": sid }), "{answer}");
    assert!(handshake["sid"].is_string());
    assert_eq!(socket.text().await, format!("42{prefix}[\"auth\",{auth}]"));
}

#[tokio::test]
async fn the_main_namespace_is_joined() {
    is_let_in("40", "", "{}").await;
}

#[tokio::test]
async fn the_main_namespace_is_joined_with_a_payload_that_handlers_see() {
    is_let_in(r#"40{"token":"123"}"#, "", r#"{"token":"123"}"#).await;
}

#[tokio::test]
async fn another_namespace_is_joined() {
    is_let_in("40/custom,", "/custom,", "{}").await;
}

#[tokio::test]
async fn another_namespace_is_joined_with_a_payload_that_handlers_see() {
    is_let_in(r#"40/custom,{"token":"abc"}"#, "/custom,", r#"{"token":"abc"}"#).await;
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_refused_in_so_many_words() {
    let server = server().await;
    for packet in ["40/random", "40/random,", r#"40/random,{"token":"abc"}"#] {
        let (mut socket, _) = WebSocket::session(&server.url).await;
        socket.send(packet).await;
        assert_eq!(socket.text().await, r#"44/random,{"message":"Invalid namespace"}"#);
        // And the connection goes on.
        socket.send("40/custom,").await;
        assert!(socket.text().await.starts_with("40/custom,{"));
    }
}

#[tokio::test]
async fn a_first_packet_that_is_none_ends_the_connection() {
    let server = server().await;
    let (mut socket, _) = WebSocket::session(&server.url).await;
    socket.send("4abc").await;
    socket.closed().await;
}

#[tokio::test]
async fn a_connection_without_a_namespace_ends_after_a_while() {
    let server = socket_io_that_wants_a_namespace().await;
    WebSocket::session(&server.url).await.0.closed().await;
    // So does one that asks only for what it doesn't get.
    let (mut refused, _) = WebSocket::session(&server.url).await;
    refused.send("40/random").await;
    assert!(refused.text().await.starts_with("44/random,"));
    refused.closed().await;
}

#[tokio::test]
async fn leaving_the_main_namespace_is_not_answered_and_ends_nothing_else() {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/"]).await;
    socket.send("41").await;
    // The next thing that is said is about something else.
    socket.send("40/custom,").await;
    assert!(socket.text().await.starts_with("40/custom,{"));
}

#[tokio::test]
async fn leaving_another_namespace_leaves_the_main_one() {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/", "/custom"]).await;
    socket.send("41/custom").await;
    socket.send(r#"42["message","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["message-back","still here"]"#);
}

#[tokio::test]
async fn an_event_keeps_its_arguments() {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/"]).await;
    socket.send(r#"42["message",1,"2",{"3":[true]}]"#).await;
    assert_eq!(socket.text().await, r#"42["message-back",1,"2",{"3":[true]}]"#);
}

const TWO_PLACEHOLDERS: &str = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;

/// Sends two attachments, and asserts that they come back.
async fn attachments_come_back(socket: &mut WebSocket, question: String, answer: String) {
    let attachments: [&[u8]; 2] = [&[1, 2, 3], &[4, 5, 6]];
    socket.send(question).await;
    for bytes in attachments {
        socket.send_bytes(bytes).await;
    }
    assert_eq!(socket.text().await, answer);
    for bytes in attachments {
        assert_eq!(socket.next().await, Some(Frame::Bytes(bytes.to_vec())));
    }
}

#[tokio::test]
async fn an_event_keeps_its_attachments() {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/"]).await;
    let (question, answer) =
        (format!("452-[\"message\",{TWO_PLACEHOLDERS}]"), format!("452-[\"message-back\",{TWO_PLACEHOLDERS}]"));
    attachments_come_back(&mut socket, question, answer).await;
}

#[tokio::test]
async fn an_event_is_acknowledged_by_its_number() {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/"]).await;
    socket.send(r#"42456["message-with-ack",1,"2",{"3":[false]}]"#).await;
    assert_eq!(socket.text().await, r#"43456[1,"2",{"3":[false]}]"#);
}

#[tokio::test]
async fn an_event_with_attachments_is_acknowledged_with_attachments() {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/"]).await;
    let (question, answer) =
        (format!("452-789[\"message-with-ack\",{TWO_PLACEHOLDERS}]"), format!("462-789[{TWO_PLACEHOLDERS}]"));
    attachments_come_back(&mut socket, question, answer).await;
}

/// A client that has joined sends what is no packet.
async fn is_cut(nonsense: &str) {
    let server = server().await;
    let mut socket = WebSocket::joined(&server.url, &["/"]).await;
    socket.send(nonsense).await;
    socket.closed().await;
}

#[tokio::test]
async fn a_packet_of_an_unknown_type_ends_the_connection() {
    is_cut("4abc").await;
}

#[tokio::test]
async fn an_event_that_is_no_list_ends_the_connection() {
    is_cut("42{}").await;
}

#[tokio::test]
async fn an_acknowledgement_id_that_is_no_number_ends_the_connection() {
    is_cut(r#"42abc["message-with-ack",1,"2",{"3":[false]}]"#).await;
}
