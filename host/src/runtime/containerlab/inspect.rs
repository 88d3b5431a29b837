//! What `containerlab inspect --details` prints, for engines that containerlab knows and Docker's API doesn't reach. Everything
//! else is asked of Docker directly, which is cheaper.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::labs::model::{NodeState, NodeStatus};

/// A container, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    names: Vec<String>,
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: HashMap<String, String>,
    #[serde(default)]
    network_settings: Addresses,
}

#[derive(Debug, Default, Deserialize)]
struct Addresses {
    #[serde(default, rename = "IPv4addr")]
    ipv4: String,
    #[serde(default, rename = "IPv6addr")]
    ipv6: String,
}

/// The nodes of each lab in the answer. Containers that are no node (tools that run beside a lab) are left out.
///
/// # Errors
/// Says where the answer isn't what it should be.
pub(super) fn parse(answer: &[u8]) -> Result<BTreeMap<String, Vec<NodeStatus>>, String> {
    let labs: BTreeMap<String, Vec<Container>> = serde_json::from_slice(answer)
        .map_err(|error| format!("containerlab inspect answered something else: {error}"))?;
    let nodes = |containers: Vec<Container>| containers.into_iter().filter_map(node).collect();
    Ok(labs.into_iter().map(|(lab, containers)| (lab, nodes(containers))).collect())
}

fn node(container: Container) -> Option<NodeStatus> {
    let mut labels = container.labels;
    let mut label = |name: &str| labels.remove(name).filter(|value| !value.is_empty());
    // Of a node that consists of several containers, the node is the root.
    let name = label("clab-root-node-name").or(label("clab-node-name"))?;
    Some(NodeStatus {
        name,
        kind: label("clab-node-kind").unwrap_or_default(),
        image: Some(container.image).filter(|image| !image.is_empty()),
        state: state(&container.state, &container.status),
        ipv4: container.network_settings.ipv4,
        ipv6: container.network_settings.ipv6,
        container_id: container.id.chars().take(12).collect(),
        container_name: container.names.into_iter().next().unwrap_or_default(),
    })
}

fn state(state: &str, status: &str) -> NodeState {
    match state.to_ascii_lowercase().as_str() {
        "running" if status.contains("health: starting") => NodeState::Starting,
        "running" => NodeState::Running,
        "created" | "restarting" | "pending" => NodeState::Starting,
        _ => NodeState::Exited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by containerlab 0.79.0, shortened by what isn't read here.
    const ANSWER: &str = r#"{
  "clabx-2": [
    {
      "Names": ["clab-clabx-2-spine-1"],
      "ID": "d4cba7741bbf1cc99c2a3962d7a499f51b0fd491c15223fa80bd204d2310c7d5",
      "ShortID": "d4cba7741bbf",
      "Image": "lab/busybox:1",
      "State": "running",
      "Status": "Up 1 second",
      "Labels": {
        "clab-mgmt-net-bridge": "br-6b928fcae943",
        "clab-node-group": "",
        "clab-node-kind": "linux",
        "clab-node-lab-dir": "/tmp/clabx/clab-clabx-2/n1",
        "clab-node-longname": "clab-clabx-2-spine-1",
        "clab-node-name": "spine-1",
        "clab-node-type": "",
        "clab-owner": "",
        "clab-topo-file": "/tmp/clabx/b.clab.yml",
        "containerlab": "clabx-2"
      },
      "Pid": 8588,
      "NetworkName": "clab",
      "NetworkSettings": {
        "IPv4addr": "172.20.20.3", "IPv4pLen": 24, "IPv4Gw": "172.20.20.1",
        "IPv6addr": "3fff:172:20:20::3", "IPv6pLen": 64, "IPv6Gw": "3fff:172:20:20::1"
      },
      "Mounts": [{"Source": "", "Destination": ""}],
      "Runtime": {"Client": {}},
      "Ports": []
    },
    {
      "Names": ["clab-clabx-2-n2"],
      "ID": "0b2af13ddca92e52a2dfdae2ed3e6c28f86439ebfa7d5b4264b1c91da61b98f6",
      "Image": "lab/busybox:1", "State": "exited", "Status": "Exited (137) 3 seconds ago",
      "Labels": {"clab-node-kind": "linux", "clab-node-name": "n2", "containerlab": "clabx-2"},
      "NetworkSettings": {"IPv4addr": "", "IPv4pLen": 0}
    },
    {
      "Names": ["sshx-1"], "ID": "ff", "State": "running", "Labels": {"tool-type": "sshx", "containerlab": "clabx-2"}
    }
  ]
}"#;

    #[test]
    fn nodes_are_known_by_their_labels() {
        let labs = parse(ANSWER.as_bytes()).unwrap();
        let [first, second] = &labs["clabx-2"][..] else { panic!("{labs:?}") };
        assert_eq!((first.name.as_str(), first.kind.as_str(), first.state), ("spine-1", "linux", NodeState::Running));
        assert_eq!((first.ipv4.as_str(), first.ipv6.as_str()), ("172.20.20.3", "3fff:172:20:20::3"));
        assert_eq!(
            (first.container_id.as_str(), first.container_name.as_str()),
            ("d4cba7741bbf", "clab-clabx-2-spine-1")
        );
        assert_eq!((second.name.as_str(), second.state, second.ipv4.as_str()), ("n2", NodeState::Exited, ""));
    }

    #[test]
    fn no_labs_and_nonsense_are_told_apart() {
        assert!(parse(b"{}\n").unwrap().is_empty());
        assert!(parse(b"11:55:45 INFO hello").unwrap_err().contains("inspect"));
    }

    #[test]
    fn a_node_is_starting_until_its_health_check_has_succeeded() {
        assert_eq!(state("running", "Up 3 seconds (health: starting)"), NodeState::Starting);
        assert_eq!(state("running", "Up 3 seconds (unhealthy)"), NodeState::Running);
        assert_eq!(state("created", "Created"), NodeState::Starting);
    }
}
