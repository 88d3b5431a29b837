//! Keeps a management network from being removed while somebody is about to use it: those who deploy enter, and whoever removes
//! one does so only while nobody is in. The driver asks; the networks themselves are `docker`'s.
//!
//! A gate rather than a lock: nobody ever waits to close it, and those who enter wait for the moment only that removing takes. For
//! the network that all labs share it holds between the servers of this machine, too, by a lock on a file.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The file that servers of this machine lock.
const FILE: &str = "/run/lock/antimony-management-network.lock";
/// How long somebody may keep others from entering. It takes a moment to remove a network; whoever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gate of one server.
pub(super) struct NetworkGate {
    here: RwLock<()>,
    file: PathBuf,
}

impl Default for NetworkGate {
    fn default() -> Self {
        Self { here: RwLock::new(()), file: FILE.into() }
    }
}

impl NetworkGate {
    /// Enters; out again when the answer is dropped. `shared`: also for other servers, as it is about the network of all. Where
    /// there is no such file to be had, the gate is that of this server alone.
    pub(super) async fn enter(&self, shared: bool) -> (RwLockReadGuard<'_, ()>, Option<Flock<File>>) {
        let here = self.here.read().await;
        if !shared {
            return (here, None);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lock(FlockArg::LockSharedNonblock) {
                Ok(lock) => return (here, Some(lock)),
                Err(Errno::EWOULDBLOCK) if Instant::now() < end => tokio::time::sleep(PATIENCE / 250).await,
                Err(error) => {
                    tracing::debug!(%error, file = FILE, "other servers don't know that a lab is deployed");
                    return (here, None);
                }
            }
        }
    }

    /// Closes it if nobody is in; open again when the answer is dropped.
    pub(super) fn try_close(&self, shared: bool) -> Option<(RwLockWriteGuard<'_, ()>, Option<Flock<File>>)> {
        let here = self.here.try_write().ok()?;
        let lock = if shared { self.lock(FlockArg::LockExclusiveNonblock) } else { Err(Errno::ENOENT) };
        match lock {
            Err(Errno::EWOULDBLOCK) => None,
            lock => Some((here, lock.ok())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_removes_the_shared_network_while_another_server_is_about_to_use_it() {
        let dir = tempfile::tempdir().unwrap();
        let gate = || NetworkGate { here: RwLock::new(()), file: dir.path().join("lock") };
        // As two servers: they have nothing in common but the file.
        let (one, other) = (gate(), gate());
        let (entered, too) = (one.enter(true).await, other.enter(true).await);
        assert!(entered.1.is_some() && too.1.is_some(), "many may deploy at once");
        drop(too);
        assert!(other.try_close(true).is_none());
        assert!(other.try_close(false).is_some(), "networks of their own are no business of others");
        assert!(one.try_close(false).is_none(), "but of this server");
        drop(entered);
        let closed = other.try_close(true).unwrap();
        assert!(closed.1.is_some());
        let entering = one.enter(true);
        tokio::pin!(entering);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut entering).await.is_err());
        drop(closed);
        assert!(entering.await.1.is_some());
    }
}
