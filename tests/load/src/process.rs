//! A server as a process: started on its processors, measured by its id, and ended by it, whatever happens.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine;

/// How long a server may take to say something that is due, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: mpsc::Receiver<String>,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Process {
    /// Starts `command` on `cpus`. What it writes to standard error goes to ours when `loud`.
    pub(crate) fn start(mut command: Command, cpus: Vec<usize>, loud: bool) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(if loud { Stdio::inherit() } else { Stdio::null() });
        // On a thread of its own: a process inherits the processors of the thread that starts it.
        let starting = std::thread::spawn(move || {
            machine::pin(&cpus)?;
            let started = Instant::now();
            anyhow::Ok((command.spawn().with_context(|| format!("start {:?}", command.get_program()))?, started))
        });
        let (mut child, started) = starting.join().map_err(|_| anyhow::anyhow!("starting a server panicked"))??;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (lines, output) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Read to the end even when nobody keeps the lines, so that the server never waits for its reader.
                let _ = lines.send(line);
            }
        });
        Ok(Self { child, input, output, started })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with `start`, and answers its rest.
    pub(crate) fn wait_for(&self, start: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.output.recv_timeout(left).with_context(|| format!("the server never said {start:?}"))?;
            if let Some(rest) = line.strip_prefix(start) {
                return Ok(rest.to_owned());
            }
        }
    }

    /// Waits until it listens, and answers where.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let address = self.wait_for("listening on http://")?;
        address.trim().parse().with_context(|| format!("{address} is no address"))
    }

    /// Writes an order to its standard input.
    pub(crate) fn order(&mut self, order: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the server takes no orders")?;
        writeln!(input, "{order}").context("the server has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Standard input stays open until here: some servers end with it.
        drop(self.input.take());
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        // It has not been waited for, so the id is still its own.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
