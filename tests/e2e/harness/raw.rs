//! A client that says what it is told to, right or wrong: frames by hand, over a web socket.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::within;

/// An Engine.IO session over a web socket. Dropping it ends the TCP connection without a word.
pub(crate) struct Raw {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Raw {
    /// Begins a session with the server at `url`.
    pub(crate) async fn open(url: &str) -> Self {
        Self::try_open(url).await.expect("an Engine.IO session")
    }

    /// The same; `None`: the server would not.
    pub(crate) async fn try_open(url: &str) -> Option<Self> {
        let url = format!("{}/socket.io/?EIO=4&transport=websocket", url.replacen("http", "ws", 1));
        let (socket, _) = within("a web socket", tokio_tungstenite::connect_async(url)).await.ok()?;
        let mut raw = Self { socket };
        raw.next().await.filter(|open| open.starts_with('0'))?;
        Some(raw)
    }

    /// Sends a text frame as it is; false: the connection has ended.
    pub(crate) async fn send(&mut self, frame: impl Into<String>) -> bool {
        self.socket.send(Message::text(frame.into())).await.is_ok()
    }

    /// The same, but not at once: with more of them, or by [`Self::flush`].
    pub(crate) async fn feed(&mut self, frame: impl Into<String>) -> bool {
        self.socket.feed(Message::text(frame.into())).await.is_ok()
    }

    /// Sends what was fed.
    pub(crate) async fn flush(&mut self) -> bool {
        self.socket.flush().await.is_ok()
    }

    /// Sends a binary frame as it is; false: the connection has ended.
    pub(crate) async fn send_binary(&mut self, frame: Vec<u8>) -> bool {
        self.socket.send(Message::binary(frame)).await.is_ok()
    }

    /// The next text frame that is not a ping, which is answered; `None`: the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            match within("a frame", self.socket.next()).await? {
                Ok(Message::Text(text)) if text.as_str() == "2" => {
                    self.send("3").await;
                }
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame that begins like this; `None`: the connection has ended before one came.
    pub(crate) async fn until(&mut self, begin: &str) -> Option<String> {
        loop {
            let frame = self.next().await?;
            if frame.starts_with(begin) {
                return Some(frame);
            }
        }
    }

    /// Asks to join `path` and waits for the answer; whether it is yes.
    pub(crate) async fn join(&mut self, path: &str, token: &str) -> bool {
        self.send(format!("40{path},{}", json!({ "token": token }))).await;
        let (yes, no) = (format!("40{path},"), format!("44{path},"));
        loop {
            match self.next().await {
                Some(frame) if frame.starts_with(&yes) => return true,
                Some(frame) if frame.starts_with(&no) => return false,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Waits until the server has ended the connection; false: it hasn't, after this long.
    pub(crate) async fn is_cut_within(&mut self, patience: Duration) -> bool {
        tokio::time::timeout(patience, async { while self.next().await.is_some() {} }).await.is_ok()
    }
}
