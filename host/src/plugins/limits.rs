//! What a call may cost, counted while it runs; and the name of what it exceeded, told from the way it ended.

use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Trap, UpdateDeadline};

use super::config::Budget;
use super::decision::CallFailure;
use super::host::Forbidden;

/// Core instances, memories and tables that one component may consist of. A component of several languages has dozens;
/// only a hostile one has more than this.
const PARTS: usize = 128;

/// Ticks after which a call counts as slow.
const SLOW: u64 = 2;

/// Where slow calls wait for each other: only half of the machine's threads are theirs at any moment. So however many
/// guests loop at once, whatever else the server does hardly notices.
#[derive(Debug, Clone)]
pub(super) struct SlowLane(Arc<Semaphore>);

impl SlowLane {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((threads / 2).max(1))))
    }
}

/// A call's place in the slow lane, once it has one. It is left with the call.
type Place = Arc<OnceLock<OwnedSemaphorePermit>>;

/// What one instance has used of its budget.
#[derive(Debug)]
pub(super) struct Limits {
    budget: Budget,
    lane: SlowLane,
    place: Option<Place>,
    ticks: u64,
    ticks_left: u64,
    memory: usize,
    table: usize,
    exceeded: Option<Exceeded>,
}

/// What was refused to it, or ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exceeded {
    Time,
    Memory,
    Table,
}

impl Limits {
    /// Nothing used yet.
    pub(super) fn new(budget: Budget, lane: SlowLane) -> Self {
        let ticks_left = u64::from(budget.time_ms);
        Self { budget, lane, place: None, ticks: 0, ticks_left, memory: 0, table: 0, exceeded: None }
    }

    /// From now on time doesn't count. For what the host itself runs in an instance, once the guest's own part is over.
    pub(super) fn lift_time(&mut self) {
        self.ticks_left = u64::MAX;
    }

    /// A tick of the clock found the guest computing: charge it, and let others have the thread.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        if self.ticks_left == 0 {
            self.exceeded = Some(Exceeded::Time);
            return UpdateDeadline::Interrupt;
        }
        self.ticks_left -= 1;
        self.ticks += 1;
        if self.ticks < SLOW || self.place.is_some() {
            return UpdateDeadline::Yield(1);
        }
        let place = Place::default();
        self.place = Some(place.clone());
        let lane = self.lane.0.clone();
        let wait = async move {
            if let Ok(permit) = lane.acquire_owned().await {
                // Nobody else sets it, and a semaphore that is never closed always grants one.
                let _ = place.set(permit);
            }
            // Where there was nobody to wait for, the thread is left to others all the same.
            tokio::task::yield_now().await;
        };
        UpdateDeadline::YieldCustom(1, Box::pin(wait))
    }

    /// Why a call failed that ended with `error`.
    ///
    /// A guest that is refused memory usually goes on to trap, by a means that says nothing of memory; so what was
    /// refused to it counts for more than how it ended.
    pub(super) fn failure(&self, error: &wasmtime::Error) -> CallFailure {
        let trap = error.downcast_ref::<Trap>();
        match (self.exceeded, trap) {
            (Some(Exceeded::Time), _) | (_, Some(Trap::Interrupt)) => CallFailure::TimedOut(self.budget.time()),
            (_, Some(Trap::StackOverflow)) => CallFailure::StackOverflow,
            (Some(Exceeded::Memory), _) => CallFailure::OutOfMemory(self.budget.memory_bytes),
            (Some(Exceeded::Table), _) => CallFailure::TableOverflow(self.budget.table_elements),
            (None, Some(Trap::MemoryOutOfBounds)) => {
                CallFailure::Trapped("out of bounds memory access, as when a guest overflows its own stack".into())
            }
            (None, Some(trap)) => CallFailure::Trapped(trap.to_string()),
            (None, None) if error.is::<PoolConcurrencyLimitError>() => CallFailure::Busy,
            (None, None) if error.is::<Forbidden>() => CallFailure::Trapped(error.root_cause().to_string()),
            (None, None) if is_oversize(error) => CallFailure::Oversize(self.budget.answer_bytes),
            (None, None) => CallFailure::InvalidAnswer(error.root_cause().to_string()),
        }
    }
}

/// Whether a call ended because it handed the host too much. Wasmtime's error for that has no public type, only a text.
fn is_oversize(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls has been exhausted"))
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired - current);
        if total > self.budget.memory_bytes {
            self.exceeded = Some(Exceeded::Memory);
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table.saturating_add(desired - current);
        if total > self.budget.table_elements {
            self.exceeded = Some(Exceeded::Table);
            return Ok(false);
        }
        self.table = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let budget = Budget { time_ms: 2, memory_bytes: 100, table_elements: 10, ..Budget::default() };
        Limits::new(budget, SlowLane::new())
    }

    #[test]
    fn memory_and_tables_are_counted_over_all_of_an_instance() {
        let mut limits = limits();
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 60, None).unwrap());
        assert!(limits.memory_growing(60, 100, None).unwrap());
        assert!(limits.table_growing(0, 10, None).unwrap());
        assert!(!limits.table_growing(0, 1, None).unwrap());
    }

    #[test]
    fn what_was_refused_names_the_failure() {
        let mut limits = limits();
        let trap = || wasmtime::Error::from(Trap::UnreachableCodeReached);
        assert!(matches!(limits.failure(&trap()), CallFailure::Trapped(_)));
        limits.memory_growing(0, 101, None).unwrap();
        assert_eq!(limits.failure(&trap()), CallFailure::OutOfMemory(100));
    }

    #[test]
    fn time_is_up_after_as_many_ticks_as_were_granted() {
        let mut limits = limits();
        assert!(matches!(limits.tick(), UpdateDeadline::Yield(1)));
        assert!(matches!(limits.tick(), UpdateDeadline::YieldCustom(1, _)));
        assert!(matches!(limits.tick(), UpdateDeadline::Interrupt));
        let error = wasmtime::Error::from(Trap::Interrupt);
        assert_eq!(limits.failure(&error), CallFailure::TimedOut(std::time::Duration::from_millis(2)));
    }

    #[tokio::test]
    async fn of_many_slow_calls_a_few_run_at_a_time_and_the_next_follows_when_one_ends() {
        let lane = SlowLane(Arc::new(Semaphore::new(2)));
        let budget = Budget { time_ms: 100, ..Budget::default() };
        let mut calls: Vec<_> = (0..5).map(|_| Limits::new(budget, lane.clone())).collect();
        let mut waits = Vec::new();
        for call in &mut calls {
            assert!(matches!(call.tick(), UpdateDeadline::Yield(1)), "the first tick is everybody's");
            let UpdateDeadline::YieldCustom(1, wait) = call.tick() else { panic!("slow from here on") };
            waits.push(tokio::spawn(wait));
        }
        let mut waits = waits.into_iter();
        for wait in waits.by_ref().take(2) {
            wait.await.unwrap();
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = waits.collect();
        assert!(rest.iter().all(|wait| !wait.is_finished()));
        assert!(matches!(calls[0].tick(), UpdateDeadline::Yield(1)), "it has its place");

        calls.remove(0);
        let mut rest = rest.into_iter();
        rest.next().unwrap().await.unwrap();
        assert!(rest.all(|wait| !wait.is_finished()));
    }
}
