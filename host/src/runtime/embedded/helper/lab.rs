//! The first process of a lab: PID 1 of its namespaces, root of its user namespace, and nobody on the host.
//!
//! One loop over file descriptors. It takes the driver's requests, keeps the namespaces of the nodes open, reads what
//! nodes print, and notices what has ended. It never waits for a node: whatever takes longer than making a namespace
//! is a descriptor or a deadline in the loop.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::fstat;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, fchown, pipe2, read, setgroups, setresgid, setresuid};

use super::channel::{self, Channel, Note};
use super::confine::Confinement;
use super::network::Network;
use super::spawn::{self, Context, Namespaces, Program, Stdio};
use super::usage;
use crate::runtime::capture::Opened;
use crate::runtime::embedded::cgroup::LabCgroups;
use crate::runtime::embedded::meters::Meters;
use crate::runtime::embedded::protocol::{
    Answer, Frame, Frames, IdMap, LabPlan, Message, Op, Refusal, Request, WINDOW,
};
use crate::runtime::sessions;
use crate::runtime::stats::{Memory, Usage, bound_interfaces};
use crate::runtime::sys::SingleThreaded;

/// How long making a node's namespaces, or starting a process in one, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long working on the files of a node may take.
const FILES_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes waiting for the driver above which nodes' output is left in its pipes.
const BACKLOG: usize = 512 << 10;
const CHUNK: usize = 64 << 10;
/// How long a session may take to react to being hung up.
const HANGUP: Duration = Duration::from_secs(1);

/// A node as this process keeps it.
struct Node {
    namespaces: Option<Namespaces>,
    network: Option<Network>,
    /// Both ends of the pipe that its processes print into: ours stays open over restarts.
    log: (OwnedFd, OwnedFd),
    /// Bytes of that which were sent and not passed on yet.
    unpassed: usize,
    init: Option<Pid>,
    pid_namespace: Option<OwnedFd>,
    kill_at: Option<Instant>,
    /// Requests that are answered when it has stopped.
    waiting: Vec<u64>,
}

/// The output of an `Exec`.
struct Output {
    pipe: OwnedFd,
    /// Bytes that were sent and not passed on yet.
    unpassed: usize,
}

/// What a process is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Init(usize),
    Exec(u64),
    Terminal(u64),
    /// Works on a node's files, and ends.
    Files(u64),
}

/// A process that has been asked for and doesn't run its program yet.
struct Starting {
    request: u64,
    node: usize,
    role: Role,
    channel: Channel,
    pid: Option<Pid>,
    failed: Option<String>,
    deadline: Instant,
    /// Set if its end was asked for before it began.
    unwanted: bool,
}

struct Lab<'a> {
    single: SingleThreaded,
    plan: &'a LabPlan,
    cgroups: &'a LabCgroups,
    confinement: Confinement,
    control: &'a File,
    home: File,
    outgoing: VecDeque<u8>,
    frames: Frames,
    received: VecDeque<OwnedFd>,
    nodes: Vec<Node>,
    starting: Vec<Starting>,
    roles: HashMap<Pid, Role>,
    /// Output of `Exec` requests.
    outputs: HashMap<u64, Output>,
    /// Ends of processes that nobody has claimed yet.
    ended: Vec<(Pid, String)>,
    /// Sessions that were hung up, and when what is left of them is killed.
    hung_up: Vec<(Pid, Instant)>,
    /// Requests that are answered when everything has ended.
    destroying: Vec<u64>,
}

/// Runs the lab. Answers an exit code, though nobody is interested in it.
pub(super) fn run(single: SingleThreaded, plan: &LabPlan, control: &File, go: &OwnedFd, cgroups: &LabCgroups) -> i32 {
    // The keeper says go once the id maps are written; if it ends instead, so do we.
    if read(go, &mut [0]) != Ok(1) {
        return 1;
    }
    let fatal = |error: String| {
        let mut bytes = Vec::new();
        Frame::json(&Message::Fatal(error)).encode(&mut bytes);
        let _ = (&*control).write_all(&bytes);
        1
    };
    match Lab::prepare(single, plan, control, cgroups) {
        Ok(lab) => match lab.serve(go) {
            Ok(()) => 0,
            Err(error) => fatal(format!("the lab's first process: {error}")),
        },
        Err(error) => fatal(error),
    }
}

impl<'a> Lab<'a> {
    fn prepare(
        single: SingleThreaded,
        plan: &'a LabPlan,
        control: &'a File,
        cgroups: &'a LabCgroups,
    ) -> Result<Self, String> {
        let step = |what: &'static str| move |error: nix::Error| format!("{what}: {error}");
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        if plan.ids != IdMap::Own {
            setgroups(&[]).map_err(step("giving up groups"))?;
        }
        setresgid(gid, gid, gid).map_err(step("changing the group"))?;
        setresuid(uid, uid, uid).map_err(step("changing the user"))?;
        prctl::set_dumpable(true).map_err(step("keeping /proc accessible"))?;
        // After the change of user, which clears it. The keeper has one thread, so this can't fire early.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("tying the lab to its keeper"))?;
        prctl::set_name(c"antimony-lab").map_err(step("taking a name"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(step("mounting /proc"))?;
        let home = File::open("/proc/self/ns/net").map_err(|error| format!("/proc/self/ns/net: {error}"))?;
        let mut lab = Self {
            single,
            plan,
            cgroups,
            confinement: Confinement::new(plan.processes)?,
            control,
            home,
            outgoing: VecDeque::new(),
            frames: Frames::default(),
            received: VecDeque::new(),
            nodes: Vec::new(),
            starting: Vec::new(),
            roles: HashMap::new(),
            outputs: HashMap::new(),
            ended: Vec::new(),
            hung_up: Vec::new(),
            destroying: Vec::new(),
        };
        for index in 0..plan.nodes.len() {
            let log = lab.pipe(index).map_err(|error| format!("making a pipe: {error}"))?;
            lab.nodes.push(Node {
                namespaces: None,
                network: None,
                log,
                unpassed: 0,
                init: None,
                pid_namespace: None,
                kill_at: None,
                waiting: Vec::new(),
            });
        }
        non_blocking(control).map_err(|error| format!("the lab's socket: {error}"))?;
        lab.say(&Message::Ready { note: cgroups.note().map(str::to_owned) });
        Ok(lab)
    }

    /// A pipe into which a node's processes print. They own it, so that they can open it again as `/dev/stdout`.
    fn pipe(&self, node: usize) -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let root = self.plan.ids.root_in_lab(node);
        fchown(&write, Some(Uid::from_raw(root)), Some(Gid::from_raw(root)))?;
        non_blocking(&read)?;
        Ok((read, write))
    }

    fn serve(mut self, keeper: &OwnedFd) -> io::Result<()> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        loop {
            let events = self.wait(keeper, &children)?;
            if events.keeper_gone || (events.control && !self.read_control()?) {
                return Ok(());
            }
            for node in events.logs {
                self.forward(Source::Node(node));
            }
            for id in events.outputs {
                self.forward(Source::Exec(id));
            }
            self.hear_children();
            while let Ok(Some(_)) = children.read_signal() {}
            self.reap();
            self.settle_ends();
            self.meet_deadlines();
            self.finish_destroy();
            self.flush()?;
        }
    }

    fn wait(&self, keeper: &OwnedFd, children: &SignalFd) -> io::Result<Events> {
        let mut fds = Vec::new();
        let mut control = PollFlags::POLLIN;
        if !self.outgoing.is_empty() {
            control |= PollFlags::POLLOUT;
        }
        fds.push(PollFd::new(self.control.as_fd(), control));
        fds.push(PollFd::new(keeper.as_fd(), PollFlags::POLLHUP));
        fds.push(PollFd::new(children.as_fd(), PollFlags::POLLIN));
        fds.extend(self.starting.iter().map(|each| PollFd::new(each.channel.as_fd(), PollFlags::POLLIN)));
        let first_log = fds.len();
        // Nothing is heard of those whose output has to wait.
        let events = |unpassed: usize| {
            let waits = unpassed >= WINDOW || self.outgoing.len() >= BACKLOG;
            if waits { PollFlags::empty() } else { PollFlags::POLLIN }
        };
        let outputs: Vec<(u64, &Output)> = self.outputs.iter().map(|(id, output)| (*id, output)).collect();
        fds.extend(self.nodes.iter().map(|node| PollFd::new(node.log.0.as_fd(), events(node.unpassed))));
        fds.extend(outputs.iter().map(|(_, output)| PollFd::new(output.pipe.as_fd(), events(output.unpassed))));
        let deadlines = self.starting.iter().map(|each| each.deadline);
        let deadlines = deadlines.chain(self.nodes.iter().filter_map(|node| node.kill_at));
        let deadlines = deadlines.chain(self.hung_up.iter().map(|(_, at)| *at));
        let timeout = deadlines.min().map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |index: usize| fds[index].any().unwrap_or(false);
        let first_output = first_log + self.nodes.len();
        Ok(Events {
            control: ready(0),
            keeper_gone: fds[1].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)),
            logs: (0..self.nodes.len()).filter(|index| ready(first_log + index)).collect(),
            outputs: outputs
                .into_iter()
                .enumerate()
                .filter_map(|(index, (id, _))| ready(first_output + index).then_some(id))
                .collect(),
        })
    }

    /// Reads requests and does them. False: the server is gone.
    fn read_control(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; CHUNK];
        let length = match channel::receive(self.control.as_raw_fd(), &mut bytes) {
            Ok((0, _)) => return Ok(false),
            Ok((length, descriptors)) => {
                self.received.extend(descriptors);
                length
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(true);
            }
            Err(_) => return Ok(false),
        };
        self.frames.push(&bytes[..length]);
        while let Some(frame) = self.frames.next().map_err(io::Error::other)? {
            if let Frame::Json(body) = frame {
                let Request { id, op } = Frame::parse(&body).map_err(io::Error::other)?;
                self.handle(id, op);
            }
        }
        Ok(true)
    }

    fn handle(&mut self, id: u64, op: Op) {
        let always = matches!(
            op,
            Op::EndTerminal(_) | Op::EndSave(_) | Op::Destroy { .. } | Op::NodePassed(..) | Op::ExecPassed(..)
        );
        if !self.destroying.is_empty() && !always {
            if matches!(op, Op::OpenTerminal { .. } | Op::OpenCapture(_) | Op::Save { .. } | Op::Restore(_)) {
                // What came with it is not to be taken for what comes with another.
                self.received.pop_front();
            }
            self.reply(id, Err(Refusal::Failed("the instance is being destroyed".to_owned())));
            return;
        }
        match op {
            Op::CreateNode(node) => {
                let result = self.create_node(node).map_err(|error| Refusal::Failed(error.to_string()));
                self.reply(id, result.map(|()| Answer::Done));
            }
            Op::CreateLink(link) => {
                let result = self.create_link(link).map_err(|error| Refusal::Failed(error.to_string()));
                self.reply(id, result.map(|()| Answer::Done));
            }
            Op::Start(node) => self.start(id, node),
            Op::Stop { node, grace } => {
                self.nodes[node].waiting.push(id);
                self.stop(node, Duration::from_millis(grace));
            }
            Op::Exec { node, command } => {
                let opened = self.pipe(node);
                let program = |pipe| Program {
                    commands: std::slice::from_ref(&command),
                    stdio: Stdio::Pipe(pipe),
                    env: self.plan.nodes[node].env.clone(),
                    user: self.plan.nodes[node].user,
                    folder: "/",
                };
                match opened {
                    Ok((ours, theirs)) => {
                        let program = program(&theirs);
                        self.spawn(id, node, Role::Exec(id), &program);
                        self.outputs.insert(id, Output { pipe: ours, unpassed: 0 });
                    }
                    Err(error) => self.reply(id, Err(Refusal::Failed(format!("making a pipe: {error}")))),
                }
            }
            Op::OpenTerminal { node, commands } => {
                let Some(terminal) = self.received.pop_front() else {
                    self.reply(id, Err(Refusal::Failed("no terminal came with the request".to_owned())));
                    return;
                };
                let mut env = self.plan.nodes[node].env.clone();
                env.retain(|(key, _)| key != "TERM");
                env.push(("TERM".to_owned(), "xterm-256color".to_owned()));
                let stdio = Stdio::Terminal(&terminal);
                let program = Program { commands: &commands, stdio, env, user: (0, 0), folder: "/root" };
                self.spawn(id, node, Role::Terminal(id), &program);
            }
            Op::OpenCapture(node) => {
                let result = self.open_capture(node);
                self.reply(id, result.map(Answer::Interfaces));
            }
            Op::EndTerminal(terminal) => {
                self.end_terminal(terminal);
                self.reply(id, Ok(Answer::Done));
            }
            Op::Save { node, limits } => self.work_on_files(id, node, |context, namespaces, pipe, channel| {
                spawn::save_node(context, namespaces, limits, pipe, channel)
            }),
            Op::Restore(node) => self.work_on_files(id, node, spawn::restore_node),
            Op::EndSave(save) => {
                self.end_work_on_files(|id| id == save);
                self.reply(id, Ok(Answer::Done));
            }
            Op::NodePassed(node, bytes) => {
                let unpassed = &mut self.nodes[node].unpassed;
                *unpassed = unpassed.saturating_sub(bytes);
            }
            Op::ExecPassed(request, bytes) => {
                if let Some(output) = self.outputs.get_mut(&request) {
                    output.unpassed = output.unpassed.saturating_sub(bytes);
                }
            }
            Op::Stats => {
                let stats = self.stats();
                self.reply(id, Ok(Answer::Stats(stats)));
            }
            Op::Destroy { grace } => {
                self.destroying.push(id);
                self.end_work_on_files(|_| true);
                for node in 0..self.nodes.len() {
                    self.stop(node, Duration::from_millis(grace));
                }
            }
        }
    }

    /// What each node uses that runs. What its cgroups don't tell is summed over its processes.
    fn stats(&self) -> Vec<Option<Usage>> {
        let mut sums = None;
        let mut stats: Vec<_> = (0..self.nodes.len()).map(|node| self.usage(node, &mut sums)).collect();
        bound_interfaces(stats.iter_mut().flatten());
        stats
    }

    fn usage(&self, index: usize, sums: &mut Option<HashMap<u64, usage::Sum>>) -> Option<Usage> {
        let node = &self.nodes[index];
        let (pid_namespace, _) = (node.pid_namespace.as_ref()?, node.init?);
        let network = node.network.as_ref().map(|network| network.interfaces(&self.home));
        let meters = self.cgroups.meters(index);
        let mut usage = Usage {
            cpu: meters.and_then(Meters::cpu),
            memory: meters.and_then(Meters::memory),
            processes: meters.and_then(Meters::processes),
            interfaces: network.and_then(Result::ok).unwrap_or_default(),
        };
        if usage.cpu.is_none() || usage.memory.is_none() || usage.processes.is_none() {
            let sums = sums.get_or_insert_with(|| usage::by_namespace(&self.inits()).unwrap_or_default());
            let sum = inode(pid_namespace).and_then(|namespace| sums.get(&namespace));
            usage.cpu = usage.cpu.or(sum.map(|sum| sum.cpu));
            usage.memory = usage.memory.or(sum.map(|sum| Memory { bytes: sum.memory, limit: None }));
            usage.processes = usage.processes.or(sum.map(|sum| sum.processes));
        }
        Some(usage)
    }

    /// The PID namespace of each node's init.
    fn inits(&self) -> HashMap<i32, u64> {
        let init = |node: &Node| Some((node.init?.as_raw(), inode(node.pid_namespace.as_ref()?)?));
        self.nodes.iter().filter_map(init).collect()
    }

    fn context(&self, node: usize) -> Context<'_> {
        Context { single: self.single, plan: self.plan, cgroups: self.cgroups, confinement: &self.confinement, node }
    }

    fn create_node(&mut self, node: usize) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        self.single.fork(0, || spawn::create_node(self.context(node), &theirs))?;
        drop(theirs);
        let hear = || match ours.receive_within(PATIENCE)? {
            Some((Note::Failed(error), _)) => Err(io::Error::other(error)),
            Some(note) => Ok(note),
            None => Err(io::Error::other("the process that builds the node ended")),
        };
        let (Note::Pid(pid), _) = hear()? else { return Err(io::Error::other("no process id")) };
        let built = (|| {
            let folder = format!("/proc/{pid}");
            let map = format!("0 {} {}\n", self.plan.ids.root_in_lab(node), self.plan.ids.width());
            if self.plan.ids == IdMap::Own {
                fs::write(format!("{folder}/setgroups"), "deny")?;
            }
            fs::write(format!("{folder}/uid_map"), &map)?;
            fs::write(format!("{folder}/gid_map"), &map)?;
            ours.send(&Note::Go, &[])?;
            hear()
        })();
        if built.is_err() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let (Note::Namespaces, mut descriptors) = built? else { return Err(io::Error::other("no namespaces")) };
        if descriptors.len() != spawn::NAMESPACES.len() + 2 {
            return Err(io::Error::other("some namespaces are missing"));
        }
        let user = descriptors.remove(0);
        let null = descriptors.pop().expect("counted above");
        let baseline = descriptors.pop().expect("counted above");
        let network = File::from(descriptors[0].try_clone()?);
        let network = Network::open(network, self.home.as_fd())
            .map_err(|error| io::Error::other(format!("opening the node's network: {error}")))?;
        self.nodes[node].network = Some(network);
        self.nodes[node].namespaces = Some(Namespaces { user, null, baseline, others: descriptors });
        Ok(())
    }

    fn create_link(&mut self, index: usize) -> io::Result<()> {
        let link = &self.plan.links[index];
        let [near, far] = [link.ends[0].node, link.ends[1].node];
        let missing = || io::Error::other("a node of the link was not created");
        // Taken out and put back, since a link needs two of them at once.
        let mut first = self.nodes[near].network.take().ok_or_else(missing)?;
        let result = if near == far {
            first.connect(link, None)
        } else {
            match self.nodes[far].network.as_mut() {
                Some(second) => first.connect(link, Some(second)),
                None => Err(missing()),
            }
        };
        self.nodes[near].network = Some(first);
        result
    }

    /// Sends a packet socket of a node over the socket that came with the request. It is the server's alone: the node sees
    /// nothing of it, and none of its processes gets it.
    fn open_capture(&mut self, node: usize) -> Result<Vec<(String, u32)>, Refusal> {
        let failed = |error: io::Error| Refusal::Failed(error.to_string());
        let back =
            self.received.pop_front().ok_or_else(|| Refusal::Failed("no socket came with the request".into()))?;
        let Node { network: Some(network), init: Some(_), .. } = &self.nodes[node] else {
            return Err(Refusal::NotRunning);
        };
        let Opened { socket, interfaces } = network.open_capture(self.home.as_fd()).map_err(failed)?;
        channel::send_descriptor(&back, &socket).map_err(failed)?;
        Ok(interfaces)
    }

    fn interfaces(plan: &LabPlan, node: usize) -> impl Iterator<Item = &str> {
        plan.links
            .iter()
            .flat_map(|link| &link.ends)
            .filter(move |end| end.node == node)
            .map(|end| end.interface.as_str())
    }

    fn start(&mut self, id: u64, node: usize) {
        let busy = self.starting.iter().any(|each| each.role == Role::Init(node));
        if self.nodes[node].init.is_some() || busy {
            self.reply(id, Err(Refusal::Failed("the node is running already".to_owned())));
            return;
        }
        let started = (|| {
            if let Some(network) = &mut self.nodes[node].network {
                network.unpark(Self::interfaces(self.plan, node))?;
            }
            let namespaces =
                self.nodes[node].namespaces.as_ref().ok_or_else(|| io::Error::other("the node was not created"))?;
            let (ours, theirs) = Channel::pair()?;
            let log = &self.nodes[node].log.1;
            self.single.fork(0, || spawn::start_node(self.context(node), namespaces, log, theirs))?;
            Ok::<_, io::Error>(ours)
        })();
        self.watch(id, node, Role::Init(node), started);
    }

    fn spawn(&mut self, id: u64, node: usize, role: Role, program: &Program<'_>) {
        let started = match (&self.nodes[node].namespaces, &self.nodes[node].pid_namespace, self.nodes[node].init) {
            (Some(namespaces), Some(pid_namespace), Some(_)) => (|| {
                let (ours, theirs) = Channel::pair()?;
                self.single
                    .fork(0, || spawn::run_program(self.context(node), namespaces, pid_namespace, program, &theirs))?;
                Ok(ours)
            })(),
            _ => {
                self.reply(id, Err(Refusal::NotRunning));
                return;
            }
        };
        self.watch(id, node, role, started);
    }

    /// Makes a process that works on the files of a node and on the pipe that came with the request. It is answered when that
    /// process has ended.
    fn work_on_files(
        &mut self,
        id: u64,
        node: usize,
        work: impl FnOnce(Context<'_>, &Namespaces, &OwnedFd, &Channel) -> i32,
    ) {
        let Some(pipe) = self.received.pop_front() else {
            self.reply(id, Err(Refusal::Failed("no pipe came with the request".to_owned())));
            return;
        };
        let started = (|| {
            let namespaces =
                self.nodes[node].namespaces.as_ref().ok_or_else(|| io::Error::other("the node was not created"))?;
            let (ours, theirs) = Channel::pair()?;
            let pid = self.single.fork(0, || work(self.context(node), namespaces, &pipe, &theirs))?;
            Ok::<_, io::Error>((ours, pid))
        })();
        let (channel, pid) = match started {
            Ok((channel, pid)) => (Ok(channel), Some(pid)),
            Err(error) => (Err(error), None),
        };
        self.watch(id, node, Role::Files(id), channel);
        if let Some(each) = self.starting.iter_mut().find(|each| each.role == Role::Files(id)) {
            each.pid = pid;
            each.deadline = Instant::now() + FILES_PATIENCE;
        }
    }

    fn end_work_on_files(&mut self, which: impl Fn(u64) -> bool) {
        for each in &self.starting {
            if let (Role::Files(id), Some(pid)) = (each.role, each.pid)
                && which(id)
            {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }

    fn watch(&mut self, request: u64, node: usize, role: Role, started: io::Result<Channel>) {
        match started {
            Ok(channel) => self.starting.push(Starting {
                request,
                node,
                role,
                channel,
                pid: None,
                failed: None,
                deadline: Instant::now() + PATIENCE,
                unwanted: false,
            }),
            Err(error) => self.reply(request, Err(Refusal::Failed(error.to_string()))),
        }
    }

    /// Takes in what children report that are on their way into a node.
    fn hear_children(&mut self) {
        let mut index = 0;
        while index < self.starting.len() {
            match self.hear_child(index) {
                false => index += 1,
                true => {
                    let started = self.starting.remove(index);
                    self.started(started);
                }
            }
        }
    }

    /// True: that child runs its program, or has failed.
    fn hear_child(&mut self, index: usize) -> bool {
        loop {
            let each = &mut self.starting[index];
            match each.channel.receive_within(Duration::ZERO) {
                Ok(Some((Note::Pid(pid), _))) => {
                    let pid = Pid::from_raw(pid);
                    each.pid = Some(pid);
                    self.roles.insert(pid, each.role);
                    if let Role::Init(node) = each.role {
                        self.nodes[node].init = Some(pid);
                    }
                }
                Ok(Some((Note::PidNamespace, mut descriptors))) => {
                    self.nodes[each.node].pid_namespace = descriptors.pop();
                }
                Ok(Some((Note::Failed(error), _))) => each.failed = Some(error),
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return false,
                Err(error) => {
                    each.failed = Some(error.to_string());
                    return true;
                }
            }
        }
    }

    fn started(&mut self, started: Starting) {
        let Starting { request, node, role, pid, failed, unwanted, .. } = started;
        let failed = failed.or_else(|| pid.is_none().then(|| "its process ended before it began".to_owned()));
        if let Some(error) = failed {
            // Its end is no news to anybody. A node's init is the exception: its node has to become idle again.
            if let Some(pid) = pid
                && !matches!(role, Role::Init(_))
            {
                self.roles.remove(&pid);
            }
            if let Role::Exec(id) = role {
                self.outputs.remove(&id);
            }
            // No process can be made in a node that is about to end; what the kernel calls that says nothing to anybody.
            let node = &self.nodes[node];
            let ending = !node.waiting.is_empty() || node.kill_at.is_some() || !self.destroying.is_empty();
            let ends = matches!(role, Role::Exec(_) | Role::Terminal(_)) && (node.init.is_none() || ending);
            self.reply(request, Err(if ends { Refusal::NotRunning } else { Refusal::Failed(error) }));
            return;
        }
        match role {
            // Answered when it has ended.
            Role::Exec(_) => {}
            Role::Init(_) | Role::Terminal(_) => self.reply(request, Ok(Answer::Done)),
            // How it ended says whether it has done all of it.
            Role::Files(_) => {
                if let Some(pid) = pid {
                    self.roles.insert(pid, role);
                }
            }
        }
        if let (Role::Terminal(id), true) = (role, unwanted) {
            self.end_terminal(id);
        }
    }

    /// Collects every process that has ended.
    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended.push((pid, format!("exit status {code}"))),
                Ok(WaitStatus::Signaled(pid, signal, _)) => self.ended.push((pid, format!("signal {}", signal as i32))),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn settle_ends(&mut self) {
        for (pid, how) in std::mem::take(&mut self.ended) {
            let nameless = self.starting.iter().any(|each| each.pid.is_none());
            let starting = self.starting.iter().any(|each| each.pid == Some(pid));
            match self.roles.get(&pid).copied() {
                // The end of its channel says whether it ran; that is heard first.
                _ if starting => self.ended.push((pid, how)),
                // It may be one whose id we have not been told yet.
                None if nameless => self.ended.push((pid, how)),
                None => {}
                Some(role) => {
                    self.roles.remove(&pid);
                    self.has_ended(pid, role, how);
                }
            }
        }
    }

    fn has_ended(&mut self, pid: Pid, role: Role, how: String) {
        match role {
            Role::Init(index) => {
                let node = &mut self.nodes[index];
                node.init = None;
                node.pid_namespace = None;
                node.kill_at = None;
                let waiting = std::mem::take(&mut node.waiting);
                let parked = node.network.as_mut().map(|network| network.park(Self::interfaces(self.plan, index)));
                let how = match parked {
                    Some(Err(error)) => format!("{how}; its links stay up: {error}"),
                    Some(Ok(false)) => format!("{how}; it has too many routes to put all of them back"),
                    Some(Ok(true)) | None => how,
                };
                self.say(&Message::NodeExited { node: index, how });
                for id in waiting {
                    self.reply(id, Ok(Answer::Done));
                }
            }
            Role::Exec(id) => {
                self.forward(Source::Exec(id));
                self.outputs.remove(&id);
                self.reply(id, Ok(Answer::Exited(how)));
            }
            Role::Files(id) => {
                let done = if how == "exit status 0" { Ok(Answer::Done) } else { Err(Refusal::Failed(how)) };
                self.reply(id, done);
            }
            Role::Terminal(id) => {
                // What is left of a session that was hung up has lost its terminal: no reason to wait any longer.
                if let Some(index) = self.hung_up.iter().position(|(session, _)| *session == pid) {
                    self.hung_up.remove(index);
                    sessions::signal(pid, Signal::SIGKILL);
                }
                self.say(&Message::TerminalExited { id, how });
            }
        }
    }

    fn stop(&mut self, index: usize, grace: Duration) {
        let node = &mut self.nodes[index];
        if let Some(init) = node.init {
            let _ = kill(init, Signal::SIGTERM);
            let at = Instant::now() + grace;
            // Asked twice, it is the earlier end that counts.
            node.kill_at = Some(node.kill_at.map_or(at, |earlier| earlier.min(at)));
        } else {
            for id in std::mem::take(&mut node.waiting) {
                self.reply(id, Ok(Answer::Done));
            }
        }
    }

    fn end_terminal(&mut self, id: u64) {
        let found = self.roles.iter().find(|(_, role)| **role == Role::Terminal(id)).map(|(pid, _)| *pid);
        if let Some(each) = self.starting.iter_mut().find(|each| each.role == Role::Terminal(id)) {
            each.unwanted = true;
        } else if let Some(session) = found {
            sessions::signal(session, Signal::SIGHUP);
            // A stopped process would notice only when it is continued.
            sessions::signal(session, Signal::SIGCONT);
            self.hung_up.push((session, Instant::now() + HANGUP));
        }
    }

    fn meet_deadlines(&mut self) {
        let now = Instant::now();
        for node in &mut self.nodes {
            if let (Some(init), Some(at)) = (node.init, node.kill_at)
                && at <= now
            {
                let _ = kill(init, Signal::SIGKILL);
                node.kill_at = None;
            }
        }
        self.hung_up.retain(|(session, at)| {
            if *at <= now {
                sessions::signal(*session, Signal::SIGKILL);
            }
            *at > now
        });
        while let Some(index) = self.starting.iter().position(|each| each.deadline <= now) {
            let mut late = self.starting.remove(index);
            if let Some(pid) = late.pid {
                let _ = kill(pid, Signal::SIGKILL);
            }
            late.failed = Some(match late.role {
                Role::Files(_) => format!("its files were not done with within {FILES_PATIENCE:?}"),
                _ => format!("it did not start within {PATIENCE:?}"),
            });
            self.started(late);
        }
    }

    fn finish_destroy(&mut self) {
        let idle = self.starting.is_empty() && self.nodes.iter().all(|node| node.init.is_none());
        if self.destroying.is_empty() || !idle {
            return;
        }
        let mut failed = None;
        for end in self.plan.links.iter().map(|link| &link.ends[0]) {
            if let Some(network) = &mut self.nodes[end.node].network
                && let Err(error) = network.remove(&end.interface)
            {
                failed = Some(format!("removing {}: {error}", end.interface));
            }
        }
        for id in std::mem::take(&mut self.destroying) {
            self.reply(id, failed.clone().map_or(Ok(Answer::Done), |error| Err(Refusal::Failed(error))));
        }
    }

    /// Passes on what a node or a command has printed.
    fn forward(&mut self, source: Source) {
        let (pipe, unpassed, chunks) = match source {
            Source::Node(node) => {
                let node = &mut self.nodes[node];
                (&node.log.0, &mut node.unpassed, 1)
            }
            Source::Exec(id) => match self.outputs.get_mut(&id) {
                Some(output) => (&output.pipe, &mut output.unpassed, 16),
                None => return,
            },
        };
        let mut bytes = vec![0; CHUNK];
        for _ in 0..chunks {
            match read(pipe, &mut bytes) {
                Ok(0) => {
                    if let Source::Exec(id) = source {
                        self.outputs.remove(&id);
                    }
                    return;
                }
                Ok(length) => {
                    *unpassed += length;
                    let body = bytes[..length].to_vec();
                    let frame = match source {
                        Source::Node(node) => Frame::NodeOutput(node, body),
                        Source::Exec(id) => Frame::ExecOutput(id, body),
                    };
                    let mut encoded = Vec::new();
                    frame.encode(&mut encoded);
                    self.outgoing.extend(encoded);
                }
                Err(_) => return,
            }
        }
    }

    fn reply(&mut self, id: u64, result: Result<Answer, Refusal>) {
        self.say(&Message::Reply { id, result });
    }

    fn say(&mut self, message: &Message) {
        let mut bytes = Vec::new();
        Frame::json(message).encode(&mut bytes);
        self.outgoing.extend(bytes);
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match (&*self.control).write(front) {
                Ok(length) => {
                    self.outgoing.drain(..length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What there is to do.
struct Events {
    control: bool,
    keeper_gone: bool,
    logs: Vec<usize>,
    outputs: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Source {
    Node(usize),
    Exec(u64),
}

/// What tells one namespace from all others.
fn inode(namespace: &OwnedFd) -> Option<u64> {
    fstat(namespace).ok().map(|stat| stat.st_ino)
}

fn non_blocking(descriptor: impl AsFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
