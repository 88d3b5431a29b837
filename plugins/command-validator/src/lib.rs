//! The bundled command validator: does a command carry what it needs, and does what it names exist?
//!
//! This file is the component's face; `rules` decides and `settings` reads what the operator set. Whether somebody
//! *may* give the command is not asked here but of the auth policy, and whether a deploy or destroy fits the lab's state
//! is for the lab's own lifecycle to say: it alone knows at the moment when it begins.

mod rules;
mod settings;

use std::sync::OnceLock;

use bindings::exports::antimony::plugin::lifecycle;
use bindings::exports::antimony::plugin::validator::{Command, Context, Guest, Rejection};

use self::settings::Settings;

#[allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated from wit/")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "command-validator", additional_derives: [PartialEq] });

    // Only there: a linker of native libraries stumbles over the names of a component's exports.
    #[cfg(target_family = "wasm")]
    export!(Plugin with_types_in self);
    #[cfg(target_family = "wasm")]
    use super::Plugin;
}

/// Set once by `configure`, and part of the snapshot that every call starts from.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Nothing is freed in an instance that lives for one call.
#[cfg(target_family = "wasm")]
#[global_allocator]
static ARENA: call_arena::CallArena<call_arena::Linear> = call_arena::CallArena::new(call_arena::Linear);

/// The component.
pub struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> lifecycle::Description {
        lifecycle::Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Requires the fields that each command needs, and that its node and shell exist in the lab".into(),
        }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings = Settings::parse(&settings)?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn validate(command: Command, context: Context) -> Result<Command, Rejection> {
        let settings = SETTINGS.get().copied().unwrap_or_default();
        let command = settings.dialect.translate(command);
        rules::check(&command, &context)?;
        Ok(command)
    }
}
