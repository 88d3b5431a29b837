//! Saves and checkpoints: what a lab's nodes have made is written away beside its task, and no more than one at a time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{JobEnd, LabCommandError, LabTask};
use crate::labs::checkpoints::ToKeep;
use crate::labs::lifecycle::{self, Denial};
use crate::labs::model::{BindFile, Checkpoint, CheckpointId, TopologyId, User};
use crate::labs::run_folder;
use crate::runtime::saved::{NodeSaved, SaveOutcome};
use crate::store::Store;
use crate::topology::Topology;

/// What somebody asked for, and where the answer goes.
pub(in crate::labs) enum SaveRequest {
    Save(oneshot::Sender<Result<Vec<NodeSaved>, LabCommandError>>),
    Checkpoint { name: String, creator: User, reply: oneshot::Sender<Result<Checkpoint, LabCommandError>> },
}

impl SaveRequest {
    fn refuse(self, error: LabCommandError) {
        // Whoever asked may have gone.
        match self {
            Self::Save(reply) => drop(reply.send(Err(error))),
            Self::Checkpoint { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

impl LabTask {
    pub(super) async fn save(&mut self, request: SaveRequest) {
        let event = match &request {
            SaveRequest::Save(_) => lifecycle::Event::Save,
            SaveRequest::Checkpoint { .. } => lifecycle::Event::Keep,
        };
        let next = match lifecycle::step(self.facts.phase, event) {
            // One that was cancelled may not have ended yet.
            Ok(_) if self.save_job.is_some() => Err(Denial::BeingSaved),
            next => next,
        };
        match next {
            Ok((phase, effects)) => {
                self.save_request = Some(request);
                self.enter(phase, effects).await;
            }
            Err(denial) => request.refuse(denial.into()),
        }
    }

    /// Begins what was asked for: `from_nodes` says whether the nodes are to be saved first.
    pub(super) fn begin_save(&mut self, from_nodes: bool) {
        let Some(request) = self.save_request.take() else { return };
        self.save_cancel = CancellationToken::new();
        let (shared, logs, cancel) = (self.shared.clone(), Arc::clone(&self.logs), self.save_cancel.clone());
        let lab = self.facts.lab.id.clone();
        let instance = self.facts.instance_name().filter(|_| from_nodes).map(str::to_owned);
        let definition = Arc::clone(self.facts.current());
        let topology = self.facts.stored.id.clone();
        let source = match self.facts.instance_name() {
            None => Source::Topology(topology),
            Some(instance) => {
                Source::Instance { dir: self.shared.run_dir.join(instance), files: self.files.get().cloned(), topology }
            }
        };
        let job = async move {
            let runtime = shared.driver.name();
            let log = logs.sink().await;
            let saved = match &instance {
                None => Ok(Vec::new()),
                Some(instance) => {
                    log.line("Saving the configurations of the nodes");
                    let saving = async {
                        let unfinished = shared.shelf.unfinished(&lab).await?;
                        let file = unfinished.file().map_err(|error| LabCommandError::Internal(error.to_string()))?;
                        let (dir, limits) = (shared.run_dir.join(instance), shared.shelf.options.node);
                        let nodes =
                            shared.driver.save(instance, &dir, file, limits, Arc::clone(&log), cancel.clone()).await?;
                        shared.shelf.keep_saved(&lab, runtime, unfinished, &nodes).await?;
                        Ok(nodes)
                    };
                    saving.await
                }
            };
            let saved: Result<Vec<NodeSaved>, LabCommandError> = match saved {
                Err(LabCommandError::Cancelled) => Err(LabCommandError::SaveCancelled),
                saved => saved,
            };
            if let Err(error) = &saved {
                log.line(&format!("The save has ended: {error}"));
            }
            match request {
                SaveRequest::Save(reply) => answer(move || drop(reply.send(saved))),
                SaveRequest::Checkpoint { name, creator, reply } => {
                    let keeping = async {
                        check_all(&saved?)?;
                        if cancel.is_cancelled() {
                            return Err(LabCommandError::SaveCancelled);
                        }
                        let files = source.read(&shared.store).await?;
                        // One that can't be restored is of no use to anybody.
                        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
                        Topology::parse_beside(&definition.text, &paths).map_err(|error| {
                            LabCommandError::Refused(format!(
                                "the lab can't be restored as it is, since its files have been changed: {error}; deploy it \
                                 anew first"
                            ))
                        })?;
                        let checkpoint = Checkpoint {
                            id: CheckpointId::generate(),
                            lab_id: lab,
                            name,
                            created: now(),
                            creator,
                            definition: definition.text.clone(),
                            runtime: None,
                            files: 0,
                            bytes: 0,
                        };
                        let nodes = definition.topology.nodes.iter().map(|node| node.name.clone()).collect();
                        let kept = shared.shelf.keep(ToKeep { checkpoint, nodes, files }, runtime).await?;
                        log.line(&format!(
                            "Made the checkpoint {}: {} files, {} bytes",
                            kept.name, kept.files, kept.bytes
                        ));
                        Ok(kept)
                    };
                    let result = keeping.await;
                    if let Err(error) = &result {
                        log.line(&format!("The checkpoint was not made: {error}"));
                    }
                    answer(move || drop(reply.send(result)))
                }
            }
        };
        self.save_job = Some(self.jobs.spawn(async move { JobEnd::Save(job.await) }).id());
    }
}

/// Where the bind files are that belong to the definition of a checkpoint. Those of the topology may be others by now than
/// those that an instance was deployed with.
enum Source {
    /// There is no instance: those of the topology.
    Topology(TopologyId),
    /// Those in the folder of an instance. Which they are is not known if another server has deployed it: then they are those
    /// of the topology that are there.
    Instance { dir: PathBuf, files: Option<Vec<BindFile>>, topology: TopologyId },
}

impl Source {
    async fn read(self, store: &Store) -> Result<Vec<BindFile>, LabCommandError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "the files of a lab could not be read");
            LabCommandError::Internal("the files of the topology could not be read: see the server's log".into())
        };
        let stored = async |topology| store.bind_files(&topology).await.map_err(|error| unreadable(&error));
        match self {
            Self::Topology(topology) => stored(topology).await,
            Self::Instance { dir, files, topology } => {
                let files = match files {
                    Some(files) => files,
                    None => stored(topology).await?,
                };
                let read = tokio::task::spawn_blocking(move || run_folder::read(&dir, files)).await;
                read.map_err(io::Error::other).flatten().map_err(|error| unreadable(&error))
            }
        }
    }
}

type Answer = Box<dyn FnOnce() + Send>;

/// Whoever asked is answered when the lab is no longer being saved, so that they can go on with it.
fn answer(answer: impl FnOnce() + Send + 'static) -> Answer {
    Box::new(answer)
}

/// A checkpoint that lacks a node would be taken for a whole one.
fn check_all(nodes: &[NodeSaved]) -> Result<(), LabCommandError> {
    let failed = nodes.iter().find_map(|NodeSaved { node, outcome }| match outcome {
        SaveOutcome::Failed(reason) => Some(format!("node {node} could not be saved: {reason}")),
        SaveOutcome::Saved { .. } | SaveOutcome::Nothing(_) => None,
    });
    failed.map_or(Ok(()), |reason| Err(LabCommandError::Runtime(reason)))
}

/// As it is kept: whole milliseconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
