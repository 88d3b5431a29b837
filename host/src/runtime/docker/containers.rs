//! The containers of labs: what they are, whose, and in which state. Found by the labels that containerlab gives them.
//!
//! One request answers all labs. What a listing doesn't say is asked of one container at a time ([`Docker::details`]).

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as EngineState};
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use jiff::Timestamp;

use super::{Docker, DockerError, LIMIT};
use crate::labs::model::{NodeState, NodeStatus};

/// Name of the lab.
pub(super) const LAB: &str = "containerlab";
/// Name of the node in the topology; of a part of it where [`ROOT_NODE`] is there too.
const NODE: &str = "clab-node-name";
/// Name of the node in the topology, of containers that are parts of a node that consists of several.
const ROOT_NODE: &str = "clab-root-node-name";
const KIND: &str = "clab-node-kind";
const TOPOLOGY_FILE: &str = "clab-topo-file";
const OWNER: &str = "clab-owner";

/// How long removing a container may take.
const REMOVE_LIMIT: Duration = Duration::from_secs(60);
/// How long starting one may take.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long stopping one may take, beyond the grace period of its process.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What the engine says of a container, in its own terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Between two runs, by its restart policy.
    Restarting,
    /// Its process has ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed.
    Dead,
}

/// What the health check of an image says, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not known yet: the check has not succeeded so far, and may still take its time.
    Starting,
    /// The check succeeds.
    Healthy,
    /// The check fails.
    Unhealthy,
}

/// A container that belongs to a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Id in full, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without the slash that the engine puts before it.
    pub name: String,
    /// The lab that it belongs to.
    pub lab: String,
    /// The node, by its name in the topology.
    pub node: String,
    /// Which part it is of a node that consists of several containers: the part's own name.
    pub part: Option<String>,
    /// Kind of the node.
    pub kind: String,
    /// Image, as it was named when the container was made.
    pub image: String,
    /// The topology file that it was deployed from.
    pub topology_file: Option<PathBuf>,
    /// Who deployed it, as containerlab notes it.
    pub owner: Option<String>,
    /// State in the engine's terms.
    pub phase: Phase,
    /// What its health check says; `None`: it has none, or doesn't run.
    pub health: Option<Health>,
    /// Address in the first of its networks, by name, that gave it one; empty: none.
    pub ipv4: String,
    /// The same for IPv6.
    pub ipv6: String,
    /// When it was made, to the second.
    pub created: Timestamp,
}

impl Container {
    /// State of the node. What has a health check is starting until that succeeded or failed for the first time: one
    /// that is unhealthy runs nevertheless, and people will want a shell in it. A paused one counts as stopped.
    pub fn state(&self) -> NodeState {
        match (self.phase, self.health) {
            (Phase::Running, Some(Health::Starting)) | (Phase::Created | Phase::Restarting, _) => NodeState::Starting,
            (Phase::Running, _) => NodeState::Running,
            (Phase::Paused | Phase::Exited | Phase::Removing | Phase::Dead, _) => NodeState::Exited,
        }
    }

    /// The node as labs know it.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            name: self.node.clone(),
            kind: self.kind.clone(),
            image: Some(self.image.clone()).filter(|image| !image.is_empty()),
            state: self.state(),
            ipv4: self.ipv4.clone(),
            ipv6: self.ipv6.clone(),
            container_id: self.id.chars().take(12).collect(),
            container_name: self.name.clone(),
        }
    }

    /// Of the containers of one node, which stands for it comes first: the one with the control plane, whose slot is
    /// a letter, before line cards, whose slots are numbers; what is newer before what is older.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let part = self.part.as_deref().unwrap_or_default();
        let line_card = part.ends_with(|last: char| last.is_ascii_digit());
        (line_card, part.to_owned(), std::cmp::Reverse(self.created), self.id.clone())
    }

    fn from_summary(summary: ContainerSummary) -> Option<Self> {
        let mut labels = summary.labels.unwrap_or_default();
        let mut label = |name: &str| labels.remove(name).filter(|value| !value.is_empty());
        let lab = label(LAB)?;
        // Tools that containerlab starts beside a lab are labelled as its, but are no nodes.
        let own_name = label(NODE)?;
        let (node, part) = match label(ROOT_NODE) {
            Some(root) => (root, Some(own_name)),
            None => (own_name, None),
        };
        let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let mut networks: Vec<_> = networks.into_iter().collect();
        networks.sort_by(|(a, _), (b, _)| a.cmp(b));
        let first = |of: fn(&bollard::models::EndpointSettings) -> Option<&String>| {
            let found = networks.iter().filter_map(|(_, network)| of(network)).find(|address| !address.is_empty());
            found.cloned().unwrap_or_default()
        };
        let text = summary.status.unwrap_or_default();
        let phase = phase(summary.state, &text);
        Some(Self {
            id: summary.id?,
            name: summary.names?.first()?.trim_start_matches('/').to_owned(),
            lab,
            node,
            part,
            kind: label(KIND).unwrap_or_default(),
            image: summary.image.unwrap_or_default(),
            topology_file: label(TOPOLOGY_FILE).map(PathBuf::from),
            owner: label(OWNER),
            phase,
            health: if phase == Phase::Running { health(&text) } else { None },
            ipv4: first(|network| network.ip_address.as_ref()),
            ipv6: first(|network| network.global_ipv6_address.as_ref()),
            created: Timestamp::from_second(summary.created.unwrap_or_default()).unwrap_or_default(),
        })
    }
}

fn phase(state: Option<EngineState>, text: &str) -> Phase {
    match state {
        Some(EngineState::CREATED) => Phase::Created,
        Some(EngineState::RUNNING) => Phase::Running,
        Some(EngineState::PAUSED) => Phase::Paused,
        Some(EngineState::RESTARTING) => Phase::Restarting,
        Some(EngineState::EXITED) => Phase::Exited,
        Some(EngineState::REMOVING) => Phase::Removing,
        Some(EngineState::DEAD) => Phase::Dead,
        // Engines that say it in words only.
        _ if text.starts_with("Up") => Phase::Running,
        _ => Phase::Exited,
    }
}

/// Health as a listing has it: in words, behind how long the container has been up. Only newer engines have a field.
fn health(status: &str) -> Option<Health> {
    let (_, words) = status.rsplit_once('(')?;
    match words.trim_end_matches(')') {
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        "health: starting" | "starting" => Some(Health::Starting),
        _ => None,
    }
}

/// What a listing doesn't say of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Whether its process has a terminal: then its log is raw, or else multiplexed.
    pub tty: bool,
    /// Whether its process runs.
    pub running: bool,
    /// Id of its first process on the engine's host; `None` when it doesn't run.
    pub pid: Option<i32>,
    /// When its process was started last; `None`: never.
    pub started_at: Option<Timestamp>,
    /// When it ended last; `None`: never.
    pub finished_at: Option<Timestamp>,
    /// How it ended last.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for lack of memory.
    pub out_of_memory: bool,
    /// What the engine said when it could not be started.
    pub error: Option<String>,
    /// Bytes of memory that it may have; `None`: as many as the machine has.
    pub memory_limit: Option<u64>,
}

impl Docker {
    /// All containers of a lab, or of all labs, running or not, sorted by lab, node and part. One request.
    ///
    /// # Errors
    /// [`DockerError`] when the engine doesn't answer.
    pub async fn containers(&self, lab: Option<&str>) -> Result<Vec<Container>, DockerError> {
        let label = lab.map_or_else(|| LAB.to_owned(), |lab| format!("{LAB}={lab}"));
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = self.limited("listing containers", LIMIT, self.inner.api.list_containers(Some(options))).await?;
        let mut containers: Vec<_> = list.into_iter().filter_map(Container::from_summary).collect();
        containers.sort_by_cached_key(|container| (container.lab.clone(), container.node.clone(), container.rank()));
        Ok(containers)
    }

    /// The container of a node; the one that stands for it, where it consists of several. `None`: there is none.
    ///
    /// # Errors
    /// [`DockerError`] when the engine doesn't answer.
    pub async fn container(&self, lab: &str, node: &str) -> Result<Option<Container>, DockerError> {
        Ok(self.containers(Some(lab)).await?.into_iter().find(|container| container.node == node))
    }

    /// What a listing doesn't say.
    ///
    /// # Errors
    /// [`DockerError::NotFound`]; others when the engine doesn't answer.
    pub async fn details(&self, id: &str) -> Result<Details, DockerError> {
        let answer = self.inner.api.inspect_container(id, None::<InspectContainerOptions>);
        let answer = self.limited("inspecting a container", LIMIT, answer).await?;
        let state = answer.state.unwrap_or_default();
        let memory = answer.host_config.and_then(|config| config.memory);
        // The engine writes the year 1 where it means never.
        let time = |text: Option<String>| text?.parse().ok().filter(|time| *time > Timestamp::UNIX_EPOCH);
        Ok(Details {
            tty: answer.config.and_then(|config| config.tty).unwrap_or_default(),
            running: state.running.unwrap_or_default(),
            pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            started_at: time(state.started_at),
            finished_at: time(state.finished_at),
            exit_code: state.exit_code,
            out_of_memory: state.oom_killed.unwrap_or_default(),
            error: state.error.filter(|error| !error.is_empty()),
            memory_limit: memory.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0),
        })
    }

    /// Removes a container with its anonymous volumes, killing what runs in it. One that is not there is no error.
    ///
    /// # Errors
    /// [`DockerError`]; it can be called again.
    pub async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.inner.api.remove_container(id, Some(options));
        match self.limited("removing a container", REMOVE_LIMIT, removed).await {
            Ok(()) | Err(DockerError::NotFound(_)) => Ok(()),
            // Somebody else is removing it: done when it is gone.
            Err(DockerError::Refused { status: 409, message }) if message.contains("already in progress") => {
                self.wait_until_removed(id).await
            }
            Err(error) => Err(error),
        }
    }

    async fn wait_until_removed(&self, id: &str) -> Result<(), DockerError> {
        let gone = async {
            loop {
                match self.details(id).await {
                    Err(DockerError::NotFound(_)) => return Ok(()),
                    Err(error) => return Err(error),
                    Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let late = |_| DockerError::TimedOut("removing a container", REMOVE_LIMIT);
        tokio::time::timeout(REMOVE_LIMIT, gone).await.map_err(late)?
    }

    /// Starts a container, or lets a paused one go on. One that runs is no error. Links of containerlab are not made
    /// again: `containerlab start` does that.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's words.
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        let started = self.inner.api.start_container(id, None::<StartContainerOptions>);
        match self.limited("starting a container", START_LIMIT, started).await {
            Err(DockerError::Refused { message, .. }) if message.contains("paused") => {
                self.limited("resuming a container", START_LIMIT, self.inner.api.unpause_container(id)).await
            }
            // 304: it runs already.
            Err(DockerError::Refused { status: 304, .. }) => Ok(()),
            other => other,
        }
    }

    /// Stops a container: asks its process to end, and kills it after `grace`. One that doesn't run is no error.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's words.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), DockerError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let stopped = self.inner.api.stop_container(id, Some(options));
        match self.limited("stopping a container", grace.saturating_add(STOP_LIMIT), stopped).await {
            Err(DockerError::Refused { status: 304, .. }) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> Option<Container> {
        Container::from_summary(serde_json::from_str(text).expect("is a summary"))
    }

    const NODE: &str = r#"{"Id": "0123456789abcdef", "Names": ["/x-y-z"], "Image": "i:1", "Created": 1700000000,
        "State": "running", "Status": "Up 3 seconds (health: starting)",
        "Labels": {"containerlab": "l-1", "clab-node-name": "spine-1", "clab-node-kind": "linux", "clab-owner": "me",
            "clab-topo-file": "/labs/l.yml"},
        "NetworkSettings": {"Networks": {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "", "GlobalIPv6Address": "fd::2"}}}}"#;

    #[test]
    fn a_node_is_named_by_its_labels_and_not_by_its_container() {
        let node = summary(NODE).expect("is a node");
        assert_eq!((node.lab.as_str(), node.node.as_str()), ("l-1", "spine-1"));
        assert_eq!((node.ipv4.as_str(), node.ipv6.as_str()), ("10.0.0.2", "fd::2"));
        let status = node.status();
        assert_eq!((status.container_id.as_str(), status.container_name.as_str()), ("0123456789ab", "x-y-z"));
        assert!(summary(&NODE.replace("clab-node-name", "tool-type")).is_none(), "a tool is no node");
    }

    #[test]
    fn a_part_belongs_to_its_node_and_the_control_plane_stands_for_it() {
        let part = |name: &str| {
            let labels = format!(r#""clab-root-node-name": "spine-1", "clab-node-name": "{name}""#);
            summary(&NODE.replace(r#""clab-node-name": "spine-1""#, &labels)).expect("is a node")
        };
        let mut parts = [part("spine-1-1"), part("spine-1-b"), part("spine-1-a")];
        parts.sort_by_cached_key(Container::rank);
        assert!(parts.iter().all(|part| part.node == "spine-1"));
        assert_eq!(parts[0].part.as_deref(), Some("spine-1-a"));
    }

    #[test]
    fn health_counts_where_there_is_a_check() {
        let state = |engine: &str, status: &str| {
            let text = NODE.replace("\"running\"", &format!("\"{engine}\""));
            summary(&text.replace("Up 3 seconds (health: starting)", status)).expect("is a node").state()
        };
        assert_eq!(state("running", "Up 3 seconds (health: starting)"), NodeState::Starting);
        assert_eq!(state("running", "Up 3 seconds (healthy)"), NodeState::Running);
        assert_eq!(state("running", "Up 3 seconds (unhealthy)"), NodeState::Running);
        assert_eq!(state("running", "Up 3 seconds"), NodeState::Running);
        assert_eq!(state("paused", "Up 3 seconds (Paused)"), NodeState::Exited);
        assert_eq!(state("created", "Created"), NodeState::Starting);
        assert_eq!(state("exited", "Exited (0) 2 seconds ago"), NodeState::Exited);
    }
}
