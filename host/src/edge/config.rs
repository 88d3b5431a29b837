//! What can be said about the edge in the configuration: limits, TLS, other origins, headers, the web client's folder.
//!
//! Read by `config` as parts of `server:` and as `ui:`; each value is checked here, so that the rest of the module takes
//! it as it is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::origins::Origin;

/// Smallest head of a request that can be asked for, in bytes: what the HTTP library needs for its buffer.
const LEAST_HEAD: usize = 8192;

/// `server.limits:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Longest body of a request to the REST API, in bytes.
    #[schemars(range(min = 1024))]
    #[serde(deserialize_with = "body_bytes")]
    pub body_bytes: usize,
    /// Longest head of a request, in bytes: its first line and all header fields. At least 8192.
    #[schemars(range(min = LEAST_HEAD))]
    #[serde(deserialize_with = "head_bytes")]
    pub head_bytes: usize,
    /// How many header fields a request may have.
    #[schemars(range(min = 16, max = 1000))]
    #[serde(deserialize_with = "header_fields")]
    pub header_fields: usize,
    /// Longest path and query of a request, in bytes.
    #[schemars(range(min = 256))]
    #[serde(deserialize_with = "uri_bytes")]
    pub uri_bytes: usize,
    /// How many seconds a client may take to send the head of a request, counted from when it has connected or got its last
    /// answer. So long, too, a connection is kept on which nothing is asked.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(deserialize_with = "seconds")]
    pub head_seconds: u64,
    /// How many seconds a client may take to send the body of a request.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(deserialize_with = "seconds")]
    pub body_seconds: u64,
    /// How many connections there may be at once, those of web sockets included. Fewer where the system allows the server
    /// fewer open files.
    #[schemars(range(min = 1))]
    #[serde(deserialize_with = "connections")]
    pub connections: usize,
    /// How many of them from one address, or one network of 64 bits with IPv6. Loopback addresses and trusted proxies may
    /// have any number.
    #[schemars(range(min = 1))]
    #[serde(deserialize_with = "connections")]
    pub connections_per_address: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            head_bytes: 32 << 10,
            header_fields: 100,
            uri_bytes: 8192,
            head_seconds: 30,
            body_seconds: 60,
            connections: 10_000,
            // A class behind one address, each with a few tabs.
            connections_per_address: 1000,
        }
    }
}

impl LimitsConfig {
    /// How long a client may take for the head of a request.
    pub fn head_time(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    /// How long a client may take for the body of a request.
    pub fn body_time(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }
}

/// Reads a number that has to be in a range; the error names the range.
fn within<'de, D, T>(deserializer: D, least: T, most: T) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + std::fmt::Display,
{
    let value = T::deserialize(deserializer)?;
    if value < least || value > most {
        return Err(serde::de::Error::custom(format!("{value} is not possible: it has to be from {least} to {most}")));
    }
    Ok(value)
}

fn body_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 1024, 1 << 30)
}

fn head_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, LEAST_HEAD, 1 << 20)
}

fn header_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 16, 1000)
}

fn uri_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    // The HTTP library takes no longer ones.
    within(deserializer, 256, 65_534)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1, 3600)
}

fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 1, 10_000_000)
}

/// `server.tls:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate of this server, followed by those between it and the authority's own. Relative to
    /// this file, as the next one.
    pub certificate: PathBuf,
    /// PEM file with its private key: PKCS#8, SEC1 or PKCS#1, not encrypted.
    pub key: PathBuf,
    /// For how many seconds browsers are told to come back by TLS only (HSTS); 0: they aren't told. It counts for the
    /// whole host, whatever the port.
    #[serde(default = "a_year")]
    pub hsts_seconds: u64,
    /// Address and port that is listened on without TLS, such as `0.0.0.0:80`, to send whoever comes there to the other.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub redirect_from: Option<SocketAddr>,
}

fn a_year() -> u64 {
    365 * 24 * 3600
}

/// `server.cors:`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Whose pages may use the API and the sockets from a browser, besides this site's own: exact origins, such as
    /// `https://labs.example.org`. They may send cookies.
    #[schemars(with = "Vec<String>")]
    pub origins: Vec<Origin>,
}

/// `server.headers:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeadersConfig {
    /// Whether answers carry header fields that tell browsers to be careful. A proxy may have its own.
    pub security: bool,
    /// The Content-Security-Policy of pages, instead of one that fits them; empty: none.
    #[serde(deserialize_with = "header_value")]
    pub content_security_policy: Option<String>,
    /// Whose pages may show this site in a frame: exact origins. Nobody's, unless they are named.
    #[schemars(with = "Vec<String>")]
    pub frame_ancestors: Vec<Origin>,
}

impl Default for HeadersConfig {
    fn default() -> Self {
        Self { security: true, content_security_policy: None, frame_ancestors: Vec::new() }
    }
}

fn header_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<String>::deserialize(deserializer)?;
    // Written over several lines for people's sake.
    let value = value.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
    match &value {
        Some(text) if axum::http::HeaderValue::from_str(text).is_err() || !text.is_ascii() => {
            Err(serde::de::Error::custom("it has characters that can't be in a header field"))
        }
        _ => Ok(value),
    }
}

/// `ui:`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UiConfig {
    /// Folder with the built files of a web client, which are served at `/` instead of the server's own page. Relative to
    /// this file.
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<LimitsConfig, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_that_would_shut_everybody_out_are_refused_with_the_range() {
        assert_eq!(limits("headSeconds: 5").expect("is taken").head_time(), Duration::from_secs(5));
        for (text, range) in [
            ("headSeconds: 0", "from 1 to 3600"),
            ("headBytes: 100", "from 8192"),
            ("connections: 0", "from 1"),
            ("uriBytes: 70000", "to 65534"),
        ] {
            let error = limits(text).expect_err(text);
            assert!(error.contains(range), "{text}: {error}");
        }
    }

    #[test]
    fn a_policy_over_several_lines_is_one_header_field() {
        let text = "contentSecurityPolicy: |\n  default-src 'self';\n  img-src *\n";
        let headers: HeadersConfig = serde_saphyr::from_str(text).expect("is taken");
        assert_eq!(headers.content_security_policy.as_deref(), Some("default-src 'self'; img-src *"));
        serde_saphyr::from_str::<HeadersConfig>("contentSecurityPolicy: \"a\\0b\"").expect_err("no header field");
    }
}
