//! What is measured, and what it took: one file per kind of load.

pub(crate) mod acks;
pub(crate) mod fanout;
pub(crate) mod memory;

use std::time::{Duration, Instant};

use crate::contest::Running;
use crate::machine;

/// Reads the clocks at the beginning of something.
pub(crate) struct Meter {
    process: u32,
    began: Instant,
    server: Duration,
    client: Duration,
    machine: Duration,
    switches: u64,
}

/// What something took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    /// Processor time of the server's process.
    pub(crate) server: Duration,
    /// Processor time of this process.
    pub(crate) client: Duration,
    /// Processor time of everything else on the machine.
    pub(crate) others: Duration,
    /// How often threads of the server went to sleep.
    pub(crate) switches: u64,
}

impl Meter {
    pub(crate) fn start(running: &Running) -> anyhow::Result<Self> {
        let process = running.process.id();
        Ok(Self {
            process,
            server: machine::cpu_of(process)?,
            client: machine::own_cpu()?,
            machine: machine::busy()?,
            switches: machine::switches(process)?.0,
            began: Instant::now(),
        })
    }

    pub(crate) fn stop(self) -> anyhow::Result<Used> {
        let wall = self.began.elapsed();
        let server = machine::cpu_of(self.process)? - self.server;
        let client = machine::own_cpu()? - self.client;
        let others = machine::busy()?.saturating_sub(self.machine).saturating_sub(server + client);
        let switches = machine::switches(self.process)?.0.saturating_sub(self.switches);
        Ok(Used { wall, server, client, others, switches })
    }
}

/// The value below which `share` of the sorted `values` are.
pub(crate) fn percentile(values: &[Duration], share: f64) -> Duration {
    let index = ((values.len() as f64 - 1.0) * share).round() as usize;
    values.get(index).copied().unwrap_or_default()
}
