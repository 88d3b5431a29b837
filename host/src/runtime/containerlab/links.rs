//! The links of a node that was started: those that it has lost are made again where that can be done, and told where not.
//!
//! A link is a pair of interfaces, and goes when the network namespace of either end does: when the process of a node ends by
//! itself, or when somebody restarts its container without containerlab, or Docker does so by its restart policy. Whatever
//! started the node again, it then lacks the link, and so does its neighbour. That is seen of those whose interfaces are called
//! in the container as in the topology; of others the log says that it can't be seen.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::check::is_made;
use super::driver::{Shared, words};
use super::life::Life;
use super::nodes::{LIMIT, topology_file};
use crate::runtime::docker::{Container, Phase, View};
use crate::runtime::interfaces;
use crate::runtime::{RuntimeError, RuntimeEvent};
use crate::topology::{Endpoint, Link, Topology};

/// Containerlab's own, in bytes.
const DEFAULT_MTU: u32 = 9500;

/// What to do about a link that can't be made again alone.
const DEPLOY_ANEW: &str = "deploy the lab anew to have it back";

impl Shared {
    /// Makes the links of a node again that it has lost, and repeats the `exec` of both ends that name their interfaces, which
    /// give them their addresses. What can't be made again is told, and is no reason to call the start a failure.
    pub(super) async fn mend_links(&self, life: &Life, container: &Container) {
        let Some(file) = topology_file(container) else { return };
        let Some(topology) = read(file).await else { return };
        let (node, lab) = (&container.node, &container.lab);
        let (mut made, mut lost, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (link, (near, far)) in topology.links.iter().filter_map(|link| ends(link, node).map(|ends| (link, ends))) {
            // One after the other, since this is looked at first and done afterwards.
            let _linking = life.linking.lock().await;
            let name = format!("{}:{} – {}:{}", near.node, near.interface, far.node, far.interface);
            if !is_own_name(&topology, near) {
                unknown.push(name);
                continue;
            }
            if self.has_interface(container, near).await != Some(false) {
                continue;
            }
            match self.make_link(life, file, &topology, link, (container, near), far).await {
                Mended::Made => made.push(name),
                Mended::WithNeighbour => tracing::debug!(lab, node, link = name, "it comes with its other end"),
                Mended::Lost(why) => lost.push(format!("{name} ({why})")),
            }
        }
        if !unknown.is_empty() {
            let links = unknown.join(", ");
            tracing::info!(
                lab,
                node,
                links,
                "whether a node that was started has these of its links can't be seen, since its kind has names of its own for \
                 interfaces: if one is missing, {DEPLOY_ANEW}"
            );
        }
        let tell = |text: String, failure: bool| {
            tracing::info!(lab, "{text}");
            self.watch.tell(RuntimeEvent::Note { instance: lab.clone(), node: node.clone(), text, failure });
        };
        if !made.is_empty() {
            tell(format!("node {node} was started without links, which were made again: {}", made.join(", ")), false);
        }
        if !lost.is_empty() {
            tell(format!("node {node} runs without these of its links: {}", lost.join(", ")), true);
        }
    }

    /// Makes a link again whose near end is not there.
    async fn make_link(
        &self,
        life: &Life,
        file: &Path,
        topology: &Topology,
        link: &Link,
        (container, near): (&Container, &Endpoint),
        far: &Endpoint,
    ) -> Mended {
        // A bridge, the host itself, or another place that is no container.
        if !topology.node(&far.node).is_some_and(is_made) {
            return Mended::Lost(DEPLOY_ANEW.to_owned());
        }
        let peer = match self.container(&container.lab, &far.node).await {
            Ok(peer) => peer,
            Err(RuntimeError::NoNode(_)) => return Mended::Lost(format!("node {} is gone: {DEPLOY_ANEW}", far.node)),
            Err(error) => return Mended::Lost(format!("{error}: restart the node to try again")),
        };
        if peer.phase != Phase::Running {
            return Mended::WithNeighbour;
        }
        match self.has_interface(&peer, far).await {
            Some(false) if is_own_name(topology, far) => {}
            // Its other end is parked by containerlab, which gives it back when it starts the node itself.
            Some(true) => return Mended::Lost("restart the node to have it back".to_owned()),
            _ => return Mended::Lost(DEPLOY_ANEW.to_owned()),
        }
        let [a, b] =
            [(container, near), (&peer, far)].map(|(container, end)| format!("{}:{}", container.name, end.interface));
        let mtu = link.mtu.unwrap_or(DEFAULT_MTU).to_string();
        let mut arguments = words(
            ["tools", "veth", "create", "--a-endpoint", &a, "--b-endpoint", &b, "--mtu", &mtu].map(AsRef::as_ref),
        );
        arguments.extend(words(["--topo".as_ref(), file.as_os_str()]));
        if let Err(error) = self.run_for_node(life, container, file, arguments, LIMIT).await {
            return Mended::Lost(format!("{error}: {DEPLOY_ANEW}"));
        }
        for (container, end) in [(container, near), (&peer, far)] {
            self.repeat_exec(life, container, file, topology, end).await;
        }
        Mended::Made
    }

    /// Whether the node has an interface of that name; `None` where that can't be known, as when it doesn't run.
    async fn has_interface(&self, container: &Container, end: &Endpoint) -> Option<bool> {
        let pid = self.docker().details(&container.id).await.ok()?.pid?;
        let devices = tokio::fs::read_to_string(format!("/proc/{pid}/net/dev")).await.ok()?;
        Some(interfaces::names(&devices).any(|name| name == end.interface))
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

    /// Sees to the links of nodes of this server that somebody else restarts, until the server ends.
    pub(super) async fn mend_what_is_restarted(self: Arc<Self>, work: TaskTracker) {
        let (mut views, closing) = (self.watch.views(), self.closing.clone());
        let mut seen = Seen::default();
        loop {
            let view = views.borrow_and_update().clone();
            let restarted = seen.restarted(&view, |container| {
                self.is_ours(container) && !self.watch.is_node_expected(&container.lab, &container.node)
            });
            if !restarted.is_empty() {
                let shared = Arc::clone(&self);
                work.spawn(async move {
                    for (lab, node) in restarted {
                        shared.mend(&lab, &node).await;
                    }
                });
            }
            match closing.run_until_cancelled(views.changed()).await {
                Some(Ok(())) => {}
                // The server ends, or nobody follows the engine any more.
                Some(Err(_)) | None => return,
            }
        }
    }

    /// Sees to the links of an instance of which nobody knows what was restarted: no server ran.
    pub(super) async fn mend_instance(&self, instance: &str) {
        let nodes = match self.docker().containers(Some(instance)).await {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(instance, %error, "nobody knows whether its nodes have all their links");
                return;
            }
        };
        for node in nodes.iter().filter(|node| node.phase == Phase::Running && self.is_ours(node)) {
            if self.closing.is_cancelled() {
                return;
            }
            self.mend(instance, &node.node).await;
        }
    }

    /// Whether a server with this data folder has deployed it.
    fn is_ours(&self, container: &Container) -> bool {
        container.topology_file.as_ref().is_some_and(|file| file.starts_with(&self.data))
    }

    async fn mend(&self, instance: &str, node: &str) {
        let life = self.life(instance);
        let mended = life.meanwhile(async {
            let turn = self.turn(instance, node);
            let _turn = life.over.run_until_cancelled(turn.lock()).await?;
            let container = self.container(instance, node).await.ok()?;
            self.mend_links(&life, &container).await;
            Some(())
        });
        if mended.await.is_none() {
            tracing::debug!(instance, node, "it is destroyed, and needs its links no more");
        }
    }
}

/// What became of a link.
enum Mended {
    Made,
    /// It is made when the other end is started.
    WithNeighbour,
    /// It can't be had; why, and what to do.
    Lost(String),
}

/// What was known of nodes when their links were seen to last.
#[derive(Default)]
struct Seen {
    starts: HashMap<(String, String), (String, u64)>,
    connections: u64,
}

impl Seen {
    /// The running nodes that have been started since, of those that count now; what is under way by somebody's wish doesn't.
    /// All that run may have been, where the engine was away.
    fn restarted(&mut self, view: &View, counts: impl Fn(&Container) -> bool) -> Vec<(String, String)> {
        let was_away = self.connections > 0 && view.connections() > self.connections;
        self.connections = view.connections();
        let (mut restarted, mut now) = (Vec::new(), HashMap::new());
        for lab in view.labs() {
            for (name, node) in view.nodes(lab).into_iter().flatten() {
                let key = (lab.to_owned(), name.clone());
                let state = (node.container.id.clone(), node.starts);
                let before = self.starts.remove(&key);
                let again = before.as_ref().is_some_and(|(id, starts)| *id == state.0 && *starts < state.1);
                let state = match before {
                    Some(before) if again && node.container.phase != Phase::Running => before,
                    _ => state,
                };
                let runs = node.container.phase == Phase::Running;
                if runs && (again || was_away) && counts(&node.container) {
                    restarted.push(key.clone());
                }
                now.insert(key, state);
            }
        }
        self.starts = now;
        restarted
    }
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

/// Whether a command names an interface, as a word of its own.
fn names(command: &str, interface: &str) -> bool {
    command.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).any(|word| word == interface)
}

#[cfg(test)]
mod tests {
    use super::*;

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
