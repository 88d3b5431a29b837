//! Taking an instance down, whatever there is of it still.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::definition;
use super::driver::{Shared, failed, words};
use super::leftovers;
use super::networks;
use super::program::{Run, RunError};
use super::runs::{self, topology_file};
use crate::runtime::docker::Container;
use crate::runtime::{LogSink, RuntimeError};
use crate::topology::Topology;

/// How long taking down may take before what is left is removed one by one.
const DESTROY_LIMIT: Duration = Duration::from_secs(600);

impl Shared {
    /// Takes an instance down.
    pub(super) async fn destroy(&self, instance: &str, dir: &Path, log: &LogSink) -> Result<(), RuntimeError> {
        // Before anything is touched: what can't be taken down now goes on as it is.
        self.docker().containers(Some(instance)).await.map_err(|error| {
            RuntimeError::Unreachable(format!("nothing was done, as the container engine can't be asked: {error}"))
        })?;
        let _expected = self.watch.expect(instance);
        let life = self.life(instance);
        // What is being done to its nodes ends, and nothing else is begun.
        let _alone = life.end().await;
        // One that a server had begun which was killed.
        runs::end(self.found.program.path.clone(), instance.to_owned()).await;
        self.take_down(instance, dir, false, log).await
    }

    /// Ends what a server had begun that was killed. Answers what is left besides containers.
    pub(super) async fn settle(&self, instance: &str, dir: &Path) -> Result<Vec<String>, RuntimeError> {
        let life = self.life(instance);
        let _alone = life.end().await;
        if runs::end(self.found.program.path.clone(), instance.to_owned()).await {
            self.wait_for_late_containers(instance).await;
        }
        let mut networks = self.docker().networks_of(instance).await?;
        let definition = tokio::fs::read_to_string(dir.join(topology_file(instance))).await.unwrap_or_default();
        networks.extend(definition::network(&definition));
        let mut left = Vec::new();
        for network in networks {
            if self.networks.is_left(&network).await {
                left.push(format!("network {network}"));
            }
        }
        Ok(left)
    }

    /// Removes whatever there is of an instance, whose folder is `dir`. `elsewhere`: there is something that the engine doesn't
    /// show.
    pub(super) async fn take_down(
        &self,
        instance: &str,
        dir: &Path,
        elsewhere: bool,
        log: &LogSink,
    ) -> Result<(), RuntimeError> {
        let elsewhere = elsewhere || !matches!(self.config.runtime.as_deref(), None | Some("docker"));
        let before = self.docker().containers(Some(instance)).await?;
        let mut networks = self.docker().networks_of(instance).await?;
        // It may have made one before any container, or somebody has taken its containers away.
        let dir = tokio::fs::canonicalize(dir).await.unwrap_or_else(|_| dir.to_owned());
        let file = dir.join(topology_file(instance));
        let definition = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        networks.extend(definition::network(&definition).into_iter().chain([networks::SHARED.to_owned()]));
        let file = Some(&*file).filter(|file| file.is_file());
        let mut unseen = Ok(());
        if !before.is_empty() {
            let _ = self.run_destroy(instance, file, &before, log).await;
        } else if elsewhere {
            // Nothing else here reaches that engine, so what containerlab says is all that is known.
            unseen = self.run_destroy(instance, file, &before, log).await;
        }
        // What counts is what is left: containerlab reports success although it could not remove a container.
        for container in self.docker().containers(Some(instance)).await? {
            match self.docker().remove(&container.id).await {
                Ok(()) => log.line(&format!("Removed container {}", container.name)),
                Err(error) => log.line(&format!("Container {} can't be removed: {error}", container.name)),
            }
        }
        let left = self.docker().containers(Some(instance)).await?;
        let mut names = before.iter().map(|container| container.name.clone()).collect::<Vec<_>>();
        names.extend(unmarked_names(&definition));
        let name = instance.to_owned();
        let swept = tokio::task::spawn_blocking(move || leftovers::sweep(&name, &names)).await;
        for problem in swept.unwrap_or_default() {
            log.line(&format!("Something is left of {instance}: {problem}"));
        }
        for network in &networks {
            self.networks.remove(network, log).await;
        }
        if let Some(container) = left.first() {
            let more = if left.len() > 1 { format!(" and {} more", left.len() - 1) } else { String::new() };
            return Err(RuntimeError::Failed(format!("container {}{more} could not be removed", container.name)));
        }
        unseen.map_err(failed)?;
        // Containerlab's own folder, which it removes only together with containers.
        let _ = tokio::fs::remove_dir_all(dir.join(format!("clab-{instance}"))).await;
        log.line(&format!("Nothing is left of {instance}"));
        Ok(())
    }

    /// Lets containerlab destroy it. Whether that worked is seen by what is left, where the engine shows that.
    async fn run_destroy(
        &self,
        instance: &str,
        file: Option<&Path>,
        containers: &[Container],
        log: &LogSink,
    ) -> Result<(), RunError> {
        let noted = containers.iter().find_map(|container| container.topology_file.clone());
        let file = file.map(Path::to_owned).or(noted).filter(|file| file.is_file());
        let mut arguments: Vec<OsString> = words(["destroy".as_ref()]);
        if !containers.is_empty() {
            // It is removed when nobody is about to use it. On another engine nobody else would do it.
            arguments.extend(words(["--keep-mgmt-net".as_ref()]));
        }
        let mut dir = PathBuf::from("/");
        match &file {
            Some(file) => {
                dir = file.parent().map_or(dir, Path::to_owned);
                arguments.extend(words(["--cleanup".as_ref(), "--topo".as_ref(), file.as_os_str()]));
            }
            None => {
                log.line(&format!("The topology file of {instance} is gone; destroying it by its name"));
                arguments.extend(words(["--name".as_ref(), instance.as_ref()]));
            }
        }
        let never = CancellationToken::new();
        let run = Run { arguments, dir: &dir, log, cancel: &never, limit: Some(DESTROY_LIMIT) };
        match self.program.run(run).await {
            Ok(_) => Ok(()),
            // It calls a lab without containers an error.
            Err(RunError::Failed(reason)) if containers.is_empty() && reason.contains("not found") => Ok(()),
            Err(error) => {
                log.line(&format!("containerlab could not destroy {instance}: {error}"));
                Err(error)
            }
        }
    }
}

/// Names of containers in which the name of their instance isn't, as far as a topology file tells: nodes have such where the
/// prefix is empty.
fn unmarked_names(definition: &str) -> Vec<String> {
    let topology = Topology::parse(definition).ok().filter(|topology| topology.prefix.as_deref() == Some(""));
    topology.into_iter().flat_map(|topology| topology.nodes).map(|node| node.name).collect()
}
