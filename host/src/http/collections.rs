//! Collections.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Caller, Id, Json, checked_name};
use super::{Answer, Api, UserJson, answer};
use crate::labs::model::{Collection, CollectionId};
use crate::plugins::decision::Action;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CollectionJson {
    id: String,
    name: String,
    public_write: bool,
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewCollection {
    name: String,
    #[serde(default)]
    public_write: bool,
    #[serde(default)]
    public_deploy: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CollectionPatch {
    name: Option<String>,
    public_write: Option<bool>,
    public_deploy: Option<bool>,
}

/// `GET /collections`: those that the caller may see.
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Answer<Vec<CollectionJson>> {
    let mut seen = Vec::new();
    for collection in api.store.collections().await? {
        if api.may_see(&caller, Action::ViewCollection(&collection)).await? {
            seen.push(CollectionJson::from(&collection));
        }
    }
    answer(seen)
}

/// `POST /collections`: the payload is the new id.
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

/// `PATCH /collections/{id}`
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(patch): Json<CollectionPatch>,
) -> Answer<()> {
    let before = visible(&api, &caller, &id.as_str().into()).await?;
    let after = Collection {
        name: patch.name.as_deref().map(checked_name).transpose()?.unwrap_or_else(|| before.name.clone()),
        public_write: patch.public_write.unwrap_or(before.public_write),
        public_deploy: patch.public_deploy.unwrap_or(before.public_deploy),
        ..before.clone()
    };
    api.authorize(&caller, Action::UpdateCollection(&before, &after)).await?;
    api.store.update_collection(&after).await?;
    api.labs.collection_changed(&after.id).await;
    answer(())
}

/// `DELETE /collections/{id}`
pub(super) async fn delete(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<()> {
    let collection = visible(&api, &caller, &id.as_str().into()).await?;
    api.authorize(&caller, Action::DeleteCollection(&collection)).await?;
    api.store.delete_collection(&collection.id).await?;
    answer(())
}

/// The collection, unless there is none that the caller may see.
pub(super) async fn visible(api: &Api, caller: &Caller, id: &CollectionId) -> Result<Collection, ApiError> {
    let missing = || ApiError::NotFound("collection", id.to_string());
    let collection = api.store.collection(id).await?.ok_or_else(missing)?;
    if !api.may_see(caller, Action::ViewCollection(&collection)).await? {
        return Err(missing());
    }
    Ok(collection)
}
