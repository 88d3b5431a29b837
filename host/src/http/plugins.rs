//! `/plugins`: the plugins in use and what came of asking them. For administrators, as the auth policy recognises them.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::extract::Caller;
use super::health::{Reloads, reloads};
use super::metrics::mode_name;
use super::{Answer, Api};
use crate::plugins::{BreakerReport, FunctionReport, PluginReport};

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
    reload: Reloads,
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
    let plugins = api.plugins.reports().into_iter().map(PluginJson::from).collect();
    super::answer(PluginsJson { plugins, reload: reloads(&api.plugins) })
}
