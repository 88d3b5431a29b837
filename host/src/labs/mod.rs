//! Labs: what they are and what happens to them.
//!
//! [`Labs`] is the way in. It finds the task of a lab ([`lab_task`], one each), which asks the pure [`lifecycle`] what may
//! happen and drives the runtime. The [`scheduler`] deploys and destroys by the clock; [`capacity`] says whether there is
//! room for that. Whatever changes goes out through
//! the [`publisher`], which the edges subscribe to; nothing in here knows a socket or a wire format.

pub mod capacity;
pub mod checkpoints;
mod draft;
mod facts;
mod lab_task;
pub mod lifecycle;
mod logs;
pub mod model;
pub mod publisher;
mod revive;
mod run_folder;
mod running;
mod scheduler;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::capacity::config::CapacityConfig;
use self::capacity::{Book, Claim, NoRoom, Purpose, Reserved, Span};
use self::checkpoints::{CheckpointOptions, Contents, Kept, Shelf};
use self::draft::Draft;
use self::lab_task::{Command, LabHandle, SaveRequest, Shared};
use self::lifecycle::Denial;
pub use self::logs::{LabLog, RETENTION as LOG_RETENTION};
use self::model::{
    Checkpoint, CheckpointId, Collection, CollectionId, Lab, LabId, LabSnapshot, LabState, StoredTopology, TopologyId,
    User, UserId,
};
use self::publisher::{Notice, Publisher};
use self::revive::{Revival, TRIES_FOR_ONE};
use crate::history::archive::Archive;
use crate::runtime::saved::{NodeSaved, SavedFiles};
use crate::runtime::{NodeAction, RuntimeDriver, RuntimeError, RuntimeEvent};
use crate::store::{Store, StoreError};
use crate::topology::Topology;

/// How long a change of a topology or collection waits for the labs to know of it.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// How many labs are taken up at once at the start of the server.
const AT_ONCE: usize = 16;

/// What operators say about the times of labs.
#[derive(Debug, Clone, Default)]
pub struct Planning {
    /// What labs may take at once.
    pub capacity: CapacityConfig,
    /// How long before the end of a lab its users are warned.
    pub warn_before: Vec<Duration>,
}

/// A lab that somebody wants to create.
#[derive(Debug, Clone)]
pub struct NewLab {
    /// The name that its creator gives it.
    pub name: String,
    /// When it should start.
    pub start_time: Timestamp,
    /// When it should be destroyed.
    pub end_time: Option<Timestamp>,
    /// The topology that it is made from.
    pub topology_id: TopologyId,
    /// Who creates it.
    pub creator: User,
}

/// What somebody wants to change about a lab; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct LabPatch {
    /// Another name.
    pub name: Option<String>,
    /// Another start time.
    pub start_time: Option<Timestamp>,
    /// Another end time; `Some(None)`: no end.
    pub end_time: Option<Option<Timestamp>>,
    /// Another topology.
    pub topology_id: Option<TopologyId>,
}

/// Why something wasn't done to a lab's definition.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is no such lab.
    #[error("there is no lab {0}")]
    NotFound(LabId),
    /// There is no such topology.
    #[error("there is no topology {0}")]
    TopologyNotFound(TopologyId),
    /// Name or times make no sense; says which and why.
    #[error("{0}")]
    Invalid(String),
    /// The lab has an instance, and labs with one can't be deleted.
    #[error("lab {0} has an instance: destroy it first")]
    InUse(String),
    /// The lab has an instance, and of labs with one nothing can be changed but the end.
    #[error("lab {0} has an instance, and only its end can be changed meanwhile: destroy it first")]
    OnlyItsEnd(String),
    /// It is too late for another end.
    #[error("lab {0} is being destroyed")]
    BeingDestroyed(String),
    /// There is not enough left of what it would take at its time.
    #[error(transparent)]
    NoRoom(#[from] Box<NoRoom>),
    /// A checkpoint of it is being made.
    #[error("a checkpoint of lab {0} is being made: try again when that has ended")]
    BeingSaved(String),
    /// What was judged is no longer what would be.
    #[error("the topology has been changed this very moment: try again")]
    Overtaken,
    /// The server ends, and begins nothing any more.
    #[error("{SHUTTING_DOWN}")]
    ShuttingDown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is answered to whatever is asked while the server ends.
const SHUTTING_DOWN: &str = "the server is shutting down: try again when it is back";

/// Why a command on a lab didn't do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LabCommandError {
    /// There is no such lab.
    #[error("there is no lab {0}")]
    NotFound(LabId),
    /// The lab's present state doesn't allow it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The lab has no such node.
    #[error("this lab has no node named {0}")]
    NodeNotFound(String),
    /// The node isn't running.
    #[error("node {0} is not running")]
    NodeNotRunning(String),
    /// A destroy, or the loss of the instance, cancelled the save.
    #[error("the save was cancelled: the lab is no longer running")]
    SaveCancelled,
    /// A destroy cancelled the deploy.
    #[error("the deploy was cancelled by a destroy")]
    Cancelled,
    /// What the lab asks for can't be run here; nothing was begun.
    #[error("{0}")]
    Refused(String),
    /// There is not enough left of what it would take.
    #[error(transparent)]
    NoRoom(#[from] Box<NoRoom>),
    /// The runtime failed.
    #[error("{0}")]
    Runtime(String),
    /// The server ends. What was under way ends with it, or is found by the next one.
    #[error("{SHUTTING_DOWN}")]
    ShuttingDown,
    /// The server failed, not the runtime.
    #[error("the server could not do it: {0}")]
    Internal(String),
}

impl From<RuntimeError> for LabCommandError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Cancelled => Self::Cancelled,
            RuntimeError::NoInstance(_) => Self::Denied(Denial::NotRunning),
            RuntimeError::NoNode(node) => Self::NodeNotFound(node),
            RuntimeError::NodeNotRunning(node) => Self::NodeNotRunning(node),
            RuntimeError::Unsupported(reason) => Self::Refused(reason),
            RuntimeError::Failed(_)
            | RuntimeError::Unreachable(_)
            | RuntimeError::NoInterface { .. }
            | RuntimeError::TimedOut(..) => Self::Runtime(error.to_string()),
        }
    }
}

/// Handle to all labs. Cheap to clone.
#[derive(Clone)]
pub struct Labs {
    shared: Shared,
    /// The task of each lab. The lock is held for a look or an insert only.
    tasks: Arc<RwLock<HashMap<LabId, LabHandle>>>,
    /// Tells the scheduler that times or states have changed.
    reschedule: Arc<Notify>,
}

impl Labs {
    /// Takes up all stored labs, and what still runs of them, and starts the schedule. `run_dir` is where each instance
    /// gets a folder of its own, `archive` where logs are kept, `checkpoints` where saves and checkpoints are.
    ///
    /// # Errors
    /// [`StoreError`] when the stored labs can't be read.
    pub async fn open(
        store: Store,
        driver: Arc<dyn RuntimeDriver>,
        publisher: Publisher,
        run_dir: PathBuf,
        archive: Archive,
        planning: Planning,
        (checkpoints, options): (PathBuf, CheckpointOptions),
    ) -> Result<Self, StoreError> {
        let labs = Self {
            shared: Shared {
                shelf: Shelf::new(checkpoints, store.clone(), options),
                store,
                driver,
                publisher,
                running: Arc::default(),
                book: Arc::new(Book::new(planning.capacity)),
                run_dir,
                archive,
                closing: CancellationToken::new(),
            },
            tasks: Arc::default(),
            reschedule: Arc::new(Notify::new()),
        };
        // From before the labs are looked at: what happens from then on is not to be missed.
        let events = labs.shared.driver.watch();
        labs.revive().await?;
        tokio::spawn(watch_runtime(labs.clone(), events));
        tokio::spawn(scheduler::run(labs.clone(), planning.warn_before, Arc::clone(&labs.reschedule)));
        Ok(labs)
    }

    /// Starts a task for each stored lab, and finds out what became of its instance while no server was there.
    async fn revive(&self) -> Result<(), StoreError> {
        let stored = self.shared.store.labs().await?;
        let alive = revive::alive(&*self.shared.driver).await;
        revive::note_strangers(&*self.shared.driver, &alive, &stored);
        // A server that was killed while it deleted a lab has left its logs.
        for id in self.shared.archive.names(&[]) {
            if !stored.iter().any(|lab| lab.id.as_str() == id) {
                self.shared.archive.remove(&[&id]).await;
            }
        }
        self.shared.shelf.tidy(&stored).await?;
        // All at once: a query for each lab would be thousands.
        let (topologies, collections) = (self.shared.store.topologies().await?, self.shared.store.collections().await?);
        let topologies: HashMap<_, _> = topologies.into_iter().map(|one| (one.id.clone(), one)).collect();
        for name in self.shared.book.config().collections.keys() {
            if !collections.iter().any(|collection| collection.name == *name) {
                tracing::warn!("capacity.collections.{name}: there is no collection of this name at present");
            }
        }
        let collections: HashMap<_, _> = collections.into_iter().map(|one| (one.id.clone(), one)).collect();
        // An engine that takes its time to answer is not waited for once for each lab.
        let became = async |lab: Lab| {
            let (driver, instance) = (&*self.shared.driver, lab.instance.as_ref());
            let revival = match &alive {
                Ok(_) => revive::what_became_of(driver, instance, &self.shared.run_dir, TRIES_FOR_ONE).await,
                Err(error) => revive::not_known(instance, error),
            };
            (lab, revival)
        };
        let mut revived = pin!(stream::iter(stored.into_iter().map(became)).buffer_unordered(AT_ONCE));
        while let Some((lab, revival)) = revived.next().await {
            let found = (topologies.get(&lab.topology_id).cloned(), collections.get(&lab.collection_id).cloned());
            let (Some(stored), Some(collection)) = found else {
                tracing::error!(lab = %lab.id, "the topology of this lab is gone from the store; the lab is left out");
                continue;
            };
            self.start(lab, collection, stored, revival);
        }
        Ok(())
    }

    fn start(&self, lab: Lab, collection: Collection, stored: StoredTopology, revival: Revival) -> Arc<LabSnapshot> {
        let id = lab.id.clone();
        let handle = lab_task::spawn(self.shared.clone(), lab, collection, stored, revival);
        let snapshot = handle.snapshot.borrow().clone();
        self.tasks.write().unwrap_or_else(PoisonError::into_inner).insert(id, handle);
        snapshot
    }

    fn handle(&self, id: &LabId) -> Option<LabHandle> {
        self.tasks.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn handles(&self) -> Vec<LabHandle> {
        self.tasks.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The lab as it is now.
    pub fn get(&self, id: &LabId) -> Option<Arc<LabSnapshot>> {
        self.handle(id).map(|handle| current(&handle))
    }

    /// The lab as it is, whenever it changes. Ends with the lab.
    pub fn watch(&self, id: &LabId) -> Option<watch::Receiver<Arc<LabSnapshot>>> {
        self.handle(id).map(|handle| handle.snapshot)
    }

    /// All labs as they are now, by start time.
    pub fn list(&self) -> Vec<Arc<LabSnapshot>> {
        let mut labs: Vec<_> = self.handles().iter().map(current).collect();
        labs.sort_by(|a, b| (a.lab.start_time, &a.lab.id).cmp(&(b.lab.start_time, &b.lab.id)));
        labs
    }

    /// The log of a lab: what its deploys and destroys printed.
    pub async fn log(&self, id: &LabId) -> Option<Arc<LabLog>> {
        let logs = self.handle(id)?.logs;
        Some(logs.own().await)
    }

    /// Whether the lab was ever deployed, as far as its log tells.
    pub fn has_log(&self, id: &LabId) -> bool {
        self.handle(id).is_some_and(|handle| handle.logs.has_own())
    }

    /// The log of a node of a lab's instance: what its processes print.
    pub async fn node_log(&self, id: &LabId, node: &str) -> Option<Arc<LabLog>> {
        let logs = self.handle(id)?.logs;
        logs.node(node).await
    }

    /// Names of the nodes of a lab that have a log.
    pub fn node_logs(&self, id: &LabId) -> Vec<String> {
        self.handle(id).map(|handle| handle.logs.node_names()).unwrap_or_default()
    }

    /// How many labs that `user` created have an instance.
    pub fn running_labs(&self, user: &UserId) -> u32 {
        self.shared.running.of(user)
    }

    /// Changes of all labs, from now on.
    pub fn publisher(&self) -> &Publisher {
        &self.shared.publisher
    }

    /// What a new lab would be, for the auth policy to judge; its id is empty. Checks everything that `create` checks.
    ///
    /// # Errors
    /// [`LabError::TopologyNotFound`], [`LabError::Invalid`].
    pub async fn draft(&self, new: &NewLab) -> Result<LabSnapshot, LabError> {
        Ok(draft::new(&self.shared.store, new).await?.snapshot)
    }

    /// Creates a lab, if it would still be what `judged` says.
    ///
    /// # Errors
    /// As [`Self::draft`], [`LabError::Overtaken`], [`LabError::NoRoom`], and [`LabError::Store`].
    pub async fn create(&self, new: NewLab, judged: &LabSnapshot) -> Result<Arc<LabSnapshot>, LabError> {
        let Draft { snapshot, stored } = draft::new(&self.shared.store, &new).await?;
        draft::check_judged(&snapshot, judged)?;
        let snapshot = LabSnapshot { lab: Lab { id: LabId::generate(), ..snapshot.lab }, ..snapshot };
        let book = &self.shared.book;
        // Let go of once the lab itself is in the book, or when it could not be stored.
        let _claim =
            book.claim(vec![book.planned(&snapshot)], Purpose::Plan, &snapshot.collection, Timestamp::now())?;
        let LabSnapshot { lab, collection, .. } = snapshot;
        self.shared.store.insert_lab(&lab).await?;
        let snapshot = self.start(lab, collection, stored, Revival::None);
        // Its topology may have been changed before its task could be told.
        self.tell(&snapshot.lab.id, Command::Reread { claimed: None, done: None }).await;
        self.shared.publisher.publish(Notice::Lab(Arc::clone(&snapshot))).await;
        self.reschedule.notify_one();
        Ok(snapshot)
    }

    /// What a changed lab would be, for the auth policy to judge. Of one that has an instance, only the end can be changed.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn draft_update(&self, id: &LabId, patch: &LabPatch) -> Result<LabSnapshot, LabError> {
        let before = self.get(id).ok_or_else(|| LabError::NotFound(id.clone()))?;
        if before.instance.is_some() {
            return draft::extended(&before, patch);
        }
        Ok(draft::changed(&self.shared.store, &before, patch).await?.snapshot)
    }

    /// Changes a lab, if it would still become what `judged` says.
    ///
    /// # Errors
    /// [`LabError::NotFound`], [`LabError::OnlyItsEnd`], [`LabError::BeingDestroyed`], [`LabError::TopologyNotFound`],
    /// [`LabError::Invalid`], [`LabError::NoRoom`], [`LabError::Overtaken`], [`LabError::Store`].
    pub async fn update(&self, id: &LabId, patch: LabPatch, judged: LabSnapshot) -> Result<Arc<LabSnapshot>, LabError> {
        let judged = Box::new(judged);
        let snapshot = self.ask(id, |reply| Command::Update { patch, judged, reply }).await?;
        self.reschedule.notify_one();
        Ok(snapshot)
    }

    /// Deletes a lab and all that is kept of it.
    ///
    /// # Errors
    /// [`LabError::NotFound`], [`LabError::InUse`], [`LabError::Store`].
    pub async fn delete(&self, id: &LabId) -> Result<(), LabError> {
        let snapshot = self.ask(id, |reply| Command::Delete { reply }).await?;
        self.tasks.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        // Told only now: whoever fetches the labs because of it doesn't find this one.
        self.shared.publisher.publish(Notice::LabRemoved(snapshot)).await;
        self.reschedule.notify_one();
        Ok(())
    }

    /// Claims what the labs of a topology that are to be started would take if it were `topology`: to be held until the
    /// topology is changed, and then given to [`Self::topology_changed`].
    ///
    /// The change is refused where they wouldn't fit. Whoever changes the topology can do something about it at that time;
    /// those who have reserved a time for a lab could not, if they heard when it comes.
    ///
    /// # Errors
    /// [`LabError::NoRoom`].
    pub fn claim_topology(
        &self,
        id: &TopologyId,
        topology: &Topology,
        collection: &Collection,
    ) -> Result<Claim, LabError> {
        let book = &self.shared.book;
        let wanted = book.with_topology(id, topology);
        Ok(book.claim(wanted, Purpose::Topology, collection, Timestamp::now())?)
    }

    /// A topology was changed in the store: labs that are made from it show the new one from now on. What was claimed for
    /// that is let go of when all of them do.
    pub async fn topology_changed(&self, id: &TopologyId, claimed: Option<Claim>) {
        self.tell_all(|lab| lab.lab.topology_id == *id, claimed.map(Arc::new)).await;
    }

    /// A collection was changed in the store.
    pub async fn collection_changed(&self, id: &CollectionId) {
        self.tell_all(|lab| lab.collection.id == *id, None).await;
    }

    /// Done when the labs know, so that whoever has made a change can go on with them.
    async fn tell_all(&self, concerns: impl Fn(&LabSnapshot) -> bool, claimed: Option<Arc<Claim>>) {
        let (done, mut all_done) = mpsc::channel(1);
        for handle in self.handles() {
            let concerned = concerns(&handle.snapshot.borrow());
            if concerned {
                // A lab that is being deleted has no use for it.
                let (claimed, done) = (claimed.clone(), Some(done.clone()));
                let _ = handle.commands.send(Command::Reread { claimed, done }).await;
            }
        }
        drop((claimed, done));
        // Nothing is ever sent: it ends with the last of the senders. A lab that waits for the database is not waited for.
        let _ = tokio::time::timeout(KNOWN_WITHIN, all_done.recv()).await;
    }

    /// What labs may take at once.
    pub fn capacity(&self) -> &CapacityConfig {
        self.shared.book.config()
    }

    /// Most that labs have reserved of each resource within a time, as things are now; `None`: at this moment.
    pub fn reserved(&self, within: Option<Span>) -> Reserved {
        let now = Timestamp::now();
        let moment = Span { from: now, until: now.checked_add(jiff::SignedDuration::from_millis(1)).ok() };
        self.shared.book.reserved(within.unwrap_or(moment), now)
    }

    async fn tell(&self, id: &LabId, command: Command) {
        if let Some(handle) = self.handle(id) {
            // A lab that is being deleted has no use for it.
            let _ = handle.commands.send(command).await;
        }
    }

    /// Deploys a lab, anew if it runs. Done when it is up. `judged` is the lab that somebody was found to be allowed to
    /// deploy ([`LabSnapshot::to_deploy`]): where its definition is no longer what would be built, nothing is.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn deploy(
        &self,
        id: &LabId,
        by: Option<UserId>,
        judged: Option<Arc<LabSnapshot>>,
    ) -> Result<(), LabCommandError> {
        let result = self.order(id, |reply| Command::Deploy { by, judged, kept: None, reply }).await;
        self.reschedule.notify_one();
        result
    }

    /// Destroys a lab's instance. Done when nothing of it is left.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn destroy(&self, id: &LabId, by: Option<UserId>) -> Result<(), LabCommandError> {
        let result = self.order(id, |reply| Command::Destroy { by, end: None, reply }).await;
        self.reschedule.notify_one();
        result
    }

    /// Destroys a lab's instance because its time ended at `end`, unless it has been given another by now.
    async fn end(&self, id: &LabId, end: Timestamp) -> Result<(), LabCommandError> {
        let result = self.order(id, |reply| Command::Destroy { by: None, end: Some(end), reply }).await;
        self.reschedule.notify_one();
        result
    }

    /// Warns the users of a lab that it ends.
    async fn warn(&self, id: &LabId, end: Timestamp, before: Duration) {
        self.tell(id, Command::Warn { end, before }).await;
    }

    /// Starts, stops or restarts a node of a running lab.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn node(
        &self,
        id: &LabId,
        node: String,
        action: NodeAction,
        by: Option<UserId>,
    ) -> Result<(), LabCommandError> {
        self.order(id, |reply| Command::Node { node, action, by, reply }).await
    }

    /// Marks a lab whose time passed while no server was there.
    async fn missed(&self, id: &LabId) {
        self.tell(id, Command::Missed).await;
    }

    /// Ends all tasks of labs and the schedule. What runs goes on running; what is asked of labs from now on is refused.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    /// Saves the configurations of all nodes of a running lab, for the next checkpoint. Answers what was saved of each.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn save(&self, id: &LabId) -> Result<Vec<NodeSaved>, LabCommandError> {
        self.order(id, |reply| Command::Save(SaveRequest::Save(reply))).await
    }

    /// Makes a checkpoint: of a lab that runs, after having saved its nodes; of any other, with what was last saved of them.
    ///
    /// # Errors
    /// [`LabCommandError`]; nothing is left then.
    pub async fn make_checkpoint(
        &self,
        id: &LabId,
        name: String,
        creator: User,
    ) -> Result<Checkpoint, LabCommandError> {
        self.order(id, |reply| Command::Save(SaveRequest::Checkpoint { name, creator, reply })).await
    }

    /// The checkpoints of a lab, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoints(&self, id: &LabId) -> Result<Vec<Checkpoint>, StoreError> {
        self.shared.store.checkpoints(id).await
    }

    /// What is in a checkpoint.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn contents(&self, checkpoint: &Checkpoint) -> Result<Contents, LabCommandError> {
        let archive = self.archive_of(checkpoint).await?;
        // It is never closed.
        let _turn = self.shared.shelf.listing.acquire().await;
        let read = tokio::task::spawn_blocking(move || Contents::read(&archive)).await.map_err(std::io::Error::other);
        Ok(read.flatten().map_err(checkpoints::ShelfError::from)?)
    }

    /// The archive of a checkpoint.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn archive_of(&self, checkpoint: &Checkpoint) -> Result<SavedFiles, LabCommandError> {
        Ok(self.shared.shelf.open_whole(checkpoint).await?)
    }

    /// Removes a checkpoint of a lab.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and others.
    pub async fn remove_checkpoint(&self, lab: &LabId, id: &CheckpointId) -> Result<(), StoreError> {
        self.shared.shelf.remove(lab, id).await
    }

    /// Reads all that [`Self::restore`] needs of a checkpoint.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn open_checkpoint(&self, checkpoint: Checkpoint) -> Result<Arc<Kept>, LabCommandError> {
        Ok(Arc::new(self.shared.shelf.open(checkpoint).await?))
    }

    /// Deploys a checkpoint of a lab, in place of what runs. Done when it is up. `judged` is the lab with the checkpoint's
    /// definition, which somebody was found to be allowed to deploy.
    ///
    /// # Errors
    /// [`LabCommandError`].
    pub async fn restore(
        &self,
        id: &LabId,
        by: Option<UserId>,
        judged: Arc<LabSnapshot>,
        kept: Arc<Kept>,
    ) -> Result<(), LabCommandError> {
        let (judged, kept) = (Some(judged), Some(kept));
        let result = self.order(id, |reply| Command::Deploy { by, judged, kept, reply }).await;
        self.reschedule.notify_one();
        result
    }

    async fn order<T>(
        &self,
        id: &LabId,
        command: impl FnOnce(oneshot::Sender<Result<T, LabCommandError>>) -> Command,
    ) -> Result<T, LabCommandError> {
        let gone = || LabCommandError::NotFound(id.clone());
        let or_ending = |error| if self.shared.closing.is_cancelled() { LabCommandError::ShuttingDown } else { error };
        let handle = self.handle(id).ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        handle.commands.send(command(reply)).await.map_err(|_| or_ending(gone()))?;
        // A job that broke answers nobody; neither does a lab when the server ends.
        let broke = |_| Err(or_ending(LabCommandError::Internal("see the server's log".into())));
        answer.await.unwrap_or_else(broke)
    }

    async fn ask<T>(
        &self,
        id: &LabId,
        command: impl FnOnce(oneshot::Sender<Result<T, LabError>>) -> Command,
    ) -> Result<T, LabError> {
        let ending = || self.shared.closing.is_cancelled();
        let gone = || if ending() { LabError::ShuttingDown } else { LabError::NotFound(id.clone()) };
        let handle = self.handle(id).ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        handle.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// The lab as it is now. A lab that is scheduled becomes inactive by the clock alone, which no event tells its task.
fn current(handle: &LabHandle) -> Arc<LabSnapshot> {
    let snapshot = handle.snapshot.borrow().clone();
    let instance = snapshot.instance.as_ref().map(|instance| instance.state);
    let state = LabState::derive(instance, snapshot.lab.start_time, Timestamp::now());
    if state == snapshot.state { snapshot } else { Arc::new(LabSnapshot { state, ..(*snapshot).clone() }) }
}

/// Hands what the runtime noticed to the labs that it concerns.
async fn watch_runtime(labs: Labs, mut events: broadcast::Receiver<RuntimeEvent>) {
    loop {
        let event = tokio::select! {
            () = labs.shared.closing.cancelled() => return,
            event = events.recv() => event,
        };
        let command = match event {
            Ok(RuntimeEvent::Node { instance, node, state }) => {
                let name = instance.clone();
                (name, Command::NodeChanged { instance, node, state })
            }
            Ok(RuntimeEvent::InstanceLost { instance, reason }) => {
                let name = instance.clone();
                (name, Command::Lost { instance, reason })
            }
            Ok(RuntimeEvent::Note { instance, node, text, failure }) => {
                let name = instance.clone();
                (name, Command::Note { instance, node, text, failure })
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events of the runtime were missed: looking at every lab");
                for handle in labs.handles() {
                    // A lab that is being deleted has no nodes to look at.
                    let _ = handle.commands.send(Command::Inspect).await;
                }
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let (instance, command) = command;
        let concerned = labs
            .handles()
            .into_iter()
            .find(|handle| handle.snapshot.borrow().instance.as_ref().is_some_and(|known| known.name == instance));
        if let Some(handle) = concerned {
            // A lab that is being deleted has no instance any more.
            let _ = handle.commands.send(command).await;
        }
    }
}
