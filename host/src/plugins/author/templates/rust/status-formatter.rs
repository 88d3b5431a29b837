//! {{summary}}.
//!
//! A formatter leaves to the next one what it has no words for. See `wit/README.md`.

use std::sync::OnceLock;

use bindings::exports::antimony::plugin::formatter::{Event, Guest, Occurrence, Severity, Status};
use bindings::exports::antimony::plugin::lifecycle::{self, Description};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "status-formatter" });

    // Only there: `cargo test` links for this machine, whose linker can't have the names of a component's exports.
    #[cfg(target_family = "wasm")]
    export!(Plugin with_types_in self);
    #[cfg(target_family = "wasm")]
    use super::Plugin;
}

/// What the operator sets. Unknown keys are errors, since most of them are misspelt known ones.
#[derive(Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// What people read when a lab is up; `{lab}` stands for its name.
    deployed: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { deployed: "{lab} is ready".into() }
    }
}

/// Set by `configure` and part of the snapshot from which every call starts: parsing it costs nothing per call.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
        }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn format(event: Event) -> Option<Status> {
        let settings = SETTINGS.get()?;
        match event.what {
            Occurrence::LabDeployed(event) => Some(deployed(settings, &event.lab.name, &event.lab.id)),
            _ => None,
        }
    }
}

fn deployed(settings: &Settings, name: &str, id: &str) -> Status {
    let content = settings.deployed.replace("{lab}", name);
    let log_content = format!("{content} (lab {id})");
    Status { source: "Lab Manager".into(), content, log_content, severity: Severity::Success }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployed_lab_is_named() {
        let status = deployed(&Settings::default(), "ospf", "lab-1");
        assert_eq!(status.content, "ospf is ready");
        assert_eq!(status.log_content, "ospf is ready (lab lab-1)");
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let error = <Plugin as lifecycle::Guest>::configure(r#"{"deploied": ""}"#.into()).unwrap_err();
        assert!(error.contains("deploied"), "{error}");
    }
}
