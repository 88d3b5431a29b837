//! `GET /healthz` and `GET /readyz`: whether the server is alive, and whether it can do its work.
//!
//! For everybody who can reach the server, as those who ask have no token: nothing in it names a user, a lab or a setting.
//! Only `/readyz` looks at anything: a server whose database fails is not helped by being killed.

use std::fmt::Display;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::metrics::mode_name;
use super::{Answer, Api};
use crate::edge::TlsReport;
use crate::plugins::{PluginHost, ReloadFailure};

/// How long a part of the server may take to answer before it counts as not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /healthz`: it answers, and that is all.
pub(super) async fn alive() -> Answer<&'static str> {
    super::answer("ok")
}

/// What became of attempts to load other plugins while the server runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reloads {
    /// Counts the sets of plugins that were put in force, from 1.
    pub(super) generation: u64,
    /// Why the last attempt failed, if it did: earlier plugins are in force then.
    pub(super) last_error: Option<String>,
}

/// The one place that asks for it.
pub(super) fn reloads(plugins: &PluginHost) -> Reloads {
    let state = plugins.reload_state();
    // What exactly went wrong names files and settings, and is for administrators.
    let error = |failure: ReloadFailure| {
        let which = failure.plugin.unwrap_or_else(|| "the configuration".into());
        format!("{which} could not be reloaded at {}; /plugins and the server's log say more", failure.at)
    };
    Reloads { generation: state.generation, last_error: state.last_error.map(error) }
}

#[derive(Serialize)]
struct ReadyJson {
    ready: bool,
    checks: Vec<CheckJson>,
    plugins: Vec<PluginJson>,
    reload: Reloads,
    /// Left out where a proxy speaks TLS, or nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsJson>,
}

/// How things stand with the certificate. A new one that can't be used makes no server unready: the old one is in force.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TlsJson {
    not_after: String,
    days_left: i64,
    /// Why the files aren't what is in force, if they aren't.
    last_error: Option<String>,
}

#[derive(Serialize)]
struct CheckJson {
    name: &'static str,
    ok: bool,
    detail: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PluginJson {
    hook: &'static str,
    name: String,
    version: String,
    digest: String,
    mode: &'static str,
    /// It keeps failing, so that some of what it is asked is answered as failed at once. That alone makes no server
    /// unready: it may be one user's doing.
    breaker_open: bool,
}

/// `GET /readyz`: 200 when store, plugins and runtime are there, or else 503, with details.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let runtime = &api.observed.runtime;
    let (store, runtime) = tokio::join!(
        check("store", api.store.kind().name(), api.store.ping()),
        check("runtime", runtime.name(), runtime.list())
    );
    let reports = api.plugins.reports();
    let plugins =
        CheckJson { name: "plugins", ok: !reports.is_empty(), detail: format!("{} are in use", reports.len()) };
    let checks = vec![store, plugins, runtime];
    let (ready, status) = verdict(&checks);
    let plugins = reports.into_iter().map(|report| PluginJson {
        hook: report.info.hook.name(),
        name: report.info.name,
        version: report.info.version,
        digest: report.info.digest,
        mode: mode_name(report.info.mode),
        breaker_open: report.breaker.open,
    });
    let tls = api.observed.edge.tls.as_ref().map(|tls| of_tls(tls.report()));
    let json = ReadyJson { ready, checks, plugins: plugins.collect(), reload: reloads(&api.plugins), tls };
    (status, axum::Json(json)).into_response()
}

/// What exactly went wrong names files, and is for the log alone.
fn of_tls(report: TlsReport) -> TlsJson {
    let error = |at| format!("the certificate or its key could not be used at {at}; the server's log says more");
    #[expect(clippy::cast_possible_truncation, reason = "whole days are what people want")]
    let days_left = report.days_left().floor() as i64;
    TlsJson { not_after: report.not_after.to_string(), days_left, last_error: report.failed_at.map(error) }
}

/// Whether a part of the server answers in time. What exactly went wrong is for the log alone.
async fn check<T, E: Display>(name: &'static str, what: &str, answer: impl Future<Output = Result<T, E>>) -> CheckJson {
    let (ok, detail) = match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(_)) => (true, format!("{what} answers")),
        Ok(Err(error)) => {
            tracing::error!(part = name, %error, "the server is not ready: a part of it failed");
            (false, format!("{what} failed; the server's log says more"))
        }
        Err(_) => (false, format!("{what} doesn't answer within {PATIENCE:?}")),
    };
    CheckJson { name, ok, detail }
}

/// All of it has to be there.
fn verdict(checks: &[CheckJson]) -> (bool, StatusCode) {
    let ready = checks.iter().all(|check| check.ok);
    (ready, if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_server_whose_database_has_gone_is_not_ready() {
        let store = Store::in_memory().await.expect("a database in memory");
        let checks = [check("store", "sqlite", store.ping()).await];
        assert_eq!(verdict(&checks), (true, StatusCode::OK));
        store.close().await;
        let checks = [check("store", "sqlite", store.ping()).await];
        assert_eq!(verdict(&checks), (false, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(checks[0].detail, "sqlite failed; the server's log says more");
    }

    #[tokio::test]
    async fn a_part_that_does_not_answer_in_time_counts_as_not_there() {
        let never = std::future::pending::<Result<(), std::fmt::Error>>();
        let checks = [check("runtime", "embedded", never).await];
        assert_eq!(verdict(&checks), (false, StatusCode::SERVICE_UNAVAILABLE));
    }
}
