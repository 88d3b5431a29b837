//! The bundled status formatter: words what happens to labs, nodes and shells.
//!
//! This file is the component's face; `wording` has the sentences.

mod wording;

use bindings::exports::antimony::plugin::formatter::{Event, Guest, Status};
use bindings::exports::antimony::plugin::lifecycle;
use serde::Deserialize;

#[allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated from wit/")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "status-formatter" });

    // Only there: a linker of native libraries stumbles over the names of a component's exports.
    #[cfg(target_family = "wasm")]
    export!(Plugin with_types_in self);
    #[cfg(target_family = "wasm")]
    use super::Plugin;
}

/// The settings of this plugin: there are none, and a key that somebody sets all the same is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

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
            summary: "Words every event in one plain English sentence".into(),
        }
    }

    fn configure(settings: String) -> Result<(), String> {
        serde_json::from_str::<Settings>(&settings).map(|_| ()).map_err(|error| error.to_string())
    }
}

impl Guest for Plugin {
    fn format(event: Event) -> Option<Status> {
        Some(wording::word(&event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_refused_by_its_name() {
        assert_eq!(lifecycle_configure("{}"), Ok(()));
        let error = lifecycle_configure(r#"{"language": "de"}"#).expect_err("there is no such setting");
        assert!(error.contains("language"), "{error}");
    }

    fn lifecycle_configure(settings: &str) -> Result<(), String> {
        <Plugin as lifecycle::Guest>::configure(settings.into())
    }
}
