//! Namespaces that come and go. Registering a path that is live would orphan its sockets, so that what is registered is
//! remembered here.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use socketioxide::extract::SocketRef;
use socketioxide::{SendError, SocketIo};

use super::access;
use super::message::{Undeliverable, until_not_full};

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

    /// [`Self::remove`] for a path that may not be live.
    pub(super) fn remove_if_live(&self, io: &SocketIo, path: &str) {
        let is_live = self.live.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        if is_live {
            self.remove(io, path);
        }
    }

    /// Disconnects everybody and removes `path`. Clients that try again are told that it doesn't exist. Doesn't wait for
    /// clients: one that doesn't take the news within a few seconds loses its transport.
    pub(super) fn remove(&self, io: &SocketIo, path: &str) {
        // Removing the namespace alone would tell clients nothing.
        for socket in io.of(path).map(|namespace| namespace.sockets()).unwrap_or_default() {
            // At once where that is possible, so that clients hear of it before whatever announces it.
            if socket.clone().disconnect().is_err() {
                tokio::spawn(disconnect(move || Some(socket.clone())));
            }
        }
        // Deleted before it is forgotten, so that `ensure` can't register it in between and lose it again.
        io.delete_ns(path);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }
}

/// Tells a client that it has left a namespace, as soon as there is room in its queue; one that makes none loses its
/// transport.
pub(super) async fn disconnect(socket: impl Fn() -> Option<SocketRef>) {
    let attempt = || socket().map_or(Ok(()), |socket| socket.disconnect().map_err(SendError::Socket));
    let told = until_not_full(attempt).await;
    if told == Err(Undeliverable::Stuck)
        && let Some(socket) = socket()
    {
        tracing::info!(socket = %socket.id, namespace = socket.ns(), "a client is cut: it doesn't read");
        access::kill(&socket);
    }
}
