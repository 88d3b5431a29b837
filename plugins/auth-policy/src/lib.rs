//! The bundled auth policy: administrators may do everything, everybody else what their collections and their own
//! creations allow.
//!
//! This file is the component's face; `claims` makes a user of a token's claims, `rules` decides, and `settings`
//! reads what the operator set.

mod claims;
mod rules;
mod settings;

use std::sync::OnceLock;

use bindings::antimony::plugin::types::{Circumstances, Identity};
use bindings::exports::antimony::plugin::lifecycle;
use bindings::exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

use self::settings::Settings;

#[allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated from wit/")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "auth-policy", additional_derives: [PartialEq] });

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
            summary: "Admins may do everything; others see their collections and change what they created".into(),
        }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings = Settings::parse(&settings)?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn identify(claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        claims::identify(claims)
    }

    fn authorize(user: Identity, action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        rules::authorize(&user, &action, SETTINGS.get_or_init(Settings::default))
    }
}

/// A refusal by the rule named `rule`.
fn deny(rule: &str, message: impl Into<String>) -> Denial {
    Denial { rule: rule.into(), message: message.into() }
}
