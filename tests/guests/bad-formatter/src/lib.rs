//! A status formatter that traps on every event, or, with the settings `{"fatal": true}`, finds every event fatal.

use std::sync::OnceLock;

use exports::antimony::plugin::formatter::{Event, Guest, Severity, Status};
use exports::antimony::plugin::lifecycle::{self, Description};

wit_bindgen::generate!({ path: "../../../wit", world: "status-formatter" });
export!(Plugin);

struct Plugin;

static FATAL: OnceLock<bool> = OnceLock::new();

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Traps on every event, or finds it fatal".into();
        Description { name: "bad-formatter".into(), version: "0.1.0".into(), summary }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings: serde_json::Value = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        FATAL.get_or_init(|| settings["fatal"] == true);
        Ok(())
    }
}

impl Guest for Plugin {
    fn format(event: Event) -> Option<Status> {
        if FATAL.get() == Some(&true) {
            let content = "The end is near".to_owned();
            return Some(Status {
                source: "Oracle".into(),
                log_content: content.clone(),
                content,
                severity: Severity::Fatal,
            });
        }
        panic!("no words for what happened at {}", event.at)
    }
}
