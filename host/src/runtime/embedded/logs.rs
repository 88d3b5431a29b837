//! What a node has printed lately, for any number of readers at any speed.
//!
//! The instance's task writes and never waits; readers that are too slow lose the middle, and are told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

/// Bytes that are kept for those who come later.
const HISTORY: usize = 1 << 20;
/// Most that a reader gets at once.
const CHUNK: usize = 64 << 10;

/// The log of one node.
#[derive(Debug)]
pub(super) struct Log {
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Bytes that were there before the first that is kept.
    dropped: u64,
    closed: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { ring: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Log {
    /// Adds what the node printed.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.change(|ring| {
            ring.bytes.extend(bytes);
            let excess = ring.bytes.len().saturating_sub(HISTORY);
            ring.bytes.drain(..excess);
            ring.dropped += excess as u64;
        });
    }

    /// Ends the log: readers get what there is and then the end.
    pub(super) fn close(&self) {
        self.change(|ring| ring.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Ring)) {
        change(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
    }

    /// Reads from the oldest byte on, until the log is closed or the receiver dropped.
    pub(super) fn follow(self: &Arc<Self>) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(16);
        let log = Arc::clone(self);
        tokio::spawn(async move {
            let mut changed = log.changed.subscribe();
            let mut position = 0;
            loop {
                changed.borrow_and_update();
                match log.read(&mut position) {
                    Read::Chunk(chunk) => {
                        if sender.send(chunk).await.is_err() {
                            return;
                        }
                    }
                    Read::End => return,
                    Read::Nothing => tokio::select! {
                        result = changed.changed() => if result.is_err() { return },
                        () = sender.closed() => return,
                    },
                }
            }
        });
        receiver
    }

    fn read(&self, position: &mut u64) -> Read {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if *position < ring.dropped {
            let lost = ring.dropped - *position;
            *position = ring.dropped;
            return Read::Chunk(Bytes::from(format!("\n[{lost} bytes of this log are no longer kept]\n")));
        }
        let start = usize::try_from(*position - ring.dropped).expect("bounded by the history");
        let chunk: Bytes = ring.bytes.range(start..).take(CHUNK).copied().collect();
        *position += chunk.len() as u64;
        match (chunk.is_empty(), ring.closed) {
            (false, _) => Read::Chunk(chunk),
            (true, true) => Read::End,
            (true, false) => Read::Nothing,
        }
    }
}

enum Read {
    Chunk(Bytes),
    Nothing,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rest(mut log: mpsc::Receiver<Bytes>) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = log.recv().await {
            all.extend(chunk);
        }
        all
    }

    #[tokio::test]
    async fn a_late_reader_gets_everything_from_the_start() {
        let log = Arc::new(Log::default());
        log.push(b"first ");
        let reader = log.follow();
        log.push(b"\xff second");
        log.close();
        assert_eq!(rest(reader).await, b"first \xff second");
    }

    #[tokio::test]
    async fn a_flood_is_bounded_and_the_gap_is_told() {
        let log = Arc::new(Log::default());
        for _ in 0..40 {
            log.push(&[b'x'; 100_000]);
        }
        log.close();
        assert!(log.ring.lock().unwrap().bytes.len() <= HISTORY);
        let text = rest(log.follow()).await;
        assert!(text.starts_with(format!("\n[{} bytes", 4_000_000 - HISTORY).as_bytes()));
        assert_eq!(text.iter().filter(|byte| **byte == b'x').count(), HISTORY);
    }
}
