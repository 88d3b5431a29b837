//! What a node has printed lately, for any number of readers.
//!
//! The instance's task writes and never waits. What was written and nobody has read yet is reported as passed on only when
//! the reader who is ahead of all others has read it, so that a node that prints too fast is made to wait at the other end
//! ([`super::protocol::WINDOW`]). Readers that are slower than another lose the middle, and are told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::runtime::LogChunk;

/// Bytes that are kept for those who come later.
const HISTORY: usize = 1 << 20;
/// Most that a reader gets at once.
const CHUNK: usize = 64 << 10;

/// So many bytes of somebody's output were passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Of a node.
    Node(usize, usize),
    /// Of a command, by the id of its request.
    Exec(u64, usize),
}

/// The log of one node.
#[derive(Debug)]
pub(super) struct Log {
    node: usize,
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
    passed: mpsc::UnboundedSender<Passed>,
}

#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Bytes that were there before the first that is kept.
    dropped: u64,
    /// Bytes that were reported as passed on.
    passed: u64,
    readers: usize,
    closed: bool,
}

impl Ring {
    fn end(&self) -> u64 {
        self.dropped + self.bytes.len() as u64
    }
}

impl Log {
    /// The empty log of this node. Each time that something was passed on, `passed` is told.
    pub(super) fn new(node: usize, passed: mpsc::UnboundedSender<Passed>) -> Self {
        Self { node, ring: Mutex::default(), changed: watch::Sender::new(()), passed }
    }

    /// Adds what the node printed.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.change(|ring| {
            ring.bytes.extend(bytes);
            let excess = ring.bytes.len().saturating_sub(HISTORY);
            ring.bytes.drain(..excess);
            ring.dropped += excess as u64;
            if ring.readers == 0 {
                // Nobody is there to wait for.
                self.pass(ring, ring.end());
            }
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

    fn pass(&self, ring: &mut Ring, until: u64) {
        let Some(more) = until.checked_sub(ring.passed).filter(|more| *more > 0) else { return };
        ring.passed = until;
        // An error means that the lab has ended.
        let _ = self.passed.send(Passed::Node(self.node, usize::try_from(more).unwrap_or(usize::MAX)));
    }

    /// Reads from the oldest byte on, until the log is closed or the receiver dropped.
    pub(super) fn follow(self: &Arc<Self>) -> mpsc::Receiver<LogChunk> {
        let (sender, receiver) = mpsc::channel(1);
        let mut reader = Reader::of(Arc::clone(self));
        tokio::spawn(async move {
            let mut changed = reader.log.changed.subscribe();
            loop {
                changed.borrow_and_update();
                match reader.log.read(&mut reader.position) {
                    Read::Chunk(data) => {
                        if sender.send(LogChunk { data, position: None, elsewhere: false }).await.is_err() {
                            return;
                        }
                        reader.log.change(|ring| reader.log.pass(ring, reader.position));
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

/// Somebody's place in the log.
struct Reader {
    log: Arc<Log>,
    position: u64,
}

impl Reader {
    fn of(log: Arc<Log>) -> Self {
        log.change(|ring| ring.readers += 1);
        Self { log, position: 0 }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.log.change(|ring| {
            ring.readers -= 1;
            if ring.readers == 0 {
                self.log.pass(ring, ring.end());
            }
        });
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

    fn log() -> (Arc<Log>, mpsc::UnboundedReceiver<Passed>) {
        let (passed, has_passed) = mpsc::unbounded_channel();
        (Arc::new(Log::new(7, passed)), has_passed)
    }

    async fn rest(mut log: mpsc::Receiver<LogChunk>) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = log.recv().await {
            all.extend(chunk.data);
        }
        all
    }

    #[tokio::test]
    async fn a_late_reader_gets_everything_from_the_start() {
        let (log, _passed) = log();
        log.push(b"first ");
        let reader = log.follow();
        log.push(b"\xff second");
        log.close();
        assert_eq!(rest(reader).await, b"first \xff second");
    }

    #[tokio::test]
    async fn a_flood_is_bounded_and_the_gap_is_told() {
        let (log, _passed) = log();
        for _ in 0..40 {
            log.push(&[b'x'; 100_000]);
        }
        log.close();
        assert!(log.ring.lock().unwrap().bytes.len() <= HISTORY);
        let text = rest(log.follow()).await;
        assert!(text.starts_with(format!("\n[{} bytes", 4_000_000 - HISTORY).as_bytes()));
        assert_eq!(text.iter().filter(|byte| **byte == b'x').count(), HISTORY);
    }

    #[tokio::test]
    async fn what_nobody_reads_counts_as_passed_on_and_what_somebody_reads_once_they_have() {
        let (log, mut passed) = log();
        log.push(b"12345");
        assert_eq!(passed.recv().await, Some(Passed::Node(7, 5)));
        let mut reader = log.follow();
        log.push(&[b'x'; 3 * CHUNK]);
        // One chunk waits in the channel, the next one for the channel.
        assert_eq!(passed.recv().await, Some(Passed::Node(7, CHUNK - 5)));
        assert!(passed.try_recv().is_err());
        reader.recv().await.expect("a chunk");
        assert_eq!(passed.recv().await, Some(Passed::Node(7, CHUNK)));
        drop(reader);
        assert_eq!(passed.recv().await, Some(Passed::Node(7, CHUNK + 5)));
    }
}
