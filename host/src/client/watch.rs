//! Shows every packet of this process's connections, and every answer to its requests, to somebody who checks them: the
//! tests, which hold all traffic against the contracts. Nobody watches in the program itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::packet::{Kind, Packet};

/// Whether a packet goes out or comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From this client to the server.
    Sent,
    /// From the server to this client.
    Received,
}

/// A packet and where it belongs.
#[derive(Debug, Clone, Copy)]
pub struct Traffic<'a> {
    /// The server, as the connection was opened.
    pub base_url: &'a str,
    /// Number of the connection, unique in this process.
    pub connection: u64,
    /// Which way it goes.
    pub direction: Direction,
    /// What it does.
    pub kind: Kind,
    /// With its leading slash.
    pub namespace: &'a str,
    /// Id of the acknowledgement that is asked for, or that this is.
    pub id: Option<u64>,
    /// What it carries.
    pub data: Option<&'a Value>,
}

/// A request and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The server, as its API was made.
    pub base_url: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// What was asked for: path and query.
    pub path: &'a str,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The content type of the answer; empty where it has none.
    pub content_type: &'a str,
    /// The body of the answer.
    pub body: &'a str,
}

static EXCHANGES: OnceLock<fn(&Exchange<'_>)> = OnceLock::new();
static WATCHER: OnceLock<fn(&Traffic<'_>)> = OnceLock::new();
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Has `watcher` called for every packet from now on, by the task of its connection: what it is shown of one connection is
/// in order, and it must not wait. The first watcher stays.
pub fn watch_traffic(watcher: fn(&Traffic<'_>)) {
    // Whoever comes second finds somebody who does the same.
    let _ = WATCHER.set(watcher);
}

/// Has `watcher` called for every answer to a request from now on, by whoever sent it; it must not wait. The first watcher
/// stays.
pub fn watch_exchanges(watcher: fn(&Exchange<'_>)) {
    let _ = EXCHANGES.set(watcher);
}

/// Shows an answer.
pub(super) fn show_exchange(exchange: &Exchange<'_>) {
    if let Some(watcher) = EXCHANGES.get() {
        watcher(exchange);
    }
}

/// A connection as the watcher knows it.
pub(super) struct Watched {
    base_url: String,
    number: u64,
}

impl Watched {
    pub(super) fn new(base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), number: CONNECTIONS.fetch_add(1, Ordering::Relaxed) }
    }

    pub(super) fn show(&self, direction: Direction, packet: &Packet) {
        if let Some(watcher) = WATCHER.get() {
            watcher(&Traffic {
                base_url: &self.base_url,
                connection: self.number,
                direction,
                kind: packet.kind,
                namespace: &packet.namespace,
                id: packet.id,
                data: packet.data.as_ref(),
            });
        }
    }
}
