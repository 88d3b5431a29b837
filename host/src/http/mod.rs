//! The REST API: who somebody is, collections, topologies and their files, labs.
//!
//! One file per resource; each translates between JSON and the server's own types, asks the auth policy, and leaves the
//! work to `labs` and `store`. No rule about who may do what is in here: every object that is shown, and every write, is
//! put to the policy as it is. `error` is the one place where an error becomes a status and a code, `extract` says who
//! calls and reads bodies, `access` asks the policy, `openapi` describes all of it to clients. `health`, `metrics` and `plugins` are for operators.
//!
//! Success is `{"payload": …}`, failure `{"code": …, "message": …}`, and each route answers at `/…` and at `/api/…`.

mod access;
mod capacity;
pub(crate) mod capture;
mod checkpoints;
pub mod client_address;
mod collections;
mod cookies;
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
pub mod openapi;
mod openid;
mod plugins;
pub(crate) mod refusals;
mod same_site;
mod stats;
pub(crate) mod stats_json;
mod time;
mod topologies;
mod users;
mod words;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde::Serialize;
use tower_http::trace::TraceLayer;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::client_address::TrustedProxies;
use self::error::ApiError;
use crate::auth::{Authenticator, Logins, OpenId};
use crate::captures::{Captures, CommandLine};
use crate::edge::EdgeFigures;
use crate::guide::Guide;
use crate::labs::Labs;
use crate::labs::model::{User, UserId};
use crate::metrics::CommandCounts;
use crate::plugins::{PluginHost, Reloader};
use crate::runtime::RuntimeDriver;
use crate::stats::Stats;
use crate::store::{Store, StoreError};

/// Longest body of a login, in bytes: of people whom nobody knows yet, nothing long is taken into memory.
const MAX_LOGIN: usize = 16 << 10;
/// Bytes of a body that is too long that are read all the same, so that its client hears why it is refused.
const READ_AWAY: u64 = 16 << 20;

/// First parts of those paths of the table below at which a web client may have pages of its own. Browsers that go to a
/// page there get that page, if a web client is served. A resource that is added for programs belongs here; what browsers
/// are sent to on purpose, and what operators look at, does not.
pub const RESOURCES: [&str; 7] = ["capacity", "clab-schema", "collections", "devices", "labs", "plugins", "topologies"];

/// What the REST API needs of the server. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Where collections and topologies are kept.
    pub store: Store,
    /// The labs.
    pub labs: Labs,
    /// What their nodes use.
    pub stats: Stats,
    /// The policy.
    pub plugins: PluginHost,
    /// Puts another policy in force.
    pub reloader: Reloader,
    /// Issues and checks tokens.
    pub auth: Arc<Authenticator>,
    /// Logins by user name and password.
    pub logins: Logins,
    /// Logins by OpenID Connect, if there are any.
    pub open_id: Option<OpenId>,
    /// Who is believed about where a request came from.
    pub trusted_proxies: Arc<TrustedProxies>,
    /// Origins whose pages may change things, besides the one that a request is sent to: where browsers reach this server.
    pub own_origins: Arc<[String]>,
    /// What helps people write topologies.
    pub guide: Guide,
    /// Captures of packets.
    pub captures: Captures,
    /// The commands for these that clients show.
    pub capture_command: Arc<CommandLine>,
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

/// All routes of the API, each with its place in the OpenAPI document: path and method are those of the handler's
/// `#[utoipa::path]`.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::preamble()).merge(usual_routes()).merge(user_routes()).merge(file_routes())
}

/// Those that write files, which may be longer than whatever else is sent.
fn file_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(files::create)).routes(routes!(files::update, files::replace, files::delete))
}

/// Those that whoever comes by may use, and that need few bytes.
fn user_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(users::login_config))
        .routes(routes!(users::log_in))
        .routes(routes!(openid::log_in))
        .routes(routes!(openid::success))
        .routes(routes!(users::refresh))
        .routes(routes!(users::log_out))
}

fn usual_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .routes(routes!(openapi::show))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::reload))
        .routes(routes!(plugins::rollback))
        .routes(routes!(collections::list, collections::create))
        .routes(routes!(collections::update, collections::delete))
        .routes(routes!(topologies::list, topologies::create))
        .routes(routes!(topologies::update, topologies::delete))
        .routes(routes!(guide::devices))
        .routes(routes!(guide::schema))
        .routes(routes!(capacity::show))
        .routes(routes!(labs::list, labs::create))
        .routes(routes!(labs::show, labs::update, labs::delete))
        .routes(routes!(stats::show))
        .routes(routes!(capture::capture))
        .routes(routes!(checkpoints::save))
        .routes(routes!(checkpoints::list, checkpoints::create))
        .routes(routes!(checkpoints::show, checkpoints::delete))
        .routes(routes!(checkpoints::download))
        .routes(routes!(checkpoints::restore))
}

/// The routes, and everything around them. Bodies may have `max_body` bytes; the largest that is sent, but for files, is the
/// definition of a topology.
pub fn router(api: Api, max_body: usize) -> Router {
    let files = bodies_up_to(max_body.max(files::MAX_BODY), file_routes().into());
    let users = bodies_up_to(max_body.min(MAX_LOGIN), user_routes().into());
    let routes = bodies_up_to(max_body, usual_routes().into()).merge(users).merge(files);
    Router::new()
        .merge(routes.clone())
        .nest("/api", routes)
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api.clone())
        .layer(from_fn(to_the_end))
        .layer(from_fn_with_state(api, same_site::only))
        .layer(map_response(uncached))
        // What fails says so itself, and not each time.
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
        .merge(openapi::page::routes())
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
        // Most clients read no answer before they have sent all of it, and take a connection that is closed meanwhile for a
        // failure of the network. Those that ask first (`Expect`) are told at once.
        if length.is_some_and(|length| length <= READ_AWAY) && !request.headers().contains_key(header::EXPECT) {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        }
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
#[derive(Debug, Serialize, ToSchema)]
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

/// How often a change is begun that others overtake. One of those that are in each other's way is always made.
const CHANGES: u32 = 10;

/// Reads, judges and makes a change; again where others changed the same meanwhile, so that what was judged is what is done.
async fn unless_overtaken<C, T>(change: impl Fn() -> C) -> Result<T, ApiError>
where
    C: Future<Output = Result<T, ApiError>>,
{
    for _ in 1..CHANGES {
        match change().await {
            Err(ApiError::Store(StoreError::Overtaken(_))) => {}
            done => return done,
        }
    }
    change().await
}

/// A time as it is kept: whole milliseconds. Taken in and shown like this, it is the same before and after a restart.
fn whole_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Somebody.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = User)]
struct UserJson {
    id: String,
    /// As people know them.
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
