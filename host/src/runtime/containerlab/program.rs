//! Runs the `containerlab` program: its arguments, environment and process group, what it prints, how it is stopped.
//!
//! Called by the driver from tasks that end with the process and never before it, so that no run is left to itself. What a run
//! means for a lab is none of its business.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, read};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::config::ContainerlabConfig;
use super::output::ErrorOutput;
use crate::runtime::LogSink;

/// How long containerlab may take to end once it was told to. It destroys what it had begun, and allows itself 20 s for that.
const FAREWELL: Duration = Duration::from_secs(30);
/// The most that a pipe holds, in bytes: what an ended process has written and nobody has read yet.
const PIPE: usize = 1 << 20;
/// The most data that is read from a standard output, in bytes. An inspection of 1,000 nodes has 2 MiB.
const MOST_DATA: usize = 64 << 20;
/// How much is read at once, in bytes.
const CHUNK: usize = 16 << 10;

/// Variables of the server's environment that containerlab gets too: how to reach the engine, and where its user's things are.
/// Nothing else, because a topology can have all of containerlab's environment copied into its nodes (`__IMPORT_ENVS`).
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
];

/// The program, and what all its runs have in common.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    runtime: Option<String>,
    environment: Vec<(OsString, OsString)>,
}

/// Why a run didn't do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// It could not be started.
    #[error("containerlab can't be run: {0}")]
    Start(#[source] io::Error),
    /// It ended with an error, in its own words.
    #[error("{0}")]
    Failed(String),
    /// Somebody else has ended it.
    #[error("containerlab was ended by signal {0}")]
    Killed(i32),
    /// It was told to end, and has ended.
    #[error("cancelled")]
    Cancelled,
    /// It took longer than it may, and has been ended.
    #[error("containerlab did not finish within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// One run.
pub(super) struct Run<'a> {
    /// The arguments, without `--runtime`.
    pub(super) arguments: Vec<OsString>,
    /// The folder that it works in.
    pub(super) dir: &'a Path,
    /// Where its log lines go.
    pub(super) log: &'a LogSink,
    /// Ends it.
    pub(super) cancel: &'a CancellationToken,
    /// How long it may take.
    pub(super) limit: Option<Duration>,
}

impl Program {
    /// The program at `path`, with the settings of `config`.
    pub(super) fn new(path: PathBuf, config: &ContainerlabConfig) -> Self {
        let mut environment: Vec<(OsString, OsString)> =
            PASSED_ON.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?))).collect();
        // Not for this purpose: it would wait for an answer from the network after each deploy.
        environment.push(("CLAB_VERSION_CHECK".into(), "disable".into()));
        if let Some(host) = &config.docker_host {
            environment.push(("DOCKER_HOST".into(), host.into()));
        }
        environment.extend(config.environment.iter().map(|(name, value)| (name.into(), value.into())));
        Self { path, runtime: config.runtime.clone(), environment }
    }

    /// Runs it to its end and answers what it printed to its standard output. Its log goes to the sink line by line as it is
    /// written; it waits when the readers of the log do.
    ///
    /// # Errors
    /// [`RunError`]; when it comes, no process of the run's group is left.
    pub(super) async fn run(&self, run: Run<'_>) -> Result<Vec<u8>, RunError> {
        let mut command = Command::new(&self.path);
        if let Some(runtime) = &self.runtime {
            command.arg("--runtime").arg(runtime);
        }
        command.args(&run.arguments).current_dir(run.dir).env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, which can be ended as a whole. The second is for the case that the server's runtime ends first.
        command.process_group(0).kill_on_drop(true);
        tracing::debug!(program = %self.path.display(), arguments = ?run.arguments, "running containerlab");
        let mut child = command.spawn().map_err(RunError::Start)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());

        let mut data = Vec::new();
        let mut output = ErrorOutput::default();
        let ended = {
            let mut reading = pin!(async {
                tokio::join!(collect(stdout.as_mut(), &mut data), stream(stderr.as_mut(), &mut output, run.log));
            });
            let mut ending = pin!(end(&mut child, group, run.cancel, run.limit));
            let mut all_read = false;
            loop {
                tokio::select! {
                    ended = &mut ending => break ended,
                    () = &mut reading, if !all_read => all_read = true,
                }
            }
        };
        // What it printed at last, its reason among it, is in the pipes still. Whoever reads the log is not waited for any more,
        // and neither is a process that it has left behind, which keeps the pipes open.
        drain(stdout.and_then(|pipe| pipe.into_owned_fd().ok()), |bytes| keep(&mut data, bytes));
        drain(stderr.and_then(|pipe| pipe.into_owned_fd().ok()), |bytes| output.push(bytes, |line| run.log.line(line)));
        let reason = output.finish(|line| run.log.line(line));
        let (status, how) = ended.map_err(RunError::Start)?;
        if !status.success() {
            // Whatever of the group has outlived it: nobody else will end that.
            signal(group, Signal::SIGKILL);
        }
        match how {
            How::Cancelled => Err(RunError::Cancelled),
            How::Late(limit) => Err(RunError::TimedOut(limit)),
            How::ByItself if status.success() => Ok(data),
            How::ByItself if status.signal().is_some() => Err(RunError::Killed(status.signal().unwrap_or_default())),
            How::ByItself => Err(RunError::Failed(
                reason.unwrap_or_else(|| format!("containerlab ended without a reason, with {status}")),
            )),
        }
    }
}

/// Why a run came to its end.
enum How {
    /// Nothing here has brought it about: it was done, has failed, or somebody else has ended it.
    ByItself,
    /// It was told to, since nobody wanted it any more.
    Cancelled,
    /// It was told to, since it took so long.
    Late(Duration),
}

/// Waits for the end of the process, and brings it about when it is asked for.
async fn end(
    child: &mut Child,
    group: Option<Pid>,
    cancel: &CancellationToken,
    limit: Option<Duration>,
) -> io::Result<(ExitStatus, How)> {
    let late = async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    let how = tokio::select! {
        biased;
        status = child.wait() => return Ok((status?, How::ByItself)),
        () = cancel.cancelled() => How::Cancelled,
        limit = late => How::Late(limit),
    };
    signal(group, Signal::SIGTERM);
    let status = match tokio::time::timeout(FAREWELL, child.wait()).await {
        Ok(status) => status?,
        Err(_) => {
            tracing::warn!(?group, "containerlab doesn't end and is killed");
            signal(group, Signal::SIGKILL);
            child.wait().await?
        }
    };
    Ok((status, how))
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may have ended by itself in this moment.
        let _ = killpg(group, signal);
    }
}

/// Reads all data, but no more than is sensible.
async fn collect(stdout: Option<impl AsyncRead + Unpin>, data: &mut Vec<u8>) {
    let Some(mut stdout) = stdout else { return };
    let mut chunk = vec![0; CHUNK];
    // An error of a pipe is its end.
    while let Ok(count @ 1..) = stdout.read(&mut chunk).await {
        keep(data, &chunk[..count]);
    }
}

fn keep(data: &mut Vec<u8>, bytes: &[u8]) {
    let room = MOST_DATA.saturating_sub(data.len());
    data.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Reads what is in a pipe and never waits for more.
fn drain(pipe: Option<OwnedFd>, mut take: impl FnMut(&[u8])) {
    let Some(pipe) = pipe else { return };
    if fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_err() {
        return;
    }
    let mut chunk = vec![0; CHUNK];
    let mut drained = 0;
    // Its end, or nothing in it at present, which comes as an error. More than it holds is of somebody who still writes.
    while let Ok(count @ 1..) = read(&pipe, &mut chunk) {
        take(&chunk[..count]);
        drained += count;
        if drained > PIPE {
            return;
        }
    }
}

/// Passes lines on as they come.
async fn stream(stderr: Option<impl AsyncRead + Unpin>, output: &mut ErrorOutput, log: &LogSink) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        output.push(&chunk[..count], |line| log.line(line));
        log.room().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;

    use super::*;
    use crate::runtime::LineSink;

    /// Somebody who reads the first line, and then nothing more.
    struct Stuck(Mutex<Vec<String>>);

    #[async_trait]
    impl LineSink for Stuck {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }

        async fn room(&self) {
            std::future::pending().await
        }
    }

    /// What comes of a run of this script.
    async fn run(script: &str) -> (Result<Vec<u8>, RunError>, Vec<String>) {
        let stuck = Arc::new(Stuck(Mutex::default()));
        let log: LogSink = Arc::clone(&stuck) as LogSink;
        let program = Program::new("/bin/bash".into(), &ContainerlabConfig::default());
        let arguments = vec!["-c".into(), script.into()];
        let never = CancellationToken::new();
        let run = Run { arguments, dir: Path::new("/"), log: &log, cancel: &never, limit: Some(FAREWELL) };
        let result = program.run(run).await;
        let lines = stuck.0.lock().unwrap().clone();
        (result, lines)
    }

    #[tokio::test]
    async fn the_reason_of_a_failure_is_found_although_nobody_reads_the_log() {
        let script =
            "echo first >&2; sleep 0.2; echo last >&2; printf '\n   ERROR  \n\n  no such image\n\n' >&2; exit 1";
        let (result, lines) = run(script).await;
        assert!(matches!(&result, Err(RunError::Failed(reason)) if reason == "no such image"), "{result:?}");
        assert_eq!(lines.iter().filter(|line| !line.is_empty()).collect::<Vec<_>>(), ["first", "last"]);
    }

    #[tokio::test]
    async fn what_was_printed_is_there_although_a_process_was_left_behind_and_after_a_failure_that_is_gone() {
        let (result, _) = run("echo data; sleep 300 & disown; exit 0").await;
        assert_eq!(result.unwrap(), b"data\n", "nobody waits for the process that holds the pipe");
        let dir = tempfile::tempdir().unwrap();
        let noted = dir.path().join("child");
        let (result, _) = run(&format!("sleep 300 & echo $! > {}; exit 3", noted.display())).await;
        assert!(matches!(result, Err(RunError::Failed(_))), "{result:?}");
        let child = std::fs::read_to_string(noted).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while alive() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
