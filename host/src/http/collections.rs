//! Collections.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{Caller, Id, Json, checked_name};
use super::openapi::{CollectionNameTaken, Fails, InUse, Name, Nothing, Refused};
use super::{Answer, Api, Payload, UserJson, answer, unless_overtaken};
use crate::labs::model::{Collection, CollectionId};
use crate::plugins::decision::Action;

/// A collection.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Collection)]
pub(super) struct CollectionJson {
    id: String,
    /// Who belongs to a group or course of this name, belongs to the collection.
    name: String,
    /// Whether all who belong to it may create topologies in it.
    public_write: bool,
    /// Whether all who belong to it may create labs of its topologies.
    public_deploy: bool,
    creator: UserJson,
}

impl From<&Collection> for CollectionJson {
    fn from(collection: &Collection) -> Self {
        Self {
            id: collection.id.to_string(),
            name: collection.name.clone(),
            public_write: collection.public_write,
            public_deploy: collection.public_deploy,
            creator: UserJson::from(&collection.creator),
        }
    }
}

/// A collection to be created.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewCollection {
    /// Unique on the server.
    #[schema(value_type = Name)]
    name: String,
    #[serde(default)]
    public_write: bool,
    #[serde(default)]
    public_deploy: bool,
}

/// What is to change about a collection. A field that is missing or null stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CollectionPatch {
    /// Unique on the server.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    public_write: Option<bool>,
    public_deploy: Option<bool>,
}

/// All collections
///
/// Those that the caller may see.
#[utoipa::path(
    get, path = "/collections", operation_id = "listCollections", tag = "collections",
    responses((status = 200, description = "The collections.", body = Payload<Vec<CollectionJson>>)),
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Answer<Vec<CollectionJson>> {
    let mut seen = Vec::new();
    for collection in api.store.collections().await? {
        if api.may_see(&caller, Action::ViewCollection(&collection)).await? {
            seen.push(CollectionJson::from(&collection));
        }
    }
    answer(seen)
}

/// Create a collection
///
/// By default this is for administrators.
#[utoipa::path(
    post, path = "/collections", operation_id = "createCollection", tag = "collections",
    responses(
        (status = 200, description = "The id of the new collection.", body = Payload<String>),
        Fails<(CollectionNameTaken, Refused)>,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(new): Json<NewCollection>,
) -> Answer<CollectionId> {
    let mut collection = Collection {
        id: CollectionId::from(""),
        name: checked_name(&new.name)?,
        public_write: new.public_write,
        public_deploy: new.public_deploy,
        creator: caller.user.clone(),
    };
    api.authorize(&caller, Action::CreateCollection(&collection)).await?;
    collection.id = CollectionId::generate();
    api.store.insert_collection(&collection).await?;
    answer(collection.id)
}

/// Change a collection
#[utoipa::path(
    patch, path = "/collections/{id}", operation_id = "updateCollection", tag = "collections", params(Id),
    responses(
        (status = 200, description = "It is changed.", body = Payload<Nothing>),
        Fails<(CollectionNameTaken, Refused)>,
    ),
)]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(patch): Json<CollectionPatch>,
) -> Answer<()> {
    let id = id.as_str().into();
    unless_overtaken(|| change(&api, &caller, &id, &patch)).await?;
    api.labs.collection_changed(&id).await;
    answer(())
}

/// Judges and makes a change of what the collection is at the moment.
async fn change(api: &Api, caller: &Caller, id: &CollectionId, patch: &CollectionPatch) -> Result<(), ApiError> {
    let before = visible(api, caller, id).await?;
    let after = Collection {
        name: patch.name.as_deref().map(checked_name).transpose()?.unwrap_or_else(|| before.name.clone()),
        public_write: patch.public_write.unwrap_or(before.public_write),
        public_deploy: patch.public_deploy.unwrap_or(before.public_deploy),
        ..before.clone()
    };
    api.authorize(caller, Action::UpdateCollection(&before, &after)).await?;
    api.store.update_collection(&before, &after).await?;
    Ok(())
}

/// Delete a collection
///
/// It must have no topologies.
#[utoipa::path(
    delete, path = "/collections/{id}", operation_id = "deleteCollection", tag = "collections", params(Id),
    responses(
        (status = 200, description = "It is deleted.", body = Payload<Nothing>),
        Fails<(InUse, Refused)>,
    ),
)]
pub(super) async fn delete(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<()> {
    let collection = visible(&api, &caller, &id.as_str().into()).await?;
    api.authorize(&caller, Action::DeleteCollection(&collection)).await?;
    api.store.delete_collection(&collection.id).await?;
    answer(())
}

/// The collection, unless there is none that the caller may see.
pub(super) async fn visible(api: &Api, caller: &Caller, id: &CollectionId) -> Result<Collection, ApiError> {
    let missing = || ApiError::NotFound("collection", id.to_string());
    // No id has this character, and PostgreSQL takes no text with it.
    if id.as_str().contains('\0') {
        return Err(missing());
    }
    let collection = api.store.collection(id).await?.ok_or_else(missing)?;
    if !api.may_see(caller, Action::ViewCollection(&collection)).await? {
        return Err(missing());
    }
    Ok(collection)
}
