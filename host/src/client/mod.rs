//! A client of the public API: REST, and Socket.IO over websocket. For `ctl`, `demo` and tests.
//!
//! Owns the client side of the wire and knows nothing of the server's modules, so that whatever it does, any other
//! client can do. [`Api`] speaks REST, [`Connection`] speaks Socket.IO (protocol 5 on Engine.IO 4, websocket only, as
//! Antimony's clients do) with many namespaces over one connection.
//!
//! It never reconnects and never retries: a person who looks at a demo, and a test, want to know. Base URLs are `http://`
//! or `https://`.

mod answered;
mod api;
mod connection;
mod namespace;
mod packet;
mod watch;

pub use self::answered::Answered;
pub use self::api::{Api, ApiError, LoggedIn};
pub use self::connection::{Connection, OpenError};
pub use self::namespace::{AckError, ConnectError, Emitter, Event, Namespace};
pub use self::packet::Kind;
pub use self::watch::{Direction, Exchange, Traffic, watch_exchanges, watch_traffic};

/// What sends plain requests.
///
/// # Panics
/// When the system has no usable resolver or certificates, as `reqwest::Client::new` does.
pub fn http() -> reqwest::Client {
    http_builder().build().expect("a client without settings of its own")
}

/// The same, to be told more first. Clients are made by this and [`http()`] alone: without a choice of cryptography, which
/// happens here, they would panic.
pub fn http_builder() -> reqwest::ClientBuilder {
    crate::crypto::ready();
    reqwest::Client::builder()
}

/// A part of a path as URLs have it.
pub fn in_path(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
