//! Carries a history to one socket, at the pace of that socket.
//!
//! Each socket has its own place in the history and its own pump. A slow client holds up nobody else: its pump waits, and
//! when the client stays behind for too long it is cut. So is one that falls out of what the history keeps, unless what
//! it reads makes sense with a gap in it.

use std::time::Duration;

use serde::Serialize;

use super::access;
use super::message::{Undeliverable, emit, emit_now};
use super::peer::Peer;
use crate::history::lines::Line;
use crate::history::{Entry, FollowEnd, Follower};

/// Entries that are taken from a history at a time.
const BATCH: usize = 256;
/// How long lines of a log are gathered after some were sent. A line that comes when it has been quiet for so long goes out
/// at once. Sending is paid for by the flush rather than by the line: under load this makes it several times cheaper.
const LINES_GATHER: Duration = Duration::from_millis(25);

/// Name of the event that carries live data, on every namespace.
pub(super) const DATA: &str = "data";
/// Name of the event that carries what came before.
pub(super) const BACKLOG: &str = "backlog";

/// Sends `backlog` once, then each later entry as `data`, each exactly once and in order. Returns when the history has
/// ended or the client has gone; a client that doesn't keep up is cut.
pub(super) async fn backlog_then_live<T: Entry + Serialize, S: Selection<T>>(
    peer: &Peer,
    backlog: Vec<T>,
    mut follower: Follower<T>,
    selection: &S,
) {
    match Box::pin(emit(peer, BACKLOG, &backlog)).await {
        Ok(()) => {}
        Err(why) => return cut(peer, why),
    }
    drop(backlog);
    live(peer, &mut follower, selection).await;
}

/// What of a feed goes to one socket, and how it is written.
pub(super) trait Selection<T>: Sync {
    /// What goes out.
    type Message: Serialize + Send + Sync;

    /// How long entries are gathered after some were sent.
    const GATHER: Duration = Duration::ZERO;

    /// What goes out for `entry`; `None`: nothing does.
    fn select(&self, entry: &T) -> impl Future<Output = Option<Self::Message>> + Send;

    /// What goes out in place of this many bytes that were dropped before this client could take them; `None`: it can't
    /// do without them, and starts anew.
    fn gap(&self, _bytes: u64) -> Option<Self::Message> {
        None
    }
}

/// Every line of a log as it is.
pub(super) struct EveryLine;

impl Selection<Line> for EveryLine {
    type Message = Line;
    const GATHER: Duration = LINES_GATHER;

    async fn select(&self, line: &Line) -> Option<Line> {
        Some(line.clone())
    }
}

/// Sends what `selection` makes of each entry as `data`. Returns as [`backlog_then_live`] does.
pub(super) async fn live<T: Entry, S: Selection<T>>(peer: &Peer, follower: &mut Follower<T>, selection: &S) {
    loop {
        let batch = match follower.next(BATCH).await {
            Ok(batch) => batch,
            Err(FollowEnd::Closed) => return,
            Err(FollowEnd::FellBehind) => {
                let Some(gap) = selection.gap(follower.skip_dropped()) else {
                    return cut(peer, Undeliverable::Stuck);
                };
                match Box::pin(emit(peer, DATA, &gap)).await {
                    Ok(()) => continue,
                    Err(why) => return cut(peer, why),
                }
            }
        };
        if !send(peer, &batch, selection, |count| follower.advance(count)).await {
            return;
        }
        if batch.len() < BATCH && !S::GATHER.is_zero() {
            tokio::time::sleep(S::GATHER).await;
        }
    }
}

/// Sends what `selection` makes of each of `entries` as `data`, and tells `passed` how many have been dealt with: before
/// each wait for the client, and in the end. Whether the client is still there; one that doesn't take it is cut.
pub(super) async fn send<T, S: Selection<T>>(
    peer: &Peer,
    entries: &[T],
    selection: &S,
    mut passed: impl FnMut(usize),
) -> bool {
    let mut untold = 0;
    for entry in entries {
        if let Some(message) = selection.select(entry).await
            && !emit_now(peer, DATA, &message)
        {
            passed(std::mem::take(&mut untold));
            // Boxed, like whatever is rare in what every client has one of.
            if let Err(why) = Box::pin(emit(peer, DATA, &message)).await {
                cut(peer, why);
                return false;
            }
        }
        untold += 1;
    }
    passed(untold);
    true
}

/// Sends one message of those of which only the latest counts, waiting for room. Whether the client is still there; one that
/// doesn't take it is cut.
pub(super) async fn latest<T: Serialize>(peer: &Peer, message: &T) -> bool {
    match emit(peer, DATA, message).await {
        Ok(()) => true,
        Err(why) => {
            cut(peer, why);
            false
        }
    }
}

fn cut(peer: &Peer, why: Undeliverable) {
    if why != Undeliverable::Gone
        && let Some(socket) = peer.socket()
    {
        tracing::info!(socket = %socket.id, namespace = socket.ns(), ?why, "a client is cut");
        // A packet would have to wait behind all that the client doesn't take.
        access::kill(&socket);
    }
}
