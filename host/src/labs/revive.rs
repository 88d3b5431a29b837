//! What became of the instances of an earlier server: asked of the runtime when labs are opened, before anybody can ask for
//! a lab, and again by the task of a lab for as long as nobody could say. What runs is the runtime's word, which instance
//! belongs to which lab is the store's; nothing else is needed.

use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;

use super::model::{InstanceState, Lab, NodeState, NodeStatus, StoredInstance};
use crate::runtime::{RuntimeDriver, RuntimeError, embedded};

/// How often a runtime that can't say what runs is asked before the server goes on without an answer, and after which time
/// again. A container engine that restarts together with the server is back by then.
const TRIES: u32 = 10;
/// The same for a single instance.
pub(super) const TRIES_FOR_ONE: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(1);

/// What became of an instance that was stored when the server ended.
#[derive(Debug)]
pub(super) enum Revival {
    /// Nothing was stored.
    None,
    /// It runs still; these are its nodes.
    Running(Vec<NodeStatus>),
    /// It is gone.
    Lost {
        /// How, in a sentence.
        reason: String,
        /// What is left of it.
        left: Vec<NodeStatus>,
    },
    /// The server ended while it was being brought up or taken down.
    CutShort {
        /// Whether it was being brought up.
        up: bool,
        /// That, what is left and what can be done, in a sentence.
        reason: String,
        /// What is left of it.
        left: Vec<NodeStatus>,
    },
    /// Nobody here can say at present; why, in a sentence. Another server may be able to, or this one later on.
    Unknown(String),
    /// It had failed before, and users know.
    Failed {
        /// What is left of it.
        left: Vec<NodeStatus>,
    },
}

/// Names of all instances that run. Asked for until the runtime can say, but not for ever.
///
/// # Errors
/// What the runtime said last.
pub(super) async fn alive(driver: &dyn RuntimeDriver) -> Result<Vec<String>, RuntimeError> {
    patiently(driver, TRIES, || driver.list()).await.inspect_err(|error| {
        tracing::error!(%error, runtime = driver.name(), "the runtime can't say what still runs");
    })
}

/// Asks the runtime until it can say, but no more than so often. That there is no such instance is an answer as well.
async fn patiently<'a, T>(
    driver: &'a dyn RuntimeDriver,
    most: u32,
    ask: impl Fn() -> BoxFuture<'a, Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error) if tries < most && !matches!(error, RuntimeError::NoInstance(_)) => {
                tracing::warn!(%error, runtime = driver.name(), "the runtime can't say what runs; it is asked again");
                tries += 1;
                tokio::time::sleep(BETWEEN).await;
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

/// Why the runtime of this server can do nothing about an instance of `place`, if that is so.
pub(super) fn out_of_reach(driver: &dyn RuntimeDriver, place: &str) -> Option<String> {
    let (runtime, engine) = place.split_once(' ').unwrap_or((place, ""));
    // What the embedded one had went with the server.
    if runtime == embedded::NAME || driver.reaches(place) {
        return None;
    }
    let here = driver.place();
    let here = here.split_once(' ').map_or("another engine", |(_, engine)| engine);
    Some(if runtime == driver.name() {
        format!(
            "the lab was deployed with {engine}, where it may run still, but this server runs labs with {here}: start the server \
             with containerlab.runtime and containerlab.dockerHost as they were to go on with the lab or to destroy it"
        )
    } else {
        format!(
            "the lab was deployed on the runtime {runtime}, where it may run still, but this server runs labs on the runtime {}: \
             start the server with `--runtime {runtime}` to go on with the lab or to destroy it",
            driver.name()
        )
    })
}

/// What became of an instance, whose folder is in `run_dir`. That of one which was being changed when the server ended is not looked
/// at before that has come to its end. The runtime is asked up to `tries` times.
pub(super) async fn what_became_of(
    driver: &dyn RuntimeDriver,
    instance: Option<&StoredInstance>,
    run_dir: &Path,
    tries: u32,
) -> Revival {
    let Some(instance) = instance else { return Revival::None };
    if let Some(reason) = out_of_reach(driver, &instance.runtime) {
        return Revival::Unknown(reason);
    }
    let cut_short = matches!(instance.state, InstanceState::Deploying | InstanceState::Stopping);
    let others =
        if cut_short { driver.settle(&instance.name, &run_dir.join(&instance.name)).await } else { Ok(Vec::new()) };
    // Also where the list doesn't have it: of an instance that is half there, it may not.
    let (others, nodes) = match (others, patiently(driver, tries, || driver.inspect(&instance.name)).await) {
        (Ok(others), Ok(nodes)) => (others, nodes),
        (Ok(others), Err(RuntimeError::NoInstance(_))) => (others, Vec::new()),
        _ if instance.state == InstanceState::Failed => return Revival::Failed { left: Vec::new() },
        (Err(error), _) | (_, Err(error)) => {
            return Revival::Unknown(format!("the runtime can't say at present what became of it: {error}"));
        }
    };
    match instance.state {
        InstanceState::Failed => Revival::Failed { left: nodes },
        InstanceState::Deploying | InstanceState::Stopping => {
            let up = instance.state == InstanceState::Deploying;
            Revival::CutShort { up, reason: cut_short_reason(up, &nodes, &others), left: nodes }
        }
        InstanceState::Running if !nodes.is_empty() => Revival::Running(nodes),
        InstanceState::Running if instance.runtime == embedded::NAME => {
            Revival::Lost { reason: "its nodes ended with the server".into(), left: nodes }
        }
        InstanceState::Running => {
            let reason = "its nodes are gone, which happened while no server was there: deploy or destroy it";
            Revival::Lost { reason: reason.into(), left: nodes }
        }
    }
}

/// What is to be thought of an instance as long as the runtime can't even say which there are.
pub(super) fn not_known(instance: Option<&StoredInstance>, error: &RuntimeError) -> Revival {
    match instance.map(|instance| instance.state) {
        None => Revival::None,
        Some(InstanceState::Failed) => Revival::Failed { left: Vec::new() },
        Some(_) => Revival::Unknown(format!("the runtime can't say at present what became of it: {error}")),
    }
}

/// What is left of an instance whose deploy or destroy had no end, in words.
fn cut_short_reason(up: bool, nodes: &[NodeStatus], others: &[String]) -> String {
    let state = |node: &NodeStatus| match node.state {
        NodeState::Starting => "starting",
        NodeState::Running => "running",
        NodeState::Exited => "exited",
    };
    let nodes = nodes.iter().map(|node| format!("{} ({})", node.container_name, state(node)));
    let left: Vec<String> = nodes.chain(others.iter().cloned()).collect();
    let ended = "the server ended in the middle of it";
    match (up, left.join(", ")) {
        (true, left) if left.is_empty() => format!("{ended}, and nothing is left of it: deploy it again or destroy it"),
        (true, left) => format!("{ended}, so that it is only half deployed: deploy or destroy it. Left of it: {left}"),
        (false, left) if left.is_empty() => format!("{ended}; destroy it again to have done with it"),
        (false, left) => format!("{ended}, so that it is only half destroyed: destroy it again. Left of it: {left}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_said_to_be_nothing() {
        let network = || vec!["network of-its-own".to_owned()];
        for (up, others) in [(true, network()), (true, Vec::new()), (false, network()), (false, Vec::new())] {
            let reason = cut_short_reason(up, &[], &others);
            assert_eq!(reason.contains("nothing is left"), up && others.is_empty(), "{reason}");
            assert_eq!(reason.contains("Left of it: network of-its-own"), !others.is_empty(), "{reason}");
            assert!(reason.contains("destroy it"), "{reason}");
        }
    }
}
