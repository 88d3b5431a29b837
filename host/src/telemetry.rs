//! Where the server's log goes: standard error, filtered by `ANTIMONY_LOG` (`info` unless set otherwise), or, as other
//! Antimony servers have it, by `SB_LOG_LEVEL`.
//!
//! Whatever the filter says, no secret gets into it. This program's own lines name none; libraries that print what goes
//! over the wire (tokens, passwords, what is typed into shells, topologies) are kept from doing so by [`CAPS`].

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Name of the variable that holds the filter, in the syntax of `tracing-subscriber`, such as `info,antimony_host=debug`.
pub const ENV_FILTER: &str = "ANTIMONY_LOG";
/// Name of the variable in which other Antimony servers find the level: `debug`, `info`, `warn`, `error` or `fatal`. It
/// counts where the other one isn't set.
pub const ENV_LEVEL: &str = "SB_LOG_LEVEL";

/// How much libraries may say at most, by how the names of their modules begin.
const CAPS: &[(&str, LevelFilter)] = &[
    // Gigabytes while plugins are compiled, during which nothing else gets done.
    ("cranelift", LevelFilter::INFO),
    ("regalloc2", LevelFilter::INFO),
    ("wasmtime", LevelFilter::INFO),
    // Packets of sockets: tokens, and what people type and see.
    ("engineioxide", LevelFilter::INFO),
    ("socketioxide", LevelFilter::INFO),
    ("tokio_tungstenite", LevelFilter::INFO),
    ("tungstenite", LevelFilter::INFO),
    // Requests of our own: to a login provider, with its secret; to the container engine, with what shells say.
    ("bollard", LevelFilter::INFO),
    ("cookie_store", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("oauth2", LevelFilter::INFO),
    ("openidconnect", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
    // Keys and tickets of connections.
    ("rustls", LevelFilter::DEBUG),
    ("tokio_rustls", LevelFilter::DEBUG),
    // Why a request was refused, in words that may hold parts of it.
    ("axum::rejection", LevelFilter::INFO),
    // Statements are named without their values at this level; values of parameters come below it.
    ("sqlx", LevelFilter::DEBUG),
];

/// Starts logging, at `default` unless the environment says otherwise. To be called once.
pub fn init(default: &str) {
    let level = std::env::var(ENV_LEVEL).ok();
    let default = level.as_deref().and_then(level_of).unwrap_or(default);
    let filter = EnvFilter::try_from_env(ENV_FILTER).unwrap_or_else(|_| EnvFilter::new(default));
    let caps = Targets::new().with_default(LevelFilter::TRACE).with_targets(CAPS.iter().copied());
    // Colours are for people: a log that goes into a file is plain.
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(caps).with(filter).with(lines).init();
}

/// The filter that a level of other Antimony servers means; `None`: it is none.
fn level_of(name: &str) -> Option<&'static str> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "debug" => "info,antimony_host=debug",
        "info" => "info",
        "warn" => "warn",
        // Nothing is less than an error here.
        "error" | "fatal" => "error",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_of_other_servers_are_known() {
        for (name, level) in
            [("DEBUG", Some("info,antimony_host=debug")), ("fatal", Some("error")), ("", None), ("loud", None)]
        {
            assert_eq!(level_of(name), level, "{name}");
        }
    }
}
