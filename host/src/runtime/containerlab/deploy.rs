//! Bringing an instance up, and taking away what a deploy leaves that failed.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::check;
use super::definition;
use super::driver::{Shared, words};
use super::networks;
use super::program::{Run, RunError};
use super::runs::topology_file;
use crate::labs::model::{NodeState, NodeStatus};
use crate::runtime::{InstanceSpec, LogSink, RuntimeError};

/// How long after a run that was cut short the engine may show a container that it was still making: containerlab drops its
/// request, and the engine doesn't notice. So long is waited for one, and so long is looked again afterwards.
const LATE: Duration = Duration::from_millis(1500);
const VERY_LATE: Duration = Duration::from_secs(30);

impl Shared {
    /// Deploys, or leaves nothing. Answers also whether the run was cut short, after which the engine may go on for a while.
    pub(super) async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> (Result<Vec<NodeStatus>, RuntimeError>, bool) {
        let mut cut_short = false;
        (self.try_deploy(spec, log, cancel, &mut cut_short).await, cut_short)
    }

    async fn try_deploy(
        &self,
        spec: &InstanceSpec,
        log: &LogSink,
        cancel: &CancellationToken,
        cut_short: &mut bool,
    ) -> Result<Vec<NodeStatus>, RuntimeError> {
        let rendered = definition::render(&spec.definition, &spec.name).map_err(RuntimeError::Unsupported)?;
        if !self.docker().containers(Some(&spec.name)).await?.is_empty() {
            return Err(RuntimeError::Failed(format!("there is an instance named {} already", spec.name)));
        }
        let dir = tokio::fs::canonicalize(&spec.dir).await;
        let dir = dir.map_err(|error| RuntimeError::Failed(format!("the run folder can't be used: {error}")))?;
        let file = dir.join(topology_file(&spec.name));
        tokio::fs::write(&file, &rendered)
            .await
            .map_err(|error| RuntimeError::Failed(format!("the topology file can't be written: {error}")))?;

        self.lay_out_saved(spec, &dir, log).await?;

        let expected = self.watch.expect(&spec.name);
        let begun = Instant::now();
        let arguments =
            words(["deploy".as_ref(), "--format".as_ref(), "json".as_ref(), "--topo".as_ref(), file.as_os_str()]);
        let run = self.program.run(Run { arguments, dir: &dir, log, cancel, limit: None });
        let deployed = self.networks.during(networks::of(&spec.topology), cancel, run).await;
        *cut_short = matches!(deployed, Err(RunError::Cancelled | RunError::TimedOut(_) | RunError::Killed(_)));
        let result = match deployed {
            Ok(_) => self.nodes(&spec.name).await,
            Err(error) => Err(self.explain(error, &spec.name, &dir).await),
        };
        let elsewhere = result.as_ref().is_ok_and(Vec::is_empty) && spec.topology.nodes.iter().any(check::is_made);
        let result = if elsewhere {
            Err(RuntimeError::Failed(format!(
                "containerlab deployed on another engine than {}: set containerlab.dockerHost",
                self.found.engine.address
            )))
        } else {
            result
        };
        match result {
            Ok(mut nodes) => {
                expected.stays();
                let place = |name: &str| spec.topology.nodes.iter().position(|node| node.name == name);
                nodes.sort_by_key(|node| place(&node.name).unwrap_or(usize::MAX));
                if nodes.iter().any(|node| node.state == NodeState::Exited) {
                    self.tell_of_ended(&spec.name, log).await;
                }
                log.line(&format!("{} is up after {:.1} s", spec.name, begun.elapsed().as_secs_f64()));
                Ok(nodes)
            }
            Err(error) => {
                if *cut_short {
                    self.wait_for_late_containers(&spec.name).await;
                }
                let gone = self.take_down(&spec.name, &dir, elsewhere, log).await;
                match gone {
                    Ok(()) => Err(error),
                    Err(left) => Err(RuntimeError::Failed(format!("{error}; and it could not be cleaned up: {left}"))),
                }
            }
        }
    }

    /// Gives the engine the time to show what it was making when a run was cut short, up to the first such container.
    pub(super) async fn wait_for_late_containers(&self, instance: &str) {
        let shown = async {
            // An engine that doesn't answer shows nothing; what follows says so.
            while let Ok(containers) = self.docker().containers(Some(instance)).await {
                if !containers.is_empty() {
                    break;
                }
                tokio::time::sleep(LATE / 10).await;
            }
        };
        let _ = tokio::time::timeout(LATE, shown).await;
    }

    /// Takes away what the engine shows of an instance that is gone, for a while after its deploy was cut short. Whether its
    /// folder is there makes no difference: the destroy that had cut the deploy short removes it, and may have seen nothing
    /// yet of what comes late. No other instance ever has this name.
    pub(super) async fn remove_late_containers(&self, spec: &InstanceSpec, log: &LogSink) {
        let end = Instant::now() + VERY_LATE;
        while Instant::now() < end {
            tokio::time::sleep(LATE).await;
            let late = self.docker().containers(Some(&spec.name)).await.is_ok_and(|late| !late.is_empty());
            if late {
                // It says in the log what it couldn't do, and is tried again.
                let _ = self.take_down(&spec.name, &spec.dir, false, log).await;
            }
        }
    }
}
