//! Captures of packets in containers: the way into a node's network from here.
//!
//! A socket belongs to the network namespace in which it is opened, so a thread enters that of the node, opens one, and ends:
//! nothing else of the server is ever there. It takes root, and an engine on this machine. The socket keeps the namespace,
//! with its links, alive after the node has ended; so the end of the node's first process ends the capture, at once.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::driver::Shared;
use crate::runtime::capture::{self, Capture, CaptureOptions, Opened};
use crate::runtime::docker::{DockerError, Phase, is_process_of};
use crate::runtime::{RuntimeError, sys};

impl Shared {
    /// Begins to capture at an interface of a node.
    pub(super) async fn capture(
        &self,
        instance: &str,
        node: &str,
        interface: &str,
        options: &CaptureOptions,
    ) -> Result<Capture, RuntimeError> {
        let container = self.container(instance, node).await?;
        let not_running = || RuntimeError::NodeNotRunning(node.to_owned());
        if container.phase != Phase::Running {
            return Err(not_running());
        }
        let details = self.docker().details(&container.id).await;
        let details = details.map_err(|error| match error {
            DockerError::NotFound(_) => RuntimeError::NoNode(node.to_owned()),
            error => error.into(),
        })?;
        let pid = details.pid.ok_or_else(not_running)?;
        let (sender, entered) = oneshot::channel();
        let enter = move || {
            // Whoever asked may have gone.
            let _ = sender.send(enter(pid, &container.id));
        };
        let failed = |error: &dyn std::fmt::Display| RuntimeError::Failed(format!("capturing in node {node}: {error}"));
        thread::Builder::new().name("capture".to_owned()).spawn(enter).map_err(|error| failed(&error))?;
        let entered = entered.await.map_err(|error| failed(&error))?;
        let (process, opened) = entered.map_err(|refused| match refused {
            NotEntered::Elsewhere => RuntimeError::Unsupported(format!(
                "the processes of node {node} are not on this machine, and so its packets can't be had from here: they can \
                 where the server runs on the machine of its container engine; or run tcpdump in a shell of the node"
            )),
            NotEntered::Forbidden => RuntimeError::Unsupported(format!(
                "the server may not enter the network of node {node}: packets of containers can be captured by a server \
                 that runs as root"
            )),
            NotEntered::Failed(error) => failed(&error),
        })?;
        let process = sys::watch(process).map_err(|error| failed(&error))?;
        let stopped = async move {
            let _ = process.readable().await;
        };
        Capture::begin(opened, interface, options, stopped)
    }
}

/// Why there is no socket in the network of a process.
enum NotEntered {
    /// The process with that id on this machine is another, or there is none.
    Elsewhere,
    /// This process has not the rights.
    Forbidden,
    Failed(io::Error),
}

impl From<io::Error> for NotEntered {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Failed(error),
        }
    }
}

/// Opens a socket in the network of a container's first process, and something that tells when that ends. The thread is in
/// that network from then on.
fn enter(pid: i32, container: &str) -> Result<(OwnedFd, Opened), NotEntered> {
    // What this stands for stays the same process, whoever gets the id after it.
    let process = sys::process(pid).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => NotEntered::Elsewhere,
        _ => error.into(),
    })?;
    let network = File::open(format!("/proc/{pid}/ns/net"));
    // Only now: if the process is one of the container's, it has been since before the two lines above.
    if !is_process_of(pid, container) {
        return Err(NotEntered::Elsewhere);
    }
    setns(network?, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
    Ok((process, capture::open_here()?))
}
