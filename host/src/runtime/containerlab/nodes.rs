//! Starting, stopping and restarting one node of a running lab.
//!
//! Containerlab's own commands keep the links of a node while it is stopped. They can't do so when its process has ended by
//! itself: its network namespace has gone then, and the links of its neighbours with it. Such links are made again when the node
//! is started, by [`super::links`].

use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::driver::{Shared, failed, words};
use super::life::Life;
use super::program::Run;
use crate::labs::model::NodeStatus;
use crate::runtime::docker::{Container, DockerError, Phase};
use crate::runtime::{LogSink, NodeAction, RuntimeError};

/// How long starting a node may take, and stopping it beyond its grace period. Some kinds prepare a lot.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

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
            self.mend_links(life, &container).await;
        }
        Ok(self.container(instance, node).await?.status())
    }

    pub(super) fn turn(&self, instance: &str, node: &str) -> Arc<tokio::sync::Mutex<()>> {
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

    pub(super) async fn container(&self, instance: &str, node: &str) -> Result<Container, RuntimeError> {
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
    pub(super) async fn run_for_node(
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
}

/// The topology file that a node was deployed from, if it is there still.
pub(super) fn topology_file(container: &Container) -> Option<&Path> {
    container.topology_file.as_deref().filter(|file| file.is_file())
}
