//! What nodes use of the machine, as every runtime tells it: plain data, and how texts of the kernel become it.
//!
//! Drivers make these, `crate::stats` samples them, and the edges show them. Figures are totals since the node was started;
//! rates are for whoever has two readings.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Most interfaces of a node that are told. Whoever is root in a node may make as many as they like.
pub(super) const MOST_INTERFACES: usize = 128;
/// The same for all nodes of an instance together.
pub(super) const MOST_OF_INSTANCE: usize = 4096;

/// What a node uses at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStats {
    /// Name of the node in the topology.
    pub node: String,
    /// When that was so.
    pub at: Instant,
    /// `None`: it doesn't run.
    pub usage: Option<Usage>,
}

/// What a running node uses. What can't be found out is `None`, or not in the list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time that its processes have had, all processors together.
    pub cpu: Option<Duration>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// Its processes and their threads.
    pub processes: Option<u64>,
    /// Its interfaces but for loopback, in the order in which they were made.
    pub interfaces: Vec<Interface>,
}

/// Memory of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes in use, without what the kernel would give back at once (pages of files that nobody has used lately).
    pub bytes: u64,
    /// Bytes that it may use; `None`: as many as the machine has.
    pub limit: Option<u64>,
}

/// An interface of a node, and what went over it since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the node.
    pub name: String,
    /// Whether something can go over it: it is switched on, and so is the other end of its link.
    pub up: Option<bool>,
    /// Bytes of a packet that goes over it in one piece.
    pub mtu: Option<u32>,
    /// Its hardware address, where it has one of Ethernet.
    pub mac: Option<String>,
    /// What came in.
    pub received: Counters,
    /// What went out.
    pub sent: Counters,
}

/// What went over an interface in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes, with the headers of Ethernet.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that there was no room for, or nobody wanted.
    pub dropped: u64,
}

/// Keeps the interfaces of an instance within [`MOST_OF_INSTANCE`]: of those beyond, nothing is told.
pub(super) fn bound_interfaces<'a>(nodes: impl Iterator<Item = &'a mut Usage>) {
    let mut left = MOST_OF_INSTANCE;
    for usage in nodes {
        usage.interfaces.truncate(MOST_INTERFACES.min(left));
        left -= usage.interfaces.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_interfaces_nodes_make_a_reading_stays_small() {
        let many = Usage { interfaces: vec![Interface::default(); 1000], ..Usage::default() };
        let mut nodes = vec![many; 200];
        bound_interfaces(nodes.iter_mut());
        assert_eq!(nodes[0].interfaces.len(), MOST_INTERFACES);
        assert_eq!(nodes.iter().map(|node| node.interfaces.len()).sum::<usize>(), MOST_OF_INSTANCE);
    }
}
