//! Carries a history to one socket, at the pace of that socket.
//!
//! Each socket has its own place in the history and its own pump. A slow client holds up nobody else: its pump waits, and
//! when the client stays behind for too long, or falls out of what the history keeps, it is cut.

use serde::Serialize;
use socketioxide::extract::SocketRef;

use super::access;
use super::message::{Undeliverable, emit};
use crate::history::{Entry, FollowEnd, Follower};

/// Entries that are taken from a history at a time.
const BATCH: usize = 256;

/// Name of the event that carries live data, on every namespace.
pub(super) const DATA: &str = "data";
/// Name of the event that carries what came before.
pub(super) const BACKLOG: &str = "backlog";

/// Sends `backlog` once, then each later entry as `data`, each exactly once and in order. Returns when the history has
/// ended or the client has gone; a client that doesn't keep up is cut.
pub(super) async fn backlog_then_live<T: Entry + Serialize>(
    socket: &SocketRef,
    backlog: Vec<T>,
    mut follower: Follower<T>,
) {
    match emit(socket, BACKLOG, &backlog).await {
        Ok(()) => {}
        Err(why) => return cut(socket, why),
    }
    drop(backlog);
    live(socket, &mut follower, &Everything).await;
}

/// What of a feed goes to one socket, and how it is written.
pub(super) trait Selection<T>: Sync {
    /// What goes out.
    type Message: Serialize + Send + Sync;

    /// What goes out for `entry`; `None`: nothing does.
    fn select(&self, entry: &T) -> impl Future<Output = Option<Self::Message>> + Send;
}

/// Every entry as it is.
struct Everything;

impl<T: Entry + Serialize> Selection<T> for Everything {
    type Message = T;

    async fn select(&self, entry: &T) -> Option<T> {
        Some(entry.clone())
    }
}

/// Sends what `selection` makes of each entry as `data`. Returns as [`backlog_then_live`] does.
pub(super) async fn live<T: Entry, S: Selection<T>>(socket: &SocketRef, follower: &mut Follower<T>, selection: &S) {
    loop {
        let batch = match follower.next(BATCH).await {
            Ok(batch) => batch,
            Err(FollowEnd::Closed) => return,
            Err(FollowEnd::FellBehind) => return cut(socket, Undeliverable::Stuck),
        };
        for entry in batch {
            if let Some(message) = selection.select(&entry).await
                && let Err(why) = emit(socket, DATA, &message).await
            {
                return cut(socket, why);
            }
            follower.advance(1);
        }
    }
}

fn cut(socket: &SocketRef, why: Undeliverable) {
    if why != Undeliverable::Gone {
        tracing::info!(socket = %socket.id, namespace = socket.ns(), ?why, "a client is cut");
    }
    // A packet would have to wait behind all that the client doesn't take.
    access::kill(socket);
}
