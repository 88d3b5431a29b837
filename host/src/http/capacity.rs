//! What labs may take at once, and how much of it is reserved; and refusals for lack of it, in words for the caller.

use std::collections::HashSet;

use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::extract::Caller;
use super::filter::time;
use super::openapi::{Fails, Invalid};
use super::{Answer, Api, Payload, answer};
use crate::labs::LabError;
use crate::labs::capacity::{Amounts, Limits, NoRoom, Span};
use crate::plugins::decision::Action;

/// So much may be taken at once. Null: any amount.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CapacityLimits)]
pub(super) struct LimitsJson {
    /// Labs.
    labs: Option<u64>,
    /// Nodes of labs.
    nodes: Option<u64>,
    /// Memory of nodes, in bytes.
    memory: Option<u64>,
}

impl From<Limits> for LimitsJson {
    fn from(Limits { labs, nodes, memory }: Limits) -> Self {
        Self { labs, nodes, memory }
    }
}

/// So much is reserved: by labs that run, and by those that the schedule is to start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CapacityReserved)]
pub(super) struct ReservedJson {
    /// Labs.
    labs: u64,
    /// Nodes of labs.
    nodes: u64,
    /// Memory of nodes, in bytes, by what topologies say.
    memory: u64,
}

impl From<Amounts> for ReservedJson {
    fn from(Amounts { labs, nodes, memory }: Amounts) -> Self {
        Self { labs, nodes, memory }
    }
}

/// What labs may take, and how much of it is reserved.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capacity)]
pub(super) struct CapacityJson {
    limits: LimitsJson,
    reserved: ReservedJson,
    /// Those that the caller may see.
    collections: Vec<CollectionCapacityJson>,
}

/// The same for the labs of a collection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CollectionCapacity)]
pub(super) struct CollectionCapacityJson {
    name: String,
    limits: LimitsJson,
    reserved: ReservedJson,
}

/// The time that is asked about.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CapacityQuery {
    /// From when on. This moment, unless it is said.
    #[param(value_type = Option<String>, format = DateTime, required = false)]
    from: Option<Timestamp>,
    /// Until when. Left out, it is about the one moment, or with `from` for ever.
    #[param(value_type = Option<String>, format = DateTime, required = false)]
    to: Option<Timestamp>,
}

impl CapacityQuery {
    fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (key, value) in pairs.iter().filter(|(_, value)| !value.trim().is_empty()) {
            match key.as_str() {
                "from" => query.from = Some(time(key, value.trim())?),
                "to" => query.to = Some(time(key, value.trim())?),
                _ => {}
            }
        }
        Ok(query)
    }

    /// The time, as far as it lies ahead; `None`: this moment.
    fn span(&self, now: Timestamp) -> Result<Option<Span>, ApiError> {
        let from = self.from.map_or(now, |from| from.max(now));
        match self.to {
            Some(to) if to <= from => Err(ApiError::Invalid(format!(
                "to: {to} is not after `from`, or not after now; what is past isn't kept"
            ))),
            None if self.from.is_none() => Ok(None),
            until => Ok(Some(Span { from, until })),
        }
    }
}

/// What labs may take at once
///
/// In all and by collection, and how much of it is reserved at this moment; or the most that is reserved at any moment of a
/// time, as things are now.
#[utoipa::path(
    get, path = "/capacity", operation_id = "showCapacity", tag = "labs", params(CapacityQuery),
    responses(
        (status = 200, description = "Limits, and what is reserved.", body = Payload<CapacityJson>),
        Fails<(Invalid,)>,
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer<CapacityJson> {
    let within = CapacityQuery::read(&query)?.span(Timestamp::now())?;
    let (limits, reserved) = (api.labs.capacity(), api.labs.reserved(within));
    let mut collections = Vec::new();
    for collection in api.store.collections().await? {
        if api.may_see(&caller, Action::ViewCollection(&collection)).await? {
            let own = reserved.collections.get(&collection.id).copied().unwrap_or_default();
            let limits = limits.limits_of(&collection.name).into();
            collections.push(CollectionCapacityJson { name: collection.name, limits, reserved: own.into() });
        }
    }
    answer(CapacityJson { limits: limits.limits().into(), reserved: reserved.all.into(), collections })
}

/// The error, with what is in the way named as far as the caller may see it.
pub(super) async fn worded(api: &Api, caller: &Caller, error: LabError) -> ApiError {
    match error {
        LabError::NoRoom(no_room) => ApiError::NoRoom(sentence(api, caller, &no_room).await),
        error => error.into(),
    }
}

/// The refusal, with what is in the way named as far as the caller may see it.
pub(super) async fn sentence(api: &Api, caller: &Caller, no_room: &NoRoom) -> String {
    let mut seen = HashSet::new();
    for id in no_room.labs() {
        // One that a plugin can't decide about isn't named.
        if let Some(lab) = api.labs.get(id)
            && api.may_see(caller, Action::ViewLab(&lab)).await.unwrap_or(false)
        {
            seen.insert(id.clone());
        }
    }
    no_room.sentence(&seen)
}
