//! Who may do something to an instance at the moment: many to its nodes, or one who takes it down.

use std::future::Future;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Mutex, RwLock, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

use super::driver::Shared;

/// An instance for as long as something is being done to it or its nodes: nothing is done to a node while it is destroyed, and
/// whatever was begun ends when that is asked for.
pub(super) struct Life {
    /// Those who do something to nodes read, whoever destroys writes.
    turn: RwLock<()>,
    /// Held by whoever makes links again: of two neighbours that were restarted at once, both would make the same.
    pub(super) linking: Mutex<()>,
    /// Cancelled by whoever destroys it, and with the server.
    pub(super) over: CancellationToken,
}

impl Shared {
    /// The instance of that name, which exists for as long as somebody holds the answer.
    pub(super) fn life(&self, instance: &str) -> Arc<Life> {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|_, life| life.strong_count() > 0);
        if let Some(life) = lives.get(instance).and_then(Weak::upgrade) {
            return life;
        }
        let life =
            Arc::new(Life { turn: RwLock::default(), linking: Mutex::default(), over: self.closing.child_token() });
        lives.insert(instance.to_owned(), Arc::downgrade(&life));
        life
    }
}

impl Life {
    /// Does `work` unless the instance is destroyed meanwhile. `None`: `work` was left where it was.
    pub(super) async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let _turn = self.over.run_until_cancelled(self.turn.read()).await?;
        // It is not dropped in its middle: it is told, and ends as soon as what it runs has ended.
        if self.over.is_cancelled() {
            return None;
        }
        Some(work.await)
    }

    /// Ends what is being done to its nodes, and keeps others from beginning anything while the answer is held.
    pub(super) async fn end(&self) -> RwLockWriteGuard<'_, ()> {
        self.over.cancel();
        self.turn.write().await
    }
}
