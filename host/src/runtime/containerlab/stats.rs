//! What nodes use: the engine says it of processors and memory, and the kernel of interfaces, of which the engine knows none
//! that containerlab made.
//!
//! Interfaces are looked at in the network namespaces of the containers, where these are on this machine. Where they aren't,
//! the engine's own figures have to do: the management interface, without the links.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};

use super::driver::Shared;
use crate::labs::model::{NodeState, NodeStatus};
use crate::runtime::docker::{Container, DockerError, Phase};
use crate::runtime::stats::{Memory, NodeStats, Usage, bound_interfaces};
use crate::runtime::{RuntimeError, interfaces};

/// How many containers of an instance are looked at at once.
const AT_ONCE: usize = 16;
/// The same for all instances: however many are watched, the engine has other things to do.
pub(super) const AT_ONCE_IN_ALL: usize = 32;
/// How long each may take. Of one that takes longer nothing is known, and the others don't wait for it.
const LIMIT: Duration = Duration::from_secs(4);

impl Shared {
    /// What each node of an instance uses.
    pub(super) async fn stats(&self, instance: &str) -> Result<Vec<NodeStats>, RuntimeError> {
        let mut stats: Vec<NodeStats> = if self.docker_sees_nodes() {
            let containers = self.docker().containers(Some(instance)).await?;
            let readings = stream::iter(containers).map(|container| self.stats_of(container)).buffered(AT_ONCE);
            let mut nodes: Vec<NodeStats> = Vec::new();
            for part in readings.collect::<Vec<_>>().await {
                match nodes.last_mut().filter(|node| node.node == part.node) {
                    // Of several containers of one node, the first stands for it, and says what its interfaces are.
                    Some(node) => add(&mut node.usage, part.usage),
                    None => nodes.push(part),
                }
            }
            nodes
        } else {
            let unknown = |node: NodeStatus| NodeStats {
                usage: (node.state != NodeState::Exited).then(Usage::default),
                node: node.name,
                at: Instant::now(),
            };
            self.nodes(instance).await?.into_iter().map(unknown).collect()
        };
        if stats.is_empty() {
            return Err(RuntimeError::NoInstance(instance.to_owned()));
        }
        bound_interfaces(stats.iter_mut().filter_map(|node| node.usage.as_mut()));
        Ok(stats)
    }

    async fn stats_of(&self, container: Container) -> NodeStats {
        // An error means that it was closed, and nobody closes it.
        let _turn = self.readings.acquire().await;
        let usage = match container.phase {
            Phase::Running => tokio::time::timeout(LIMIT, self.usage(&container)).await.unwrap_or_else(|_| {
                tracing::debug!(node = container.name, "what it uses could not be found out in time");
                Some(Usage::default())
            }),
            _ => None,
        };
        NodeStats { node: container.node, at: Instant::now(), usage }
    }

    /// `None`: it has ended meanwhile.
    async fn usage(&self, container: &Container) -> Option<Usage> {
        let id = container.id.as_str();
        let (details, stats) = tokio::join!(self.docker().details(id), self.docker().stats(id));
        let unknown = |error: &DockerError| tracing::debug!(node = container.name, %error, "what it uses is not known");
        let details = match details {
            Ok(details) if !details.running => return None,
            Err(DockerError::NotFound(_)) => return None,
            details => details.inspect_err(unknown).ok(),
        };
        let stats = stats.inspect_err(unknown).unwrap_or_default();
        let limit = details.as_ref().and_then(|details| details.memory_limit);
        let interfaces = match details.and_then(|details| details.pid) {
            Some(pid) => interfaces::of_container(pid, id).await.inspect_err(|error| {
                tracing::debug!(node = container.name, %error, "its interfaces are those that the engine knows");
            }),
            None => Err(std::io::Error::other("it has no process")),
        };
        Some(Usage {
            cpu: stats.cpu,
            memory: stats.memory.map(|bytes| Memory { bytes, limit }),
            processes: stats.processes,
            interfaces: interfaces.unwrap_or(stats.interfaces),
        })
    }
}

/// Adds what another container of the same node uses.
fn add(node: &mut Option<Usage>, part: Option<Usage>) {
    let (Some(node), Some(part)) = (node, part) else { return };
    node.cpu = node.cpu.zip(part.cpu).map(|(one, other)| one + other);
    node.processes = node.processes.zip(part.processes).map(|(one, other)| one + other);
    node.memory = node.memory.zip(part.memory).map(|(one, other)| Memory {
        bytes: one.bytes + other.bytes,
        limit: one.limit.zip(other.limit).map(|(one, other)| one + other),
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::stats::Interface;

    #[test]
    fn the_containers_of_a_node_are_added_up_and_the_first_has_the_interfaces() {
        let part = |seconds, limit| {
            let memory = Some(Memory { bytes: 10, limit });
            let interfaces = vec![Interface { name: format!("e{seconds}"), ..Interface::default() }];
            Some(Usage { cpu: Some(Duration::from_secs(seconds)), memory, processes: Some(1), interfaces })
        };
        let mut node = part(1, Some(100));
        add(&mut node, part(2, Some(50)));
        add(&mut node, None);
        let usage = node.as_ref().unwrap();
        assert_eq!((usage.cpu, usage.processes), (Some(Duration::from_secs(3)), Some(2)));
        assert_eq!(usage.memory, Some(Memory { bytes: 20, limit: Some(150) }));
        assert_eq!((usage.interfaces.len(), usage.interfaces[0].name.as_str()), (1, "e1"));
        add(&mut node, part(4, None));
        assert_eq!(node.unwrap().memory, Some(Memory { bytes: 30, limit: None }), "one part is not limited");
    }
}
