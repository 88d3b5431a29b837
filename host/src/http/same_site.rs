//! Keeps pages of other sites from acting in the name of whoever looks at them.
//!
//! Browsers send cookies along with whatever any page asks for. `SameSite=Lax` keeps them from it across sites, but not
//! across the hosts and ports of one site; so what changes something has to come from a page of this origin, or carry its
//! token by itself, which no other page can have. A browser says where a page is from, in `Sec-Fetch-Site` or, if it is an
//! old one or doesn't trust the connection, in `Origin`. What says nothing is no browser, and acts for nobody but itself.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use openidconnect::url::Url;

use super::Api;
use super::error::ApiError;

/// Refuses requests that change something if a page of another site makes them.
pub(super) async fn only(State(api): State<Api>, request: Request, next: Next) -> Response {
    if is_allowed(request.method(), request.uri(), request.headers(), &api.own_origins) {
        next.run(request).await
    } else {
        ApiError::OtherSite.into_response()
    }
}

fn is_allowed(method: &Method, uri: &Uri, headers: &HeaderMap, own: &[String]) -> bool {
    if method.is_safe() || has_token(headers) {
        return true;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("not text"));
    let origin = text(ORIGIN.as_str());
    let is_own = || origin.is_some_and(|origin| own.iter().any(|own| own.eq_ignore_ascii_case(origin)));
    match text("sec-fetch-site") {
        Some("same-origin" | "none") => true,
        Some(_) => is_own(),
        None => {
            let Some(origin) = origin else { return true };
            let hosts = [text(HOST.as_str()), uri.authority().map(|host| host.as_str()), text("x-forwarded-host")];
            is_own() || hosts.into_iter().flatten().any(|host| is_of_host(origin, host))
        }
    }
}

/// Whether the request brings its own token, and needs no cookie.
fn has_token(headers: &HeaderMap) -> bool {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "))
}

/// Whether an origin is that of this host. A host without a port may be that of any: proxies leave it out as often as not,
/// and browsers don't tell cookies apart by it.
fn is_of_host(origin: &str, host: &str) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    let host = host.split(',').next().unwrap_or_default().trim();
    let Ok(ours) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    let names_port = host.parse::<Authority>().is_ok_and(|host| host.port().is_some());
    matches!(origin.scheme(), "http" | "https")
        && origin.host_str().is_some()
        && origin.host_str() == ours.host_str()
        && (!names_port || origin.port_or_known_default() == ours.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn allowed(method: &Method, headers: &[(&str, &str)]) -> bool {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let headers = headers.iter().map(pair).collect();
        is_allowed(method, &Uri::from_static("/labs"), &headers, &["https://labs.example".to_owned()])
    }

    #[test]
    fn pages_of_this_origin_may_change_things_and_others_may_not() {
        for (headers, expected) in [
            (&[("sec-fetch-site", "same-origin"), ("host", "backend:3000")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], false),
            (
                &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:8080"), ("host", "localhost:3000")],
                false,
            ),
            (&[("sec-fetch-site", "cross-site")], false),
            // One that is known as a place of this server.
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://labs.example")], true),
            // Where the browser doesn't say.
            (&[("origin", "http://lab.lan:3000"), ("host", "lab.lan:3000")], true),
            (&[("origin", "https://lab.lan"), ("host", "lab.lan:443")], true),
            (&[("origin", "http://LAB.lan"), ("host", "lab.lan")], true),
            (&[("origin", "http://lab.lan:8080"), ("host", "lab.lan:3000")], false),
            // As most proxies pass it on.
            (&[("origin", "http://lab.lan:8080"), ("host", "lab.lan")], true),
            (&[("origin", "http://evil.example"), ("host", "lab.lan")], false),
            (&[("origin", "http://lab.lan.evil.example"), ("host", "lab.lan")], false),
            (&[("origin", "null"), ("host", "lab.lan")], false),
            (&[("origin", "http://lab.lan"), ("host", "backend:3000"), ("x-forwarded-host", "lab.lan")], true),
            (&[("origin", "https://labs.example"), ("host", "backend:3000")], true),
            // No browser.
            (&[], true),
            (&[("host", "lab.lan")], true),
        ] {
            for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
                assert_eq!(allowed(&method, headers), expected, "{method} {headers:?}");
            }
            assert!(allowed(&Method::GET, headers));
        }
    }

    #[test]
    fn who_brings_a_token_needs_no_cookie() {
        let foreign = ("sec-fetch-site", "cross-site");
        for (value, expected) in [("Bearer x", true), ("bearer x", true), ("Basic x", false), ("", false)] {
            assert_eq!(allowed(&Method::POST, &[foreign, ("authorization", value)]), expected, "{value}");
        }
    }
}
