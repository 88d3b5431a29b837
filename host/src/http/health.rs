//! `GET /healthz` and `GET /readyz`: whether the server is alive, and whether it can do its work.
//!
//! For everybody who can reach the server, as those who ask have no token: nothing in it names a user, a lab or a setting.
//! Only `/readyz` looks at anything: a server whose database fails is not helped by being killed.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::metrics::mode_name;
use super::{Answer, Api};
use crate::plugins::PluginHost;

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
pub(super) fn reloads(_plugins: &PluginHost) -> Reloads {
    // Plugins are loaded when the server starts, and a server that couldn't load them isn't there.
    Reloads { generation: 1, last_error: None }
}

#[derive(Serialize)]
struct ReadyJson {
    ready: bool,
    checks: Vec<CheckJson>,
    plugins: Vec<PluginJson>,
    reload: Reloads,
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
    let store = async {
        match tokio::time::timeout(PATIENCE, api.store.ping()).await {
            Ok(Ok(())) => (true, "it answers".to_owned()),
            // What exactly went wrong is for the log alone.
            Ok(Err(error)) => {
                tracing::error!(%error, "the server is not ready: its database failed");
                (false, "the database failed; the server's log says more".to_owned())
            }
            Err(_) => (false, format!("the database doesn't answer within {PATIENCE:?}")),
        }
    };
    let runtime = async {
        let name = api.observed.runtime.name();
        match tokio::time::timeout(PATIENCE, api.observed.runtime.list()).await {
            Ok(Ok(_)) => (true, format!("{name} answers")),
            Ok(Err(error)) => {
                tracing::error!(%error, "the server is not ready: its runtime failed");
                (false, format!("{name} failed; the server's log says more"))
            }
            Err(_) => (false, format!("{name} doesn't answer within {PATIENCE:?}")),
        }
    };
    let (store, runtime) = tokio::join!(store, runtime);
    let reports = api.plugins.reports();
    let plugins = (!reports.is_empty(), format!("{} are in use", reports.len()));
    let check = |name, (ok, detail)| CheckJson { name, ok, detail };
    let checks = vec![check("store", store), check("plugins", plugins), check("runtime", runtime)];
    let ready = checks.iter().all(|check| check.ok);
    let plugins = reports.into_iter().map(|report| PluginJson {
        hook: report.info.hook.name(),
        name: report.info.name,
        version: report.info.version,
        digest: report.info.digest,
        mode: mode_name(report.info.mode),
        breaker_open: report.breaker.open,
    });
    let json = ReadyJson { ready, checks, plugins: plugins.collect(), reload: reloads(&api.plugins) };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json)).into_response()
}
