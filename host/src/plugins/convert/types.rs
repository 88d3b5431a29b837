//! `types`: users, collections, topologies, labs, nodes, shells.

use jiff::Timestamp;

use super::Arena;
use crate::auth::Identity;
use crate::labs::model::{Collection, InstanceState, LabSnapshot, LabState, NodeState, NodeStatus};
use crate::plugins::bindings::antimony::plugin::types as wit;
use crate::plugins::decision::{CallFailure, Circumstances, CommandKind, ShellInfo, TopologyView};
use crate::topology::{HostDemand, Node, Topology};

pub(super) fn timestamp(time: Timestamp) -> wit::Timestamp {
    // The contract knows no time before 1970, and neither do labs.
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

pub(in crate::plugins) fn circumstances(circumstances: Circumstances) -> wit::Circumstances {
    wit::Circumstances {
        now: timestamp(circumstances.now),
        open_shells: circumstances.open_shells,
        running_labs: circumstances.running_labs,
    }
}

pub(in crate::plugins) fn identity<'a>(arena: &'a Arena, user: &'a Identity) -> wit::IdentityParam<'a> {
    let collections = arena.alloc_slice_fill_iter(user.collections.iter().map(String::as_str));
    wit::IdentityParam { id: user.id.as_str(), admin: user.admin, collections }
}

/// A user as a policy answered them.
pub(in crate::plugins) fn identity_answer(user: wit::IdentityResult) -> Result<Identity, CallFailure> {
    if user.id.is_empty() {
        return Err(CallFailure::InvalidAnswer("the user's id is empty".into()));
    }
    Ok(Identity { id: user.id.into(), admin: user.admin, collections: user.collections })
}

pub(super) fn collection(collection: &Collection) -> wit::Collection<'_> {
    wit::Collection {
        id: collection.id.as_str(),
        name: &collection.name,
        public_write: collection.public_write,
        public_deploy: collection.public_deploy,
        creator: collection.creator.id.as_str(),
    }
}

pub(super) fn topology<'a>(arena: &'a Arena, view: TopologyView<'a>) -> wit::Topology<'a> {
    wit::Topology {
        id: view.stored.id.as_str(),
        name: &view.stored.name,
        collection: collection(view.collection),
        creator: view.stored.creator.id.as_str(),
        nodes: nodes(arena, view.definition, &[]),
    }
}

pub(super) fn lab<'a>(arena: &'a Arena, snapshot: &'a LabSnapshot) -> wit::Lab<'a> {
    let lab = &snapshot.lab;
    let running = snapshot.instance.as_ref().map_or(&[][..], |instance| &instance.nodes);
    wit::Lab {
        id: lab.id.as_str(),
        name: &lab.name,
        topology_id: lab.topology_id.as_str(),
        collection: collection(&snapshot.collection),
        creator: lab.creator.id.as_str(),
        start_time: timestamp(lab.start_time),
        end_time: lab.end_time.map(timestamp),
        state: match snapshot.state {
            LabState::Scheduled => wit::LabState::Scheduled,
            LabState::Inactive => wit::LabState::Inactive,
            LabState::Instance(InstanceState::Deploying) => wit::LabState::Deploying,
            LabState::Instance(InstanceState::Running) => wit::LabState::Running,
            LabState::Instance(InstanceState::Stopping) => wit::LabState::Stopping,
            LabState::Instance(InstanceState::Failed) => wit::LabState::Failed,
        },
        nodes: nodes(arena, &snapshot.topology, running),
    }
}

/// The nodes of a definition, in the states that the runtime reports of those that are there.
fn nodes<'a>(arena: &'a Arena, definition: &'a Topology, running: &'a [NodeStatus]) -> &'a [wit::Node<'a>] {
    let state = |index: usize, name: &str| {
        // Both are in the order of the definition, unless the runtime has not made all of them.
        let at = running.get(index).filter(|node| node.name == name);
        at.or_else(|| running.iter().find(|node| node.name == name)).map(|node| node.state)
    };
    arena.alloc_slice_fill_iter(definition.nodes.iter().enumerate().map(|(index, node)| wit::Node {
        name: &node.name,
        kind: &node.kind,
        image: node.image.as_deref(),
        state: node_state(state(index, &node.name)),
        demands: demands(arena, node),
    }))
}

fn demands<'a>(arena: &'a Arena, node: &'a Node) -> &'a [wit::HostDemand<'a>] {
    arena.alloc_slice_fill_iter(node.demands.iter().map(|demand| match demand {
        HostDemand::Bind(bind) => wit::HostDemand::Bind(bind),
        HostDemand::Privileged => wit::HostDemand::Privileged,
        HostDemand::Capability(name) => wit::HostDemand::Capability(name),
        HostDemand::Device(device) => wit::HostDemand::Device(device),
        HostDemand::NetworkMode(mode) => wit::HostDemand::NetworkMode(mode),
        HostDemand::Port(port) => wit::HostDemand::Port(port),
    }))
}

/// A node as the runtime sees it, with what the lab's definition says of it.
pub(super) fn node<'a>(arena: &'a Arena, lab: &'a LabSnapshot, node: &'a NodeStatus) -> wit::Node<'a> {
    let defined = lab.topology.nodes.iter().find(|defined| defined.name == node.name);
    wit::Node {
        name: &node.name,
        kind: &node.kind,
        image: node.image.as_deref(),
        state: node_state(Some(node.state)),
        demands: defined.map_or(&[], |defined| demands(arena, defined)),
    }
}

fn node_state(state: Option<NodeState>) -> wit::NodeState {
    match state {
        None => wit::NodeState::Absent,
        Some(NodeState::Starting) => wit::NodeState::Starting,
        Some(NodeState::Running) => wit::NodeState::Running,
        Some(NodeState::Exited) => wit::NodeState::Exited,
    }
}

pub(super) fn shell(shell: &ShellInfo) -> wit::Shell<'_> {
    wit::Shell { id: shell.id.as_str(), lab_id: shell.lab_id.as_str(), node: &shell.node, owner: shell.owner.as_str() }
}

pub(super) fn command_kind(kind: CommandKind) -> wit::CommandKind {
    match kind {
        CommandKind::Deploy => wit::CommandKind::Deploy,
        CommandKind::Destroy => wit::CommandKind::Destroy,
        CommandKind::StopNode => wit::CommandKind::StopNode,
        CommandKind::StartNode => wit::CommandKind::StartNode,
        CommandKind::RestartNode => wit::CommandKind::RestartNode,
        CommandKind::ListShells => wit::CommandKind::ListShells,
        CommandKind::OpenShell => wit::CommandKind::OpenShell,
        CommandKind::CloseShell => wit::CommandKind::CloseShell,
    }
}

pub(super) fn command_kind_answer(kind: wit::CommandKind) -> CommandKind {
    match kind {
        wit::CommandKind::Deploy => CommandKind::Deploy,
        wit::CommandKind::Destroy => CommandKind::Destroy,
        wit::CommandKind::StopNode => CommandKind::StopNode,
        wit::CommandKind::StartNode => CommandKind::StartNode,
        wit::CommandKind::RestartNode => CommandKind::RestartNode,
        wit::CommandKind::ListShells => CommandKind::ListShells,
        wit::CommandKind::OpenShell => CommandKind::OpenShell,
        wit::CommandKind::CloseShell => CommandKind::CloseShell,
    }
}
