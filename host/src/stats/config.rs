//! `stats:` in the configuration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::SHORTEST;

/// The longest interval: whoever looks at figures wants to see them change.
const LONGEST: Duration = Duration::from_secs(3600);

/// `stats:`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StatsConfig {
    /// How often what nodes use is looked at, as long as somebody looks: seconds or milliseconds, such as `2s` or `500ms`,
    /// which is the shortest; at most `3600s`.
    #[serde(deserialize_with = "interval")]
    #[schemars(with = "String", regex(pattern = r"^[0-9]+(ms|s)$"))]
    pub interval: Duration,
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2) }
    }
}

fn interval<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
    let read = match text.strip_suffix("ms") {
        Some(number_text) => number(number_text).map(Duration::from_millis),
        None => text.strip_suffix('s').and_then(number).map(Duration::from_secs),
    };
    let fits = |interval: &Duration| (SHORTEST..=LONGEST).contains(interval);
    read.filter(fits).ok_or_else(|| {
        let problem = format!("stats.interval: {text:?} is no time from 500ms to 3600s, such as 2s");
        serde::de::Error::custom(problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Duration, String> {
        let config = serde_saphyr::from_str::<StatsConfig>(text);
        config.map(|config| config.interval).map_err(|error| error.to_string())
    }

    #[test]
    fn an_interval_is_a_number_of_seconds_or_milliseconds() {
        assert_eq!(read("{}"), Ok(Duration::from_secs(2)));
        assert_eq!(read("interval: 10s"), Ok(Duration::from_secs(10)));
        assert_eq!(read("interval: 500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["499ms", "0s", "3601s", "2", "2m", "s", "-2s", "2 s"] {
            let error = read(&format!("interval: {wrong}")).unwrap_err();
            assert!(error.contains("stats.interval") && error.contains("such as 2s"), "{error}");
        }
    }
}
