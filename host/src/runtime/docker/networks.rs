//! The management networks that containerlab makes: which of them a lab uses, and taking away those that nobody uses any more.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder};
use jiff::{SignedDuration, Timestamp};

use super::containers::LAB;
use super::{Docker, DockerError, LIMIT};

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
    /// Answers the name of its bridge if it was removed. One that is not there is no error, and one younger than `age` stays.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's words.
    pub async fn remove_unused_network(&self, name: &str, age: Duration) -> Result<Option<String>, DockerError> {
        let answer = self.inner.api.inspect_network(name, None::<InspectNetworkOptions>);
        let network = match self.limited("inspecting a network", LIMIT, answer).await {
            Err(DockerError::NotFound(_)) => return Ok(None),
            answer => answer?,
        };
        if !network.labels.is_some_and(|labels| labels.contains_key(LAB)) {
            return Ok(None);
        }
        let made = network.created.and_then(|made| made.parse::<Timestamp>().ok());
        if made.is_some_and(|made| {
            Timestamp::now().duration_since(made) < SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)
        }) {
            return Ok(None);
        }
        let id = network.id.unwrap_or_else(|| name.to_owned());
        let filters = HashMap::from([("network".to_owned(), vec![id.clone()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let users = self.limited("listing containers", LIMIT, self.inner.api.list_containers(Some(options))).await?;
        if !users.is_empty() {
            return Ok(None);
        }
        let own_name = network.options.and_then(|mut options| options.remove("com.docker.network.bridge.name"));
        match self.limited("removing a network", LIMIT, self.inner.api.remove_network(&id)).await {
            Ok(()) => Ok(Some(own_name.unwrap_or_else(|| format!("br-{}", id.chars().take(12).collect::<String>())))),
            // Somebody else was faster.
            Err(DockerError::NotFound(_)) => Ok(None),
            // A container has come in between.
            Err(DockerError::Refused { message, .. }) if message.contains("active endpoints") => Ok(None),
            Err(error) => Err(error),
        }
    }
}
