//! Where the server's log goes: standard error, filtered by `ANTIMONY_LOG` (`info` unless set otherwise), or, as other
//! Antimony servers have it, by `SB_LOG_LEVEL`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Name of the variable that holds the filter, in the syntax of `tracing-subscriber`, such as `info,antimony_host=debug`.
pub const ENV_FILTER: &str = "ANTIMONY_LOG";
/// Name of the variable in which other Antimony servers find the level: `debug`, `info`, `warn`, `error` or `fatal`. It
/// counts where the other one isn't set.
pub const ENV_LEVEL: &str = "SB_LOG_LEVEL";

/// Starts logging, at `default` unless the environment says otherwise. To be called once.
pub fn init(default: &str) {
    let level = std::env::var(ENV_LEVEL).ok();
    let default = level.as_deref().and_then(level_of).unwrap_or(default);
    let filter = EnvFilter::try_from_env(ENV_FILTER).unwrap_or_else(|_| EnvFilter::new(default));
    // Colours are for people: a log that goes into a file is plain.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
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
