//! The client: websocket, Engine.IO and Socket.IO by hand, so that it costs as little as can be.
//!
//! One [`Connection`] is one client. It reads into a buffer of its own, finds the frames in it where they are, and copies
//! nothing. What it can't do, because no server here does it: fragments, compression, binary packets, polling.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Least room that is read into.
const ROOM: usize = 4 * 1024;

/// A client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in the buffer there is something that was read and not yet taken.
    unread: Range<usize>,
    /// What is being written; kept for its memory.
    frame: Vec<u8>,
}

/// Where the payload of a frame is in the buffer, and what kind of frame it is.
struct Frame {
    opcode: u8,
    payload: Range<usize>,
}

impl Connection {
    /// Connects, and waits for the Engine.IO handshake.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        tokio::time::timeout(PATIENCE, Self::handshake(address)).await.context("no handshake came")?
    }

    async fn handshake(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut connection = Self { stream, buffer: vec![0; ROOM], unread: 0..0, frame: Vec::new() };
        let end = loop {
            let head = &connection.buffer[connection.unread.clone()];
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            connection.fill().await?;
        };
        let head = &connection.buffer[connection.unread.clone()][..end];
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "no upgrade: {}", String::from_utf8_lossy(head));
        connection.unread.start += end;
        let open = connection.next().await?;
        ensure!(open.starts_with(b"0{"), "no Engine.IO handshake: {}", String::from_utf8_lossy(open));
        Ok(connection)
    }

    /// Gives it so much room that many frames are read at once.
    pub(crate) fn with_room(mut self, bytes: usize) -> Self {
        self.buffer.resize(bytes.max(self.buffer.len()), 0);
        self
    }

    /// Joins a namespace. Events that come before the answer are passed over.
    pub(crate) async fn join(&mut self, namespace: &str, token: &str) -> anyhow::Result<()> {
        self.send(&format!(r#"40{namespace},{{"token":"{token}"}}"#)).await?;
        let joined = async {
            loop {
                let message = self.next().await?;
                match message.strip_prefix(b"4") {
                    Some([b'0', rest @ ..]) if rest.starts_with(namespace.as_bytes()) => return Ok(()),
                    Some([b'4', rest @ ..]) if rest.starts_with(namespace.as_bytes()) => {
                        bail!("{namespace}: refused: {}", String::from_utf8_lossy(rest))
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, joined).await.with_context(|| format!("{namespace}: no answer"))?
    }

    /// Sends an Engine.IO message.
    pub(crate) async fn send(&mut self, message: &str) -> anyhow::Result<()> {
        self.frame.clear();
        // The last fragment, text; masked, as clients must, with a key that changes nothing.
        self.frame.push(0x81);
        match message.len() {
            short @ 0..126 => self.frame.push(0x80 | short as u8),
            length => {
                let length = u16::try_from(length).context("a message is longer than any here needs to be")?;
                self.frame.push(0x80 | 126);
                self.frame.extend(length.to_be_bytes());
            }
        }
        self.frame.extend([0; 4]);
        self.frame.extend(message.as_bytes());
        self.stream.write_all(&self.frame).await.context("the server has closed a connection")
    }

    /// The next Engine.IO message that isn't a ping; those are answered.
    pub(crate) async fn next(&mut self) -> anyhow::Result<&[u8]> {
        loop {
            if let Some(payload) = self.buffered().await? {
                return Ok(&self.buffer[payload]);
            }
            self.fill().await?;
        }
    }

    /// Reads what there is, and calls `take` with each message of it.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.fill().await?;
        while let Some(payload) = self.buffered().await? {
            take(&self.buffer[payload]);
        }
        Ok(())
    }

    /// A message that has been read already.
    async fn buffered(&mut self) -> anyhow::Result<Option<Range<usize>>> {
        while let Some(Frame { opcode, payload }) = self.frame()? {
            match opcode {
                0x81 if self.buffer[payload.clone()] == *b"2" => self.send("3").await?,
                0x81 => return Ok(Some(payload)),
                0x88 => bail!("the server has closed a connection"),
                // Websocket's own pings are sent by no server here.
                other => bail!("a frame of a kind that isn't expected: {other:#x}"),
            }
        }
        Ok(None)
    }

    /// Takes a whole frame from the buffer, if there is one.
    fn frame(&mut self) -> anyhow::Result<Option<Frame>> {
        let unread = &self.buffer[self.unread.clone()];
        let (header, length) = match *unread {
            [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (10, usize::try_from(length).context("a frame is longer than memory")?)
            }
            [_, 126 | 127, ..] => return Ok(None),
            [_, length @ 0..126, ..] => (2, usize::from(length)),
            [_, masked, ..] => bail!("a server must not mask its frames: {masked:#x}"),
            _ => return Ok(None),
        };
        if unread.len() < header + length {
            return Ok(None);
        }
        let opcode = unread[0];
        let start = self.unread.start + header;
        self.unread.start = start + length;
        Ok(Some(Frame { opcode, payload: start..start + length }))
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.unread.start > 0 {
            // Less than a frame, as a rule nothing.
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.buffer.len() - self.unread.end < ROOM / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.unread.end..]).await?;
        ensure!(read > 0, "the server has closed a connection");
        self.unread.end += read;
        Ok(())
    }
}
