//! Keeps a management network from being removed while somebody is about to use it: those who deploy with it enter, and whoever
//! removes it does so only while nobody is in. The driver asks; the networks themselves are `docker`'s.
//!
//! A gate rather than a lock: nobody waits to close it but for others who close it, too, and those who enter wait for the moment
//! only that removing takes. Each network has one of its own. That of the network which all labs share holds between the servers
//! of this machine as well, by a lock on a file.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The file that servers of this machine lock.
const FILE: &str = "/run/lock/antimony-management-network.lock";
/// How long somebody may keep others from entering. It takes a moment to remove a network; whoever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gates of one server.
pub(super) struct NetworkGates {
    gates: Mutex<HashMap<String, Weak<Gate>>>,
    /// The network whose gate is that of all servers.
    shared: &'static str,
    file: PathBuf,
}

#[derive(Default)]
struct Gate {
    inside: Arc<RwLock<()>>,
    /// Held by whoever is about to close it: of two who do so at once, neither is to leave it to the other.
    closing: Arc<tokio::sync::Mutex<()>>,
}

/// Somebody is in, until this is dropped.
pub(super) struct Entered {
    _here: OwnedRwLockReadGuard<()>,
    everywhere: Option<Flock<File>>,
    _gate: Arc<Gate>,
}

/// Nobody is in, and nobody comes in, until this is dropped.
pub(super) struct Closed {
    _here: OwnedRwLockWriteGuard<()>,
    _everywhere: Option<Flock<File>>,
    _turn: OwnedMutexGuard<()>,
    _gate: Arc<Gate>,
}

impl NetworkGates {
    /// `shared` is the network that all servers share.
    pub(super) fn new(shared: &'static str) -> Self {
        Self { gates: Mutex::default(), shared, file: FILE.into() }
    }

    fn gate(&self, network: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        if let Some(gate) = gates.get(network).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::default();
        gates.insert(network.to_owned(), Arc::downgrade(&gate));
        gate
    }

    /// Enters; out again when the answer is dropped. Where there is no such file to be had, the gate is that of this server
    /// alone.
    pub(super) async fn enter(&self, network: &str) -> Entered {
        let gate = self.gate(network);
        let here = Arc::clone(&gate.inside).read_owned().await;
        let mut entered = Entered { _here: here, everywhere: None, _gate: gate };
        if network != self.shared {
            return entered;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lock(FlockArg::LockSharedNonblock) {
                Ok(lock) => {
                    entered.everywhere = Some(lock);
                    return entered;
                }
                Err(Errno::EWOULDBLOCK) if Instant::now() < end => tokio::time::sleep(PATIENCE / 250).await,
                Err(error) => {
                    tracing::debug!(%error, file = FILE, "other servers don't know that a lab is deployed");
                    return entered;
                }
            }
        }
    }

    /// Closes it if nobody is in; open again when the answer is dropped.
    pub(super) async fn close(&self, network: &str) -> Option<Closed> {
        let gate = self.gate(network);
        let turn = Arc::clone(&gate.closing).lock_owned().await;
        let here = Arc::clone(&gate.inside).try_write_owned().ok()?;
        let lock = if network == self.shared { self.lock(FlockArg::LockExclusiveNonblock) } else { Err(Errno::ENOENT) };
        match lock {
            Err(Errno::EWOULDBLOCK) => None,
            lock => Some(Closed { _here: here, _everywhere: lock.ok(), _turn: turn, _gate: gate }),
        }
    }

    fn lock(&self, how: FlockArg) -> Result<Flock<File>, Errno> {
        // Others may write to this folder: what they have put there is not followed.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits())
            .open(&self.file);
        let file = file.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        Flock::lock(file, how).map_err(|(_, error)| error)
    }
}

impl Entered {
    /// Whether other servers know of it.
    #[cfg(test)]
    fn is_known_everywhere(&self) -> bool {
        self.everywhere.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_removes_the_shared_network_while_another_server_is_about_to_use_it() {
        let dir = tempfile::tempdir().unwrap();
        let gates = || NetworkGates { file: dir.path().join("lock"), ..NetworkGates::new("all") };
        // As two servers: they have nothing in common but the file.
        let (one, other) = (gates(), gates());
        let (entered, too) = (one.enter("all").await, other.enter("all").await);
        assert!(entered.is_known_everywhere() && too.is_known_everywhere(), "many may deploy at once");
        drop(too);
        assert!(other.close("all").await.is_none());
        drop(entered);
        let closed = other.close("all").await.unwrap();
        assert!(closed._everywhere.is_some());
        let entering = one.enter("all");
        tokio::pin!(entering);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut entering).await.is_err());
        drop(closed);
        assert!(entering.await.is_known_everywhere());
    }

    #[tokio::test]
    async fn a_network_is_kept_by_those_who_deploy_with_it_and_by_nobody_else() {
        let gates = NetworkGates::new("all");
        let entered = gates.enter("a").await;
        assert!(gates.close("a").await.is_none());
        let closed = gates.close("b").await;
        assert!(closed.is_some(), "whatever is deployed with another one");
        // Of two who remove one, the second looks when the first has.
        let second = gates.close("b");
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
        drop(closed);
        assert!(second.await.is_some());
        drop(entered);
        assert!(gates.close("a").await.is_some());
    }
}
