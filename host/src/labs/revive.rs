//! What became of the instances of an earlier server: asked of the runtime when labs are opened, before anybody can ask for
//! a lab. What runs is the runtime's word, which instance belongs to which lab is the store's; nothing else is needed.

use std::time::Duration;

use super::model::{InstanceState, Lab, NodeState, NodeStatus, StoredInstance};
use crate::runtime::{RuntimeDriver, RuntimeError, embedded};

/// How often a runtime that can't say what runs is asked again, and after which time. A container engine that restarts
/// together with the server is back by then.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_secs(1);

/// What became of an instance that was stored when the server ended.
#[derive(Debug)]
pub(super) enum Revival {
    /// Nothing was stored.
    None,
    /// It runs still; these are its nodes.
    Running(Vec<NodeStatus>),
    /// It is gone, or half built or half taken down.
    Lost {
        /// How, in a sentence.
        reason: String,
        /// What is left of it.
        left: Vec<NodeStatus>,
    },
    /// Nobody here can say; why, in a sentence. Another server may be able to.
    Unknown(String),
    /// It had failed before, and users know.
    Failed {
        /// What is left of it.
        left: Vec<NodeStatus>,
    },
}

/// Names of all instances that run.
pub(super) async fn alive(driver: &dyn RuntimeDriver) -> Result<Vec<String>, RuntimeError> {
    patiently(driver, async || driver.list().await).await
}

/// Asks the runtime until it can say. That there is no such instance is an answer as well.
async fn patiently<T>(
    driver: &dyn RuntimeDriver,
    ask: impl AsyncFn() -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error) if tries < TRIES && !matches!(error, RuntimeError::NoInstance(_)) => {
                tracing::warn!(%error, runtime = driver.name(), "the runtime can't say what runs; it is asked again");
                tries += 1;
                tokio::time::sleep(BETWEEN).await;
            }
            Err(error) => {
                if !matches!(error, RuntimeError::NoInstance(_)) {
                    tracing::error!(%error, runtime = driver.name(), "the runtime can't say what still runs");
                }
                return Err(error);
            }
            answer => return answer,
        }
    }
}

/// Says what runs and belongs to no lab. It may be anybody's, and is left alone.
pub(super) fn note_strangers(driver: &dyn RuntimeDriver, alive: &Result<Vec<String>, RuntimeError>, labs: &[Lab]) {
    let known = |name: &String| labs.iter().filter_map(|lab| lab.instance.as_ref()).any(|known| known.name == *name);
    for name in alive.iter().flatten().filter(|name| !known(name)) {
        tracing::info!(
            instance = name,
            runtime = driver.name(),
            "this runs and is no lab of this server; it is left alone"
        );
    }
}

/// Why the runtime of this server can do nothing about an instance of `runtime`, if that is so.
pub(super) fn out_of_reach(driver: &dyn RuntimeDriver, runtime: &str) -> Option<String> {
    // What the embedded one had went with the server.
    if runtime == driver.name() || runtime == embedded::NAME {
        return None;
    }
    Some(format!(
        "the lab was deployed on the runtime {runtime}, where it may run still, but this server runs labs on the runtime {}: \
         start the server with `--runtime {runtime}` to go on with the lab or to destroy it",
        driver.name()
    ))
}

/// What became of an instance.
pub(super) async fn what_became_of(
    driver: &dyn RuntimeDriver,
    instance: Option<&StoredInstance>,
    alive: &Result<Vec<String>, RuntimeError>,
) -> Revival {
    let Some(instance) = instance else { return Revival::None };
    if let Some(reason) = out_of_reach(driver, &instance.runtime) {
        return Revival::Unknown(reason);
    }
    // Also where the list doesn't have it: of an instance that is half there, it may not.
    let found = match alive {
        Err(error) => Err(RuntimeError::Failed(error.to_string())),
        Ok(_) => patiently(driver, async || driver.inspect(&instance.name).await).await,
    };
    let nodes = match found {
        Ok(nodes) => nodes,
        Err(RuntimeError::NoInstance(_)) => Vec::new(),
        Err(_) if instance.state == InstanceState::Failed => return Revival::Failed { left: Vec::new() },
        Err(error) => return Revival::Unknown(format!("the runtime can't say what became of it: {error}")),
    };
    let lost = |what: &str| Revival::Lost { reason: format!("{what}; {}", rest(&nodes)), left: nodes.clone() };
    match instance.state {
        InstanceState::Failed => Revival::Failed { left: nodes },
        InstanceState::Deploying => lost("the server ended while it was being deployed"),
        InstanceState::Stopping => lost("the server ended while it was being destroyed"),
        InstanceState::Running if !nodes.is_empty() => Revival::Running(nodes),
        InstanceState::Running if instance.runtime == embedded::NAME => {
            Revival::Lost { reason: "its nodes ended with the server".into(), left: nodes }
        }
        InstanceState::Running => lost("its nodes are gone, which happened while no server was there"),
    }
}

/// What is left, in words.
fn rest(nodes: &[NodeStatus]) -> String {
    let state = |node: &NodeStatus| match node.state {
        NodeState::Starting => "starting",
        NodeState::Running => "running",
        NodeState::Exited => "exited",
    };
    let named = |node: &NodeStatus| format!("{} ({})", node.container_name, state(node));
    match nodes {
        [] => "nothing is left of it".to_owned(),
        nodes => format!("left of it: {}", nodes.iter().map(named).collect::<Vec<_>>().join(", ")),
    }
}
