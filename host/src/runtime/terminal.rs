//! Terminals that this process holds itself: two tasks per terminal, which move bytes between it and a [`Pty`].
//!
//! What runs on the other end, and how that is ended, is the affair of whoever made the terminal.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::unistd::{read, write};
use portable_pty::PtySize;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Pty, PtyControl};

/// Messages of up to [`CHUNK`] bytes that may wait in each direction.
const QUEUE: usize = 32;
const CHUNK: usize = 16 << 10;
/// How long a terminal may be silent after its program has ended before it counts as finished: the kernel delivers the
/// last bytes a moment later, and something left in the background may keep the other end open for ever.
const SILENCE: Duration = Duration::from_millis(150);

/// Makes a [`Pty`] of our end of a terminal, which must not block. `ended` tells how the program on it has ended.
pub(super) fn connect(master: AsyncFd<OwnedFd>, ended: oneshot::Receiver<String>, control: Box<dyn PtyControl>) -> Pty {
    let (input, typed) = mpsc::channel(QUEUE);
    let (printed, output) = mpsc::channel(QUEUE);
    let (exited, exit) = oneshot::channel();
    let master = Arc::new(master);
    let finished = CancellationToken::new();
    tokio::spawn(write_input(master.clone(), typed, finished.clone()));
    tokio::spawn(async move {
        let _guard = finished.drop_guard();
        read_output(&master, printed, ended, exited).await;
    });
    Pty { input, output, control, exit }
}

/// A size in characters.
pub(super) fn pty_size(cols: u16, rows: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

async fn write_input(master: Arc<AsyncFd<OwnedFd>>, mut typed: mpsc::Receiver<Bytes>, finished: CancellationToken) {
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
