//! Sends whoever comes without TLS to where it is spoken.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::serve::Answers;

/// Answers every request with the same address under `https:`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToTls {
    /// Where TLS is spoken.
    pub(super) port: u16,
}

impl Answers for ToTls {
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let location = host.and_then(|host| location(host, self.port, request.uri()));
        // Clients keep method and body with this one.
        let answer = match location {
            Some(location) => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response(),
            None => (StatusCode::BAD_REQUEST, Body::from("this address speaks TLS only: use https\n")).into_response(),
        };
        async { answer }
    }
}

/// The same under `https:`; `None`: the client didn't say how it calls this server.
fn location(host: &str, port: u16, uri: &Uri) -> Option<HeaderValue> {
    let name = match host.rsplit_once(':') {
        Some((name, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // `OPTIONS *` has none.
    let path = if path.starts_with('/') { path } else { "/" };
    HeaderValue::from_str(&format!("https://{name}{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_address_under_https() {
        let to = |host: &str, port: u16, uri: &'static str| {
            location(host, port, &Uri::from_static(uri)).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(to("labs.example", 443, "/a?b=c").as_deref(), Some("https://labs.example/a?b=c"));
        assert_eq!(to("labs.example:80", 8443, "/").as_deref(), Some("https://labs.example:8443/"));
        assert_eq!(to("[::1]:80", 443, "/").as_deref(), Some("https://[::1]/"));
        assert_eq!(to("[::1]", 443, "//evil.example").as_deref(), Some("https://[::1]//evil.example"));
        assert_eq!(to("evil.example/", 443, "/"), None);
        assert_eq!(to("a@evil.example", 443, "/"), None);
        assert_eq!(to("", 443, "/"), None);
    }
}
