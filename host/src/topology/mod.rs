//! containerlab topology files: what one says, with inheritance applied.
//!
//! A leaf: text in, plain data or an error with its place out. `http` checks definitions with it, `labs` learns the
//! nodes of a lab from it, the runtimes build what it says. It never touches the file system.

use std::collections::BTreeMap;

/// A topology definition with `defaults`, `kinds` and `groups` applied to its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// `name`.
    pub name: String,
    /// `prefix` of container names: `None` where the file has none (containerlab's default is `clab`), empty for none.
    pub prefix: Option<String>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// The links, in the order of the file.
    pub links: Vec<Link>,
}

/// A node, after inheritance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its key under `topology.nodes`, letter for letter.
    pub name: String,
    /// `kind`.
    pub kind: String,
    /// `image`.
    pub image: Option<String>,
    /// `cmd`: what runs in the node instead of the image's own command.
    pub cmd: Option<String>,
    /// `entrypoint`.
    pub entrypoint: Option<String>,
    /// `exec`: commands run in the node, in order, once it is up and its links are there.
    pub exec: Vec<String>,
    /// `env`.
    pub env: BTreeMap<String, String>,
    /// `user` that `cmd` and `exec` run as.
    pub user: Option<String>,
    /// `startup-delay`, in seconds.
    pub startup_delay: u64,
    /// `sysctls` set in the node.
    pub sysctls: BTreeMap<String, String>,
    /// `memory` limit, in bytes.
    pub memory: Option<u64>,
    /// What it asks of the host beyond an ordinary container.
    pub demands: Vec<HostDemand>,
}

/// Something that a node asks of the machine that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDemand {
    /// An entry of `binds`, as it is written.
    Bind(String),
    /// `privileged: true`.
    Privileged,
    /// An entry of `cap-add`.
    Capability(String),
    /// An entry of `devices`.
    Device(String),
    /// `network-mode` other than the default.
    NetworkMode(String),
    /// An entry of `ports`.
    Port(String),
}

/// A point-to-point link between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its two ends.
    pub ends: [Endpoint; 2],
    /// `mtu`, in bytes; `None`: containerlab's default, 9500.
    pub mtu: Option<u32>,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of a node of this topology.
    pub node: String,
    /// Name of the interface in that node.
    pub interface: String,
    /// MAC address, such as `02:00:00:00:00:01`.
    pub mac: Option<String>,
    /// Address with prefix length, such as `10.0.0.1/30`.
    pub ipv4: Option<String>,
    /// Address with prefix length.
    pub ipv6: Option<String>,
}
