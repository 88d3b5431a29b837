//! Containerlab as [`RuntimeDriver`]: what is done with an instance in which order, and what is left of it when that fails.
//!
//! It keeps no list of instances: what there is, Docker's labels say. Work that changes something runs in a task of its own that
//! goes on when whoever asked for it has gone, since a run of containerlab that ends half-way leaves half a lab.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::check::check;
use super::config::ContainerlabConfig;
use super::engine::Engine;
use super::inspect;
use super::life::Life;
use super::networks::Networks;
use super::program::{Program, Run, RunError};
use super::stats;
use super::version::{Found, Missing};
use crate::labs::model::NodeStatus;
use crate::runtime::capture::{Capture, CaptureOptions};
use crate::runtime::docker::{Docker, Watch};
use crate::runtime::saved::{NodeSaved, SaveLimits};
use crate::runtime::stats::NodeStats;
use crate::runtime::{
    InstanceSpec, LogChunk, LogPosition, LogSink, NodeAction, Pty, PtyRequest, RuntimeDriver, RuntimeError,
    RuntimeEvent,
};
use crate::topology::Topology;

/// How long the end of the server waits for what is under way. Service managers are patient for little longer.
const CLOSING_LIMIT: Duration = Duration::from_secs(45);
/// How long an inspection may take.
const INSPECT_LIMIT: Duration = Duration::from_secs(60);
/// Runs labs with the containerlab program and a container engine.
pub struct ContainerlabRuntime {
    shared: Arc<Shared>,
    /// Cancelled when the server ends: deploys are, too.
    closing: CancellationToken,
    /// Everything that is under way.
    work: TaskTracker,
    /// The same in words, by when it began.
    under_way: Arc<Mutex<BTreeMap<Instant, String>>>,
}

pub(super) struct Shared {
    pub(super) found: Found,
    pub(super) program: Program,
    pub(super) config: ContainerlabConfig,
    pub(super) watch: Watch,
    /// Cancelled when the server ends.
    pub(super) closing: CancellationToken,
    pub(super) networks: Arc<Networks>,
    /// Which engine it is.
    engine: Engine,
    /// Where this server keeps its data, and so the topology files of its labs.
    pub(super) data: PathBuf,
    /// Nodes that something is being done to: one thing after the other, since containerlab would park and restore the links of
    /// a node at once. Nobody else's node waits for that.
    pub(super) busy: Mutex<Turns>,
    /// The instances that something is being done to.
    pub(super) lives: Mutex<HashMap<String, Weak<Life>>>,
    /// Taken by whoever looks at what a container uses.
    pub(super) readings: Semaphore,
}

/// Whose turn it is with each node that has one at work on it, by instance and name.
pub(super) type Turns = HashMap<(String, String), Weak<tokio::sync::Mutex<()>>>;

impl ContainerlabRuntime {
    /// A driver for what [`super::probe`] has found. `data` is this server's data folder, by its real name: it tells what this
    /// server has made from what others have.
    ///
    /// # Errors
    /// [`Missing::Engine`] when the engine has gone since.
    pub async fn start(config: &ContainerlabConfig, found: Found, data: &Path) -> Result<Self, Missing> {
        for warning in found.program.warnings() {
            tracing::warn!("{warning}");
        }
        let address = &found.engine.address;
        let docker = Docker::connect(Some(address))
            .await
            .map_err(|error| Missing::Engine { address: address.clone(), problem: error.to_string() })?;
        let docker = docker.with_owner(&owner_of(data));
        // Now, while there can be no shells but those of a server that was killed.
        match docker.end_leftover_shells().await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "ended what a killed server had left running in shells"),
            Err(error) => tracing::warn!(%error, "what a killed server may have left running in shells goes on"),
        }
        let engine = Engine::of(config, &docker).await;
        let networks = Arc::new(Networks::new(docker.clone()));
        let watch = docker.watch();
        let shared = Shared {
            // containerlab talks to the very engine that was found, however its address was written down.
            program: Program::new(
                found.program.path.clone(),
                &ContainerlabConfig { docker_host: Some(found.engine.address.clone()), ..config.clone() },
            ),
            closing: CancellationToken::new(),
            found,
            config: config.clone(),
            watch,
            networks: Arc::clone(&networks),
            engine,
            data: data.to_owned(),
            busy: Mutex::default(),
            lives: Mutex::default(),
            readings: Semaphore::new(stats::AT_ONCE_IN_ALL),
        };
        let (shared, work) = (Arc::new(shared), TaskTracker::new());
        let closing = shared.closing.clone();
        work.spawn(networks.remove_what_is_due(closing.clone()));
        work.spawn(Arc::clone(&shared).mend_what_is_restarted(work.clone()));
        Ok(Self { shared, closing, work, under_way: Arc::default() })
    }

    /// What it works with.
    pub fn found(&self) -> &Found {
        &self.shared.found
    }

    /// Does `work` in a task of its own, to its end whatever becomes of the caller. `what` says what it is.
    async fn see_through<T, W>(&self, what: String, work: W) -> Result<T, RuntimeError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, RuntimeError>> + Send + 'static,
    {
        let noted = Noted::new(&self.under_way, what);
        let task = self.work.spawn(async move {
            let _noted = noted;
            work.await
        });
        task.await.unwrap_or_else(|error| Err(RuntimeError::Failed(format!("the containerlab driver failed: {error}"))))
    }
}

/// Something that is under way, until it is dropped.
struct Noted {
    all: Arc<Mutex<BTreeMap<Instant, String>>>,
    begun: Instant,
}

impl Noted {
    fn new(all: &Arc<Mutex<BTreeMap<Instant, String>>>, what: String) -> Self {
        let mut noted = all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut begun = Instant::now();
        while noted.contains_key(&begun) {
            begun += Duration::from_nanos(1);
        }
        noted.insert(begun, what);
        Self { all: Arc::clone(all), begun }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.begun);
    }
}

#[async_trait]
impl RuntimeDriver for ContainerlabRuntime {
    fn name(&self) -> &'static str {
        "containerlab"
    }

    fn place(&self) -> String {
        format!("{} {}", self.name(), self.shared.engine)
    }

    fn reaches(&self, place: &str) -> bool {
        match place.split_once(' ') {
            // Of a time when nothing else was noted.
            None => place == self.name(),
            Some((name, engine)) => name == self.name() && self.shared.engine.is(engine),
        }
    }

    fn check(&self, topology: &Topology) -> Result<(), RuntimeError> {
        check(topology, self.shared.runtime())
    }

    async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeStatus>, RuntimeError> {
        check(&spec.topology, self.shared.runtime())?;
        if self.closing.is_cancelled() {
            return Err(RuntimeError::Cancelled);
        }
        // Either ends it: whoever asked, by asking or by going away, and the end of the server.
        let ended = self.closing.child_token();
        let _gone = ended.clone().drop_guard();
        let (shared, spec, stop) = (Arc::clone(&self.shared), spec.clone(), ended.clone());
        let (work_tracker, closing) = (self.work.clone(), self.closing.clone());
        let what = format!("the deploy of {}", spec.name);
        let work = async move {
            let (result, cut_short) = shared.deploy(&spec, &log, &stop).await;
            if cut_short {
                let watch = async move { shared.remove_late_containers(&spec, &log).await };
                work_tracker.spawn(async move { closing.run_until_cancelled(watch).await });
            }
            result
        };
        let work = self.see_through(what, work);
        let asked = async {
            cancel.cancelled().await;
            ended.cancel();
            std::future::pending().await
        };
        tokio::select! {
            result = work => result,
            never = asked => never,
        }
    }

    async fn destroy(&self, instance: &str, dir: &Path, log: LogSink) -> Result<(), RuntimeError> {
        let (shared, instance, dir) = (Arc::clone(&self.shared), instance.to_owned(), dir.to_owned());
        let what = format!("the destroy of {instance}");
        self.see_through(what, async move { shared.destroy(&instance, &dir, &log).await }).await
    }

    async fn settle(&self, instance: &str, dir: &Path) -> Result<Vec<String>, RuntimeError> {
        let (shared, instance, dir) = (Arc::clone(&self.shared), instance.to_owned(), dir.to_owned());
        let what = format!("what an earlier server had begun with {instance}");
        self.see_through(what, async move { shared.settle(&instance, &dir).await }).await
    }

    fn resume(&self, instance: &str) {
        let (shared, instance) = (Arc::clone(&self.shared), instance.to_owned());
        self.work.spawn(async move { shared.mend_instance(&instance).await });
    }

    async fn inspect(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError> {
        let nodes = self.shared.nodes(instance).await?;
        if nodes.is_empty() { Err(RuntimeError::NoInstance(instance.to_owned())) } else { Ok(nodes) }
    }

    async fn stats(&self, instance: &str) -> Result<Vec<NodeStats>, RuntimeError> {
        self.shared.stats(instance).await
    }

    async fn list(&self) -> Result<Vec<String>, RuntimeError> {
        let mut labs: Vec<String> = if self.shared.docker_sees_nodes() {
            let containers = self.shared.docker().containers(None).await?;
            containers.into_iter().map(|container| container.lab).collect()
        } else {
            self.shared.inspected(&["--all"]).await?.into_keys().collect()
        };
        labs.dedup();
        Ok(labs)
    }

    async fn node(&self, instance: &str, node: &str, action: NodeAction) -> Result<NodeStatus, RuntimeError> {
        let shared = Arc::clone(&self.shared);
        let (instance, node) = (instance.to_owned(), node.to_owned());
        let what = format!("{action:?} of node {node} of {instance}");
        self.see_through(what, async move { shared.node(&instance, &node, action).await }).await
    }

    async fn save(
        &self,
        instance: &str,
        dir: &Path,
        archive: File,
        limits: SaveLimits,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeSaved>, RuntimeError> {
        let (shared, instance, dir) = (Arc::clone(&self.shared), instance.to_owned(), dir.to_owned());
        let what = format!("saving {instance}");
        // Whoever has gone wants it no more.
        let cancel = cancel.child_token();
        let _gone = cancel.clone().drop_guard();
        let work = async move { shared.save(&instance, &dir, archive, limits, &log, &cancel).await };
        self.see_through(what, work).await
    }

    async fn follow_log(
        &self,
        instance: &str,
        node: &str,
        after: Option<LogPosition>,
    ) -> Result<mpsc::Receiver<LogChunk>, RuntimeError> {
        self.shared.watch.follow_log(instance, node, after).await
    }

    async fn open_pty(&self, instance: &str, node: &str, request: PtyRequest) -> Result<Pty, RuntimeError> {
        self.shared.docker().open_pty(instance, node, request).await
    }

    async fn capture(
        &self,
        instance: &str,
        node: &str,
        interface: &str,
        options: &CaptureOptions,
    ) -> Result<Capture, RuntimeError> {
        self.shared.capture(instance, node, interface, options).await
    }

    fn watch(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.shared.watch.subscribe()
    }

    async fn shut_down(&self) {
        self.closing.cancel();
        self.work.close();
        self.shared.docker().end_shells().await;
        if tokio::time::timeout(CLOSING_LIMIT, self.work.wait()).await.is_err() {
            let left: Vec<String> =
                self.under_way.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            tracing::warn!(?left, "the server ends without waiting any longer for what is still under way");
        }
    }
}

/// The mark of this server's shells in the engine: of this data folder on this machine, since an engine may serve several. It
/// takes letters and digits only.
fn owner_of(data: &Path) -> String {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::new().chain_update(machine).chain_update(data.as_os_str().as_encoded_bytes()).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Shared {
    pub(super) fn docker(&self) -> &Docker {
        self.watch.docker()
    }

    /// What containerlab makes containers with.
    fn runtime(&self) -> &str {
        self.config.runtime.as_deref().unwrap_or("docker")
    }

    /// Whether Docker's API shows the containers that containerlab makes: that of Docker, and that of podman, which is the
    /// same.
    pub(super) fn docker_sees_nodes(&self) -> bool {
        matches!(self.config.runtime.as_deref(), None | Some("docker" | "podman"))
    }

    /// What containerlab itself says.
    async fn inspected(
        &self,
        which: &[&str],
    ) -> Result<std::collections::BTreeMap<String, Vec<NodeStatus>>, RuntimeError> {
        let mut arguments: Vec<OsString> = ["inspect", "--details", "--format", "json"].map(Into::into).into();
        arguments.extend(which.iter().map(Into::into));
        let never = CancellationToken::new();
        let log: LogSink = Arc::new(|line: &str| tracing::debug!(line, "containerlab inspect"));
        let run = Run { arguments, dir: Path::new("/"), log: &log, cancel: &never, limit: Some(INSPECT_LIMIT) };
        match self.program.run(run).await {
            Ok(answer) => inspect::parse(&answer).map_err(RuntimeError::Failed),
            // It calls a lab without containers an error.
            Err(RunError::Failed(reason)) if reason.contains("not found") => Ok(std::collections::BTreeMap::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The nodes of an instance; none: there is no such instance.
    pub(super) async fn nodes(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError> {
        if !self.docker_sees_nodes() {
            return Ok(self.inspected(&["--name", instance]).await?.remove(instance).unwrap_or_default());
        }
        let mut nodes: Vec<NodeStatus> = Vec::new();
        // Of several containers of one node, the first stands for it.
        for container in self.docker().containers(Some(instance)).await? {
            if nodes.last().is_none_or(|last| last.name != container.node) {
                nodes.push(container.status());
            }
        }
        Ok(nodes)
    }
}

pub(super) fn words<const N: usize>(words: [&OsStr; N]) -> Vec<OsString> {
    words.map(OsStr::to_owned).into()
}

pub(super) fn failed(error: RunError) -> RuntimeError {
    match error {
        RunError::Cancelled => RuntimeError::Cancelled,
        RunError::TimedOut(limit) => RuntimeError::TimedOut("containerlab".to_owned(), limit),
        error => RuntimeError::Failed(error.to_string()),
    }
}
