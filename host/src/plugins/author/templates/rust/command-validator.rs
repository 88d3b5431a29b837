//! {{summary}}.
//!
//! A validator passes on what it has nothing to say about. See `wit/README.md`.

use std::sync::OnceLock;

use bindings::antimony::plugin::types::CommandKind;
use bindings::exports::antimony::plugin::lifecycle::{self, Description};
use bindings::exports::antimony::plugin::validator::{Command, Context, Guest, Rejection, RejectionCode};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "command-validator" });

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
    /// How many shells a person may have open at once.
    max_shells: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_shells: 5 }
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
    fn validate(command: Command, context: Context) -> Result<Command, Rejection> {
        if let Some(settings) = SETTINGS.get() {
            check(settings, &command, context.circumstances.open_shells)?;
        }
        Ok(command)
    }
}

fn check(settings: &Settings, command: &Command, open_shells: u32) -> Result<(), Rejection> {
    if command.kind != CommandKind::OpenShell || open_shells < settings.max_shells {
        return Ok(());
    }
    let message = format!("You have {open_shells} shells open, and may have {}: close one first", settings.max_shells);
    Err(Rejection { code: RejectionCode::ShellLimit, rule: "max-shells".into(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(kind: CommandKind) -> Command {
        Command { kind, lab_id: "lab-1".into(), node: Some("r1".into()), shell_id: None }
    }

    #[test]
    fn one_shell_too_many_is_rejected_and_everything_else_is_not() {
        let settings = Settings { max_shells: 2 };
        assert!(check(&settings, &command(CommandKind::OpenShell), 1).is_ok());
        assert_eq!(check(&settings, &command(CommandKind::OpenShell), 2).unwrap_err().rule, "max-shells");
        assert!(check(&settings, &command(CommandKind::ListShells), 2).is_ok());
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let error = <Plugin as lifecycle::Guest>::configure(r#"{"max_shells": 1}"#.into()).unwrap_err();
        assert!(error.contains("max_shells") && error.contains("`max-shells`"), "{error}");
    }
}
