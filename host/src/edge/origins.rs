//! Pages of other sites: which may use this server from a browser.
//!
//! By default none may. REST answers then carry no CORS fields, so that no other site's script gets to see one; and a
//! socket that a page of another site opens is refused, since CORS doesn't reach web sockets.
//!
//! That refusal is the second line only. What counts on a socket is the token that the client puts into each namespace's
//! `auth`, never a cookie, so that a page that doesn't have the token gets nowhere even with the cookies of the person in
//! front of it. It keeps such pages from holding connections in other people's names, and it has to let through everybody
//! else: clients that are no browsers send no `Origin`; behind a proxy the name that the browser used is in `Host` or
//! `X-Forwarded-Host`. Ports aren't compared, as proxies leave them out and browsers don't tell cookies apart by them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::http::refusals;
use crate::telemetry::Seldom;

/// Where the sockets are.
const SOCKETS: &str = "/socket.io";
/// How long browsers may remember what they were told.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Says how many labs there are besides those of the page that was asked for.
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");
/// Name that the browser used, as a proxy passes it on.
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Scheme, host and port of a site, as browsers write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    fn parse(text: &str) -> Result<Self, String> {
        let example = "write it as browsers do, such as https://labs.example.org or http://localhost:4200";
        let problem = |what: &str| Err(format!("{text:?} is no origin: {what}; {example}"));
        if text == "*" || text == "null" {
            return problem(
                "it stands for any site, and whoever it lets in may act in the name of those who are logged in",
            );
        }
        let Some((scheme, rest)) = text.split_once("://") else { return problem("the scheme is missing") };
        if scheme != "http" && scheme != "https" {
            return problem("the scheme has to be http or https");
        }
        if rest.contains(['/', '?', '#', '@', '*']) {
            return problem("only a host, and a port, may follow the scheme");
        }
        if text.chars().any(|c| c.is_ascii_uppercase()) {
            return problem("browsers write it in lower case");
        }
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        if rest.ends_with(default_port) {
            return problem("browsers leave out the port that goes without saying");
        }
        match text.parse::<Uri>() {
            Ok(uri) if uri.authority().is_some_and(|authority| !authority.host().is_empty()) => {}
            _ => return problem("there is no such host"),
        }
        HeaderValue::from_str(text).map(Self).or_else(|_| problem("it has characters that can't be in a header field"))
    }

    /// As browsers write it.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The sites whose pages may use this server, besides its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Origins(Arc<[Origin]>);

impl Origins {
    /// These and no others.
    pub fn new(origins: &[Origin]) -> Self {
        Self(origins.into())
    }

    /// Adds the CORS fields to answers to pages of these sites; `None`: there are none, and no answer carries any.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.0.iter().map(|origin| origin.0.clone())))
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
            .allow_headers([header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE])
            .expose_headers([TOTAL_COUNT])
            .max_age(MAX_AGE);
        Some(layer)
    }

    fn lists(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|known| known.0 == *origin)
    }

    /// Whether a browser says that it makes the request for a page of another site, which isn't one of these.
    pub fn is_foreign(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return false };
        if origins.next().is_some() {
            return true;
        }
        if self.lists(origin) {
            return false;
        }
        let Some(host) = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, host)| name_of(host))
        else {
            return true;
        };
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let forwarded = said(FORWARDED_HOST).and_then(|hosts| hosts.split(',').next().map(str::to_owned));
        let ours = [forwarded, said(header::HOST.as_str()), uri.host().map(str::to_owned)];
        !ours.iter().flatten().any(|ours| name_of(ours.trim()).eq_ignore_ascii_case(host))
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    }
}

/// Refuses sockets to pages of other sites. To be put around the Socket.IO layer.
pub(super) async fn guard_sockets(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with(SOCKETS) && origins.is_foreign(request.uri(), request.headers()) {
        let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or("several");
        // Pages try again and again, and so may anybody.
        static REFUSED: Seldom = Seldom::new();
        let Some(left_out) = REFUSED.turn() else { return refusals::foreign_origin() };
        tracing::warn!(
            %origin,
            left_out,
            "a page of another site was refused a socket; if it is yours, name it in server.cors.origins, or have your \
             proxy pass the Host that browsers use"
        );
        return refusals::foreign_origin();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_write_them_and_in_no_other_form() {
        for text in ["https://labs.example.org", "http://localhost:4200", "http://[::1]:8080", "https://10.0.0.1:8443"]
        {
            assert_eq!(Origin::parse(text).expect(text).as_str(), text);
        }
        for text in [
            "*",
            "null",
            "labs.example.org",
            "https://labs.example.org/",
            "https://labs.example.org/app",
            "https://*.example.org",
            "https://Labs.example.org",
            "https://labs.example.org:443",
            "http://labs.example.org:80",
            "ftp://labs.example.org",
            "https://me@labs.example.org",
            "https://",
            "",
        ] {
            let error = Origin::parse(text).expect_err(text);
            assert!(error.contains("https://labs.example.org"), "the remedy is missing: {error}");
        }
    }

    #[test]
    fn pages_of_this_site_and_of_listed_ones_are_told_from_others() {
        let origins = Origins::new(&[Origin::parse("https://other.example").expect("an origin")]);
        let uri = Uri::from_static("/socket.io/");
        let is_foreign = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().expect("a value"));
            }
            origins.is_foreign(&uri, &headers)
        };
        assert!(!is_foreign(&[("host", "labs.example")]), "no browser");
        assert!(!is_foreign(&[("host", "labs.example:3000"), ("origin", "http://labs.example:3000")]));
        assert!(!is_foreign(&[("host", "labs.example"), ("origin", "https://labs.example:8443")]), "a proxy's $host");
        assert!(!is_foreign(&[("host", "[::1]:3000"), ("origin", "http://[::1]:3000")]));
        assert!(!is_foreign(&[
            ("host", "backend:3000"),
            ("x-forwarded-host", "labs.example, inner"),
            ("origin", "https://labs.example"),
        ]));
        assert!(!is_foreign(&[("host", "labs.example"), ("origin", "https://other.example")]), "it is listed");
        for foreign in ["https://evil.example", "http://other.example", "null", "https://labs.example.evil.example", ""]
        {
            assert!(is_foreign(&[("host", "labs.example"), ("origin", foreign)]), "{foreign}");
        }
        let twice = [("host", "labs.example"), ("origin", "https://other.example"), ("origin", "https://evil.example")];
        assert!(is_foreign(&twice));
    }
}
