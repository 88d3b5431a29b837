//! `/plugins`: the plugins in use and what came of asking them; other ones, and the ones before. For administrators, as the
//! auth policy recognises them.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::extract::Caller;
use super::metrics::mode_name;
use super::{Answer, Api};
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

#[derive(Serialize)]
pub(super) struct PluginsJson {
    /// By hook, in the order in which they are asked.
    plugins: Vec<PluginJson>,
    reload: ReloadJson,
}

/// How the plugins in force came to be, and what went wrong since.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReloadJson {
    generation: u64,
    last_success: String,
    rolled_back: bool,
    last_error: Option<FailureJson>,
}

#[derive(Serialize)]
struct FailureJson {
    at: String,
    message: String,
    plugin: Option<String>,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionJson {
    name: &'static str,
    /// Those that came about.
    outcomes: BTreeMap<&'static str, u64>,
    /// In microseconds; absent as long as it wasn't called.
    mean_micros: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
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

/// `GET /plugins`
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Answer<PluginsJson> {
    caller.require_admin()?;
    super::answer(state(&api))
}

/// `POST /plugins/reload`: reads the configuration again and puts its plugins in force. Nothing changes where they can't be.
pub(super) async fn reload(State(api): State<Api>, caller: Caller) -> Answer<PluginsJson> {
    caller.require_admin()?;
    tracing::info!(user = %caller.identity.id, "a reload of the plugins is asked for");
    api.reloader.reload(Trigger::Request).await?;
    super::answer(state(&api))
}

/// `POST /plugins/rollback`: puts the plugins in force that were before.
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
