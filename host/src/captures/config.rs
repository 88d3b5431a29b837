//! `capture:` of the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::command::Template;

/// Least and most bytes of packets that may wait in a capture.
const BUFFER: (usize, usize) = (1 << 20, 256 << 20);

/// `capture:`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// Whether packets can be captured at all.
    pub enabled: bool,
    /// How many captures a user may have at once.
    pub limit_per_user: u32,
    /// How many there may be in all at once.
    pub limit: u32,
    /// Bytes of packets that may wait in a capture whose client doesn't read them; what comes beyond is dropped and counted.
    /// So much memory each of them takes.
    #[serde(deserialize_with = "buffer_bytes")]
    #[schemars(range(min = BUFFER.0, max = BUFFER.1))]
    pub buffer_bytes: usize,
    /// Interfaces at which nothing is captured, and for which clients show no command: names, in which `*` stands for
    /// anything.
    pub excluded_interfaces: Vec<String>,
    /// The command that clients show for an interface, with `{api}` (the address of the REST API), `{host}`, `{lab}` (its id),
    /// `{instance}`, `{node}`, `{container}`, `{containerId}` and `{interface}` in it. Unless it is set: curl with Wireshark.
    /// Empty: none is shown.
    #[schemars(with = "Option<String>")]
    pub command: Option<Template>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            limit_per_user: 4,
            limit: 64,
            buffer_bytes: 4 << 20,
            excluded_interfaces: Vec::new(),
            command: None,
        }
    }
}

impl CaptureConfig {
    /// Whether nothing is captured at interfaces of this name.
    pub fn excludes(&self, interface: &str) -> bool {
        self.excluded_interfaces.iter().any(|pattern| matches(pattern, interface))
    }
}

/// Whether a name is what a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, mut pattern)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(before) else { return false };
    // Each part is looked for as far ahead as it can be, which leaves most for those behind it.
    while let Some((part, after)) = pattern.split_once('*') {
        let Some(at) = name.find(part) else { return false };
        (name, pattern) = (&name[at + part.len()..], after);
    }
    name.ends_with(pattern)
}

fn buffer_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let (bytes, (least, most)) = (usize::deserialize(deserializer)?, BUFFER);
    if (least..=most).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(serde::de::Error::custom(format!("{bytes} is not possible: it has to be from {least} to {most}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing() {
        for (pattern, name, expected) in [
            ("lo", "lo", true),
            ("lo", "lo0", false),
            ("gway-*", "gway-2800", true),
            ("gway-*", "gway-", true),
            ("gway-*", "eth1", false),
            ("*", "eth1", true),
            ("e*-*", "e1-10", true),
            ("e*-*", "eth1", false),
            ("*.10", "eth1.10", true),
            ("*.10", "eth1.100", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_other_servers_say_of_captures_is_taken() {
        let config: CaptureConfig =
            serde_saphyr::from_str("{enabled: true, excludedInterfaces: [lo, 'gway-*']}").expect("is taken");
        assert!(config.enabled && config.excludes("gway-2800") && !config.excludes("eth1"));
    }

    #[test]
    fn a_buffer_that_is_no_use_is_refused_with_the_range() {
        let error = serde_saphyr::from_str::<CaptureConfig>("bufferBytes: 1000").expect_err("too small");
        assert!(error.to_string().contains("from 1048576"), "{error}");
    }
}
