//! Labs as clients see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::Time;
use super::{UserJson, whole_milliseconds};
use crate::captures::CommandLine;
use crate::labs::model::{Instance, LabSnapshot, NodeState, NodeStatus};

/// A lab. Without an instance it is scheduled if its start is ahead, or else inactive.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Lab)]
pub(super) struct LabJson {
    id: String,
    name: String,
    #[schema(value_type = Time)]
    start_time: Timestamp,
    /// Null: it is never destroyed by itself.
    #[schema(value_type = Option<Time>, required)]
    end_time: Option<Timestamp>,
    topology_id: String,
    /// The collection of its topology.
    collection_id: String,
    creator: UserJson,
    /// In YAML, as it is now; an instance may have been deployed from an earlier one.
    topology_definition: String,
    // Clients take a null for an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    instance: Option<InstanceJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    instance_name: Option<String>,
}

/// What was deployed of a lab.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Instance)]
struct InstanceJson {
    /// The name of the topology, and when it was deployed.
    name: String,
    #[schema(value_type = Time)]
    deployed: Timestamp,
    /// 0: deploying, 1: running, 2: stopping, 3: failed.
    #[schema(minimum = 0, maximum = 3)]
    state: i32,
    #[schema(value_type = Time)]
    latest_state_change: Timestamp,
    nodes: Vec<NodeJson>,
    /// Whether the server found it running when it was started.
    recovered: bool,
}

/// A node of an instance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Node)]
struct NodeJson {
    name: String,
    kind: String,
    /// In the management network; empty if it has none.
    ipv4: String,
    /// In the management network; empty if it has none.
    ipv6: String,
    /// `starting`, `running` or `exited`.
    #[schema(pattern = "^(starting|running|exited)$")]
    state: &'static str,
    /// 12 digits; empty as long as there is none.
    container_id: String,
    container_name: String,
    /// The same, for a client that spells it like this.
    #[serde(rename = "containnerName")]
    container_name_misspelt: String,
    /// For interfaces, by their names, the command that shows what passes them, as the operator has it.
    interface_captures: BTreeMap<String, String>,
    can_restart: bool,
}

impl LabJson {
    /// A lab with the commands by which packets are captured in it.
    pub(super) fn new(snapshot: &LabSnapshot, captures: &CommandLine) -> Self {
        let lab = &snapshot.lab;
        Self {
            id: lab.id.to_string(),
            name: lab.name.clone(),
            start_time: lab.start_time,
            end_time: lab.end_time,
            topology_id: lab.topology_id.to_string(),
            collection_id: lab.collection_id.to_string(),
            creator: UserJson::from(&lab.creator),
            topology_definition: snapshot.definition.clone(),
            instance: snapshot.instance.as_ref().map(|instance| InstanceJson::new(snapshot, instance, captures)),
            instance_name: snapshot.instance.as_ref().map(|instance| instance.name.clone()),
        }
    }
}

impl InstanceJson {
    fn new(lab: &LabSnapshot, instance: &Instance, captures: &CommandLine) -> Self {
        let node = |node| NodeJson::new(node, captures.of(lab, instance, node));
        Self {
            name: instance.name.clone(),
            deployed: whole_milliseconds(instance.deployed),
            state: instance.state as i32,
            latest_state_change: whole_milliseconds(instance.since),
            nodes: instance.nodes.iter().map(node).collect(),
            recovered: instance.recovered,
        }
    }
}

impl NodeJson {
    fn new(node: &NodeStatus, interface_captures: BTreeMap<String, String>) -> Self {
        Self {
            name: node.name.clone(),
            kind: node.kind.clone(),
            ipv4: node.ipv4.clone(),
            ipv6: node.ipv6.clone(),
            state: match node.state {
                NodeState::Starting => "starting",
                NodeState::Running => "running",
                NodeState::Exited => "exited",
            },
            container_id: node.container_id.clone(),
            container_name: node.container_name.clone(),
            container_name_misspelt: node.container_name.clone(),
            interface_captures,
            can_restart: true,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::captures::{CaptureConfig, Place};
    use crate::labs::model::{Collection, InstanceState, Lab, LabState, User};
    use crate::topology::Topology;

    fn captures() -> CommandLine {
        let place = Place { api: "https://labs.example.org/api".to_owned(), host: "labs.example.org".to_owned() };
        CommandLine::new(&CaptureConfig::default(), place)
    }

    /// A lab without an instance that starts at 08:00 and ends at 10:00.
    pub(crate) fn snapshot() -> LabSnapshot {
        let definition = "name: ring\ntopology: {nodes: {r1: {kind: linux}}}\n";
        let creator = User { id: "u1".into(), name: "Ada".to_owned() };
        LabSnapshot {
            lab: Lab {
                id: "lab-1".into(),
                name: "Monday".to_owned(),
                start_time: "2030-01-31T08:00:00Z".parse().expect("a time"),
                end_time: Some("2030-01-31T10:00:00Z".parse().expect("a time")),
                topology_id: "topology-1".into(),
                collection_id: "collection-1".into(),
                creator: creator.clone(),
                start_pending: true,
                warned_before: None,
                instance: None,
            },
            collection: Collection {
                id: "collection-1".into(),
                name: "course".to_owned(),
                public_write: false,
                public_deploy: true,
                creator,
            },
            state: LabState::Scheduled,
            definition: definition.to_owned(),
            topology: Arc::new(Topology::parse(definition).expect("it is one")),
            instance: None,
            next: None,
        }
    }

    #[test]
    fn a_lab_without_an_instance_has_neither_it_nor_its_name() {
        let mut snapshot = snapshot();
        snapshot.lab.end_time = None;
        let json = serde_json::to_value(LabJson::new(&snapshot, &captures())).expect("it is JSON");
        assert_eq!(
            json,
            json!({
                "id": "lab-1",
                "name": "Monday",
                "startTime": "2030-01-31T08:00:00Z",
                "endTime": null,
                "topologyId": "topology-1",
                "collectionId": "collection-1",
                "creator": {"id": "u1", "name": "Ada"},
                "topologyDefinition": snapshot.definition,
            })
        );
    }

    #[test]
    fn an_instance_is_shown_with_its_nodes() {
        let mut snapshot = snapshot();
        snapshot.instance = Some(Instance {
            name: "ring-1".to_owned(),
            deployed: "2030-01-31T08:00:01Z".parse().expect("a time"),
            state: InstanceState::Running,
            since: "2030-01-31T08:00:05Z".parse().expect("a time"),
            nodes: vec![NodeStatus {
                name: "r1".to_owned(),
                kind: "linux".to_owned(),
                image: None,
                state: NodeState::Exited,
                ipv4: "172.20.20.2".to_owned(),
                ipv6: String::new(),
                container_id: "0123456789ab".to_owned(),
                container_name: "clab-ring-1-r1".to_owned(),
            }],
            recovered: true,
        });
        let instance = snapshot.instance.as_ref().expect("it has one");
        let json = serde_json::to_value(LabJson::new(&snapshot, &captures())).expect("it is JSON");
        assert_eq!(json["instanceName"], "ring-1");
        assert_eq!(
            json["instance"],
            json!({
                "name": "ring-1",
                "deployed": "2030-01-31T08:00:01Z",
                "state": 1,
                "latestStateChange": "2030-01-31T08:00:05Z",
                "recovered": true,
                "nodes": [{
                    "name": "r1",
                    "kind": "linux",
                    "ipv4": "172.20.20.2",
                    "ipv6": "",
                    "state": "exited",
                    "containerId": "0123456789ab",
                    "containerName": "clab-ring-1-r1",
                    "containnerName": "clab-ring-1-r1",
                    // Its topology has no links, and the runtime gave it an address.
                    "interfaceCaptures": {"eth0": captures().of(&snapshot, instance, &instance.nodes[0])["eth0"]},
                    "canRestart": true,
                }],
            })
        );
    }
}
