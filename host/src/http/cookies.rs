//! The cookies of a login, as clients in the field know them.

use axum::http::HeaderMap;
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};

use crate::auth::REFRESH_LIFETIME;
use crate::auth::openid::{COOKIE_PREFIX, PENDING_LIFETIME};

/// Cookie with the access token, which scripts of the site may read.
pub(super) const ACCESS: &str = "accessToken";
/// Cookie with the refresh token.
pub(super) const REFRESH: &str = "authToken";
/// Cookie that says that the login was by OpenID Connect.
pub(super) const OIDC: &str = "authOidc";

/// More logins under way than this are not kept in a browser.
const PENDING: usize = 8;

/// A cookie of a login. All of them last as long as the refresh token: clients ask for another access token only while they
/// see the last one.
pub(super) fn of_login(name: &'static str, value: String, secure: bool) -> Cookie<'static> {
    Cookie::build((name, value))
        .path("/")
        .same_site(SameSite::Lax)
        .http_only(name == REFRESH)
        .secure(secure)
        .max_age(REFRESH_LIFETIME.try_into().expect("30 days are far from the limit"))
        .build()
}

/// Takes the cookies of a login back.
pub(super) fn without_login(mut cookies: CookieJar, secure: bool) -> CookieJar {
    for name in [REFRESH, ACCESS, OIDC] {
        cookies = cookies.add(removal(of_login(name, String::new(), secure)));
    }
    cookies
}

/// Takes one of them back.
pub(super) fn without(cookies: CookieJar, name: &'static str, secure: bool) -> CookieJar {
    cookies.add(removal(of_login(name, String::new(), secure)))
}

/// Keeps a login under way in the browser. The oldest give way where there are many.
pub(super) fn with_pending(mut cookies: CookieJar, name: String, value: String, secure: bool) -> CookieJar {
    let others: Vec<String> = cookies.iter().map(|cookie| cookie.name().to_owned()).collect();
    let others: Vec<String> = others.into_iter().filter(|name| name.starts_with(COOKIE_PREFIX)).collect();
    let too_many = (others.len() + 1).saturating_sub(PENDING);
    for name in others.into_iter().take(too_many) {
        cookies = without_pending(cookies, name, secure);
    }
    cookies.add(of_pending(name, value, secure))
}

/// Takes a login under way back.
pub(super) fn without_pending(cookies: CookieJar, name: String, secure: bool) -> CookieJar {
    cookies.add(removal(of_pending(name, String::new(), secure)))
}

/// `Lax`, since the browser comes back with it from the provider.
fn of_pending(name: String, value: String, secure: bool) -> Cookie<'static> {
    let cookie = Cookie::build((name, value)).path("/").same_site(SameSite::Lax).http_only(true).secure(secure);
    cookie.max_age(std::time::Duration::from_secs(PENDING_LIFETIME.unsigned_abs()).try_into().expect("minutes")).build()
}

fn removal(mut cookie: Cookie<'static>) -> Cookie<'static> {
    cookie.make_removal();
    cookie
}

/// Whether the client speaks TLS with whatever stands in front of this server. Who forges this spoils their own
/// cookies only.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).unwrap_or_default();
    forwarded.split(',').next().is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn scripts_may_read_the_access_token_and_not_the_others() {
        let access = of_login(ACCESS, "t".to_owned(), false).to_string();
        assert_eq!(access, "accessToken=t; SameSite=Lax; Path=/; Max-Age=2592000");
        let refresh = of_login(REFRESH, "t".to_owned(), true).to_string();
        assert_eq!(refresh, "authToken=t; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000");
        let pending = of_pending("oidcLogin-x".to_owned(), "t".to_owned(), true).to_string();
        assert_eq!(pending, "oidcLogin-x=t; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600");
    }

    #[test]
    fn a_browser_keeps_a_few_logins_under_way() {
        let mut headers = HeaderMap::new();
        let all: Vec<String> = (0..20).map(|index| format!("oidcLogin-{index}=v")).collect();
        headers.insert("cookie", HeaderValue::from_str(&format!("other=1; {}", all.join("; "))).unwrap());
        let jar = with_pending(CookieJar::from_headers(&headers), "oidcLogin-new".to_owned(), "v".to_owned(), false);
        let left: Vec<_> = jar.iter().map(|cookie| cookie.name().to_owned()).collect();
        assert!(left.contains(&"oidcLogin-new".to_owned()) && left.contains(&"other".to_owned()), "{left:?}");
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
