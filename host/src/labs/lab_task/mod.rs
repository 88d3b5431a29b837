//! One task per lab, which owns everything that changes about it ([`Facts`]). It asks [`lifecycle`] what may happen,
//! performs the effects through the runtime driver, keeps the store in step, and publishes each change.
//!
//! Commands come through a bounded channel. Whatever takes long (a deploy, a destroy, work on a node, a look at the nodes)
//! runs as a job of its own and reports back, so that commands are answered meanwhile. There is never more than one
//! deploy or destroy: the lifecycle sees to that.
//!
//! | module | role |
//! |---|---|
//! | [`effects`] | performs what follows from a step of the lifecycle |
//! | [`jobs`] | begins what takes long, and takes over what came of it |
//! | [`nodes`] | the nodes of the instance |
//! | [`saves`] | saves and checkpoints |
//! | [`taking_up`] | what an earlier server has left |

mod effects;
mod jobs;
mod nodes;
mod saves;
mod taking_up;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

pub(super) use self::saves::SaveRequest;
use super::capacity::{Book, Booking, Claim, Purpose};
use super::checkpoints::{Kept, Shelf};
use super::facts::Facts;
use super::lifecycle::{self, Denial, Phase};
use super::logs::LabLogs;
use super::model::{BindFile, Collection, Lab, LabSnapshot, NodeState, NodeStatus, StoredTopology, TopologyId, UserId};
use super::publisher::{Notice, Publisher};
use super::revive::{self, Revival};
use super::running::Running;
use super::{LabCommandError, LabError, LabPatch, draft};
use crate::history::archive::Archive;
use crate::plugins::decision::{Event, Occurrence};
use crate::runtime::{NodeAction, RuntimeDriver, RuntimeError};
use crate::store::{Store, StoreError};
use crate::topology::Topology;

/// How often the nodes of a lab are looked at that is being deployed, or of which nobody knows whether it runs.
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
    /// Who has reserved what.
    pub(super) book: Arc<Book>,
    /// Each instance gets a folder of its own in here.
    pub(super) run_dir: PathBuf,
    /// Where logs are kept.
    pub(super) archive: Archive,
    /// Where saves and checkpoints are kept.
    pub(super) shelf: Shelf,
    /// Cancelled when the server ends.
    pub(super) closing: CancellationToken,
}

/// What can be asked of a lab task.
pub(super) enum Command {
    /// Deploys the lab, or a checkpoint of it. `judged` is what was found to be allowed, if anybody was asked.
    Deploy {
        by: Option<UserId>,
        judged: Option<Arc<LabSnapshot>>,
        kept: Option<Arc<Kept>>,
        reply: Reply,
    },
    Destroy {
        by: Option<UserId>,
        /// Only if this is its end time still.
        end: Option<Timestamp>,
        reply: Reply,
    },
    Node {
        node: String,
        action: NodeAction,
        by: Option<UserId>,
        reply: Reply,
    },
    /// Saves its nodes, or makes a checkpoint.
    Save(SaveRequest),
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
    /// The lab's topology or collection may have changed in the store. What was claimed for that, and the sender by which
    /// somebody waits for it, are dropped when that is known here.
    Reread {
        claimed: Option<Arc<Claim>>,
        done: Option<mpsc::Sender<()>>,
    },
    /// Warn users that the lab ends, if it does so then and they haven't been warned.
    Warn {
        end: Timestamp,
        before: Duration,
    },
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
    /// The runtime says something about a node that users have to know.
    Note {
        instance: String,
        node: String,
        text: String,
        failure: bool,
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
    Destroy(Result<(), RuntimeError>),
    Node(NodeJob, Result<NodeStatus, RuntimeError>),
    /// With what answers whoever asked for it.
    Save(Box<dyn FnOnce() + Send>),
    Inspect {
        instance: String,
        /// The lab was being deployed when this began.
        early: bool,
        result: Result<Vec<NodeStatus>, RuntimeError>,
    },
    /// Another answer about an instance that was in doubt.
    Revival {
        instance: String,
        revival: Revival,
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
    /// The checkpoint that the instance was deployed from by this server, if it was.
    kept: Option<Arc<Kept>>,
    /// The bind files that the instance was deployed with by this server, once they have been read; without what is in them,
    /// which is in its folder.
    files: Arc<OnceLock<Vec<BindFile>>>,
    /// The checkpoint of the instance that is about to be deployed.
    kept_next: Option<Arc<Kept>>,
    /// What is to be saved, until that begins.
    save_request: Option<SaveRequest>,
    /// The job that saves.
    save_job: Option<task::Id>,
    save_cancel: CancellationToken,
    /// The runtime is being asked about a lab that is being deployed, or about one in doubt.
    looking: bool,
    /// Nobody could say so far what became of the instance that an earlier server has left.
    in_doubt: bool,
    /// The instance that is being replaced was up.
    was_up: bool,
    behind: Behind,
    deploy_waiter: Option<Reply>,
    /// What the deploy under way takes.
    claim: Option<Claim>,
    destroy_waiters: Vec<Reply>,
    snapshot: watch::Sender<Arc<LabSnapshot>>,
    logs: Arc<LabLogs>,
}

/// What the store and this task don't know of each other yet, since the store was away. It is caught up with as soon as the
/// store is back.
#[derive(Default)]
struct Behind {
    /// The instance as it is isn't stored.
    instance: bool,
    /// That the schedule has acted isn't stored: another server would act once more.
    start_pending: bool,
    /// That users have been warned of its end isn't stored.
    warned: bool,
    /// How the last deploy of this topology ended isn't stored.
    deploy_failed: Option<(TopologyId, bool)>,
    /// What this task knows of the topology or its collection may be old.
    topology: bool,
}

impl Behind {
    fn is_any(&self) -> bool {
        self.instance || self.start_pending || self.warned || self.deploy_failed.is_some() || self.topology
    }
}

/// Whether it makes sense to store something once more. Not for a lab that is gone from the store.
fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Away(_) | StoreError::Unknown | StoreError::Database(_))
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
        Revival::Lost { left, .. } | Revival::CutShort { left, .. } | Revival::Failed { left } => {
            (Phase::Failed, left.clone())
        }
        Revival::Unknown(_) => (Phase::Failed, Vec::new()),
    };
    let mut facts = Facts::new(lab, collection, stored, phase, nodes);
    if matches!(revival, Revival::Lost { .. } | Revival::CutShort { .. } | Revival::Unknown(_)) {
        facts.failed_just_now();
    }
    let first = facts.snapshot();
    shared.running.update(&first.lab.creator.id, false, first.instance.is_some());
    shared.book.note(&first);
    let (sender, receiver) = watch::channel(Arc::new(first));
    let task = LabTask {
        shared,
        facts,
        by: None,
        failure: None,
        cancel: CancellationToken::new(),
        jobs: JoinSet::new(),
        main_job: None,
        kept: None,
        files: Arc::default(),
        kept_next: None,
        save_request: None,
        save_job: None,
        save_cancel: CancellationToken::new(),
        looking: false,
        in_doubt: matches!(revival, Revival::Unknown(_)),
        was_up: false,
        behind: Behind::default(),
        deploy_waiter: None,
        claim: None,
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
        let every = || {
            let mut every = tokio::time::interval(LOOK);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            every
        };
        let (mut look, mut look_early) = (every(), every());
        loop {
            tokio::select! {
                // Ends of jobs first: whoever asks next is answered by how things are, not by how they were.
                biased;
                () = closing.cancelled() => return,
                Some(end) = self.jobs.join_next_with_id() => match end {
                    Ok((id, end)) => {
                        for job in [&mut self.main_job, &mut self.save_job] {
                            job.take_if(|job| *job == id);
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
                            self.shared.shelf.remove_lab(&self.facts.lab.id).await;
                            return;
                        }
                    }
                    Some(command) => self.command(command).await,
                },
                // A lab that runs is not to stay lost because the engine was away when the server began.
                _ = look.tick(), if self.in_doubt || self.behind.is_any() => {
                    self.catch_up().await;
                    if self.in_doubt {
                        self.ask_again();
                    }
                }
                // Nodes come up one after the other, and some take minutes: what the first ones print is wanted by then.
                _ = look_early.tick(), if self.facts.phase == Phase::Deploying => self.inspect(),
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Deploy { by, judged, kept, reply } => self.deploy(by, judged, kept, reply).await,
            Command::Destroy { by, end, reply } => self.destroy(by, end, reply).await,
            Command::Node { node, action, by, reply } => self.node_action(node, action, by, reply),
            Command::Save(request) => self.save(request).await,
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
            Command::Reread { claimed, done } => {
                self.reread().await;
                drop((claimed, done));
            }
            Command::Warn { end, before } => self.warn(end, before).await,
            Command::NodeChanged { instance, node, state } => self.node_changed(&instance, &node, state).await,
            Command::Lost { instance, reason } => {
                if self.facts.instance_name() == Some(&instance) {
                    self.failure = Some(LabCommandError::Runtime(reason));
                    self.event(lifecycle::Event::Lost).await;
                }
            }
            Command::Note { instance, node, text, failure } => self.noted(&instance, &node, text, failure).await,
            Command::Inspect => self.inspect(),
        }
    }

    async fn deploy(
        &mut self,
        by: Option<UserId>,
        judged: Option<Arc<LabSnapshot>>,
        kept: Option<Arc<Kept>>,
        reply: Reply,
    ) {
        let (phase, effects) = match lifecycle::step(self.facts.phase, lifecycle::Event::Deploy) {
            Ok(next) => next,
            Err(denial) => return answer(reply, Err(denial.into())),
        };
        if let Some(reason) = self.out_of_reach() {
            return answer(reply, Err(LabCommandError::Runtime(reason)));
        }
        if let Err(error) = self.store_is_there().await {
            return answer(reply, Err(error));
        }
        if self.behind.topology && !self.reread().await {
            let reason = "its topology may have been changed and could not be read since, and nothing was done; try \
                          again in a moment, or see the server's log";
            return answer(reply, Err(LabCommandError::Internal(reason.into())));
        }
        let scheduled = by.is_none();
        let mut claim = None;
        if scheduled {
            // Reserved already: it may not be lost to somebody else between one state and the next.
            claim = Some(self.shared.book.hold(self.to_deploy(None)));
            // The schedule asks once, whatever comes of it.
            self.clear_start_pending().await;
        }
        // What can't run here is refused before anything has begun, so that nothing half made is left.
        if let Err(reason) = self.deployable(judged.as_deref(), kept.as_deref()) {
            if scheduled {
                // Nobody waits for the answer: this is how users hear of it.
                let detail = String::new();
                self.announce(Occurrence::LabDeployFailed { reason: reason.clone(), detail }, None).await;
            }
            return answer(reply, Err(LabCommandError::Refused(reason)));
        }
        if claim.is_none() {
            let (book, now) = (&self.shared.book, Timestamp::now());
            match book.claim(vec![self.to_deploy(kept.as_deref())], Purpose::Deploy, &self.facts.collection, now) {
                Ok(claimed) => claim = Some(claimed),
                Err(no_room) => return answer(reply, Err(LabCommandError::NoRoom(no_room))),
            }
        }
        self.clear_start_pending().await;
        self.was_up = self.facts.phase.is_up();
        self.by = by;
        self.kept_next = kept;
        self.deploy_waiter = Some(reply);
        self.claim = claim;
        self.enter(phase, effects).await;
    }

    /// What the lab takes when it is deployed now, as it was at a checkpoint if there is one.
    fn to_deploy(&self, kept: Option<&Kept>) -> Booking {
        let snapshot = self.facts.snapshot();
        match kept {
            Some(Kept { definition, .. }) => {
                self.shared.book.deployed(&LabSnapshot { topology: Arc::clone(&definition.topology), ..snapshot })
            }
            None => self.shared.book.deployed(&Arc::new(snapshot).to_deploy()),
        }
    }

    async fn destroy(&mut self, by: Option<UserId>, end: Option<Timestamp>, reply: Reply) {
        if end.is_some() && end != self.facts.lab.end_time {
            // It was extended while the schedule was about to end it.
            return answer(reply, Ok(()));
        }
        let (phase, effects) = match lifecycle::step(self.facts.phase, lifecycle::Event::Destroy) {
            Ok(next) => next,
            Err(denial) => return answer(reply, Err(denial.into())),
        };
        if let Some(reason) = self.out_of_reach() {
            return answer(reply, Err(LabCommandError::Runtime(reason)));
        }
        if let Err(error) = self.store_is_there().await {
            return answer(reply, Err(error));
        }
        self.destroy_waiters.push(reply);
        if phase != self.facts.phase {
            self.by = by;
        }
        self.enter(phase, effects).await;
    }

    /// Nothing is begun while it couldn't be stored.
    async fn store_is_there(&self) -> Result<(), LabCommandError> {
        self.shared.store.ping().await.map_err(|error| {
            tracing::warn!(lab = %self.facts.lab.id, %error, "a command was refused");
            let reason = "its database can't be reached at the moment, and nothing was done; try again in a moment";
            LabCommandError::Internal(reason.into())
        })
    }

    /// Why the runtime can't take the instance down, if there is one of another runtime. It would find nothing, and what
    /// runs would be forgotten. To be asked before anything is stored: what is stored is for the server that can.
    fn out_of_reach(&self) -> Option<String> {
        let instance = self.facts.lab.instance.as_ref()?;
        revive::out_of_reach(&*self.shared.driver, &instance.runtime)
    }

    /// Whether what a deploy would build can be built, and is what was judged.
    fn deployable(&self, judged: Option<&LabSnapshot>, kept: Option<&Kept>) -> Result<(), String> {
        let next = kept.map_or(&self.facts.next, |kept| &kept.definition);
        if judged.is_some_and(|judged| judged.definition != next.text || judged.topology != next.topology) {
            return Err("the lab's topology has been changed this very moment: try again".into());
        }
        if let Some(end) = self.facts.lab.end_time.filter(|end| *end <= Timestamp::now()) {
            return Err(format!("the lab's time ended at {end}: give it another end time first"));
        }
        let runtime = self.shared.driver.name();
        if let Some(other) = kept.and_then(|kept| kept.checkpoint.runtime.as_deref()).filter(|other| *other != runtime)
        {
            return Err(format!(
                "the files of the checkpoint's nodes were saved on the runtime {other}, and mean nothing on {runtime}"
            ));
        }
        let paths = match kept {
            Some(kept) => kept.files.iter().map(|file| file.path.clone()).collect(),
            None => self.facts.stored.file_paths.clone(),
        };
        Topology::parse_beside(&next.text, &paths)
            .map_err(|error| error.to_string())
            .and_then(|topology| self.shared.driver.check(&topology).map_err(|error| error.to_string()))
    }

    /// An event that is never denied.
    async fn event(&mut self, event: lifecycle::Event) {
        let (phase, effects) = lifecycle::step(self.facts.phase, event).expect("only requests are denied");
        self.enter(phase, effects).await;
    }

    /// Adds a line of ours to the lab's log.
    async fn note(&self, text: &str) {
        self.logs.sink().await.line(text);
    }

    async fn update(&mut self, patch: &LabPatch, judged: &LabSnapshot) -> Result<Arc<LabSnapshot>, LabError> {
        let before = self.facts.snapshot();
        if before.instance.is_some() {
            return self.extend(&before, patch, judged).await;
        }
        let drafted = draft::changed(&self.shared.store, &before, patch).await?;
        draft::check_judged(&drafted.snapshot, judged)?;
        let _claim = self.claim_change(&drafted.snapshot, Purpose::Plan)?;
        self.shared.store.update_lab(&drafted.snapshot.lab).await?;
        self.facts.lab = drafted.snapshot.lab;
        self.behind.start_pending = false;
        self.behind.warned = false;
        self.take_over(drafted.stored, drafted.snapshot.collection);
        self.publish_change().await;
        Ok(self.snapshot.borrow().clone())
    }

    /// Gives a lab that has an instance another end.
    async fn extend(
        &mut self,
        before: &LabSnapshot,
        patch: &LabPatch,
        judged: &LabSnapshot,
    ) -> Result<Arc<LabSnapshot>, LabError> {
        let after = draft::extended(before, patch)?;
        draft::check_judged(&after, judged)?;
        let _claim = self.claim_change(&after, Purpose::Extend)?;
        self.shared.store.update_lab(&after.lab).await?;
        self.facts.lab.end_time = after.lab.end_time;
        self.facts.lab.warned_before = after.lab.warned_before;
        self.behind.start_pending = false;
        self.behind.warned = false;
        self.publish_change().await;
        Ok(self.snapshot.borrow().clone())
    }

    /// Claims what the lab would take after a change.
    fn claim_change(&self, after: &LabSnapshot, purpose: Purpose) -> Result<Claim, LabError> {
        let book = &self.shared.book;
        Ok(book.claim(vec![book.planned(after)], purpose, &after.collection, Timestamp::now())?)
    }

    /// Warns users that the lab ends, once for each time before that.
    async fn warn(&mut self, end: Timestamp, before: Duration) {
        let lab = &self.facts.lab;
        let seconds = u32::try_from(before.as_secs()).unwrap_or(u32::MAX);
        let warned = lab.warned_before.is_some_and(|warned| warned <= seconds);
        if warned || lab.end_time != Some(end) || lab.instance.is_none() || end <= Timestamp::now() {
            return;
        }
        self.facts.lab.warned_before = Some(seconds);
        self.store_warned().await;
        let lab = Arc::new(self.facts.snapshot());
        // No client is shown it, so that none has to be told; the schedule has to know.
        self.snapshot.send_replace(Arc::clone(&lab));
        self.shared.publisher.publish(Notice::Ending { at: Timestamp::now(), lab, end }).await;
    }

    async fn delete(&mut self) -> Result<Arc<LabSnapshot>, LabError> {
        if self.facts.phase != Phase::Idle {
            return Err(LabError::InUse(self.facts.lab.name.clone()));
        }
        if self.save_job.is_some() {
            return Err(LabError::BeingSaved(self.facts.lab.name.clone()));
        }
        self.shared.store.delete_lab(&self.facts.lab.id).await?;
        self.shared.book.forget(&self.facts.lab.id);
        Ok(Arc::new(self.facts.snapshot()))
    }

    /// Stores what could not be stored, and reads what could not be read, as long as the store answers.
    async fn catch_up(&mut self) {
        if self.behind.instance && !self.store_instance().await {
            return;
        }
        if self.behind.start_pending && !self.store_start_pending().await {
            return;
        }
        if self.behind.warned && !self.store_warned().await {
            return;
        }
        if let Some((topology, failed)) = self.behind.deploy_failed.clone()
            && !self.store_deploy_failed(topology, failed).await
        {
            return;
        }
        if self.behind.topology {
            self.reread().await;
        }
    }

    /// Takes over what the store says now, which also serves when several changes arrive in another order; whether it could
    /// be read.
    async fn reread(&mut self) -> bool {
        match self.read_topology().await {
            Ok(read) => {
                // Neither can be deleted while the lab exists.
                if let Some((stored, collection)) = read {
                    self.take_over(stored, collection);
                    self.publish_change().await;
                }
                self.behind.topology = false;
            }
            Err(error) => {
                if !self.behind.topology {
                    tracing::error!(lab = %self.facts.lab.id, %error, "its topology could not be read yet");
                }
                self.behind.topology = true;
            }
        }
        !self.behind.topology
    }

    async fn read_topology(&self) -> Result<Option<(StoredTopology, Collection)>, StoreError> {
        let store = &self.shared.store;
        let Some(stored) = store.topology(&self.facts.lab.topology_id).await? else { return Ok(None) };
        let collection = store.collection(&stored.collection_id).await?;
        Ok(collection.map(|collection| (stored, collection)))
    }

    /// Takes over a topology that was just read, and its collection.
    fn take_over(&mut self, mut stored: StoredTopology, collection: Collection) {
        if let Some((topology, failed)) = &self.behind.deploy_failed
            && *topology == stored.id
        {
            // Of this the store knows less.
            stored.last_deploy_failed = *failed;
        }
        self.behind.topology = false;
        self.facts.reread(stored, collection);
    }

    async fn clear_start_pending(&mut self) {
        if std::mem::replace(&mut self.facts.lab.start_pending, false) {
            self.store_start_pending().await;
            self.publish_change().await;
        }
    }

    /// Stores that the schedule has acted; whether that worked.
    async fn store_start_pending(&mut self) -> bool {
        let stored = self.shared.store.set_lab_start_pending(&self.facts.lab.id, false).await;
        if let Err(error) = &stored
            && !self.behind.start_pending
        {
            tracing::error!(lab = %self.facts.lab.id, %error, "it could not be stored yet that the schedule has acted");
        }
        self.behind.start_pending = stored.as_ref().is_err_and(may_pass);
        stored.is_ok()
    }

    /// Stores of what users have been warned; whether that worked.
    async fn store_warned(&mut self) -> bool {
        let stored = self.shared.store.set_lab_warned(&self.facts.lab.id, self.facts.lab.warned_before).await;
        if let Err(error) = &stored
            && !self.behind.warned
        {
            tracing::error!(lab = %self.facts.lab.id, %error, "it could not be stored yet that users have been warned");
        }
        self.behind.warned = stored.as_ref().is_err_and(may_pass);
        stored.is_ok()
    }

    async fn set_topology_deploy_failed(&mut self, failed: bool) {
        if self.facts.stored.last_deploy_failed == failed {
            return;
        }
        self.facts.stored.last_deploy_failed = failed;
        self.store_deploy_failed(self.facts.stored.id.clone(), failed).await;
    }

    /// Stores how the last deploy of a topology ended; whether that worked.
    async fn store_deploy_failed(&mut self, topology: TopologyId, failed: bool) -> bool {
        let stored = self.shared.store.set_topology_deploy_failed(&topology, failed).await;
        if let Err(error) = &stored
            && self.behind.deploy_failed.is_none()
        {
            tracing::error!(%topology, %error, "the outcome of the deploy could not be stored yet");
        }
        self.behind.deploy_failed = stored.as_ref().is_err_and(may_pass).then_some((topology, failed));
        stored.is_ok()
    }

    /// Stores the instance as it is; whether that worked.
    async fn store_instance(&mut self) -> bool {
        let mut instance = self.facts.stored_instance();
        if self.in_doubt && self.facts.phase == Phase::Failed {
            // What is stored stays as it is: who can look will know better.
            instance = self.facts.lab.instance.clone();
        }
        let stored = self.shared.store.set_lab_instance(&self.facts.lab.id, instance.as_ref()).await;
        if let Err(error) = &stored
            && !self.behind.instance
        {
            tracing::error!(lab = %self.facts.lab.id, %error, "the state of the instance could not be stored yet");
        }
        self.behind.instance = stored.as_ref().is_err_and(may_pass);
        stored.is_ok()
    }

    async fn publish_change(&self) {
        let snapshot = Arc::new(self.facts.snapshot());
        let before = self.snapshot.send_replace(Arc::clone(&snapshot));
        let (had, has) = (before.instance.is_some(), snapshot.instance.is_some());
        self.shared.running.update(&snapshot.lab.creator.id, had, has);
        self.shared.book.note(&snapshot);
        self.shared.publisher.publish(Notice::Lab(snapshot)).await;
    }

    async fn announce(&self, what: Occurrence, by: Option<UserId>) {
        let event = Event { at: Timestamp::now(), lab: Arc::new(self.facts.snapshot()), by, what };
        self.shared.publisher.publish(Notice::Event(Arc::new(event))).await;
    }
}

/// Whoever asked may have gone; what they asked for has been done all the same.
fn answer(reply: Reply, result: Result<(), LabCommandError>) {
    let _ = reply.send(result);
}
