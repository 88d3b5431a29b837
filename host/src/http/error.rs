//! What can go wrong with a request, and the one mapping of it to HTTP statuses and error codes.
//!
//! Clients act on the status: 498 refreshes the token and retries, 401 logs in again, and 504 retries for ever, which is
//! why it is never sent. The codes from 1001 to 4002 are those that clients show beside a field; the others are those
//! of the Socket.IO API.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::openapi::FailureJson;
use crate::auth::{LoginError, OpenIdError, TokenError, seconds};
use crate::captures::CaptureError;
use crate::edge::TooSlow;
use crate::labs::{LabCommandError, LabError};
use crate::plugins::ReloadFailure;
use crate::plugins::decision::Refusal;
use crate::plugins::reload::RollbackError;
use crate::runtime::RuntimeError;
use crate::stats::StatsError;
use crate::store::StoreError;
use crate::telemetry::Seldom;
use crate::topology::{BadPath, TopologyError};

/// Access token invalid or expired. No name in the standard, but widely used for this.
const INVALID_TOKEN: u16 = 498;

/// When to try again where the OpenID provider doesn't answer, in seconds.
const PROVIDER_RETRY: u64 = 5;

/// Why a request isn't answered with a payload.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// A refresh token came with the request, but no access token.
    #[error("this needs an access token: refresh it")]
    NoToken,
    /// The access token isn't valid.
    #[error("{0}")]
    Token(TokenError),
    /// Neither token came with the request, or the refresh token isn't valid.
    #[error("log in: {0}")]
    LogIn(String),
    /// No policy recognises the bearer of the token, or one refuses them.
    #[error("{0}")]
    NotRecognised(Refusal),
    /// The policy says no, or failed to decide.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It is for administrators alone, and the caller is none.
    #[error("this is for administrators")]
    NotAdmin,
    /// User name or password is wrong.
    #[error("the user name or the password is wrong")]
    Credentials,
    /// There is no native login.
    #[error("this server has no login by user name and password")]
    NativeDisabled,
    /// Too many have failed or try at once; says when to try again.
    #[error("{error}")]
    TooManyLogins {
        /// Which of both.
        error: LoginError,
        /// After so many seconds.
        retry_after: u64,
    },
    /// There is no login by OpenID Connect.
    #[error("this server has no login by OpenID Connect")]
    OpenIdDisabled,
    /// The login by OpenID Connect failed.
    #[error("{0}")]
    OpenId(OpenIdError),
    /// A page of another site asks for a change.
    #[error(
        "this request comes from a page of another site, which may change nothing here; if it is a page of this site, the \
         proxy in front of the server has to pass the header Host on as it is, or server.cors.origins has to name the site"
    )]
    OtherSite,
    /// There is nothing of that kind, or the caller may not know that there is.
    #[error("there is no {0} {1}")]
    NotFound(&'static str, String),
    /// The path means nothing.
    #[error("there is nothing at {0}")]
    NoRoute(String),
    /// The path means something, but not with this method.
    #[error("{0} is not possible at {1}")]
    NoMethod(Method, String),
    /// Something about the request is wrong; says what and where.
    #[error("{0}")]
    Invalid(String),
    /// The body isn't said to be JSON.
    #[error("the body of the request must be JSON, with the content type application/json")]
    NotJson,
    /// The request was sent to a name that doesn't mean this machine alone.
    #[error(
        "with the default login this server answers only requests to localhost, 127.0.0.1 or [::1]: use one of these, or \
         set {} and {} to a login of your own",
        crate::config::ENV_USERNAME,
        crate::config::ENV_PASSWORD
    )]
    NotLocal,
    /// The body is too long.
    #[error("the body of the request is longer than this server takes (server.limits.bodyBytes)")]
    TooLarge,
    /// The body came too slowly.
    #[error("{0}")]
    TooSlow(TooSlow),
    /// The path is too long.
    #[error("the path of the request, with its query, is longer than {0} bytes")]
    UriTooLong(usize),
    /// A page of another site asks for a socket.
    #[error("this server takes no sockets from pages of other sites; server.cors.origins names those that may")]
    ForeignOrigin,
    /// The definition of a topology can't be used; says where and why.
    #[error("{0}")]
    Definition(#[from] TopologyError),
    /// A bind file can't have this path.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The plugins that the configuration names can't be put in force.
    #[error("the plugins stay as they were: {0}")]
    Reload(#[from] ReloadFailure),
    /// There are no plugins to go back to.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// There is not enough left of what labs take; says of what, and what is in the way, as far as the caller may see it.
    #[error("{0}")]
    NoRoom(String),
    /// It can't be done to a lab.
    #[error(transparent)]
    Lab(LabError),
    /// What its nodes use is not known.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// There is no capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Somebody has logged out, but their session couldn't be ended.
    #[error("a session could not be ended: {0}")]
    StillLoggedIn(StoreError),
    /// It can't be done with what runs of a lab, or has failed there.
    #[error(transparent)]
    LabCommand(LabCommandError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(StoreError),
    /// A bug.
    #[error("the server made a mistake; its log says more")]
    Internal,
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what, id } => Self::NotFound(what, id),
            error => Self::Store(error),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::Credentials,
            LoginError::TooMany(wait) | LoginError::Busy(wait) => {
                Self::TooManyLogins { error, retry_after: seconds(wait) }
            }
        }
    }
}

impl From<LabError> for ApiError {
    fn from(error: LabError) -> Self {
        match error {
            LabError::NotFound(id) => Self::NotFound("lab", id.to_string()),
            LabError::TopologyNotFound(id) => Self::NotFound("topology", id.to_string()),
            LabError::Invalid(problem) => Self::Invalid(problem),
            LabError::Store(error) => error.into(),
            error => Self::Lab(error),
        }
    }
}

impl From<LabCommandError> for ApiError {
    fn from(error: LabCommandError) -> Self {
        match error {
            LabCommandError::NotFound(id) => Self::NotFound("lab", id.to_string()),
            error => Self::LabCommand(error),
        }
    }
}

impl ApiError {
    /// HTTP status and error code.
    fn codes(&self) -> (u16, u16) {
        match self {
            Self::NoToken | Self::Token(_) => (INVALID_TOKEN, 5000),
            Self::NotRecognised(Refusal::Failed { .. }) | Self::Refused(Refusal::Failed { .. }) | Self::Internal => {
                (500, 5000)
            }
            Self::LogIn(_) | Self::NotRecognised(_) => (401, 5000),
            Self::Refused(_) => (403, 5403),
            Self::Credentials => (400, 1001),
            Self::NativeDisabled | Self::OpenIdDisabled => (400, 5000),
            Self::TooManyLogins { .. } => (429, 5000),
            Self::OpenId(OpenIdError::Unreachable(_)) => (503, 5000),
            Self::OpenId(OpenIdError::Store(_)) => (500, 5000),
            Self::OpenId(OpenIdError::Over) => (401, 5000),
            Self::OpenId(_) => (400, 5000),
            Self::OtherSite => (403, 5403),
            Self::NotFound(..) | Self::NoRoute(_) => (404, 5005),
            Self::NoMethod(..) => (405, 5000),
            Self::Invalid(_) => (422, 5422),
            Self::TooLarge => (413, 5422),
            Self::TooSlow(_) => (408, 5422),
            Self::UriTooLong(_) => (414, 5422),
            Self::ForeignOrigin => (403, 5403),
            Self::NotJson => (415, 5422),
            Self::NotLocal | Self::NotAdmin => (403, 5403),
            Self::Reload(_) | Self::Rollback(_) => (400, 5000),
            Self::Definition(_) => (400, 3003),
            Self::Path(_) | Self::Store(StoreError::PathInUse { .. }) => (400, 4002),
            Self::Store(StoreError::PathTaken(_)) => (400, 4001),
            Self::Store(StoreError::TooMuch(_)) => (422, 5422),
            Self::LabCommand(LabCommandError::Internal(_)) => (500, 5000),
            Self::NoRoom(_) | Self::Lab(_) | Self::LabCommand(_) => (400, 5000),
            Self::Stats(StatsError::NoInstance) => (400, 5003),
            Self::Stats(StatsError::Runtime(_)) => (503, 5001),
            Self::Capture(error) => of_capture(error),
            Self::Store(StoreError::NameTaken { what: "collection", .. }) => (400, 2001),
            Self::Store(StoreError::NameTaken { what: "topology", .. }) => (400, 3001),
            Self::Store(StoreError::InUse { .. }) => (400, 5000),
            Self::Store(StoreError::Null(_)) => (422, 5422),
            Self::Store(error) | Self::StillLoggedIn(error) => match error {
                StoreError::Away(_) | StoreError::Unknown | StoreError::Overtaken(_) => (503, 5000),
                _ => (500, 5000),
            },
        }
    }

    /// A sentence for the user. What went wrong inside is for the log alone.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Store(StoreError::Database(_) | StoreError::Nonsense { .. } | StoreError::Open { .. }) => {
                "the server's database failed; its log says more".to_owned()
            }
            Self::Store(StoreError::Away(_)) => {
                "the server's database can't be reached at the moment, and nothing was done: try again in a moment"
                    .to_owned()
            }
            Self::StillLoggedIn(_) => "the cookies are cleared, but the server's database could not end the session: \
                                       whoever has kept its refresh token can go on with it; try again with that token"
                .to_owned(),
            error => error.to_string(),
        }
    }
}

/// The codes are those of the same errors of a shell.
fn of_capture(error: &CaptureError) -> (u16, u16) {
    match error {
        CaptureError::LabNotRunning | CaptureError::Runtime(RuntimeError::NoInstance(_)) => (400, 5003),
        CaptureError::Runtime(RuntimeError::NodeNotRunning(_)) => (400, 5004),
        CaptureError::Off | CaptureError::Excluded(_) | CaptureError::Runtime(RuntimeError::Unsupported(_)) => {
            (400, 5000)
        }
        CaptureError::NoNode { .. } | CaptureError::Runtime(RuntimeError::NoNode(_)) => (404, 5006),
        CaptureError::Runtime(RuntimeError::NoInterface { .. }) => (404, 5005),
        CaptureError::UserLimit(_) | CaptureError::Limit(_) => (429, 5000),
        CaptureError::ShuttingDown | CaptureError::Runtime(RuntimeError::Unreachable(_)) => (503, 5001),
        CaptureError::Runtime(_) => (500, 5001),
    }
}

impl ApiError {
    /// The same for the log. What is wrong with a body is said by quoting it, and it may be a password or a licence: that is
    /// for its sender alone.
    fn for_log(&self) -> String {
        match self {
            Self::Invalid(_) => "something in it is wrong".to_owned(),
            Self::Definition(_) => "the definition of a topology can't be used".to_owned(),
            error => error.to_string(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.codes();
        if status >= 500 {
            // While the database is away, say, each request of each client is one.
            static FAILED: Seldom = Seldom::new();
            match FAILED.turn() {
                Some(left_out) => tracing::error!(error = %self, left_out, "a request failed"),
                None => tracing::debug!(error = %self, "a request failed"),
            }
        } else {
            tracing::debug!(error = self.for_log(), status, "a request was refused");
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(FailureJson { code, message: self.message() })).into_response();
        let retry_after = match self {
            Self::TooManyLogins { retry_after, .. } => Some(retry_after),
            Self::OpenId(OpenIdError::Unreachable(_)) => Some(PROVIDER_RETRY),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::decision::CallFailure;

    fn denied() -> Refusal {
        Refusal::Denied {
            plugin: "auth-policy".to_owned(),
            rule: "creator-only".to_owned(),
            message: "only its creator may do that".to_owned(),
        }
    }

    fn failed() -> Refusal {
        Refusal::Failed { plugin: "auth-policy".to_owned(), failure: CallFailure::Busy }
    }

    fn taken(what: &'static str) -> ApiError {
        StoreError::NameTaken { what, name: "x".to_owned() }.into()
    }

    #[test]
    fn errors_have_the_documented_statuses_and_codes() {
        for (error, codes) in [
            (ApiError::NoToken, (498, 5000)),
            (ApiError::Token(TokenError::Expired), (498, 5000)),
            (ApiError::LogIn(String::new()), (401, 5000)),
            (ApiError::NotRecognised(Refusal::Unrecognised), (401, 5000)),
            (ApiError::NotRecognised(failed()), (500, 5000)),
            (denied().into(), (403, 5403)),
            (failed().into(), (500, 5000)),
            (ApiError::Credentials, (400, 1001)),
            (taken("collection"), (400, 2001)),
            (taken("topology"), (400, 3001)),
            (TopologyError::TooLarge(5).into(), (400, 3003)),
            (StoreError::PathTaken("a".to_owned()).into(), (400, 4001)),
            (StoreError::PathInUse { path: "a".to_owned(), other: "a/b".to_owned() }.into(), (400, 4002)),
            (BadPath("…".to_owned()).into(), (400, 4002)),
            (StoreError::TooMuch("content: …".to_owned()).into(), (422, 5422)),
            (StoreError::InUse { what: "topology", users: "labs" }.into(), (400, 5000)),
            (StoreError::NotFound { what: "lab", id: "x".to_owned() }.into(), (404, 5005)),
            (StoreError::Overtaken("topology").into(), (503, 5000)),
            (LabError::NotFound("x".into()).into(), (404, 5005)),
            (LabError::TopologyNotFound("x".into()).into(), (404, 5005)),
            (LabError::Invalid("endTime: …".to_owned()).into(), (422, 5422)),
            (LabError::InUse("x".to_owned()).into(), (400, 5000)),
            (StatsError::NoInstance.into(), (400, 5003)),
            (StatsError::Runtime(String::new()).into(), (503, 5001)),
            (CaptureError::Off.into(), (400, 5000)),
            (CaptureError::LabNotRunning.into(), (400, 5003)),
            (CaptureError::from(RuntimeError::NodeNotRunning("r1".to_owned())).into(), (400, 5004)),
            (CaptureError::from(RuntimeError::NoNode("r1".to_owned())).into(), (404, 5006)),
            (CaptureError::Limit(1).into(), (429, 5000)),
            (CaptureError::from(RuntimeError::Failed("a runtime".to_owned())).into(), (500, 5001)),
            (CaptureError::ShuttingDown.into(), (503, 5001)),
            (LabError::OnlyItsEnd("x".to_owned()).into(), (400, 5000)),
            (LabError::BeingDestroyed("x".to_owned()).into(), (400, 5000)),
            (ApiError::NoRoom("it doesn't fit".to_owned()), (400, 5000)),
            (LabCommandError::NotFound("x".into()).into(), (404, 5005)),
            (LabCommandError::Runtime(String::new()).into(), (400, 5000)),
            (LabCommandError::Internal(String::new()).into(), (500, 5000)),
            (ApiError::Invalid(String::new()), (422, 5422)),
            (ApiError::NotJson, (415, 5422)),
            (ApiError::TooSlow(TooSlow(std::time::Duration::from_secs(1))), (408, 5422)),
            (ApiError::UriTooLong(1), (414, 5422)),
            (ApiError::ForeignOrigin, (403, 5403)),
            (ApiError::NotLocal, (403, 5403)),
            (RollbackError::NothingBefore.into(), (400, 5000)),
            (ApiError::NotAdmin, (403, 5403)),
            (ApiError::OtherSite, (403, 5403)),
            (LoginError::Wrong.into(), (400, 1001)),
            (LoginError::TooMany(std::time::Duration::from_secs(1)).into(), (429, 5000)),
            (LoginError::Busy(std::time::Duration::from_secs(1)).into(), (429, 5000)),
            (ApiError::OpenIdDisabled, (400, 5000)),
            (OpenIdError::Unreachable(String::new()).into(), (503, 5000)),
            (OpenIdError::NotPending.into(), (400, 5000)),
            (OpenIdError::Code.into(), (400, 5000)),
            (OpenIdError::Over.into(), (401, 5000)),
            (ApiError::StillLoggedIn(StoreError::Away(String::new())), (503, 5000)),
            (ApiError::StillLoggedIn(StoreError::Database(sqlx::Error::PoolClosed)), (500, 5000)),
        ] {
            assert_eq!(error.codes(), codes, "{error}");
            assert_ne!(error.codes().0, 504, "clients would retry for ever");
        }
    }

    #[test]
    fn a_refusal_names_plugin_and_rule() {
        let message = ApiError::from(denied()).message();
        assert!(
            message.contains("only its creator") && message.contains("auth-policy") && message.contains("creator-only")
        );
        assert!(ApiError::from(failed()).message().contains("auth-policy"));
    }

    #[test]
    fn what_goes_wrong_inside_is_for_the_log_alone() {
        let error = ApiError::from(StoreError::Nonsense { what: "secret".to_owned(), problem: "path".to_owned() });
        assert!(!error.message().contains("secret"));
    }
}
