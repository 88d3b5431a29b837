//! What an operator can set, and how a mistake in it is reported.

use serde::Deserialize;

/// The settings of this plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Whether everybody, and not only an administrator, may run labs whose nodes ask for files, devices, capabilities
    /// or the network of the machine that runs them.
    pub(crate) allow_host_access: bool,
}

impl Settings {
    /// Reads the settings; the error names key and place.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn host_access_is_off_unless_it_is_switched_on() {
        assert!(!Settings::parse("{}").unwrap().allow_host_access);
        assert!(Settings::parse(r#"{"allow-host-access": true}"#).unwrap().allow_host_access);
    }

    #[test]
    fn a_misspelt_key_is_named_with_what_would_be_right() {
        let error = Settings::parse(r#"{"allow_host_access": true}"#).unwrap_err();
        assert!(error.contains("allow_host_access") && error.contains("`allow-host-access`"), "{error}");
    }
}
