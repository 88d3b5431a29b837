//! What is true of a lab at the moment, and the snapshot that others see of it. Owned by the lab's task; no IO.

use std::sync::Arc;

use jiff::Timestamp;

use super::lifecycle::Phase;
use super::model::{
    Collection, Definition, Instance, InstanceState, Lab, LabSnapshot, LabState, NodeStatus, StoredInstance,
    StoredTopology,
};
use crate::topology::Topology;

/// Everything about a lab that changes, except for who waits for what.
pub(super) struct Facts {
    pub(super) lab: Lab,
    pub(super) collection: Collection,
    /// The stored topology, which the next deploy uses.
    pub(super) stored: StoredTopology,
    /// The same, read.
    pub(super) next: Arc<Definition>,
    /// What the instance was deployed from, where there is one.
    running: Option<Arc<Definition>>,
    pub(super) phase: Phase,
    since: Timestamp,
    pub(super) nodes: Vec<NodeStatus>,
    recovered: bool,
}

impl Facts {
    pub(super) fn new(
        lab: Lab,
        collection: Collection,
        stored: StoredTopology,
        phase: Phase,
        nodes: Vec<NodeStatus>,
    ) -> Self {
        let next = read(&stored.definition, &stored);
        let running = lab.instance.as_ref().map(|instance| {
            if instance.definition == next.text { Arc::clone(&next) } else { read(&instance.definition, &stored) }
        });
        let since = lab.instance.as_ref().map_or_else(Timestamp::now, |instance| instance.since);
        // Of what runs when the lab is taken up, somebody else made it: an earlier server.
        let recovered = phase == Phase::Running;
        let mut facts = Self { lab, collection, stored, next, running, phase, since, nodes: Vec::new(), recovered };
        facts.set_nodes(nodes);
        facts
    }

    /// As others see it.
    pub(super) fn snapshot(&self) -> LabSnapshot {
        let instance = match (&self.lab.instance, self.phase.instance_state()) {
            (Some(instance), Some(state)) => Some(Instance {
                name: instance.name.clone(),
                deployed: instance.deployed,
                state,
                since: self.since,
                nodes: self.nodes.clone(),
                recovered: self.recovered,
            }),
            _ => None,
        };
        let state = instance.as_ref().map(|instance| instance.state);
        let current = self.current();
        LabSnapshot {
            state: LabState::derive(state, self.lab.start_time, Timestamp::now()),
            definition: current.text.clone(),
            topology: Arc::clone(&current.topology),
            lab: self.lab.clone(),
            collection: self.collection.clone(),
            instance,
            next: (**current != *self.next).then(|| Arc::clone(&self.next)),
        }
    }

    /// The definition that counts: what runs, or else what would be deployed.
    pub(super) fn current(&self) -> &Arc<Definition> {
        self.running.as_ref().unwrap_or(&self.next)
    }

    /// Goes to another phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        if self.phase.instance_state() != phase.instance_state() {
            self.since = Timestamp::now();
        }
        self.phase = phase;
    }

    /// What is stored is of another state than the lab is found in.
    pub(super) fn failed_just_now(&mut self) {
        self.since = Timestamp::now();
    }

    /// Takes over what is stored of the topology and its collection.
    pub(super) fn reread(&mut self, stored: StoredTopology, collection: Collection) {
        let next = read(&stored.definition, &stored);
        if next != self.next {
            self.next = next;
        }
        self.lab.topology_id = stored.id.clone();
        self.lab.collection_id = collection.id.clone();
        self.stored = stored;
        self.collection = collection;
    }

    /// Gives the lab an instance on this runtime, of this definition, or of what is stored at present.
    pub(super) fn begin_instance(&mut self, runtime: &str, of: Option<&Arc<Definition>>) {
        let definition = Arc::clone(of.unwrap_or(&self.next));
        // Each instance has a name of its own: the lab has one at a time, and the end of its id tells it from those of
        // other labs of the same topology.
        let id = self.lab.id.as_str();
        let tail = id.get(id.len().saturating_sub(6)..).unwrap_or(id);
        let now = Timestamp::now();
        self.lab.instance = Some(StoredInstance {
            name: format!("{}-{}-{tail}", self.stored.name, now.strftime("%Y%m%d%H%M%S%3f")),
            runtime: runtime.to_owned(),
            definition: definition.text.clone(),
            deployed: now,
            state: InstanceState::Deploying,
            since: self.since,
        });
        self.running = Some(definition);
        self.nodes.clear();
        self.recovered = false;
    }

    /// The instance of an earlier server runs on, with these nodes.
    pub(super) fn recover(&mut self, nodes: Vec<NodeStatus>) {
        self.recovered = true;
        self.set_nodes(nodes);
    }

    /// The instance is gone.
    pub(super) fn end_instance(&mut self) {
        self.lab.instance = None;
        self.running = None;
        self.nodes.clear();
        self.recovered = false;
    }

    /// Name of the instance, if there is one.
    pub(super) fn instance_name(&self) -> Option<&str> {
        self.lab.instance.as_ref().map(|instance| instance.name.as_str())
    }

    /// The instance as it has to be stored.
    pub(super) fn stored_instance(&self) -> Option<StoredInstance> {
        let state = self.phase.instance_state()?;
        self.lab.instance.clone().map(|instance| StoredInstance { state, since: self.since, ..instance })
    }

    /// Takes over what the runtime says of the nodes, in the order of the definition; whether that is news.
    pub(super) fn set_nodes(&mut self, mut nodes: Vec<NodeStatus>) -> bool {
        let defined = &self.current().topology.nodes;
        nodes.sort_by_key(|node| defined.iter().position(|defined| defined.name == node.name).unwrap_or(usize::MAX));
        let news = nodes != self.nodes;
        self.nodes = nodes;
        news
    }

    /// The node of this name.
    pub(super) fn node_mut(&mut self, name: &str) -> Option<&mut NodeStatus> {
        self.nodes.iter_mut().find(|node| node.name == name)
    }
}

/// Reads a definition, beside the files that are stored now: what an instance was deployed with may have been others, but all
/// that is decided by that is whether it may be deployed. It was read before it was stored, so that it can only be unreadable when a newer server has become
/// stricter; then the lab shows no nodes, and a deploy says what is wrong.
fn read(text: &str, stored: &StoredTopology) -> Arc<Definition> {
    let topology = Topology::parse_beside(text, &stored.file_paths).unwrap_or_else(|error| {
        tracing::warn!(topology = %stored.id, %error, "a stored topology can't be read");
        Topology { name: stored.name.clone(), prefix: None, nodes: Vec::new(), links: Vec::new() }
    });
    Arc::new(Definition { text: text.to_owned(), topology: Arc::new(topology) })
}
