//! The transport: how sessions begin, carry packets, change what carries them, and end.

use std::time::{Duration, Instant};

use antimony_host::socket::MAX_MESSAGE;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::servers::{BEATING, CALM, Heartbeat, IMPATIENT, Listening, engine_io, socket_io};
use super::wire::{Frame, Polling, WebSocket, payload, request};
use crate::harness::within;

/// What the suites of both protocols ask for is asked of both servers.
async fn both(heartbeat: Heartbeat) -> [Listening; 2] {
    [engine_io(heartbeat).await, socket_io(heartbeat).await]
}

/// Sends something that is answered, whatever the server; answers are waited for.
async fn is_alive(server: &Listening, socket: &mut WebSocket, is_engine: bool) {
    let (question, answer) = if is_engine { ("4hello", "4hello") } else { ("40/custom,", "40/custom,{") };
    socket.send(question).await;
    let text = socket.text().await;
    assert!(text.starts_with(answer), "{}: {text}", server.url);
}

fn assert_handshake(handshake: &Value, upgrades: Value) {
    let mut keys: Vec<_> = handshake.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert!(handshake["sid"].as_str().is_some_and(|sid| !sid.is_empty()), "{handshake}");
    assert_eq!(handshake["upgrades"], upgrades);
    assert_eq!(handshake["pingInterval"], 25_000);
    assert_eq!(handshake["pingTimeout"], 20_000);
    assert_eq!(handshake["maxPayload"], MAX_MESSAGE);
}

#[tokio::test]
async fn a_session_by_polling_begins_with_what_the_client_has_to_know() {
    for server in both(CALM).await {
        assert_handshake(&Polling::session(&server.url).await.handshake, json!(["websocket"]));
    }
}

#[tokio::test]
async fn a_session_by_web_socket_begins_with_what_the_client_has_to_know() {
    for server in both(CALM).await {
        assert_handshake(&WebSocket::session(&server.url).await.1, json!([]));
    }
}

#[tokio::test]
async fn polling_in_another_version_or_in_none_is_refused() {
    for server in both(CALM).await {
        for query in
            ["transport=polling", "EIO=abc&transport=polling", "EIO=&transport=polling", "EIO=3&transport=polling"]
        {
            let (status, body) = request(&server.url, Method::GET, query, "").await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
        }
    }
}

#[tokio::test]
async fn a_web_socket_in_another_version_or_in_none_is_refused() {
    for server in both(CALM).await {
        for query in ["transport=websocket", "EIO=abc&transport=websocket", "EIO=5&transport=websocket"] {
            assert_eq!(WebSocket::open(&server.url, query).await.err(), Some(StatusCode::BAD_REQUEST), "{query}");
        }
    }
}

#[tokio::test]
async fn a_request_for_an_unknown_transport_or_for_none_is_refused() {
    for server in both(CALM).await {
        for query in ["EIO=4", "EIO=4&transport=abc", "EIO=4&transport="] {
            let (status, body) = request(&server.url, Method::GET, query, "").await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
        }
    }
}

#[tokio::test]
async fn a_web_socket_for_an_unknown_transport_or_for_none_is_refused() {
    for server in both(CALM).await {
        for query in ["EIO=4", "EIO=4&transport=abc"] {
            assert_eq!(WebSocket::open(&server.url, query).await.err(), Some(StatusCode::BAD_REQUEST), "{query}");
        }
    }
}

#[tokio::test]
async fn a_session_is_begun_by_get_and_nothing_else() {
    for server in both(CALM).await {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let (status, body) = request(&server.url, method.clone(), "EIO=4&transport=polling", "").await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{method}: {body}");
        }
    }
}

#[tokio::test]
async fn a_message_by_polling_is_taken_and_answered() {
    let server = engine_io(CALM).await;
    let session = Polling::session(&server.url).await;
    session.send("4hello").await;
    assert_eq!(session.next().await, ["4hello"]);
}

#[tokio::test]
async fn several_messages_in_one_payload_keep_their_order() {
    let server = engine_io(CALM).await;
    let session = Polling::session(&server.url).await;
    session.send(&payload(&["4one", "4two", "4three"])).await;
    assert_eq!(session.next().await, ["4one", "4two", "4three"]);
}

#[tokio::test]
async fn text_and_bytes_share_a_payload() {
    let server = engine_io(CALM).await;
    let session = Polling::session(&server.url).await;
    session.send(&payload(&["4hello", "bAQIDBA=="])).await;
    assert_eq!(session.next().await, ["4hello", "bAQIDBA=="]);
}

#[tokio::test]
async fn a_payload_that_is_none_ends_the_session() {
    let server = engine_io(CALM).await;
    for nonsense in ["abc", "9", "4fine\u{1e}abc", "bnot base 64"] {
        let session = Polling::session(&server.url).await;
        let (status, body) = session.post(nonsense).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{nonsense:?}: {body}");
        session.is_over().await;
    }
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let server = engine_io(CALM).await;
    let session = Polling::session(&server.url).await;
    session.take_first_ping().await;
    // Whichever comes first waits, for there is nothing to tell; the other finds it waiting.
    let mut answers = <[_; 2]>::from(tokio::join!(session.get(), session.get()));
    answers.sort();
    assert_eq!(answers[0], (StatusCode::OK, "1".to_owned()));
    assert_eq!(answers[1].0, StatusCode::BAD_REQUEST, "{}", answers[1].1);
    session.is_over().await;
}

/// The suite wants the session to end. Here it goes on: what was not told to the poll that went away is told to the next.
#[tokio::test]
async fn a_session_survives_a_poll_that_was_given_up_and_loses_nothing() {
    let server = engine_io(CALM).await;
    let session = Polling::session(&server.url).await;
    session.take_first_ping().await;
    for round in 0..20 {
        session.give_up_poll(Duration::from_millis(round)).await;
    }
    session.send("4hello").await;
    assert_eq!(session.next().await, ["4hello"]);
}

#[tokio::test]
async fn a_text_by_web_socket_is_taken_and_answered() {
    let server = engine_io(CALM).await;
    let (mut socket, _) = WebSocket::session(&server.url).await;
    socket.send("4hello").await;
    assert_eq!(socket.text().await, "4hello");
}

#[tokio::test]
async fn bytes_by_web_socket_are_taken_and_answered() {
    let server = engine_io(CALM).await;
    let (mut socket, _) = WebSocket::session(&server.url).await;
    socket.send_bytes(&[1, 2, 3, 4]).await;
    assert_eq!(socket.next().await, Some(Frame::Bytes(vec![1, 2, 3, 4])));
}

#[tokio::test]
async fn a_frame_that_is_no_packet_ends_the_session() {
    let server = engine_io(CALM).await;
    for nonsense in ["abc", "", "9", "é"] {
        let (mut socket, _) = WebSocket::session(&server.url).await;
        socket.send(nonsense).await;
        socket.closed().await;
    }
}

#[tokio::test]
async fn pings_by_polling_come_again_and_again_while_they_are_answered() {
    for server in both(BEATING).await {
        let session = Polling::session(&server.url).await;
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(session.get().await, (StatusCode::OK, "2".to_owned()));
            session.send("3").await;
        }
        assert!(began.elapsed() >= BEATING.interval, "they come at an interval");
    }
}

#[tokio::test]
async fn pings_by_web_socket_come_again_and_again_while_they_are_answered() {
    for server in both(BEATING).await {
        let (mut socket, _) = WebSocket::session(&server.url).await;
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(socket.raw().await, Some(Frame::text("2")));
            socket.send("3").await;
        }
        assert!(began.elapsed() >= BEATING.interval, "they come at an interval");
    }
}

/// The protocol lets the server wait for the interval first. Clients count their patience from any ping, so that one more
/// of them does no harm.
#[tokio::test]
async fn the_first_ping_comes_at_once() {
    for server in both(CALM).await {
        let began = Instant::now();
        let (mut socket, _) = WebSocket::session(&server.url).await;
        assert_eq!(socket.raw().await, Some(Frame::text("2")));
        Polling::session(&server.url).await.take_first_ping().await;
        assert!(began.elapsed() < CALM.interval);
    }
}

#[tokio::test]
async fn a_session_by_polling_ends_when_its_pings_are_not_answered() {
    for server in both(IMPATIENT).await {
        let session = Polling::session(&server.url).await;
        let over = async {
            loop {
                let (status, body) = session.get().await;
                if status != StatusCode::OK {
                    return;
                }
                assert!(["2", "1", "2\u{1e}1", ""].contains(&body.as_str()), "{body:?}");
            }
        };
        within("the end", over).await;
        session.is_over().await;
    }
}

#[tokio::test]
async fn a_session_by_web_socket_ends_when_its_pings_are_not_answered() {
    for server in both(IMPATIENT).await {
        WebSocket::session(&server.url).await.0.closed_in_silence().await;
    }
}

#[tokio::test]
async fn a_client_that_polls_ends_its_session_by_a_packet() {
    for server in both(CALM).await {
        // The waiting poll is let go too; nobody can see whether it waits already, so that it may take a few attempts.
        let let_go = async |time| {
            let session = Polling::session(&server.url).await;
            session.take_first_ping().await;
            let poll = session.begin_poll(time).await;
            session.send("1").await;
            let (status, body) = poll.await.unwrap();
            session.is_over().await;
            if status == StatusCode::OK {
                assert_eq!(body, "6");
            }
            status == StatusCode::OK
        };
        let mut time = Duration::from_millis(1);
        while !let_go(time).await {
            time *= 2;
            assert!(time < Duration::from_secs(10), "a poll that waits is never let go");
        }
    }
}

#[tokio::test]
async fn a_client_ends_its_session_by_a_packet_over_its_web_socket() {
    for server in both(CALM).await {
        let (mut socket, _) = WebSocket::session(&server.url).await;
        socket.send("1").await;
        socket.closed().await;
    }
}

/// A session that has begun by polling and goes on by web socket, which has been seen to work.
async fn changed(server: &Listening, is_engine: bool) -> (Polling, WebSocket) {
    let session = Polling::session(&server.url).await;
    let mut socket = websocket_of(server, &session).await;
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    // Polls are let go meanwhile.
    assert_eq!(session.get().await, (StatusCode::OK, "6".to_owned()));
    socket.send("5").await;
    is_alive(server, &mut socket, is_engine).await;
    (session, socket)
}

async fn websocket_of(server: &Listening, session: &Polling) -> WebSocket {
    WebSocket::open(&server.url, &format!("EIO=4&transport=websocket&sid={}", session.sid)).await.unwrap()
}

#[tokio::test]
async fn a_session_changes_from_polling_to_a_web_socket() {
    for (server, is_engine) in both(CALM).await.into_iter().zip([true, false]) {
        changed(&server, is_engine).await;
    }
}

#[tokio::test]
async fn a_session_that_has_changed_is_not_polled_any_more_and_goes_on() {
    for (server, is_engine) in both(CALM).await.into_iter().zip([true, false]) {
        let (session, mut socket) = changed(&server, is_engine).await;
        let (status, body) = session.get().await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let (status, body) = session.post("4hello").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        if is_engine {
            is_alive(&server, &mut socket, true).await;
        }
    }
}

#[tokio::test]
async fn a_session_that_has_changed_takes_no_other_web_socket_and_goes_on() {
    for (server, is_engine) in both(CALM).await.into_iter().zip([true, false]) {
        let (session, mut socket) = changed(&server, is_engine).await;
        websocket_of(&server, &session).await.closed().await;
        if is_engine {
            is_alive(&server, &mut socket, true).await;
        }
    }
}
