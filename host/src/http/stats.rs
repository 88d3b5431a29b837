//! What the nodes of a lab use.

use axum::extract::State;

use super::extract::{Caller, Id};
use super::openapi::{Fails, NoInstance, Refused, RuntimeSilent};
use super::stats_json::StatsJson;
use super::{Answer, Api, Payload, answer, labs};
use crate::plugins::decision::{Action, Namespace};

/// What nodes use
///
/// Processor, memory, processes and interfaces of each node, at this moment. For those who may read the lab's log. The
/// namespace `/stats/{labId}` has the same again and again.
#[utoipa::path(
    get, path = "/labs/{id}/stats", operation_id = "showLabStats", tag = "labs", params(Id),
    responses(
        (status = 200, description = "What each node of the instance uses.", body = Payload<StatsJson>),
        Fails<(NoInstance, Refused, RuntimeSilent)>,
    ),
)]
pub(super) async fn show(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<StatsJson> {
    let lab = labs::visible(&api, &caller, &id.as_str().into()).await?;
    api.authorize(&caller, Action::Connect(Namespace::LabLog(&lab))).await?;
    let reading = api.stats.now(&lab.lab.id).await?;
    answer(StatsJson::from(&*reading))
}
