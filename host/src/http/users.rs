//! Logging in and out, and getting another access token.

use axum::extract::State;
use axum::http::HeaderMap;
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::Json;
use super::openapi::{Credentials as WrongCredentials, Fails, LogIn, NoNativeLogin, Nothing};
use super::{Answer, Api, Payload};
use crate::auth::REFRESH_LIFETIME;
use crate::labs::model::User;

/// Cookie with the access token, which scripts of the site may read.
pub(super) const ACCESS_COOKIE: &str = "accessToken";
/// Cookie with the refresh token.
pub(super) const REFRESH_COOKIE: &str = "authToken";
/// Cookie that says that the login was by OpenID Connect.
const OIDC_COOKIE: &str = "authOidc";

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
    let native = NativeJson { enabled: api.native.is_enabled(), allow_empty: api.native.allows_empty() };
    super::answer(LoginConfigJson { open_id: OpenIdJson { enabled: false }, native })
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
        Fails<(WrongCredentials, NoNativeLogin)>,
    ),
)]
pub(super) async fn log_in(
    State(api): State<Api>,
    headers: HeaderMap,
    cookies: CookieJar,
    Json(credentials): Json<Credentials>,
) -> Result<(CookieJar, Payload<()>), ApiError> {
    if !api.native.is_enabled() {
        return Err(ApiError::NativeDisabled);
    }
    let user = api.native.check(&credentials.username, &credentials.password).ok_or(ApiError::Credentials)?;
    api.store.upsert_user(&User { id: user.id.clone(), name: user.name.clone() }).await?;
    let secure = is_secure(&headers);
    let cookies = cookies
        .add(cookie(REFRESH_COOKIE, api.auth.issue_refresh(&user, &api.native).token, secure))
        .add(cookie(ACCESS_COOKIE, api.auth.issue_access(&user).token, secure));
    Ok((cookies, Payload { payload: () }))
}

/// Get another access token
///
/// For the refresh token in the cookie `authToken`. Sets the cookie `accessToken` as well.
#[utoipa::path(
    get, path = "/users/login/refresh", operation_id = "refresh", tag = "users", security(("refreshToken" = [])),
    responses(
        (status = 200, description = "The access token.", body = Payload<String>),
        Fails<(LogIn,)>,
    ),
)]
pub(super) async fn refresh(
    State(api): State<Api>,
    headers: HeaderMap,
    cookies: CookieJar,
) -> Result<(CookieJar, Payload<String>), ApiError> {
    let token = cookies.get(REFRESH_COOKIE).map(|cookie| cookie.value().to_owned()).unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::LogIn("no refresh token".to_owned()));
    }
    let user = api.auth.verify_refresh(&token, &api.native).map_err(|error| ApiError::LogIn(error.to_string()))?;
    let access = api.auth.issue_access(&user).token;
    let cookies = cookies.add(cookie(ACCESS_COOKIE, access.clone(), is_secure(&headers)));
    Ok((cookies, Payload { payload: access }))
}

/// Log out
///
/// Clears all cookies of the server. Tokens that somebody has kept stay valid until they expire.
#[utoipa::path(
    post, path = "/users/logout", operation_id = "logOut", tag = "users", security(()),
    responses((status = 200, description = "The cookies are cleared.", body = Payload<Nothing>)),
)]
pub(super) async fn log_out(headers: HeaderMap, mut cookies: CookieJar) -> (CookieJar, Payload<()>) {
    let secure = is_secure(&headers);
    for name in [REFRESH_COOKIE, ACCESS_COOKIE, OIDC_COOKIE] {
        let mut gone = cookie(name, String::new(), secure);
        gone.make_removal();
        cookies = cookies.add(gone);
    }
    (cookies, Payload { payload: () })
}

/// Both cookies last as long as the refresh token: clients ask for another access token only while they see the last one.
fn cookie(name: &'static str, value: String, secure: bool) -> Cookie<'static> {
    Cookie::build((name, value))
        .path("/")
        .same_site(SameSite::Lax)
        .http_only(name == REFRESH_COOKIE)
        .secure(secure)
        .max_age(REFRESH_LIFETIME.try_into().expect("30 days are far from the limit"))
        .build()
}

/// Whether the client speaks TLS with whatever stands in front of this server. Who forges this spoils their own
/// cookies only.
fn is_secure(headers: &HeaderMap) -> bool {
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).unwrap_or_default();
    forwarded.split(',').next().is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn scripts_may_read_the_access_token_and_nothing_else() {
        let access = cookie(ACCESS_COOKIE, "t".to_owned(), false).to_string();
        assert_eq!(access, "accessToken=t; SameSite=Lax; Path=/; Max-Age=2592000");
        let refresh = cookie(REFRESH_COOKIE, "t".to_owned(), true).to_string();
        assert_eq!(refresh, "authToken=t; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000");
    }

    #[test]
    fn cookies_are_secure_behind_tls_only() {
        let with = |value: &'static str| {
            is_secure(&HeaderMap::from_iter([(
                "x-forwarded-proto".parse().expect("a name"),
                HeaderValue::from_static(value),
            )]))
        };
        assert!(with("https") && with("HTTPS, http"));
        assert!(!with("http") && !with("http, https") && !with("") && !is_secure(&HeaderMap::new()));
    }
}
