//! Counting what happens: histograms, and the figures of commands.
//!
//! Whoever counts (`plugins`, `socket`) must not notice: a count is a few additions that wait for nobody. `http` reads the
//! figures when somebody asks. Nothing here knows how they are written down.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::plugins::decision::CommandKind;

/// The most bounds that a histogram may have.
const MOST: usize = 20;

/// Copies that are counted in by different threads, so that they don't wait for each other's caches.
const SHARDS: usize = 8;

/// Something that is counted in by many threads at once: one copy for each of a few groups of them. Aligned to two lines
/// of a cache, which processors fetch in pairs.
#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[Shard<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard<T>(T);

impl<T> Sharded<T> {
    /// So many copies as `new` makes.
    pub(crate) fn new(new: impl Fn() -> T) -> Self {
        Self((0..SHARDS).map(|_| Shard(new())).collect())
    }

    /// The copy of this thread.
    pub(crate) fn mine(&self) -> &T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static MINE: Cell<Option<usize>> = const { Cell::new(None) });
        let index = MINE.with(|mine| {
            mine.get().unwrap_or_else(|| {
                let index = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
                mine.set(Some(index));
                index
            })
        });
        &self.0[index].0
    }

    /// All copies.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

/// How long something took, in fixed steps.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: for what is beyond the last.
    buckets: [AtomicU64; MOST + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Counts into steps of so many microseconds; `bounds` rise, and there are 20 of them at most.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() <= MOST && bounds.is_sorted(), "the bounds are constants of this program");
        Self { bounds, buckets: [const { AtomicU64::new(0) }; MOST + 1], sum_nanos: AtomicU64::new(0) }
    }

    /// Counts one.
    pub(crate) fn record(&self, time: Duration) {
        let micros = time.as_nanos().div_ceil(1_000);
        let place = self.bounds.partition_point(|bound| u128::from(*bound) < micros);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub(crate) fn now(&self) -> Durations {
        Durations {
            bounds: self.bounds,
            buckets: self.buckets[..=self.bounds.len()].iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)),
        }
    }
}

/// How long things took, as it was counted at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    /// The upper bounds of the steps, in microseconds.
    pub bounds: &'static [u64],
    /// How many fell into each step, and, at last, how many were beyond.
    pub buckets: Vec<u64>,
    /// How long they took together.
    pub sum: Duration,
}

impl Durations {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what was counted elsewhere with the same bounds.
    pub(crate) fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }
}

/// The steps that commands are counted in: from 100 µs to five minutes.
const COMMAND_STEPS: &[u64] = &[
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// The codes that a command may be answered with, 0 for success. One that isn't among them is counted as 5000.
const CODES: [u16; 12] = [0, 5000, 5001, 5002, 5003, 5004, 5005, 5006, 5007, 5008, 5403, 5422];

/// What is said of commands that can't be read, instead of what they ask for.
const UNREAD: usize = 8;
const KINDS: [&str; 9] = [
    "deploy",
    "destroy",
    "stop-node",
    "start-node",
    "restart-node",
    "list-shells",
    "open-shell",
    "close-shell",
    "unreadable",
];

/// What a command asks for, in logs and metrics.
pub fn kind_name(kind: CommandKind) -> &'static str {
    KINDS[kind as usize]
}

/// The commands that were answered: how, and how long it took.
#[derive(Debug)]
pub struct CommandCounts {
    codes: [[AtomicU64; CODES.len()]; KINDS.len()],
    times: [Histogram; KINDS.len()],
}

impl Default for CommandCounts {
    fn default() -> Self {
        Self {
            codes: [const { [const { AtomicU64::new(0) }; CODES.len()] }; KINDS.len()],
            times: std::array::from_fn(|_| Histogram::new(COMMAND_STEPS)),
        }
    }
}

/// Commands of one kind, as they were counted at one moment.
#[derive(Debug, Clone)]
pub struct CommandReport {
    /// What they asked for.
    pub kind: &'static str,
    /// How many were answered with each code, 0 for success. Codes that there were none of are left out.
    pub codes: Vec<(u16, u64)>,
    /// How long it took to answer them.
    pub times: Durations,
}

impl CommandCounts {
    /// Counts a command that was answered with `code`, or with success; `None`: it couldn't be read.
    pub fn record(&self, kind: Option<CommandKind>, code: Option<u16>, time: Duration) {
        let kind = kind.map_or(UNREAD, |kind| kind as usize);
        // 5000 is what has no code of its own.
        let code = CODES.iter().position(|known| *known == code.unwrap_or(0)).unwrap_or(1);
        self.codes[kind][code].fetch_add(1, Ordering::Relaxed);
        self.times[kind].record(time);
    }

    /// What has been counted so far, for the kinds that there were any of.
    pub fn now(&self) -> Vec<CommandReport> {
        let report = |index: usize| {
            let codes = CODES.iter().zip(&self.codes[index]);
            let codes = codes.map(|(code, count)| (*code, count.load(Ordering::Relaxed)));
            CommandReport {
                kind: KINDS[index],
                codes: codes.filter(|(_, count)| *count > 0).collect(),
                times: self.times[index].now(),
            }
        };
        (0..KINDS.len()).map(report).filter(|report| !report.codes.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_step_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[5, 10]);
        for nanos in [0, 5_000, 5_001, 10_000, 10_001, 9_000_000_000] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let now = histogram.now();
        assert_eq!(now.buckets, [2, 2, 2]);
        assert_eq!((now.count(), now.sum), (6, Duration::from_nanos(9_000_030_002)));
    }

    #[test]
    fn copies_of_many_threads_add_up() {
        let counts = Sharded::new(AtomicU64::default);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..100).for_each(|_| _ = counts.mine().fetch_add(1, Ordering::Relaxed)));
            }
        });
        assert_eq!(counts.all().map(|count| count.load(Ordering::Relaxed)).sum::<u64>(), 2_000);
    }

    #[test]
    fn commands_are_counted_by_kind_and_code() {
        let counts = CommandCounts::default();
        assert!(counts.now().is_empty());
        counts.record(Some(CommandKind::Deploy), None, Duration::from_secs(2));
        counts.record(Some(CommandKind::Deploy), Some(5403), Duration::from_micros(90));
        counts.record(None, Some(5422), Duration::ZERO);
        counts.record(Some(CommandKind::CloseShell), Some(9999), Duration::ZERO);
        let now = counts.now();
        let seen: Vec<_> = now.iter().map(|report| (report.kind, report.codes.as_slice())).collect();
        let expected: [(&str, &[(u16, u64)]); 3] =
            [("deploy", &[(0, 1), (5403, 1)]), ("close-shell", &[(5000, 1)]), ("unreadable", &[(5422, 1)])];
        assert_eq!(seen, expected);
        assert_eq!(now[0].times.count(), 2);
        assert_eq!(kind_name(CommandKind::OpenShell), "open-shell");
    }
}
