//! One task per lab, which owns everything that changes about it ([`Facts`]). It asks [`lifecycle`] what may happen,
//! performs the effects through the runtime driver, keeps the store in step, and publishes each change.
//!
//! Commands come through a bounded channel. Whatever takes long (a deploy, a destroy, work on a node, a look at the nodes)
//! runs as a job of its own and reports back, so that commands are answered meanwhile. There is never more than one
//! deploy or destroy: the lifecycle sees to that.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use super::facts::Facts;
use super::lifecycle::{self, Denial, Effect, Phase};
use super::logs::LabLogs;
use super::model::{Collection, Lab, LabSnapshot, NodeState, NodeStatus, StoredInstance, StoredTopology, UserId};
use super::publisher::{Notice, Publisher};
use super::revive::{self, Revival};
use super::running::Running;
use super::{LabCommandError, LabError, LabPatch, draft, run_folder};
use crate::history::archive::Archive;
use crate::history::lines::Line;
use crate::plugins::decision::{Event, Occurrence};
use crate::runtime::{InstanceSpec, NodeAction, RuntimeDriver, RuntimeError};
use crate::store::Store;
use crate::topology::Topology;

/// Lines of the log that go into the status message of a failure.
const FAILURE_DETAIL_LINES: usize = 20;
/// How often the nodes of a lab are looked at that is being deployed.
const LOOK: Duration = Duration::from_secs(2);
/// Commands that may wait for one lab.
const QUEUE: usize = 64;

/// What all lab tasks share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) driver: Arc<dyn RuntimeDriver>,
    pub(super) publisher: Publisher,
    pub(super) running: Arc<Running>,
    /// Each instance gets a folder of its own in here.
    pub(super) run_dir: PathBuf,
    /// Where logs are kept.
    pub(super) archive: Archive,
    /// Cancelled when the server ends.
    pub(super) closing: CancellationToken,
}

/// What can be asked of a lab task.
pub(super) enum Command {
    /// Deploys the lab. `judged` is what was found to be allowed, if anybody was asked.
    Deploy {
        by: Option<UserId>,
        judged: Option<Arc<LabSnapshot>>,
        reply: Reply,
    },
    Destroy {
        by: Option<UserId>,
        reply: Reply,
    },
    Node {
        node: String,
        action: NodeAction,
        by: Option<UserId>,
        reply: Reply,
    },
    /// Changes the definition to what was judged; refused while there is an instance.
    Update {
        patch: LabPatch,
        judged: Box<LabSnapshot>,
        reply: oneshot::Sender<Result<Arc<LabSnapshot>, LabError>>,
    },
    /// Deletes the lab, and answers what it was.
    Delete {
        reply: oneshot::Sender<Result<Arc<LabSnapshot>, LabError>>,
    },
    /// The schedule missed the time of this lab altogether.
    Missed,
    /// The lab's topology or collection may have changed in the store.
    Reread,
    /// The runtime says that a node is in another state.
    NodeChanged {
        instance: String,
        node: String,
        state: NodeState,
    },
    /// The runtime says that the instance has gone.
    Lost {
        instance: String,
        reason: String,
    },
    /// The runtime may have changed without telling: look.
    Inspect,
}

/// Where the result of an action goes.
pub(super) type Reply = oneshot::Sender<Result<(), LabCommandError>>;

/// How others reach a lab task.
#[derive(Clone)]
pub(super) struct LabHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) snapshot: watch::Receiver<Arc<LabSnapshot>>,
    pub(super) logs: Arc<LabLogs>,
}

/// How a job that the task had started ended.
enum JobEnd {
    Deploy(Result<Vec<NodeStatus>, LabCommandError>),
    Destroy(Result<(), LabCommandError>),
    Node(NodeJob, Result<NodeStatus, RuntimeError>),
    Inspect {
        instance: String,
        /// The lab was being deployed when this began.
        early: bool,
        result: Result<Vec<NodeStatus>, RuntimeError>,
    },
}

/// Work on a node, and for whom.
struct NodeJob {
    instance: String,
    node: String,
    action: NodeAction,
    by: Option<UserId>,
    reply: Reply,
}

struct LabTask {
    shared: Shared,
    facts: Facts,
    /// Whom the deploy or destroy under way is for.
    by: Option<UserId>,
    /// The error of the deploy or destroy that has just ended, for those who wait for its answer.
    failure: Option<LabCommandError>,
    cancel: CancellationToken,
    jobs: JoinSet<JobEnd>,
    /// The job that deploys or destroys.
    main_job: Option<task::Id>,
    /// The nodes of a lab that is being deployed are being looked at.
    looking: bool,
    deploy_waiter: Option<Reply>,
    destroy_waiters: Vec<Reply>,
    snapshot: watch::Sender<Arc<LabSnapshot>>,
    logs: Arc<LabLogs>,
}

/// Starts the task of a lab. It ends when the lab is deleted, or with the server.
pub(super) fn spawn(
    shared: Shared,
    lab: Lab,
    collection: Collection,
    stored: StoredTopology,
    revival: Revival,
) -> LabHandle {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let logs = Arc::new(LabLogs::new(lab.id.clone(), shared.archive.clone()));
    let (phase, nodes) = match &revival {
        Revival::None => (Phase::Idle, Vec::new()),
        Revival::Running(nodes) => (Phase::Running, nodes.clone()),
        Revival::Lost { left, .. } | Revival::Failed { left } => (Phase::Failed, left.clone()),
        Revival::Unknown(_) => (Phase::Failed, Vec::new()),
    };
    let mut facts = Facts::new(lab, collection, stored, phase, nodes);
    if matches!(revival, Revival::Lost { .. } | Revival::Unknown(_)) {
        facts.failed_just_now();
    }
    let first = facts.snapshot();
    shared.running.update(&first.lab.creator.id, false, first.instance.is_some());
    let (sender, receiver) = watch::channel(Arc::new(first));
    let task = LabTask {
        shared,
        facts,
        by: None,
        failure: None,
        cancel: CancellationToken::new(),
        jobs: JoinSet::new(),
        main_job: None,
        looking: false,
        deploy_waiter: None,
        destroy_waiters: Vec::new(),
        snapshot: sender,
        logs: Arc::clone(&logs),
    };
    tokio::spawn(task.run(inbox, revival));
    LabHandle { commands, snapshot: receiver, logs }
}

impl LabTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, revival: Revival) {
        self.take_up(revival).await;
        let closing = self.shared.closing.clone();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Ends of jobs first: whoever asks next is answered by how things are, not by how they were.
                biased;
                () = closing.cancelled() => return,
                Some(end) = self.jobs.join_next_with_id() => match end {
                    Ok((id, end)) => {
                        if self.main_job == Some(id) {
                            self.main_job = None;
                        }
                        self.job_ended(end).await;
                    }
                    Err(error) => self.job_broke(&error).await,
                },
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Delete { reply }) => {
                        let result = self.delete().await;
                        let deleted = result.is_ok();
                        // Whoever asked may have gone; the lab is deleted all the same.
                        let _ = reply.send(result);
                        if deleted {
                            self.logs.remove().await;
                            return;
                        }
                    }
                    Some(command) => self.command(command).await,
                },
                // Nodes come up one after the other, and some take minutes: what the first ones print is wanted by then.
                _ = look.tick(), if self.facts.phase == Phase::Deploying => self.inspect(),
            }
        }
    }

    /// Goes on with what an earlier server has left.
    async fn take_up(&mut self, revival: Revival) {
        match revival {
            Revival::None => {}
            Revival::Failed { .. } => {
                self.logs.restore_nodes();
                self.publish_change().await;
            }
            Revival::Running(_) => {
                let gone = self.missing_nodes();
                if !gone.is_empty() {
                    let gone = gone.join(", ");
                    self.note(&format!("The lab has run on without a server; these nodes of it are gone: {gone}"))
                        .await;
                }
                self.follow_nodes().await;
                self.publish_change().await;
                self.announce(Occurrence::LabRecovered, None).await;
            }
            Revival::Lost { reason, .. } => {
                self.store_instance().await;
                // Whoever opens the log finds why it ends here.
                self.note(&format!("The instance is lost: {reason}")).await;
                self.lost_before(reason).await;
            }
            // What is stored stays as it is: a server that can look will know better.
            Revival::Unknown(reason) => {
                self.note(&format!("This server can't go on with the instance: {reason}")).await;
                self.lost_before(reason).await;
            }
        }
    }

    /// Says that the instance of an earlier server can't be gone on with.
    async fn lost_before(&mut self, reason: String) {
        self.logs.restore_nodes();
        self.publish_change().await;
        self.announce(Occurrence::LabLost { reason, detail: String::new() }, None).await;
    }

    /// Nodes of the definition that the runtime doesn't know.
    fn missing_nodes(&self) -> Vec<String> {
        let snapshot = self.facts.snapshot();
        let there = |name: &str| self.facts.nodes.iter().any(|node| node.name == name);
        let defined = snapshot.topology.nodes.iter().map(|node| node.name.clone());
        defined.filter(|name| !there(name)).collect()
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Deploy { by, judged, reply } => self.deploy(by, judged, reply).await,
            Command::Destroy { by, reply } => self.destroy(by, reply).await,
            Command::Node { node, action, by, reply } => self.node_action(node, action, by, reply),
            Command::Update { patch, judged, reply } => {
                let result = self.update(&patch, &judged).await;
                // Whoever asked may have gone; the change stays.
                let _ = reply.send(result);
            }
            Command::Delete { .. } => unreachable!("handled by the loop, which it ends"),
            Command::Missed => {
                self.clear_start_pending().await;
                self.announce(Occurrence::LabMissed, None).await;
            }
            Command::Reread => self.reread().await,
            Command::NodeChanged { instance, node, state } => self.node_changed(&instance, &node, state).await,
            Command::Lost { instance, reason } => {
                if self.facts.instance_name() == Some(&instance) {
                    self.failure = Some(LabCommandError::Runtime(reason));
                    self.event(lifecycle::Event::Lost).await;
                }
            }
            Command::Inspect => self.inspect(),
        }
    }

    async fn deploy(&mut self, by: Option<UserId>, judged: Option<Arc<LabSnapshot>>, reply: Reply) {
        let (phase, effects) = match lifecycle::step(self.facts.phase, lifecycle::Event::Deploy) {
            Ok(next) => next,
            Err(denial) => return answer(reply, Err(denial.into())),
        };
        if let Some(reason) = self.out_of_reach() {
            return answer(reply, Err(LabCommandError::Runtime(reason)));
        }
        let scheduled = by.is_none();
        if scheduled {
            // The schedule asks once, whatever comes of it.
            self.clear_start_pending().await;
        }
        // What can't run here is refused before anything has begun, so that nothing half made is left.
        if let Err(reason) = self.deployable(judged.as_deref()) {
            if scheduled {
                // Nobody waits for the answer: this is how users hear of it.
                let detail = String::new();
                self.announce(Occurrence::LabDeployFailed { reason: reason.clone(), detail }, None).await;
            }
            return answer(reply, Err(LabCommandError::Refused(reason)));
        }
        self.clear_start_pending().await;
        self.by = by;
        self.deploy_waiter = Some(reply);
        self.enter(phase, effects).await;
    }

    async fn destroy(&mut self, by: Option<UserId>, reply: Reply) {
        let (phase, effects) = match lifecycle::step(self.facts.phase, lifecycle::Event::Destroy) {
            Ok(next) => next,
            Err(denial) => return answer(reply, Err(denial.into())),
        };
        if let Some(reason) = self.out_of_reach() {
            return answer(reply, Err(LabCommandError::Runtime(reason)));
        }
        self.destroy_waiters.push(reply);
        if phase != self.facts.phase {
            self.by = by;
        }
        self.enter(phase, effects).await;
    }

    /// Why the runtime can't take the instance down, if there is one of another runtime. It would find nothing, and what
    /// runs would be forgotten. To be asked before anything is stored: what is stored is for the server that can.
    fn out_of_reach(&self) -> Option<String> {
        let instance = self.facts.lab.instance.as_ref()?;
        revive::out_of_reach(&*self.shared.driver, &instance.runtime)
    }

    /// Whether what a deploy would build can be built, and is what was judged.
    fn deployable(&self, judged: Option<&LabSnapshot>) -> Result<(), String> {
        let next = &self.facts.next;
        if judged.is_some_and(|judged| judged.definition != next.text || judged.topology != next.topology) {
            return Err("the lab's topology has been changed this very moment: try again".into());
        }
        if let Some(end) = self.facts.lab.end_time.filter(|end| *end <= Timestamp::now()) {
            return Err(format!("the lab's time ended at {end}: give it another end time first"));
        }
        Topology::parse_beside(&next.text, &self.facts.stored.file_paths)
            .map_err(|error| error.to_string())
            .and_then(|topology| self.shared.driver.check(&topology).map_err(|error| error.to_string()))
    }

    /// An event that is never denied.
    async fn event(&mut self, event: lifecycle::Event) {
        let (phase, effects) = lifecycle::step(self.facts.phase, event).expect("only requests are denied");
        self.enter(phase, effects).await;
    }

    /// Goes to `phase` and performs `effects`. The order matters: the store knows before anything begins, and everybody
    /// is told of the new state before whoever waits gets their answer.
    async fn enter(&mut self, phase: Phase, effects: &'static [Effect]) {
        let before = self.facts.phase;
        self.facts.enter(phase);
        if effects.contains(&Effect::BeginDeploy) {
            self.facts.begin_instance(self.shared.driver.name());
        }
        if phase == Phase::Idle {
            self.facts.end_instance();
            self.logs.remove_nodes().await;
        }
        let stored = if phase == before { true } else { self.store_instance().await };
        if phase != before {
            self.publish_change().await;
            // A cancelled deploy has announced it already.
            let destroying = matches!(phase, Phase::Stopping | Phase::Cancelling) && before != Phase::Cancelling;
            if destroying {
                self.announce(Occurrence::LabDestroying, self.by.clone()).await;
            }
        }
        for effect in effects {
            self.perform(*effect, stored).await;
        }
    }

    async fn perform(&mut self, effect: Effect, stored: bool) {
        match effect {
            Effect::BeginDeploy => {
                self.announce(Occurrence::LabDeploying, self.by.clone()).await;
                self.begin_deploy(stored);
            }
            Effect::CancelDeploy => self.cancel.cancel(),
            Effect::BeginDestroy => self.begin_destroy(),
            Effect::AnswerDeployed => {
                self.set_topology_deploy_failed(false).await;
                self.announce(Occurrence::LabDeployed, self.by.clone()).await;
                self.answer_deploy(Ok(()));
            }
            Effect::AnswerDeployFailed => {
                self.set_topology_deploy_failed(true).await;
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error).await;
                self.announce(Occurrence::LabDeployFailed { reason, detail }, self.by.clone()).await;
                self.answer_deploy(Err(error));
            }
            Effect::AnswerDeployCancelled => {
                self.failure = None;
                self.announce(Occurrence::LabDeployCancelled, self.by.clone()).await;
                self.answer_deploy(Err(LabCommandError::Cancelled));
            }
            Effect::AnswerDestroyed => {
                self.announce(Occurrence::LabDestroyed, self.by.clone()).await;
                self.answer_destroys(&Ok(()));
            }
            Effect::AnswerDestroyFailed => {
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error).await;
                self.announce(Occurrence::LabDestroyFailed { reason, detail }, self.by.clone()).await;
                self.answer_destroys(&Err(error));
            }
            Effect::AnnounceLost => {
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error).await;
                self.announce(Occurrence::LabLost { reason, detail }, None).await;
            }
        }
    }

    fn answer_deploy(&mut self, result: Result<(), LabCommandError>) {
        if let Some(reply) = self.deploy_waiter.take() {
            answer(reply, result);
        }
    }

    fn answer_destroys(&mut self, result: &Result<(), LabCommandError>) {
        for reply in self.destroy_waiters.drain(..) {
            answer(reply, result.clone());
        }
    }

    fn take_failure(&mut self) -> LabCommandError {
        self.failure.take().unwrap_or_else(|| LabCommandError::Internal("no reason was given".into()))
    }

    async fn failure_texts(&self, error: &LabCommandError) -> (String, String) {
        let lines = self.logs.own().await.tail(FAILURE_DETAIL_LINES);
        let lines: Vec<&str> = lines.iter().map(Line::text).collect();
        (error.to_string(), lines.join("\n"))
    }

    /// Adds a line of ours to the lab's log.
    async fn note(&self, text: &str) {
        self.logs.sink().await.line(text);
    }

    fn begin_deploy(&mut self, stored: bool) {
        self.cancel = CancellationToken::new();
        let cancel = self.cancel.clone();
        let shared = self.shared.clone();
        let logs = Arc::clone(&self.logs);
        let instance = self.facts.lab.instance.clone().expect("the instance was made with the phase");
        let lab_id = self.facts.lab.id.clone();
        let (topology_id, paths) = (self.facts.stored.id.clone(), self.facts.stored.file_paths.clone());
        // The runtime knows the instance by its own name, so that two labs of one topology don't meet.
        let topology = Arc::new(Topology { name: instance.name.clone(), ..(*self.facts.next.topology).clone() });
        let job = async move {
            if !stored {
                // What isn't stored would be forgotten by a restart, and run on without anybody knowing.
                return Err(LabCommandError::Internal("the instance could not be stored: see the server's log".into()));
            }
            let files = shared.store.bind_files(&topology_id).await;
            let files = files.map_err(|error| {
                tracing::error!(%error, topology = %topology_id, "its files could not be read");
                LabCommandError::Internal("the files of the topology could not be read: see the server's log".into())
            })?;
            if !files.iter().map(|file| &file.path).eq(&paths) {
                let problem = "the files of the topology have been changed this very moment: try again";
                return Err(LabCommandError::Refused(problem.into()));
            }
            let dir = shared.run_dir.join(&instance.name);
            let made = task::spawn_blocking({
                let dir = dir.clone();
                move || run_folder::make(&dir, &files)
            });
            made.await.map_err(io::Error::other).flatten().map_err(|error| {
                LabCommandError::Internal(format!("the run folder {} can't be made: {error}", dir.display()))
            })?;
            let spec = InstanceSpec { lab_id, name: instance.name, topology, definition: instance.definition, dir };
            Ok(shared.driver.deploy(&spec, logs.sink().await, cancel).await?)
        };
        self.main_job = Some(self.jobs.spawn(async move { JobEnd::Deploy(job.await) }).id());
    }

    fn begin_destroy(&mut self) {
        let shared = self.shared.clone();
        let logs = Arc::clone(&self.logs);
        let instance = self.facts.lab.instance.clone();
        let job = async move {
            if let Some(StoredInstance { name, .. }) = instance {
                shared.driver.destroy(&name, logs.sink().await).await?;
                run_folder::remove(&shared.run_dir.join(&name)).await;
            }
            Ok(())
        };
        self.main_job = Some(self.jobs.spawn(async move { JobEnd::Destroy(job.await) }).id());
    }

    async fn job_ended(&mut self, end: JobEnd) {
        match end {
            JobEnd::Deploy(Ok(nodes)) => {
                self.facts.set_nodes(nodes);
                // Before anybody hears that it is up, and can ask for the log of a node.
                self.follow_nodes().await;
                self.forget_nodes().await;
                self.event(lifecycle::Event::DeployEnded { up: true }).await;
                // What happened to a node since the runtime took that picture was told while there were no nodes here.
                self.inspect();
            }
            JobEnd::Deploy(Err(error)) => {
                self.note(&format!("The deploy has ended: {error}")).await;
                self.failure = Some(error);
                // Those that were seen meanwhile are gone by now.
                self.facts.nodes.clear();
                self.event(lifecycle::Event::DeployEnded { up: false }).await;
            }
            JobEnd::Destroy(Ok(())) => self.event(lifecycle::Event::DestroyEnded { gone: true }).await,
            JobEnd::Destroy(Err(error)) => {
                self.note(&format!("The destroy has failed: {error}")).await;
                self.failure = Some(error);
                self.event(lifecycle::Event::DestroyEnded { gone: false }).await;
            }
            JobEnd::Node(job, result) => self.node_action_ended(job, result).await,
            JobEnd::Inspect { instance, early: true, result } => self.inspected_early(&instance, result).await,
            JobEnd::Inspect { instance, early: false, result } => self.inspected(&instance, result).await,
        }
    }

    /// A job panicked, which is a bug; the lab is failed rather than stuck.
    async fn job_broke(&mut self, error: &task::JoinError) {
        tracing::error!(lab = %self.facts.lab.id, %error, "a job of the lab broke");
        self.looking = false;
        if self.main_job != Some(error.id()) {
            return;
        }
        self.main_job = None;
        self.failure = Some(LabCommandError::Internal("see the server's log".into()));
        let event = match self.facts.phase {
            Phase::Deploying | Phase::Cancelling => lifecycle::Event::DeployEnded { up: false },
            _ => lifecycle::Event::DestroyEnded { gone: false },
        };
        self.event(event).await;
    }

    fn node_action(&mut self, node: String, action: NodeAction, by: Option<UserId>, reply: Reply) {
        match self.facts.phase {
            Phase::Running => {}
            Phase::Replacing | Phase::Deploying => return answer(reply, Err(Denial::AlreadyDeploying.into())),
            Phase::Idle | Phase::Cancelling | Phase::Stopping | Phase::Failed => {
                return answer(reply, Err(Denial::NotRunning.into()));
            }
        }
        let Some(instance) = self.facts.instance_name().map(str::to_owned) else {
            return answer(reply, Err(Denial::NotRunning.into()));
        };
        if self.facts.node_mut(&node).is_none() {
            let defined = self.missing_nodes().contains(&node);
            return answer(reply, Err(if defined { gone(&node) } else { LabCommandError::NodeNotFound(node) }));
        }
        let driver = Arc::clone(&self.shared.driver);
        let job = NodeJob { instance, node, action, by, reply };
        self.jobs.spawn(async move {
            let result = driver.node(&job.instance, &job.node, job.action).await;
            JobEnd::Node(job, result)
        });
    }

    async fn node_action_ended(&mut self, job: NodeJob, result: Result<NodeStatus, RuntimeError>) {
        if self.facts.instance_name() != Some(&job.instance) {
            // The lab was destroyed meanwhile, and its nodes with it.
            return answer(job.reply, Err(Denial::NotRunning.into()));
        }
        match (result, self.facts.node_mut(&job.node)) {
            (Ok(status), Some(known)) => {
                *known = status.clone();
                self.publish_change().await;
                let what = match job.action {
                    NodeAction::Start => Occurrence::NodeStarted(status),
                    NodeAction::Stop => Occurrence::NodeStopped(status),
                    NodeAction::Restart => Occurrence::NodeRestarted(status),
                };
                self.announce(what, job.by).await;
                answer(job.reply, Ok(()));
            }
            (Ok(_), None) => answer(job.reply, Err(LabCommandError::NodeNotFound(job.node))),
            (Err(error), known) => {
                if let Some(node) = known.cloned() {
                    self.announce(Occurrence::NodeFailed { node, reason: error.to_string() }, job.by).await;
                }
                let error = match error {
                    // There is such a node, or this would not have been asked of the runtime.
                    RuntimeError::NoNode(node) => gone(&node),
                    error => error.into(),
                };
                answer(job.reply, Err(error));
            }
        }
    }

    async fn follow_nodes(&self) {
        let nodes: Vec<String> = self.facts.nodes.iter().map(|node| node.name.clone()).collect();
        if let Some(instance) = self.facts.instance_name() {
            self.logs.follow_nodes(&self.shared.driver, instance, &nodes, &self.shared.closing).await;
        }
    }

    /// Removes the logs of nodes that an earlier instance had and this one is not to have. Not of those that are merely
    /// not there: they may come up yet, and what one has printed that somebody removed is wanted all the more.
    async fn forget_nodes(&self) {
        let snapshot = self.facts.snapshot();
        let defined: Vec<String> = snapshot.topology.nodes.iter().map(|node| node.name.clone()).collect();
        self.logs.keep_nodes(&defined).await;
    }

    async fn node_changed(&mut self, instance: &str, node: &str, state: NodeState) {
        if self.facts.instance_name() != Some(instance) {
            return;
        }
        let Some(known) = self.facts.node_mut(node) else {
            // Nodes come up one after the other; whoever waits for the lab wants to see the first ones start.
            return if self.facts.phase == Phase::Deploying {
                self.inspect()
            };
        };
        if known.state == state {
            return;
        }
        known.state = state;
        let status = known.clone();
        self.publish_change().await;
        if state == NodeState::Exited && self.facts.phase == Phase::Running {
            self.announce(Occurrence::NodeExited(status), None).await;
        }
    }

    fn inspect(&mut self) {
        let Some(instance) = self.facts.instance_name().map(str::to_owned) else { return };
        let early = match self.facts.phase {
            Phase::Running => false,
            // One at a time: an engine that is busy is not to be asked more and more.
            Phase::Deploying if !self.looking => true,
            _ => return,
        };
        self.looking = early;
        let driver = Arc::clone(&self.shared.driver);
        self.jobs.spawn(async move {
            let result = driver.inspect(&instance).await;
            JobEnd::Inspect { instance, early, result }
        });
    }

    /// What was seen of an instance that is being deployed, if it is still.
    async fn inspected_early(&mut self, instance: &str, result: Result<Vec<NodeStatus>, RuntimeError>) {
        self.looking = false;
        if self.facts.phase != Phase::Deploying || self.facts.instance_name() != Some(instance) {
            return;
        }
        // An error means that nothing is there yet, or is the deploy's to tell.
        if let Ok(nodes) = result
            && self.facts.set_nodes(nodes)
        {
            self.follow_nodes().await;
            self.publish_change().await;
        }
    }

    async fn inspected(&mut self, instance: &str, result: Result<Vec<NodeStatus>, RuntimeError>) {
        if self.facts.phase != Phase::Running || self.facts.instance_name() != Some(instance) {
            return;
        }
        match result {
            Ok(nodes) => {
                if self.facts.set_nodes(nodes) {
                    self.publish_change().await;
                }
            }
            Err(RuntimeError::NoInstance(_)) => {
                self.failure = Some(LabCommandError::Runtime("the runtime knows nothing of the instance".into()));
                self.event(lifecycle::Event::Lost).await;
            }
            Err(error) => tracing::warn!(lab = %self.facts.lab.id, %error, "the nodes could not be looked at"),
        }
    }

    async fn update(&mut self, patch: &LabPatch, judged: &LabSnapshot) -> Result<Arc<LabSnapshot>, LabError> {
        let drafted = draft::changed(&self.shared.store, &self.facts.snapshot(), patch).await?;
        draft::check_judged(&drafted.snapshot, judged)?;
        self.shared.store.update_lab(&drafted.snapshot.lab).await?;
        self.facts.lab = drafted.snapshot.lab;
        self.facts.reread(drafted.stored, drafted.snapshot.collection);
        self.publish_change().await;
        Ok(self.snapshot.borrow().clone())
    }

    async fn delete(&mut self) -> Result<Arc<LabSnapshot>, LabError> {
        if self.facts.phase != Phase::Idle {
            return Err(LabError::InUse(self.facts.lab.name.clone()));
        }
        self.shared.store.delete_lab(&self.facts.lab.id).await?;
        Ok(Arc::new(self.facts.snapshot()))
    }

    /// Takes over what the store says now, which also serves when several changes arrive in another order.
    async fn reread(&mut self) {
        let store = &self.shared.store;
        let stored = match store.topology(&self.facts.lab.topology_id).await {
            Ok(Some(stored)) => stored,
            // It can't be deleted while the lab exists.
            Ok(None) => return,
            Err(error) => return tracing::error!(lab = %self.facts.lab.id, %error, "its topology could not be read"),
        };
        match store.collection(&stored.collection_id).await {
            Ok(Some(collection)) => {
                self.facts.reread(stored, collection);
                self.publish_change().await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(lab = %self.facts.lab.id, %error, "its collection could not be read"),
        }
    }

    async fn clear_start_pending(&mut self) {
        if !std::mem::replace(&mut self.facts.lab.start_pending, false) {
            return;
        }
        if let Err(error) = self.shared.store.set_lab_start_pending(&self.facts.lab.id, false).await {
            tracing::error!(lab = %self.facts.lab.id, %error, "it could not be stored that the schedule has acted");
        }
        self.publish_change().await;
    }

    async fn set_topology_deploy_failed(&mut self, failed: bool) {
        if self.facts.stored.last_deploy_failed == failed {
            return;
        }
        self.facts.stored.last_deploy_failed = failed;
        if let Err(error) = self.shared.store.set_topology_deploy_failed(&self.facts.stored.id, failed).await {
            tracing::error!(topology = %self.facts.stored.id, %error, "the outcome of the deploy could not be stored");
        }
    }

    /// Stores the instance as it is; whether that worked.
    async fn store_instance(&self) -> bool {
        let instance = self.facts.stored_instance();
        match self.shared.store.set_lab_instance(&self.facts.lab.id, instance.as_ref()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(lab = %self.facts.lab.id, %error, "the state of the instance could not be stored");
                false
            }
        }
    }

    async fn publish_change(&self) {
        let snapshot = Arc::new(self.facts.snapshot());
        let before = self.snapshot.send_replace(Arc::clone(&snapshot));
        let (had, has) = (before.instance.is_some(), snapshot.instance.is_some());
        self.shared.running.update(&snapshot.lab.creator.id, had, has);
        self.shared.publisher.publish(Notice::Lab(snapshot)).await;
    }

    async fn announce(&self, what: Occurrence, by: Option<UserId>) {
        let event = Event { at: Timestamp::now(), lab: Arc::new(self.facts.snapshot()), by, what };
        self.shared.publisher.publish(Notice::Event(Arc::new(event))).await;
    }
}

/// A node of the lab that the runtime has no more.
fn gone(node: &str) -> LabCommandError {
    let remedy = "somebody has removed it from the runtime; deploy the lab anew to have it back";
    LabCommandError::Runtime(format!("node {node} is gone: {remedy}"))
}

/// Whoever asked may have gone; what they asked for has been done all the same.
fn answer(reply: Reply, result: Result<(), LabCommandError>) {
    let _ = reply.send(result);
}
