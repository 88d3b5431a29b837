//! The management networks that containerlab makes: which of them a lab uses, and taking away those that nobody uses any more.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder};
use jiff::{SignedDuration, Timestamp};

use super::containers::LAB;
use super::{Docker, DockerError, LIMIT};

/// What became of a network that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed {
        /// The name of its bridge.
        bridge: String,
    },
    /// It stays: containers use it, or containerlab hasn't made it. Or it was not there.
    Kept,
    /// It stays for the moment: it is too young, or the engine isn't done yet with a container that has left it.
    TooEarly,
}

impl Docker {
    /// Names of the networks that the containers of a lab are connected to, running or not.
    ///
    /// # Errors
    /// [`DockerError`] when the engine doesn't answer.
    pub async fn networks_of(&self, lab: &str) -> Result<BTreeSet<String>, DockerError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{LAB}={lab}")])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = self.limited("listing containers", LIMIT, self.inner.api.list_containers(Some(options))).await?;
        let networks = list.into_iter().filter_map(|container| container.network_settings?.networks);
        Ok(networks.flat_map(HashMap::into_keys).collect())
    }

    /// Whether there is a network of this name.
    ///
    /// # Errors
    /// [`DockerError`] when the engine doesn't answer.
    pub async fn has_network(&self, name: &str) -> Result<bool, DockerError> {
        let answer = self.inner.api.inspect_network(name, None::<InspectNetworkOptions>);
        match self.limited("inspecting a network", LIMIT, answer).await {
            Ok(_) => Ok(true),
            Err(DockerError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a network if containerlab has made it and no container is connected to it, also none that doesn't run.
    /// One that is not there is no error, and one younger than `age` stays.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's words.
    pub async fn remove_unused_network(&self, name: &str, age: Duration) -> Result<Removal, DockerError> {
        let answer = self.inner.api.inspect_network(name, None::<InspectNetworkOptions>);
        let network = match self.limited("inspecting a network", LIMIT, answer).await {
            Err(DockerError::NotFound(_)) => return Ok(Removal::Kept),
            answer => answer?,
        };
        if !network.labels.is_some_and(|labels| labels.contains_key(LAB)) {
            return Ok(Removal::Kept);
        }
        let made = network.created.and_then(|made| made.parse::<Timestamp>().ok());
        if made.is_some_and(|made| {
            Timestamp::now().duration_since(made) < SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)
        }) {
            return Ok(Removal::TooEarly);
        }
        let id = network.id.unwrap_or_else(|| name.to_owned());
        let filters = HashMap::from([("network".to_owned(), vec![id.clone()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let users = self.limited("listing containers", LIMIT, self.inner.api.list_containers(Some(options))).await?;
        if !users.is_empty() {
            return Ok(Removal::Kept);
        }
        let own_name = network.options.and_then(|mut options| options.remove("com.docker.network.bridge.name"));
        match self.limited("removing a network", LIMIT, self.inner.api.remove_network(&id)).await {
            Ok(()) => {
                let bridge = own_name.unwrap_or_else(|| format!("br-{}", id.chars().take(12).collect::<String>()));
                Ok(Removal::Removed { bridge })
            }
            // Somebody else was faster.
            Err(DockerError::NotFound(_)) => Ok(Removal::Kept),
            // A container has come in between, or has just gone.
            Err(DockerError::Refused { message, .. }) if message.contains("active endpoints") => Ok(Removal::TooEarly),
            Err(error) => Err(error),
        }
    }
}
