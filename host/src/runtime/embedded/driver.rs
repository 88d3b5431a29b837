//! The embedded runtime as [`RuntimeDriver`]: which instances there are, and what is done with them in which order.
//!
//! It decides nothing about namespaces: that is the helper's, one per instance, reached through `instance`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::instance::Instance;
use super::preflight::{self, Unavailable};
use super::protocol::{FilePlan, LabPlan, Op, Refusal};
use super::{EmbeddedOptions, cgroup, files, plan, terminal};
use crate::labs::model::{NodeState, NodeStatus};
use crate::runtime::capture::{Capture, CaptureOptions};
use crate::runtime::saved::{NodeSaved, SaveLimits};
use crate::runtime::stats::NodeStats;
use crate::runtime::{
    InstanceSpec, LineSink, LogChunk, LogPosition, LogSink, NodeAction, Pty, PtyRequest, RuntimeDriver, RuntimeError,
    RuntimeEvent,
};
use crate::topology::{Node, Topology};

/// How long a node's main process may take to end after SIGTERM when the node is stopped.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The same when the whole lab is taken down and nobody will ask the node for anything any more.
const DESTROY_GRACE: Duration = Duration::from_secs(5);
/// How long the orderly way down may take beyond the grace period before everything is simply ended.
const MARGIN: Duration = Duration::from_secs(10);

/// Runs labs in Linux namespaces on this machine.
pub struct EmbeddedRuntime {
    options: EmbeddedOptions,
    instances: Arc<Mutex<HashMap<String, Slot>>>,
    events: broadcast::Sender<RuntimeEvent>,
    /// The server ends: no deploy goes on.
    closing: CancellationToken,
    deploys: TaskTracker,
}

/// An instance that is up, or a name that is taken by one on its way there.
enum Slot {
    Deploying,
    Up(Arc<Deployed>),
}

/// An instance, with what is known of it beyond its processes.
struct Deployed {
    instance: Instance,
    /// Its nodes as they were deployed; their states come from the instance.
    nodes: Vec<NodeStatus>,
}

impl Deployed {
    fn status(&self) -> Vec<NodeStatus> {
        let states = self.instance.states();
        self.nodes.iter().zip(states).map(|(node, state)| NodeStatus { state, ..node.clone() }).collect()
    }

    fn index(&self, node: &str) -> Result<usize, RuntimeError> {
        self.nodes.iter().position(|each| each.name == node).ok_or_else(|| RuntimeError::NoNode(node.to_owned()))
    }
}

/// Frees the name of an instance that didn't come up.
struct Reservation {
    instances: Arc<Mutex<HashMap<String, Slot>>>,
    name: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(instances.get(&self.name), Some(Slot::Deploying)) {
            instances.remove(&self.name);
        }
    }
}

impl EmbeddedRuntime {
    /// Makes sure that this machine can run labs, by running one, and clears away what a killed server left behind.
    /// Blocks for some ten milliseconds.
    ///
    /// # Errors
    /// One sentence that says what to switch on.
    pub fn new(options: EmbeddedOptions) -> Result<Self, Unavailable> {
        cgroup::sweep();
        preflight::check(&options)?;
        Ok(Self {
            options,
            instances: Arc::default(),
            events: broadcast::Sender::new(1024),
            closing: CancellationToken::new(),
            deploys: TaskTracker::new(),
        })
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Arc<Deployed>, RuntimeError> {
        match self.instances().get(name) {
            Some(Slot::Up(deployed)) => Ok(Arc::clone(deployed)),
            _ => Err(RuntimeError::NoInstance(name.to_owned())),
        }
    }

    fn reserve(&self, name: &str) -> Result<Reservation, RuntimeError> {
        let mut instances = self.instances();
        if instances.contains_key(name) {
            return Err(RuntimeError::Failed(format!("there is an instance named {name} already")));
        }
        instances.insert(name.to_owned(), Slot::Deploying);
        Ok(Reservation { instances: Arc::clone(&self.instances), name: name.to_owned() })
    }

    /// Forgets an instance once its helper has ended, for whatever reason.
    fn forget_when_gone(&self, name: String, deployed: &Arc<Deployed>) {
        let instances = Arc::downgrade(&self.instances);
        let (farewell, deployed) = (deployed.instance.clone().farewell(), Arc::downgrade(deployed));
        tokio::spawn(async move {
            farewell.await;
            let Some(instances) = instances.upgrade() else { return };
            let mut instances = instances.lock().unwrap_or_else(PoisonError::into_inner);
            // By now there may be another one of that name.
            if matches!(instances.get(&name), Some(Slot::Up(up)) if std::ptr::eq(Arc::as_ptr(up), deployed.as_ptr())) {
                instances.remove(&name);
            }
        });
    }

    /// The plan of an instance, with paths as they really are, so that a link is no way around hiding them.
    fn plan(&self, spec: &InstanceSpec) -> Result<LabPlan, RuntimeError> {
        let mut options = self.options.clone();
        options.hidden.extend(self.options.hidden.iter().filter_map(|path| path.canonicalize().ok()));
        plan::plan(&spec.name, &spec.topology, &options, plan::id_map(spec.topology.nodes.len()))
    }
}

#[async_trait]
impl RuntimeDriver for EmbeddedRuntime {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn check(&self, topology: &Topology) -> Result<(), RuntimeError> {
        plan::check(topology, &self.options)
    }

    async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeStatus>, RuntimeError> {
        let _token = self.deploys.token();
        // Whoever comes after the shutdown has begun gets nothing: nobody would take it down again.
        if self.closing.is_cancelled() {
            return Err(RuntimeError::Cancelled);
        }
        let topology = &*spec.topology;
        let mut lab = self.plan(spec)?;
        lab.files = bind_files(spec).await?;
        let reservation = self.reserve(&spec.name)?;
        log.line(&format!(
            "Deploying {} on the embedded runtime: {}, {}",
            spec.name,
            count(topology.nodes.len(), "node"),
            count(topology.links.len(), "link")
        ));
        let begun = Instant::now();
        let instance = Instance::start(&self.options.helper, lab, self.events.clone()).map_err(RuntimeError::Failed)?;
        let nodes: Vec<NodeStatus> = topology.nodes.iter().map(|node| status(topology, &spec.name, node)).collect();
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(RuntimeError::Cancelled),
            () = self.closing.cancelled() => Err(RuntimeError::Cancelled),
            result = bring_up(&instance, spec, &nodes, &log) => result,
        };
        if let Err(error) = result {
            instance.kill().await.map_err(RuntimeError::Failed)?;
            log.line(&format!("Nothing is left of {}: {error}", spec.name));
            return Err(error);
        }
        let deployed = Arc::new(Deployed { instance, nodes });
        self.instances().insert(spec.name.clone(), Slot::Up(Arc::clone(&deployed)));
        drop(reservation);
        self.forget_when_gone(spec.name.clone(), &deployed);
        log.line(&format!("{} is up after {:.1} s", spec.name, begun.elapsed().as_secs_f64()));
        Ok(deployed.status())
    }

    async fn destroy(&self, name: &str, _dir: &Path, log: LogSink) -> Result<(), RuntimeError> {
        let Ok(deployed) = self.find(name) else {
            log.line(&format!("There is no instance {name} on the embedded runtime; nothing to do"));
            return Ok(());
        };
        let running = deployed.instance.states().iter().filter(|state| **state == NodeState::Running).count();
        log.line(&format!("Destroying {name}: stopping {}", count(running, "node")));
        let grace = u64::try_from(DESTROY_GRACE.as_millis()).unwrap_or(u64::MAX);
        let orderly = deployed.instance.ask(Op::Destroy { grace });
        match tokio::time::timeout(DESTROY_GRACE + MARGIN, orderly).await {
            Ok(Ok(_)) => {}
            Ok(Err(Refusal::Failed(reason))) => log.line(&format!("{name}: {reason}; ending it all the same")),
            Ok(Err(Refusal::NotRunning)) | Err(_) => log.line(&format!("{name} did not stop in time and is killed")),
        }
        deployed.instance.kill().await.map_err(RuntimeError::Failed)?;
        let mut instances = self.instances();
        if matches!(instances.get(name), Some(Slot::Up(up)) if Arc::ptr_eq(up, &deployed)) {
            instances.remove(name);
        }
        drop(instances);
        log.line(&format!("Nothing is left of {name}"));
        Ok(())
    }

    async fn inspect(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError> {
        Ok(self.find(instance)?.status())
    }

    async fn stats(&self, instance: &str) -> Result<Vec<NodeStats>, RuntimeError> {
        let deployed = self.find(instance)?;
        let usages = match deployed.instance.stats().await {
            Ok(usages) => usages,
            // It ends, and nobody is interested in what its nodes use until then.
            Err(Refusal::NotRunning) => Vec::new(),
            Err(Refusal::Failed(reason)) => return Err(RuntimeError::Failed(reason)),
        };
        let (at, usages) = (Instant::now(), usages.into_iter().chain(std::iter::repeat(None)));
        let stats = |(node, usage): (&NodeStatus, _)| NodeStats { node: node.name.clone(), at, usage };
        Ok(deployed.nodes.iter().zip(usages).map(stats).collect())
    }

    async fn list(&self) -> Result<Vec<String>, RuntimeError> {
        let instances = self.instances();
        let up = instances.iter().filter(|(_, slot)| matches!(slot, Slot::Up(_)));
        Ok(up.map(|(name, _)| name.clone()).collect())
    }

    async fn node(&self, instance: &str, node: &str, action: NodeAction) -> Result<NodeStatus, RuntimeError> {
        let deployed = self.find(instance)?;
        let index = deployed.index(node)?;
        let failed = |refusal| match refusal {
            Refusal::Failed(reason) => RuntimeError::Failed(format!("node {node}: {reason}")),
            Refusal::NotRunning => RuntimeError::NodeNotRunning(node.to_owned()),
        };
        if matches!(action, NodeAction::Stop | NodeAction::Restart) {
            let grace = u64::try_from(STOP_GRACE.as_millis()).unwrap_or(u64::MAX);
            deployed.instance.ask(Op::Stop { node: index, grace }).await.map_err(failed)?;
        }
        let running = deployed.instance.states()[index] == NodeState::Running;
        if action == NodeAction::Restart || (action == NodeAction::Start && !running) {
            deployed.instance.ask(Op::Start(index)).await.map_err(failed)?;
        }
        Ok(deployed.status().swap_remove(index))
    }

    async fn save(
        &self,
        instance: &str,
        _dir: &Path,
        archive: fs::File,
        limits: SaveLimits,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeSaved>, RuntimeError> {
        let deployed = self.find(instance)?;
        let mut archive = tar::Builder::new(archive);
        let mut all = Vec::new();
        for (index, node) in deployed.nodes.iter().enumerate() {
            let (outcome, given_back) =
                files::save(&deployed.instance, (index, &node.name), archive, limits, &cancel).await?;
            archive = given_back;
            let saved = NodeSaved { node: node.name.clone(), outcome };
            log.line(&saved.in_words());
            all.push(saved);
        }
        let finish = tokio::task::spawn_blocking(move || archive.into_inner().map(drop));
        let finished = finish.await.map_err(io::Error::other).flatten();
        finished.map_err(|error| RuntimeError::Failed(format!("the archive can't be written: {error}")))?;
        Ok(all)
    }

    /// Positions are neither given nor taken: nobody is left to follow what doesn't outlive the server.
    async fn follow_log(
        &self,
        instance: &str,
        node: &str,
        _: Option<LogPosition>,
    ) -> Result<mpsc::Receiver<LogChunk>, RuntimeError> {
        let deployed = self.find(instance)?;
        Ok(deployed.instance.log(deployed.index(node)?).follow())
    }

    async fn open_pty(&self, instance: &str, node: &str, request: PtyRequest) -> Result<Pty, RuntimeError> {
        let deployed = self.find(instance)?;
        let index = deployed.index(node)?;
        if deployed.instance.states()[index] != NodeState::Running {
            return Err(RuntimeError::NodeNotRunning(node.to_owned()));
        }
        terminal::open(&deployed.instance, index, node, request).await
    }

    async fn capture(
        &self,
        instance: &str,
        node: &str,
        interface: &str,
        options: &CaptureOptions,
    ) -> Result<Capture, RuntimeError> {
        let deployed = self.find(instance)?;
        let index = deployed.index(node)?;
        // Before it is asked for: the node may end meanwhile.
        let life = deployed.instance.life(index);
        let opened = deployed.instance.open_capture(index).await.map_err(|refusal| match refusal {
            Refusal::NotRunning => RuntimeError::NodeNotRunning(node.to_owned()),
            Refusal::Failed(reason) => RuntimeError::Failed(format!("capturing in node {node}: {reason}")),
        })?;
        Capture::begin(opened, interface, options, life.cancelled_owned())
    }

    fn watch(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    async fn shut_down(&self) {
        self.closing.cancel();
        self.deploys.close();
        self.deploys.wait().await;
        let names: Vec<String> = self.instances().keys().cloned().collect();
        let silent: LogSink = Arc::new(|_: &str| {});
        let all = names.iter().map(|name| self.destroy(name, Path::new(""), Arc::clone(&silent)));
        futures::future::join_all(all).await;
    }
}

/// What the nodes of an instance see of the files beside its topology.
async fn bind_files(spec: &InstanceSpec) -> Result<Vec<FilePlan>, RuntimeError> {
    let binds = spec.topology.nodes.iter().flat_map(|node| &node.binds);
    let sources: Vec<PathBuf> = binds.map(|bind| PathBuf::from(&bind.source)).collect();
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let dir = spec.dir.clone();
    let read = move || {
        let mut files = BTreeMap::new();
        sources.into_iter().try_for_each(|source| gather(&dir, source, &mut files)).map(|()| files)
    };
    let files = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
    let files =
        files.map_err(|error| RuntimeError::Failed(format!("the files of the topology can't be read: {error}")))?;
    Ok(files.into_iter().map(|(path, content)| FilePlan { path, content }).collect())
}

/// Reads a file, or all that are in a folder. Nobody but the server has written them.
fn gather(dir: &Path, path: PathBuf, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let place = dir.join(&path);
    if !place.is_dir() {
        let name = path.into_os_string().into_string().map_err(|_| io::Error::other("a path is no text"))?;
        files.insert(name, fs::read(place)?);
        return Ok(());
    }
    for entry in fs::read_dir(place)? {
        gather(dir, path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

/// Builds nodes and links, starts the nodes, and runs their `exec`.
async fn bring_up(
    instance: &Instance,
    spec: &InstanceSpec,
    nodes: &[NodeStatus],
    log: &LogSink,
) -> Result<(), RuntimeError> {
    let topology = &*spec.topology;
    if let Some(note) = instance.ready().await.map_err(RuntimeError::Failed)? {
        log.line(&format!("Note: {note}"));
    }
    let plan = instance.plan();
    for (index, node) in topology.nodes.iter().enumerate() {
        instance.ask(Op::CreateNode(index)).await.map_err(|refusal| failed(&format!("node {}", node.name), refusal))?;
        let status = &nodes[index];
        log.line(&format!("Created node {} ({}, id {})", node.name, status.container_name, status.container_id));
        if let Some(image) = &node.image {
            log.line(&format!("Node {}: image {image} is not used, nodes see the programs of this machine", node.name));
        }
    }
    if let Some(saved) = &spec.saved {
        for (index, node) in topology.nodes.iter().enumerate() {
            files::restore(instance, (index, &node.name), saved).await?;
            log.line(&format!("Node {} has its saved files again", node.name));
        }
    }
    for (index, link) in plan.links.iter().enumerate() {
        let [near, far] = link.ends.each_ref().map(|end| format!("{}:{}", plan.nodes[end.node].name, end.interface));
        let name = format!("{near} – {far}");
        instance.ask(Op::CreateLink(index)).await.map_err(|refusal| failed(&format!("link {name}"), refusal))?;
        log.line(&format!("Created link {name} (mtu {})", link.mtu));
    }
    start_nodes(instance, plan, topology, log).await?;
    for (index, node) in topology.nodes.iter().enumerate() {
        for text in &node.exec {
            exec(instance, index, &node.name, text, log).await?;
        }
    }
    Ok(())
}

/// Starts all nodes, each after its own `startup-delay`.
async fn start_nodes(
    instance: &Instance,
    plan: &LabPlan,
    topology: &Topology,
    log: &LogSink,
) -> Result<(), RuntimeError> {
    let begun = tokio::time::Instant::now();
    let mut order: Vec<(usize, &Node)> = topology.nodes.iter().enumerate().collect();
    order.sort_by_key(|(_, node)| node.startup_delay);
    for (index, node) in order {
        let name = &node.name;
        if node.startup_delay > 0 {
            log.line(&format!("Node {name} starts {} s after the others", node.startup_delay));
            tokio::time::sleep_until(begun + Duration::from_secs(node.startup_delay)).await;
        }
        instance.ask(Op::Start(index)).await.map_err(|refusal| failed(&format!("starting node {name}"), refusal))?;
        match &plan.nodes[index].command[..] {
            [] => log.line(&format!("Started node {name}")),
            words => log.line(&format!("Started node {name}: {}", shell_words::join(words))),
        }
    }
    Ok(())
}

/// Runs one `exec` of a node. A command that fails is the lab author's to read about; the lab comes up all the same.
async fn exec(instance: &Instance, index: usize, node: &str, text: &str, log: &LogSink) -> Result<(), RuntimeError> {
    log.line(&format!("Node {node}: exec {text}"));
    let command = match plan::split(text) {
        Ok(command) if !command.is_empty() => command,
        Ok(_) => return Ok(()),
        Err(error) => {
            log.line(&format!("Node {node}: exec failed: {error}"));
            return Ok(());
        }
    };
    let output: LogSink = Arc::new(OutputOf { node: node.to_owned(), log: Arc::clone(log) });
    match instance.exec(index, command, output).await {
        Ok(how) if how == "exit status 0" => {}
        Ok(how) => log.line(&format!("Node {node}: exec ended with {how}: {text}")),
        Err(Refusal::NotRunning) => log.line(&format!("Node {node}: exec failed, the node has exited: {text}")),
        Err(Refusal::Failed(reason)) => log.line(&format!("Node {node}: exec failed: {reason}")),
    }
    Ok(())
}

/// What a command in a node prints, as lines of the deploy's log.
struct OutputOf {
    node: String,
    log: LogSink,
}

#[async_trait]
impl LineSink for OutputOf {
    fn line(&self, text: &str) {
        self.log.line(&format!("{} | {text}", self.node));
    }

    async fn room(&self) {
        self.log.room().await;
    }
}

fn failed(what: &str, refusal: Refusal) -> RuntimeError {
    match refusal {
        Refusal::Failed(reason) => RuntimeError::Failed(format!("{what}: {reason}")),
        Refusal::NotRunning => RuntimeError::Failed(format!("{what}: it is not running")),
    }
}

fn status(topology: &Topology, instance: &str, node: &Node) -> NodeStatus {
    NodeStatus {
        name: node.name.clone(),
        kind: node.kind.clone(),
        image: node.image.clone(),
        state: NodeState::Starting,
        // There is no management network: links are all there is.
        ipv4: String::new(),
        ipv6: String::new(),
        container_id: container_id(instance, &node.name),
        container_name: plan::container_name(topology, &node.name),
    }
}

/// 12 hexadecimal digits, another every time.
fn container_id(instance: &str, node: &str) -> String {
    let salt: [u8; 16] = rand::random();
    let digest = Sha256::new().chain_update(instance).chain_update(node).chain_update(salt).finalize();
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
