//! Resources that labs take, and how much of them.

use crate::topology::Topology;

/// Most memory that a lab counts for, in bytes: so much that sums stay within their type.
const MOST_MEMORY: u64 = 1 << 53;

/// Something that labs take and that there is only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Labs at once.
    Labs,
    /// Nodes of labs.
    Nodes,
    /// Memory of nodes.
    Memory,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Labs, Self::Nodes, Self::Memory];
}

/// So much of each resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Labs.
    pub labs: u64,
    /// Nodes.
    pub nodes: u64,
    /// Memory, in bytes.
    pub memory: u64,
}

impl Amounts {
    /// What one lab of this topology takes; a node that names no memory counts for `memory_per_node` bytes.
    pub fn of_lab(topology: &Topology, memory_per_node: u64) -> Self {
        let memory = topology.nodes.iter().map(|node| node.memory.unwrap_or(memory_per_node));
        let memory = memory.fold(0, u64::saturating_add).min(MOST_MEMORY);
        Self { labs: 1, nodes: topology.nodes.len() as u64, memory }
    }

    /// How much of one resource.
    pub fn of(self, resource: Resource) -> u64 {
        match resource {
            Resource::Labs => self.labs,
            Resource::Nodes => self.nodes,
            Resource::Memory => self.memory,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    pub(super) fn max(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    fn each(self, other: Self, by: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            labs: by(self.labs, other.labs),
            nodes: by(self.nodes, other.nodes),
            memory: by(self.memory, other.memory),
        }
    }
}

/// How much of each resource may be taken at once; `None`: any amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Labs.
    pub labs: Option<u64>,
    /// Nodes.
    pub nodes: Option<u64>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
}

impl Limits {
    /// That of one resource.
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Labs => self.labs,
            Resource::Nodes => self.nodes,
            Resource::Memory => self.memory,
        }
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
