//! Namespaces that come and go. Registering a path that is live would orphan its sockets, so that what is registered is
//! remembered here.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use socketioxide::SocketIo;

/// The paths that are registered at present.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    live: Mutex<HashSet<String>>,
}

impl Namespaces {
    /// Calls `register` unless `path` is live already.
    pub(super) fn ensure(&self, path: String, register: impl FnOnce(String)) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.insert(path.clone()) {
            // Under the lock: two at once must not both register, and whoever finds it live may rely on it.
            register(path);
        }
    }

    /// Disconnects everybody and removes `path`. Clients that try again are told that it doesn't exist.
    pub(super) async fn remove(&self, io: &SocketIo, path: &str) {
        // Removing the namespace alone would tell clients nothing.
        if let Some(sockets) = io.of(path)
            && let Err(error) = sockets.disconnect().await
        {
            tracing::debug!(path, %error, "not every socket could be told that its namespace has gone");
        }
        // Deleted before it is forgotten, so that `ensure` can't register it in between and lose it again.
        io.delete_ns(path);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }
}
