//! One task per lab, which owns everything that changes about it. It asks [`super::lifecycle`] what may happen, performs
//! the effects through the runtime driver, keeps the store in step, and publishes each change.
//!
//! Commands come through a bounded channel. A deploy or destroy runs as a task of its own (never more than one at a
//! time: the lifecycle sees to that) and reports back, so that commands are answered while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lifecycle::{self, Denial, Effect, Phase};
use super::model::{
    Collection, Instance, Lab, LabSnapshot, LabState, NodeState, NodeStatus, StoredInstance, StoredTopology, UserId,
};
use super::publisher::{Notice, Publisher};
use super::{LabCommandError, LabError};
use crate::history::History;
use crate::plugins::decision::{Event, Occurrence};
use crate::runtime::{InstanceSpec, LogSink, NodeAction, RuntimeDriver, RuntimeError};
use crate::store::Store;
use crate::topology::Topology;

/// A lab's log, line by line.
pub type LabLog = History<Arc<str>>;

/// Bytes of deploy log that are kept per lab.
const LOG_CAPACITY: usize = 1024 * 1024;
/// Lines of the log that go into the status message of a failure.
const FAILURE_DETAIL_LINES: usize = 20;
/// Commands that may wait for one lab.
const QUEUE: usize = 64;

/// What all lab tasks share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) driver: Arc<dyn RuntimeDriver>,
    pub(super) publisher: Publisher,
    /// Each instance gets a folder of its own in here.
    pub(super) run_dir: PathBuf,
}

/// What can be asked of a lab task.
pub(super) enum Command {
    Deploy {
        by: Option<UserId>,
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
    /// Takes over a changed definition; refused while there is an instance.
    Update {
        lab: Box<Lab>,
        reply: oneshot::Sender<Result<Arc<LabSnapshot>, LabError>>,
    },
    Delete {
        reply: oneshot::Sender<Result<(), LabError>>,
    },
    /// The schedule missed the time of this lab altogether.
    Missed,
    TopologyChanged(Box<StoredTopology>),
    CollectionChanged(Box<Collection>),
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
    Refresh,
}

/// Where the result of an action goes.
pub(super) type Reply = oneshot::Sender<Result<(), LabCommandError>>;

/// How others reach a lab task.
#[derive(Clone)]
pub(super) struct LabHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) snapshot: watch::Receiver<Arc<LabSnapshot>>,
    pub(super) log: Arc<LabLog>,
}

/// What became of an instance that was stored when the server ended.
pub(super) enum Revival {
    /// Nothing was stored.
    None,
    /// It runs still; these are its nodes.
    Running(Vec<NodeStatus>),
    /// It is gone or half built; in a sentence.
    Lost(String),
    /// It had failed before, and users know.
    Failed,
}

/// How a job that the task had started ended.
enum JobEnd {
    Deploy(Result<Vec<NodeStatus>, RuntimeError>),
    Destroy(Result<(), RuntimeError>),
    Node {
        action: NodeAction,
        node: String,
        by: Option<UserId>,
        reply: Reply,
        result: Result<NodeStatus, RuntimeError>,
    },
}

struct LabTask {
    shared: Shared,
    lab: Lab,
    collection: Collection,
    /// The stored topology, which the next deploy uses.
    stored: StoredTopology,
    /// What `lab.instance` was deployed from, or what `stored` says; read.
    topology: Arc<Topology>,
    phase: Phase,
    since: Timestamp,
    nodes: Vec<NodeStatus>,
    recovered: bool,
    /// Whom the deploy or destroy under way is for.
    by: Option<UserId>,
    /// The error of a job, for those who wait for its answer.
    failure: Option<RuntimeError>,
    cancel: CancellationToken,
    jobs: JoinSet<JobEnd>,
    deploy_waiter: Option<Reply>,
    destroy_waiters: Vec<Reply>,
    snapshot: watch::Sender<Arc<LabSnapshot>>,
    log: Arc<LabLog>,
}

/// Starts the task of a lab. It ends when the lab is deleted, or when nobody can reach it any more.
pub(super) fn spawn(
    shared: Shared,
    lab: Lab,
    collection: Collection,
    stored: StoredTopology,
    revival: Revival,
) -> LabHandle {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let log = Arc::new(History::new(LOG_CAPACITY));
    let (phase, nodes) = match &revival {
        Revival::None => (Phase::Idle, Vec::new()),
        Revival::Running(nodes) => (Phase::Running, nodes.clone()),
        Revival::Lost(_) | Revival::Failed => (Phase::Failed, Vec::new()),
    };
    let topology = read_definition(&lab, &stored);
    let since = lab.instance.as_ref().map_or_else(Timestamp::now, |instance| instance.since);
    let recovered = !matches!(revival, Revival::None);
    let first = Arc::new(snapshot_of(&lab, &collection, &stored, &topology, phase, since, &nodes, recovered));
    let (sender, receiver) = watch::channel(first);
    let task = LabTask {
        shared,
        lab,
        collection,
        stored,
        topology,
        phase,
        since,
        nodes,
        recovered,
        by: None,
        failure: None,
        cancel: CancellationToken::new(),
        jobs: JoinSet::new(),
        deploy_waiter: None,
        destroy_waiters: Vec::new(),
        snapshot: sender,
        log: Arc::clone(&log),
    };
    tokio::spawn(task.run(inbox, revival));
    LabHandle { commands, snapshot: receiver, log }
}

/// The definition that counts, read. It was read when it was stored, so that it can only be unreadable when a newer
/// server has become stricter; then the lab shows no nodes, and a deploy says what is wrong.
fn read_definition(lab: &Lab, stored: &StoredTopology) -> Arc<Topology> {
    let text = lab.instance.as_ref().map_or(&stored.definition, |instance| &instance.definition);
    Arc::new(Topology::parse(text).unwrap_or_else(|error| {
        tracing::warn!(lab = %lab.id, %error, "the stored topology can't be read");
        Topology { name: stored.name.clone(), prefix: None, nodes: Vec::new(), links: Vec::new() }
    }))
}

#[expect(clippy::too_many_arguments, reason = "it gathers the parts of the task, before and while there is one")]
fn snapshot_of(
    lab: &Lab,
    collection: &Collection,
    stored: &StoredTopology,
    topology: &Arc<Topology>,
    phase: Phase,
    since: Timestamp,
    nodes: &[NodeStatus],
    recovered: bool,
) -> LabSnapshot {
    let instance = match (&lab.instance, phase.instance_state()) {
        (Some(instance), Some(state)) => {
            let (name, deployed) = (instance.name.clone(), instance.deployed);
            Some(Instance { name, deployed, state, since, nodes: nodes.to_vec(), recovered })
        }
        _ => None,
    };
    LabSnapshot {
        state: LabState::derive(instance.as_ref().map(|instance| instance.state), lab.start_time, Timestamp::now()),
        definition: lab.instance.as_ref().map_or(&stored.definition, |instance| &instance.definition).clone(),
        topology: Arc::clone(topology),
        lab: lab.clone(),
        collection: collection.clone(),
        instance,
    }
}

impl LabTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, revival: Revival) {
        match revival {
            Revival::None | Revival::Failed => {}
            Revival::Running(_) => self.announce(Occurrence::LabRecovered, None).await,
            Revival::Lost(reason) => {
                self.store_instance_state().await;
                self.announce(Occurrence::LabLost { reason, detail: String::new() }, None).await;
            }
        }
        loop {
            tokio::select! {
                // Ends of jobs first: whoever asks next is answered by how things are, not by how they were.
                biased;
                Some(end) = self.jobs.join_next() => match end {
                    Ok(end) => self.job_ended(end).await,
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
                            self.log.close();
                            self.shared.publisher.publish(Notice::LabRemoved(self.take_snapshot())).await;
                            return;
                        }
                    }
                    Some(command) => self.command(command).await,
                },
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Deploy { by, reply } => self.deploy(by, reply).await,
            Command::Destroy { by, reply } => match lifecycle::step(self.phase, lifecycle::Event::Destroy) {
                Err(denial) => answer(reply, Err(denial.into())),
                Ok((phase, effects)) => {
                    self.destroy_waiters.push(reply);
                    if !effects.is_empty() {
                        self.by = by;
                    }
                    self.enter(phase, effects).await;
                }
            },
            Command::Node { node, action, by, reply } => self.node_action(node, action, by, reply),
            Command::Update { lab, reply } => {
                let result = self.update(*lab).await;
                // Whoever asked may have gone; the change stays.
                let _ = reply.send(result);
            }
            Command::Delete { .. } => unreachable!("handled by the loop, which it ends"),
            Command::Missed => {
                self.clear_start_pending().await;
                self.publish_change().await;
                self.announce(Occurrence::LabMissed, None).await;
            }
            Command::TopologyChanged(stored) => {
                self.stored = *stored;
                self.topology = read_definition(&self.lab, &self.stored);
                self.publish_change().await;
            }
            Command::CollectionChanged(collection) => {
                self.collection = *collection;
                self.publish_change().await;
            }
            Command::NodeChanged { instance, node, state } => self.node_changed(&instance, &node, state).await,
            Command::Lost { instance, reason } if self.is_instance(&instance) => {
                self.failure = Some(RuntimeError::Failed(reason));
                self.event(lifecycle::Event::Lost).await;
            }
            Command::Lost { .. } => {}
            Command::Refresh => self.refresh().await,
        }
    }

    fn is_instance(&self, name: &str) -> bool {
        self.lab.instance.as_ref().is_some_and(|instance| instance.name == name)
    }

    async fn deploy(&mut self, by: Option<UserId>, reply: Reply) {
        let (phase, effects) = match lifecycle::step(self.phase, lifecycle::Event::Deploy) {
            Ok(next) => next,
            Err(denial) => return answer(reply, Err(denial.into())),
        };
        if by.is_none() {
            // The schedule asks once, whatever comes of it.
            self.clear_start_pending().await;
        }
        // What can't run here is refused before anything has begun, so that nothing half made is left.
        let runnable = Topology::parse(&self.stored.definition)
            .map_err(|error| error.to_string())
            .and_then(|topology| self.shared.driver.check(&topology).map_err(|error| error.to_string()));
        if let Err(reason) = runnable {
            if by.is_none() {
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

    /// An event that is never denied.
    async fn event(&mut self, event: lifecycle::Event) {
        let (phase, effects) = lifecycle::step(self.phase, event).expect("only requests are denied");
        self.enter(phase, effects).await;
    }

    /// Goes to `phase` and performs `effects`. The order matters: the store knows before anything begins, and everybody
    /// is told of the new state before whoever waits gets their answer.
    async fn enter(&mut self, phase: Phase, effects: &'static [Effect]) {
        let changed = phase != self.phase;
        let before = self.phase;
        if changed {
            self.phase = phase;
            self.since = Timestamp::now();
        }
        let mut replaced = None;
        if effects.contains(&Effect::BeginDeploy) || effects.contains(&Effect::BeginRedeploy) {
            replaced = self.lab.instance.take().map(|instance| instance.name);
            self.new_instance();
        }
        if effects.contains(&Effect::AnswerDestroyed) {
            self.lab.instance = None;
            self.nodes.clear();
            self.topology = read_definition(&self.lab, &self.stored);
        }
        if changed {
            if let Err(error) = self.shared.store.set_lab_instance(&self.lab.id, self.stored_instance().as_ref()).await
            {
                // Without the entry a restart would forget the instance; going on is still better than a lab that hangs.
                tracing::error!(lab = %self.lab.id, %error, "the state of the instance could not be stored");
            }
            self.publish_change().await;
            let begins = (phase == Phase::Stopping && before != Phase::Cancelling) || phase == Phase::Cancelling;
            if begins {
                self.announce(Occurrence::LabDestroying, self.by.clone()).await;
            }
        }
        for effect in effects {
            self.perform(*effect, replaced.take()).await;
        }
    }

    async fn perform(&mut self, effect: Effect, replaced: Option<String>) {
        match effect {
            Effect::BeginDeploy | Effect::BeginRedeploy => {
                self.announce(Occurrence::LabDeploying, self.by.clone()).await;
                self.begin_deploy(replaced);
            }
            Effect::CancelDeploy => self.cancel.cancel(),
            Effect::BeginDestroy => self.begin_destroy(),
            Effect::AnswerDeployed => {
                self.set_topology_deploy_failed(false).await;
                self.announce(Occurrence::LabDeployed, self.by.clone()).await;
                if let Some(reply) = self.deploy_waiter.take() {
                    answer(reply, Ok(()));
                }
            }
            Effect::AnswerDeployFailed => {
                self.set_topology_deploy_failed(true).await;
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error);
                self.announce(Occurrence::LabDeployFailed { reason, detail }, self.by.clone()).await;
                if let Some(reply) = self.deploy_waiter.take() {
                    answer(reply, Err(error.into()));
                }
            }
            Effect::AnswerDeployCancelled => {
                self.failure = None;
                self.announce(Occurrence::LabDeployCancelled, self.by.clone()).await;
                if let Some(reply) = self.deploy_waiter.take() {
                    answer(reply, Err(LabCommandError::Cancelled));
                }
            }
            Effect::AnswerDestroyed => {
                self.announce(Occurrence::LabDestroyed, self.by.clone()).await;
                for reply in self.destroy_waiters.drain(..) {
                    answer(reply, Ok(()));
                }
            }
            Effect::AnswerDestroyFailed => {
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error);
                self.announce(Occurrence::LabDestroyFailed { reason, detail }, self.by.clone()).await;
                for reply in self.destroy_waiters.drain(..) {
                    answer(reply, Err(LabCommandError::Runtime(error.to_string())));
                }
            }
            Effect::AnnounceLost => {
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error);
                self.announce(Occurrence::LabLost { reason, detail }, None).await;
            }
        }
    }

    fn take_failure(&mut self) -> RuntimeError {
        self.failure.take().unwrap_or_else(|| RuntimeError::Failed("the runtime gave no reason".into()))
    }

    fn failure_texts(&self, error: &RuntimeError) -> (String, String) {
        (error.to_string(), self.log.tail(FAILURE_DETAIL_LINES).join("\n"))
    }

    /// Gives the lab an instance: a name that no other has, and the topology's present definition.
    fn new_instance(&mut self) {
        // Two instances can't share a name: one lab has one at a time, and each waits for the last one's end; two labs of
        // one topology could begin in the same millisecond, hence the end of the lab's id.
        let id = self.lab.id.as_str();
        let tail = id.get(id.len().saturating_sub(4)..).unwrap_or(id);
        let name = format!("{}-{}-{tail}", self.stored.name, Timestamp::now().strftime("%Y%m%d%H%M%S"));
        self.lab.instance = Some(StoredInstance {
            name,
            definition: self.stored.definition.clone(),
            deployed: Timestamp::now(),
            state: super::model::InstanceState::Deploying,
            since: self.since,
        });
        self.nodes.clear();
        self.recovered = false;
        self.topology = read_definition(&self.lab, &self.stored);
    }

    fn stored_instance(&self) -> Option<StoredInstance> {
        let state = self.phase.instance_state()?;
        self.lab.instance.clone().map(|instance| StoredInstance { state, since: self.since, ..instance })
    }

    async fn store_instance_state(&self) {
        if let Err(error) = self.shared.store.set_lab_instance(&self.lab.id, self.stored_instance().as_ref()).await {
            tracing::error!(lab = %self.lab.id, %error, "the state of the instance could not be stored");
        }
    }

    fn log_sink(&self) -> LogSink {
        let log = Arc::clone(&self.log);
        Arc::new(move |line| log.append(Arc::from(line)))
    }

    fn begin_deploy(&mut self, replaced: Option<String>) {
        self.cancel = CancellationToken::new();
        let cancel = self.cancel.clone();
        let shared = self.shared.clone();
        let log = self.log_sink();
        let instance = self.lab.instance.clone().expect("an instance was made with the phase");
        let lab_id = self.lab.id.clone();
        // The runtime knows the instance by its own name, so that two labs of one topology don't meet.
        let topology = Arc::new(Topology { name: instance.name.clone(), ..(*self.topology).clone() });
        self.jobs.spawn(async move {
            if let Some(replaced) = replaced {
                if let Err(error) = shared.driver.destroy(&replaced, Arc::clone(&log)).await {
                    return JobEnd::Deploy(Err(error));
                }
                remove_dir(&shared.run_dir.join(&replaced)).await;
            }
            let dir = shared.run_dir.join(&instance.name);
            if let Err(error) = tokio::fs::create_dir_all(&dir).await {
                let reason = format!("the run folder {} can't be made: {error}", dir.display());
                return JobEnd::Deploy(Err(RuntimeError::Failed(reason)));
            }
            let spec = InstanceSpec { lab_id, name: instance.name, topology, definition: instance.definition, dir };
            JobEnd::Deploy(shared.driver.deploy(&spec, log, cancel).await)
        });
    }

    fn begin_destroy(&mut self) {
        let shared = self.shared.clone();
        let log = self.log_sink();
        let name = self.lab.instance.as_ref().map(|instance| instance.name.clone());
        self.jobs.spawn(async move {
            let Some(name) = name else { return JobEnd::Destroy(Ok(())) };
            let result = shared.driver.destroy(&name, log).await;
            if result.is_ok() {
                remove_dir(&shared.run_dir.join(&name)).await;
            }
            JobEnd::Destroy(result)
        });
    }

    async fn job_ended(&mut self, end: JobEnd) {
        match end {
            JobEnd::Deploy(Ok(nodes)) => {
                self.nodes = nodes;
                self.event(lifecycle::Event::DeployEnded { up: true }).await;
            }
            JobEnd::Deploy(Err(error)) => {
                (self.log_sink())(&format!("deploy ended: {error}"));
                self.failure = Some(error);
                self.event(lifecycle::Event::DeployEnded { up: false }).await;
            }
            JobEnd::Destroy(Ok(())) => self.event(lifecycle::Event::DestroyEnded { gone: true }).await,
            JobEnd::Destroy(Err(error)) => {
                (self.log_sink())(&format!("destroy failed: {error}"));
                self.failure = Some(error);
                self.event(lifecycle::Event::DestroyEnded { gone: false }).await;
            }
            JobEnd::Node { action, node, by, reply, result } => {
                self.node_action_ended(action, &node, by, reply, result).await
            }
        }
    }

    /// A job panicked, which is a bug; the lab is failed rather than stuck.
    async fn job_broke(&mut self, error: &tokio::task::JoinError) {
        tracing::error!(lab = %self.lab.id, %error, "a job of the lab broke");
        self.failure = Some(RuntimeError::Failed("an internal error: see the server's log".into()));
        match self.phase {
            Phase::Deploying | Phase::Cancelling => self.event(lifecycle::Event::DeployEnded { up: false }).await,
            Phase::Stopping => self.event(lifecycle::Event::DestroyEnded { gone: false }).await,
            Phase::Idle | Phase::Running | Phase::Failed => {}
        }
    }

    fn node_action(&mut self, node: String, action: NodeAction, by: Option<UserId>, reply: Reply) {
        match self.phase {
            Phase::Running => {}
            Phase::Deploying => return answer(reply, Err(Denial::AlreadyDeploying.into())),
            Phase::Idle | Phase::Cancelling | Phase::Stopping | Phase::Failed => {
                return answer(reply, Err(Denial::NotRunning.into()));
            }
        }
        if !self.nodes.iter().any(|known| known.name == node) {
            return answer(reply, Err(LabCommandError::NodeNotFound(node)));
        }
        let driver = Arc::clone(&self.shared.driver);
        let instance = self.lab.instance.as_ref().map(|instance| instance.name.clone()).unwrap_or_default();
        self.jobs.spawn(async move {
            let result = driver.node(&instance, &node, action).await;
            JobEnd::Node { action, node, by, reply, result }
        });
    }

    async fn node_action_ended(
        &mut self,
        action: NodeAction,
        node: &str,
        by: Option<UserId>,
        reply: Reply,
        result: Result<NodeStatus, RuntimeError>,
    ) {
        let known = self.nodes.iter_mut().find(|known| known.name == node);
        match (result, known) {
            (Ok(status), Some(known)) => {
                *known = status.clone();
                self.publish_change().await;
                let what = match action {
                    NodeAction::Start => Occurrence::NodeStarted(status),
                    NodeAction::Stop => Occurrence::NodeStopped(status),
                    NodeAction::Restart => Occurrence::NodeRestarted(status),
                };
                self.announce(what, by).await;
                answer(reply, Ok(()));
            }
            // The lab was destroyed meanwhile, and its nodes with it.
            (Ok(_), None) => answer(reply, Err(Denial::NotRunning.into())),
            (Err(error), known) => {
                if let Some(node) = known.cloned() {
                    self.announce(Occurrence::NodeFailed { node, reason: error.to_string() }, by).await;
                }
                answer(reply, Err(error.into()));
            }
        }
    }

    async fn node_changed(&mut self, instance: &str, node: &str, state: NodeState) {
        if !self.is_instance(instance) {
            return;
        }
        let Some(known) = self.nodes.iter_mut().find(|known| known.name == node && known.state != state) else {
            return;
        };
        known.state = state;
        let status = known.clone();
        self.publish_change().await;
        if state == NodeState::Exited && self.phase == Phase::Running {
            self.announce(Occurrence::NodeExited(status), None).await;
        }
    }

    async fn refresh(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let Some(instance) = self.lab.instance.as_ref().map(|instance| instance.name.clone()) else { return };
        match self.shared.driver.inspect(&instance).await {
            Ok(nodes) => {
                if nodes != self.nodes {
                    self.nodes = nodes;
                    self.publish_change().await;
                }
            }
            Err(RuntimeError::NoInstance(_)) => {
                self.failure = Some(RuntimeError::Failed("the runtime doesn't know the instance any more".into()));
                self.event(lifecycle::Event::Lost).await;
            }
            Err(error) => tracing::warn!(lab = %self.lab.id, %error, "the nodes could not be looked at"),
        }
    }

    async fn update(&mut self, lab: Lab) -> Result<Arc<LabSnapshot>, LabError> {
        if self.phase != Phase::Idle {
            return Err(LabError::InUse(self.lab.name.clone()));
        }
        let topology_changed = lab.topology_id != self.lab.topology_id;
        if topology_changed {
            let stored = self.shared.store.topology(&lab.topology_id).await?;
            let stored = stored.ok_or_else(|| LabError::TopologyNotFound(lab.topology_id.clone()))?;
            let collection = self.shared.store.collection(&stored.collection_id).await?;
            self.shared.store.update_lab(&lab).await?;
            self.collection = collection.ok_or_else(|| LabError::TopologyNotFound(lab.topology_id.clone()))?;
            self.stored = stored;
        } else {
            self.shared.store.update_lab(&lab).await?;
        }
        self.lab = lab;
        self.topology = read_definition(&self.lab, &self.stored);
        self.publish_change().await;
        Ok(self.take_snapshot())
    }

    async fn delete(&mut self) -> Result<(), LabError> {
        if self.phase != Phase::Idle {
            return Err(LabError::InUse(self.lab.name.clone()));
        }
        Ok(self.shared.store.delete_lab(&self.lab.id).await?)
    }

    async fn clear_start_pending(&mut self) {
        if !std::mem::replace(&mut self.lab.start_pending, false) {
            return;
        }
        if let Err(error) = self.shared.store.set_lab_start_pending(&self.lab.id, false).await {
            tracing::error!(lab = %self.lab.id, %error, "it could not be stored that the schedule has acted");
        }
    }

    async fn set_topology_deploy_failed(&mut self, failed: bool) {
        if self.stored.last_deploy_failed == failed {
            return;
        }
        self.stored.last_deploy_failed = failed;
        if let Err(error) = self.shared.store.set_topology_deploy_failed(&self.stored.id, failed).await {
            tracing::error!(topology = %self.stored.id, %error, "the outcome of the deploy could not be stored");
        }
    }

    fn take_snapshot(&self) -> Arc<LabSnapshot> {
        Arc::new(snapshot_of(
            &self.lab,
            &self.collection,
            &self.stored,
            &self.topology,
            self.phase,
            self.since,
            &self.nodes,
            self.recovered,
        ))
    }

    async fn publish_change(&self) {
        let snapshot = self.take_snapshot();
        self.snapshot.send_replace(Arc::clone(&snapshot));
        self.shared.publisher.publish(Notice::Lab(snapshot)).await;
    }

    async fn announce(&self, what: Occurrence, by: Option<UserId>) {
        let event = Event { at: Timestamp::now(), lab: self.take_snapshot(), by, what };
        self.shared.publisher.publish(Notice::Event(Arc::new(event))).await;
    }
}

/// Whoever asked may have gone; what they asked for has been done all the same.
fn answer(reply: Reply, result: Result<(), LabCommandError>) {
    let _ = reply.send(result);
}

/// The runtime has taken everything down; an empty folder that can't be removed is no reason to call that a failure.
async fn remove_dir(dir: &std::path::Path) {
    match tokio::fs::remove_dir_all(dir).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "the run folder could not be removed"),
    }
}
