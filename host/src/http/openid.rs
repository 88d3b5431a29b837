//! Logging in by OpenID Connect, as far as it goes through the browser: there, back, and on to a page of this site.
//!
//! People meet these two addresses by following a link, so that what goes wrong is shown to them as a page; a program gets
//! the same in the envelope.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, HOST, LOCATION, REFERER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum_extra::extract::CookieJar;
use openidconnect::url::Url;

use super::Api;
use super::cookies::{self, ACCESS, OIDC, REFRESH, is_secure};
use super::error::ApiError;
use super::openapi::{Fails, LogIn, NoOpenId, ProviderGone};
use crate::auth::openid::{Callback, cookie_name};
use crate::auth::{Bearer, Ground, OpenId, OpenIdError};
use crate::labs::model::User;

/// Cookies have room for some 4 KB, and a token is a third longer than what it says: so many bytes of names of groups fit.
const MAX_GROUPS: usize = 2300;

/// Log in by OpenID Connect
///
/// For browsers, to be gone to and not fetched: leads to the provider, which leads back to `/users/login/success`. Failures
/// are pages for those who accept HTML.
#[utoipa::path(
    get, path = "/users/login/openid", operation_id = "logInByOpenId", tag = "users", security(()),
    responses(
        (status = 302, description = "To the provider.", headers(("location" = String, description = "The provider's page."))),
        Fails<(NoOpenId, ProviderGone)>,
    ),
)]
pub(super) async fn log_in(State(api): State<Api>, headers: HeaderMap, cookies: CookieJar) -> Response {
    let begun = async {
        let open_id = api.open_id.as_ref().ok_or(ApiError::OpenIdDisabled)?;
        let begun = open_id.begin(&return_to(&headers, &open_id.settings().api)).await?;
        let secure = is_secure_for(&headers, open_id);
        Ok((cookies::with_pending(cookies, begun.cookie, begun.value, secure), redirect(&begun.url)))
    };
    begun.await.map_err(|error| for_people(error, &headers)).into_response()
}

/// Come back from the provider
///
/// Where the provider of the login by OpenID Connect leads to. Sets the cookies `accessToken`, `authToken` and `authOidc`, and
/// leads to the page where the login was begun, if that is of this site.
#[utoipa::path(
    get, path = "/users/login/success", operation_id = "loggedInByOpenId", tag = "users", security(()),
    params(
        ("code" = Option<String>, Query, description = "What the tokens are had for."),
        ("state" = Option<String>, Query, description = "Which login this is."),
        ("error" = Option<String>, Query, description = "Why the provider lets nobody in."),
    ),
    responses(
        (status = 302, description = "You are logged in.", headers(("location" = String, description = "A page of this site."))),
        Fails<(NoOpenId, LogIn, ProviderGone)>,
    ),
)]
pub(super) async fn success(
    State(api): State<Api>,
    headers: HeaderMap,
    mut cookies: CookieJar,
    callback: Result<Query<Callback>, QueryRejection>,
) -> Response {
    let secure = api.open_id.as_ref().is_some_and(|open_id| is_secure_for(&headers, open_id));
    let callback = callback.map(|Query(callback)| callback).unwrap_or_default();
    let pending = callback.state.as_deref().map(cookie_name);
    let kept = pending.as_ref().and_then(|name| cookies.get(name)).map(|cookie| cookie.value().to_owned());
    // Whatever comes of it, this login is over.
    if let (Some(pending), Some(_)) = (pending, &kept) {
        cookies = cookies::without_pending(cookies, pending, secure);
    }
    match finish(&api, callback, kept).await {
        Err(error) => (cookies, for_people(error, &headers)).into_response(),
        Ok((access, refresh, page)) => {
            let cookies = cookies
                .add(cookies::of_login(REFRESH, refresh, secure))
                .add(cookies::of_login(ACCESS, access, secure))
                .add(cookies::of_login(OIDC, "true".to_owned(), secure));
            (cookies, redirect(&page)).into_response()
        }
    }
}

/// The tokens of whoever has come back, and the page that they want to go to.
async fn finish(api: &Api, callback: Callback, kept: Option<String>) -> Result<(String, String, String), ApiError> {
    let open_id = api.open_id.as_ref().ok_or(ApiError::OpenIdDisabled)?;
    let finished = open_id.finish(callback, |_| kept).await?;
    let bearer = finished.bearer;
    api.store.upsert_user(&User { id: bearer.id.clone(), name: bearer.name.clone() }).await?;
    let refresh = api.auth.issue_refresh(&bearer, Ground::OpenId(&finished.session)).token;
    let access = api.auth.issue_access(&fitting(api, bearer).await?).token;
    Ok((access, refresh, finished.return_to))
}

/// The same person with no more groups than a cookie has room for: where there are too many, only those that are
/// collections.
pub(super) async fn fitting(api: &Api, mut bearer: Bearer) -> Result<Bearer, ApiError> {
    if room(&bearer.collections) > MAX_GROUPS {
        let known = api.store.collections().await?;
        bearer.collections.retain(|name| known.iter().any(|collection| collection.name == *name));
        let all = bearer.collections.len();
        while room(&bearer.collections) > MAX_GROUPS {
            bearer.collections.pop();
        }
        if bearer.collections.len() < all {
            let (user, kept) = (&bearer.id, bearer.collections.len());
            tracing::warn!(%user, all, kept, "somebody is in more collections than a cookie has room for");
        }
    }
    Ok(bearer)
}

/// How many bytes these names take in a token: what isn't ASCII is written as `\u….`.
fn room(names: &[String]) -> usize {
    let bytes =
        |name: &String| name.chars().map(|each| if each.is_ascii() { 1 } else { 6 * each.len_utf16() }).sum::<usize>();
    names.iter().map(|name| bytes(name) + 3).sum()
}

/// Whether cookies of this login are for TLS alone: the address that the provider sends people back to says so, even where
/// the proxy doesn't.
fn is_secure_for(headers: &HeaderMap, open_id: &OpenId) -> bool {
    is_secure(headers) || open_id.settings().api.scheme() == "https"
}

/// Bytes that the address of a page may have which somebody is sent back to.
const LONGEST_PAGE: usize = 1024;

/// The page to go to after a login: the one that it was begun on, if that is of this site, and else the site's first.
fn return_to(headers: &HeaderMap, api: &Url) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // With its scheme and host, even though it is of this site: a path that begins with two slashes would lead elsewhere.
    let is_ours = |page: &Url| {
        let by_host = text(HOST).and_then(|host| Url::parse(&format!("{}://{host}", page.scheme())).ok());
        let same = |ours: &Url| page.origin() == ours.origin();
        matches!(page.scheme(), "http" | "https")
            && (same(api) || by_host.as_ref().is_some_and(same))
            // Never from TLS to none.
            && (page.scheme() == api.scheme() || page.host() != api.host())
            && page.username().is_empty()
            && page.password().is_none()
            // Who tries again begins on the page that says what went wrong.
            && !page.path().contains("/users/login/")
    };
    if let Some(mut page) = text(REFERER).and_then(|page| Url::parse(page).ok()).filter(is_ours) {
        // It is kept in a cookie, and browsers keep none that is too long.
        if page.as_str().len() > LONGEST_PAGE {
            page.set_query(None);
        }
        if page.as_str().len() <= LONGEST_PAGE {
            return page.into();
        }
    }
    // The web client is beside the API, or around it.
    let mut site = api.clone();
    let path = site.path().trim_end_matches('/');
    let path = format!("{}/", path.strip_suffix("/api").unwrap_or(path));
    site.set_path(&path);
    site.into()
}

fn redirect(to: &str) -> (StatusCode, [(axum::http::HeaderName, String); 1]) {
    (StatusCode::FOUND, [(LOCATION, to.to_owned())])
}

/// An error as a page for those who look at it with a browser.
fn for_people(error: ApiError, headers: &HeaderMap) -> Response {
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/html") {
        return error.into_response();
    }
    let again = match &error {
        ApiError::OpenIdDisabled => "",
        _ => "<p><a href=\"openid\">Log in again</a></p>\n",
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>The login failed</title>\n\
         <h1>The login failed</h1>\n<p>{}</p>\n{again}</html>\n",
        escaped(&capitalised(&error.message()))
    );
    // With the status and headers that a program gets.
    let mut response = error.into_response();
    let (parts, body) = Html(page).into_response().into_parts();
    response.headers_mut().extend(parts.headers);
    response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
    *response.body_mut() = body;
    response
}

fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", rest.as_str())
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&#39;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

impl From<OpenIdError> for ApiError {
    fn from(error: OpenIdError) -> Self {
        match error {
            OpenIdError::Store(error) => error.into(),
            OpenIdError::Over => Self::LogIn(error.to_string()),
            error => Self::OpenId(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn page(api: &str, referer: Option<&str>, host: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a host"));
        if let Some(referer) = referer {
            headers.insert(HeaderName::from_static("referer"), referer.parse().expect("a header"));
        }
        return_to(&headers, &Url::parse(api).expect("an address"))
    }

    const API: &str = "https://labs.example/api";
    const SITE: &str = "https://labs.example/";

    #[test]
    fn one_comes_back_to_the_page_that_one_left() {
        for own in ["https://labs.example/labs?x=1", "https://labs.example/", "https://labs.example:443/labs"] {
            let expected = own.replace(":443", "");
            assert_eq!(page(API, Some(own), "backend:3000"), expected);
        }
        // Through another name of the server, which the browser has just used.
        assert_eq!(page(API, Some("http://lab.lan:8080/labs"), "lab.lan:8080"), "http://lab.lan:8080/labs");
        // Through a proxy for developers, which passes the host on.
        let (api, page_of_ui) = ("http://localhost:3000", "http://localhost:8080/labs");
        assert_eq!(page(api, Some(page_of_ui), "localhost:8080"), page_of_ui);
        // Two slashes at the beginning of a path are no host.
        let tricky = "https://labs.example//evil.example/";
        assert_eq!(page(API, Some(tricky), "labs.example"), tricky);
    }

    #[test]
    fn no_other_site_is_gone_to() {
        for foreign in [
            "https://evil.example/",
            "http://labs.example/",
            "https://labs.example:8443/",
            "https://labs.example.evil.example/",
            "https://labs.example@evil.example/",
            "https://user:password@labs.example/",
            "//evil.example/",
            "/labs",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://evil.example\\@labs.example/",
            "",
        ] {
            assert_eq!(page(API, Some(foreign), "labs.example"), SITE, "{foreign}");
        }
        assert_eq!(page(API, None, "labs.example"), SITE);
        // The pages of the login itself lead round in circles.
        assert_eq!(page(API, Some("https://labs.example/api/users/login/success?code=1"), "labs.example"), SITE);
    }

    #[test]
    fn the_first_page_is_beside_the_api() {
        for (api, site) in [
            ("https://labs.example/api", "https://labs.example/"),
            ("https://labs.example/api/", "https://labs.example/"),
            ("https://labs.example/antimony/api", "https://labs.example/antimony/"),
            ("http://localhost:3000", "http://localhost:3000/"),
        ] {
            assert_eq!(page(api, None, "labs.example"), site);
        }
    }

    #[test]
    fn what_a_provider_says_is_shown_as_text() {
        let error: ApiError = OpenIdError::Refused("<script>alert('x')</script>".to_owned()).into();
        let text = escaped(&capitalised(&error.message()));
        assert!(text.contains("&lt;script&gt;") && !text.contains('<'), "{text}");
    }

    #[test]
    fn the_room_that_names_take_is_what_they_take_in_a_token() {
        assert_eq!(room(&["abc".to_owned(), "ü".to_owned(), "🦀".to_owned()]), 6 + 9 + 15);
    }
}
