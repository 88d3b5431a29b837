//! Ending what runs in a shell. The engine has no request for that, so it is done past it.
//!
//! Each shell has a mark of its own in its environment, which everything that it starts inherits. With that:
//!
//! | where the server is | how a shell's session is ended |
//! |---|---|
//! | on the engine's host, and may signal there (root) | by signals from here: the engine tells the process id, the mark proves that it is the same process here, or else when it was started |
//! | elsewhere, or without the right | by a second exec that runs `sh` in the node, which finds the session by the mark |
//! | the same, in a node without `sh` | by typing Ctrl-C, Ctrl-D and `exit` ([`super::exec`]); a program that ignores these goes on |
//!
//! The session is hung up first, as a terminal does that is closed, and what is left of it after a second is killed.

use std::time::Duration;

use bollard::exec::CreateExecOptions;
use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::{Docker, DockerError, LIMIT};
use crate::runtime::sessions::{self, Process};

/// The variable that marks what belongs to a shell.
pub(super) const VARIABLE: &str = "ANTIMONY_SHELL";
/// How long a session may take to react to being hung up.
const HANGUP: Duration = Duration::from_secs(1);
/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(40);
/// Most that the program which looks for sessions in a node may say.
const LARGEST: u64 = 64 << 10;

/// Finds sessions that were started from outside (their parent is not in the node) and have the mark in their environment,
/// hangs them up, and says their ids. `read` leaves out the zero bytes of the environment. Uses nothing but what `sh` has
/// built in.
const HANG_UP: &str = r#"
mark=$1
for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
    set -- ${stat##*) }
    [ "$4" = "$pid" ] && [ "$2" = 0 ] || continue
    found=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in *"$mark"*) found=1 ;; esac
    done 2>/dev/null <"$dir/environ"
    [ -n "$found" ] && sessions="$sessions $pid"
done
for session in $sessions; do
    for dir in /proc/[0-9]*; do
        { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
        set -- ${stat##*) }
        if [ "$4" = "$session" ]; then
            kill -HUP "${dir#/proc/}" 2>/dev/null
            kill -CONT "${dir#/proc/}" 2>/dev/null
        fi
    done
    echo "session $session"
done
echo done
"#;

/// Kills what is left of the sessions that are its arguments.
const KILL: &str = r#"
sessions=" $* "
for dir in /proc/[0-9]*; do
    { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
    set -- ${stat##*) }
    case $sessions in *" $4 "*) [ "$1" = Z ] || kill -KILL "${dir#/proc/}" 2>/dev/null ;; esac
done
echo done
"#;

/// When the first process of a shell was started, in the kernel's ticks since its boot: with that it is known again also
/// after it has replaced itself and its environment. `None`: the process with this id here is not that of the shell.
pub(super) async fn started(pid: i32, container: &str) -> Option<u64> {
    let container = container.to_owned();
    blocking(move || if is_in(pid, &container) { start_time(pid) } else { None }).await
}

/// Ends a session by signals from here. `started` is what the function of that name told when the shell was opened.
/// `false`: it can't be, because the process with this id is not that of the shell, or may not be signalled.
pub(super) async fn end_from_here(session: i32, mark: &str, started: Option<u64>) -> bool {
    let variable = format!("{VARIABLE}={mark}");
    let reachable = blocking(move || {
        let reachable = |process: &Process| kill(Pid::from_raw(process.pid), None) != Err(Errno::EPERM);
        let is_leader = |pid: i32| pid == session && started.is_some() && start_time(pid) == started;
        let belongs = |process: &Process| is_leader(process.pid) || has_variable(process.pid, &variable);
        members(session).iter().any(|process| belongs(process) && reachable(process))
    });
    if !reachable.await {
        return false;
    }
    hang_up(Pid::from_raw(session)).await;
    true
}

/// Hangs a session up and kills what is left of it then. Ready when nothing is.
pub(super) async fn hang_up(session: Pid) {
    blocking(move || {
        sessions::signal(session, Signal::SIGHUP);
        // A stopped process would notice only when it is continued.
        sessions::signal(session, Signal::SIGCONT);
    })
    .await;
    let hung_up = Instant::now();
    // What a killed process was just starting has to be killed too, so it is done until nothing is left.
    while hung_up.elapsed() < HANGUP + KILLED {
        let is_late = hung_up.elapsed() >= HANGUP;
        let left = blocking(move || {
            let members = members(session.as_raw());
            // What the shell was tied to is gone with it: no reason to wait any longer.
            if is_late || members.iter().all(|process| process.pid != session.as_raw()) {
                sessions::signal(session, Signal::SIGKILL);
            }
            !members.is_empty()
        });
        if !left.await {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    tracing::warn!(session = session.as_raw(), "what runs in a shell can't be killed");
}

fn members(session: i32) -> Vec<Process> {
    sessions::processes().filter(|process| process.session == session && !process.has_ended).collect()
}

/// Whether the environment of a process has this variable; `start` is its name and the beginning of its value.
fn has_variable(pid: i32, start: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(start.as_bytes()))
}

/// Whether a process is one of a container. Its control group is named after it, also where that is nested in others.
pub(in crate::runtime) fn is_in(pid: i32, container: &str) -> bool {
    let group = std::fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let id = container.as_bytes();
    !id.is_empty() && group.windows(id.len()).any(|part| part == id)
}

/// When a process was started, in ticks since the boot.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // Behind the name, which may contain anything, it is the 20th.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether a process was started from outside its container, as the first one of an exec is, unlike what it started.
fn is_from_outside(process: &Process) -> bool {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(process.pid) else { return false };
    if namespace(process.parent).is_some_and(|parents| parents != own) {
        return true;
    }
    // Nodes without a PID namespace of their own.
    let parent = std::fs::read(format!("/proc/{}/comm", process.parent)).unwrap_or_default();
    parent.starts_with(b"containerd-shim") || parent.starts_with(b"conmon")
}

/// Runs what reads many files where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Docker {
    /// The mark of a shell of this server; without its own id the common beginning of all.
    pub(super) fn mark(&self, shell: &str) -> String {
        format!("{}:{shell}", self.inner.owner)
    }

    /// Ends the sessions in a container that have this mark, or one that begins like this, by a program in it. Answers how
    /// many there were.
    pub(super) async fn end_from_inside(&self, container: &str, mark: &str) -> Result<usize, DockerError> {
        let variable = format!("{VARIABLE}={mark}");
        let said = self.run(container, &["sh", "-c", HANG_UP, "sh", &variable]).await?;
        let sessions: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("session ")).collect();
        if !said.contains("done") {
            return Err(DockerError::Broken(format!("ending a shell from inside of its node: {}", said.trim())));
        }
        if !sessions.is_empty() {
            tokio::time::sleep(HANGUP).await;
            let command = [&["sh", "-c", KILL, "sh"], &sessions[..]].concat();
            self.run(container, &command).await?;
        }
        Ok(sessions.len())
    }

    /// Runs a program in a container to its end, as its root, and answers what it printed.
    async fn run(&self, container: &str, command: &[&str]) -> Result<String, DockerError> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(true),
            user: Some("0"),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = self.limited("preparing a command", LIMIT, self.inner.api.create_exec(container, options)).await?;
        let output = async {
            let body = Bytes::from_static(br#"{"Detach":false,"Tty":true}"#);
            let stream = self.upgrade(&format!("/exec/{}/start", exec.id), body).await?;
            let mut output = Vec::new();
            let read = stream.take(LARGEST).read_to_end(&mut output).await;
            read.map_err(|error| DockerError::Broken(error.to_string()))?;
            Ok(String::from_utf8_lossy(&output).into_owned())
        };
        tokio::time::timeout(LIMIT, output).await.map_err(|_| DockerError::TimedOut("a command in a node", LIMIT))?
    }

    /// Ends all shells in nodes of labs that an earlier run of this server has left there, as it does when it is
    /// killed. To be called at the start, when none is open yet. Answers how many there were. Does nothing unless
    /// [`Docker::with_owner`] says who this server is.
    ///
    /// # Errors
    /// [`DockerError`] when the engine can't say which containers there are. Nodes in which it can't be done are
    /// logged.
    pub async fn end_leftover_shells(&self) -> Result<usize, DockerError> {
        let mark = self.mark("");
        let mut running = self.containers(None).await?;
        running.retain(|container| container.phase == super::Phase::Running);
        let Some(first) = running.first() else { return Ok(0) };
        if geteuid().is_root() && self.is_on_this_host(&first.id).await? {
            let variable = format!("{VARIABLE}={mark}");
            let found = blocking(move || {
                let leaders = sessions::processes().filter(|process| process.pid == process.session);
                let marked = leaders.filter(|process| has_variable(process.pid, &variable));
                marked.filter(is_from_outside).map(|process| process.pid).collect::<Vec<_>>()
            });
            let found = found.await;
            let ended =
                futures::future::join_all(found.iter().map(|session| end_from_here(*session, &mark, None))).await;
            return Ok(ended.into_iter().filter(|ended| *ended).count());
        }
        let mut count = 0;
        for some in running.chunks(8) {
            let each = some.iter().map(|container| async {
                let ended = self.end_from_inside(&container.id, &mark).await;
                ended.unwrap_or_else(|error| {
                    let container = &container.name;
                    tracing::warn!(container, %error, "looking for shells that were left in a node");
                    0
                })
            });
            count += futures::future::join_all(each).await.into_iter().sum::<usize>();
        }
        Ok(count)
    }

    /// Whether the processes of a container are to be seen here under the ids that the engine tells.
    async fn is_on_this_host(&self, container: &str) -> Result<bool, DockerError> {
        let pid = match self.details(container).await {
            Ok(details) => details.pid,
            Err(DockerError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let Some(pid) = pid else { return Ok(false) };
        Ok(is_in(pid, container))
    }
}
