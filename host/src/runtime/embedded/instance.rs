//! The server's end of one lab: a task that owns the socket to its helper, and a handle to that task.
//!
//! The task turns replies and events into what callers wait for. It ends when the helper has ended, and the other way
//! round: closing the socket is how a lab is ended for sure.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command as Process};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::helper;
use super::logs::Log;
use super::protocol::{Answer, Frame, Frames, LabPlan, Message, Op, Refusal, Request};
use crate::labs::model::NodeState;
use crate::runtime::{LogSink, RuntimeEvent};

/// How long the helper may take to end once its socket is closed: it kills and waits, nothing more.
const FAREWELL: Duration = Duration::from_secs(20);
/// Longest line of a command's output that is passed on in one piece, in bytes.
const LINE: usize = 16 << 10;

/// What the task can be told.
enum Command {
    Ask(Ask),
    /// End the lab now, without any grace.
    Kill,
}

struct Ask {
    op: Op,
    descriptor: Option<OwnedFd>,
    /// Where the output of an `Exec` goes, line by line.
    output: Option<LogSink>,
    /// Told when the process on an `OpenTerminal`'s terminal has ended.
    ended: Option<oneshot::Sender<String>>,
    /// Told the id of the request at once, and the result when there is one.
    id: oneshot::Sender<u64>,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// A lab that is up, or on its way there. Cheap to clone; the lab ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Instance {
    commands: mpsc::Sender<Command>,
    nodes: watch::Receiver<Vec<NodeState>>,
    /// Why it ended, once it has.
    gone: watch::Receiver<Option<String>>,
    logs: Arc<[Arc<Log>]>,
    plan: Arc<LabPlan>,
}

impl Instance {
    /// Starts the helper of a lab and waits until it can take requests. Answers what it can't do here, if anything.
    ///
    /// # Errors
    /// A sentence that says what failed. Nothing is left then.
    pub(super) async fn start(
        program: &Path,
        plan: LabPlan,
        events: broadcast::Sender<RuntimeEvent>,
    ) -> Result<(Self, Option<String>), String> {
        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().map_err(|error| format!("making a socket: {error}"))?;
        ours.set_nonblocking(true).map_err(|error| format!("making a socket: {error}"))?;
        let child = Process::new(program)
            .arg0("antimony-host")
            .arg(helper::KEEPER)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("starting {}: {error}", program.display()))?;
        let socket = UnixStream::from_std(ours).map_err(|error| format!("the lab's socket: {error}"))?;
        let plan = Arc::new(plan);
        let logs: Arc<[Arc<Log>]> = plan.nodes.iter().map(|_| Arc::default()).collect();
        let (commands, inbox) = mpsc::channel(64);
        let nodes = watch::Sender::new(vec![NodeState::Starting; plan.nodes.len()]);
        let gone = watch::Sender::new(None);
        let (ready, is_ready) = oneshot::channel();
        let instance = Self {
            commands,
            nodes: nodes.subscribe(),
            gone: gone.subscribe(),
            logs: Arc::clone(&logs),
            plan: Arc::clone(&plan),
        };
        let task = Task {
            plan,
            socket,
            frames: Frames::default(),
            inbox,
            nodes,
            logs,
            events,
            ready: Some(ready),
            last_id: 0,
            pending: HashMap::new(),
            outputs: HashMap::new(),
            terminals: HashMap::new(),
            expected: HashSet::new(),
            ending: false,
        };
        tokio::spawn(task.run(child, gone));
        match is_ready.await {
            Ok(note) => Ok((instance, note)),
            Err(_) => Err(instance.ended().await),
        }
    }

    /// What the lab was made from.
    pub(super) fn plan(&self) -> &LabPlan {
        &self.plan
    }

    /// The states of its nodes at this moment.
    pub(super) fn states(&self) -> Vec<NodeState> {
        self.nodes.borrow().clone()
    }

    /// The log of a node.
    pub(super) fn log(&self, node: usize) -> &Arc<Log> {
        &self.logs[node]
    }

    /// Asks for something and waits for the answer.
    pub(super) async fn ask(&self, op: Op) -> Result<Answer, Refusal> {
        self.begin(op, None, None, None).await?.1.await.unwrap_or_else(|_| self.lost())
    }

    /// Runs a command in a node, whose output goes to `output`. Answers how it ended.
    pub(super) async fn exec(&self, node: usize, command: Vec<String>, output: LogSink) -> Result<String, Refusal> {
        let (_, reply) = self.begin(Op::Exec { node, command }, None, Some(output), None).await?;
        match reply.await.unwrap_or_else(|_| self.lost())? {
            Answer::Exited(how) => Ok(how),
            Answer::Done => Ok("exit status 0".to_owned()),
        }
    }

    /// Asks for a program on `terminal`. Answers the id by which it can be ended, at once, the reply, and its end.
    pub(super) async fn open_terminal(
        &self,
        node: usize,
        commands: Vec<Vec<String>>,
        terminal: OwnedFd,
    ) -> Result<(u64, oneshot::Receiver<Result<Answer, Refusal>>, oneshot::Receiver<String>), Refusal> {
        let (ended, has_ended) = oneshot::channel();
        let (id, reply) = self.begin(Op::OpenTerminal { node, commands }, Some(terminal), None, Some(ended)).await?;
        Ok((id, reply, has_ended))
    }

    async fn begin(
        &self,
        op: Op,
        descriptor: Option<OwnedFd>,
        output: Option<LogSink>,
        ended: Option<oneshot::Sender<String>>,
    ) -> Result<(u64, oneshot::Receiver<Result<Answer, Refusal>>), Refusal> {
        let ((id, has_id), (reply, has_reply)) = (oneshot::channel(), oneshot::channel());
        let ask = Ask { op, descriptor, output, ended, id, reply };
        if self.commands.send(Command::Ask(ask)).await.is_err() {
            self.lost()?;
        }
        match has_id.await {
            Ok(id) => Ok((id, has_reply)),
            Err(_) => Err(self.lost().err().unwrap_or(Refusal::NotRunning)),
        }
    }

    fn lost(&self) -> Result<Answer, Refusal> {
        let reason = self.gone.borrow().clone().unwrap_or_else(|| "the lab has ended".to_owned());
        Err(Refusal::Failed(reason))
    }

    /// Ends the lab and waits until nothing of it is left.
    pub(super) async fn kill(&self) {
        let _ = self.commands.send(Command::Kill).await;
        self.ended().await;
    }

    /// Waits until nothing of the lab is left; answers why it ended.
    pub(super) async fn ended(&self) -> String {
        self.clone().farewell().await
    }

    /// The same, without being what keeps the lab alive.
    pub(super) fn farewell(self) -> impl Future<Output = String> + Send + 'static {
        Self::watch_end(self.gone)
    }

    async fn watch_end(mut gone: watch::Receiver<Option<String>>) -> String {
        match gone.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the server is shutting down".to_owned(),
        }
    }
}

/// A request that was sent.
struct Pending {
    reply: oneshot::Sender<Result<Answer, Refusal>>,
    /// The node that is up once this has been done.
    starts: Option<usize>,
}

struct Task {
    plan: Arc<LabPlan>,
    socket: UnixStream,
    frames: Frames,
    inbox: mpsc::Receiver<Command>,
    nodes: watch::Sender<Vec<NodeState>>,
    logs: Arc<[Arc<Log>]>,
    events: broadcast::Sender<RuntimeEvent>,
    ready: Option<oneshot::Sender<Option<String>>>,
    last_id: u64,
    pending: HashMap<u64, Pending>,
    outputs: HashMap<u64, Lines>,
    terminals: HashMap<u64, oneshot::Sender<String>>,
    /// Nodes whose end somebody has asked for.
    expected: HashSet<usize>,
    /// The end of the lab itself has been asked for.
    ending: bool,
}

impl Task {
    async fn run(mut self, mut child: Child, gone: watch::Sender<Option<String>>) {
        let reason = match self.serve().await {
            Ok(()) => "the lab was ended".to_owned(),
            Err(reason) => reason,
        };
        let asked = self.ending;
        let was_ready = self.ready.is_none();
        let Self { plan, socket, logs, nodes, events, pending, terminals, mut inbox, .. } = self;
        // Tells the helper to end everything.
        drop(socket);
        let left = tokio::time::timeout(FAREWELL, child.wait()).await;
        if left.is_err() {
            tracing::error!(instance = plan.instance, "the helper of a lab did not end in {FAREWELL:?}");
        }
        // The helper was killed before it could tidy up, or a folder was busy for too long.
        if !matches!(left, Ok(Ok(status)) if status.success()) {
            let _ = tokio::task::spawn_blocking(super::cgroup::sweep).await;
        }
        nodes.send_modify(|nodes| nodes.fill(NodeState::Exited));
        for log in logs.iter() {
            log.close();
        }
        gone.send_replace(Some(reason.clone()));
        drop((pending, terminals));
        inbox.close();
        if !asked && was_ready {
            let _ = events.send(RuntimeEvent::InstanceLost { instance: plan.instance.clone(), reason });
        }
    }

    async fn serve(&mut self) -> Result<(), String> {
        let lost = |error: io::Error| format!("the socket to the lab's helper: {error}");
        let mut bytes = Vec::new();
        Frame::json(&*self.plan).encode(&mut bytes);
        self.send(&bytes, None).await.map_err(lost)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(Command::Ask(ask)) => self.take(ask).await.map_err(lost)?,
                    Some(Command::Kill) | None => {
                        self.ending = true;
                        return Ok(());
                    }
                },
                readable = self.socket.readable() => {
                    readable.map_err(lost)?;
                    match self.socket.try_read(&mut buffer) {
                        Ok(0) if self.ending => return Ok(()),
                        Ok(0) => return Err("the lab's helper process was ended from outside".to_owned()),
                        Ok(length) => self.frames.push(&buffer[..length]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(lost(error)),
                    }
                    while let Some(frame) = self.frames.next()? {
                        self.hear(frame)?;
                    }
                }
            }
        }
    }

    async fn take(&mut self, ask: Ask) -> io::Result<()> {
        self.last_id += 1;
        let id = self.last_id;
        let starts = match &ask.op {
            Op::Start(node) => {
                self.expected.remove(node);
                Some(*node)
            }
            Op::Stop { node, .. } => {
                self.expected.insert(*node);
                None
            }
            Op::Destroy { .. } => {
                self.expected.extend(0..self.plan.nodes.len());
                None
            }
            _ => None,
        };
        self.pending.insert(id, Pending { reply: ask.reply, starts });
        if let Some(output) = ask.output {
            self.outputs.insert(id, Lines { partial: Vec::new(), output });
        }
        if let Some(ended) = ask.ended {
            self.terminals.insert(id, ended);
        }
        let _ = ask.id.send(id);
        let mut bytes = Vec::new();
        Frame::json(&Request { id, op: ask.op }).encode(&mut bytes);
        self.send(&bytes, ask.descriptor).await
    }

    /// Writes a frame; a descriptor goes along with its first byte.
    async fn send(&self, mut bytes: &[u8], descriptor: Option<OwnedFd>) -> io::Result<()> {
        let descriptors: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let mut rights = &descriptors[..];
        while !bytes.is_empty() {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || {
                    let control = [ControlMessage::ScmRights(rights)];
                    let control = if rights.is_empty() { &[][..] } else { &control[..] };
                    let parts = [io::IoSlice::new(bytes)];
                    Ok(sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?)
                })
                .await?;
            bytes = &bytes[sent..];
            rights = &[];
        }
        Ok(())
    }

    fn hear(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::NodeOutput(node, bytes) => {
                if let Some(log) = self.logs.get(node) {
                    log.push(&bytes);
                }
            }
            Frame::ExecOutput(id, bytes) => {
                if let Some(lines) = self.outputs.get_mut(&id) {
                    lines.push(&bytes);
                }
            }
            Frame::Json(body) => match Frame::parse(&body)? {
                Message::Ready { note } => {
                    if let Some(ready) = self.ready.take() {
                        let _ = ready.send(note);
                    }
                }
                Message::Reply { id, result } => self.reply(id, result),
                Message::NodeExited { node, how } => self.node_exited(node, &how),
                Message::TerminalExited { id, how } => {
                    if let Some(ended) = self.terminals.remove(&id) {
                        let _ = ended.send(how);
                    }
                }
                Message::Fatal(reason) => return Err(reason),
            },
        }
        Ok(())
    }

    fn reply(&mut self, id: u64, result: Result<Answer, Refusal>) {
        if let Some(mut lines) = self.outputs.remove(&id) {
            lines.flush();
        }
        if result.is_err() {
            self.terminals.remove(&id);
        }
        let Some(Pending { reply, starts }) = self.pending.remove(&id) else { return };
        if let (Some(node), Ok(_)) = (starts, &result) {
            self.nodes.send_modify(|nodes| nodes[node] = NodeState::Running);
        }
        let _ = reply.send(result);
    }

    fn node_exited(&mut self, node: usize, how: &str) {
        let Some(plan) = self.plan.nodes.get(node) else { return };
        let was_running = self.nodes.borrow()[node] == NodeState::Running;
        self.nodes.send_modify(|nodes| nodes[node] = NodeState::Exited);
        tracing::debug!(instance = self.plan.instance, node = plan.name, how, "a node has ended");
        if was_running && !self.expected.contains(&node) {
            let _ = self.events.send(RuntimeEvent::Node {
                instance: self.plan.instance.clone(),
                node: plan.name.clone(),
                state: NodeState::Exited,
            });
        }
    }
}

/// Cuts output into lines.
struct Lines {
    partial: Vec<u8>,
    output: LogSink,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.partial.len() >= LINE {
                self.flush();
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
    }

    fn flush(&mut self) {
        if !self.partial.is_empty() {
            (self.output)(String::from_utf8_lossy(&self.partial).trim_end_matches('\r'));
            self.partial.clear();
        }
    }
}
