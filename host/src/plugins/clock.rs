//! The clock of the plugins: a thread that tells running guests, once a millisecond, that time has passed.
//!
//! A thread and not a task, since it has to tick when every worker is busy with guests. While no call runs it sleeps, so
//! that an idle server wakes nobody up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// How often running guests are interrupted: what one can delay everything else on its thread by.
const TICK: Duration = Duration::from_millis(1);
/// For how many ticks without a call it goes on, so that a server with something to do doesn't wake it for each call.
const LINGER: u32 = 1_000;

/// Handle to the clock. The thread ends with the engine that it ticks for.
#[derive(Clone)]
pub(super) struct Clock {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    /// Calls that run at the moment.
    running: AtomicUsize,
    /// Whether the thread sleeps, and wants to be woken by the next call.
    asleep: AtomicBool,
}

/// A call that runs: the clock ticks as long as there is one.
pub(super) struct Running(Arc<Shared>);

impl Clock {
    /// Starts the thread that ticks for `engine`.
    pub(super) fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { running: AtomicUsize::new(0), asleep: AtomicBool::new(false) });
        let engine = engine.weak();
        let state = Arc::downgrade(&shared);
        let thread = std::thread::Builder::new().name("plugin-clock".into()).spawn(move || {
            let mut idle = 0;
            while let (Some(engine), Some(state)) = (engine.upgrade(), state.upgrade()) {
                engine.increment_epoch();
                drop(engine);
                idle = if state.running.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
                if idle < LINGER {
                    drop(state);
                    std::thread::sleep(TICK);
                    continue;
                }
                idle = 0;
                // First say so, then look once more: a call that begins in between sees the one or is seen by the other.
                state.asleep.store(true, Ordering::SeqCst);
                if state.running.load(Ordering::SeqCst) == 0 {
                    drop(state);
                    std::thread::park();
                }
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// A call begins; it has ended when the answer is dropped.
    pub(super) fn run(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(self.shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Possibly the last one: the thread then finds that there is nothing left to tick for.
        self.thread.unpark();
    }
}
