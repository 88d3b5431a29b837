//! One reading of what a container uses.

use std::time::Duration;

use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;

use super::{Docker, DockerError, LIMIT};

/// What a container has used. Rates are for the caller to make from two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor time since it was started, all processors together.
    pub cpu: Duration,
    /// Bytes of memory in use, without what the kernel would give back at once (inactive pages of files).
    pub memory: u64,
    /// Bytes of memory that it may use.
    pub memory_limit: u64,
    /// Processes and threads in it.
    pub processes: u64,
    /// Bytes received on the interfaces that the engine made. Links of containerlab are none of these.
    pub received: u64,
    /// Bytes sent there.
    pub sent: u64,
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
        // The first name is that of cgroups v2, the second that of v1.
        let inactive = cache("inactive_file").or_else(|| cache("total_inactive_file")).unwrap_or_default();
        let networks = answer.networks.unwrap_or_default();
        let cpu = answer.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        Ok(Stats {
            cpu: Duration::from_nanos(cpu.unwrap_or_default()),
            memory: memory.usage.unwrap_or_default().saturating_sub(inactive),
            memory_limit: memory.limit.unwrap_or_default(),
            processes: answer.pids_stats.and_then(|processes| processes.current).unwrap_or_default(),
            received: networks.values().filter_map(|network| network.rx_bytes).sum(),
            sent: networks.values().filter_map(|network| network.tx_bytes).sum(),
        })
    }
}
