//! Terminals in nodes, as the server holds them: a pseudo-terminal of ours, the program on it in the node.
//!
//! The helper gets the other end and runs the program there like any other of the node's, so that it ends with the node,
//! with the lab and with the server, and is confined like everything in the node. Here is the handle that ends it.

use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown};
use portable_pty::{MasterPty, native_pty_system};
use tokio::runtime::Handle;

use super::instance::Instance;
use super::protocol::{Op, Refusal};
use crate::runtime::sys;
use crate::runtime::terminal::{self, pty_size};
use crate::runtime::{Pty, PtyControl, PtyRequest, RuntimeError};

/// Opens a terminal in a node and runs the first of the commands that exists on it.
pub(super) async fn open(
    instance: &Instance,
    node: usize,
    name: &str,
    request: PtyRequest,
) -> Result<Pty, RuntimeError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| RuntimeError::Failed(format!("{what}: {error}"));
    let size = pty_size(request.size.0, request.size.1);
    let pair = native_pty_system().openpty(size).map_err(|error| failed("making a terminal", &error))?;
    let number =
        pair.master.as_raw_fd().ok_or_else(|| RuntimeError::Failed("a terminal without a descriptor".into()))?;
    let master = sys::duplicate(number).map_err(|error| failed("making a terminal", &error))?;
    let peer = sys::terminal_peer(number).map_err(|error| failed("making a terminal", &error))?;
    drop(pair.slave);
    if let Some(root) = instance.plan().ids.root_on_host(node) {
        // Or programs in the node could not open their own terminal again, as /dev/stderr for instance.
        fchown(&peer, Some(Uid::from_raw(root)), Some(Gid::from_raw(root)))
            .map_err(|error| failed("handing the terminal over", &error))?;
    }
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed("making a terminal", &error))?;
    let master = sys::watch(master).map_err(|error| failed("making a terminal", &error))?;

    let refused = |refusal| match refusal {
        Refusal::NotRunning => RuntimeError::NodeNotRunning(name.to_owned()),
        Refusal::Failed(reason) => RuntimeError::Failed(format!("no shell in node {name}: {reason}")),
    };
    let begin = instance.open_terminal(node, request.commands, peer);
    let late = || RuntimeError::TimedOut(format!("opening a shell in node {name}"), request.timeout);
    let start = tokio::time::Instant::now();
    let (id, reply, ended) =
        tokio::time::timeout(request.timeout, begin).await.map_err(|_| late())?.map_err(refused)?;
    // From here on it is ended when this is dropped, be it by a timeout or because nobody waits any more.
    let control =
        Control { instance: instance.clone(), id, master: Mutex::new(pair.master), runtime: Handle::current() };
    match tokio::time::timeout_at(start + request.timeout, reply).await {
        Err(_) => return Err(late()),
        Ok(Err(_)) => return Err(RuntimeError::NodeNotRunning(name.to_owned())),
        Ok(Ok(result)) => result.map_err(refused).map(drop)?,
    }

    Ok(terminal::connect(master, ended, Box::new(control)))
}

struct Control {
    instance: Instance,
    id: u64,
    master: Mutex<Box<dyn MasterPty + Send>>,
    runtime: Handle,
}

impl PtyControl for Control {
    fn resize(&self, cols: u16, rows: u16) {
        let master = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = master.resize(pty_size(cols, rows)) {
            tracing::debug!(%error, "resizing a terminal");
        }
    }

    fn terminate(&self) {
        let (instance, id) = (self.instance.clone(), self.id);
        self.runtime.spawn(async move {
            // An instance that is gone has taken its terminals along.
            let _ = instance.ask(Op::EndTerminal(id)).await;
        });
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.terminate();
    }
}
