//! One reading of what a container uses.

use std::time::Duration;

use bollard::models::ContainerNetworkStats;
use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;

use super::{Docker, DockerError, LIMIT};
use crate::runtime::stats::{Counters, Interface};

/// What a container has used. Rates are for the caller to make from two readings. What the engine doesn't say, of a container
/// that doesn't run for instance, is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor time since it was started, all processors together.
    pub cpu: Option<Duration>,
    /// Bytes of memory in use, without what the kernel would give back at once (inactive pages of files).
    pub memory: Option<u64>,
    /// Processes and threads in it.
    pub processes: Option<u64>,
    /// The interfaces that the engine made, by name. Links of containerlab are none of these.
    pub interfaces: Vec<Interface>,
}

impl Docker {
    /// What a running container has used so far.
    ///
    /// # Errors
    /// [`DockerError::NotFound`]; others when the engine doesn't answer.
    pub async fn stats(&self, id: &str) -> Result<Stats, DockerError> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut answers = std::pin::pin!(self.inner.api.stats(id, Some(options)));
        let answer = self.limited("reading statistics", LIMIT, async { answers.next().await.transpose() }).await?;
        let answer = answer.ok_or_else(|| DockerError::Broken("no statistics came".to_owned()))?;
        let memory = answer.memory_stats.unwrap_or_default();
        let cache = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name).copied());
        // The first is that of cgroups v1, whose other name there is without what is below; the second that of v2.
        let inactive = cache("total_inactive_file").or_else(|| cache("inactive_file")).unwrap_or_default();
        let cpu = answer.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        let networks = answer.networks.unwrap_or_default();
        let mut interfaces: Vec<_> = networks.into_iter().map(|(name, network)| interface(name, &network)).collect();
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Stats {
            cpu: cpu.map(Duration::from_nanos),
            memory: memory.usage.map(|usage| usage.saturating_sub(inactive)),
            processes: answer.pids_stats.and_then(|processes| processes.current),
            interfaces,
        })
    }
}

fn interface(name: String, network: &ContainerNetworkStats) -> Interface {
    let counters = |bytes: Option<u64>, packets: Option<u64>, errors: Option<u64>, dropped: Option<u64>| Counters {
        bytes: bytes.unwrap_or_default(),
        packets: packets.unwrap_or_default(),
        errors: errors.unwrap_or_default(),
        dropped: dropped.unwrap_or_default(),
    };
    Interface {
        name,
        received: counters(network.rx_bytes, network.rx_packets, network.rx_errors, network.rx_dropped),
        sent: counters(network.tx_bytes, network.tx_packets, network.tx_errors, network.tx_dropped),
        ..Interface::default()
    }
}
