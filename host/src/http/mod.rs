//! The REST API: who somebody is, collections, topologies and their files, labs.
//!
//! One file per resource; each translates between JSON and the server's own types, asks the auth policy, and leaves the
//! work to `labs` and `store`. No rule about who may do what is in here: every object that is shown, and every write, is
//! put to the policy as it is. `error` is the one place where an error becomes a status and a code, `extract` says who
//! calls and reads bodies, `access` asks the policy. `health`, `metrics` and `plugins` are for operators.
//!
//! Success is `{"payload": …}`, failure `{"code": …, "message": …}`, and each route answers at `/…` and at `/api/…`.

mod access;
mod collections;
mod error;
mod exposition;
mod extract;
mod files;
mod filter;
mod guide;
mod health;
pub(crate) mod lab_json;
mod labs;
pub mod local;
mod metrics;
mod plugins;
pub(crate) mod refusals;
mod time;
mod topologies;
mod users;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use jiff::Timestamp;
use serde::Serialize;
use tower_http::trace::TraceLayer;

use self::error::ApiError;
use crate::auth::{Authenticator, NativeLogin};
use crate::edge::EdgeFigures;
use crate::guide::Guide;
use crate::labs::Labs;
use crate::labs::model::{User, UserId};
use crate::metrics::CommandCounts;
use crate::plugins::{PluginHost, Reloader};
use crate::runtime::RuntimeDriver;
use crate::store::Store;

/// First parts of those paths of the table below at which a web client may have pages of its own. Browsers that go to a
/// page there get that page, if a web client is served. A resource that is added for programs belongs here; what browsers
/// are sent to on purpose, and what operators look at, does not.
pub const RESOURCES: [&str; 6] = ["clab-schema", "collections", "devices", "labs", "plugins", "topologies"];

/// What the REST API needs of the server. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Where collections and topologies are kept.
    pub store: Store,
    /// The labs.
    pub labs: Labs,
    /// The policy.
    pub plugins: PluginHost,
    /// Puts another policy in force.
    pub reloader: Reloader,
    /// Issues and checks tokens.
    pub auth: Arc<Authenticator>,
    /// The native login.
    pub native: NativeLogin,
    /// What helps people write topologies.
    pub guide: Guide,
    /// Says how many shells a user has open.
    pub open_shells: Arc<dyn Fn(&UserId) -> u32 + Send + Sync>,
    /// What else operators look at.
    pub observed: Observed,
}

/// What operators look at and the rest of the API doesn't need. Cheap to clone.
#[derive(Clone)]
pub struct Observed {
    /// Commands of all users, counted.
    pub commands: Arc<CommandCounts>,
    /// Says how many Socket.IO sessions there are.
    pub sessions: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Says how many shells are open.
    pub shells: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// What runs the labs.
    pub runtime: Arc<dyn RuntimeDriver>,
    /// Connections and TLS.
    pub edge: EdgeFigures,
}

/// All routes. Bodies may have `max_body` bytes; the largest that is sent is the definition of a topology.
pub fn router(api: Api, max_body: usize) -> Router {
    let files = Router::new()
        .route("/topologies/{id}/files", post(files::create))
        .route("/topologies/{id}/files/{file}", patch(files::update).put(files::update).delete(files::delete));
    let routes = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .route("/plugins", get(plugins::list))
        .route("/users/login/config", get(users::login_config))
        .route("/users/login/native", post(users::log_in))
        .route("/users/login/refresh", get(users::refresh))
        .route("/users/logout", post(users::log_out))
        .route("/collections", get(collections::list).post(collections::create))
        .route("/collections/{id}", patch(collections::update).delete(collections::delete))
        .route("/topologies", get(topologies::list).post(topologies::create))
        .route("/topologies/{id}", patch(topologies::update).delete(topologies::delete))
        .route("/devices", get(guide::devices))
        .route("/clab-schema", get(guide::schema))
        .route("/plugins/reload", post(plugins::reload))
        .route("/plugins/rollback", post(plugins::rollback))
        .route("/labs", get(labs::list).post(labs::create))
        .route("/labs/{id}", get(labs::show).patch(labs::update).delete(labs::delete));
    let routes = bodies_up_to(max_body, routes).merge(bodies_up_to(max_body.max(files::MAX_BODY), files));
    Router::new()
        .merge(routes.clone())
        .nest("/api", routes)
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api)
        .layer(from_fn(to_the_end))
        .layer(map_response(uncached))
        .layer(TraceLayer::new_for_http().make_span_with(span))
}

/// The same routes, with bodies of no more than so many bytes.
fn bodies_up_to(most: usize, routes: Router<Api>) -> Router<Api> {
    routes.layer(from_fn_with_state(most, not_too_long)).layer(DefaultBodyLimit::max(most))
}

/// Refuses a body that says itself that it is too long. Those that don't say are refused once they are.
async fn not_too_long(State(most): State<usize>, request: Request, next: Next) -> Response {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most)) {
        return ApiError::TooLarge.into_response();
    }
    next.run(request).await
}

/// What a request is called in the log. Without its query, in which people put tokens.
fn span(request: &Request) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

/// Runs a request in a task of its own, which goes on when the client hangs up: nothing is left half done.
async fn to_the_end(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panicked(panic.as_ref()),
            // Cancelled: the server is shutting down, and nobody waits for the answer.
            Err(_) => ApiError::Internal.into_response(),
        },
    }
}

/// A successful answer.
#[derive(Debug, Serialize)]
struct Payload<T> {
    payload: T,
}

impl<T: Serialize> IntoResponse for Payload<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

/// What a handler answers.
type Answer<T> = Result<Payload<T>, ApiError>;

fn answer<T>(payload: T) -> Answer<T> {
    Ok(Payload { payload })
}

/// A time as it is kept: whole milliseconds. Taken in and shown like this, it is the same before and after a restart.
fn whole_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Somebody as clients see them.
#[derive(Debug, Clone, Serialize)]
struct UserJson {
    id: String,
    name: String,
}

impl From<&User> for UserJson {
    fn from(user: &User) -> Self {
        Self { id: user.id.to_string(), name: user.name.clone() }
    }
}

async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::NoRoute(uri.path().to_owned())
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::NoMethod(method, uri.path().to_owned())
}

/// Answers depend on who asks, and some hold tokens: nothing between here and the client may keep them.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    tracing::error!(panic = text.unwrap_or("no text"), "a request made the server panic");
    ApiError::Internal.into_response()
}
