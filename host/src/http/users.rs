//! Logging in and out, and getting another access token.

use axum::extract::State;
use axum::http::HeaderMap;
use axum_extra::extract::CookieJar;
use serde::{Deserialize, Serialize};

use super::client_address::ClientAddress;
use super::cookies::{self, ACCESS, OIDC, REFRESH, is_secure};
use super::error::ApiError;
use super::extract::Json;
use super::openid;
use super::{Answer, Api, Payload};
use crate::auth::{Ground, TokenError};
use crate::labs::model::User;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoginConfigJson {
    open_id: OpenIdJson,
    native: NativeJson,
}

#[derive(Serialize)]
struct OpenIdJson {
    enabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NativeJson {
    enabled: bool,
    allow_empty: bool,
}

/// `GET /users/login/config`: how one can log in. For everybody.
pub(super) async fn login_config(State(api): State<Api>) -> Answer<LoginConfigJson> {
    let native = NativeJson { enabled: api.logins.is_enabled(), allow_empty: api.logins.allows_empty() };
    super::answer(LoginConfigJson { open_id: OpenIdJson { enabled: api.open_id.is_some() }, native })
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    username: String,
    password: String,
}

/// `POST /users/login/native`: checks name and password, and sets both cookies.
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
    api.store.upsert_user(&User { id: user.id.clone(), name: user.name.clone() }).await?;
    let secure = is_secure(&headers);
    let refresh = api.auth.issue_refresh(&user, Ground::Credentials(&login.ground)).token;
    let cookies = cookies.add(cookies::of_login(REFRESH, refresh, secure)).add(cookies::of_login(
        ACCESS,
        api.auth.issue_access(&user).token,
        secure,
    ));
    // Where it stayed, a client would ask the provider when this login ends.
    Ok((cookies::without(cookies, OIDC, secure), Payload { payload: () }))
}

/// `GET /users/login/refresh`: another access token for the refresh token in the cookie, for the user as they are now.
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
    let user = match (&token.session, &api.open_id) {
        (Some(session), Some(open_id)) => openid::fitting(&api, open_id.refresh(session).await?).await?,
        (Some(_), None) => return Err(log_in(TokenError::LoginChanged)),
        (None, _) => {
            let current = api.logins.current(token.bearer.id.as_str());
            let unchanged = current.filter(|(_, ground)| api.auth.stands_on(&token, ground));
            unchanged.map(|(user, _)| user).ok_or_else(|| log_in(TokenError::LoginChanged))?
        }
    };
    let access = api.auth.issue_access(&user).token;
    let cookies = cookies.add(cookies::of_login(ACCESS, access.clone(), is_secure(&headers)));
    Ok((cookies, Payload { payload: access }))
}

/// `POST /users/logout`: clears all cookies, and ends the session if the login was by OpenID Connect.
pub(super) async fn log_out(
    State(api): State<Api>,
    headers: HeaderMap,
    cookies: CookieJar,
) -> Result<(CookieJar, Payload<()>), ApiError> {
    let token = cookies.get(REFRESH).and_then(|cookie| api.auth.verify_refresh(cookie.value()).ok());
    if let (Some(session), Some(open_id)) = (token.and_then(|token| token.session), &api.open_id) {
        open_id.end(&session).await?;
    }
    Ok((cookies::without_login(cookies, is_secure(&headers)), Payload { payload: () }))
}
