//! One capture: what it gives, and what ends it.
//!
//! ```text
//!  the file's header ── packets, as they come ──┬── so many, or for so long, as was asked for
//!                                               ├── the node has stopped, or its interface is gone
//!                                               ├── whoever captures may no longer
//!                                               ├── the server ends
//!                                               └── dropped: whoever captures has gone
//! ```

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::pcap::Writer;
use super::{Taking, Wish};
use crate::labs::model::{LabId, LabSnapshot};
use crate::runtime::capture::{Capture, Over, Packet};

/// Why a capture has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There were as many packets as were asked for.
    Packets,
    /// It went on for as long as was asked for.
    Time,
    /// The node or its interface is there no more.
    Over(Over),
    /// Whoever captures may no longer; a few words say why.
    Revoked(&'static str),
    /// The server ends.
    ShuttingDown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packets => f.write_str("there were as many packets as were asked for"),
            Self::Time => f.write_str("the time that was asked for is over"),
            Self::Over(over) => over.fmt(f),
            Self::Revoked(why) => f.write_str(why),
            Self::ShuttingDown => f.write_str("the server is shutting down"),
        }
    }
}

/// A capture that goes on, as the bytes of a pcap file. Dropping it ends it.
pub struct Session {
    capture: Capture,
    writer: Writer,
    begun: bool,
    /// Packets that are still to come, if they are counted.
    left: Option<u64>,
    ends: BoxFuture<'static, End>,
    ended: Option<End>,
    written: u64,
    dropped: u64,
    lab: LabId,
    node: String,
    interface: String,
    place: Taking,
}

impl Session {
    pub(super) fn new(
        capture: Capture,
        lab: &LabSnapshot,
        wish: Wish<'_>,
        place: Taking,
        ends: impl Future<Output = End> + Send + 'static,
    ) -> Self {
        let writer = Writer::new(capture.link_type(), wish.snaplen);
        let time = wish.time;
        let ends = async move {
            let over = async {
                match time {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                end = ends => end,
                () = over => End::Time,
            }
        };
        let (node, interface) = (wish.node.to_owned(), wish.interface.to_owned());
        tracing::info!(user = %place.user, lab = %lab.lab.id, node, interface, "a capture has begun");
        Self {
            capture,
            writer,
            begun: false,
            left: wish.packets,
            ends: ends.boxed(),
            ended: None,
            written: 0,
            dropped: 0,
            lab: lab.lab.id.clone(),
            node,
            interface,
            place,
        }
    }

    /// The next bytes of the file: its header at once, then packets as they come. `None`: that was all. Nothing is lost
    /// where this is given up half-way.
    pub async fn next(&mut self) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        if !self.begun {
            self.begun = true;
            self.writer.header(&mut bytes);
            return Some(bytes.freeze());
        }
        // A piece of the kernel's may hold nothing.
        while bytes.is_empty() && self.ended.is_none() {
            self.read(&mut bytes).await;
        }
        if bytes.is_empty() { None } else { Some(bytes.freeze()) }
    }

    async fn read(&mut self, bytes: &mut BytesMut) {
        let Self { capture, writer, left, ends, written, .. } = self;
        let mut take = |packet: Packet<'_>| {
            if *left != Some(0) {
                writer.packet(&packet, bytes);
                *written += 1;
                *left = left.map(|left| left - 1);
            }
        };
        let end = tokio::select! {
            biased;
            end = ends => Some(end),
            read = capture.read(&mut take) => read.err().map(End::Over),
        };
        // What has come until now belongs to it, unless whoever captures may see nothing any more.
        if end.is_some_and(|end| !matches!(end, End::Revoked(_))) {
            capture.drain(&mut take).await;
        }
        let end = if *left == Some(0) { Some(End::Packets) } else { end };
        if end.is_some() {
            self.ended = end;
            self.dropped = self.capture.dropped();
        }
    }

    /// Why it has ended; `None`: it hasn't.
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// How many packets it lacks, because nobody took them in time. Known when it has ended.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { lab, node, interface, written, place, .. } = self;
        let (why, dropped) = match self.ended {
            Some(end) => (end.to_string(), self.dropped),
            None => ("whoever captured has gone".to_owned(), self.capture.dropped()),
        };
        tracing::info!(user = %place.user, %lab, node, interface, packets = written, dropped, why, "a capture has ended");
    }
}
