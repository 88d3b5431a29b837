//! What a call may cost, counted while it runs; and the name of what it exceeded, told from the way it ended.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Trap, UpdateDeadline};

use super::config::Budget;
use super::decision::CallFailure;
use super::host::Forbidden;

/// Core instances that one component may consist of. A component of several languages has dozens; only a hostile one has
/// more than this.
pub(super) const PARTS: u32 = 128;
/// Memories that one component may have. Its modules usually share one.
pub(super) const MEMORIES: u32 = 8;
/// Tables that one component may have.
pub(super) const TABLES: u32 = 32;

/// Ticks after which a call counts as slow.
const SLOW: u64 = 2;
/// For how many ticks a slow call has its place, before it is the turn of another that waits.
const TURN: u64 = 5;

/// Where slow calls wait for each other: only half of the machine's threads are theirs at any moment. So however many
/// guests loop at once, whatever else the server does hardly notices.
///
/// No plugin keeps another's slow calls from getting on, however many of its own there are: of each plugin only so many
/// as there are places are in the lane or in its queue, the others wait among themselves; and a call that has had its
/// place for a few ticks goes to the end of the queue.
#[derive(Debug, Clone)]
pub(super) struct SlowLane {
    places: usize,
    /// The places.
    all: Arc<Semaphore>,
    /// Which calls of one plugin may try to get one.
    own: Arc<Semaphore>,
}

impl SlowLane {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_places((threads / 2).max(1))
    }

    fn with_places(places: usize) -> Self {
        Self { places, all: Arc::new(Semaphore::new(places)), own: Arc::new(Semaphore::new(places)) }
    }

    /// The same places, for the calls of one more plugin.
    pub(super) fn of_one_plugin(&self) -> Self {
        Self { places: self.places, all: self.all.clone(), own: Arc::new(Semaphore::new(self.places)) }
    }

    /// Waits for a place at the end of the queue; `own` is kept by a call that had one before. Semaphores that are never
    /// closed always grant one.
    async fn enter(self, own: Option<OwnedSemaphorePermit>) -> Option<Held> {
        let own = match own {
            Some(own) => own,
            None => self.own.acquire_owned().await.ok()?,
        };
        Some(Held { _place: self.all.acquire_owned().await.ok()?, own })
    }
}

/// A call's place in the slow lane, once it has one. It is left with the call, and while the guest waits for the host.
#[derive(Debug, Default)]
pub(super) struct Place {
    permit: Mutex<Option<Held>>,
    /// The guest has the thread, or would have it if it hadn't been interrupted by a tick.
    computing: AtomicBool,
}

/// What a call has that is in the lane.
#[derive(Debug)]
struct Held {
    _place: OwnedSemaphorePermit,
    /// Its part of what its plugin may have there.
    own: OwnedSemaphorePermit,
}

impl Place {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, held: Option<Held>) {
        *self.held() = held;
    }

    fn is_taken(&self) -> bool {
        self.held().is_some()
    }

    /// Gives the place up, and what it takes to wait for another.
    fn leave(&self) -> Option<OwnedSemaphorePermit> {
        self.held().take().map(|held| held.own)
    }

    /// Runs a call, and leaves its place to others whenever the guest waits for something that isn't a tick: a host
    /// function that sleeps. Once it computes on for longer than a tick, it waits for a place again.
    pub(super) async fn run<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        std::future::poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            if polled.is_pending() && !self.computing.load(Ordering::Relaxed) {
                self.set(None);
            }
            polled
        })
        .await
    }
}

/// What one instance has used of its budget.
#[derive(Debug)]
pub(super) struct Limits {
    budget: Budget,
    lane: SlowLane,
    place: Arc<Place>,
    ticks: u64,
    /// Ticks that it has had its place in the lane for.
    turn: u64,
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
        Self { budget, lane, place: Arc::default(), ticks: 0, turn: 0, ticks_left, memory: 0, table: 0, exceeded: None }
    }

    /// The call's place in the slow lane.
    pub(super) fn place(&self) -> Arc<Place> {
        self.place.clone()
    }

    /// The next call begins in the same instance: it has its time anew, and what is allocated stays charged.
    pub(super) fn renew(&mut self) {
        self.place = Arc::default();
        self.ticks = 0;
        self.turn = 0;
        self.ticks_left = u64::from(self.budget.time_ms);
        self.exceeded = None;
    }

    /// Bytes of linear memory that the instance has.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes of linear memory that it may have.
    pub(super) fn most_memory(&self) -> usize {
        self.budget.memory()
    }

    /// Whether it was refused memory, or elements of a table.
    pub(super) fn was_refused(&self) -> bool {
        self.exceeded.is_some()
    }

    /// From now on neither time nor memory counts. For what the host itself runs in an instance, once the guest's own part
    /// is over.
    pub(super) fn lift(&mut self) {
        self.ticks_left = u64::MAX;
        self.budget.memory_bytes = Some(usize::MAX);
    }

    /// A tick of the clock found the guest computing: charge it, and let others have the thread.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        if self.ticks_left == 0 {
            self.exceeded = Some(Exceeded::Time);
            return UpdateDeadline::Interrupt;
        }
        self.ticks_left -= 1;
        self.ticks += 1;
        let taken = self.place.is_taken();
        self.turn = if taken { self.turn + 1 } else { 0 };
        let lane = (self.ticks >= SLOW && (!taken || self.turn >= TURN)).then(|| self.lane.clone());
        let place = self.place.clone();
        place.computing.store(true, Ordering::Relaxed);
        if lane.is_some() {
            self.turn = 0;
        }
        let wait = async move {
            if let Some(lane) = lane {
                let own = place.leave();
                place.set(lane.enter(own).await);
            }
            // Where there was nobody to wait for, the thread is left to others all the same.
            tokio::task::yield_now().await;
            place.computing.store(false, Ordering::Relaxed);
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
            (Some(Exceeded::Memory), _) => CallFailure::OutOfMemory(self.budget.memory()),
            (Some(Exceeded::Table), _) => CallFailure::TableOverflow(self.budget.table_elements),
            (None, Some(Trap::MemoryOutOfBounds)) => {
                CallFailure::Trapped("out of bounds memory access, as when a guest overflows its own stack".into())
            }
            (None, Some(trap)) => CallFailure::Trapped(trap.to_string()),
            (None, None) if error.is::<PoolConcurrencyLimitError>() => CallFailure::Busy,
            (None, None) if error.is::<Forbidden>() => CallFailure::Trapped(error.root_cause().to_string()),
            (None, None) if is_hoarding(error) => CallFailure::Trapped("it holds more handles than it may have".into()),
            (None, None) if is_oversize(error) => CallFailure::Oversize(self.budget.answer_bytes),
            (None, None) => CallFailure::InvalidAnswer(error.root_cause().to_string()),
        }
    }
}

/// Whether a call ended because it handed the host too much. Wasmtime's error for that has no public type, only a text.
fn is_oversize(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls has been exhausted"))
}

/// Whether a call ended because the guest held too many handles: of what WASI keeps for it, or of all together, for which
/// there is only a text.
fn is_hoarding(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        || error.chain().any(|cause| cause.to_string().contains("store handle limit exceeded"))
}

/// Whether a memory or table is to become larger than it says itself that it can be. That is refused in any case, and is
/// neither used nor a matter of the budget.
fn is_beyond(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_some_and(|maximum| desired > maximum)
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if is_beyond(desired, maximum) {
            return Ok(false);
        }
        let total = self.memory.saturating_add(desired - current);
        if total > self.budget.memory() {
            self.exceeded = Some(Exceeded::Memory);
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if is_beyond(desired, maximum) {
            return Ok(false);
        }
        let total = self.table.saturating_add(desired - current);
        if total > self.budget.table_elements {
            self.exceeded = Some(Exceeded::Table);
            return Ok(false);
        }
        self.table = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let budget = Budget { time_ms: 2, memory_bytes: Some(100), table_elements: 10, ..Budget::default() };
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
    fn growth_beyond_a_maximum_of_its_own_is_refused_without_being_charged() {
        let mut limits = limits();
        assert!(!limits.memory_growing(0, 1_000, Some(50)).unwrap());
        assert!(!limits.table_growing(0, 1_000, Some(5)).unwrap());
        let trap = wasmtime::Error::from(Trap::UnreachableCodeReached);
        assert!(matches!(limits.failure(&trap), CallFailure::Trapped(_)));
        assert!(limits.memory_growing(0, 100, Some(100)).unwrap());
        assert!(limits.table_growing(0, 10, Some(10)).unwrap());
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
        assert!(matches!(limits.tick(), UpdateDeadline::YieldCustom(1, _)));
        assert!(matches!(limits.tick(), UpdateDeadline::YieldCustom(1, _)));
        assert!(matches!(limits.tick(), UpdateDeadline::Interrupt));
        let error = wasmtime::Error::from(Trap::Interrupt);
        assert_eq!(limits.failure(&error), CallFailure::TimedOut(std::time::Duration::from_millis(2)));
    }

    #[tokio::test]
    async fn of_many_slow_calls_a_few_run_at_a_time_and_the_next_follows_when_one_ends() {
        let lane = SlowLane::with_places(2);
        let budget = Budget { time_ms: 100, ..Budget::default() };
        let mut calls: Vec<_> = (0..5).map(|_| Limits::new(budget, lane.clone())).collect();
        let mut waits = Vec::new();
        for call in &mut calls {
            let UpdateDeadline::YieldCustom(1, first) = call.tick() else { panic!("it is interrupted") };
            first.await;
            assert!(!call.place.is_taken(), "the first tick is everybody's");
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
        assert!(calls[0].place.is_taken() && calls[1].place.is_taken());

        calls.remove(0);
        let mut rest = rest.into_iter();
        rest.next().unwrap().await.unwrap();
        assert!(rest.all(|wait| !wait.is_finished()));
    }

    #[tokio::test]
    async fn a_plugin_that_loops_in_all_its_calls_leaves_another_its_turns_in_the_lane() {
        let lanes = SlowLane::with_places(2);
        let (looping, other) = (lanes.of_one_plugin(), lanes.of_one_plugin());
        let ended = Arc::new(AtomicBool::new(false));
        let loops = |lane: &SlowLane| {
            let budget = Budget { time_ms: u32::MAX, ..Budget::default() };
            let (mut limits, ended) = (Limits::new(budget, lane.clone()), ended.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let UpdateDeadline::YieldCustom(1, wait) = limits.tick() else { panic!("it has time left") };
                    wait.await;
                }
            })
        };
        let all: Vec<_> = (0..32).map(|_| loops(&looping)).collect();
        // Both places are taken, and one that has them has them for good if it doesn't give them up.
        while lanes.all.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let budget = Budget { time_ms: 100, ..Budget::default() };
        let mut limits = Limits::new(budget, other);
        let turns = async {
            for _ in 0..100 {
                let UpdateDeadline::YieldCustom(1, wait) = limits.tick() else { panic!("it has time left") };
                wait.await;
            }
        };
        let done = tokio::time::timeout(std::time::Duration::from_secs(60), turns).await;
        ended.store(true, Ordering::Relaxed);
        assert!(done.is_ok(), "it never gets its turn");
        for one in all {
            one.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_guest_that_waits_for_the_host_leaves_its_place_and_one_that_gives_way_keeps_it() {
        let lane = SlowLane::with_places(1);
        let budget = Budget { time_ms: 100, ..Budget::default() };
        let mut limits = Limits::new(budget, lane.clone());
        let place = limits.place();
        let (wake, asleep) = tokio::sync::oneshot::channel::<()>();
        let watched = place.clone();
        let guest = async move {
            for _ in 0..5 {
                let UpdateDeadline::YieldCustom(1, wait) = limits.tick() else { panic!("it has time left") };
                wait.await;
            }
            assert!(limits.place.is_taken());
            asleep.await.unwrap();
            assert!(!limits.place.is_taken());
            let UpdateDeadline::YieldCustom(1, wait) = limits.tick() else { panic!("it has time left") };
            wait.await;
            assert!(limits.place.is_taken());
        };
        let guest = tokio::spawn(async move { watched.run(guest).await });
        // As soon as it sleeps, somebody else gets the only place.
        let mut other = Limits::new(budget, lane.clone());
        tokio::task::yield_now().await;
        for _ in 0..2 {
            let UpdateDeadline::YieldCustom(1, wait) = other.tick() else { panic!("it has time left") };
            let waited = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await;
            assert!(waited.is_ok(), "the one that sleeps keeps its place");
        }
        drop(other);
        wake.send(()).unwrap();
        guest.await.unwrap();
    }
}
