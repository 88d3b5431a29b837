//! `/plugins`: the plugins in use and what came of asking them; other ones, and the ones before. For administrators, as the
//! auth policy recognises them.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::Caller;
use super::metrics::mode_name;
use super::openapi::{Fails, NotAdmin, NotReloaded};
use super::{Answer, Api, Payload};
use crate::plugins::reload::Trigger;
use crate::plugins::{BreakerReport, FunctionReport, PluginReport, ReloadFailure, ReloadState};

impl Caller {
    /// That the caller is an administrator.
    ///
    /// # Errors
    /// [`ApiError::NotAdmin`].
    pub(super) fn require_admin(&self) -> Result<(), ApiError> {
        if self.identity.admin { Ok(()) } else { Err(ApiError::NotAdmin) }
    }
}

/// The plugins in force, and how they came to be.
#[derive(Serialize, ToSchema)]
#[schema(as = Plugins)]
pub(super) struct PluginsJson {
    /// By hook, in the order in which they are asked.
    plugins: Vec<PluginJson>,
    reload: ReloadJson,
}

/// How the plugins in force came to be, and what went wrong since.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Reload)]
struct ReloadJson {
    generation: u64,
    last_success: String,
    rolled_back: bool,
    #[schema(required)]
    last_error: Option<FailureJson>,
}

/// Why other plugins could not be put in force.
#[derive(Serialize, ToSchema)]
#[schema(as = ReloadFailure)]
struct FailureJson {
    at: String,
    message: String,
    #[schema(required)]
    plugin: Option<String>,
    #[schema(required)]
    path: Option<String>,
}

impl From<ReloadState> for ReloadJson {
    fn from(ReloadState { generation, last_success, rolled_back, last_error }: ReloadState) -> Self {
        Self {
            generation,
            last_success: last_success.to_string(),
            rolled_back,
            last_error: last_error.map(|ReloadFailure { at, message, plugin, path }| FailureJson {
                at: at.to_string(),
                message,
                plugin,
                path: path.map(|path| path.display().to_string()),
            }),
        }
    }
}

/// A plugin in force, and what came of asking it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Plugin)]
struct PluginJson {
    hook: &'static str,
    name: String,
    version: String,
    summary: String,
    digest: String,
    path: String,
    mode: &'static str,
    calls: u64,
    refusals: u64,
    failures: u64,
    log_cut: u64,
    functions: Vec<FunctionJson>,
    breaker: BreakerJson,
}

/// Questions of one kind that a plugin was asked.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PluginFunction)]
struct FunctionJson {
    name: &'static str,
    /// Those that came about.
    outcomes: BTreeMap<&'static str, u64>,
    /// In microseconds; absent as long as it wasn't called.
    #[schema(required)]
    mean_micros: Option<f64>,
}

/// What leaves a plugin alone that keeps failing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PluginBreaker)]
struct BreakerJson {
    open: bool,
    faults_in_a_row: u32,
    users: usize,
    opened: u64,
}

impl From<BreakerReport> for BreakerJson {
    fn from(BreakerReport { open, faults_in_a_row, users, opened }: BreakerReport) -> Self {
        Self { open, faults_in_a_row, users, opened }
    }
}

impl From<FunctionReport> for FunctionJson {
    fn from(FunctionReport { function, outcomes, times }: FunctionReport) -> Self {
        let outcomes = outcomes.into_iter().filter(|(_, count)| *count > 0);
        #[expect(clippy::cast_precision_loss, reason = "a mean of so many calls is no less exact")]
        let mean = (times.count() > 0).then(|| times.sum.as_secs_f64() * 1e6 / times.count() as f64);
        Self {
            name: function,
            outcomes: outcomes.map(|(outcome, count)| (outcome.name(), count)).collect(),
            mean_micros: mean,
        }
    }
}

impl From<PluginReport> for PluginJson {
    fn from(PluginReport { info, counts, functions, log_cut, breaker }: PluginReport) -> Self {
        Self {
            hook: info.hook.name(),
            name: info.name,
            version: info.version,
            summary: info.summary,
            digest: info.digest,
            path: info.path,
            mode: mode_name(info.mode),
            calls: counts.calls,
            refusals: counts.refusals,
            failures: counts.failures,
            log_cut,
            functions: functions.into_iter().map(FunctionJson::from).collect(),
            breaker: breaker.into(),
        }
    }
}

/// The plugins in force
///
/// For administrators: `/readyz` says less, to everybody.
#[utoipa::path(
    get, path = "/plugins", operation_id = "listPlugins", tag = "operators",
    responses((status = 200, description = "The plugins.", body = Payload<PluginsJson>), Fails<(NotAdmin,)>),
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Answer<PluginsJson> {
    caller.require_admin()?;
    super::answer(state(&api))
}

/// Put the plugins of the configuration in force
///
/// Reads it again. For administrators. Where anything is wrong with it or its plugins, nothing changes.
#[utoipa::path(
    post, path = "/plugins/reload", operation_id = "reloadPlugins", tag = "operators",
    responses(
        (status = 200, description = "The plugins that are in force now.", body = Payload<PluginsJson>),
        Fails<(NotReloaded, NotAdmin)>,
    ),
)]
pub(super) async fn reload(State(api): State<Api>, caller: Caller) -> Answer<PluginsJson> {
    caller.require_admin()?;
    tracing::info!(user = %caller.identity.id, "a reload of the plugins is asked for");
    api.reloader.reload(Trigger::Request).await?;
    super::answer(state(&api))
}

/// Put the plugins in force that were before
///
/// For administrators. They stay until a file changes again.
#[utoipa::path(
    post, path = "/plugins/rollback", operation_id = "rollBackPlugins", tag = "operators",
    responses(
        (status = 200, description = "The plugins that are in force now.", body = Payload<PluginsJson>),
        Fails<(NotReloaded, NotAdmin)>,
    ),
)]
pub(super) async fn rollback(State(api): State<Api>, caller: Caller) -> Answer<PluginsJson> {
    caller.require_admin()?;
    tracing::info!(user = %caller.identity.id, "a rollback of the plugins is asked for");
    api.reloader.rollback().await?;
    super::answer(state(&api))
}

fn state(api: &Api) -> PluginsJson {
    let plugins = api.plugins.reports().into_iter().map(PluginJson::from).collect();
    PluginsJson { plugins, reload: api.plugins.reload_state().into() }
}
