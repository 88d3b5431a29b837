//! A lab, its people, and what they ask for: the arguments of decisions.

use std::sync::Arc;

use antimony_host::auth::{Claims, Identity};
use antimony_host::labs::model::{
    Collection, Instance, InstanceState, Lab, LabSnapshot, LabState, NodeState, NodeStatus, User,
};
use antimony_host::plugins::decision::{Circumstances, Command, CommandKind, Event, Occurrence, ShellInfo};
use antimony_host::topology::{HostDemand, Node, Topology};
use jiff::Timestamp;

/// A lab of ada's in the collection `course`, with the nodes r1 (running) and r2 (stopped).
pub(crate) fn lab() -> LabSnapshot {
    let creator = User { id: "ada".into(), name: "Ada".into() };
    let collection = Collection {
        id: "c-1".into(),
        name: "course".into(),
        public_write: true,
        public_deploy: true,
        creator: User { id: "root".into(), name: "root".into() },
    };
    let node = |name: &str| Node { name: name.into(), kind: "linux".into(), ..Node::default() };
    let status = |name: &str, state| NodeStatus {
        name: name.into(),
        kind: "linux".into(),
        image: None,
        state,
        ipv4: "10.0.0.2".into(),
        ipv6: String::new(),
        container_id: "0123456789ab".into(),
        container_name: format!("clab-ospf-{name}"),
    };
    let topology = Topology { name: "ospf".into(), prefix: None, nodes: vec![node("r1"), node("r2")], links: vec![] };
    LabSnapshot {
        lab: Lab {
            id: "lab-1".into(),
            name: "ospf".into(),
            start_time: Timestamp::UNIX_EPOCH,
            end_time: None,
            topology_id: "t-1".into(),
            collection_id: "c-1".into(),
            creator,
            start_pending: false,
            warned_before: None,
            instance: None,
        },
        collection,
        state: LabState::Instance(InstanceState::Running),
        definition: String::new(),
        topology: Arc::new(topology),
        instance: Some(Instance {
            name: "ospf-1".into(),
            state: InstanceState::Running,
            since: Timestamp::UNIX_EPOCH,
            deployed: Timestamp::UNIX_EPOCH,
            nodes: vec![status("r1", NodeState::Running), status("r2", NodeState::Exited)],
            recovered: false,
        }),
        next: None,
    }
}

/// The same lab, without an instance, and with something to ask of the host that runs it.
pub(crate) fn demanding_lab() -> LabSnapshot {
    let mut lab = lab();
    let mut topology = (*lab.topology).clone();
    topology.nodes[1].demands = vec![HostDemand::Bind("/etc:/mnt".into())];
    lab.topology = Arc::new(topology);
    lab.state = LabState::Inactive;
    lab.instance = None;
    lab
}

/// Somebody who is no administrator.
pub(crate) fn user(id: &str) -> Identity {
    Identity { id: id.into(), admin: false, collections: vec!["course".into()] }
}

/// A command for [`lab`].
pub(crate) fn command(kind: CommandKind) -> Command {
    Command { kind, lab_id: "lab-1".into(), node: None, shell_id: None }
}

/// A command for a node of [`lab`].
pub(crate) fn node_command(kind: CommandKind, node: &str) -> Command {
    Command { node: Some(node.into()), ..command(kind) }
}

/// A shell in r1.
pub(crate) fn shell(owner: &str) -> ShellInfo {
    ShellInfo { id: "s-1".into(), lab_id: "lab-1".into(), node: "r1".into(), owner: owner.into() }
}

pub(crate) const NOW: Circumstances = Circumstances { now: Timestamp::UNIX_EPOCH, open_shells: 1, running_labs: 1 };

/// The claims of a token.
pub(crate) fn claims(json: serde_json::Value) -> Claims {
    match json {
        serde_json::Value::Object(claims) => Claims(claims),
        other => panic!("claims are an object, not {other}"),
    }
}

/// An event of [`lab`].
pub(crate) fn event(what: Occurrence) -> Event {
    Event { at: Timestamp::UNIX_EPOCH, lab: Arc::new(lab()), by: Some("ada".into()), what }
}
