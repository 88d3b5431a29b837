//! The plugins in force, for administrators: which they are, other ones, and the ones before.

use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::extract::Caller;
use super::{Answer, Api};
use crate::plugins::config::{Hook, Mode};
use crate::plugins::reload::Trigger;
use crate::plugins::{PluginInfo, ReloadFailure, ReloadState};

/// What is in force, and what went wrong since.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateJson {
    generation: u64,
    last_success: String,
    rolled_back: bool,
    last_error: Option<FailureJson>,
    plugins: Vec<PluginJson>,
}

#[derive(Serialize)]
struct FailureJson {
    at: String,
    message: String,
    plugin: Option<String>,
    path: Option<String>,
}

#[derive(Serialize)]
struct PluginJson {
    hook: &'static str,
    name: String,
    version: String,
    path: String,
    sha256: String,
    enforced: bool,
}

impl StateJson {
    fn of(api: &Api, state: ReloadState) -> Self {
        Self {
            generation: state.generation,
            last_success: state.last_success.to_string(),
            rolled_back: state.rolled_back,
            last_error: state.last_error.map(FailureJson::from),
            plugins: api.plugins.loaded().into_iter().map(PluginJson::from).collect(),
        }
    }
}

impl From<ReloadFailure> for FailureJson {
    fn from(failure: ReloadFailure) -> Self {
        let ReloadFailure { at, message, plugin, path } = failure;
        Self { at: at.to_string(), message, plugin, path: path.map(|path| path.display().to_string()) }
    }
}

impl From<PluginInfo> for PluginJson {
    fn from(info: PluginInfo) -> Self {
        Self {
            hook: Hook::name(info.hook),
            name: info.name,
            version: info.version,
            path: info.path,
            sha256: info.digest,
            enforced: info.mode == Mode::Enforce,
        }
    }
}

/// Administrators alone, as the policy in force regards them.
fn check_admin(caller: &Caller) -> Result<(), ApiError> {
    if caller.identity.admin { Ok(()) } else { Err(ApiError::AdminOnly) }
}

/// `GET /plugins`.
pub(super) async fn show(State(api): State<Api>, caller: Caller) -> Answer<StateJson> {
    check_admin(&caller)?;
    super::answer(StateJson::of(&api, api.plugins.reload_state()))
}

/// `POST /plugins/reload`: reads the configuration again and puts its plugins in force. Nothing changes where they can't be.
pub(super) async fn reload(State(api): State<Api>, caller: Caller) -> Answer<StateJson> {
    check_admin(&caller)?;
    tracing::info!(user = %caller.identity.id, "a reload of the plugins is asked for");
    let state = api.reloader.reload(Trigger::Request).await?;
    super::answer(StateJson::of(&api, state))
}

/// `POST /plugins/rollback`: puts the plugins in force that were before.
pub(super) async fn rollback(State(api): State<Api>, caller: Caller) -> Answer<StateJson> {
    check_admin(&caller)?;
    tracing::info!(user = %caller.identity.id, "a rollback of the plugins is asked for");
    let state = api.reloader.rollback().await?;
    super::answer(StateJson::of(&api, state))
}
