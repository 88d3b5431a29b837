//! {{summary}}.
//!
//! It stands behind another policy: it knows nobody, and allows whatever it isn't about. See `wit/README.md`.

use std::sync::OnceLock;

use bindings::antimony::plugin::types::{Circumstances, CommandKind, Identity};
use bindings::exports::antimony::plugin::lifecycle::{self, Description};
use bindings::exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "auth-policy" });

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
    /// Names of the collections whose labs only administrators may deploy and destroy.
    protected: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { protected: vec!["exam".into()] }
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
    fn identify(_claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        Ok(None)
    }

    fn authorize(user: Identity, action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        match SETTINGS.get() {
            Some(settings) => decide(settings, &user, &action),
            None => Ok(()),
        }
    }
}

fn decide(settings: &Settings, user: &Identity, action: &Action) -> Result<(), Denial> {
    let Action::Command(request) = action else { return Ok(()) };
    let collection = &request.lab.collection.name;
    let changes = matches!(request.kind, CommandKind::Deploy | CommandKind::Destroy);
    if user.admin || !changes || !settings.protected.contains(collection) {
        return Ok(());
    }
    let message = format!("Only administrators may do this with labs of the collection {collection}");
    Err(Denial { rule: "protected".into(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindings::antimony::plugin::types::{Collection, Lab, LabState};
    use bindings::exports::antimony::plugin::policy::CommandRequest;

    fn user(admin: bool) -> Identity {
        Identity { id: "ada".into(), admin, collections: vec!["exam".into()] }
    }

    fn command(kind: CommandKind, collection: &str) -> Action {
        let collection = Collection {
            id: "c-1".into(),
            name: collection.into(),
            public_write: true,
            public_deploy: true,
            creator: "root".into(),
        };
        let lab = Lab {
            id: "lab-1".into(),
            name: "ospf".into(),
            topology_id: "t-1".into(),
            collection,
            creator: "ada".into(),
            start_time: 0,
            end_time: None,
            state: LabState::Inactive,
            nodes: vec![],
        };
        Action::Command(CommandRequest { kind, lab, node: None, shell: None })
    }

    #[test]
    fn labs_of_a_protected_collection_are_for_administrators() {
        let settings = Settings::default();
        let decide = |admin, kind, collection| decide(&settings, &user(admin), &command(kind, collection));
        assert_eq!(decide(false, CommandKind::Deploy, "exam").unwrap_err().rule, "protected");
        assert!(decide(true, CommandKind::Deploy, "exam").is_ok());
        assert!(decide(false, CommandKind::Deploy, "course").is_ok());
        assert!(decide(false, CommandKind::ListShells, "exam").is_ok());
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let error = <Plugin as lifecycle::Guest>::configure(r#"{"protectd": []}"#.into()).unwrap_err();
        assert!(error.contains("protectd"), "{error}");
    }
}
