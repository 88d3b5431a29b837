//! Slows down guessing of passwords: so many failures at once, and then one every so often.
//!
//! Only failures count, so that a full classroom behind one address logs in as fast as it can type. A failure is therefore
//! charged after the fact, or given back, and before the next try it is only looked at whether there is room, which
//! ready-made limiters can't do: theirs take when they look. The table has a fixed size, whatever is sent: keys that share a place share its
//! room, and which do is known to nobody, since places depend on random numbers of this process.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many places a table has: half a megabyte.
const PLACES: usize = 1 << 16;

/// Failures by key.
#[derive(Debug)]
pub(super) struct Throttle {
    /// For each place, when all that was charged to it will be forgotten: nanoseconds since `start`.
    paid_off: Box<[AtomicU64]>,
    hasher: RandomState,
    start: Instant,
    burst: u64,
    every: u64,
}

impl Throttle {
    /// Lets `burst` failures through at once, and one more for each time that `every` has gone by.
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Self {
            paid_off: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            start: Instant::now(),
            burst: burst.into(),
            every: nanoseconds(every),
        }
    }

    /// How long to wait before the next try; zero: not at all.
    pub(super) fn wait(&self, key: &impl Hash) -> Duration {
        self.wait_at(key, self.start.elapsed())
    }

    /// Charges a failure.
    pub(super) fn charge(&self, key: &impl Hash) {
        self.charge_at(key, self.start.elapsed());
    }

    /// Takes back what was charged for something that turned out to be no failure.
    pub(super) fn give_back(&self, key: &impl Hash) {
        let less = |paid_off: u64| Some(paid_off.saturating_sub(self.every));
        let _ = self.place(key).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn place(&self, key: &impl Hash) -> &AtomicU64 {
        let places = u64::try_from(PLACES).unwrap_or(u64::MAX);
        let index = usize::try_from(self.hasher.hash_one(key) % places).unwrap_or_default();
        &self.paid_off[index]
    }

    fn wait_at(&self, key: &impl Hash, now: Duration) -> Duration {
        let paid_off = self.place(key).load(Ordering::Relaxed);
        // There is room while less than the whole burst is owed.
        let room_from = paid_off.saturating_sub((self.burst - 1) * self.every);
        Duration::from_nanos(room_from.saturating_sub(nanoseconds(now)))
    }

    fn charge_at(&self, key: &impl Hash, now: Duration) {
        let now = nanoseconds(now);
        // No more is owed than a burst: tries that were under way together don't keep somebody waiting for longer.
        let most = now.saturating_add(self.burst * self.every);
        let charged = |paid_off: u64| Some(paid_off.max(now).saturating_add(self.every).min(most));
        let _ = self.place(key).fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
    }
}

/// As far as they go: 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_one_every_so_often() {
        let throttle = Throttle::new(3, Duration::from_secs(5));
        let now = Duration::from_secs(100);
        for _ in 0..3 {
            assert_eq!(throttle.wait_at(&"a", now), Duration::ZERO);
            throttle.charge_at(&"a", now);
        }
        assert_eq!(throttle.wait_at(&"a", now), Duration::from_secs(5));
        assert_eq!(throttle.wait_at(&"a", now + Duration::from_secs(4)), Duration::from_secs(1));
        let later = now + Duration::from_secs(5);
        assert_eq!(throttle.wait_at(&"a", later), Duration::ZERO);
        throttle.charge_at(&"a", later);
        assert_eq!(throttle.wait_at(&"a", later), Duration::from_secs(5));
        // All is forgotten in the end.
        let end = later + Duration::from_secs(15);
        for _ in 0..3 {
            assert_eq!(throttle.wait_at(&"a", end), Duration::ZERO);
            throttle.charge_at(&"a", end);
        }
    }

    #[test]
    fn more_failures_than_there_is_room_for_do_not_add_up() {
        let throttle = Throttle::new(3, Duration::from_secs(5));
        for _ in 0..1000 {
            throttle.charge_at(&"a", Duration::ZERO);
        }
        assert_eq!(throttle.wait_at(&"a", Duration::ZERO), Duration::from_secs(5));
    }

    #[test]
    fn what_was_no_failure_does_not_count() {
        let throttle = Throttle::new(3, Duration::from_secs(5));
        for _ in 0..10 {
            throttle.charge(&"a");
            throttle.give_back(&"a");
        }
        assert_eq!(throttle.wait(&"a"), Duration::ZERO);
        // Nor does it count for more than nothing.
        for _ in 0..10 {
            throttle.give_back(&"a");
        }
        for _ in 0..3 {
            throttle.charge(&"a");
        }
        assert_ne!(throttle.wait(&"a"), Duration::ZERO);
    }

    #[test]
    fn other_keys_are_not_held_up() {
        let throttle = Throttle::new(3, Duration::from_secs(5));
        for _ in 0..3 {
            throttle.charge_at(&"a", Duration::ZERO);
        }
        // Some may share its place, but not many.
        let free = (0..1000).filter(|key: &i32| throttle.wait_at(key, Duration::ZERO).is_zero()).count();
        assert!(free > 990, "{free}");
    }
}
