//! Saving what the nodes of a lab have, and checkpoints of labs.
//!
//! To save a lab or to change its checkpoints is put to the policy as a change of the lab that leaves it as it is; to restore
//! one as a change to what it would be and as the command to deploy that, which the validators see first.

use std::io::{self, Read, Write as _};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{Caller, Id, Ids, Json, checked_name};
use super::labs::visible;
use super::openapi::{Fails, Name, NotDone, Nothing, Refused, Time};
use super::{Answer, Api, Payload, UserJson, answer, capacity};
use crate::labs::LabCommandError;
use crate::labs::checkpoints::Contents;
use crate::labs::model::{Checkpoint, LabSnapshot};
use crate::plugins::decision::{Action, Command, CommandKind};
use crate::runtime::saved::{NodeSaved, SaveOutcome, SavedFiles};

/// How much of an archive is read at once.
const CHUNK: usize = 64 << 10;

/// What was saved.
#[derive(Serialize, ToSchema)]
#[schema(as = Saved)]
pub(super) struct SavedJson {
    nodes: Vec<NodeSavedJson>,
}

/// What was saved of a node.
#[derive(Serialize, ToSchema)]
#[schema(as = NodeSaved)]
struct NodeSavedJson {
    node: String,
    saved: bool,
    /// How much, or why not.
    detail: String,
}

impl From<NodeSaved> for NodeSavedJson {
    fn from(NodeSaved { node, outcome }: NodeSaved) -> Self {
        Self { node, saved: matches!(outcome, SaveOutcome::Saved { .. }), detail: outcome.detail() }
    }
}

/// A lab as it was at some moment.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Checkpoint)]
pub(super) struct CheckpointJson {
    id: String,
    lab_id: String,
    /// Unique within the lab.
    name: String,
    #[schema(value_type = Time)]
    created_at: Timestamp,
    creator: UserJson,
    /// How many files, links and folders it has.
    files: u64,
    /// Bytes that it takes.
    bytes: u64,
}

impl From<&Checkpoint> for CheckpointJson {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            id: checkpoint.id.to_string(),
            lab_id: checkpoint.lab_id.to_string(),
            name: checkpoint.name.clone(),
            created_at: checkpoint.created,
            creator: UserJson::from(&checkpoint.creator),
            files: checkpoint.files,
            bytes: checkpoint.bytes,
        }
    }
}

/// A checkpoint with what is in it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CheckpointContents)]
pub(super) struct ContentsJson {
    #[serde(flatten)]
    checkpoint: CheckpointJson,
    /// In YAML.
    definition: String,
    /// Its bind files.
    bind_files: Vec<FileJson>,
    /// Files and links of nodes, by node; the first 2000 of them.
    nodes: Vec<NodeFilesJson>,
    /// How many files there are besides.
    more_files: usize,
}

/// The files and links of a node.
#[derive(Serialize, ToSchema)]
#[schema(as = NodeFiles)]
struct NodeFilesJson {
    node: String,
    files: Vec<FileJson>,
}

/// A file in a checkpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = CheckpointFile)]
struct FileJson {
    /// Beside the definition, or from the root of a node; what of it is no text is replaced.
    path: String,
    /// Bytes.
    size: u64,
}

/// A checkpoint to be made.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewCheckpoint {
    #[schema(value_type = Name)]
    name: String,
}

/// Save a lab
///
/// Keeps what its nodes have made for its next checkpoint. It must run. On the embedded runtime that is the files that a node
/// has changed or made; with containerlab, what `containerlab save` writes for nodes of its kind. Who may change the lab may do
/// this.
#[utoipa::path(
    post, path = "/labs/{id}/save", operation_id = "saveLab", tag = "labs", params(Id),
    responses(
        (status = 200, description = "What was saved of each node, and if not, why.", body = Payload<SavedJson>),
        Fails<(NotDone, Refused)>,
    ),
)]
pub(super) async fn save(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<SavedJson> {
    let lab = visible(&api, &caller, &id.as_str().into()).await?;
    api.authorize(&caller, Action::UpdateLab(&lab, &lab)).await?;
    let nodes = api.labs.save(&lab.lab.id).await?;
    answer(SavedJson { nodes: nodes.into_iter().map(NodeSavedJson::from).collect() })
}

/// Checkpoints of a lab
///
/// The oldest first.
#[utoipa::path(
    get, path = "/labs/{id}/checkpoints", operation_id = "listCheckpoints", tag = "labs", params(Id),
    responses((status = 200, description = "The checkpoints.", body = Payload<Vec<CheckpointJson>>)),
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<Vec<CheckpointJson>> {
    let lab = visible(&api, &caller, &id.as_str().into()).await?;
    answer(api.labs.checkpoints(&lab.lab.id).await?.iter().map(CheckpointJson::from).collect())
}

/// Make a checkpoint of a lab
///
/// Of its definition, its bind files and the files of its nodes: a lab that runs is saved first, of any other it is what was
/// last saved. Who may change the lab may do this.
#[utoipa::path(
    post, path = "/labs/{id}/checkpoints", operation_id = "createCheckpoint", tag = "labs", params(Id),
    responses(
        (status = 200, description = "The checkpoint.", body = Payload<CheckpointJson>),
        Fails<(NotDone, Refused)>,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(new): Json<NewCheckpoint>,
) -> Answer<CheckpointJson> {
    let lab = visible(&api, &caller, &id.as_str().into()).await?;
    let name = checked_name(&new.name)?;
    api.authorize(&caller, Action::UpdateLab(&lab, &lab)).await?;
    let made = api.labs.make_checkpoint(&lab.lab.id, name, caller.user.clone()).await?;
    answer(CheckpointJson::from(&made))
}

/// A checkpoint
///
/// With what is in it. Who may change the lab may see that: files of nodes are not for everybody.
#[utoipa::path(
    get, path = "/labs/{id}/checkpoints/{checkpoint}", operation_id = "showCheckpoint", tag = "labs",
    params(("id" = String, Path), ("checkpoint" = String, Path)),
    responses(
        (status = 200, description = "The checkpoint.", body = Payload<ContentsJson>),
        Fails<(NotDone, Refused)>,
    ),
)]
pub(super) async fn show(State(api): State<Api>, caller: Caller, ids: Ids<2>) -> Answer<ContentsJson> {
    let (lab, checkpoint) = found(&api, &caller, ids).await?;
    api.authorize(&caller, Action::UpdateLab(&lab, &lab)).await?;
    let Contents { files, of_nodes, more } = api.labs.contents(&checkpoint).await?;
    let mut nodes: Vec<NodeFilesJson> = Vec::new();
    for file in of_nodes {
        let entry = FileJson { path: format!("/{}", file.path), size: file.size };
        match nodes.last_mut().filter(|node| node.node == file.node) {
            Some(node) => node.files.push(entry),
            None => nodes.push(NodeFilesJson { node: file.node, files: vec![entry] }),
        }
    }
    let bind_files = files.into_iter().map(|(path, size)| FileJson { path, size }).collect();
    let definition = checkpoint.definition.clone();
    answer(ContentsJson {
        checkpoint: CheckpointJson::from(&checkpoint),
        definition,
        bind_files,
        nodes,
        more_files: more,
    })
}

/// Download a checkpoint
///
/// As a tar archive: `topology.clab.yml`, its bind files in `files`, and in `nodes` a folder with the files of each node. Who
/// may change the lab may have it.
#[utoipa::path(
    get, path = "/labs/{id}/checkpoints/{checkpoint}/archive", operation_id = "downloadCheckpoint", tag = "labs",
    params(("id" = String, Path), ("checkpoint" = String, Path)),
    responses(
        (status = 200, description = "The archive.", content_type = "application/gzip", body = String),
        Fails<(NotDone, Refused)>,
    ),
)]
pub(super) async fn download(State(api): State<Api>, caller: Caller, ids: Ids<2>) -> Result<Response, ApiError> {
    let (lab, checkpoint) = found(&api, &caller, ids).await?;
    api.authorize(&caller, Action::UpdateLab(&lab, &lab)).await?;
    let archive = api.labs.archive_of(&checkpoint).await?;
    // Of the name, what can be in a header and in the name of a file everywhere.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = checkpoint.name.chars().map(plain).collect();
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}.tar.gz\""));
    let disposition = disposition.unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/gzip")),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, Body::from_stream(packed(&archive))).into_response())
}

/// Remove a checkpoint
///
/// Who may change the lab may do this.
#[utoipa::path(
    delete, path = "/labs/{id}/checkpoints/{checkpoint}", operation_id = "deleteCheckpoint", tag = "labs",
    params(("id" = String, Path), ("checkpoint" = String, Path)),
    responses(
        (status = 200, description = "It is removed.", body = Payload<Nothing>),
        Fails<(Refused,)>,
    ),
)]
pub(super) async fn delete(State(api): State<Api>, caller: Caller, ids: Ids<2>) -> Answer<()> {
    let (lab, checkpoint) = found(&api, &caller, ids).await?;
    api.authorize(&caller, Action::UpdateLab(&lab, &lab)).await?;
    api.labs.remove_checkpoint(&lab.lab.id, &checkpoint.id).await?;
    answer(())
}

/// Restore a checkpoint
///
/// Deploys the lab anew, as it was then; what runs of it is destroyed first. The answer comes when it is up, the log is that of
/// any deploy. Its topology stays as it is: the next deploy is of that again. Processes, addresses and routes are no files:
/// `cmd` and `exec` of the definition are run anew. Who may both change the lab and deploy it like this may do it.
#[utoipa::path(
    post, path = "/labs/{id}/checkpoints/{checkpoint}/restore", operation_id = "restoreCheckpoint", tag = "labs",
    params(("id" = String, Path), ("checkpoint" = String, Path)),
    responses(
        (status = 200, description = "It is up.", body = Payload<Nothing>),
        Fails<(NotDone, Refused)>,
    ),
)]
pub(super) async fn restore(State(api): State<Api>, caller: Caller, ids: Ids<2>) -> Answer<()> {
    let (lab, checkpoint) = found(&api, &caller, ids).await?;
    let kept = api.labs.open_checkpoint(checkpoint).await?;
    let command = Command { kind: CommandKind::Deploy, lab_id: lab.lab.id.clone(), node: None, shell_id: None };
    let validated = api.plugins.validate(command.clone(), &caller.identity, &lab, None, caller.circumstances).await?;
    if validated != command {
        let problem =
            "the server's validators make another command of this deploy, which a checkpoint can't be restored by";
        return Err(ApiError::Invalid(problem.to_owned()));
    }
    let would = Arc::new(LabSnapshot {
        definition: kept.definition.text.clone(),
        topology: Arc::clone(&kept.definition.topology),
        next: None,
        ..(*lab).clone()
    });
    api.authorize(&caller, Action::UpdateLab(&lab, &would)).await?;
    api.authorize(&caller, Action::Command(&command, &would, None)).await?;
    let by = Some(caller.identity.id.clone());
    let restored = api.labs.restore(&lab.lab.id, by, would, kept).await;
    // The logs can be read by whoever hears the answer.
    api.labs.publisher().heard().await;
    match restored {
        Err(LabCommandError::NoRoom(no_room)) => {
            Err(ApiError::NoRoom(capacity::sentence(&api, &caller, &no_room).await))
        }
        restored => answer(restored?),
    }
}

/// The lab and its checkpoint, unless there is none that the caller may see.
async fn found(api: &Api, caller: &Caller, Ids([lab, id]): Ids<2>) -> Result<(Arc<LabSnapshot>, Checkpoint), ApiError> {
    let lab = visible(api, caller, &lab.as_str().into()).await?;
    let checkpoints = api.labs.checkpoints(&lab.lab.id).await?;
    let checkpoint = checkpoints.into_iter().find(|checkpoint| checkpoint.id.as_str() == id);
    Ok((lab, checkpoint.ok_or(ApiError::NotFound("checkpoint", id))?))
}

/// An archive, compressed as it is read. Nobody's thread is held while the client takes its time.
fn packed(archive: &SavedFiles) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + use<> {
    let state = Some((archive.reader(), GzEncoder::new(Vec::new(), Compression::default())));
    stream::try_unfold(state, async |state| {
        let Some((mut reader, mut encoder)) = state else { return Ok(None) };
        let packing = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK];
            loop {
                let length = reader.read(&mut chunk)?;
                if length == 0 {
                    return Ok((Bytes::from(encoder.finish()?), None));
                }
                encoder.write_all(&chunk[..length])?;
                let ready = std::mem::take(encoder.get_mut());
                if !ready.is_empty() {
                    return Ok((Bytes::from(ready), Some((reader, encoder))));
                }
            }
        });
        packing.await.map_err(io::Error::other)?.map(Some)
    })
}
