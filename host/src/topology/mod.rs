//! containerlab topology files: what one says, with inheritance applied.
//!
//! A leaf: text in, plain data or an error with its place out. `http` checks definitions with it, `labs` learns the
//! nodes of a lab from it, the runtimes build what it says. It never touches the file system.
//!
//! `devices` and `schema` are for those who write definitions: kinds of nodes, and a JSON schema.
//!
//! `raw` reads the YAML as it is written and remembers where each value stands, `inherit` applies `defaults`,
//! `kinds` and `groups`, `links` checks both notations of links, `files` tells what lies beside the definition from what is
//! the host's, and `place` names the place of an error.
//!
//! Containerlab expands `${VARIABLES}` of its own environment before it reads a file. That is not done here, so that no
//! definition can ask for the environment of the server.

pub mod devices;
mod files;
mod inherit;
mod links;
mod place;
mod raw;
pub mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::files::{BadPath, FileBind, Named, file_path};
pub(crate) use self::inherit::size;
pub use self::place::Place;
pub(crate) use self::raw::limits;

/// Definitions of more bytes than these are refused unread. The largest that people write are a tenth of it.
pub const MAX_BYTES: usize = 1 << 20;

/// The most that the nodes of one definition may come to after inheritance, in bytes.
const MAX_INHERITED: usize = 16 << 20;

/// Longest name of a topology or node, in bytes: both become parts of host names and file names.
const MAX_NAME: usize = 63;

/// What is wrong with a definition, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Longer than [`MAX_BYTES`].
    #[error("the definition is {0} bytes long; the most that is read is {MAX_BYTES}")]
    TooLarge(usize),
    /// Not YAML, or YAML of another shape than a topology's.
    #[error("{place}: {problem}")]
    Malformed {
        /// Where.
        place: Place,
        /// What, and the remedy.
        problem: String,
    },
    /// Well-formed, but it makes no sense.
    #[error("{place}: {problem}")]
    Invalid {
        /// Where.
        place: Place,
        /// What, and the remedy.
        problem: String,
    },
}

/// A topology definition with `defaults`, `kinds` and `groups` applied to its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// `name`.
    pub name: String,
    /// `prefix` of container names: `None` where the file has none (containerlab's default is `clab`), empty for none.
    pub prefix: Option<String>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// The links between nodes, in the order of the file. Those that lead out of it are demands of their nodes.
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
    /// `runtime`: the engine that containerlab shall make it with, where the file names one.
    pub runtime: Option<String>,
    /// Entries of `binds` that mean files beside the definition.
    pub binds: Vec<FileBind>,
    /// What it asks of the host beyond an ordinary container.
    pub demands: Vec<HostDemand>,
}

/// Something that a node asks of the machine that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDemand {
    /// An entry of `binds` or `volumes`, or another path of the host that a node reads from outside the topology's own
    /// folder (`startup-config`, `license`, `env-files`, `extras`, keys and certificates), as it is written; also an
    /// address that the host would fetch one of these from. What means a file beside the definition is none ([`FileBind`]).
    Bind(String),
    /// `privileged: true`, or anything else that gives a node the powers of its host: kind `host`, containers from
    /// elsewhere (`ext-container`, `k8s-kind`), `pid-mode`, `cgroupns-mode` or `security-opts` other than the defaults,
    /// `cgroup-parent`, stages that run commands on the host. What a runtime gives all nodes of a kind by itself, as
    /// containerlab does, is no demand: it is the operator's choice of runtime, and nothing that a topology says.
    Privileged,
    /// An entry of `cap-add`.
    Capability(String),
    /// An entry of `devices`.
    Device(String),
    /// `network-mode` other than the default, or another network than that of labs: `network NAME` and `bridge NAME`, as
    /// `mgmt` or a node of kind `bridge` or `ovs-bridge` names them; also a link that leads out of the topology, as
    /// `link host:eth1`.
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

impl Topology {
    /// Reads a definition that has no files beside it.
    ///
    /// # Errors
    /// As [`Self::parse_beside`].
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        Self::parse_beside(text, &[])
    }

    /// Reads a definition that lies beside these files: their paths, as [`file_path`] answers them.
    ///
    /// Keys that don't matter here are passed over; those that do are checked, and so are keys that look like
    /// misspelt ones. Input that is out of proportion (size, nesting, alias expansion) is refused before it costs much.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, column and path as far as they are known, and the remedy.
    pub fn parse_beside(text: &str, files: &[String]) -> Result<Self, TopologyError> {
        let places = place::Places::of(text);
        let file = raw::read(text)?;
        raw::refuse_misspelt(&file, &places)?;

        let name = match &file.name {
            Some(name) if !name.value.is_empty() => name,
            _ => return Err(places.invalid_at("name", "the topology has no name; add a line such as `name: my-lab`")),
        };
        check_name(&name.value, "topology names", "").map_err(|problem| places.invalid(name, problem))?;
        let prefix = match &file.prefix {
            Some(prefix) if prefix.value.is_empty() || prefix.value == LAB_NAME_PREFIX => Some(prefix.value.clone()),
            Some(prefix) => {
                check_name(&prefix.value, "prefixes", "").map_err(|problem| places.invalid(prefix, problem))?;
                Some(prefix.value.clone())
            }
            None => None,
        };

        let body = file.topology.as_ref().filter(|body| !body.nodes.is_empty()).ok_or_else(|| {
            places.invalid_at(
                "topology.nodes",
                "the topology has no nodes; list at least one, such as `r1: {kind: linux}`",
            )
        })?;
        let shared = inherit::shared_demands(&file);
        let mut nodes = Vec::with_capacity(body.nodes.len());
        // Every node repeats what it inherits, so a short text can describe more than fits into memory.
        let mut inherited = 0;
        for (name, _) in body.nodes.iter() {
            check_name(&name.value, "node names", "|").map_err(|problem| places.invalid(name, problem))?;
            let node = inherit::node(body, name, &shared, files, &places)?;
            inherited += node.weight();
            if inherited > MAX_INHERITED {
                let problem = format!("the nodes up to here inherit more than {MAX_INHERITED} bytes of settings");
                return Err(places.invalid(name, problem));
            }
            nodes.push(node);
        }
        let (links, outward) = links::read(body, &nodes, &places)?;
        for (name, demand) in outward {
            nodes.iter_mut().filter(|node| node.name == name).for_each(|node| node.demands.push(demand.clone()));
        }
        Ok(Self { name: name.value.clone(), prefix, nodes, links })
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Name that containerlab gives the container of `node` in a lab that it knows as `lab`.
    pub fn container_name(&self, lab: &str, node: &str) -> String {
        match self.prefix.as_deref() {
            None => format!("clab-{lab}-{node}"),
            Some("") => node.to_owned(),
            Some(LAB_NAME_PREFIX) => format!("{lab}-{node}"),
            Some(prefix) => format!("{prefix}-{lab}-{node}"),
        }
    }
}

impl Node {
    /// About as many bytes as it takes.
    fn weight(&self) -> usize {
        let list = |entries: &[String]| entries.iter().map(|entry| entry.len() + 32).sum::<usize>();
        let map = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len() + 64).sum::<usize>();
        let one = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        let demand = |demand: &HostDemand| match demand {
            HostDemand::Privileged => 32,
            HostDemand::Bind(text)
            | HostDemand::Capability(text)
            | HostDemand::Device(text)
            | HostDemand::NetworkMode(text)
            | HostDemand::Port(text) => text.len() + 32,
        };
        let single = one(&self.image) + one(&self.cmd) + one(&self.entrypoint) + one(&self.user);
        let demands: usize = self.demands.iter().map(demand).sum();
        let binds: usize = self.binds.iter().map(|bind| 2 * bind.entry.len() + 96).sum();
        256 + self.kind.len() + single + list(&self.exec) + map(&self.env) + map(&self.sysctls) + binds + demands
    }
}

/// The `prefix` that stands for: nothing but the lab's name.
const LAB_NAME_PREFIX: &str = "__lab-name";

/// Names are what containerlab's schema allows: ASCII letters and digits first, then also `-`, `.`, `_` and `extra`.
fn check_name(name: &str, what: &str, extra: &str) -> Result<(), String> {
    let rule = || {
        let or = if extra.is_empty() { "" } else { " or `|`" };
        format!("{what} begin with a letter or digit of ASCII and go on with those, `-`, `.`, `_`{or}")
    };
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!("`{}` is not a valid name; {}", shown(name), rule()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || extra.contains(c);
    if let Some(odd) = name.chars().find(|&c| !allowed(c)) {
        return Err(format!("`{}` is not a valid name: it contains {odd:?}; {}", shown(name), rule()));
    }
    if name.len() > MAX_NAME {
        return Err(format!("`{}` is {} characters long; {what} have at most {MAX_NAME}", shown(name), name.len()));
    }
    Ok(())
}

/// `text` as a message may show it: short, and free of control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
