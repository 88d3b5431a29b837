//! Terminals in nodes.
//!
//! A task of its own opens each and owns it until everything in it has ended, whatever becomes of who asked for it: the
//! engine has no way to end a program that was started in a container, so that is done by `process`, and somebody has to
//! be left to do it. It happens when the terminal is dropped or terminated, when whoever wanted it has stopped waiting,
//! when the time for opening is over, when the connection breaks, and by [`Docker::end_shells`] when the server closes.
//! What is in a terminal when the server is killed stays, and is ended when it is started again
//! ([`Docker::end_leftover_shells`]). A program that ends by itself leaves what it put into the background there, as
//! any terminal does.
//!
//! How the engine says that there is no such program: the connection is made all the same, and carries the reason; the
//! exec has no process id then, but an exit code.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::process::{self, VARIABLE};
use super::{Container, Docker, DockerError, LIMIT, Phase, ssh};
use crate::runtime::{NOT_ENDED, Pty, PtyControl, PtyRequest, RuntimeError};

/// Messages of up to [`CHUNK`] bytes that may wait in each direction.
const QUEUE: usize = 32;
const CHUNK: usize = 16 << 10;
/// First and longest pause between two looks whether a program has been started.
const FIRST_LOOK: Duration = Duration::from_millis(4);
const LONGEST_LOOK: Duration = Duration::from_millis(100);
/// How long the engine may take to notice that a program has ended whose terminal is closed.
const NOTICE: Duration = Duration::from_secs(2);
/// How long an opening that nobody waits for any more is watched, to end what may come of it.
const ABANDONED: Duration = Duration::from_secs(30);
/// How long ending all shells may take.
const END_ALL: Duration = Duration::from_secs(10);
/// Most of what the engine says about a program that it couldn't start.
const REASON: usize = 4 << 10;

type Connection = TokioIo<Upgraded>;

impl Docker {
    /// Opens a terminal in a node of an instance and runs the first of the commands that exists there. One whose
    /// program is `ssh` and that has `{address}` in its arguments is run on this host instead; see [`ssh`].
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`], [`RuntimeError::NoNode`], [`RuntimeError::NodeNotRunning`];
    /// [`RuntimeError::Failed`] when none of the commands exists in the node, naming them; [`RuntimeError::TimedOut`].
    /// Nothing half open is left, also when the future is dropped.
    pub async fn open_pty(&self, instance: &str, node: &str, request: PtyRequest) -> Result<Pty, RuntimeError> {
        let (answer, opened) = oneshot::channel();
        let opening = Opening { docker: self.clone(), instance: instance.to_owned(), node: node.to_owned(), request };
        self.inner.shells.spawn(opening.run(answer));
        opened.await.unwrap_or_else(|_| Err(RuntimeError::Failed("the server is closing".to_owned())))
    }

    /// Ends all shells, and waits for that, but not for ever. No more can be opened. To be called when the server closes.
    pub async fn end_shells(&self) {
        self.inner.end_shells.cancel();
        self.inner.shells.close();
        if tokio::time::timeout(END_ALL, self.inner.shells.wait()).await.is_err() {
            tracing::warn!(shells = self.inner.shells.len(), "shells that could not be ended in time");
        }
    }
}

struct Opening {
    docker: Docker,
    instance: String,
    node: String,
    request: PtyRequest,
}

/// What was begun for a terminal, and has to be ended if it is not wanted any more.
#[derive(Default)]
struct Attempt {
    container: String,
    mark: String,
    /// The exec that the engine was asked to start.
    exec: Option<String>,
}

enum Opened {
    InNode { exec: String, pid: i32, connection: Connection },
    Here(Pty),
}

impl Opening {
    async fn run(self, mut answer: oneshot::Sender<Result<Pty, RuntimeError>>) {
        let mut attempt = Attempt::default();
        let limit = self.request.timeout;
        let end_all = self.docker.inner.end_shells.clone();
        let opened = tokio::select! {
            opened = self.open(&mut attempt) => opened,
            () = tokio::time::sleep(limit) => {
                Err(RuntimeError::TimedOut(format!("opening a shell in node {}", self.node), limit))
            }
            () = answer.closed() => Err(RuntimeError::Cancelled),
            () = end_all.cancelled() => Err(RuntimeError::Failed("the server is closing".to_owned())),
        };
        match opened {
            Ok(Opened::Here(pty)) => {
                // Dropped with the error if nobody wants it, which ends it.
                let _ = answer.send(Ok(pty));
            }
            Ok(Opened::InNode { exec, pid, connection }) => {
                // As soon as it is known, since its container has to have been seen while it runs.
                let started = process::started(pid, &attempt.container).await;
                let session = Session { container: attempt.container, mark: attempt.mark, exec, pid, started };
                Shell { docker: self.docker, session }.run(connection, answer).await;
            }
            Err(error) => {
                let _ = answer.send(Err(error));
                attempt.abandon(&self.docker).await;
            }
        }
    }

    async fn open(&self, attempt: &mut Attempt) -> Result<Opened, RuntimeError> {
        let containers = self.docker.containers(Some(&self.instance)).await?;
        if containers.is_empty() {
            return Err(RuntimeError::NoInstance(self.instance.clone()));
        }
        let container = containers.into_iter().find(|container| container.node == self.node);
        let container = container.ok_or_else(|| RuntimeError::NoNode(self.node.clone()))?;
        if container.phase != Phase::Running {
            return Err(RuntimeError::NodeNotRunning(self.node.clone()));
        }
        attempt.container.clone_from(&container.id);
        let mut reasons = Vec::new();
        for command in &self.request.commands {
            let result = if ssh::is_for_host(command) {
                ssh::open(command, &container, self.request.size).map(Opened::Here).map_err(Refusal::NoProgram)
            } else {
                self.start(attempt, &container, command).await
            };
            match result {
                Ok(opened) => return Ok(opened),
                Err(Refusal::NoProgram(reason)) => reasons.push(format!("{}: {reason}", command.join(" "))),
                Err(Refusal::Final(error)) => return Err(error),
            }
        }
        Err(RuntimeError::Failed(format!("no shell in node {}: {}", self.node, reasons.join("; "))))
    }

    async fn start(&self, attempt: &mut Attempt, container: &Container, command: &[String]) -> Result<Opened, Refusal> {
        let docker = &self.docker;
        let mark = docker.mark(&uuid::Uuid::new_v4().simple().to_string());
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(true),
            env: Some(vec![format!("{VARIABLE}={mark}")]),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        attempt.mark = mark;
        let exec = docker.inner.api.create_exec(&container.id, options);
        let exec = docker.limited("preparing a shell", LIMIT, exec).await.map_err(|error| self.refusal(error))?.id;
        attempt.exec = Some(exec.clone());
        let (columns, rows) = self.request.size;
        // Engines that don't know the size here yet are told below.
        let body = serde_json::json!({ "Detach": false, "Tty": true, "ConsoleSize": [rows, columns] }).to_string();
        let mut connection = match docker.upgrade(&format!("/exec/{exec}/start"), body.into()).await {
            Ok(connection) => connection,
            Err(DockerError::Refused { message, .. }) if !is_not_running(&message) => {
                return Err(Refusal::NoProgram(message));
            }
            Err(error) => return Err(self.refusal(error)),
        };
        let mut pause = FIRST_LOOK;
        let pid = loop {
            let state = docker.exec_state(&exec).await.map_err(|error| self.refusal(error))?;
            match state {
                ExecState::Started(pid) => break pid,
                ExecState::Ended { pid: Some(pid), .. } => break pid,
                ExecState::Ended { pid: None, .. } => {
                    attempt.exec = None;
                    let reason = reason(&mut connection).await;
                    return Err(if is_not_running(&reason) {
                        Refusal::Final(RuntimeError::NodeNotRunning(self.node.clone()))
                    } else {
                        Refusal::NoProgram(reason)
                    });
                }
                ExecState::Waiting => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_LOOK);
        };
        docker.resize(&exec, (columns, rows)).await;
        Ok(Opened::InNode { exec, pid, connection })
    }

    /// Why there is no terminal, where the engine refused or didn't answer.
    fn refusal(&self, error: DockerError) -> Refusal {
        Refusal::Final(match error {
            DockerError::NotFound(_) => RuntimeError::NodeNotRunning(self.node.clone()),
            DockerError::Refused { message, .. } if is_not_running(&message) => {
                RuntimeError::NodeNotRunning(self.node.clone())
            }
            error => error.into(),
        })
    }
}

enum Refusal {
    /// There is no such program in the node, or it can't be run: the next one may.
    NoProgram(String),
    /// No other command would fare better.
    Final(RuntimeError),
}

fn is_not_running(message: &str) -> bool {
    ["is not running", "is paused", "is restarting", "container not running", "cannot exec in a stopped"]
        .iter()
        .any(|part| message.contains(part))
}

/// What the engine says in place of a program's output.
async fn reason(connection: &mut Connection) -> String {
    let mut text = Vec::new();
    let _ = tokio::time::timeout(NOTICE, connection.take(REASON as u64).read_to_end(&mut text)).await;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim().trim_start_matches("OCI runtime exec failed: ").trim_start_matches("exec failed: ");
    if text.is_empty() { "it could not be started".to_owned() } else { text.to_owned() }
}

impl Attempt {
    /// Ends what may still come of it.
    async fn abandon(self, docker: &Docker) {
        let Some(exec) = self.exec else { return };
        let until = Instant::now() + ABANDONED;
        let mut pause = FIRST_LOOK;
        while Instant::now() < until {
            match docker.exec_state(&exec).await {
                Ok(ExecState::Started(pid)) => {
                    let started = process::started(pid, &self.container).await;
                    let Self { container, mark, .. } = self;
                    Session { container, mark, exec, pid, started }.end(docker).await;
                    return;
                }
                Ok(ExecState::Ended { .. }) | Err(DockerError::NotFound(_)) => return,
                Ok(ExecState::Waiting) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// A program that was started in a container, and what it is known by.
struct Session {
    container: String,
    mark: String,
    exec: String,
    /// Its process id at the engine.
    pid: i32,
    /// When the process with this id here was started, if it is the same.
    started: Option<u64>,
}

impl Session {
    /// Ends it in the best way that there is. `false`: there is none.
    async fn end(&self, docker: &Docker) -> bool {
        if process::end_from_here(self.pid, &self.mark, self.started).await {
            return true;
        }
        match docker.end_from_inside(&self.container, &self.mark).await {
            Ok(1..) | Err(DockerError::NotFound(_)) => true,
            Err(DockerError::Refused { message, .. }) if is_not_running(&message) => true,
            // Nothing has the mark any more: it has ended, or it runs without its environment.
            Ok(0) => match docker.exec_state(&self.exec).await {
                Ok(ExecState::Ended { .. }) | Err(DockerError::NotFound(_)) => true,
                Ok(_) | Err(_) => {
                    tracing::warn!("a shell has lost its mark: its program is asked to end");
                    false
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a shell can't be ended by signals: its program is asked to end");
                false
            }
        }
    }
}

/// What has become of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExecState {
    /// Neither started nor failed.
    Waiting,
    /// Runs, as this process of the engine's host.
    Started(i32),
    Ended {
        /// `None`: it was never started.
        pid: Option<i32>,
        code: i64,
    },
}

impl Docker {
    async fn exec_state(&self, exec: &str) -> Result<ExecState, DockerError> {
        let answer = self.limited("inspecting a shell", LIMIT, self.inner.api.inspect_exec(exec)).await?;
        let pid = answer.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let running = answer.running.unwrap_or_default();
        Ok(match (running, pid, answer.exit_code) {
            (false, pid, Some(code)) => ExecState::Ended { pid, code },
            (true, Some(pid), _) => ExecState::Started(pid),
            _ => ExecState::Waiting,
        })
    }

    async fn resize(&self, exec: &str, (columns, rows): (u16, u16)) {
        let size = ResizeExecOptions { height: rows, width: columns };
        let resized = self.limited("resizing a terminal", LIMIT, self.inner.api.resize_exec(exec, size)).await;
        if let Err(error) = resized {
            tracing::debug!(%error, "resizing a terminal");
        }
    }
}

/// An open terminal, as its task holds it.
struct Shell {
    docker: Docker,
    session: Session,
}

impl Shell {
    async fn run(self, connection: Connection, answer: oneshot::Sender<Result<Pty, RuntimeError>>) {
        let (reader, writer) = tokio::io::split(connection);
        let (input, typed) = mpsc::channel(QUEUE);
        let (printed, output) = mpsc::channel(QUEUE);
        let (exited, exit) = oneshot::channel();
        let (size, sizes) = watch::channel((0, 0));
        let unwanted = self.docker.inner.end_shells.child_token();
        let control = Control { size, unwanted: unwanted.clone(), _guard: unwanted.clone().drop_guard() };
        // Dropped with the error if nobody wants it, which makes it unwanted.
        let _ = answer.send(Ok(Pty { input, output, control: Box::new(control), exit }));

        let (last_words, words) = mpsc::channel(1);
        let writing = tokio::spawn(write(writer, typed, words));
        let resizing = tokio::spawn(resize(self.docker.clone(), self.session.exec.clone(), sizes));
        // Held until the program has ended, so that this is known before the end of its output is.
        let end_of_output = printed.clone();
        let mut reading = tokio::spawn(read(reader, printed));
        let how = tokio::select! {
            _ = &mut reading => None,
            () = unwanted.cancelled() => Some(self.terminate(&last_words).await),
        };
        writing.abort();
        resizing.abort();
        let how = match how {
            None => self.closed().await,
            Some(how) => {
                // What is left to be read is in the connection already; it may also wait for somebody who doesn't read.
                let _ = tokio::time::timeout(NOTICE, &mut reading).await;
                reading.abort();
                how
            }
        };
        let _ = exited.send(how);
        drop(end_of_output);
    }

    /// The terminal was closed from the other side: by the end of its program, or because the connection broke.
    async fn closed(&self) -> String {
        let until = Instant::now() + NOTICE;
        let mut pause = FIRST_LOOK;
        loop {
            match self.docker.exec_state(&self.session.exec).await {
                Ok(ExecState::Ended { code, .. }) => return format!("exit status {code}"),
                Err(DockerError::NotFound(_)) => return "its node has ended".to_owned(),
                Ok(ExecState::Started(_) | ExecState::Waiting) if Instant::now() < until => {}
                // A program without its terminal, or an engine that is gone: nobody could ever end it.
                Ok(_) => {
                    let ended = self.session.end(&self.docker).await;
                    return if ended { "its terminal was closed" } else { NOT_ENDED }.to_owned();
                }
                Err(error) => {
                    self.session.end(&self.docker).await;
                    return error.to_string();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    async fn terminate(&self, last_words: &mpsc::Sender<Bytes>) -> String {
        if !self.session.end(&self.docker).await {
            let _ = last_words.try_send(Bytes::from_static(b"\x03\x04\rexit\r"));
        }
        let until = Instant::now() + NOTICE;
        let mut pause = FIRST_LOOK;
        loop {
            match self.docker.exec_state(&self.session.exec).await {
                // The engine tells a signal by a code above 128.
                Ok(ExecState::Ended { code: code @ 129..=192, .. }) => return format!("signal {}", code - 128),
                Ok(ExecState::Ended { code, .. }) => return format!("exit status {code}"),
                Ok(_) if Instant::now() < until => {}
                Ok(_) => return NOT_ENDED.to_owned(),
                Err(_) => return "it was ended".to_owned(),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }
}

async fn write(
    mut connection: WriteHalf<Connection>,
    mut typed: mpsc::Receiver<Bytes>,
    mut last_words: mpsc::Receiver<Bytes>,
) {
    let mut open = true;
    loop {
        let bytes = tokio::select! {
            biased;
            Some(bytes) = last_words.recv() => bytes,
            bytes = typed.recv(), if open => match bytes {
                Some(bytes) => bytes,
                // Nothing more is typed, but the terminal stays.
                None => { open = false; continue }
            },
            else => return,
        };
        let written = async {
            connection.write_all(&bytes).await?;
            connection.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
}

async fn read(mut connection: ReadHalf<Connection>, printed: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match (&mut connection).take(CHUNK as u64).read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                // If nobody reads any more, what is printed goes nowhere, but the program need not stand still.
                let _ = printed.send(buffer.split().freeze()).await;
            }
        }
    }
}

async fn resize(docker: Docker, exec: String, mut sizes: watch::Receiver<(u16, u16)>) {
    while sizes.changed().await.is_ok() {
        let size = *sizes.borrow_and_update();
        docker.resize(&exec, size).await;
    }
}

struct Control {
    size: watch::Sender<(u16, u16)>,
    unwanted: CancellationToken,
    _guard: DropGuard,
}

impl PtyControl for Control {
    fn resize(&self, cols: u16, rows: u16) {
        self.size.send_replace((cols, rows));
    }

    fn terminate(&self) {
        self.unwanted.cancel();
    }
}
