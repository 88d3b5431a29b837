//! Append-only logs that many readers follow, each at its own pace: lab logs, shell output, feeds of notices.
//!
//! A [`History`] numbers its entries from zero and keeps the latest of them, up to a number of bytes. A reader takes the
//! entries so far and its place in the order in one step ([`History::follow`]), so that between the backlog and what
//! comes later nothing is lost and nothing comes twice. A reader advances only when it has really passed an entry on;
//! one that falls so far behind that its place has been dropped is told so, and costs nothing until then.
//!
//! Appending never waits for readers. A writer that can make its own source wait asks how far they are behind
//! ([`History::lag`]). The lock is held for a push or for cloning a batch, never across an await.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Something that a history can keep.
pub trait Entry: Clone + Send + Sync + 'static {
    /// How many bytes it counts for.
    fn weight(&self) -> usize;
}

impl Entry for Arc<str> {
    fn weight(&self) -> usize {
        // An empty line costs its place in the queue too, or a flood of empty lines would have no bound.
        self.len() + size_of::<Self>()
    }
}

/// An append-only log. Shared as `Arc<History<_>>` by one writer and its readers.
#[derive(Debug)]
pub struct History<T> {
    entries: Mutex<Entries<T>>,
    /// Number of the next entry, and whether there will be one. Readers wait on it.
    head: watch::Sender<Head>,
    /// Changes whenever a reader joins, gets on or leaves.
    progress: watch::Sender<()>,
    capacity: usize,
}

#[derive(Debug)]
struct Entries<T> {
    kept: VecDeque<T>,
    /// Number of the first entry that is kept.
    first: u64,
    bytes: usize,
    /// Bytes of the entries that are kept no longer.
    dropped: u64,
    /// How many bytes each reader has passed on, or passed over, since the beginning.
    readers: HashMap<u64, u64>,
    /// Number of the next reader.
    next_reader: u64,
}

impl<T: Entry> Entries<T> {
    /// Bytes of all entries that there ever were.
    fn total(&self) -> u64 {
        self.dropped + self.bytes as u64
    }

    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    next: u64,
    closed: bool,
}

impl<T: Entry> History<T> {
    /// An empty history that keeps the latest `capacity` bytes, and always at least the latest entry.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Mutex::new(Entries {
                kept: VecDeque::new(),
                first: 0,
                bytes: 0,
                dropped: 0,
                readers: HashMap::new(),
                next_reader: 0,
            }),
            head: watch::Sender::new(Head { next: 0, closed: false }),
            progress: watch::Sender::new(()),
            capacity,
        }
    }

    /// Adds an entry. Nothing is added to a closed history.
    pub fn append(&self, entry: T) {
        let mut entries = self.lock();
        // Under the lock, so that readers see numbers grow in the order of the entries.
        if self.head.borrow().closed {
            return;
        }
        entries.bytes += entry.weight();
        entries.kept.push_back(entry);
        while entries.bytes > self.capacity && entries.kept.len() > 1 {
            let dropped = entries.kept.pop_front().expect("more than one entry is kept");
            entries.bytes -= dropped.weight();
            entries.dropped += dropped.weight() as u64;
            entries.first += 1;
        }
        let next = entries.next();
        self.head.send_modify(|head| head.next = next);
    }

    /// Says that nothing more will come. Followers end when they have read what there is.
    pub fn close(&self) {
        let _entries = self.lock();
        self.head.send_modify(|head| head.closed = true);
    }

    /// The entries that are kept, and a follower that starts right behind them.
    pub fn follow(self: &Arc<Self>) -> (Vec<T>, Follower<T>) {
        let mut entries = self.lock();
        let backlog: Vec<T> = entries.kept.iter().cloned().collect();
        let follower = self.join(&mut entries);
        (backlog, follower)
    }

    /// A follower that starts with the next entry.
    pub fn follow_new(self: &Arc<Self>) -> Follower<T> {
        self.join(&mut self.lock())
    }

    fn join(self: &Arc<Self>, entries: &mut Entries<T>) -> Follower<T> {
        let id = entries.next_reader;
        entries.next_reader += 1;
        let total = entries.total();
        entries.readers.insert(id, total);
        self.progress.send_replace(());
        Follower { next: entries.next(), head: self.head.subscribe(), id, history: Arc::clone(self) }
    }

    /// How many bytes the least of all readers is behind; `None`: nobody reads.
    pub fn lag(&self) -> Option<u64> {
        let entries = self.lock();
        let furthest = entries.readers.values().max()?;
        Some(entries.total() - furthest)
    }

    /// Changes whenever a reader joins, gets on or leaves.
    pub fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// The latest `count` entries that are kept.
    pub fn tail(&self, count: usize) -> Vec<T> {
        let entries = self.lock();
        let skipped = entries.kept.len().saturating_sub(count);
        entries.kept.iter().skip(skipped).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        // Nothing that runs under the lock can leave the entries half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a follower gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowEnd {
    /// The history was closed, and everything in it has been read.
    #[error("the history has ended")]
    Closed,
    /// The follower was too slow: entries that it had not read have been dropped.
    #[error("the reader fell behind, and entries it had not read were dropped")]
    FellBehind,
}

/// A reader's place in a history.
#[derive(Debug)]
pub struct Follower<T> {
    history: Arc<History<T>>,
    head: watch::Receiver<Head>,
    id: u64,
    next: u64,
}

impl<T: Entry> Follower<T> {
    /// The next entries, at most `limit` of them, as soon as there is at least one. They come again until
    /// [`Self::advance`] says that they have been dealt with. Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// [`FollowEnd`], after which there will be no more.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<T>, FollowEnd> {
        loop {
            let seen = *self.head.borrow_and_update();
            if seen.next > self.next {
                let entries = self.history.lock();
                let Some(skip) = self.next.checked_sub(entries.first) else {
                    return Err(FollowEnd::FellBehind);
                };
                let skip = usize::try_from(skip).expect("no more entries than fit into memory");
                return Ok(entries.kept.iter().skip(skip).take(limit).cloned().collect());
            }
            if seen.closed {
                return Err(FollowEnd::Closed);
            }
            // The sender lives in the history that this follower holds.
            self.head.changed().await.map_err(|_| FollowEnd::Closed)?;
        }
    }

    /// Says that the next `count` entries have been dealt with.
    pub fn advance(&mut self, count: usize) {
        let mut entries = self.history.lock();
        let from = self.next.saturating_sub(entries.first);
        self.next += count as u64;
        let until = self.next.saturating_sub(entries.first);
        let range = usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(until).unwrap_or(usize::MAX);
        // What has been dropped meanwhile isn't counted, until the reader finds out that it fell behind.
        let bytes: usize = entries.kept.iter().take(range.end).skip(range.start).map(Entry::weight).sum();
        if let Some(passed) = entries.readers.get_mut(&self.id) {
            *passed += bytes as u64;
        }
        drop(entries);
        self.history.progress.send_replace(());
    }

    /// Goes on with the first entry that is kept, where the one that would be next is kept no longer. Answers the bytes
    /// that are passed over.
    pub fn skip_dropped(&mut self) -> u64 {
        let mut entries = self.history.lock();
        if self.next >= entries.first {
            return 0;
        }
        self.next = entries.first;
        let dropped = entries.dropped;
        let passed = entries.readers.get_mut(&self.id).expect("readers are there for as long as their followers");
        let skipped = dropped.saturating_sub(*passed);
        *passed = (*passed).max(dropped);
        drop(entries);
        self.history.progress.send_replace(());
        skipped
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        let mut entries = self.history.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.readers.remove(&self.id);
        drop(entries);
        self.history.progress.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn texts(entries: &[Arc<str>]) -> Vec<&str> {
        entries.iter().map(|entry| &**entry).collect()
    }

    #[tokio::test]
    async fn backlog_and_follower_meet_without_gap_or_overlap() {
        let history = Arc::new(History::new(1024));
        history.append(line("a"));
        let (backlog, mut follower) = history.follow();
        history.append(line("b"));
        history.append(line("c"));
        assert_eq!(texts(&backlog), ["a"]);
        let next = follower.next(10).await.expect("two entries are there");
        assert_eq!(texts(&next), ["b", "c"]);
    }

    #[tokio::test]
    async fn entries_come_again_until_the_follower_advances() {
        let history = Arc::new(History::new(1024));
        let mut follower = history.follow_new();
        history.append(line("a"));
        history.append(line("b"));
        assert_eq!(texts(&follower.next(1).await.expect("first")), ["a"]);
        assert_eq!(texts(&follower.next(1).await.expect("again")), ["a"]);
        follower.advance(1);
        assert_eq!(texts(&follower.next(1).await.expect("second")), ["b"]);
    }

    #[tokio::test]
    async fn a_reader_that_falls_out_of_the_kept_entries_is_told() {
        let history = Arc::new(History::new(1));
        let mut follower = history.follow_new();
        history.append(line("a"));
        history.append(line("b"));
        assert_eq!(follower.next(10).await, Err(FollowEnd::FellBehind));
        let (backlog, _) = history.follow();
        assert_eq!(texts(&backlog), ["b"]);
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_can_go_on_with_what_is_kept() {
        let history = Arc::new(History::new(2 * line("0").weight()));
        let mut follower = history.follow_new();
        for number in 0..5 {
            history.append(line(&number.to_string()));
        }
        assert_eq!(follower.next(10).await, Err(FollowEnd::FellBehind));
        assert_eq!(follower.skip_dropped(), 3 * line("0").weight() as u64);
        assert_eq!(texts(&follower.next(10).await.expect("what is kept")), ["3", "4"]);
        assert_eq!(follower.skip_dropped(), 0);
        follower.advance(2);
        assert_eq!(history.lag(), Some(0));
    }

    #[tokio::test]
    async fn the_lag_is_that_of_the_reader_that_is_least_behind() {
        let weight = line("0").weight() as u64;
        let history = Arc::new(History::new(2 * line("0").weight()));
        assert_eq!(history.lag(), None);
        let (slow, mut fast) = (history.follow_new(), history.follow_new());
        let mut progress = history.progress();
        for number in 0..5 {
            history.append(line(&number.to_string()));
        }
        assert_eq!(history.lag(), Some(5 * weight));
        assert!(!progress.has_changed().expect("the history is there"), "nobody got on");
        fast.skip_dropped();
        fast.advance(1);
        progress.changed().await.expect("the history is there");
        assert_eq!(history.lag(), Some(weight));
        drop(fast);
        assert_eq!(history.lag(), Some(5 * weight));
        drop(slow);
        assert_eq!(history.lag(), None);
    }

    #[tokio::test]
    async fn a_closed_history_ends_after_its_last_entry() {
        let history = Arc::new(History::new(1024));
        let mut follower = history.follow_new();
        history.append(line("a"));
        history.close();
        history.append(line("too late"));
        assert_eq!(texts(&follower.next(10).await.expect("one")), ["a"]);
        follower.advance(1);
        assert_eq!(follower.next(10).await, Err(FollowEnd::Closed));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn readers_that_join_while_entries_are_written_see_each_exactly_once() {
        const ENTRIES: usize = 20_000;
        let history = Arc::new(History::new(usize::MAX));
        let writer = {
            let history = Arc::clone(&history);
            std::thread::spawn(move || {
                for number in 0..ENTRIES {
                    history.append(line(&number.to_string()));
                }
                history.close();
            })
        };
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let history = Arc::clone(&history);
                tokio::spawn(async move {
                    let (mut seen, mut follower) = history.follow();
                    while let Ok(batch) = follower.next(64).await {
                        follower.advance(batch.len());
                        seen.extend(batch);
                    }
                    seen
                })
            })
            .collect();
        for reader in readers {
            let seen = reader.await.expect("reader ends");
            let expected: Vec<String> = (0..ENTRIES).map(|number| number.to_string()).collect();
            assert_eq!(texts(&seen), expected);
        }
        writer.join().expect("writer ends");
    }
}
