//! The server's end of one lab: a task that owns the socket to its helper, and a handle to that task.
//!
//! The task turns replies and events into what callers wait for. It ends when the helper has ended, and the other way
//! round: closing the socket is how a lab is ended for sure.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command as Process};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::helper;
use super::logs::{Log, Passed};
use super::protocol::{Answer, Frame, Frames, LabPlan, Message, Op, Refusal, Request};
use crate::history::lines::Lines;
use crate::labs::model::NodeState;
use crate::runtime::capture::Opened;
use crate::runtime::stats::Usage;
use crate::runtime::{LogSink, RuntimeEvent};

/// How long the helper may take to end once its socket is closed before it is killed, and then before that is called a
/// failure.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often, and how long after one another, cgroups are swept that the kernel doesn't let go of.
const SWEEPS: u32 = 20;
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What the task can be asked.
struct Ask {
    op: Op,
    descriptor: Option<OwnedFd>,
    /// Where the output of an `Exec` goes.
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
    asks: mpsc::Sender<Ask>,
    /// Ends the lab at once, whatever its task is waiting for.
    kill: CancellationToken,
    nodes: watch::Receiver<Vec<NodeState>>,
    ready: watch::Receiver<Option<Option<String>>>,
    /// Why it ended, once it has.
    gone: watch::Receiver<Option<String>>,
    logs: Arc<[Arc<Log>]>,
    lives: Lives,
    plan: Arc<LabPlan>,
}

/// For each node what is cancelled when it ends. It has another one from then on.
type Lives = Arc<Mutex<Vec<CancellationToken>>>;

impl Instance {
    /// Starts the helper of a lab. It takes requests once [`Self::ready`] has answered.
    ///
    /// # Errors
    /// A sentence that says what failed. Nothing is left then.
    pub(super) fn start(
        program: &Path,
        plan: LabPlan,
        events: broadcast::Sender<RuntimeEvent>,
    ) -> Result<Self, String> {
        let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(step("making a socket"))?;
        ours.set_nonblocking(true).map_err(step("making a socket"))?;
        let socket = UnixStream::from_std(ours).map_err(step("making a socket"))?;
        let child = Process::new(program)
            .arg0("antimony-host")
            .arg(helper::KEEPER)
            // For those who look at the processes of this machine.
            .arg(&plan.instance)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("starting {}: {error}", program.display()))?;
        let plan = Arc::new(plan);
        let (passed, has_passed) = mpsc::unbounded_channel();
        let log = |node: usize| Arc::new(Log::new(node, passed.clone()));
        let logs: Arc<[Arc<Log>]> = (0..plan.nodes.len()).map(log).collect();
        let (asks, inbox) = mpsc::channel(64);
        let nodes = watch::Sender::new(vec![NodeState::Starting; plan.nodes.len()]);
        let (ready, gone) = (watch::Sender::new(None), watch::Sender::new(None));
        let kill = CancellationToken::new();
        let lives: Lives = Arc::new(Mutex::new(plan.nodes.iter().map(|_| CancellationToken::new()).collect()));
        let instance = Self {
            asks,
            kill: kill.clone(),
            nodes: nodes.subscribe(),
            ready: ready.subscribe(),
            gone: gone.subscribe(),
            logs: Arc::clone(&logs),
            lives: Arc::clone(&lives),
            plan: Arc::clone(&plan),
        };
        let task = Task {
            plan,
            socket,
            frames: Frames::default(),
            inbox,
            nodes,
            logs,
            lives,
            events,
            ready,
            last_id: 0,
            pending: HashMap::new(),
            outputs: HashMap::new(),
            passed,
            has_passed,
            terminals: HashMap::new(),
            orphans: Vec::new(),
            expected: HashSet::new(),
        };
        tokio::spawn(task.run(child, kill, gone));
        Ok(instance)
    }

    /// Waits until requests are taken. Answers what the helper can't do on this machine, if anything.
    ///
    /// # Errors
    /// Why the lab has ended instead. Nothing is left of it.
    pub(super) async fn ready(&self) -> Result<Option<String>, String> {
        let mut ready = self.ready.clone();
        let note = ready.wait_for(Option::is_some).await.map(|note| note.clone().flatten());
        match note {
            Ok(note) => Ok(note),
            Err(_) => Err(self.ended().await),
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

    /// What each node uses; `None`: it doesn't run.
    pub(super) async fn stats(&self) -> Result<Vec<Option<Usage>>, Refusal> {
        match self.ask(Op::Stats).await? {
            Answer::Stats(stats) => Ok(stats),
            _ => Err(Refusal::Failed("the lab's helper answered something else".to_owned())),
        }
    }

    /// Runs a command in a node, whose output goes to `output`. Answers how it ended.
    pub(super) async fn exec(&self, node: usize, command: Vec<String>, output: LogSink) -> Result<String, Refusal> {
        let (_, reply) = self.begin(Op::Exec { node, command }, None, Some(output), None).await?;
        match reply.await.unwrap_or_else(|_| self.lost())? {
            Answer::Exited(how) => Ok(how),
            Answer::Done | Answer::Stats(_) | Answer::Interfaces(_) => Ok("exit status 0".to_owned()),
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

    /// Has a packet socket opened in a node's network.
    pub(super) async fn open_capture(&self, node: usize) -> Result<Opened, Refusal> {
        let failed = |error: io::Error| Refusal::Failed(format!("a packet socket: {error}"));
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = pair.map_err(|error| failed(error.into()))?;
        let (_, reply) = self.begin(Op::OpenCapture(node), Some(theirs), None, None).await?;
        let Answer::Interfaces(interfaces) = reply.await.unwrap_or_else(|_| self.lost())? else {
            return Err(Refusal::Failed("the lab's helper answered something else".to_owned()));
        };
        // It was sent before the reply: nothing is to be waited for.
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed(error.into()))?;
        let (_, mut descriptors) = helper::channel::receive(ours.as_raw_fd(), &mut [0]).map_err(failed)?;
        let socket = descriptors.pop().ok_or_else(|| Refusal::Failed("no packet socket came".to_owned()))?;
        Ok(Opened { socket, interfaces })
    }

    /// Ready when a node, which runs now, has ended, or the whole lab has.
    pub(super) fn life(&self, node: usize) -> CancellationToken {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)[node].clone()
    }

    /// Asks for something that a descriptor goes along with. Answers the id of the request at once, and the reply.
    pub(super) async fn begin_with(
        &self,
        op: Op,
        descriptor: OwnedFd,
    ) -> Result<(u64, oneshot::Receiver<Result<Answer, Refusal>>), Refusal> {
        self.begin(op, Some(descriptor), None, None).await
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
        if self.asks.send(ask).await.is_err() {
            self.lost()?;
        }
        match has_id.await {
            Ok(id) => Ok((id, has_reply)),
            Err(_) => Err(self.lost().err().unwrap_or(Refusal::NotRunning)),
        }
    }

    /// What whoever waits for a reply that never comes is told.
    pub(super) fn lost(&self) -> Result<Answer, Refusal> {
        let reason = self.gone.borrow().clone().unwrap_or_else(|| "the lab has ended".to_owned());
        Err(Refusal::Failed(reason))
    }

    /// Ends the lab and waits until nothing of it is left.
    ///
    /// # Errors
    /// When something still is after a time in which a kernel that is well kills everything. It can be called again.
    pub(super) async fn kill(&self) -> Result<(), String> {
        self.kill.cancel();
        let ended = tokio::time::timeout(2 * FAREWELL, self.ended()).await;
        ended
            .map(drop)
            .map_err(|_| format!("the processes of {} did not end in {:?}", self.plan.instance, 2 * FAREWELL))
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
    /// It opens a terminal, which has to be closed again if nobody waits for it any more.
    opens: bool,
}

/// The output of an `Exec` on its way to where it goes.
struct Output {
    /// No more than [`super::protocol::WINDOW`] bytes wait in here.
    chunks: mpsc::UnboundedSender<Vec<u8>>,
    /// Ends when everything has been passed on.
    passing: tokio::task::JoinHandle<()>,
}

struct Task {
    plan: Arc<LabPlan>,
    socket: UnixStream,
    frames: Frames,
    inbox: mpsc::Receiver<Ask>,
    nodes: watch::Sender<Vec<NodeState>>,
    logs: Arc<[Arc<Log>]>,
    lives: Lives,
    events: broadcast::Sender<RuntimeEvent>,
    ready: watch::Sender<Option<Option<String>>>,
    last_id: u64,
    pending: HashMap<u64, Pending>,
    outputs: HashMap<u64, Output>,
    /// Handed to those who pass on what is printed.
    passed: mpsc::UnboundedSender<Passed>,
    /// What they have passed on.
    has_passed: mpsc::UnboundedReceiver<Passed>,
    terminals: HashMap<u64, oneshot::Sender<String>>,
    /// Nodes whose end somebody has asked for.
    expected: HashSet<usize>,
    /// Terminals that were opened for somebody who has gone away meanwhile.
    orphans: Vec<u64>,
}

impl Task {
    async fn run(mut self, mut child: Child, kill: CancellationToken, gone: watch::Sender<Option<String>>) {
        // `None`: somebody wanted it to end.
        let reason = match kill.run_until_cancelled(self.serve()).await {
            None | Some(Ok(())) => None,
            Some(Err(reason)) => Some(reason),
        };
        let was_ready = self.ready.borrow().is_some();
        let Self { plan, socket, logs, lives, nodes, events, mut inbox, .. } = self;
        inbox.close();
        // Tells the helper to end everything.
        drop(socket);
        let clean = match tokio::time::timeout(FAREWELL, child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                tracing::warn!(instance = plan.instance, "the lab's helper does not end and is killed");
                let _ = child.start_kill();
                let _ = child.wait().await;
                false
            }
        };
        if !clean {
            // It was killed before it could tidy up, or the kernel still held on to something. What it holds on to for
            // longer is swept up while nobody waits for it.
            let sweep = || async { tokio::task::spawn_blocking(super::cgroup::sweep).await.unwrap_or(true) };
            if !sweep().await {
                tokio::spawn(async move {
                    for _ in 0..SWEEPS {
                        tokio::time::sleep(SWEEP_PAUSE).await;
                        if sweep().await {
                            return;
                        }
                    }
                });
            }
        }
        nodes.send_modify(|nodes| nodes.fill(NodeState::Exited));
        for log in logs.iter() {
            log.close();
        }
        for life in lives.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            life.cancel();
        }
        gone.send_replace(Some(reason.clone().unwrap_or_else(|| "the lab was ended".to_owned())));
        if let (Some(reason), true) = (reason, was_ready) {
            let _ = events.send(RuntimeEvent::InstanceLost { instance: plan.instance.clone(), reason });
        }
    }

    /// Comes back without an error when nobody has a handle any more.
    async fn serve(&mut self) -> Result<(), String> {
        let lost = |error: io::Error| format!("the socket to the lab's helper: {error}");
        let mut bytes = Vec::new();
        Frame::json(&*self.plan).encode(&mut bytes);
        self.send(&bytes, None).await.map_err(lost)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            tokio::select! {
                ask = self.inbox.recv() => match ask {
                    Some(ask) => self.take(ask).await.map_err(lost)?,
                    None => return Ok(()),
                },
                Some(passed) = self.has_passed.recv() => {
                    let op = match passed {
                        Passed::Node(node, bytes) => Op::NodePassed(node, bytes),
                        Passed::Exec(id, bytes) => Op::ExecPassed(id, bytes),
                    };
                    self.request(op, None).await.map_err(lost)?;
                }
                readable = self.socket.readable() => {
                    readable.map_err(lost)?;
                    match self.socket.try_read(&mut buffer) {
                        Ok(0) => return Err("the lab's helper process was ended from outside".to_owned()),
                        Ok(length) => self.frames.push(&buffer[..length]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(lost(error)),
                    }
                    while let Some(frame) = self.frames.next()? {
                        self.hear(frame)?;
                    }
                    for id in std::mem::take(&mut self.orphans) {
                        self.request(Op::EndTerminal(id), None).await.map_err(lost)?;
                    }
                }
            }
        }
    }

    async fn take(&mut self, ask: Ask) -> io::Result<()> {
        let id = self.last_id + 1;
        let opens = matches!(ask.op, Op::OpenTerminal { .. });
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
        self.pending.insert(id, Pending { reply: ask.reply, starts, opens });
        if let Some(output) = ask.output {
            let (chunks, passing) = mpsc::unbounded_channel();
            let passing = tokio::spawn(pass_on(id, passing, output, self.passed.clone()));
            self.outputs.insert(id, Output { chunks, passing });
        }
        if let Some(ended) = ask.ended {
            self.terminals.insert(id, ended);
        }
        let _ = ask.id.send(id);
        self.request(ask.op, ask.descriptor).await
    }

    /// Sends a request under the next id.
    async fn request(&mut self, op: Op, descriptor: Option<OwnedFd>) -> io::Result<()> {
        self.last_id += 1;
        let mut bytes = Vec::new();
        Frame::json(&Request { id: self.last_id, op }).encode(&mut bytes);
        self.send(&bytes, descriptor).await
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
                if let Some(output) = self.outputs.get(&id) {
                    // An error means that passing it on has broken, which whoever waits for the command is told.
                    let _ = output.chunks.send(bytes);
                }
            }
            Frame::Json(body) => match Frame::parse(&body)? {
                Message::Ready { note } => drop(self.ready.send_replace(Some(note))),
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
        let output = self.outputs.remove(&id);
        if result.is_err() {
            self.terminals.remove(&id);
        }
        let Some(Pending { reply, starts, opens }) = self.pending.remove(&id) else { return };
        if let Some(Output { chunks, passing }) = output {
            drop(chunks);
            // Whoever asked hears of the end when they have seen everything that was printed before.
            tokio::spawn(async move {
                let _ = passing.await;
                let _ = reply.send(result);
            });
            return;
        }
        if let (Some(node), Ok(_)) = (starts, &result) {
            self.nodes.send_modify(|nodes| nodes[node] = NodeState::Running);
        }
        if let Err(Ok(_)) = reply.send(result)
            && opens
        {
            self.orphans.push(id);
        }
    }

    fn node_exited(&mut self, node: usize, how: &str) {
        let Some(plan) = self.plan.nodes.get(node) else { return };
        let was_running = self.nodes.borrow()[node] == NodeState::Running;
        self.nodes.send_modify(|nodes| nodes[node] = NodeState::Exited);
        let life = &mut self.lives.lock().unwrap_or_else(PoisonError::into_inner)[node];
        std::mem::take(life).cancel();
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

/// Passes on what a command prints, at the pace of those who read it. Ends when all of it is passed on.
async fn pass_on(
    id: u64,
    mut chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    output: LogSink,
    passed: mpsc::UnboundedSender<Passed>,
) {
    let mut lines = Lines::default();
    while let Some(chunk) = chunks.recv().await {
        lines.push(&chunk, |line| output.line(line));
        output.room().await;
        // An error means that the lab has ended.
        let _ = passed.send(Passed::Exec(id, chunk.len()));
    }
    lines.finish(|line| output.line(line));
}
