//! Where the server's log goes: standard error, filtered by `ANTIMONY_LOG` (`info` unless set otherwise), or, as other
//! Antimony servers have it, by `SB_LOG_LEVEL`.
//!
//! Whatever the filter says, no secret gets into it. This program's own lines name none; libraries that print what goes
//! over the wire (tokens, passwords, what is typed into shells, topologies) are kept from doing so by [`CAPS`]. And what any
//! client can have said as often as it likes is said [`Seldom`], or else it could fill the disk with it.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Lines of the log that come by the thousand where somebody wants that, or something is broken: some at once, and one more
/// every so often.
#[derive(Debug)]
pub(crate) struct Seldom {
    at_once: u32,
    every: Duration,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    /// How many may be said at once, when that was found.
    room: Option<(u32, Instant)>,
    left_out: u64,
}

impl Seldom {
    /// For lines that an operator wants to see at all, and not each of them.
    pub(crate) const fn new() -> Self {
        Self { at_once: 20, every: Duration::from_secs(10), said: Mutex::new(Said { room: None, left_out: 0 }) }
    }

    /// Whether it is to be said now. If so, how many were left out since the last one.
    pub(crate) fn turn(&self) -> Option<u64> {
        self.turn_at(Instant::now())
    }

    fn turn_at(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (room, since) = said.room.unwrap_or((self.at_once, now));
        let more = now.saturating_duration_since(since).as_nanos() / self.every.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let since = if more > 0 { now } else { since };
        match room.saturating_add(more).min(self.at_once).checked_sub(1) {
            Some(left) => {
                said.room = Some((left, since));
                Some(std::mem::take(&mut said.left_out))
            }
            None => {
                said.room = Some((0, since));
                said.left_out += 1;
                None
            }
        }
    }
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
    #[test]
    fn what_comes_by_the_thousand_is_said_now_and_then_and_the_rest_is_counted() {
        let (seldom, begin) = (Seldom::new(), Instant::now());
        let said: Vec<u64> = (0..1000).filter_map(|_| seldom.turn_at(begin)).collect();
        assert_eq!(said, [0; 20]);
        let at = |seconds| seldom.turn_at(begin + Duration::from_secs(seconds));
        assert_eq!((at(9), at(10), at(11)), (None, Some(981), None));
        // Once it has been quiet for long, as many as at first.
        let said = (0..1000).filter_map(|_| at(10_000)).collect::<Vec<_>>();
        assert_eq!((said.len(), said[0]), (20, 1));
    }
}
