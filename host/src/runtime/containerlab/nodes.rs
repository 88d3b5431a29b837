//! Starting, stopping and restarting one node of a running lab.
//!
//! Containerlab's own commands keep the links of a node while it is stopped. They can't do so when its process has ended by
//! itself: its network namespace has gone then, and the links of its neighbours with it. Such links are made again when the node
//! is started.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::driver::{Life, Shared, failed, words};
use super::program::Run;
use crate::labs::model::NodeStatus;
use crate::runtime::docker::{Container, DockerError, Phase};
use crate::runtime::{LogSink, NodeAction, RuntimeError};
use crate::topology::{Endpoint, Link, Topology};

/// How long starting a node may take, and stopping it beyond its grace period. Some kinds prepare a lot.
const LIMIT: Duration = Duration::from_secs(300);

impl Shared {
    /// Does something to a node, and answers what has become of it.
    pub(super) async fn node(
        &self,
        instance: &str,
        node: &str,
        action: NodeAction,
    ) -> Result<NodeStatus, RuntimeError> {
        let life = self.life(instance);
        let done = life.meanwhile(self.node_of(&life, instance, node, action)).await;
        match done {
            Some(done) if !life.over.is_cancelled() => done,
            _ if self.closing.is_cancelled() => Err(RuntimeError::Cancelled),
            // Somebody destroys it.
            _ => Err(RuntimeError::NoInstance(instance.to_owned())),
        }
    }

    async fn node_of(
        &self,
        life: &Life,
        instance: &str,
        node: &str,
        action: NodeAction,
    ) -> Result<NodeStatus, RuntimeError> {
        let turn = self.turn(instance, node);
        let Some(_turn) = life.over.run_until_cancelled(turn.lock()).await else { return Err(RuntimeError::Cancelled) };
        let container = self.container(instance, node).await?;
        let _expected = self.watch.expect_node(instance, node);
        if matches!(action, NodeAction::Stop | NodeAction::Restart) {
            self.change(life, &container, "stop").await?;
        }
        if action == NodeAction::Start && container.phase == Phase::Paused {
            // Somebody has frozen it. It has its links still, and goes on; containerlab would refuse to start it.
            self.docker().start(&container.id).await?;
        } else if matches!(action, NodeAction::Start | NodeAction::Restart) {
            self.change(life, &container, "start").await?;
            self.make_links_again(life, &container).await;
        }
        Ok(self.container(instance, node).await?.status())
    }

    fn turn(&self, instance: &str, node: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, turn| turn.strong_count() > 0);
        let key = (instance.to_owned(), node.to_owned());
        if let Some(turn) = busy.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        busy.insert(key, Arc::downgrade(&turn));
        turn
    }

    async fn container(&self, instance: &str, node: &str) -> Result<Container, RuntimeError> {
        let containers = self.docker().containers(Some(instance)).await?;
        if containers.is_empty() {
            return Err(RuntimeError::NoInstance(instance.to_owned()));
        }
        let found = containers.into_iter().find(|container| container.node == node);
        found.ok_or_else(|| RuntimeError::NoNode(node.to_owned()))
    }

    /// Starts or stops a node: with containerlab, which keeps its links, or where that can't, with Docker.
    async fn change(&self, life: &Life, container: &Container, command: &str) -> Result<(), RuntimeError> {
        let (node, grace) = (&container.node, self.config.stop_grace());
        let Some(file) = topology_file(container).filter(|_| self.found.program.lifecycle) else {
            tracing::warn!(
                lab = container.lab,
                node,
                command,
                "containerlab can't do this here: the node loses its links"
            );
            let done = async {
                match command {
                    "stop" => self.docker().stop(&container.id, grace).await,
                    _ => self.docker().start(&container.id).await,
                }
            };
            let Some(done) = life.over.run_until_cancelled(done).await else { return Err(RuntimeError::Cancelled) };
            return done.map_err(|error: DockerError| RuntimeError::Failed(format!("node {node}: {error}")));
        };
        let mut arguments =
            words([command.as_ref(), "--topo".as_ref(), file.as_os_str(), "--node".as_ref(), node.as_ref()]);
        if command == "stop" {
            // Its limit for questions to the engine is also the grace period of a node's process.
            arguments.extend(words(["--timeout".as_ref(), format!("{}s", grace.as_secs()).as_ref()]));
        }
        self.run_for_node(life, container, file, arguments, grace + LIMIT).await
    }

    /// Runs the program about one node. What it logs is for the server's log: nobody waits for it elsewhere.
    async fn run_for_node(
        &self,
        life: &Life,
        container: &Container,
        file: &Path,
        arguments: Vec<std::ffi::OsString>,
        limit: Duration,
    ) -> Result<(), RuntimeError> {
        let (lab, node) = (container.lab.clone(), container.node.clone());
        let log: LogSink = Arc::new(move |line: &str| tracing::info!(lab, node, "{line}"));
        let dir = file.parent().unwrap_or(Path::new("/"));
        let run = Run { arguments, dir, log: &log, cancel: &life.over, limit: Some(limit) };
        self.program.run(run).await.map(drop).map_err(failed)
    }

    /// Makes the links of a node again that neither of their ends has any more, and repeats the `exec` of both that name their
    /// interfaces, which give them their addresses. A link that can't be made is no reason to call the start a failure.
    async fn make_links_again(&self, life: &Life, container: &Container) {
        let Some(file) = topology_file(container) else { return };
        let Some(topology) = read(file).await else { return };
        let links = topology.links.iter().filter_map(|link| ends(link, &container.node).map(|ends| (link, ends)));
        for (link, (near, far)) in links {
            if !(is_own_name(&topology, near) && is_own_name(&topology, far)) {
                continue;
            }
            let Ok(peer) = self.container(&container.lab, &far.node).await else { continue };
            if self.has_interface(container, near).await != Some(false)
                || self.has_interface(&peer, far).await != Some(false)
            {
                continue;
            }
            let [a, b] = [(container, near), (&peer, far)]
                .map(|(container, end)| format!("{}:{}", container.name, end.interface));
            let mtu = link.mtu.unwrap_or(DEFAULT_MTU).to_string();
            let mut arguments = words(
                ["tools", "veth", "create", "--a-endpoint", &a, "--b-endpoint", &b, "--mtu", &mtu].map(AsRef::as_ref),
            );
            arguments.extend(words(["--topo".as_ref(), file.as_os_str()]));
            if let Err(error) = self.run_for_node(life, container, file, arguments, LIMIT).await {
                tracing::warn!(lab = container.lab, node = container.node, %error, "the link {a} – {b} could not be made again");
                continue;
            }
            for (container, end) in [(container, near), (&peer, far)] {
                self.repeat_exec(life, container, file, &topology, end).await;
            }
        }
    }

    /// Whether the node has an interface of that name; `None` where that can't be known, as when it doesn't run.
    async fn has_interface(&self, container: &Container, end: &Endpoint) -> Option<bool> {
        let pid = self.docker().details(&container.id).await.ok()?.pid?;
        let devices = tokio::fs::read_to_string(format!("/proc/{pid}/net/dev")).await.ok()?;
        Some(interfaces(&devices).contains(end.interface.as_str()))
    }

    async fn repeat_exec(&self, life: &Life, container: &Container, file: &Path, topology: &Topology, end: &Endpoint) {
        let Some(node) = topology.node(&end.node) else { return };
        for command in node.exec.iter().filter(|command| names(command, &end.interface)) {
            let label = format!("clab-node-name={}", end.node);
            let mut arguments = words(["exec", "--label", &label, "--cmd", command].map(AsRef::as_ref));
            arguments.extend(words(["--topo".as_ref(), file.as_os_str()]));
            if let Err(error) = self.run_for_node(life, container, file, arguments, LIMIT).await {
                tracing::warn!(lab = container.lab, node = end.node, command, %error, "an exec could not be repeated");
            }
        }
    }
}

/// Containerlab's own, in bytes.
const DEFAULT_MTU: u32 = 9500;

/// The topology file that a node was deployed from, if it is there still.
fn topology_file(container: &Container) -> Option<&Path> {
    container.topology_file.as_deref().filter(|file| file.is_file())
}

async fn read(file: &Path) -> Option<Topology> {
    Topology::parse(&tokio::fs::read_to_string(file).await.ok()?).ok()
}

/// The end of a link at a node, and the other one.
fn ends<'a>(link: &'a Link, node: &str) -> Option<(&'a Endpoint, &'a Endpoint)> {
    let [a, b] = &link.ends;
    // Both at one node: its namespace had both, and neither can be told missing because of the other.
    match (a.node == node, b.node == node) {
        (true, false) => Some((a, b)),
        (false, true) => Some((b, a)),
        _ => None,
    }
}

/// Whether the interface is called so in the node's container: some kinds have names of their own for their interfaces, which
/// containerlab translates.
fn is_own_name(topology: &Topology, end: &Endpoint) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = end.interface.strip_prefix("eth").is_some_and(digits);
    plain || topology.node(&end.node).is_some_and(|node| node.kind == "linux")
}

/// The names in `/proc/…/net/dev`.
fn interfaces(devices: &str) -> BTreeSet<&str> {
    devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect()
}

/// Whether a command names an interface, as a word of its own.
fn names(command: &str, interface: &str) -> bool {
    command.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).any(|word| word == interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_what_the_kernel_lists() {
        let devices = "Inter-|   Receive                |  Transmit\n face |bytes    packets |bytes packets\n    lo:       0       0\n  \
            eth0:     306       3\neth1.10:1 2\n";
        assert_eq!(interfaces(devices), BTreeSet::from(["lo", "eth0", "eth1.10"]));
    }

    #[test]
    fn commands_that_name_an_interface_are_told_from_those_that_name_a_longer_one() {
        assert!(names("ip addr add 10.0.0.1/24 dev eth1", "eth1"));
        assert!(names("sh -c 'ip link set eth1 up; true'", "eth1"));
        assert!(!names("ip addr add 10.0.0.1/24 dev eth10", "eth1"));
        assert!(!names("ip link add eth1.10 type vlan", "eth1"));
    }

    #[test]
    fn only_names_that_the_container_knows_are_looked_for_in_it() {
        let text = "name: x\ntopology:\n  nodes: {a: {kind: linux}, b: {kind: srl}}\n  links: [{endpoints: ['a:red', 'b:ethernet-1/1']}, {endpoints: ['b:eth1', 'a:eth1']}]";
        let topology = Topology::parse(text).unwrap();
        let known = |end| is_own_name(&topology, end);
        let (near, far) = ends(&topology.links[0], "a").unwrap();
        assert_eq!((near.node.as_str(), known(near), known(far)), ("a", true, false));
        let (near, far) = ends(&topology.links[1], "a").unwrap();
        assert_eq!((near.node.as_str(), known(near), known(far)), ("a", true, true));
    }
}
