//! The jobs of a lab: what takes long beside its task. They are begun here, and what comes of them is taken over here.

use std::io;
use std::sync::Arc;

use tokio::task;
use tokio_util::sync::CancellationToken;

use super::{JobEnd, LabCommandError, LabTask, Phase};
use crate::labs::model::{BindFile, StoredInstance, TopologyId};
use crate::labs::{lifecycle, run_folder};
use crate::runtime::{InstanceSpec, RuntimeError};
use crate::store::Store;
use crate::topology::Topology;

impl LabTask {
    pub(super) fn begin_deploy(&mut self, stored: bool) {
        self.cancel = CancellationToken::new();
        let cancel = self.cancel.clone();
        let shared = self.shared.clone();
        let logs = Arc::clone(&self.logs);
        let instance = self.facts.lab.instance.clone().expect("the instance was made with the phase");
        let lab_id = self.facts.lab.id.clone();
        let (topology_id, paths) = (self.facts.stored.id.clone(), self.facts.stored.file_paths.clone());
        let kept = self.kept.clone();
        self.files = Arc::default();
        let deployed = Arc::clone(&self.files);
        let definition = kept.as_ref().map_or(&self.facts.next, |kept| &kept.definition);
        // The runtime knows the instance by its own name, so that two labs of one topology don't meet.
        let topology = Arc::new(Topology { name: instance.name.clone(), ..(*definition.topology).clone() });
        let job = async move {
            if !stored {
                // What isn't stored would be forgotten by a restart, and run on without anybody knowing.
                return Err(LabCommandError::Internal("the instance could not be stored: see the server's log".into()));
            }
            let log = logs.sink().await;
            let files = match &kept {
                Some(kept) => {
                    log.line(&format!("Restoring the checkpoint {}", kept.checkpoint.name));
                    kept.files.clone()
                }
                None => present_files(&shared.store, &topology_id, &paths).await?,
            };
            // Nobody else sets it: it was made for this deploy. What is in the files is in the folder.
            let without_content = |file: &BindFile| BindFile { content: String::new(), ..file.clone() };
            let _ = deployed.set(files.iter().map(without_content).collect());
            let dir = shared.run_dir.join(&instance.name);
            let made = task::spawn_blocking({
                let dir = dir.clone();
                move || run_folder::make(&dir, &files)
            });
            made.await.map_err(io::Error::other).flatten().map_err(|error| {
                LabCommandError::Internal(format!("the run folder {} can't be made: {error}", dir.display()))
            })?;
            let (name, definition) = (instance.name, instance.definition);
            let saved = kept.and_then(|kept| kept.saved.clone());
            let spec = InstanceSpec { lab_id, name, topology, definition, dir, saved };
            Ok(shared.driver.deploy(&spec, log, cancel).await?)
        };
        self.main_job = Some(self.jobs.spawn(async move { JobEnd::Deploy(job.await) }).id());
    }

    pub(super) fn begin_destroy(&mut self) {
        let shared = self.shared.clone();
        let logs = Arc::clone(&self.logs);
        let instance = self.facts.lab.instance.clone();
        let job = async move {
            if let Some(StoredInstance { name, .. }) = instance {
                let dir = shared.run_dir.join(&name);
                shared.driver.destroy(&name, &dir, logs.sink().await).await?;
                run_folder::remove(&dir).await;
            }
            Ok(())
        };
        self.main_job = Some(self.jobs.spawn(async move { JobEnd::Destroy(job.await) }).id());
    }

    pub(super) async fn job_ended(&mut self, end: JobEnd) {
        match end {
            JobEnd::Deploy(Ok(nodes)) => {
                self.facts.set_nodes(nodes);
                // Before anybody hears that it is up, and can ask for the log of a node.
                self.follow_nodes().await;
                self.forget_nodes().await;
                self.event(lifecycle::Event::DeployEnded { up: true }).await;
                // What happened to a node since the runtime took that picture was told while there were no nodes here.
                self.inspect();
            }
            JobEnd::Deploy(Err(error)) => {
                self.note(&format!("The deploy has ended: {error}")).await;
                self.failure = Some(error);
                // Those that were seen meanwhile are gone by now.
                self.facts.nodes.clear();
                self.event(lifecycle::Event::DeployEnded { up: false }).await;
            }
            JobEnd::Destroy(Ok(())) => self.event(lifecycle::Event::DestroyEnded { gone: true }).await,
            JobEnd::Destroy(Err(error)) => {
                self.note(&format!("The destroy has failed: {error}")).await;
                let event = match error {
                    RuntimeError::Unreachable(_) => lifecycle::Event::Untouched { up: self.was_up },
                    _ => lifecycle::Event::DestroyEnded { gone: false },
                };
                self.failure = Some(error.into());
                self.event(event).await;
            }
            JobEnd::Revival { instance, revival } => self.found(&instance, revival).await,
            JobEnd::Save(answer) => {
                self.event(lifecycle::Event::SaveEnded).await;
                answer();
            }
            JobEnd::Node(job, result) => self.node_action_ended(job, result).await,
            JobEnd::Inspect { instance, early: true, result } => self.inspected_early(&instance, result).await,
            JobEnd::Inspect { instance, early: false, result } => self.inspected(&instance, result).await,
        }
    }

    /// A job panicked, which is a bug; the lab is failed rather than stuck.
    pub(super) async fn job_broke(&mut self, error: &task::JoinError) {
        tracing::error!(lab = %self.facts.lab.id, %error, "a job of the lab broke");
        self.looking = false;
        if self.save_job == Some(error.id()) {
            self.save_job = None;
            self.event(lifecycle::Event::SaveEnded).await;
        }
        if self.main_job != Some(error.id()) {
            return;
        }
        self.main_job = None;
        self.failure = Some(LabCommandError::Internal("see the server's log".into()));
        let event = match self.facts.phase {
            Phase::Deploying | Phase::Cancelling => lifecycle::Event::DeployEnded { up: false },
            _ => lifecycle::Event::DestroyEnded { gone: false },
        };
        self.event(event).await;
    }
}

/// The files of the topology, if they are those that the deploy was found to be possible with.
async fn present_files(
    store: &Store,
    topology: &TopologyId,
    paths: &[String],
) -> Result<Vec<BindFile>, LabCommandError> {
    let files = store.bind_files(topology).await.map_err(|error| {
        tracing::error!(%error, %topology, "its files could not be read");
        LabCommandError::Internal("the files of the topology could not be read: see the server's log".into())
    })?;
    if !files.iter().map(|file| &file.path).eq(paths) {
        let problem = "the files of the topology have been changed this very moment: try again";
        return Err(LabCommandError::Refused(problem.into()));
    }
    Ok(files)
}
