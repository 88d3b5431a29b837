//! Topologies.

use std::collections::HashMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{Caller, Id, Json};
use super::files::BindFileJson;
use super::openapi::{Definition, Fails, InUse, NotFound, Nothing, Refused, TopologyNameTaken};
use super::{Answer, Api, Payload, UserJson, answer, capacity, collections, unless_overtaken};
use crate::labs::capacity::Claim;
use crate::labs::model::{BindFile, Collection, CollectionId, StoredTopology, TopologyId};
use crate::plugins::decision::{Action, TopologyView};
use crate::topology::Topology;

/// A topology.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Topology)]
pub(super) struct TopologyJson {
    id: String,
    collection_id: String,
    /// As it was given, in YAML.
    definition: String,
    /// Where the definition came from; empty: from nowhere in particular.
    sync_url: String,
    creator: UserJson,
    /// What lies beside the definition when it is deployed.
    bind_files: Vec<BindFileJson>,
    /// Whether the last attempt to deploy a lab of it failed.
    last_deploy_failed: bool,
}

impl TopologyJson {
    fn new(topology: &StoredTopology, files: &[BindFile]) -> Self {
        Self {
            id: topology.id.to_string(),
            collection_id: topology.collection_id.to_string(),
            definition: topology.definition.clone(),
            sync_url: topology.sync_url.clone().unwrap_or_default(),
            creator: UserJson::from(&topology.creator),
            bind_files: files.iter().map(BindFileJson::from).collect(),
            last_deploy_failed: topology.last_deploy_failed,
        }
    }
}

/// A topology to be created.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewTopology {
    collection_id: String,
    /// Containerlab's format, in YAML. The name in it is the topology's, and unique in the collection.
    #[schema(
        example = "name: pair\ntopology:\n  nodes:\n    r1: {kind: linux}\n    r2: {kind: linux}\n  links:\n    - endpoints: [\"r1:eth1\", \"r2:eth1\"]\n"
    )]
    definition: String,
    /// Where the definition came from; empty or missing: from nowhere in particular.
    #[schema(max_length = 2000, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    sync_url: Option<String>,
}

/// What is to change about a topology. A field that is missing or null stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopologyPatch {
    /// The collection to move it to.
    collection_id: Option<String>,
    /// Containerlab's format, in YAML. The name in it is the topology's, and unique in the collection.
    definition: Option<String>,
    /// Empty: from nowhere in particular.
    #[schema(max_length = 2000, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    sync_url: Option<String>,
}

/// A topology with everything that is decided by.
pub(super) struct Full {
    pub(super) stored: StoredTopology,
    pub(super) collection: Collection,
    definition: Topology,
}

impl Full {
    /// Of something that is stored.
    pub(super) fn of(stored: StoredTopology, collection: Collection) -> Self {
        // It was read before it was stored: it can be unreadable only if this server is stricter than the one that
        // stored it. Then it has no nodes until somebody mends it.
        let definition = Topology::parse_beside(&stored.definition, &stored.file_paths).unwrap_or_else(|error| {
            tracing::warn!(topology = %stored.id, %error, "a stored topology can't be read");
            Topology { name: stored.name.clone(), prefix: None, nodes: Vec::new(), links: Vec::new() }
        });
        Self { stored, collection, definition }
    }

    pub(super) fn view(&self) -> TopologyView<'_> {
        TopologyView { stored: &self.stored, collection: &self.collection, definition: &self.definition }
    }
}

/// All topologies
///
/// Those that the caller may see.
#[utoipa::path(
    get, path = "/topologies", operation_id = "listTopologies", tag = "topologies",
    responses((status = 200, description = "The topologies.", body = Payload<Vec<TopologyJson>>)),
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Answer<Vec<TopologyJson>> {
    let collections = api.store.collections().await?;
    let collections: HashMap<_, _> = collections.into_iter().map(|known| (known.id.clone(), known)).collect();
    let files = api.store.all_bind_files().await?;
    let mut seen = Vec::new();
    for stored in api.store.topologies().await? {
        // One that was deleted between the two questions had no topologies any more.
        let Some(collection) = collections.get(&stored.collection_id) else { continue };
        let full = Full::of(stored, collection.clone());
        if api.may_see(&caller, Action::ViewTopology(full.view())).await? {
            let files = files.get(&full.stored.id).map(Vec::as_slice).unwrap_or_default();
            seen.push(TopologyJson::new(&full.stored, files));
        }
    }
    answer(seen)
}

/// Create a topology
///
/// By default those may who belong to its collection, if that is `publicWrite`.
#[utoipa::path(
    post, path = "/topologies", operation_id = "createTopology", tag = "topologies",
    responses(
        (status = 200, description = "The id of the new topology.", body = Payload<String>),
        Fails<(Definition, TopologyNameTaken, Refused, NotFound)>,
    ),
)]
pub(super) async fn create(State(api): State<Api>, caller: Caller, Json(new): Json<NewTopology>) -> Answer<TopologyId> {
    let sync_url = sync_url(new.sync_url)?;
    let definition = Topology::parse(&new.definition)?;
    let collection = collections::visible(&api, &caller, &new.collection_id.as_str().into()).await?;
    let stored = StoredTopology {
        id: TopologyId::from(""),
        name: definition.name.clone(),
        collection_id: collection.id.clone(),
        definition: new.definition,
        sync_url,
        last_deploy_failed: false,
        creator: caller.user.clone(),
        file_paths: Vec::new(),
    };
    let mut full = Full { stored, collection, definition };
    api.authorize(&caller, Action::CreateTopology(full.view())).await?;
    full.stored.id = TopologyId::generate();
    api.store.insert_topology(&full.stored).await?;
    answer(full.stored.id)
}

/// Change a topology
///
/// Labs of it that run stay as they are until they are deployed anew. For those that start by themselves there has to be
/// room, or the change is refused. One that has labs can't be moved to another
/// collection.
#[utoipa::path(
    patch, path = "/topologies/{id}", operation_id = "updateTopology", tag = "topologies", params(Id),
    responses(
        (status = 200, description = "It is changed.", body = Payload<Nothing>),
        Fails<(Definition, TopologyNameTaken, InUse, Refused)>,
    ),
)]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(patch): Json<TopologyPatch>,
) -> Answer<()> {
    let id = id.as_str().into();
    let claimed = unless_overtaken(|| change(&api, &caller, &id, &patch)).await?;
    api.labs.topology_changed(&id, Some(claimed)).await;
    answer(())
}

/// Judges and makes a change of what the topology is at the moment. Answers what labs that are to be started with it take
/// from then on, to be held until they know.
async fn change(api: &Api, caller: &Caller, id: &TopologyId, patch: &TopologyPatch) -> Result<Claim, ApiError> {
    let before = visible(api, caller, id).await?;
    let sync_url = match &patch.sync_url {
        Some(url) => sync_url(Some(url.clone()))?,
        None => before.stored.sync_url.clone(),
    };
    let text = patch.definition.as_ref().unwrap_or(&before.stored.definition).clone();
    let definition = Topology::parse_beside(&text, &before.stored.file_paths)?;
    let collection = match patch.collection_id.as_deref().map(CollectionId::from) {
        Some(other) if other != before.collection.id => collections::visible(api, caller, &other).await?,
        _ => before.collection.clone(),
    };
    let stored = StoredTopology {
        name: definition.name.clone(),
        collection_id: collection.id.clone(),
        definition: text,
        sync_url,
        ..before.stored.clone()
    };
    let after = Full { stored, collection, definition };
    api.authorize(caller, Action::UpdateTopology(before.view(), after.view())).await?;
    let claimed = match api.labs.claim_topology(id, &after.definition, &after.collection) {
        Ok(claimed) => claimed,
        Err(error) => return Err(capacity::worded(api, caller, error).await),
    };
    api.store.update_topology(&before.stored, &after.stored).await?;
    Ok(claimed)
}

/// Delete a topology
///
/// It must have no labs.
#[utoipa::path(
    delete, path = "/topologies/{id}", operation_id = "deleteTopology", tag = "topologies", params(Id),
    responses(
        (status = 200, description = "It is deleted.", body = Payload<Nothing>),
        Fails<(InUse, Refused)>,
    ),
)]
pub(super) async fn delete(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<()> {
    let full = visible(&api, &caller, &id.as_str().into()).await?;
    api.authorize(&caller, Action::DeleteTopology(full.view())).await?;
    api.store.delete_topology(&full.stored.id).await?;
    answer(())
}

/// The topology, unless there is none that the caller may see.
pub(super) async fn visible(api: &Api, caller: &Caller, id: &TopologyId) -> Result<Full, ApiError> {
    let missing = || ApiError::NotFound("topology", id.to_string());
    // No id has this character, and PostgreSQL takes no text with it.
    if id.as_str().contains('\0') {
        return Err(missing());
    }
    let stored = api.store.topology(id).await?.ok_or_else(missing)?;
    let collection = api.store.collection(&stored.collection_id).await?.ok_or_else(missing)?;
    let full = Full::of(stored, collection);
    if !api.may_see(caller, Action::ViewTopology(full.view())).await? {
        return Err(missing());
    }
    Ok(full)
}

/// Empty means none.
fn sync_url(url: Option<String>) -> Result<Option<String>, ApiError> {
    const LIMIT: usize = 2_000;
    match url {
        Some(url) if url.chars().count() > LIMIT => {
            Err(ApiError::Invalid(format!("syncUrl: at most {LIMIT} characters are allowed")))
        }
        Some(url) if url.chars().any(char::is_control) => {
            Err(ApiError::Invalid("syncUrl: control characters are not allowed".to_owned()))
        }
        url => Ok(url.filter(|url| !url.is_empty())),
    }
}
