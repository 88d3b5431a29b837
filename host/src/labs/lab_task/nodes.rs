//! The nodes of a lab's instance: what is asked of them, what the runtime says of them, and who follows their logs.

use std::sync::Arc;

use super::{Denial, JobEnd, LabCommandError, LabTask, NodeJob, Phase, Reply, answer};
use crate::labs::lifecycle;
use crate::labs::model::{NodeState, NodeStatus, UserId};
use crate::plugins::decision::Occurrence;
use crate::runtime::{NodeAction, RuntimeError};

impl LabTask {
    pub(super) fn node_action(&mut self, node: String, action: NodeAction, by: Option<UserId>, reply: Reply) {
        match self.facts.phase {
            Phase::Running | Phase::Saving => {}
            Phase::Replacing | Phase::Deploying => return answer(reply, Err(Denial::AlreadyDeploying.into())),
            Phase::Idle | Phase::Cancelling | Phase::Stopping | Phase::Failed => {
                return answer(reply, Err(Denial::NotRunning.into()));
            }
        }
        let Some(instance) = self.facts.instance_name().map(str::to_owned) else {
            return answer(reply, Err(Denial::NotRunning.into()));
        };
        if self.facts.node_mut(&node).is_none() {
            let defined = self.missing_nodes().contains(&node);
            return answer(reply, Err(if defined { gone(&node) } else { LabCommandError::NodeNotFound(node) }));
        }
        let driver = Arc::clone(&self.shared.driver);
        let job = NodeJob { instance, node, action, by, reply };
        self.jobs.spawn(async move {
            let result = driver.node(&job.instance, &job.node, job.action).await;
            JobEnd::Node(job, result)
        });
    }

    pub(super) async fn node_action_ended(&mut self, job: NodeJob, result: Result<NodeStatus, RuntimeError>) {
        if self.facts.instance_name() != Some(&job.instance) {
            // The lab was destroyed meanwhile, and its nodes with it.
            return answer(job.reply, Err(Denial::NotRunning.into()));
        }
        match (result, self.facts.node_mut(&job.node)) {
            (Ok(status), Some(known)) => {
                *known = status.clone();
                self.publish_change().await;
                let what = match job.action {
                    NodeAction::Start => Occurrence::NodeStarted(status),
                    NodeAction::Stop => Occurrence::NodeStopped(status),
                    NodeAction::Restart => Occurrence::NodeRestarted(status),
                };
                self.announce(what, job.by).await;
                answer(job.reply, Ok(()));
            }
            (Ok(_), None) => answer(job.reply, Err(LabCommandError::NodeNotFound(job.node))),
            (Err(error), known) => {
                if let Some(node) = known.cloned() {
                    self.announce(Occurrence::NodeFailed { node, reason: error.to_string() }, job.by).await;
                }
                let error = match error {
                    // There is such a node, or this would not have been asked of the runtime.
                    RuntimeError::NoNode(node) => gone(&node),
                    error => error.into(),
                };
                answer(job.reply, Err(error));
            }
        }
    }

    pub(super) async fn follow_nodes(&self) {
        let nodes: Vec<String> = self.facts.nodes.iter().map(|node| node.name.clone()).collect();
        if let Some(instance) = self.facts.instance_name() {
            self.logs.follow_nodes(&self.shared.driver, instance, &nodes, &self.shared.closing).await;
        }
    }

    /// Removes the logs of nodes that an earlier instance had and this one is not to have. Not of those that are merely
    /// not there: they may come up yet, and what one has printed that somebody removed is wanted all the more.
    pub(super) async fn forget_nodes(&self) {
        let snapshot = self.facts.snapshot();
        let defined: Vec<String> = snapshot.topology.nodes.iter().map(|node| node.name.clone()).collect();
        self.logs.keep_nodes(&defined).await;
    }

    pub(super) async fn node_changed(&mut self, instance: &str, node: &str, state: NodeState) {
        if self.facts.instance_name() != Some(instance) {
            return;
        }
        let Some(known) = self.facts.node_mut(node) else {
            // Nodes come up one after the other; whoever waits for the lab wants to see the first ones start.
            return if self.facts.phase == Phase::Deploying {
                self.inspect()
            };
        };
        if known.state == state {
            return;
        }
        known.state = state;
        let status = known.clone();
        self.publish_change().await;
        if state == NodeState::Exited && self.facts.phase.is_up() {
            self.announce(Occurrence::NodeExited(status), None).await;
        }
    }

    /// Passes on what the runtime says of a node.
    pub(super) async fn noted(&mut self, instance: &str, node: &str, text: String, failure: bool) {
        if self.facts.instance_name() != Some(instance) {
            return;
        }
        self.note(&text).await;
        let known = self.facts.node_mut(node).cloned();
        if let Some(node) = known.filter(|_| failure) {
            self.announce(Occurrence::NodeFailed { node, reason: text }, None).await;
        }
    }

    pub(super) fn inspect(&mut self) {
        let Some(instance) = self.facts.instance_name().map(str::to_owned) else { return };
        let early = match self.facts.phase {
            Phase::Running | Phase::Saving => false,
            // One at a time: an engine that is busy is not to be asked more and more.
            Phase::Deploying if !self.looking => true,
            _ => return,
        };
        self.looking = early;
        let driver = Arc::clone(&self.shared.driver);
        self.jobs.spawn(async move {
            let result = driver.inspect(&instance).await;
            JobEnd::Inspect { instance, early, result }
        });
    }

    /// What was seen of an instance that is being deployed, if it is still.
    pub(super) async fn inspected_early(&mut self, instance: &str, result: Result<Vec<NodeStatus>, RuntimeError>) {
        self.looking = false;
        if self.facts.phase != Phase::Deploying || self.facts.instance_name() != Some(instance) {
            return;
        }
        // An error means that nothing is there yet, or is the deploy's to tell.
        if let Ok(nodes) = result
            && self.facts.set_nodes(nodes)
        {
            self.follow_nodes().await;
            self.publish_change().await;
        }
    }

    pub(super) async fn inspected(&mut self, instance: &str, result: Result<Vec<NodeStatus>, RuntimeError>) {
        if !self.facts.phase.is_up() || self.facts.instance_name() != Some(instance) {
            return;
        }
        match result {
            Ok(nodes) => {
                if self.facts.set_nodes(nodes) {
                    self.publish_change().await;
                }
            }
            Err(RuntimeError::NoInstance(_)) => {
                self.failure = Some(LabCommandError::Runtime("the runtime knows nothing of the instance".into()));
                self.event(lifecycle::Event::Lost).await;
            }
            Err(error) => tracing::warn!(lab = %self.facts.lab.id, %error, "the nodes could not be looked at"),
        }
    }

    /// Nodes of the definition that the runtime doesn't know.
    pub(super) fn missing_nodes(&self) -> Vec<String> {
        let snapshot = self.facts.snapshot();
        let there = |name: &str| self.facts.nodes.iter().any(|node| node.name == name);
        let defined = snapshot.topology.nodes.iter().map(|node| node.name.clone());
        defined.filter(|name| !there(name)).collect()
    }
}

/// A node of the lab that the runtime has no more.
fn gone(node: &str) -> LabCommandError {
    let remedy = "somebody has removed it from the runtime; deploy the lab anew to have it back";
    LabCommandError::Runtime(format!("node {node} is gone: {remedy}"))
}
