//! The management networks of labs: which one a lab has, who makes it, and how it goes when nobody uses it any more.
//!
//! Whatever is destroyed last takes its network along. What can't be removed at that moment is noted and tried again, by one
//! task for all of them. Networks are told by name, and only those go that containerlab has marked as made by it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leftovers;
use super::network_gate::NetworkGates;
use crate::runtime::LogSink;
use crate::runtime::docker::{Docker, Removal};
use crate::topology::{HostDemand, Topology};

/// The management network that labs share unless they name another.
pub(super) const SHARED: &str = "clab";
/// How old the network that labs share is before it may be removed: whoever has just made it may be somebody who knows nothing
/// of gates, and be about to use it.
const SHARED_AGE: Duration = Duration::from_secs(60);
/// How long others wait at most for the network that a deploy makes, and how often it is looked for.
const MAKING_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);
/// After which time the removal of a network is tried again; doubled each time, up to the second.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(120);
/// How often it is tried at all: for a day or so.
const MOST_TRIES: u32 = 700;

/// The networks of one engine, as one server deals with them.
pub(super) struct Networks {
    docker: Docker,
    /// While somebody deploys, the management network stays, although no container may use it yet.
    gates: NetworkGates,
    /// Held by the deploy that is going to make its management network. containerlab looks whether there is one and makes it
    /// if not; of two that do so at once, one fails.
    making: tokio::sync::Mutex<()>,
    /// The networks that are to be removed later on.
    due: Mutex<BTreeMap<String, Due>>,
    noted: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    tries: u32,
}

/// The management network of its nodes.
pub(super) fn of(topology: &Topology) -> &str {
    let demands = topology.nodes.iter().flat_map(|node| &node.demands);
    let mut named = demands.filter_map(|demand| match demand {
        HostDemand::NetworkMode(mode) => mode.strip_prefix("network "),
        _ => None,
    });
    named.next_back().unwrap_or(SHARED)
}

impl Networks {
    /// Those of `docker`.
    pub(super) fn new(docker: Docker) -> Self {
        Self {
            docker,
            gates: NetworkGates::new(SHARED),
            making: tokio::sync::Mutex::default(),
            due: Mutex::default(),
            noted: Notify::new(),
        }
    }

    /// Does `run`, a deploy that uses this network: it stays meanwhile. Others that need the same wait until there is one. Not
    /// for ever: a run of containerlab may hang.
    pub(super) async fn during<T>(&self, network: &str, cancel: &CancellationToken, run: impl Future<Output = T>) -> T {
        let _entered = self.gates.enter(network).await;
        let is_there = async || self.docker.has_network(network).await.unwrap_or(false);
        if is_there().await {
            return run.await;
        }
        let turn = tokio::select! {
            turn = self.making.lock() => turn,
            () = cancel.cancelled() => return run.await,
        };
        let made = async {
            while !is_there().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        let made = tokio::time::timeout(MAKING_LIMIT, made);
        tokio::pin!(run);
        tokio::select! {
            result = &mut run => return result,
            _ = made => drop(turn),
        }
        run.await
    }

    /// Removes a network that containerlab has made if no container uses it any more, now or as soon as that can be done.
    /// While somebody deploys with it, it is left to them: they come here in the end.
    pub(super) async fn remove(&self, network: &str, log: &LogSink) {
        if !self.try_remove(network, log).await {
            let wait = if network == SHARED { SHARED_AGE + FIRST_RETRY } else { FIRST_RETRY };
            self.due().entry(network.to_owned()).or_insert(Due { at: Instant::now() + wait, tries: 1 });
            self.noted.notify_one();
        }
    }

    /// Whether there is nothing more to do about it.
    async fn try_remove(&self, network: &str, log: &LogSink) -> bool {
        let Some(_closed) = self.gates.close(network).await else { return false };
        let youngest = if network == SHARED { SHARED_AGE } else { Duration::ZERO };
        match self.docker.remove_unused_network(network, youngest).await {
            Ok(Removal::Removed { bridge }) => {
                leftovers::clear_firewall(&bridge).await;
                log.line(&format!("Removed network {network}"));
                true
            }
            Ok(Removal::Kept) => true,
            Ok(Removal::TooEarly) => false,
            Err(error) => {
                log.line(&format!("Network {network} can't be removed at present, and is later on: {error}"));
                false
            }
        }
    }

    /// Removes what could not be removed at once, until the server ends. What that leaves is removed when the next lab with
    /// that network is destroyed.
    pub(super) async fn remove_what_is_due(self: Arc<Self>, closing: CancellationToken) {
        let log: LogSink = Arc::new(|line: &str| tracing::info!("{line}"));
        loop {
            let next = self.due().iter().map(|(name, due)| (due.at, name.clone())).min();
            let Some((at, network)) = next else {
                if closing.run_until_cancelled(self.noted.notified()).await.is_none() {
                    return;
                }
                continue;
            };
            tokio::select! {
                () = closing.cancelled() => return,
                // There may be one now that is due before it.
                () = self.noted.notified() => continue,
                () = tokio::time::sleep_until(at) => {}
            }
            let done = self.try_remove(&network, &log).await;
            let mut all = self.due();
            let Some(due) = all.get_mut(&network) else { continue };
            if done || due.tries >= MOST_TRIES {
                all.remove(&network);
                continue;
            }
            due.at = Instant::now() + (FIRST_RETRY * 2_u32.saturating_pow(due.tries.min(16))).min(LONGEST_RETRY);
            due.tries += 1;
        }
    }

    /// Whether a network of a lab's own is there, which is no network of all labs.
    pub(super) async fn is_left(&self, network: &str) -> bool {
        network != SHARED && self.docker.has_network(network).await.unwrap_or(false)
    }

    fn due(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
