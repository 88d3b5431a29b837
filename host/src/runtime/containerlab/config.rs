//! What an operator can say about containerlab and the container engine below it: the keys of `containerlab:`. Plain data;
//! `config` reads it, the driver, [`super::version`] and, for what clients are told of containerlab, `guide` use it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// How the driver finds and runs containerlab.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ContainerlabConfig {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// What containerlab is given as `--runtime`: `docker`, or `podman`, which takes a containerlab that was built with it,
    /// and podman's address as `dockerHost`. `c9s` is passed on as well, but containerlab 0.79 doesn't know it. Left out:
    /// containerlab's own default, Docker.
    #[schemars(extend("enum" = ["docker", "podman", "c9s", null]))]
    #[serde(deserialize_with = "runtime")]
    pub runtime: Option<String>,
    /// Where the container engine listens, such as `unix:///var/run/docker.sock` or `tcp://192.0.2.1:2375`. Left out:
    /// `DOCKER_HOST` of the server's environment, else `unix:///var/run/docker.sock`.
    pub docker_host: Option<String>,
    /// How many seconds a node may take to stop before it is killed.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(deserialize_with = "seconds")]
    pub stop_timeout: u64,
    /// Environment variables that containerlab gets besides `PATH`, `HOME` and those of Docker. Of the server's own
    /// environment it sees nothing else: topologies can copy containerlab's environment into their nodes.
    pub environment: BTreeMap<String, String>,
    /// Where the JSON schema of topology files is fetched from that clients get, over http or https. Left out, or as long as
    /// that fails: the one that was fetched last, or `schemaFallback`, or the server's own.
    pub schema_url: Option<String>,
    /// A file with that JSON schema. Relative to the configuration file.
    pub schema_fallback: Option<PathBuf>,
    /// A file with the kinds of nodes that clients are offered: a JSON list of objects with `kind`, `name`,
    /// `interfacePattern` (in which `$` stands for the number) and `interfaceStart`. Relative to the configuration file. Left
    /// out, or if it can't be read: the kinds that containerlab knows.
    pub device_config: Option<PathBuf>,
}

/// Longest time that a node may take to stop, in seconds.
const MAX_STOP_TIMEOUT: u64 = 3600;

/// What may be asked of containerlab: with a mistyped name every deploy would fail.
const RUNTIMES: [&str; 3] = ["docker", "podman", "c9s"];

fn runtime<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(name) if !RUNTIMES.contains(&name.as_str()) => {
            Err(serde::de::Error::custom(format!("{name} is none of {}", RUNTIMES.join(", "))))
        }
        name => Ok(name),
    }
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        seconds @ 1..=MAX_STOP_TIMEOUT => Ok(seconds),
        seconds => Err(serde::de::Error::custom(format!("{seconds} is not between 1 and {MAX_STOP_TIMEOUT} seconds"))),
    }
}

impl Default for ContainerlabConfig {
    fn default() -> Self {
        Self {
            program: PathBuf::from("containerlab"),
            runtime: None,
            docker_host: None,
            // Docker's own.
            stop_timeout: 10,
            environment: BTreeMap::new(),
            schema_url: None,
            schema_fallback: None,
            device_config: None,
        }
    }
}

impl ContainerlabConfig {
    /// Where the container engine listens.
    pub fn engine_address(&self) -> String {
        let configured = self.docker_host.clone().or_else(|| std::env::var("DOCKER_HOST").ok());
        configured.filter(|host| !host.is_empty()).unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
    }

    /// How long a node may take to stop before it is killed.
    pub(super) fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_default_and_unknown_ones_are_refused() {
        let read = |text: &str| serde_saphyr::from_str::<ContainerlabConfig>(text);
        assert_eq!(read("{}").unwrap(), ContainerlabConfig::default());
        let said = read("{program: /opt/clab, runtime: podman, dockerHost: 'unix:///x', stopTimeout: 3}").unwrap();
        assert_eq!((said.runtime.as_deref(), said.stop_timeout), (Some("podman"), 3));
        assert_eq!(said.engine_address(), "unix:///x");
        assert!(read("{stopTimeout: 0}").unwrap_err().to_string().contains("between 1 and 3600"));
        assert!(read("{runtime: dokcer}").unwrap_err().to_string().contains("none of docker, podman"));
        assert!(read("{progam: x}").is_err());
    }
}
