//! What an operator can set, and how a mistake in it is reported.

use serde::Deserialize;

use crate::pattern::Pattern;

/// The settings of this plugin. Unknown keys are errors, since most of them are misspelt known ones.
///
/// Lists of kinds and images that are left out allow any. What nodes want of the machine is allowed only where a list
/// says so.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Whether administrators may run anything.
    pub(crate) admins_exempt: bool,
    /// How many nodes a topology may have.
    pub(crate) max_nodes: Option<u32>,
    /// Kinds of nodes that are allowed.
    pub(crate) kinds: Option<Vec<Pattern>>,
    /// Images that are allowed, as topologies write them. A node that names none is allowed with its kind.
    pub(crate) images: Option<Vec<Pattern>>,
    /// Files and folders of the host that nodes may see: binds, as topologies write them.
    pub(crate) binds: Vec<Pattern>,
    /// Capabilities that may be added.
    pub(crate) capabilities: Vec<Pattern>,
    /// Devices of the host, as topologies write them.
    pub(crate) devices: Vec<Pattern>,
    /// Network modes other than the default.
    pub(crate) network_modes: Vec<Pattern>,
    /// Ports published on the host, as topologies write them.
    pub(crate) ports: Vec<Pattern>,
    /// Whether nodes may be privileged.
    pub(crate) privileged: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            admins_exempt: true,
            max_nodes: None,
            kinds: None,
            images: None,
            binds: vec![],
            capabilities: vec![],
            devices: vec![],
            network_modes: vec![],
            ports: vec![],
            privileged: false,
        }
    }
}

impl Settings {
    /// Reads the settings; the error names key and place.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        let settings: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if settings.max_nodes == Some(0) {
            return Err("`max-nodes` has to be at least 1: with 0, no topology is allowed".into());
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_means_any_image_and_nothing_of_the_host() {
        let settings = Settings::parse("{}").unwrap();
        assert!(
            settings.images.is_none() && settings.binds.is_empty() && !settings.privileged && settings.admins_exempt
        );
    }

    #[test]
    fn a_mistake_is_named_with_what_would_be_right() {
        let error = Settings::parse(r#"{"max_nodes": 3}"#).unwrap_err();
        assert!(error.contains("max_nodes") && error.contains("`max-nodes`"), "{error}");
        let error = Settings::parse(r#"{"images": "alpine:*"}"#).unwrap_err();
        assert!(error.contains("alpine") && error.contains("sequence"), "{error}");
        assert!(Settings::parse(r#"{"max-nodes": 0}"#).unwrap_err().contains("at least 1"));
    }
}
