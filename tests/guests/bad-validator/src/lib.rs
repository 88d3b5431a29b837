//! A command validator that answers for another lab than it was asked about, or, as its settings say, makes another
//! command of the one that came.

use std::sync::OnceLock;

use antimony::plugin::types::CommandKind;
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::validator::{Command, Context, Guest, Rejection};

wit_bindgen::generate!({ path: "../../../wit", world: "command-validator" });
export!(Plugin);

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Makes every command a deploy instead of moving it to another lab.
    deploy_instead: bool,
    /// Makes it a command of a kind that there isn't.
    invalid_kind: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Makes other commands of those that come".into();
        Description { name: "bad-validator".into(), version: "0.1.0".into(), summary }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn validate(command: Command, _context: Context) -> Result<Command, Rejection> {
        if SETTINGS.get().is_some_and(|settings| settings.deploy_instead) {
            return Ok(Command { kind: CommandKind::Deploy, node: None, shell_id: None, ..command });
        }
        if SETTINGS.get().is_some_and(|settings| settings.invalid_kind) {
            // No guest in its senses has such a value; what counts is what the host makes of it.
            let kind = unsafe { std::mem::transmute::<u8, CommandKind>(std::hint::black_box(200)) };
            return Ok(Command { kind, ..command });
        }
        Ok(Command { lab_id: "somebody-elses".into(), ..command })
    }
}
