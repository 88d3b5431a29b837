//! Terminals in nodes, as the server holds them: a pseudo-terminal of ours, the program on it in the node.
//!
//! The helper gets the other end and runs the program there like any other of the node's, so that it ends with the node,
//! with the lab and with the server, and is confined like everything in the node. Here are two tasks per terminal that
//! move bytes, and the handle that ends it.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, read, write};
use portable_pty::{MasterPty, PtySize, native_pty_system};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::instance::Instance;
use super::protocol::{Op, Refusal};
use super::sys;
use crate::runtime::{Pty, PtyControl, PtyRequest, RuntimeError};

/// Messages of up to [`CHUNK`] bytes that may wait in each direction.
const QUEUE: usize = 32;
const CHUNK: usize = 16 << 10;
/// How long a terminal may be silent after its program has ended before it counts as finished: the kernel delivers the
/// last bytes a moment later, and something left in the background may keep the other end open for ever.
const SILENCE: Duration = Duration::from_millis(150);

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

    let (input, typed) = mpsc::channel(QUEUE);
    let (printed, output) = mpsc::channel(QUEUE);
    let (exited, exit) = oneshot::channel();
    let master = std::sync::Arc::new(master);
    let finished = CancellationToken::new();
    tokio::spawn(write_input(master.clone(), typed, finished.clone()));
    tokio::spawn(async move {
        let _guard = finished.drop_guard();
        read_output(&master, printed, ended, exited).await;
    });
    Ok(Pty { input, output, control: Box::new(control), exit })
}

async fn write_input(
    master: std::sync::Arc<AsyncFd<OwnedFd>>,
    mut typed: mpsc::Receiver<Bytes>,
    finished: CancellationToken,
) {
    while let Some(Some(mut bytes)) = finished.run_until_cancelled(typed.recv()).await {
        while !bytes.is_empty() {
            let Some(Ok(mut guard)) = finished.run_until_cancelled(master.writable()).await else { return };
            match guard.try_io(|master| Ok(write(master.get_ref(), &bytes)?)) {
                Ok(Ok(length)) => drop(bytes.split_to(length)),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return,
                Err(_would_block) => {}
            }
        }
    }
}

async fn read_output(
    master: &AsyncFd<OwnedFd>,
    printed: mpsc::Sender<Bytes>,
    mut ended: oneshot::Receiver<String>,
    exited: oneshot::Sender<String>,
) {
    let mut exited = Some(exited);
    let mut tell = |how: Result<String, oneshot::error::RecvError>| {
        if let Some(exited) = exited.take() {
            let _ = exited.send(how.unwrap_or_else(|_| "the lab has ended".to_owned()));
        }
    };
    let mut has_ended = false;
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            biased;
            how = &mut ended, if !has_ended => {
                has_ended = true;
                tell(how);
            }
            ready = master.readable() => {
                let Ok(mut guard) = ready else { break };
                match guard.try_io(|master| Ok(read(master.get_ref(), &mut buffer)?)) {
                    Ok(Ok(0)) => break,
                    Ok(Ok(length)) => {
                        // If nobody reads any more, what is printed goes nowhere, but the program need not stand still.
                        let _ = printed.send(Bytes::copy_from_slice(&buffer[..length])).await;
                    }
                    Ok(Err(error)) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
                    // EIO: nothing has the other end open any more.
                    Ok(Err(_)) => break,
                    Err(_would_block) => {}
                }
            }
            () = tokio::time::sleep(SILENCE), if has_ended => break,
        }
    }
    // Whoever reads learns that nothing more comes, also where the program goes on without its terminal.
    drop(printed);
    if !has_ended {
        tell(ended.await);
    }
}

fn pty_size(cols: u16, rows: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
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
