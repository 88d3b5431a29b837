//! Append-only logs that many readers follow, each at its own pace: logs of labs and nodes, shell output, feeds of notices.
//!
//! A [`History`] numbers its entries from zero and keeps a first and a latest part of them, by [`Retention`]. A reader takes
//! the entries so far and its place in the order in one step ([`History::follow`]), so that between the backlog and what
//! comes later nothing is lost and nothing comes twice. A reader advances only when it has really passed an entry on;
//! one that falls so far behind that its place has been dropped is told so, and costs nothing until then.
//!
//! Appending never waits for readers. A writer that can make its own source wait does so with [`pace`]. The lock is held
//! for a push or for cloning a batch, never across an await.
//!
//! [`lines`] cuts what a process prints into entries, and [`archive`] keeps a history of lines on disk, with [`marks`] of how
//! far what they come from was read.

pub mod archive;
pub mod lines;
mod marks;
pub mod pace;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use self::marks::Resume;

/// Something that a history can keep.
pub trait Entry: Clone + Send + Sync + 'static {
    /// How many bytes it counts for.
    fn weight(&self) -> usize;

    /// What stands in a backlog for entries that are kept no longer, between the first and the latest part; `None`:
    /// nothing does. `bytes` is their weight.
    fn left_out(_entries: u64, _bytes: u64) -> Option<Self> {
        None
    }
}

impl Entry for Arc<str> {
    fn weight(&self) -> usize {
        // An empty line costs its place in the queue too, or a flood of empty lines would have no bound.
        self.len() + size_of::<Self>()
    }
}

/// How many bytes of a history are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Of its beginning.
    pub first: usize,
    /// Of what came last; of this, always at least the latest entry.
    pub latest: usize,
    /// Of what came last, as long as a reader hasn't got there. At least `latest`.
    pub behind: usize,
}

impl Retention {
    /// The latest `bytes` and nothing else.
    pub fn latest(bytes: usize) -> Self {
        Self { first: 0, latest: bytes, behind: bytes }
    }
}

/// An append-only log. Shared as `Arc<History<_>>` by one writer and its readers.
#[derive(Debug)]
pub struct History<T> {
    entries: Mutex<Entries<T>>,
    /// Number of the next entry, and whether there will be one. Readers wait on it.
    head: watch::Sender<Head>,
    /// Changes whenever a reader for whom somebody may wait joins, gets on or leaves.
    progress: watch::Sender<()>,
    retention: Retention,
}

#[derive(Debug)]
struct Entries<T> {
    /// The beginning; grows by what leaves `kept`, until it is full.
    beginning: Vec<T>,
    beginning_bytes: usize,
    beginning_full: bool,
    /// What came last.
    kept: VecDeque<T>,
    /// Number of the first entry of `kept`.
    first: u64,
    /// Bytes of `kept`.
    bytes: usize,
    /// How many bytes `kept` may grow to before somebody looks what of it can go.
    trim_at: usize,
    /// Bytes of all entries before `kept`.
    passed: u64,
    /// Where each reader is.
    readers: HashMap<u64, Reader>,
    /// Number of the next reader.
    next_reader: u64,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// Number of the entry that it reads next.
    next: u64,
    /// How many bytes it has passed on, or passed over, since the beginning.
    passed: u64,
    /// Whether somebody waits for what it reads.
    counts: bool,
}

impl<T: Entry> Entries<T> {
    /// Bytes of all entries that there ever were.
    fn total(&self) -> u64 {
        self.passed + self.bytes as u64
    }

    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Entries and bytes that are kept no longer.
    fn left_out(&self) -> (u64, u64) {
        (self.first - self.beginning.len() as u64, self.passed - self.beginning_bytes as u64)
    }

    fn push(&mut self, entry: T, retention: Retention) {
        self.bytes += entry.weight();
        self.kept.push_back(entry);
        if self.bytes > self.trim_at {
            self.trim(retention);
        }
    }

    /// Lets go of what is neither among the latest nor still to be read by somebody who isn't too far behind.
    fn trim(&mut self, retention: Retention) {
        // Asked only where it makes a difference.
        let nexts = || self.readers.values().map(|reader| reader.next);
        let read_by_all = if retention.behind > retention.latest { nexts().min() } else { None };
        let read_by_all = read_by_all.unwrap_or(u64::MAX);
        while self.bytes > retention.latest
            && self.kept.len() > 1
            && (self.first < read_by_all || self.bytes > retention.behind)
        {
            self.drop_one(retention.first);
        }
        // Whoever is behind has to be looked for among all readers, so that this is not done for each entry.
        self.trim_at = retention.behind.min(self.bytes + retention.latest / 8).max(retention.latest);
    }

    /// Lets go of the first entry of the latest; it stays where the beginning has room for it.
    fn drop_one(&mut self, room: usize) {
        let entry = self.kept.pop_front().expect("more than one entry is kept");
        let weight = entry.weight();
        self.bytes -= weight;
        self.passed += weight as u64;
        self.first += 1;
        if !self.beginning_full && self.beginning_bytes + weight <= room {
            self.beginning_bytes += weight;
            self.beginning.push(entry);
        } else {
            self.beginning_full = true;
        }
    }

    /// All that is kept, with a mark where something is missing.
    fn backlog(&self) -> Vec<T> {
        let mark = match self.left_out() {
            (0, _) => None,
            (entries, bytes) => T::left_out(entries, bytes),
        };
        self.beginning.iter().cloned().chain(mark).chain(self.kept.iter().cloned()).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    next: u64,
    closed: bool,
}

impl<T: Entry> History<T> {
    /// An empty history.
    pub fn new(retention: Retention) -> Self {
        Self::restored(retention, Vec::new(), (0, 0), Vec::new())
    }

    /// A history as it was: its beginning, the number and the bytes of the entries that are missing, and the latest ones.
    pub fn restored(retention: Retention, beginning: Vec<T>, missing: (u64, u64), latest: Vec<T>) -> Self {
        let beginning_bytes: usize = beginning.iter().map(Entry::weight).sum();
        let mut entries = Entries {
            first: beginning.len() as u64 + missing.0,
            passed: beginning_bytes as u64 + missing.1,
            beginning_full: missing.0 > 0,
            beginning,
            beginning_bytes,
            kept: VecDeque::new(),
            bytes: 0,
            trim_at: retention.latest,
            readers: HashMap::new(),
            next_reader: 0,
        };
        for entry in latest {
            entries.push(entry, retention);
        }
        let head = Head { next: entries.next(), closed: false };
        let (head, progress) = (watch::Sender::new(head), watch::Sender::new(()));
        Self { entries: Mutex::new(entries), head, progress, retention }
    }

    /// Adds an entry. Nothing is added to a closed history.
    pub fn append(&self, entry: T) {
        let mut entries = self.lock();
        // Under the lock, so that readers see numbers grow in the order of the entries.
        if self.head.borrow().closed {
            return;
        }
        entries.push(entry, self.retention);
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
        // What was kept for readers that have read it since is no part of the backlog.
        if entries.bytes > self.retention.latest {
            entries.trim(self.retention);
        }
        let backlog = entries.backlog();
        let follower = self.join(&mut entries, true);
        (backlog, follower)
    }

    /// A follower that starts with the next entry.
    pub fn follow_new(self: &Arc<Self>) -> Follower<T> {
        self.join(&mut self.lock(), true)
    }

    /// The same for whoever keeps up by nature and is nobody that a writer should wait for.
    fn follow_aside(self: &Arc<Self>) -> Follower<T> {
        self.join(&mut self.lock(), false)
    }

    fn join(self: &Arc<Self>, entries: &mut Entries<T>, counts: bool) -> Follower<T> {
        let id = entries.next_reader;
        entries.next_reader += 1;
        let (next, passed) = (entries.next(), entries.total());
        entries.readers.insert(id, Reader { next, passed, counts });
        if counts {
            self.progress.send_replace(());
        }
        Follower { next, head: self.head.subscribe(), id, history: Arc::clone(self) }
    }

    /// How many bytes the least of all readers is behind; `None`: nobody reads.
    pub fn lag(&self) -> Option<u64> {
        let entries = self.lock();
        let furthest = entries.readers.values().filter(|reader| reader.counts).map(|reader| reader.passed).max()?;
        Some(entries.total() - furthest)
    }

    /// How many entries there ever were.
    pub fn count(&self) -> u64 {
        self.lock().next()
    }

    /// Bytes of all entries that there ever were.
    pub fn written(&self) -> u64 {
        self.lock().total()
    }

    /// Changes whenever a reader that counts for [`Self::lag`] joins, gets on or leaves.
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
                let end = entries.kept.len().min(skip.saturating_add(limit));
                return Ok(entries.kept.range(skip..end).cloned().collect());
            }
            if seen.closed {
                return Err(FollowEnd::Closed);
            }
            // The sender lives in the history that this follower holds.
            self.head.changed().await.map_err(|_| FollowEnd::Closed)?;
        }
    }

    /// Number of the entry that comes next.
    fn position(&self) -> u64 {
        self.next
    }

    /// Says that the next `count` entries have been dealt with.
    pub fn advance(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut guard = self.history.lock();
        let entries = &mut *guard;
        let from = self.next.saturating_sub(entries.first);
        self.next += count as u64;
        let until = self.next.saturating_sub(entries.first);
        let range = usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(until).unwrap_or(usize::MAX);
        // What has been dropped meanwhile isn't counted, until the reader finds out that it fell behind.
        let end = range.end.min(entries.kept.len());
        let bytes: usize = entries.kept.range(range.start.min(end)..end).map(Entry::weight).sum();
        let (first, dropped) = (entries.first, entries.passed);
        let reader = entries.readers.get_mut(&self.id).expect("readers are there for as long as their followers");
        if reader.next < first && self.next >= first {
            // It was overtaken on the way and has caught up: some of its entries can't be counted any more, but all that
            // were dropped can.
            reader.passed = dropped;
        }
        reader.passed += bytes as u64;
        reader.next = self.next;
        let counts = reader.counts;
        drop(guard);
        self.tell(counts);
    }

    /// How many bytes it has passed on, or passed over, since the beginning.
    fn passed(&self) -> u64 {
        let entries = self.history.lock();
        entries.readers.get(&self.id).map_or(0, |reader| reader.passed)
    }

    /// Goes on with the first entry that is kept, where the one that would be next is kept no longer. Answers the bytes
    /// that are passed over.
    pub fn skip_dropped(&mut self) -> u64 {
        let mut guard = self.history.lock();
        let entries = &mut *guard;
        if self.next >= entries.first {
            return 0;
        }
        self.next = entries.first;
        let dropped = entries.passed;
        let reader = entries.readers.get_mut(&self.id).expect("readers are there for as long as their followers");
        let skipped = dropped.saturating_sub(reader.passed);
        reader.passed = reader.passed.max(dropped);
        reader.next = self.next;
        let counts = reader.counts;
        drop(guard);
        self.tell(counts);
        skipped
    }
}

impl<T> Follower<T> {
    /// Says that it has got on or leaves, unless it is somebody for whom nobody waits.
    fn tell(&self, counts: bool) {
        if counts {
            self.history.progress.send_replace(());
        }
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        let mut entries = self.history.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = entries.readers.remove(&self.id).is_some_and(|reader| reader.counts);
        drop(entries);
        self.tell(counts);
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
        let history = Arc::new(History::new(Retention::latest(1024)));
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
        let history = Arc::new(History::new(Retention::latest(1024)));
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
        let history = Arc::new(History::new(Retention::latest(1)));
        let mut follower = history.follow_new();
        history.append(line("a"));
        history.append(line("b"));
        assert_eq!(follower.next(10).await, Err(FollowEnd::FellBehind));
        let (backlog, _) = history.follow();
        assert_eq!(texts(&backlog), ["b"]);
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_can_go_on_with_what_is_kept() {
        let history = Arc::new(History::new(Retention::latest(2 * line("0").weight())));
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
        let history = Arc::new(History::new(Retention::latest(2 * line("0").weight())));
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
        let history = Arc::new(History::new(Retention::latest(1024)));
        let mut follower = history.follow_new();
        history.append(line("a"));
        history.close();
        history.append(line("too late"));
        assert_eq!(texts(&follower.next(10).await.expect("one")), ["a"]);
        follower.advance(1);
        assert_eq!(follower.next(10).await, Err(FollowEnd::Closed));
    }

    #[tokio::test]
    async fn a_reader_that_was_overtaken_while_it_passed_entries_on_is_not_behind_once_it_has_all() {
        let weight = line("0").weight();
        let history = Arc::new(History::new(Retention::latest(4 * weight)));
        let mut slow = history.follow_new();
        for number in 0..4 {
            history.append(line(&number.to_string()));
        }
        let batch = slow.next(10).await.expect("four entries");
        // Two that it is passing on are dropped meanwhile.
        history.append(line("4"));
        history.append(line("5"));
        slow.advance(batch.len());
        assert_eq!(history.lag(), Some(2 * weight as u64));
        let batch = slow.next(10).await.expect("nothing was dropped that it hadn't taken");
        slow.advance(batch.len());
        assert_eq!(history.lag(), Some(0));
    }

    #[tokio::test]
    async fn what_everybody_has_read_is_kept_no_longer_than_the_latest() {
        let weight = line("0").weight();
        let retention = Retention { first: 0, latest: 2 * weight, behind: 100 * weight };
        let history = Arc::new(History::new(retention));
        let mut reader = history.follow_new();
        for _ in 0..50 {
            history.append(line("0"));
        }
        let batch = reader.next(100).await.expect("all");
        reader.advance(batch.len());
        drop(reader);
        assert_eq!(history.follow().0.len(), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn readers_that_join_while_entries_are_written_see_each_exactly_once() {
        const ENTRIES: usize = 20_000;
        let history = Arc::new(History::new(Retention::latest(usize::MAX)));
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
