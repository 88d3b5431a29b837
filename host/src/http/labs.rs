//! Labs.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{Caller, Id, Json, checked_name};
use super::filter::LabFilter;
use super::lab_json::LabJson;
use super::openapi::{Fails, InUse, Invalid, Name, NoRoom, NotFound, NotNow, Nothing, Refused, Time};
use super::{Answer, Api, Payload, answer, capacity, time, topologies, whole_milliseconds};
use crate::labs::model::{LabId, LabSnapshot};
use crate::labs::{LabPatch, NewLab};
use crate::plugins::decision::Action;

/// How many labs match, of which the answer is a page.
const TOTAL: HeaderName = HeaderName::from_static("x-total-count");

/// A lab to be created.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewLab)]
pub(super) struct NewLabJson {
    #[schema(value_type = Name)]
    name: String,
    /// When it is deployed. One in the past is deployed by a command alone.
    #[serde(deserialize_with = "time::read")]
    #[schema(value_type = Time)]
    start_time: Timestamp,
    /// When it is destroyed: after the start, and not past. Null or missing: never by itself.
    #[serde(default, deserialize_with = "time::read_if_any")]
    #[schema(value_type = Option<Time>)]
    end_time: Option<Timestamp>,
    topology_id: String,
}

/// What is to change about a lab. A field that is missing or null stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LabPatch)]
pub(super) struct LabPatchJson {
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// When it is deployed.
    #[serde(default, deserialize_with = "time::read_if_any")]
    #[schema(value_type = Option<Time>)]
    start_time: Option<Timestamp>,
    /// When it is destroyed: after the start, and not past.
    #[serde(default, deserialize_with = "time::read_if_any")]
    #[schema(value_type = Option<Time>)]
    end_time: Option<Timestamp>,
    /// True takes the end away, whatever `endTime` says.
    indefinite: Option<bool>,
    topology_id: Option<String>,
}

impl TryFrom<LabPatchJson> for LabPatch {
    type Error = ApiError;

    fn try_from(patch: LabPatchJson) -> Result<Self, ApiError> {
        let end_time = if patch.indefinite == Some(true) {
            Some(None)
        } else {
            patch.end_time.map(|end| Some(whole_milliseconds(end)))
        };
        Ok(Self {
            name: patch.name.as_deref().map(checked_name).transpose()?,
            start_time: patch.start_time.map(whole_milliseconds),
            end_time,
            topology_id: patch.topology_id.map(Into::into),
        })
    }
}

/// Labs
///
/// Those that the caller may see and that match all of the query, in pages if wanted. Empty values are passed over.
#[utoipa::path(
    get, path = "/labs", operation_id = "listLabs", tag = "labs", params(LabFilter),
    responses(
        (status = 200, description = "The labs.", body = Payload<Vec<LabJson>>, headers(
            ("x-total-count" = u64, description = "How many labs match, of which these are a page."),
        )),
        Fails<(Invalid,)>,
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<([(HeaderName, HeaderValue); 1], Payload<Vec<LabJson>>), ApiError> {
    let filter = LabFilter::read(&query)?;
    let mut seen = Vec::new();
    for lab in api.labs.list() {
        if filter.matches(&lab) && api.may_see(&caller, Action::ViewLab(&lab)).await? {
            seen.push(lab);
        }
    }
    let total = HeaderValue::from(seen.len());
    let payload = filter.page(seen).iter().map(|lab| LabJson::new(lab, &api.capture_command)).collect();
    Ok(([(TOTAL, total)], Payload { payload }))
}

/// A lab
#[utoipa::path(
    get, path = "/labs/{id}", operation_id = "showLab", tag = "labs", params(Id),
    responses((status = 200, description = "The lab.", body = Payload<LabJson>)),
)]
pub(super) async fn show(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<LabJson> {
    let lab = visible(&api, &caller, &id.as_str().into()).await?;
    answer(LabJson::new(&lab, &api.capture_command))
}

/// Create a lab
///
/// By default those may who belong to the collection of its topology, if that is `publicDeploy`. One that starts by itself
/// reserves what it takes from its start to its end; it is refused where that isn't free.
#[utoipa::path(
    post, path = "/labs", operation_id = "createLab", tag = "labs",
    responses(
        (status = 200, description = "The id of the new lab.", body = Payload<String>),
        Fails<(NoRoom, Refused, NotFound)>,
    ),
)]
pub(super) async fn create(State(api): State<Api>, caller: Caller, Json(new): Json<NewLabJson>) -> Answer<LabId> {
    let new = NewLab {
        name: checked_name(&new.name)?,
        start_time: whole_milliseconds(new.start_time),
        end_time: new.end_time.map(whole_milliseconds),
        topology_id: new.topology_id.into(),
        creator: caller.user.clone(),
    };
    // A topology that the caller may not know of must answer like one that isn't there, whatever else is wrong.
    topologies::visible(&api, &caller, &new.topology_id).await?;
    let draft = api.labs.draft(&new).await?;
    api.authorize(&caller, Action::CreateLab(&draft)).await?;
    match api.labs.create(new, &draft).await {
        Ok(lab) => answer(lab.lab.id.clone()),
        Err(error) => Err(capacity::worded(&api, &caller, error).await),
    }
}

/// Change a lab
///
/// While it has an instance, nothing but its end can be changed: by `endTime`, or by `indefinite`.
#[utoipa::path(
    patch, path = "/labs/{id}", operation_id = "updateLab", tag = "labs", params(Id),
    responses(
        (status = 200, description = "It is changed.", body = Payload<Nothing>),
        Fails<(NotNow, Refused)>,
    ),
)]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(patch): Json<LabPatchJson>,
) -> Answer<()> {
    let before = visible(&api, &caller, &id.as_str().into()).await?;
    let patch = LabPatch::try_from(patch)?;
    if let Some(topology) = &patch.topology_id
        && *topology != before.lab.topology_id
    {
        topologies::visible(&api, &caller, topology).await?;
    }
    let after = api.labs.draft_update(&before.lab.id, &patch).await?;
    api.authorize(&caller, Action::UpdateLab(&before, &after)).await?;
    match api.labs.update(&before.lab.id, patch, after).await {
        Ok(_) => answer(()),
        Err(error) => Err(capacity::worded(&api, &caller, error).await),
    }
}

/// Delete a lab
///
/// It must not run.
#[utoipa::path(
    delete, path = "/labs/{id}", operation_id = "deleteLab", tag = "labs", params(Id),
    responses(
        (status = 200, description = "It is deleted.", body = Payload<Nothing>),
        Fails<(InUse, Refused)>,
    ),
)]
pub(super) async fn delete(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<()> {
    let lab = visible(&api, &caller, &id.as_str().into()).await?;
    api.authorize(&caller, Action::DeleteLab(&lab)).await?;
    api.labs.delete(&lab.lab.id).await?;
    answer(())
}

/// The lab, unless there is none that the caller may see.
pub(super) async fn visible(api: &Api, caller: &Caller, id: &LabId) -> Result<Arc<LabSnapshot>, ApiError> {
    let missing = || ApiError::NotFound("lab", id.to_string());
    let lab = api.labs.get(id).ok_or_else(missing)?;
    if !api.may_see(caller, Action::ViewLab(&lab)).await? {
        return Err(missing());
    }
    Ok(lab)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(body: &str) -> LabPatch {
        super::super::extract::read::<LabPatchJson>(body.as_bytes()).expect("valid").try_into().expect("valid")
    }

    #[test]
    fn a_patch_leaves_alone_what_it_does_not_name() {
        let patch = patch(r#"{"name": null, "startTime": null, "endTime": null}"#);
        assert!(patch.name.is_none() && patch.start_time.is_none() && patch.end_time.is_none());
        assert!(patch.topology_id.is_none());
    }

    #[test]
    fn what_is_no_time_is_answered_with_what_would_be_one() {
        for (written, shown) in
            [("\"tomorrow\"", "\"tomorrow\""), ("\"2030-01-31\"", "\"2030-01-31\""), ("5", "5"), ("{}", "{}")]
        {
            let body = format!(r#"{{"name": "a", "topologyId": "t", "startTime": {written}}}"#);
            let expected = format!("startTime: {shown} is no RFC 3339 time such as 2030-01-31T10:00:00Z");
            let new = super::super::extract::read::<NewLabJson>(body.as_bytes());
            assert!(new.err().expect("refused").to_string().starts_with(&expected), "{written}");
            let patch = super::super::extract::read::<LabPatchJson>(body.as_bytes());
            assert!(patch.err().expect("refused").to_string().starts_with(&expected), "{written}");
        }
        let missing = super::super::extract::read::<NewLabJson>(br#"{"name": "a", "topologyId": "t"}"#);
        assert!(missing.err().expect("refused").to_string().contains("startTime: it is missing"));
    }

    #[test]
    fn times_are_taken_as_they_will_be_kept() {
        let patch = patch(r#"{"startTime": "2030-01-31T10:00:00.123456789Z", "endTime": "2030-01-31T11:00:00.9999Z"}"#);
        assert_eq!(patch.start_time, "2030-01-31T10:00:00.123Z".parse().ok());
        assert_eq!(patch.end_time, Some("2030-01-31T11:00:00.999Z".parse().ok()));
    }

    #[test]
    fn an_end_is_changed_by_a_time_and_taken_away_by_indefinite() {
        let end = "2030-01-31T10:00:00Z";
        assert_eq!(patch(&format!(r#"{{"endTime": "{end}"}}"#)).end_time, Some(end.parse().ok()));
        assert_eq!(patch(r#"{"indefinite": true}"#).end_time, Some(None));
        assert_eq!(patch(&format!(r#"{{"endTime": "{end}", "indefinite": true}}"#)).end_time, Some(None));
        assert_eq!(patch(&format!(r#"{{"endTime": "{end}", "indefinite": false}}"#)).end_time, Some(end.parse().ok()));
        assert_eq!(patch(r#"{"indefinite": false}"#).end_time, None);
    }
}
