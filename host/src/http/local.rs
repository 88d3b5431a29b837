//! What protects a server whose login everybody knows: it can be reached by programs of this machine only, but any web
//! page that a browser on it shows is such a program, once a name of the page's own has been made to mean 127.0.0.1.
//! A browser says which name it used.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// Refuses requests that were not sent to `localhost` or a loopback address. To be put around everything, Socket.IO too,
/// for as long as the default login is in force.
pub async fn only(request: Request, next: Next) -> Response {
    if is_local(request.uri(), request.headers()) && !comes_from_elsewhere(request.headers()) {
        next.run(request).await
    } else {
        ApiError::NotLocal.into_response()
    }
}

fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    // Where the request line has a host, it counts instead of the header; both have to be right then.
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else { return false };
    is_local_host(host) && uri.authority().is_none_or(|authority| is_local_host(authority.as_str()))
}

/// Whether a proxy on this machine says that it passes the request on for somebody elsewhere. One that says nothing can't be
/// told from a client.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let said = |name| headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let address = |text: &str| text.trim().parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    !said("x-forwarded-for").chain(said("x-real-ip")).all(address)
        || !said("x-forwarded-host").all(|host| is_local_host(host.trim()))
        || headers.contains_key(header::FORWARDED)
}

/// Whether this is `localhost` or a loopback address, with any port or none.
fn is_local_host(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_or_nothing = rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    // An address can't be made to mean another, so that any loopback address will do.
    let local =
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    port_or_nothing && local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_mean_this_machine_are_let_through() {
        for host in ["localhost", "LocalHost:3000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:3000", "127.0.0.5"] {
            assert!(is_local_host(host), "{host}");
        }
        for host in [
            "",
            ":3000",
            "evil.example",
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@localhost",
            "localhost:3000.evil.example",
            "localhost:x",
            "192.168.0.1",
            "0.0.0.0",
            "[::2]",
            "[::1].evil.example",
            "[::1",
            "localhost evil",
            "127.1",
        ] {
            assert!(!is_local_host(host), "{host}");
        }
    }

    #[test]
    fn the_host_has_to_be_said_once_and_for_all() {
        let uri = |uri: &str| uri.parse::<Uri>().expect("a URI");
        let headers = |hosts: &[&str]| {
            hosts.iter().map(|host| (header::HOST, host.parse().expect("a value"))).collect::<HeaderMap>()
        };
        assert!(is_local(&uri("/labs"), &headers(&["localhost"])));
        assert!(is_local(&uri("http://localhost/labs"), &headers(&["localhost"])));
        assert!(!is_local(&uri("/labs"), &headers(&[])));
        assert!(!is_local(&uri("/labs"), &headers(&["localhost", "evil.example"])));
        assert!(!is_local(&uri("http://evil.example/labs"), &headers(&["localhost"])));
        assert!(!is_local(&uri("http://localhost/labs"), &headers(&["evil.example"])));
    }

    #[test]
    fn what_a_proxy_passes_on_for_somebody_elsewhere_is_not_let_through() {
        let from = |name: &'static str, value: &'static str| {
            comes_from_elsewhere(&HeaderMap::from_iter([(
                name.parse().expect("a name"),
                value.parse().expect("a value"),
            )]))
        };
        assert!(!comes_from_elsewhere(&HeaderMap::new()));
        assert!(!from("x-forwarded-for", "127.0.0.1, ::1") && !from("x-forwarded-host", "localhost:3000"));
        assert!(from("x-forwarded-for", "203.0.113.9") && from("x-forwarded-for", "127.0.0.1, 10.0.0.1"));
        assert!(
            from("x-real-ip", "10.0.0.1") && from("x-forwarded-host", "labs.example") && from("forwarded", "for=x")
        );
    }
}
