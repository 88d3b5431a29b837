//! Containerlab as [`RuntimeDriver`]: what is done with an instance in which order, and what is left of it when that fails.
//!
//! It keeps no list of instances: what there is, Docker's labels say. Work that changes something runs in a task of its own that
//! goes on when whoever asked for it has gone, since a run of containerlab that ends half-way leaves half a lab.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, RwLockWriteGuard, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::ContainerlabConfig;
use super::definition;
use super::inspect;
use super::leftovers;
use super::network_gate::NetworkGate;
use super::program::{Program, Run, RunError};
use super::version::{Found, Missing};
use crate::labs::model::{NodeState, NodeStatus};
use crate::runtime::docker::{Container, Docker, Watch};
use crate::runtime::{
    InstanceSpec, LogChunk, LogPosition, LogSink, NodeAction, Pty, PtyRequest, RuntimeDriver, RuntimeError,
    RuntimeEvent,
};
use crate::topology::{FileBind, HostDemand, Node, Topology};

/// How long taking down may take before what is left is removed one by one.
const DESTROY_LIMIT: Duration = Duration::from_secs(600);
/// How long after a run that was cut short the engine may show a container that it was still making: containerlab drops its
/// request, and the engine doesn't notice. So long is waited for one, and so long is looked again afterwards.
const LATE: Duration = Duration::from_millis(1500);
const VERY_LATE: Duration = Duration::from_secs(30);
/// How long others wait at most for the network that a deploy makes, and how often it is looked for.
const NETWORK_LIMIT: Duration = Duration::from_secs(15);
const NETWORK_LOOK: Duration = Duration::from_millis(50);
/// How long the end of the server waits for what is under way. Service managers are patient for little longer.
const CLOSING_LIMIT: Duration = Duration::from_secs(45);
/// How long an inspection may take.
const INSPECT_LIMIT: Duration = Duration::from_secs(60);
/// Kinds that stand for something which exists already, and so have no image.
const KINDS_WITHOUT_IMAGE: &[&str] = &["bridge", "ovs-bridge", "ext-container", "host", "k8s-kind"];
/// How old the network that labs share is before it may be removed.
const SHARED_NETWORK_AGE: Duration = Duration::from_secs(60);
/// The management network that labs share unless they name another.
const MANAGEMENT_NETWORK: &str = "clab";

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
    /// While somebody deploys, the management network stays, although no container may use it yet.
    network_gate: NetworkGate,
    /// Held by the deploy that is going to make its management network. containerlab looks whether there is one and makes it
    /// if not; of two that do so at once, one fails.
    making_network: tokio::sync::Mutex<()>,
    /// Nodes that something is being done to: one thing after the other, since containerlab would park and restore the links of
    /// a node at once. Nobody else's node waits for that.
    pub(super) busy: Mutex<Turns>,
    /// How many labs have gone since somebody last looked for the shared network.
    removals_due: Arc<AtomicUsize>,
    /// The instances that something is being done to.
    lives: Mutex<HashMap<String, Weak<Life>>>,
}

/// An instance for as long as something is being done to it or its nodes: nothing is done to a node while it is destroyed, and
/// whatever was begun ends when that is asked for.
pub(super) struct Life {
    /// Those who do something to nodes read, whoever destroys writes.
    turn: RwLock<()>,
    /// Cancelled by whoever destroys it, and with the server.
    pub(super) over: CancellationToken,
}

/// Whose turn it is with each node that has one at work on it, by instance and name.
pub(super) type Turns = HashMap<(String, String), Weak<tokio::sync::Mutex<()>>>;

impl ContainerlabRuntime {
    /// A driver for what [`super::probe`] has found. `owner` names this server's data folder across its restarts.
    ///
    /// # Errors
    /// [`Missing::Engine`] when the engine has gone since.
    pub async fn start(config: &ContainerlabConfig, found: Found, owner: &str) -> Result<Self, Missing> {
        for warning in found.program.warnings() {
            tracing::warn!("{warning}");
        }
        let address = &found.engine.address;
        let docker = Docker::connect(Some(address))
            .await
            .map_err(|error| Missing::Engine { address: address.clone(), problem: error.to_string() })?;
        // The mark of its shells takes letters and digits only.
        let owner: String = Sha256::digest(owner.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let docker = docker.with_owner(&owner);
        // Now, while there can be no shells but those of a server that was killed.
        match docker.end_leftover_shells().await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "ended what a killed server had left running in shells"),
            Err(error) => tracing::warn!(%error, "what a killed server may have left running in shells goes on"),
        }
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
            network_gate: NetworkGate::default(),
            making_network: tokio::sync::Mutex::default(),
            busy: Mutex::default(),
            removals_due: Arc::default(),
            lives: Mutex::default(),
        };
        let closing = shared.closing.clone();
        Ok(Self { shared: Arc::new(shared), closing, work: TaskTracker::new(), under_way: Arc::default() })
    }

    /// What it works with.
    pub fn found(&self) -> &Found {
        &self.shared.found
    }

    /// The network that labs share stays for a while when the last of them goes; this looks for it again then, in one task for
    /// all that have gone meanwhile. What the end of the server prevents is done when the next lab is destroyed.
    fn remove_shared_network_later(&self) {
        let wishes = Arc::clone(&self.shared.removals_due);
        if wishes.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let (shared, closing) = (Arc::clone(&self.shared), self.closing.clone());
        self.work.spawn(async move {
            let log: LogSink = Arc::new(|line: &str| tracing::debug!("{line}"));
            loop {
                let seen = wishes.load(Ordering::SeqCst);
                let old_enough = tokio::time::sleep(SHARED_NETWORK_AGE + Duration::from_secs(1));
                if closing.run_until_cancelled(old_enough).await.is_none() {
                    return;
                }
                shared.remove_network(MANAGEMENT_NETWORK, &log).await;
                if wishes.fetch_sub(seen, Ordering::SeqCst) == seen {
                    return;
                }
            }
        });
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

    fn check(&self, topology: &Topology) -> Result<(), RuntimeError> {
        check(topology, self.shared.engine())
    }

    async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeStatus>, RuntimeError> {
        check(&spec.topology, self.shared.engine())?;
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
        let result = tokio::select! {
            result = work => result,
            never = asked => never,
        };
        if result.is_err() {
            self.remove_shared_network_later();
        }
        result
    }

    async fn destroy(&self, instance: &str, log: LogSink) -> Result<(), RuntimeError> {
        let (shared, instance) = (Arc::clone(&self.shared), instance.to_owned());
        let what = format!("the destroy of {instance}");
        let destroyed = self.see_through(what, async move { shared.destroy(&instance, &log).await }).await;
        self.remove_shared_network_later();
        destroyed
    }

    async fn inspect(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError> {
        let nodes = self.shared.nodes(instance).await?;
        if nodes.is_empty() { Err(RuntimeError::NoInstance(instance.to_owned())) } else { Ok(nodes) }
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

impl Shared {
    pub(super) fn docker(&self) -> &Docker {
        self.watch.docker()
    }

    /// What containerlab makes containers with.
    fn engine(&self) -> &str {
        self.config.runtime.as_deref().unwrap_or("docker")
    }

    /// Whether Docker's API shows the containers that containerlab makes: that of Docker, and that of podman, which is the
    /// same.
    fn docker_sees_nodes(&self) -> bool {
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
    async fn nodes(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError> {
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

    /// Deploys, or leaves nothing. Answers also whether the run was cut short, after which the engine may go on for a while.
    async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> (Result<Vec<NodeStatus>, RuntimeError>, bool) {
        let mut cut_short = false;
        (self.try_deploy(spec, log, cancel, &mut cut_short).await, cut_short)
    }

    async fn try_deploy(
        &self,
        spec: &InstanceSpec,
        log: &LogSink,
        cancel: &CancellationToken,
        cut_short: &mut bool,
    ) -> Result<Vec<NodeStatus>, RuntimeError> {
        let rendered = definition::render(&spec.definition, &spec.name).map_err(RuntimeError::Unsupported)?;
        if !self.docker().containers(Some(&spec.name)).await?.is_empty() {
            return Err(RuntimeError::Failed(format!("there is an instance named {} already", spec.name)));
        }
        let dir = tokio::fs::canonicalize(&spec.dir).await;
        let dir = dir.map_err(|error| RuntimeError::Failed(format!("the run folder can't be used: {error}")))?;
        let file = dir.join(leftovers::topology_file(&spec.name));
        tokio::fs::write(&file, &rendered.text)
            .await
            .map_err(|error| RuntimeError::Failed(format!("the topology file can't be written: {error}")))?;

        let _expected = self.watch.expect(&spec.name);
        let begun = Instant::now();
        let deployed = {
            let network = network_of(&spec.topology);
            let _gate = self.network_gate.enter(network == MANAGEMENT_NETWORK).await;
            let arguments =
                words(["deploy".as_ref(), "--format".as_ref(), "json".as_ref(), "--topo".as_ref(), file.as_os_str()]);
            let run = self.program.run(Run { arguments, dir: &dir, log, cancel, limit: None });
            self.one_makes_the_network(network, cancel, run).await
        };
        *cut_short = matches!(deployed, Err(RunError::Cancelled | RunError::TimedOut(_) | RunError::Killed(_)));
        let result = match deployed {
            Ok(_) => self.nodes(&spec.name).await,
            Err(error) => Err(self.explain(error, &spec.name, &dir).await),
        };
        let is_made = |node: &Node| !KINDS_WITHOUT_IMAGE.contains(&node.kind.as_str());
        let elsewhere = result.as_ref().is_ok_and(Vec::is_empty) && spec.topology.nodes.iter().any(is_made);
        let result = if elsewhere {
            Err(RuntimeError::Failed(format!(
                "containerlab deployed on another engine than {}: set containerlab.dockerHost",
                self.found.engine.address
            )))
        } else {
            result
        };
        match result {
            Ok(mut nodes) => {
                let place = |name: &str| spec.topology.nodes.iter().position(|node| node.name == name);
                nodes.sort_by_key(|node| place(&node.name).unwrap_or(usize::MAX));
                if nodes.iter().any(|node| node.state == NodeState::Exited) {
                    self.tell_of_ended(&spec.name, log).await;
                }
                log.line(&format!("{} is up after {:.1} s", spec.name, begun.elapsed().as_secs_f64()));
                Ok(nodes)
            }
            Err(error) => {
                if *cut_short {
                    self.wait_for_late_containers(&spec.name).await;
                }
                let gone = self.take_down(&spec.name, Some(&file), rendered.network, elsewhere, log).await;
                // Containerlab's own folder, which it removes only together with containers.
                let _ = tokio::fs::remove_dir_all(dir.join(format!("clab-{}", spec.name))).await;
                match gone {
                    Ok(()) => Err(error),
                    Err(left) => Err(RuntimeError::Failed(format!("{error}; and it could not be cleaned up: {left}"))),
                }
            }
        }
    }

    async fn destroy(&self, instance: &str, log: &LogSink) -> Result<(), RuntimeError> {
        let _expected = self.watch.expect(instance);
        let life = self.life(instance);
        // What is being done to its nodes ends, and nothing else is begun.
        let _alone = life.end().await;
        // One that a server had begun which was killed.
        let file = leftovers::topology_file(instance);
        leftovers::end_runs(self.found.program.path.clone(), file.to_string_lossy().into_owned()).await;
        self.take_down(instance, None, None, false, log).await
    }

    /// Gives the engine the time to show what it was making when a run was cut short, up to the first such container.
    async fn wait_for_late_containers(&self, instance: &str) {
        let shown = async {
            // An engine that doesn't answer shows nothing; what follows says so.
            while let Ok(containers) = self.docker().containers(Some(instance)).await {
                if !containers.is_empty() {
                    break;
                }
                tokio::time::sleep(LATE / 10).await;
            }
        };
        let _ = tokio::time::timeout(LATE, shown).await;
    }

    /// Takes away what the engine shows of an instance that is gone, for a while after its deploy was cut short.
    async fn remove_late_containers(&self, spec: &InstanceSpec, log: &LogSink) {
        let file = spec.dir.join(leftovers::topology_file(&spec.name));
        let end = Instant::now() + VERY_LATE;
        while Instant::now() < end {
            tokio::time::sleep(LATE).await;
            // Its folder goes when somebody destroys it, who sees to the rest then.
            if !file.exists() {
                return;
            }
            let late = self.docker().containers(Some(&spec.name)).await.is_ok_and(|late| !late.is_empty());
            if late {
                // It says in the log what it couldn't do, and is tried again.
                let _ = self.take_down(&spec.name, Some(&file), None, false, log).await;
            }
        }
    }

    /// Removes whatever there is of an instance. `network` is a management network that it may have made before any container.
    /// `elsewhere`: there is something that the engine doesn't show.
    async fn take_down(
        &self,
        instance: &str,
        file: Option<&Path>,
        network: Option<String>,
        elsewhere: bool,
        log: &LogSink,
    ) -> Result<(), RuntimeError> {
        let elsewhere = elsewhere || !matches!(self.config.runtime.as_deref(), None | Some("docker"));
        let before = self.docker().containers(Some(instance)).await?;
        let mut networks = self.docker().networks_of(instance).await?;
        networks.extend(network.into_iter().chain([MANAGEMENT_NETWORK.to_owned()]));
        let mut unseen = Ok(());
        if !before.is_empty() {
            let _ = self.run_destroy(instance, file, &before, log).await;
        } else if elsewhere {
            // Nothing else here reaches that engine, so what containerlab says is all that is known.
            unseen = self.run_destroy(instance, file, &before, log).await;
        }
        // What counts is what is left: containerlab reports success although it could not remove a container.
        for container in self.docker().containers(Some(instance)).await? {
            match self.docker().remove(&container.id).await {
                Ok(()) => log.line(&format!("Removed container {}", container.name)),
                Err(error) => log.line(&format!("Container {} can't be removed: {error}", container.name)),
            }
        }
        let left = self.docker().containers(Some(instance)).await?;
        let names = before.iter().map(|container| container.name.clone()).collect::<Vec<_>>();
        let name = instance.to_owned();
        let swept = tokio::task::spawn_blocking(move || leftovers::sweep(&name, &names)).await;
        for problem in swept.unwrap_or_default() {
            log.line(&format!("Something is left of {instance}: {problem}"));
        }
        for network in &networks {
            self.remove_network(network, log).await;
        }
        if let Some(container) = left.first() {
            let more = if left.len() > 1 { format!(" and {} more", left.len() - 1) } else { String::new() };
            return Err(RuntimeError::Failed(format!("container {}{more} could not be removed", container.name)));
        }
        unseen.map_err(failed)?;
        log.line(&format!("Nothing is left of {instance}"));
        Ok(())
    }

    /// Lets containerlab destroy it. Whether that worked is seen by what is left, where the engine shows that.
    async fn run_destroy(
        &self,
        instance: &str,
        file: Option<&Path>,
        containers: &[Container],
        log: &LogSink,
    ) -> Result<(), RunError> {
        let noted = containers.iter().find_map(|container| container.topology_file.clone());
        let file = file.map(Path::to_owned).or(noted).filter(|file| file.is_file());
        let mut arguments: Vec<OsString> = words(["destroy".as_ref()]);
        if !containers.is_empty() {
            // It is removed when nobody is about to use it. On another engine nobody else would do it.
            arguments.extend(words(["--keep-mgmt-net".as_ref()]));
        }
        let mut dir = PathBuf::from("/");
        match &file {
            Some(file) => {
                dir = file.parent().map_or(dir, Path::to_owned);
                arguments.extend(words(["--cleanup".as_ref(), "--topo".as_ref(), file.as_os_str()]));
            }
            None => {
                log.line(&format!("The topology file of {instance} is gone; destroying it by its name"));
                arguments.extend(words(["--name".as_ref(), instance.as_ref()]));
            }
        }
        let never = CancellationToken::new();
        let run = Run { arguments, dir: &dir, log, cancel: &never, limit: Some(DESTROY_LIMIT) };
        match self.program.run(run).await {
            Ok(_) => Ok(()),
            // It calls a lab without containers an error.
            Err(RunError::Failed(reason)) if containers.is_empty() && reason.contains("not found") => Ok(()),
            Err(error) => {
                log.line(&format!("containerlab could not destroy {instance}: {error}"));
                Err(error)
            }
        }
    }

    /// Does `run`, a deploy, and has others wait that need the same network until there is one. Not for ever: a run of
    /// containerlab may hang.
    async fn one_makes_the_network<T>(
        &self,
        network: &str,
        cancel: &CancellationToken,
        run: impl Future<Output = T>,
    ) -> T {
        let is_there = async || self.docker().has_network(network).await.unwrap_or(false);
        if is_there().await {
            return run.await;
        }
        let turn = tokio::select! {
            turn = self.making_network.lock() => turn,
            () = cancel.cancelled() => return run.await,
        };
        let made = async {
            while !is_there().await {
                tokio::time::sleep(NETWORK_LOOK).await;
            }
        };
        let made = tokio::time::timeout(NETWORK_LIMIT, made);
        tokio::pin!(run);
        tokio::select! {
            result = &mut run => return result,
            _ = made => drop(turn),
        }
        run.await
    }

    /// Removes a management network that containerlab has made and that no container uses any more, unless something is being
    /// deployed, which may be about to use it. Whatever is destroyed last does it.
    async fn remove_network(&self, network: &str, log: &LogSink) {
        let shared = network == MANAGEMENT_NETWORK;
        let Some(_gate) = self.network_gate.try_close(shared) else { return };
        // Whoever has just made the shared one may be somebody who knows nothing of gates, and be about to use it.
        let oldest = if shared { SHARED_NETWORK_AGE } else { Duration::ZERO };
        match self.docker().remove_unused_network(network, oldest).await {
            Ok(Some(bridge)) => {
                leftovers::clear_firewall(&bridge).await;
                log.line(&format!("Removed network {network}"));
            }
            Ok(None) => {}
            Err(error) => log.line(&format!("Network {network} can't be removed: {error}")),
        }
    }
}

impl Shared {
    pub(super) fn life(&self, instance: &str) -> Arc<Life> {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|_, life| life.strong_count() > 0);
        if let Some(life) = lives.get(instance).and_then(Weak::upgrade) {
            return life;
        }
        let life = Arc::new(Life { turn: RwLock::new(()), over: self.closing.child_token() });
        lives.insert(instance.to_owned(), Arc::downgrade(&life));
        life
    }
}

impl Life {
    /// Does `work` unless the instance is destroyed meanwhile. `None`: `work` was left where it was.
    pub(super) async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let _turn = self.over.run_until_cancelled(self.turn.read()).await?;
        // It is not dropped in its middle: it is told, and ends as soon as what it runs has ended.
        if self.over.is_cancelled() {
            return None;
        }
        Some(work.await)
    }

    async fn end(&self) -> RwLockWriteGuard<'_, ()> {
        self.over.cancel();
        self.turn.write().await
    }
}

/// The management network of its nodes.
fn network_of(topology: &Topology) -> &str {
    let demands = topology.nodes.iter().flat_map(|node| &node.demands);
    let mut named = demands.filter_map(|demand| match demand {
        HostDemand::NetworkMode(mode) => mode.strip_prefix("network "),
        _ => None,
    });
    named.next_back().unwrap_or(MANAGEMENT_NETWORK)
}

/// Says whether containerlab can run it.
fn check(topology: &Topology, engine: &str) -> Result<(), RuntimeError> {
    if topology.nodes.is_empty() {
        return Err(RuntimeError::Unsupported("the topology has no nodes".to_owned()));
    }
    topology.nodes.iter().try_for_each(|node| check_node(node, engine))
}

fn check_node(node: &Node, engine: &str) -> Result<(), RuntimeError> {
    // What another engine runs, this server would neither see nor take away.
    if let Some(other) = node.runtime.as_deref().filter(|runtime| *runtime != engine) {
        let name = &node.name;
        return Err(RuntimeError::Unsupported(format!(
            "node {name}: `runtime: {other}`, but this server runs labs with {engine}; leave the key out"
        )));
    }
    let (name, kind) = (&node.name, node.kind.as_str());
    let image = node.image.as_deref().unwrap_or_default();
    if image.trim().is_empty() && !KINDS_WITHOUT_IMAGE.contains(&kind) {
        return Err(RuntimeError::Unsupported(format!(
            "node {name}: there is no image for it; write `image:` at the node, at its kind or group, or under defaults"
        )));
    }
    // Nothing is looked up that isn't known to be there: what else there may be in the folder is containerlab's.
    if let Some(problem) = node.binds.iter().find_map(FileBind::problem) {
        return Err(RuntimeError::Unsupported(format!("node {name}: {problem}")));
    }
    for demand in &node.demands {
        let HostDemand::Bind(bind) = demand else { continue };
        let source = bind.split(':').next().unwrap_or_default();
        if !source.starts_with(['/', '~']) && source.split('/').any(|part| part == "..") {
            return Err(RuntimeError::Unsupported(format!(
                "node {name}: {bind}: the path leaves the folder of the lab; write an absolute one"
            )));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(topology: &str) -> Result<(), String> {
        let topology = Topology::parse(&format!("name: x\ntopology:\n{topology}")).unwrap();
        check(&topology, "docker").map_err(|error| error.to_string())
    }

    #[test]
    fn images_may_come_from_wherever_containerlab_takes_them() {
        for topology in [
            "  nodes: {r1: {kind: linux, image: a}}",
            "  kinds: {srl: {image: a}}\n  nodes: {r1: {kind: srl}}",
            "  groups: {g: {image: a, kind: ceos}}\n  nodes: {r1: {group: g}}",
            "  defaults: {image: a, kind: crpd}\n  nodes: {r1: }",
            "  nodes: {br0: {kind: bridge}}",
        ] {
            assert_eq!(checked(topology), Ok(()), "{topology}");
        }
        let said = checked("  nodes: {r1: {kind: linux, image: a}, r2: {kind: linux}}").unwrap_err();
        assert!(said.starts_with("node r2: there is no image"), "{said}");
    }

    #[test]
    fn a_node_is_made_with_the_engine_that_the_server_sees() {
        assert_eq!(checked("  nodes: {r1: {kind: linux, image: a, runtime: docker}}"), Ok(()));
        let said = checked("  defaults: {runtime: podman}\n  nodes: {r1: {kind: linux, image: a}}").unwrap_err();
        assert!(said.starts_with("node r1: `runtime: podman`, but this server runs labs with docker"), "{said}");
    }

    #[test]
    fn relative_paths_stay_in_the_folder_of_the_lab() {
        let bind = |bind: &str| checked(&format!("  nodes: {{r1: {{kind: linux, image: a, binds: ['{bind}']}}}}"));
        assert!(bind("../../antimony.db:/x").unwrap_err().contains("leaves the folder"));
        assert!(bind("a/../../b:/x").is_err());
        let missing = bind("conf/a..b:/x:ro").unwrap_err();
        assert!(missing.contains("binds (conf/a..b:/x:ro)") && missing.contains("add it"), "{missing}");
        let text = "name: x\ntopology:\n  nodes: {r1: {kind: linux, image: a, binds: ['conf/a..b:/x:ro', 'conf:/y']}}";
        let topology = Topology::parse_beside(text, &["conf/a..b".to_owned()]).unwrap();
        assert!(check(&topology, "docker").is_ok());
        assert_eq!(bind("/etc/../srv/x:/x"), Ok(()));
    }
}
