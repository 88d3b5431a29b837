//! Labs against a runtime that does what the test says. What a real runtime does is shown elsewhere; here it is about who
//! is answered what, and when.

mod reservations;

use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::model::{InstanceState, NodeState, NodeStatus, StoredInstance};
use super::*;
use crate::history::Follower;
use crate::history::archive::Archive;
use crate::history::lines::Line;
use crate::plugins::decision::Occurrence;
use crate::runtime::capture::{Capture, CaptureOptions};
use crate::runtime::saved::SaveLimits;
use crate::runtime::stats::NodeStats;
use crate::runtime::{InstanceSpec, LogChunk, LogPosition, LogSink, Pty, PtyRequest};
use crate::topology::Topology;

/// A runtime whose deploys and destroys end when the test lets them.
struct Scripted {
    /// One permit lets one deploy end.
    deploys: Semaphore,
    /// One permit lets one destroy end.
    destroys: Semaphore,
    /// One permit lets one save end.
    saves: Semaphore,
    /// Told when a save has begun.
    saving: Notify,
    destroy_fails: Mutex<bool>,
    /// The next look at an instance fails.
    inspect_fails: Mutex<bool>,
    /// Instances that exist.
    instances: Mutex<Vec<String>>,
    /// Their nodes, where an earlier server made them.
    nodes: Mutex<Vec<NodeStatus>>,
    /// What its nodes have written, and the place after which each log was asked for.
    log: Mutex<(String, Vec<Option<LogPosition>>)>,
    /// The log is another than the one that was followed before.
    replaced: Mutex<bool>,
    /// The instances whose logs have been handed out, in this order.
    followed: Mutex<Vec<String>>,
    /// Told when the next log is asked for, and holds up whoever asks, thread and all, until the other side says so.
    busy: Mutex<Option<(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>)>>,
    events: broadcast::Sender<RuntimeEvent>,
}

impl Scripted {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            deploys: Semaphore::new(0),
            destroys: Semaphore::new(0),
            saves: Semaphore::new(0),
            saving: Notify::new(),
            destroy_fails: Mutex::new(false),
            inspect_fails: Mutex::new(false),
            instances: Mutex::default(),
            nodes: Mutex::default(),
            log: Mutex::default(),
            replaced: Mutex::default(),
            followed: Mutex::default(),
            busy: Mutex::default(),
            events: broadcast::channel(16).0,
        })
    }
}

#[async_trait]
impl RuntimeDriver for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn check(&self, topology: &Topology) -> Result<(), RuntimeError> {
        match topology.nodes.iter().find(|node| node.kind != "linux") {
            Some(node) => Err(RuntimeError::Unsupported(format!("node {}: kind {}", node.name, node.kind))),
            None => Ok(()),
        }
    }

    async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeStatus>, RuntimeError> {
        self.instances.lock().unwrap().push(spec.name.clone());
        log.line("deploying");
        tokio::select! {
            permit = self.deploys.acquire() => permit.unwrap().forget(),
            () = cancel.cancelled() => {
                self.instances.lock().unwrap().retain(|name| *name != spec.name);
                return Err(RuntimeError::Cancelled);
            }
        }
        Ok(self.nodes.lock().unwrap().clone())
    }

    async fn destroy(&self, instance: &str, _: &Path, _: LogSink) -> Result<(), RuntimeError> {
        self.destroys.acquire().await.unwrap().forget();
        if std::mem::take(&mut *self.destroy_fails.lock().unwrap()) {
            return Err(RuntimeError::Failed("a node would not go".into()));
        }
        self.instances.lock().unwrap().retain(|name| name != instance);
        Ok(())
    }

    async fn inspect(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError> {
        if std::mem::take(&mut *self.inspect_fails.lock().unwrap()) {
            return Err(RuntimeError::Failed("the engine is busy".into()));
        }
        if !self.instances.lock().unwrap().iter().any(|name| name == instance) {
            return Err(RuntimeError::NoInstance(instance.into()));
        }
        Ok(self.nodes.lock().unwrap().clone())
    }

    async fn stats(&self, instance: &str) -> Result<Vec<NodeStats>, RuntimeError> {
        Err(RuntimeError::NoInstance(instance.to_owned()))
    }

    async fn list(&self) -> Result<Vec<String>, RuntimeError> {
        Ok(self.instances.lock().unwrap().clone())
    }

    async fn node(&self, instance: &str, _: &str, _: NodeAction) -> Result<NodeStatus, RuntimeError> {
        Err(RuntimeError::NoInstance(instance.into()))
    }

    /// Saves nothing, for as long as the test wants.
    async fn save(
        &self,
        _: &str,
        _: &Path,
        archive: std::fs::File,
        _: SaveLimits,
        _: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeSaved>, RuntimeError> {
        self.saving.notify_one();
        tokio::select! {
            permit = self.saves.acquire() => permit.unwrap().forget(),
            () = cancel.cancelled() => return Err(RuntimeError::Cancelled),
        }
        tar::Builder::new(archive).into_inner().unwrap();
        Ok(Vec::new())
    }

    /// Positions are numbers of bytes, one for each line but those that say that they are nowhere.
    async fn follow_log(
        &self,
        instance: &str,
        _: &str,
        after: Option<LogPosition>,
    ) -> Result<mpsc::Receiver<LogChunk>, RuntimeError> {
        let busy = self.busy.lock().unwrap().take();
        if let Some((asked, go_on)) = busy {
            asked.send(()).unwrap();
            go_on.recv().unwrap();
        }
        self.followed.lock().unwrap().push(instance.to_owned());
        let mut log = self.log.lock().unwrap();
        let mut at: usize = after.as_ref().map_or(0, |after| after.as_str().parse().unwrap());
        log.1.push(after);
        let mut elsewhere = std::mem::take(&mut *self.replaced.lock().unwrap());
        if elsewhere {
            at = 0;
        }
        let (sender, receiver) = mpsc::channel(1000);
        for line in log.0[at..].split_inclusive('\n') {
            at += line.len();
            let position = (!line.starts_with("nowhere")).then(|| LogPosition::new(&at.to_string()));
            let elsewhere = std::mem::take(&mut elsewhere);
            let chunk = LogChunk { data: line.to_owned().into(), position, elsewhere };
            sender.try_send(chunk).unwrap();
        }
        // It goes on for as long as the instance does.
        tokio::spawn(async move { sender.closed().await });
        Ok(receiver)
    }

    async fn open_pty(&self, instance: &str, _: &str, _: PtyRequest) -> Result<Pty, RuntimeError> {
        Err(RuntimeError::NoInstance(instance.into()))
    }

    async fn capture(&self, instance: &str, _: &str, _: &str, _: &CaptureOptions) -> Result<Capture, RuntimeError> {
        Err(RuntimeError::NoInstance(instance.into()))
    }

    fn watch(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    async fn shut_down(&self) {}
}

struct Fixture {
    labs: Labs,
    driver: Arc<Scripted>,
    notices: mpsc::Receiver<Notice>,
    store: Store,
    topology: TopologyId,
    // Keeps the run folder.
    _dir: tempfile::TempDir,
}

fn user() -> User {
    User { id: "ada".into(), name: "Ada".into() }
}

fn archive(dir: &std::path::Path) -> Archive {
    Archive::new(dir.join("logs"), LOG_RETENTION)
}

fn shelf(dir: &std::path::Path) -> (PathBuf, CheckpointOptions) {
    (dir.join("checkpoints"), CheckpointOptions::default())
}

const TWO_NODES: &str = "name: t\ntopology:\n  nodes:\n    r1: {kind: linux}\n    r2: {kind: linux}\n";

impl Fixture {
    async fn new() -> Self {
        Self::with(TWO_NODES, |_| None).await
    }

    /// With a lab in the store before the labs are opened, if `stored` makes one.
    async fn with(definition: &str, stored: impl FnOnce(&StoredTopology) -> Option<Lab>) -> Self {
        Self::on(Scripted::new(), definition, stored).await
    }

    /// With a runtime on which something runs already.
    async fn on(driver: Arc<Scripted>, definition: &str, stored: impl FnOnce(&StoredTopology) -> Option<Lab>) -> Self {
        Self::planned(driver, definition, stored, Planning::default()).await
    }

    /// With an operator who has something to say about times.
    async fn planned(
        driver: Arc<Scripted>,
        definition: &str,
        stored: impl FnOnce(&StoredTopology) -> Option<Lab>,
        planning: Planning,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_file(&dir.path().join("labs.db")).await.unwrap();
        let collection = Collection {
            id: CollectionId::generate(),
            name: "course".into(),
            public_write: true,
            public_deploy: true,
            creator: user(),
        };
        store.upsert_user(&user()).await.unwrap();
        store.insert_collection(&collection).await.unwrap();
        let topology = StoredTopology {
            id: TopologyId::generate(),
            name: "t".into(),
            collection_id: collection.id,
            definition: definition.into(),
            sync_url: None,
            last_deploy_failed: false,
            creator: user(),
            file_paths: Vec::new(),
        };
        store.insert_topology(&topology).await.unwrap();
        if let Some(lab) = stored(&topology) {
            store.insert_lab(&lab).await.unwrap();
            store.set_lab_instance(&lab.id, lab.instance.as_ref()).await.unwrap();
        }
        let publisher = Publisher::default();
        let notices = publisher.subscribe();
        let runtime: Arc<dyn RuntimeDriver> = driver.clone();
        let (run, shelf) = (dir.path().join("run"), shelf(dir.path()));
        let labs =
            Labs::open(store.clone(), runtime, publisher, run, archive(dir.path()), planning, shelf).await.unwrap();
        Self { labs, driver, notices, store, topology: topology.id, _dir: dir }
    }

    async fn lab(&self) -> LabId {
        let new = NewLab {
            name: "lab".into(),
            start_time: Timestamp::now(),
            end_time: None,
            topology_id: self.topology.clone(),
            creator: user(),
        };
        let judged = self.labs.draft(&new).await.unwrap();
        self.labs.create(new, &judged).await.unwrap().lab.id.clone()
    }

    fn deploy(&self, id: &LabId) -> tokio::task::JoinHandle<Result<(), LabCommandError>> {
        let (labs, id) = (self.labs.clone(), id.clone());
        tokio::spawn(async move { labs.deploy(&id, Some("ada".into()), None).await })
    }

    fn destroy(&self, id: &LabId) -> tokio::task::JoinHandle<Result<(), LabCommandError>> {
        let (labs, id) = (self.labs.clone(), id.clone());
        tokio::spawn(async move { labs.destroy(&id, Some("ada".into())).await })
    }

    /// Waits for the next event in words, and answers it.
    async fn event(&mut self) -> Occurrence {
        loop {
            match self.notices.recv().await.expect("labs publish for as long as they live") {
                Notice::Event(event) => return event.what.clone(),
                _ => continue,
            }
        }
    }

    /// Waits for an event of this kind; others may come before it.
    async fn wait_for(&mut self, wanted: fn(&Occurrence) -> bool) {
        while !wanted(&self.event().await) {}
    }
}

fn state(labs: &Labs, id: &LabId) -> LabState {
    labs.get(id).unwrap().state
}

#[tokio::test]
async fn a_deploy_is_answered_when_it_is_done_and_stored_while_it_runs() {
    let mut f = Fixture::new().await;
    let id = f.lab().await;
    let deploy = f.deploy(&id);
    f.wait_for(|what| matches!(what, Occurrence::LabDeploying)).await;
    let stored = f.store.lab(&id).await.unwrap().unwrap().instance.expect("an instance is stored");
    assert_eq!(stored.state, InstanceState::Deploying);
    assert!(!deploy.is_finished());
    f.driver.deploys.add_permits(1);
    deploy.await.unwrap().unwrap();
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Running));
    f.wait_for(|what| matches!(what, Occurrence::LabDeployed)).await;
}

#[tokio::test]
async fn destroy_during_deploy_cancels_it_and_no_success_is_ever_announced() {
    let mut f = Fixture::new().await;
    let id = f.lab().await;
    let deploy = f.deploy(&id);
    f.wait_for(|what| matches!(what, Occurrence::LabDeploying)).await;
    let destroy = f.destroy(&id);
    f.driver.destroys.add_permits(1);
    assert!(matches!(deploy.await.unwrap(), Err(LabCommandError::Cancelled)));
    destroy.await.unwrap().unwrap();
    assert!(f.driver.list().await.unwrap().is_empty());
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
    assert!(f.store.lab(&id).await.unwrap().unwrap().instance.is_none());
    loop {
        match f.event().await {
            Occurrence::LabDeployed => panic!("a cancelled deploy was announced as a success"),
            Occurrence::LabDestroyed => break,
            _ => {}
        }
    }
}

#[tokio::test]
async fn two_destroys_at_once_get_the_same_answer() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    let (first, second) = (f.destroy(&id), f.destroy(&id));
    f.driver.destroys.add_permits(1);
    first.await.unwrap().unwrap();
    // The second may have come when all was over already.
    assert!(matches!(second.await.unwrap(), Ok(()) | Err(LabCommandError::Denied(Denial::NotRunning))));
}

#[tokio::test]
async fn a_destroy_that_fails_leaves_a_failed_lab_that_can_be_destroyed_again() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    *f.driver.destroy_fails.lock().unwrap() = true;
    f.driver.destroys.add_permits(2);
    assert!(matches!(f.labs.destroy(&id, None).await, Err(LabCommandError::Runtime(_))));
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Failed));
    f.labs.destroy(&id, None).await.unwrap();
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
}

#[tokio::test]
async fn a_lab_with_an_instance_cannot_be_edited_or_deleted_and_still_answers() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    let patch = LabPatch { name: Some("other".into()), ..LabPatch::default() };
    assert!(matches!(f.labs.draft_update(&id, &patch).await, Err(LabError::OnlyItsEnd(_))));
    let judged = (*f.labs.get(&id).unwrap()).clone();
    assert!(matches!(f.labs.update(&id, patch.clone(), judged).await, Err(LabError::OnlyItsEnd(_))));
    assert!(matches!(f.labs.delete(&id).await, Err(LabError::InUse(_))));
    f.driver.destroys.add_permits(1);
    f.labs.destroy(&id, None).await.unwrap();
    let judged = f.labs.draft_update(&id, &patch).await.unwrap();
    assert_eq!(f.labs.update(&id, patch, judged).await.unwrap().lab.name, "other");
    f.labs.delete(&id).await.unwrap();
    assert!(f.labs.get(&id).is_none());
    assert!(matches!(f.labs.deploy(&id, None, None).await, Err(LabCommandError::NotFound(_))));
}

#[tokio::test]
async fn a_topology_that_cannot_run_here_is_refused_before_anything_begins() {
    let f = Fixture::with("name: t\ntopology:\n  nodes:\n    r1: {kind: nokia_srlinux}\n", |_| None).await;
    let id = f.lab().await;
    let error = f.labs.deploy(&id, Some("ada".into()), None).await.expect_err("not runnable");
    assert!(matches!(&error, LabCommandError::Refused(why) if why.contains("r1")), "{error}");
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
}

#[tokio::test]
async fn a_lost_instance_fails_the_lab() {
    let mut f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    let instance = f.labs.get(&id).unwrap().instance.clone().unwrap().name;
    f.driver.events.send(RuntimeEvent::InstanceLost { instance, reason: "gone".into() }).unwrap();
    f.wait_for(|what| matches!(what, Occurrence::LabLost { reason, .. } if reason == "gone")).await;
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Failed));
}

fn stored_lab(topology: &StoredTopology, start: i64, end: Option<i64>, start_pending: bool) -> Lab {
    let now = Timestamp::now();
    let at = |seconds: i64| now + jiff::SignedDuration::from_secs(seconds);
    Lab {
        id: LabId::generate(),
        name: "lab".into(),
        start_time: at(start),
        end_time: end.map(at),
        topology_id: topology.id.clone(),
        collection_id: topology.collection_id.clone(),
        creator: user(),
        start_pending,
        warned_before: None,
        instance: None,
    }
}

/// A lab with an instance `t-1`, as an earlier server has stored it.
fn lab_with_instance(topology: &StoredTopology, runtime: &str, state: InstanceState) -> Lab {
    let mut lab = stored_lab(topology, -100, None, false);
    lab.instance = Some(StoredInstance {
        name: "t-1".into(),
        runtime: runtime.into(),
        definition: topology.definition.clone(),
        deployed: Timestamp::now(),
        state,
        since: Timestamp::now(),
    });
    lab
}

/// A runtime on which `t-1` runs, or what is left of it.
fn where_it_runs(nodes: &[&str]) -> Arc<Scripted> {
    let driver = Scripted::new();
    driver.instances.lock().unwrap().extend(["t-1".to_owned(), "somebody-elses".to_owned()]);
    *driver.nodes.lock().unwrap() = nodes.iter().map(|name| status(name)).collect();
    driver
}

fn status(name: &str) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        kind: "linux".into(),
        image: None,
        state: NodeState::Running,
        ipv4: String::new(),
        ipv6: String::new(),
        container_id: "0123456789ab".into(),
        container_name: format!("clab-t-1-{name}"),
    }
}

#[tokio::test]
async fn a_deploy_that_was_under_way_when_the_server_ended_leaves_a_failed_lab() {
    let mut f =
        Fixture::with(TWO_NODES, |topology| Some(lab_with_instance(topology, "scripted", InstanceState::Deploying)))
            .await;
    f.wait_for(|what| matches!(what, Occurrence::LabDeployFailed { reason, .. } if reason.contains("nothing is left")))
        .await;
    let id = f.labs.list()[0].lab.id.clone();
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Failed));
    f.driver.destroys.add_permits(1);
    f.labs.destroy(&id, None).await.unwrap();
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
}

#[tokio::test]
async fn what_is_left_of_a_half_deployed_lab_is_listed_and_can_be_destroyed() {
    let half = |topology: &StoredTopology| Some(lab_with_instance(topology, "scripted", InstanceState::Deploying));
    let mut f = Fixture::on(where_it_runs(&["r2"]), TWO_NODES, half).await;
    let listed = |what: &Occurrence| match what {
        Occurrence::LabDeployFailed { reason, .. } => {
            reason.contains("only half deployed: deploy or destroy it") && reason.contains("clab-t-1-r2 (running)")
        }
        _ => false,
    };
    f.wait_for(listed).await;
    let lab = f.labs.list()[0].clone();
    assert_eq!(lab.state, LabState::Instance(InstanceState::Failed));
    let instance = lab.instance.clone().unwrap();
    assert_eq!((instance.nodes.len(), instance.nodes[0].name.as_str(), instance.recovered), (1, "r2", false));
    let lines = f.labs.log(&lab.lab.id).await.unwrap().tail(1);
    assert!(lines[0].text().contains("clab-t-1-r2"), "{lines:?}");
    f.driver.destroys.add_permits(1);
    f.labs.destroy(&lab.lab.id, None).await.unwrap();
    assert_eq!(f.driver.list().await.unwrap(), ["somebody-elses"], "what is nobody's here is left alone");
}

#[tokio::test]
async fn a_lab_that_ran_on_without_a_server_is_recovered_with_its_nodes_in_order() {
    let running = |topology: &StoredTopology| Some(lab_with_instance(topology, "scripted", InstanceState::Running));
    let mut f = Fixture::on(where_it_runs(&["r2", "r1"]), TWO_NODES, running).await;
    f.wait_for(|what| matches!(what, Occurrence::LabRecovered)).await;
    let lab = f.labs.list()[0].clone();
    assert_eq!(lab.state, LabState::Instance(InstanceState::Running));
    let instance = lab.instance.clone().unwrap();
    let names: Vec<_> = instance.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!((names.as_slice(), instance.recovered), (["r1", "r2"].as_slice(), true));
    assert_eq!(f.labs.node_logs(&lab.lab.id), ["r1", "r2"]);
}

#[tokio::test]
async fn a_look_that_fails_once_does_not_lose_a_lab_that_runs() {
    let running = |topology: &StoredTopology| Some(lab_with_instance(topology, "scripted", InstanceState::Running));
    let driver = where_it_runs(&["r1", "r2"]);
    *driver.inspect_fails.lock().unwrap() = true;
    let f = Fixture::on(driver, TWO_NODES, running).await;
    let lab = f.labs.list()[0].clone();
    assert_eq!(lab.state, LabState::Instance(InstanceState::Running));
    assert_eq!(lab.instance.as_ref().unwrap().nodes.len(), 2);
}

#[tokio::test]
async fn a_lab_of_another_runtime_is_neither_forgotten_nor_called_destroyed() {
    let running = |topology: &StoredTopology| Some(lab_with_instance(topology, "containerlab", InstanceState::Running));
    let mut f = Fixture::with(TWO_NODES, running).await;
    f.wait_for(|what| matches!(what, Occurrence::LabLost { reason, .. } if reason.contains("--runtime containerlab")))
        .await;
    let id = f.labs.list()[0].lab.id.clone();
    let stored = f.store.lab(&id).await.unwrap().unwrap().instance.unwrap();
    assert_eq!(stored.state, InstanceState::Running, "a server with that runtime goes on with it");
    for error in [f.labs.destroy(&id, None).await, f.labs.deploy(&id, Some("ada".into()), None).await] {
        let error = error.expect_err("it would be forgotten");
        assert!(matches!(&error, LabCommandError::Runtime(why) if why.contains("containerlab")), "{error}");
        assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Failed));
        assert_eq!(
            f.store.lab(&id).await.unwrap().unwrap().instance.as_ref(),
            Some(&stored),
            "it was refused afterwards"
        );
    }
    assert!(!f.store.topology(&f.topology).await.unwrap().unwrap().last_deploy_failed);
}

#[tokio::test]
async fn the_log_of_a_node_is_gone_on_with_after_a_restart_without_a_line_lost_or_twice() {
    let running = |topology: &StoredTopology| Some(lab_with_instance(topology, "scripted", InstanceState::Running));
    let (driver, dir) = (where_it_runs(&["r1"]), tempfile::tempdir().unwrap());
    driver.log.lock().unwrap().0 = "one\ntwo\nthr".to_owned();
    let f = Fixture::on(driver.clone(), TWO_NODES, running).await;
    let id = f.labs.list()[0].lab.id.clone();
    let lines = async |labs: &Labs, count: usize| {
        let log = loop {
            match labs.node_log(&id, "r1").await {
                Some(log) => break log,
                None => tokio::task::yield_now().await,
            }
        };
        let (mut lines, mut more) = log.follow();
        while lines.len() < count {
            let batch = more.next(10).await.unwrap();
            more.advance(batch.len());
            lines.extend(batch);
        }
        lines.iter().map(|line| line.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&f.labs, 2).await, ["one", "two"]);
    f.labs.close();
    f.labs.shared.archive.close().await;
    driver.log.lock().unwrap().0 = "one\ntwo\nthree\nfour\n".to_owned();
    let runtime: Arc<dyn RuntimeDriver> = driver.clone();
    let kept = f._dir.path();
    let again = Labs::open(
        f.store.clone(),
        runtime,
        Publisher::default(),
        dir.path().to_owned(),
        archive(kept),
        Planning::default(),
        shelf(kept),
    )
    .await;
    let again = again.unwrap();
    assert_eq!(lines(&again, 4).await, ["one", "two", "three", "four"]);
    assert_eq!(driver.log.lock().unwrap().1, [None, Some(LogPosition::new("8"))]);
}

/// Waits for the first line of a log, and reads on after it.
async fn after_first_line(log: &Arc<LabLog>) -> Follower<Line> {
    let (lines, mut reader) = log.follow();
    if lines.is_empty() {
        reader.next(1).await.unwrap();
        reader.advance(1);
    }
    reader
}

#[tokio::test]
async fn the_log_of_a_node_that_is_not_up_yet_is_kept_by_a_redeploy() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.log.lock().unwrap().0 = "one\n".to_owned();
    *f.driver.nodes.lock().unwrap() = vec![status("r1"), status("r2"), status("not-in-the-definition")];
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    assert_eq!(f.labs.node_logs(&id), ["r1", "r2"]);
    let mut reader = after_first_line(&f.labs.node_log(&id, "r2").await.unwrap()).await;
    // The first look at the new instance finds one of the two.
    *f.driver.nodes.lock().unwrap() = vec![status("r1")];
    f.driver.destroys.add_permits(1);
    let redeploy = f.deploy(&id);
    let mut snapshot = f.labs.handle(&id).unwrap().snapshot;
    let seen = |lab: &Arc<LabSnapshot>| {
        let instance = lab.instance.as_ref().unwrap();
        instance.state == InstanceState::Deploying && instance.nodes.len() == 1
    };
    snapshot.wait_for(seen).await.unwrap();
    assert_eq!(f.labs.node_logs(&id), ["r1", "r2"]);
    *f.driver.nodes.lock().unwrap() = vec![status("r1"), status("r2")];
    f.driver.deploys.add_permits(1);
    redeploy.await.unwrap().unwrap();
    // Whoever read it reads on.
    assert_eq!(reader.next(1).await.unwrap()[0].text(), "one");
}

#[tokio::test]
async fn of_a_log_that_was_replaced_while_no_server_was_there_no_line_is_taken_for_one_that_is_known() {
    let running = |topology: &StoredTopology| Some(lab_with_instance(topology, "scripted", InstanceState::Running));
    let (driver, dir) = (where_it_runs(&["r1"]), tempfile::tempdir().unwrap());
    driver.log.lock().unwrap().0 = "one\nnowhere\n".to_owned();
    let f = Fixture::on(driver.clone(), TWO_NODES, running).await;
    let mut labs = f.labs.clone();
    let id = labs.list()[0].lab.id.clone();
    let lines = async |labs: &Labs, count: usize| {
        let log = loop {
            match labs.node_log(&id, "r1").await {
                Some(log) => break log,
                None => tokio::task::yield_now().await,
            }
        };
        let (mut lines, mut more) = log.follow();
        while lines.len() < count {
            let batch = more.next(10).await.unwrap();
            more.advance(batch.len());
            lines.extend(batch);
        }
        lines.iter().map(|line| line.text().to_owned()).collect::<Vec<_>>()
    };
    let mut expected = vec!["one", "nowhere"];
    assert_eq!(lines(&labs, 2).await, expected);
    for (replaced, new) in [(true, &["new", "nowhere"][..]), (false, &["newer"])] {
        labs.close();
        labs.shared.archive.close().await;
        expected.extend(new);
        let whole = new.join("\n") + "\n";
        {
            let log = &mut driver.log.lock().unwrap().0;
            if replaced {
                log.clear();
            }
            log.push_str(&whole);
        }
        *driver.replaced.lock().unwrap() = replaced;
        let runtime: Arc<dyn RuntimeDriver> = driver.clone();
        let (store, kept) = (f.store.clone(), archive(f._dir.path()));
        let (run, shelf) = (dir.path().to_owned(), shelf(f._dir.path()));
        labs = Labs::open(store, runtime, Publisher::default(), run, kept, Planning::default(), shelf).await.unwrap();
        assert_eq!(lines(&labs, expected.len()).await, expected);
    }
}

#[tokio::test]
async fn the_log_of_a_node_that_somebody_removed_survives_a_restart() {
    let running = |topology: &StoredTopology| Some(lab_with_instance(topology, "scripted", InstanceState::Running));
    let (driver, dir) = (where_it_runs(&["r1", "r2"]), tempfile::tempdir().unwrap());
    driver.log.lock().unwrap().0 = "one\n".to_owned();
    let mut f = Fixture::on(driver.clone(), TWO_NODES, running).await;
    f.wait_for(|what| matches!(what, Occurrence::LabRecovered)).await;
    let id = f.labs.list()[0].lab.id.clone();
    after_first_line(&f.labs.node_log(&id, "r2").await.unwrap()).await;
    f.labs.close();
    f.labs.shared.archive.close().await;
    driver.nodes.lock().unwrap().pop();
    let (publisher, runtime): (_, Arc<dyn RuntimeDriver>) = (Publisher::default(), driver.clone());
    f.notices = publisher.subscribe();
    let again = Labs::open(
        f.store.clone(),
        runtime,
        publisher,
        dir.path().to_owned(),
        archive(f._dir.path()),
        Planning::default(),
        shelf(f._dir.path()),
    )
    .await;
    f.wait_for(|what| matches!(what, Occurrence::LabRecovered)).await;
    let log = again.unwrap().node_log(&id, "r2").await.expect("it is kept");
    assert_eq!(log.tail(1)[0].text(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_node_of_the_last_instance_has_ended_before_the_next_one_is_followed() {
    let (scripted, dir) = (Scripted::new(), tempfile::tempdir().unwrap());
    let driver: Arc<dyn RuntimeDriver> = scripted.clone();
    let logs = logs::LabLogs::new(LabId::generate(), archive(dir.path()));
    let (asked, was_asked) = oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    *scripted.busy.lock().unwrap() = Some((asked, may_go_on));
    let (nodes, closing) = (["r1".to_owned()], CancellationToken::new());
    logs.follow_nodes(&driver, "first", &nodes, &closing).await;
    was_asked.await.unwrap();
    let (followed, late) = (scripted.clone(), std::time::Instant::now() + std::time::Duration::from_secs(1));
    let releases = std::thread::spawn(move || {
        // Time for the second to come too early, if it does.
        while followed.followed.lock().unwrap().is_empty() && std::time::Instant::now() < late {
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
    });
    logs.follow_nodes(&driver, "second", &nodes, &closing).await;
    while scripted.followed.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*scripted.followed.lock().unwrap(), ["first", "second"]);
    releases.join().unwrap();
}

#[tokio::test]
async fn a_start_missed_while_the_server_was_down_is_made_up_for() {
    let mut f = Fixture::with(TWO_NODES, |topology| Some(stored_lab(topology, -100, Some(3600), true))).await;
    f.driver.deploys.add_permits(1);
    f.wait_for(|what| matches!(what, Occurrence::LabDeployed)).await;
    let lab = f.labs.list()[0].lab.clone();
    assert!(!f.store.lab(&lab.id).await.unwrap().unwrap().start_pending);
}

#[tokio::test]
async fn a_lab_whose_time_passed_while_the_server_was_down_is_shown_as_missed() {
    let mut f = Fixture::with(TWO_NODES, |topology| Some(stored_lab(topology, -100, Some(-10), true))).await;
    f.wait_for(|what| matches!(what, Occurrence::LabMissed)).await;
}

#[tokio::test]
async fn labs_start_and_end_by_the_clock() {
    let mut f = Fixture::new().await;
    let now = Timestamp::now();
    let new = NewLab {
        name: "lab".into(),
        start_time: now + jiff::SignedDuration::from_millis(500),
        end_time: Some(now + jiff::SignedDuration::from_millis(3500)),
        topology_id: f.topology.clone(),
        creator: user(),
    };
    f.driver.deploys.add_permits(1);
    f.driver.destroys.add_permits(1);
    let judged = f.labs.draft(&new).await.unwrap();
    let id = f.labs.create(new, &judged).await.unwrap().lab.id.clone();
    assert_eq!(state(&f.labs, &id), LabState::Scheduled);
    f.wait_for(|what| matches!(what, Occurrence::LabDeployed)).await;
    f.wait_for(|what| matches!(what, Occurrence::LabDestroyed)).await;
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused() {
    let f = Fixture::new().await;
    let now = Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    for (start, end) in [(now, now), (now, now - hour), (now - hour * 2, now - hour)] {
        let new = NewLab {
            name: "lab".into(),
            start_time: start,
            end_time: Some(end),
            topology_id: f.topology.clone(),
            creator: user(),
        };
        let error = f.labs.draft(&new).await.expect_err("makes no sense");
        assert!(error.to_string().starts_with("endTime"), "{error}");
    }
    assert!(f.labs.list().is_empty());
}

#[tokio::test]
async fn a_redeploy_whose_old_instance_will_not_go_keeps_its_name() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    let old = f.labs.get(&id).unwrap().instance.clone().unwrap().name;
    *f.driver.destroy_fails.lock().unwrap() = true;
    f.driver.destroys.add_permits(1);
    assert!(matches!(f.labs.deploy(&id, None, None).await, Err(LabCommandError::Runtime(_))));
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Failed));
    assert_eq!(f.labs.get(&id).unwrap().instance.clone().unwrap().name, old);
    assert_eq!(f.store.lab(&id).await.unwrap().unwrap().instance.unwrap().name, old);
    f.driver.destroys.add_permits(1);
    f.labs.destroy(&id, None).await.unwrap();
    assert!(f.driver.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_destroy_while_an_instance_is_replaced_cancels_the_deploy() {
    let mut f = Fixture::new().await;
    let id = f.lab().await;
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    f.wait_for(|what| matches!(what, Occurrence::LabDeployed)).await;
    let redeploy = f.deploy(&id);
    let mut snapshot = f.labs.handle(&id).unwrap().snapshot;
    snapshot.wait_for(|lab| lab.state == LabState::Instance(InstanceState::Deploying)).await.unwrap();
    let destroy = f.destroy(&id);
    assert!(matches!(redeploy.await.unwrap(), Err(LabCommandError::Cancelled)));
    f.driver.destroys.add_permits(1);
    destroy.await.unwrap().unwrap();
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
}

#[tokio::test]
async fn what_was_judged_is_what_is_deployed_or_nothing_is() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    let judged = f.labs.get(&id).unwrap().to_deploy();
    let mut topology = f.store.topology(&f.topology).await.unwrap().unwrap();
    let before = topology.clone();
    topology.definition = TWO_NODES.replace("r2", "r3");
    f.store.update_topology(&before, &topology).await.unwrap();
    f.labs.topology_changed(&f.topology, None).await;
    let error = f.labs.deploy(&id, Some("ada".into()), Some(judged)).await.expect_err("it was changed");
    assert!(matches!(error, LabCommandError::Refused(_)), "{error}");
    // Of a running lab, a deploy is judged by what it would build.
    f.driver.deploys.add_permits(1);
    let judged = f.labs.get(&id).unwrap().to_deploy();
    f.labs.deploy(&id, Some("ada".into()), Some(judged)).await.unwrap();
    let before = topology.clone();
    topology.definition = TWO_NODES.replace("r2", "r4");
    f.store.update_topology(&before, &topology).await.unwrap();
    f.labs.topology_changed(&f.topology, None).await;
    let mut snapshot = f.labs.handle(&id).unwrap().snapshot;
    let lab = snapshot.wait_for(|lab| lab.next.is_some()).await.unwrap().clone();
    assert!(lab.definition.contains("r3"), "{}", lab.definition);
    assert_eq!(lab.to_deploy().topology.nodes[1].name, "r4");
}

#[tokio::test]
async fn a_topology_that_could_not_be_read_again_is_not_deployed_as_it_was_before() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    let before = f.store.topology(&f.topology).await.unwrap().unwrap();
    let topology = StoredTopology { definition: TWO_NODES.replace("r2", "r3"), ..before.clone() };
    f.store.update_topology(&before, &topology).await.unwrap();
    f.store.rename_tables(&[("topologies", "away")]).await;
    f.labs.topology_changed(&f.topology, None).await;
    let error = f.labs.deploy(&id, Some("ada".into()), None).await.expect_err("it may be another by now");
    assert!(
        matches!(&error, LabCommandError::Internal(why) if why.contains("topology") && why.contains("nothing was done")),
        "{error}"
    );
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
    f.store.rename_tables(&[("away", "topologies")]).await;
    // Nobody has to ask for it.
    let mut snapshot = f.labs.handle(&id).unwrap().snapshot;
    snapshot.wait_for(|lab| lab.definition.contains("r3")).await.unwrap();
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, Some("ada".into()), None).await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_stored_of_schedule_and_outcome_is_stored_later() {
    let f = Fixture::with(TWO_NODES, |topology| Some(stored_lab(topology, 3600, None, true))).await;
    let id = f.labs.list()[0].lab.id.clone();
    f.store.rename_tables(&[("labs", "labs_away"), ("topologies", "topologies_away")]).await;
    f.driver.destroys.add_permits(1);
    f.labs.deploy(&id, Some("ada".into()), None).await.expect_err("it could not be stored");
    f.store.rename_tables(&[("labs_away", "labs"), ("topologies_away", "topologies")]).await;
    assert!(f.store.lab(&id).await.unwrap().unwrap().start_pending);
    let stored = async {
        while f.store.lab(&id).await.unwrap().unwrap().start_pending
            || !f.store.topology(&f.topology).await.unwrap().unwrap().last_deploy_failed
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), stored)
        .await
        .expect("another server would deploy it once more");
}

#[tokio::test]
async fn labs_with_an_instance_are_counted_for_their_creator() {
    let f = Fixture::new().await;
    let (ada, id) = (UserId::from("ada"), f.lab().await);
    assert_eq!(f.labs.running_labs(&ada), 0);
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&id, None, None).await.unwrap();
    assert_eq!(f.labs.running_labs(&ada), 1);
    f.driver.destroys.add_permits(1);
    f.labs.destroy(&id, None).await.unwrap();
    assert_eq!(f.labs.running_labs(&ada), 0);
}

#[tokio::test]
async fn a_run_folder_that_cannot_be_made_fails_the_lab_and_names_the_reason() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    let run_dir = f.labs.shared.run_dir.clone();
    std::fs::create_dir_all(run_dir.parent().unwrap()).unwrap();
    std::fs::write(&run_dir, "a file is in the way").unwrap();
    let error = f.labs.deploy(&id, None, None).await.expect_err("no folder");
    assert!(matches!(&error, LabCommandError::Internal(why) if why.contains("run folder")), "{error}");
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Failed));
}

#[tokio::test]
async fn a_destroy_cancels_a_save_and_a_deploy_or_another_save_is_refused_meanwhile() {
    let f = Fixture::new().await;
    let id = f.lab().await;
    let deploying = f.deploy(&id);
    f.driver.deploys.add_permits(1);
    deploying.await.unwrap().unwrap();
    let save = || {
        let (labs, id) = (f.labs.clone(), id.clone());
        tokio::spawn(async move { labs.save(&id).await })
    };
    let saving = save();
    f.driver.saving.notified().await;
    assert_eq!(f.labs.get(&id).unwrap().instance.as_ref().unwrap().state, InstanceState::Running);
    assert!(matches!(f.deploy(&id).await.unwrap(), Err(LabCommandError::Denied(Denial::BeingSaved))));
    assert!(matches!(save().await.unwrap(), Err(LabCommandError::Denied(Denial::BeingSaved))));
    f.driver.saves.add_permits(1);
    assert!(saving.await.unwrap().unwrap().is_empty());
    // It can be saved again, and is up as before.
    let saving = save();
    f.driver.saving.notified().await;
    let destroying = f.destroy(&id);
    assert!(matches!(saving.await.unwrap(), Err(LabCommandError::SaveCancelled)));
    f.driver.destroys.add_permits(1);
    destroying.await.unwrap().unwrap();
    assert!(matches!(save().await.unwrap(), Err(LabCommandError::Denied(Denial::NotRunning))));
    // What was saved stays for a checkpoint, and nothing unfinished does.
    let folder = f._dir.path().join("checkpoints").join(id.as_str());
    let names = || std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names(), ["saved-scripted.tar"]);
    let made = f.labs.make_checkpoint(&id, "rests".into(), user()).await.unwrap();
    assert_eq!((made.runtime, made.files), (None, 0), "there is nothing of nodes in it");
    assert_eq!(names().len(), 2);
    f.labs.delete(&id).await.unwrap();
    while folder.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
