//! Which container engine it is that containers are made with: noted with each instance, so that a server which was given another
//! one knows that it can't tell what became of them.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::config::ContainerlabConfig;
use crate::runtime::docker::Docker;

/// How long the program may take to say whether it knows an engine.
const PATIENCE: Duration = Duration::from_secs(10);

/// An engine, as it is noted: `docker at unix:///run/docker.sock (its id in /var/lib/docker)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Engine {
    /// What containerlab is told as `--runtime`.
    runtime: String,
    address: String,
    /// What it calls itself wherever it listens, if it does so.
    id: Option<String>,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.runtime, self.address)?;
        self.id.iter().try_for_each(|id| write!(f, " ({id})"))
    }
}

impl Engine {
    /// That of this configuration, which answers through `docker`.
    pub(super) async fn of(config: &ContainerlabConfig, docker: &Docker) -> Self {
        let runtime = config.runtime.clone().unwrap_or_else(|| "docker".to_owned());
        // Podman makes up another one for each question.
        let id = if runtime == "docker" { docker.id().await.ok().flatten() } else { None };
        Self { runtime, address: real_address(&docker.host()), id }
    }

    fn parse(noted: &str) -> Option<Self> {
        let (runtime, rest) = noted.split_once(" at ")?;
        let (address, id) = match rest.split_once(" (") {
            Some((address, id)) => (address, Some(id.trim_end_matches(')').to_owned())),
            None => (rest, None),
        };
        Some(Self { runtime: runtime.to_owned(), address: address.to_owned(), id })
    }

    /// Whether it is the one that was noted: it listens at the same place, or it says that it is the same.
    pub(super) fn is(&self, noted: &str) -> bool {
        let Some(noted) = Self::parse(noted) else { return false };
        let same_id = self.id.is_some() && self.id == noted.id;
        self.runtime == noted.runtime && (same_id || self.address == noted.address)
    }
}

/// Whether the program can make containers with `runtime` at all. One that isn't heard in time may be able to.
pub(super) async fn is_known(program: &Path, runtime: &str) -> bool {
    // Its default.
    if runtime == "docker" {
        return true;
    }
    // Which engines it was built with, it says of none but the one that it is asked to use.
    let mut command = Command::new(program);
    command.args(["--runtime", runtime, "inspect", "--all", "--format", "json"]);
    command.env_clear().env("CLAB_VERSION_CHECK", "disable").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => !String::from_utf8_lossy(&output.stderr).to_lowercase().contains("unknown container runtime"),
        _ => true,
    }
}

/// The address with the real path of its socket: `/var/run` leads to `/run` on most machines.
fn real_address(address: &str) -> String {
    let real = address.strip_prefix("unix://").and_then(|path| Path::new(path).canonicalize().ok());
    real.map_or_else(|| address.to_owned(), |path| format!("unix://{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(runtime: &str, address: &str, id: Option<&str>) -> Engine {
        Engine { runtime: runtime.to_owned(), address: address.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn an_engine_is_known_again_by_its_place_or_by_what_it_calls_itself() {
        let here = engine("docker", "unix:///run/docker.sock", Some("AB:CD"));
        assert_eq!(Engine::parse(&here.to_string()).as_ref(), Some(&here));
        let is = |noted: Engine| here.is(&noted.to_string());
        assert!(is(here.clone()));
        assert!(is(engine("docker", "tcp://10.0.0.1:2375", Some("AB:CD"))), "the same from elsewhere");
        assert!(is(engine("docker", "unix:///run/docker.sock", Some("EF:01"))), "its data was made anew");
        assert!(!is(engine("docker", "tcp://10.0.0.1:2375", Some("EF:01"))));
        assert!(!is(engine("docker", "tcp://10.0.0.1:2375", None)));
        assert!(!is(engine("podman", "unix:///run/docker.sock", None)));
        assert!(!here.is("nonsense"));
    }
}
