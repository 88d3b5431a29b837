//! Bind files: what lies beside the definition of a topology when it is deployed. Writing one is a change of its topology, and
//! put to the policy as such.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{Caller, Id, Ids, Json};
use super::openapi::{BadFilePath, Fails, FilePathTaken, Nothing, Refused};
use super::topologies::{Full, visible};
use super::{Answer, Api, Payload, answer, unless_overtaken};
use crate::labs::model::{BindFile, BindFileId};
use crate::plugins::decision::Action;
use crate::store::MAX_FILE;
use crate::topology::file_path;

/// Longest body of a request that writes a file, in bytes: whatever a file holds, each byte of it takes six at most.
pub(super) const MAX_BODY: usize = 6 * MAX_FILE + (64 << 10);

/// A bind file.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BindFile)]
pub(super) struct BindFileJson {
    id: String,
    topology_id: String,
    /// From the folder that the definition is in.
    file_path: String,
    content: String,
}

impl From<&BindFile> for BindFileJson {
    fn from(file: &BindFile) -> Self {
        Self {
            id: file.id.to_string(),
            topology_id: file.topology_id.to_string(),
            file_path: file.path.clone(),
            content: file.content.clone(),
        }
    }
}

/// A bind file to be created. Without content it is empty.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewBindFile {
    /// From the folder that the definition is in, and within it, such as `config/r1.cfg`.
    #[schema(example = "config/r1.cfg")]
    file_path: String,
    #[serde(default)]
    content: String,
}

/// What is to change about a bind file. A field that is missing or null stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BindFilePatch {
    /// From the folder that the definition is in, and within it, such as `config/r1.cfg`.
    file_path: Option<String>,
    content: Option<String>,
}

/// Create a bind file
///
/// It lies beside the definition when that is deployed. Who may change the topology may do this.
#[utoipa::path(
    post, path = "/topologies/{id}/files", operation_id = "createBindFile", tag = "topologies", params(Id),
    responses(
        (status = 200, description = "The id of the new file.", body = Payload<String>),
        Fails<(FilePathTaken, BadFilePath, Refused)>,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(new): Json<NewBindFile>,
) -> Answer<BindFileId> {
    let topology = visible(&api, &caller, &id.as_str().into()).await?;
    let file = BindFile {
        id: BindFileId::generate(),
        topology_id: topology.stored.id.clone(),
        path: file_path(&new.file_path)?,
        content: checked_content(new.content)?,
    };
    authorize(&api, &caller, &topology, None, Some(&file.path)).await?;
    api.store.insert_bind_file(&file).await?;
    api.labs.topology_changed(&file.topology_id, None).await;
    answer(file.id)
}

/// Change a bind file
#[utoipa::path(
    patch, path = "/topologies/{id}/files/{file}", operation_id = "updateBindFile", tag = "topologies",
    params(("id" = String, Path), ("file" = String, Path)),
    responses(
        (status = 200, description = "It is changed.", body = Payload<Nothing>),
        Fails<(FilePathTaken, BadFilePath, Refused)>,
    ),
)]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    ids: Ids<2>,
    Json(patch): Json<BindFilePatch>,
) -> Answer<()> {
    let Ids([id, file]) = ids;
    unless_overtaken(|| change(&api, &caller, &id, &file, &patch)).await?;
    api.labs.topology_changed(&id.as_str().into(), None).await;
    answer(())
}

/// Judges and makes a change of what the file is at the moment.
async fn change(api: &Api, caller: &Caller, id: &str, file: &str, patch: &BindFilePatch) -> Result<(), ApiError> {
    let (topology, before) = found(api, caller, id, file).await?;
    let path = patch.file_path.as_deref().map(file_path).transpose()?;
    let content = patch.content.clone().map(checked_content).transpose()?;
    let after = BindFile {
        path: path.unwrap_or_else(|| before.path.clone()),
        content: content.unwrap_or_else(|| before.content.clone()),
        ..before.clone()
    };
    authorize(api, caller, &topology, Some(&before.path), Some(&after.path)).await?;
    api.store.update_bind_file(&before, &after).await?;
    Ok(())
}

/// Change a bind file
///
/// The same as with PATCH.
#[utoipa::path(
    put, path = "/topologies/{id}/files/{file}", operation_id = "replaceBindFile", tag = "topologies",
    params(("id" = String, Path), ("file" = String, Path)),
    responses(
        (status = 200, description = "It is changed.", body = Payload<Nothing>),
        Fails<(FilePathTaken, BadFilePath, Refused)>,
    ),
)]
pub(super) async fn replace(api: State<Api>, caller: Caller, ids: Ids<2>, patch: Json<BindFilePatch>) -> Answer<()> {
    update(api, caller, ids, patch).await
}

/// Delete a bind file
#[utoipa::path(
    delete, path = "/topologies/{id}/files/{file}", operation_id = "deleteBindFile", tag = "topologies",
    params(("id" = String, Path), ("file" = String, Path)),
    responses((status = 200, description = "It is deleted.", body = Payload<Nothing>), Fails<(Refused,)>),
)]
pub(super) async fn delete(State(api): State<Api>, caller: Caller, ids: Ids<2>) -> Answer<()> {
    let Ids([id, file]) = ids;
    let (topology, file) = found(&api, &caller, &id, &file).await?;
    authorize(&api, &caller, &topology, Some(&file.path), None).await?;
    api.store.delete_bind_file(&file.topology_id, &file.id).await?;
    api.labs.topology_changed(&file.topology_id, None).await;
    answer(())
}

/// The file and its topology, unless there is none that the caller may see.
async fn found(api: &Api, caller: &Caller, topology: &str, file: &str) -> Result<(Full, BindFile), ApiError> {
    let topology = visible(api, caller, &topology.into()).await?;
    let files = api.store.bind_files(&topology.stored.id).await?;
    let known = files.into_iter().find(|known| known.id.as_str() == file);
    known.map(|known| (topology, known)).ok_or_else(|| ApiError::NotFound("file", file.to_owned()))
}

/// Asks whether the caller may make of the topology what it is without one file and with another.
async fn authorize(
    api: &Api,
    caller: &Caller,
    before: &Full,
    without: Option<&str>,
    with: Option<&str>,
) -> Result<(), ApiError> {
    let mut stored = before.stored.clone();
    stored.file_paths.retain(|path| Some(path.as_str()) != without);
    stored.file_paths.extend(with.map(str::to_owned));
    stored.file_paths.sort_unstable();
    let after = Full::of(stored, before.collection.clone());
    api.authorize(caller, Action::UpdateTopology(before.view(), after.view())).await
}

/// Files are text, and not every database keeps this character.
fn checked_content(content: String) -> Result<String, ApiError> {
    match content.find('\0') {
        None => Ok(content),
        Some(place) => {
            Err(ApiError::Invalid(format!("content: it has a NUL character at byte {place}; bind files are text")))
        }
    }
}
