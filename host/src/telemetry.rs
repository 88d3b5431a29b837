//! Where the server's log goes: standard error, filtered by `ANTIMONY_LOG` (`info` unless set otherwise).

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Name of the variable that holds the filter, in the syntax of `tracing-subscriber`, such as `info,antimony_host=debug`.
pub const ENV_FILTER: &str = "ANTIMONY_LOG";

/// Starts logging, at `default` unless the environment says otherwise. To be called once.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env(ENV_FILTER).unwrap_or_else(|_| EnvFilter::new(default));
    // Colours are for people: a log that goes into a file is plain.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
