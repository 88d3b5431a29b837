//! What an operator can set, and how a mistake in it is reported.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// The settings of this plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Whether everybody, and not only an administrator, may run labs whose nodes ask for files, devices, capabilities,
    /// ports or the network of the machine that runs them.
    pub(crate) allow_host_access: bool,
    /// Ports of that machine that everybody may publish, such as `8080` and `9000-9999`: none, unless they are listed.
    pub(crate) allow_ports: Vec<Ports>,
}

impl Settings {
    /// Reads the settings; the error names key and place.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    /// Whether everybody may publish these.
    pub(crate) fn may_publish(&self, ports: Ports) -> bool {
        self.allow_ports.iter().any(|allowed| allowed.first <= ports.first && ports.last <= allowed.last)
    }
}

/// Ports that follow each other, both ends among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Reads `8080` or `9000-9999`.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (ports.first > 0 && ports.first <= ports.last).then_some(ports)
    }

    /// The ports of the host in an entry of `ports`, as containerlab reads it: `[[ADDRESS:]HOST:]NODE[/PROTOCOL]`. `None`: the
    /// engine chooses one, or it can't be read.
    pub(crate) fn published_by(entry: &str) -> Option<Self> {
        let ports = entry.split('/').next()?;
        Self::parse(ports.rsplit(':').nth(1)?)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port or a range of ports, such as 8080 or \"9000-9999\"")
            }
            fn visit_u64<E: Error>(self, port: u64) -> Result<Ports, E> {
                self.visit_str(&port.to_string())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Ports, E> {
                Ports::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn host_access_is_off_unless_it_is_switched_on() {
        let usual = Settings::parse("{}").unwrap();
        assert!(!usual.allow_host_access && usual.allow_ports.is_empty());
        assert!(Settings::parse(r#"{"allow-host-access": true}"#).unwrap().allow_host_access);
    }

    #[test]
    fn a_misspelt_key_is_named_with_what_would_be_right() {
        let error = Settings::parse(r#"{"allow_host_access": true}"#).unwrap_err();
        assert!(error.contains("allow_host_access") && error.contains("`allow-host-access`"), "{error}");
    }

    #[test]
    fn ports_are_allowed_one_by_one_or_from_one_to_another() {
        let settings = Settings::parse(r#"{"allow-ports": [8080, "9000-9999", "53"]}"#).unwrap();
        let may = |entry: &str| Ports::published_by(entry).is_some_and(|ports| settings.may_publish(ports));
        for entry in ["8080:80", "127.0.0.1:9000:80/tcp", "[::1]:53:53/udp", "9100-9110:1-11", "0.0.0.0:9999:9999"] {
            assert!(may(entry), "{entry}");
        }
        for entry in ["80:8080", "80", "8080", "127.0.0.1::80", "8999-9001:1-3", "9999-10000:1-2", "0:80", "x:80", ""] {
            assert!(!may(entry), "{entry}");
        }
    }

    #[test]
    fn what_is_no_port_is_named_with_what_would_be() {
        for wrong in ["0", "70000", "\"9-1\"", "\"all\"", "\"\"", "-1", "true"] {
            let error = Settings::parse(&format!(r#"{{"allow-ports": [{wrong}]}}"#)).unwrap_err();
            assert!(error.contains("such as 8080 or \"9000-9999\"") && error.contains("line 1"), "{wrong}: {error}");
        }
    }
}
