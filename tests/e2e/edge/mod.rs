//! What stands between the network and the routes: the web client's files, TLS, limits, other sites, and what is written
//! into logs.

mod limits;
mod origins;
mod secrets;
mod site;
mod tls;

use std::fs;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{ServerBuilder, within};

/// The folder that relative paths of the configuration start from.
fn base(builder: &ServerBuilder) -> PathBuf {
    builder.data().parent().expect("it is in one").to_owned()
}

/// Writes files below `base`, with the folders that they are in.
fn write(base: &std::path::Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = base.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }
}

/// A connection on which a test says what it likes.
struct Wire(TcpStream);

impl Wire {
    /// Connects to the server at `url`.
    async fn open(url: &str) -> Self {
        let address = url.split("://").nth(1).expect("an address");
        Self(within("a connection", TcpStream::connect(address)).await.expect("connected"))
    }

    /// Sends bytes as they are; false: the server has hung up.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Whatever comes until the server hangs up.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // Where it hangs up while something of ours is on its way, the rest may be lost.
        let _ = within("the end of the connection", self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The head of one answer, and its body by its length.
    async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if length.is_none_or(|length| body.len() >= length.trim().parse::<usize>().expect("a number")) {
                    return text;
                }
            }
            let mut part = [0; 4096];
            let count = within("an answer", self.0.read(&mut part)).await.expect("the connection is open");
            assert!(count > 0, "the server hung up: {text}");
            bytes.extend_from_slice(&part[..count]);
        }
    }
}
