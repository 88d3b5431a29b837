//! A command validator that adds the mark of its settings to the name of the node, so that it can be told afterwards which
//! plugins a command has passed.

use std::sync::OnceLock;

use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::validator::{Command, Context, Guest, Rejection};

wit_bindgen::generate!({ path: "../../../wit", world: "command-validator" });
export!(Plugin);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    mark: String,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Marks the commands that pass it".into();
        Description { name: "marks-commands".into(), version: "0.1.0".into(), summary }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn validate(command: Command, _context: Context) -> Result<Command, Rejection> {
        let mark = SETTINGS.get().map(|settings| settings.mark.as_str()).unwrap_or_default();
        let node = command.node.map(|node| node + mark);
        Ok(Command { node, ..command })
    }
}
