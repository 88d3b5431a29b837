//! What nodes use as clients see it, over REST and over Socket.IO alike.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::Time;
use super::whole_milliseconds;
use crate::runtime::stats::{Interface, Memory};
use crate::stats::{NodeReading, Reading};

/// What the nodes of a lab use at one moment. What can't be found out is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LabStats)]
pub(crate) struct StatsJson {
    #[schema(value_type = Time)]
    at: Timestamp,
    nodes: Vec<NodeStatsJson>,
}

/// What a node uses.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NodeStats)]
struct NodeStatsJson {
    /// Its name.
    node: String,
    /// Whether it runs. If not, all else is null, and there are no interfaces.
    running: bool,
    #[schema(required)]
    cpu: Option<CpuJson>,
    #[schema(required)]
    memory: Option<MemoryJson>,
    /// Processes and their threads.
    #[schema(required)]
    processes: Option<u64>,
    /// Without loopback. Of a container engine on another machine, those alone that it made itself, which are no links.
    interfaces: Vec<InterfaceJson>,
}

/// Processor time of a node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CpuStats)]
struct CpuJson {
    /// Since its processes were started, all processors together.
    seconds: f64,
    /// Of one processor, since the reading before in the same feed; null in the first.
    #[schema(required)]
    percent: Option<f64>,
}

/// Memory of a node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MemoryStats)]
struct MemoryJson {
    /// In use.
    bytes: u64,
    /// What it may use; null: as much as there is.
    #[schema(required)]
    limit: Option<u64>,
}

/// An interface of a node, and what has gone over it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InterfaceStats)]
struct InterfaceJson {
    name: String,
    /// Whether something can go over it.
    #[schema(required)]
    up: Option<bool>,
    #[schema(required)]
    mtu: Option<u32>,
    /// Such as `02:00:00:00:00:01`.
    #[schema(required)]
    mac: Option<String>,
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

impl From<&Reading> for StatsJson {
    fn from(reading: &Reading) -> Self {
        Self { at: whole_milliseconds(reading.at), nodes: reading.nodes.iter().map(NodeStatsJson::from).collect() }
    }
}

impl From<&NodeReading> for NodeStatsJson {
    fn from(NodeReading { stats, percent }: &NodeReading) -> Self {
        let usage = stats.usage.as_ref();
        let tenths = |percent: f64| (percent * 10.0).round() / 10.0;
        Self {
            node: stats.node.clone(),
            running: usage.is_some(),
            cpu: usage
                .and_then(|usage| usage.cpu)
                .map(|cpu| CpuJson { seconds: cpu.as_secs_f64(), percent: percent.map(tenths) }),
            memory: usage.and_then(|usage| usage.memory).map(|Memory { bytes, limit }| MemoryJson { bytes, limit }),
            processes: usage.and_then(|usage| usage.processes),
            interfaces: usage.into_iter().flat_map(|usage| &usage.interfaces).map(InterfaceJson::from).collect(),
        }
    }
}

impl From<&Interface> for InterfaceJson {
    fn from(Interface { name, up, mtu, mac, received, sent }: &Interface) -> Self {
        Self {
            name: name.clone(),
            up: *up,
            mtu: *mtu,
            mac: mac.clone(),
            rx_bytes: received.bytes,
            rx_packets: received.packets,
            rx_errors: received.errors,
            rx_dropped: received.dropped,
            tx_bytes: sent.bytes,
            tx_packets: sent.packets,
            tx_errors: sent.errors,
            tx_dropped: sent.dropped,
        }
    }
}
