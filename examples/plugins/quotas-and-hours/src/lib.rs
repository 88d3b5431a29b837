//! An auth policy that stands behind another one, and says how many labs a person may run at once and at which hours of
//! the week labs may be deployed, for all collections or for some.
//!
//! This file is the component's face; `settings` reads what the operator set, `hours` knows the week, `rules` decides.

mod hours;
mod rules;
mod settings;

use std::sync::OnceLock;

use bindings::antimony::plugin::types::{Circumstances, Identity};
use bindings::exports::antimony::plugin::lifecycle::{self, Description};
use bindings::exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};
use settings::Settings;

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });

    // Only there: `cargo test` links for this machine, whose linker can't have the names of a component's exports.
    #[cfg(target_family = "wasm")]
    export!(Plugin with_types_in self);
    #[cfg(target_family = "wasm")]
    use super::Plugin;
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
        SETTINGS.set(Settings::parse(&settings)?).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    /// Who somebody is, is another policy's question.
    fn identify(_claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        Ok(None)
    }

    fn authorize(user: Identity, action: Action, circumstances: Circumstances) -> Result<(), Denial> {
        let Some(settings) = SETTINGS.get() else { return Ok(()) };
        rules::authorize(settings, &user, &action, circumstances)
    }
}
