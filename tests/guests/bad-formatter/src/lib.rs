//! A status formatter that traps on every event.

use exports::antimony::plugin::formatter::{Event, Guest, Status};
use exports::antimony::plugin::lifecycle::{self, Description};

wit_bindgen::generate!({ path: "../../../wit", world: "status-formatter" });
export!(Plugin);

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Traps on every event".into();
        Description { name: "bad-formatter".into(), version: "0.1.0".into(), summary }
    }

    fn configure(_settings: String) -> Result<(), String> {
        Ok(())
    }
}

impl Guest for Plugin {
    fn format(event: Event) -> Option<Status> {
        panic!("no words for what happened at {}", event.at)
    }
}
