//! Logging in and out, and getting another access token.

use axum::extract::State;
use axum::http::HeaderMap;
use axum_extra::extract::CookieJar;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::client_address::ClientAddress;
use super::cookies::{self, ACCESS, OIDC, REFRESH, is_secure};
use super::error::ApiError;
use super::extract::Json;
use super::openapi::{
    Credentials as WrongCredentials, Fails, LogIn, NoNativeLogin, Nothing, OpenIdFailed, OtherSite, ProviderGone,
    StillLoggedIn, TooManyLogins,
};
use super::openid;
use super::{Answer, Api, Payload};
use crate::auth::{Ground, TokenError};
use crate::labs::model::User;

/// The ways to log in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LoginConfig)]
pub(super) struct LoginConfigJson {
    open_id: OpenIdJson,
    native: NativeJson,
}

/// The login by OpenID Connect.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenIdLogin)]
struct OpenIdJson {
    enabled: bool,
}

/// The login by name and password.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NativeLogin)]
struct NativeJson {
    enabled: bool,
    /// Whether an empty name and password will do.
    allow_empty: bool,
}

/// How one can log in
#[utoipa::path(
    get, path = "/users/login/config", operation_id = "loginConfig", tag = "users", security(()),
    responses((status = 200, description = "The ways to log in.", body = Payload<LoginConfigJson>)),
)]
pub(super) async fn login_config(State(api): State<Api>) -> Answer<LoginConfigJson> {
    let native = NativeJson { enabled: api.logins.is_enabled(), allow_empty: api.logins.allows_empty() };
    super::answer(LoginConfigJson { open_id: OpenIdJson { enabled: api.open_id.is_some() }, native })
}

/// Name and password.
#[derive(Deserialize, ToSchema)]
pub(super) struct Credentials {
    username: String,
    password: String,
}

/// Log in by name and password
///
/// Sets the cookies `accessToken` and `authToken`.
#[utoipa::path(
    post, path = "/users/login/native", operation_id = "logIn", tag = "users", security(()),
    responses(
        (status = 200, description = "You are logged in: both cookies are set.", body = Payload<Nothing>),
        Fails<(WrongCredentials, NoNativeLogin, OtherSite, TooManyLogins)>,
    ),
)]
pub(super) async fn log_in(
    State(api): State<Api>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    cookies: CookieJar,
    Json(credentials): Json<Credentials>,
) -> Result<(CookieJar, Payload<()>), ApiError> {
    if !api.logins.is_enabled() {
        return Err(ApiError::NativeDisabled);
    }
    let login = api.logins.log_in(&credentials.username, &credentials.password, address).await?;
    let user = login.bearer;
    let session = uuid::Uuid::new_v4().to_string();
    let ground = Ground::Password { credentials: &login.ground, session: &session };
    let refresh = api.auth.issue_refresh(&user, ground);
    let known = User { id: user.id.clone(), name: user.name.clone() };
    api.store.begin_session(&known, &session, refresh.expires).await?;
    let secure = is_secure(&headers);
    let cookies = cookies.add(cookies::of_login(REFRESH, refresh.token, secure)).add(cookies::of_login(
        ACCESS,
        api.auth.issue_access(&user).token,
        secure,
    ));
    // Where it stayed, a client would ask the provider when this login ends.
    Ok((cookies::without(cookies, OIDC, secure), Payload { payload: () }))
}

/// Get another access token
///
/// For the refresh token in the cookie `authToken`, and for the user as they are now. Sets the cookie `accessToken` as well.
#[utoipa::path(
    get, path = "/users/login/refresh", operation_id = "refresh", tag = "users", security(("refreshToken" = [])),
    responses(
        (status = 200, description = "The access token.", body = Payload<String>),
        Fails<(OpenIdFailed, LogIn, ProviderGone)>,
    ),
)]
pub(super) async fn refresh(
    State(api): State<Api>,
    headers: HeaderMap,
    cookies: CookieJar,
) -> Result<(CookieJar, Payload<String>), ApiError> {
    let log_in = |error: TokenError| ApiError::LogIn(error.to_string());
    let token = cookies.get(REFRESH).map(|cookie| cookie.value().to_owned()).unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::LogIn("no refresh token".to_owned()));
    }
    let token = api.auth.verify_refresh(&token).map_err(log_in)?;
    let session = token.session.as_deref().ok_or_else(|| log_in(TokenError::Over))?;
    let user = match &api.open_id {
        _ if token.is_by_password() => {
            let current = api.logins.current(token.bearer.id.as_str());
            let unchanged = current.filter(|(_, ground)| api.auth.stands_on(&token, ground));
            let (user, _) = unchanged.ok_or_else(|| log_in(TokenError::LoginChanged))?;
            // While that can't be told, nobody goes on: somebody may have logged out.
            if !api.store.session_goes_on(session).await? {
                return Err(log_in(TokenError::Over));
            }
            user
        }
        Some(open_id) => openid::fitting(&api, open_id.refresh(session).await?).await?,
        None => return Err(log_in(TokenError::LoginChanged)),
    };
    let access = api.auth.issue_access(&user).token;
    let cookies = cookies.add(cookies::of_login(ACCESS, access.clone(), is_secure(&headers)));
    Ok((cookies, Payload { payload: access }))
}

/// Log out
///
/// Clears all cookies of a login, and ends its session: its refresh token is worth nothing from then on. Access tokens that
/// somebody has kept stay valid until they expire.
#[utoipa::path(
    post, path = "/users/logout", operation_id = "logOut", tag = "users", security(()),
    responses(
        (status = 200, description = "The cookies are cleared, and the session has ended.", body = Payload<Nothing>),
        Fails<(OtherSite, StillLoggedIn)>,
    ),
)]
pub(super) async fn log_out(
    State(api): State<Api>,
    headers: HeaderMap,
    cookies: CookieJar,
) -> (CookieJar, Result<Payload<()>, ApiError>) {
    let token = cookies.get(REFRESH).and_then(|cookie| api.auth.verify_refresh(cookie.value()).ok());
    let ended = match token.as_ref().and_then(|token| Some((token, token.session.as_deref()?))) {
        Some((token, session)) if token.is_by_password() => api.store.end_session(session).await,
        Some((_, session)) => match &api.open_id {
            Some(open_id) => open_id.end(session).await,
            // It is worth nothing while nobody logs in that way.
            None => Ok(()),
        },
        None => Ok(()),
    };
    // Whatever became of the session: on a shared machine, nobody is to find the cookies.
    let cookies = cookies::without_login(cookies, is_secure(&headers));
    (cookies, ended.map(|()| Payload { payload: () }).map_err(ApiError::StillLoggedIn))
}
