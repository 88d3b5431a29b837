//! Terminals by a program on this host, for nodes that are reached by `ssh` rather than by a program in them.
//!
//! Such a login command is configured as `ssh admin@{address}`. Nothing that a user of labs says gets into it: the command
//! is the operator's, and the address is what the engine gave the node. It gets no more of the server's environment than
//! `ssh` needs, and ends with the server, however that ends: its terminal is gone then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;
use portable_pty::{CommandBuilder, ExitStatus, MasterPty, native_pty_system};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Container, process};
use crate::runtime::sys;
use crate::runtime::terminal::{self, pty_size};
use crate::runtime::{Pty, PtyControl};

/// Stands for the node's management address in the arguments of a command: IPv4 where it has one, or else IPv6, or else
/// the name of its container, for which containerlab makes an entry in `/etc/hosts`.
const ADDRESS: &str = "{address}";
/// What a program gets of the server's environment.
const ENVIRONMENT: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "SSH_AUTH_SOCK"];

/// Whether a command is meant to be run on this host: `ssh` with a place for the node's address in its arguments.
pub fn is_for_host(command: &[String]) -> bool {
    let program = command.first().map(|program| program.rsplit('/').next().unwrap_or(program));
    program == Some("ssh") && command.iter().any(|argument| argument.contains(ADDRESS))
}

/// Runs it on a terminal.
///
/// # Errors
/// Why it can't be run.
pub(super) fn open(command: &[String], container: &Container, size: (u16, u16)) -> Result<Pty, String> {
    let addresses = [&container.ipv4, &container.ipv6, &container.name];
    let address = addresses.into_iter().find(|address| !address.is_empty()).ok_or("the node has no address")?;
    run(command, address, size)
}

fn run(command: &[String], address: &str, size: (u16, u16)) -> Result<Pty, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let arguments: Vec<String> = command.iter().map(|argument| argument.replace(ADDRESS, address)).collect();
    let mut program = CommandBuilder::new(arguments.first().ok_or("no program is named")?);
    program.args(&arguments[1..]);
    program.env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            program.env(name, value);
        }
    }
    program.env("TERM", "xterm-256color");
    program.cwd("/");

    let pair = native_pty_system().openpty(pty_size(size.0, size.1)).map_err(|error| failed(&error))?;
    let number = pair.master.as_raw_fd().ok_or("a terminal without a descriptor")?;
    let master = sys::duplicate(number).map_err(|error| failed(&error))?;
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed(&error))?;
    let master = sys::watch(master).map_err(|error| failed(&error))?;
    let mut child = pair.slave.spawn_command(program).map_err(|error| failed(&error))?;
    drop(pair.slave);
    let session = child.process_id().and_then(|pid| i32::try_from(pid).ok()).ok_or("a program without an id")?;
    let has_ended = Arc::new(AtomicBool::new(false));
    let control = Control {
        session: Pid::from_raw(session),
        has_ended: Arc::clone(&has_ended),
        master: Mutex::new(pair.master),
        runtime: Handle::current(),
    };
    let (tell, ended) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let how = child.wait();
        has_ended.store(true, Ordering::SeqCst);
        let _ = tell.send(how.map_or_else(|error| error.to_string(), |status| describe(&status)));
    });
    Ok(terminal::connect(master, ended, Box::new(control)))
}

fn describe(status: &ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.exit_code()),
    }
}

struct Control {
    /// The program began a session, so its id is that of the session.
    session: Pid,
    /// Whether the id may be somebody else's by now.
    has_ended: Arc<AtomicBool>,
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
        if !self.has_ended.load(Ordering::SeqCst) {
            self.runtime.spawn(process::hang_up(self.session));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.terminate();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    async fn hear(pty: &mut Pty, enough: &str) -> String {
        let mut text = String::new();
        while !text.contains(enough) {
            let some = tokio::time::timeout(PATIENCE, pty.output.recv()).await.expect("in time").expect("goes on");
            text += std::str::from_utf8(&some).expect("is text");
        }
        text
    }

    #[test]
    fn only_ssh_with_a_place_for_the_address_is_run_here() {
        for line in ["ssh admin@{address}", "/usr/bin/ssh -p 2022 {address}"] {
            assert!(is_for_host(&words(line)), "{line}");
        }
        for line in ["ssh admin@host", "sh {address}", "echo ssh {address}"] {
            assert!(!is_for_host(&words(line)), "{line}");
        }
    }

    #[tokio::test]
    async fn a_program_of_the_host_knows_the_address_and_the_size_and_little_else() {
        let script = "stty size; env; echo to {address}; read x; exit 4";
        let command = ["sh", "-c", script].map(str::to_owned);
        let mut pty = run(&command, "10.0.0.7", (99, 31)).expect("is run");
        let text = hear(&mut pty, "to 10.0.0.7").await;
        assert!(text.contains("31 99"), "{text}");
        assert!(!text.contains("CARGO"), "{text}");
        pty.input.send(Bytes::from_static(b"x\n")).await.expect("is open");
        let how = tokio::time::timeout(PATIENCE, &mut pty.exit).await.expect("in time").expect("is told");
        assert_eq!(how, "exit status 4");
        assert!(run(&words("no-such-program {address}"), "10.0.0.7", (80, 24)).is_err());
    }

    #[tokio::test]
    async fn dropping_the_terminal_ends_what_ignores_it_too() {
        let mut pty = run(&words("sh"), "", (80, 24)).expect("is run");
        pty.input.send(Bytes::from_static(b"trap '' HUP TERM; echo p''id $$ e''nd\n")).await.expect("is open");
        let text = hear(&mut pty, " end").await;
        let (_, rest) = text.rsplit_once("pid ").expect("was waited for");
        let pid: i32 = rest.split_whitespace().next().expect("is there").parse().expect("is a number");
        let Pty { exit, input, output, control } = pty;
        drop((input, output, control));
        let how = tokio::time::timeout(PATIENCE, exit).await.expect("in time").expect("is told");
        assert!(how.starts_with("signal"), "{how}");
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
