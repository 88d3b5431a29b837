//! Web sockets and polling requests with packets as they are written.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::within;

/// What stands between the packets of a payload.
const SEPARATOR: char = '\u{1e}';

/// What came over a web socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Text(String),
    Bytes(Vec<u8>),
}

impl Frame {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn is_ping(&self) -> bool {
        *self == Self::text("2")
    }
}

/// A web socket.
pub(super) struct WebSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl WebSocket {
    /// Opens one with this query.
    ///
    /// # Errors
    /// The status of an answer that is no web socket.
    pub(super) async fn open(url: &str, query: &str) -> Result<Self, StatusCode> {
        let url = format!("{}/socket.io/?{query}", url.replacen("http", "ws", 1));
        match within("a web socket", connect_async(url)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("no web socket: {error}"),
        }
    }

    /// Opens a session; answers what its first packet says too.
    pub(super) async fn session(url: &str) -> (Self, Value) {
        let mut socket = Self::open(url, "EIO=4&transport=websocket").await.unwrap();
        let Some(Frame::Text(open)) = socket.raw().await else { panic!("a session begins with a text") };
        let handshake = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        (socket, handshake)
    }

    /// Opens a session and joins namespaces that greet with one event.
    pub(super) async fn joined(url: &str, paths: &[&str]) -> Self {
        let (mut socket, _) = Self::session(url).await;
        for path in paths {
            let prefix = if *path == "/" { String::new() } else { format!("{path},") };
            socket.send(format!("40{prefix}")).await;
            let answer = socket.text().await;
            assert!(answer.starts_with(&format!("40{prefix}{{")), "{answer}");
            assert_eq!(socket.text().await, format!("42{prefix}[\"auth\",{{}}]"));
        }
        socket
    }

    pub(super) async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.expect("the server takes what is sent");
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).await.expect("the server takes what is sent");
    }

    /// Sends what the server may not want to hear to its end.
    pub(super) async fn try_send(&mut self, text: impl Into<String>) {
        let _ = within("room for what is sent", self.0.send(Message::text(text.into()))).await;
    }

    /// The next frame; `None`: the server has closed it.
    pub(super) async fn raw(&mut self) -> Option<Frame> {
        within("a frame, or the end", self.wait()).await
    }

    async fn wait(&mut self) -> Option<Frame> {
        loop {
            return match self.0.next().await? {
                Ok(Message::Text(text)) => Some(Frame::text(text.as_str())),
                Ok(Message::Binary(bytes)) => Some(Frame::Bytes(bytes.to_vec())),
                Ok(Message::Close(_)) | Err(_) => None,
                Ok(_) => continue,
            };
        }
    }

    /// The next frame that is no ping; pings are answered, as clients do.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        // With an end: pings go on for ever.
        within("a frame that is no ping, or the end", async {
            loop {
                let frame = self.wait().await;
                if !frame.as_ref().is_some_and(Frame::is_ping) {
                    return frame;
                }
                // Whether that still matters is seen by what comes next.
                let _ = self.0.send(Message::text("3")).await;
            }
        })
        .await
    }

    /// The next frame, which has to be a text.
    pub(super) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Frame::Text(text)) => text,
            other => panic!("a text is due, and this came: {other:?}"),
        }
    }

    /// Waits until the server has closed it, which has to say nothing else before that than that it does.
    pub(super) async fn closed(&mut self) {
        while let Some(frame) = self.next().await {
            assert_eq!(frame, Frame::text("1"), "it should have been closed");
        }
    }

    /// The same, from a client that doesn't answer pings.
    pub(super) async fn closed_in_silence(&mut self) {
        let closed = async {
            while let Some(frame) = self.wait().await {
                assert!(frame.is_ping() || frame == Frame::text("1"), "it should have been closed, not sent {frame:?}");
            }
        };
        within("the end", closed).await;
    }
}

/// A session by polling.
#[derive(Debug, Clone)]
pub(super) struct Polling {
    http: reqwest::Client,
    /// With the query that names the session.
    url: String,
    pub(super) sid: String,
    /// What its first packet said.
    pub(super) handshake: Value,
}

impl Polling {
    pub(super) async fn session(url: &str) -> Self {
        let (status, body) = request(url, Method::GET, "EIO=4&transport=polling", "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let handshake: Value = serde_json::from_str(body.strip_prefix('0').unwrap()).unwrap();
        let sid = handshake["sid"].as_str().unwrap().to_owned();
        let url = format!("{url}/socket.io/?EIO=4&transport=polling&sid={sid}");
        Self { http: antimony_host::client::http(), url, sid, handshake }
    }

    /// Asks for packets; answers the status and the payload as they came.
    pub(super) async fn get(&self) -> (StatusCode, String) {
        answer(self.http.get(&self.url)).await
    }

    /// Sends a payload.
    pub(super) async fn post(&self, payload: impl Into<String>) -> (StatusCode, String) {
        answer(self.http.post(&self.url).body(payload.into())).await
    }

    /// Sends a payload that has to be taken.
    pub(super) async fn send(&self, payload: &str) {
        assert_eq!(self.post(payload).await, (StatusCode::OK, "ok".to_owned()), "{payload}");
    }

    /// The packets of the next payload that has any but pings, which are answered.
    pub(super) async fn next(&self) -> Vec<String> {
        within("packets", self.wait()).await
    }

    async fn wait(&self) -> Vec<String> {
        loop {
            let (status, payload) = self.get().await;
            assert_eq!(status, StatusCode::OK, "{payload}");
            let (pings, packets): (Vec<_>, Vec<_>) = payload.split(SEPARATOR).partition(|packet| *packet == "2");
            if !pings.is_empty() {
                self.send("3").await;
            }
            if !packets.is_empty() {
                return packets.into_iter().map(str::to_owned).collect();
            }
        }
    }

    /// Takes the ping that comes with the beginning of a session, so that the next poll has to wait.
    pub(super) async fn take_first_ping(&self) {
        assert_eq!(self.get().await, (StatusCode::OK, "2".to_owned()));
        self.send("3").await;
    }

    /// Asserts that the server knows nothing of the session.
    pub(super) async fn is_over(&self) {
        let (status, body) = self.get().await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "1", "{body}");
    }

    /// Begins a poll and gives it some time to arrive.
    pub(super) async fn begin_poll(&self, time: Duration) -> tokio::task::JoinHandle<(StatusCode, String)> {
        let this = self.clone();
        let poll = tokio::spawn(async move { this.get().await });
        tokio::time::sleep(time).await;
        poll
    }

    /// Begins a poll, gives it some time to arrive, and hangs up; returns when the server has done so too.
    pub(super) async fn give_up_poll(&self, time: Duration) {
        let (host, path) = self.url.strip_prefix("http://").and_then(|url| url.split_once('/')).unwrap();
        let mut stream = TcpStream::connect(host).await.unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(time).await;
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within("the server's end", stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"", "there was nothing to answer");
    }
}

/// A payload of several packets.
pub(super) fn payload(packets: &[&str]) -> String {
    packets.join(&SEPARATOR.to_string())
}

/// A request with any query; answers the status and the body.
pub(super) async fn request(url: &str, method: Method, query: &str, body: &str) -> (StatusCode, String) {
    answer(antimony_host::client::http().request(method, format!("{url}/socket.io/?{query}")).body(body.to_owned()))
        .await
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, String) {
    let answer = within("an answer", request.send()).await.unwrap();
    let status = answer.status();
    (status, within("the body of an answer", answer.text()).await.unwrap())
}
