//! Instances that are used again, for entries with `instance: warm`.
//!
//! A fresh instance of a plugin that brings an interpreter takes about a millisecond, nearly all of it page faults. With
//! this, a call takes an instance that an earlier one has left. What that costs is isolation: whatever a call leaves in
//! the instance's memory, the next one finds, on behalf of another user perhaps. So it is an operator's choice, per
//! entry, and is said in the log when the plugin is loaded.
//!
//! ```text
//!            take()                 ended well: put()
//! (nothing) ───────► fresh ─► call ──────────────────► idle ─► take() ─► call …
//!                              │                         │
//!                              │ failed, was refused     │ used up, grown, or old
//!                              ▼ memory, was cancelled   ▼
//!                            dropped                   dropped
//! ```
//!
//! There are never more instances than the entry's `concurrency`: one is made only when none is idle, and put back before
//! its call leaves its place to another. So the pool needs no more than for calls with instances of their own.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::Instance;

use super::state::CallState;

/// Calls after which an instance is dropped: what piles up in it, ends there.
pub(super) const CALLS: u32 = 1_000;
/// How long an instance is used, from when it was made.
const AGE: Duration = Duration::from_secs(60);

/// An instance between two calls.
pub(super) struct Live {
    pub(super) store: Store<CallState>,
    pub(super) instance: Instance,
    /// What it has been used for.
    pub(super) use_: Use,
}

/// How much an instance has been used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    calls: u32,
    born: Instant,
    /// Bytes of memory that it began with.
    began_with: usize,
}

impl Use {
    /// Of an instance that was made just now and has `memory` bytes.
    pub(super) fn new(memory: usize) -> Self {
        Self { calls: 0, born: Instant::now(), began_with: memory }
    }

    /// Whether it may be used again at `now`, after one more call that left it with `memory` bytes of `most`. An instance that has
    /// taken half of what it can grow by is dropped before a call is the worse for what others have left in it.
    fn another(&mut self, now: Instant, memory: usize, most: usize) -> bool {
        self.calls += 1;
        let room = most.saturating_sub(self.began_with);
        let grown = memory.saturating_sub(self.began_with);
        self.calls < CALLS && now.duration_since(self.born) < AGE && grown <= room / 2
    }
}

/// The idle instances of one plugin. The one that was used last is taken first, so that those which too much load once
/// made grow old.
#[derive(Default)]
pub(super) struct Warm {
    idle: Arc<Mutex<Vec<Live>>>,
}

impl Warm {
    /// None yet. Needs the tokio runtime: a task drops the old ones.
    pub(super) fn new() -> Self {
        let warm = Self::default();
        tokio::spawn(sweep(Arc::downgrade(&warm.idle)));
        warm
    }

    /// An instance that is still young enough, if there is one.
    pub(super) fn take(&self) -> Option<Live> {
        let live = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        // The last one that was put is not the youngest of all, but if it is too old it is the sweeper's turn anyway.
        (live.use_.born.elapsed() < AGE).then_some(live)
    }

    /// Keeps an instance whose call ended well, unless it has been used enough.
    pub(super) fn put(&self, mut live: Live) {
        let limits = &live.store.data().limits;
        let (memory, most, was_refused) = (limits.memory(), limits.most_memory(), limits.was_refused());
        if was_refused || !live.use_.another(Instant::now(), memory, most) {
            return;
        }
        live.store.data_mut().rest();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(live);
    }
}

/// Drops instances that have grown old without being asked for. Ends with the plugin.
async fn sweep(idle: Weak<Mutex<Vec<Live>>>) {
    loop {
        tokio::time::sleep(AGE / 4).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut old = Vec::new();
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        for index in (0..idle.len()).rev() {
            if idle[index].use_.born.elapsed() >= AGE {
                old.push(idle.remove(index));
            }
        }
        // Nobody waits for the lock while they are taken apart.
        drop(idle);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_used_so_often_so_long_and_with_so_much_memory() {
        let mut often = Use::new(100);
        let now = often.born;
        assert_eq!((0..2 * CALLS).take_while(|_| often.another(now, 100, 1_000)).count(), CALLS as usize - 1);

        let mut grown = Use::new(100);
        let now = grown.born;
        assert!(grown.another(now, 550, 1_000));
        assert!(!grown.another(now, 551, 1_000));

        let mut old = Use::new(100);
        let end = old.born + AGE;
        assert!(old.another(end - Duration::from_millis(1), 100, 100));
        assert!(!old.another(end, 100, 100));
    }
}
