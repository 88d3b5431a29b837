//! Who may run at the same time: tests that look at the whole machine's lists want to be alone.
//!
//! Every place of servers holds a shared turn from its first server on, for as long as it is kept, and so does every other run
//! of the program. Whoever shares never waits for somebody who wants to be alone, since a test that has one server and starts
//! another would wait for ever.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

static TURNS: Mutex<Turns> = Mutex::new(Turns { shared: 0, alone: false });
static CHANGED: Notify = Notify::const_new();

struct Turns {
    shared: u32,
    alone: bool,
}

/// Held by a server and its place.
#[derive(Debug, Clone)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held for what its drop does")] Arc<Inner>);

#[derive(Debug)]
struct Inner {
    alone: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut turns = TURNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.alone {
            turns.alone = false;
        } else {
            turns.shared -= 1;
        }
        drop(turns);
        CHANGED.notify_waiters();
    }
}

/// Waits until nobody is alone.
pub(crate) async fn shared() -> Turn {
    take(|turns| {
        let free = !turns.alone;
        turns.shared += u32::from(free);
        free
    })
    .await;
    Turn(Arc::new(Inner { alone: false }))
}

/// Waits until there is no server, and keeps others from starting one until it is dropped.
pub(crate) async fn alone() -> Turn {
    take(|turns| {
        let free = !turns.alone && turns.shared == 0;
        turns.alone |= free;
        free
    })
    .await;
    Turn(Arc::new(Inner { alone: true }))
}

async fn take(mut attempt: impl FnMut(&mut Turns) -> bool) {
    loop {
        let changed = CHANGED.notified();
        if attempt(&mut TURNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)) {
            return;
        }
        changed.await;
    }
}
