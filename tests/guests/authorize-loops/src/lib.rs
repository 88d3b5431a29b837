//! An auth policy whose `authorize` never returns: for every action, or, with the setting `on`, for one kind alone.

use std::sync::OnceLock;

use antimony::plugin::types::{Circumstances, CommandKind, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });
export!(Plugin);

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    on: Option<Kind>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Deploy,
    Destroy,
    OpenShell,
    ViewLab,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Never says whether somebody may do something".into();
        Description { name: "authorize-loops".into(), version: "0.1.0".into(), summary }
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

    fn authorize(_user: Identity, action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        let asked = match &action {
            Action::Command(request) => Some(request.kind),
            _ => None,
        };
        let loops = match SETTINGS.get().and_then(|settings| settings.on.as_ref()) {
            None => true,
            Some(Kind::Deploy) => asked == Some(CommandKind::Deploy),
            Some(Kind::Destroy) => asked == Some(CommandKind::Destroy),
            Some(Kind::OpenShell) => asked == Some(CommandKind::OpenShell),
            Some(Kind::ViewLab) => matches!(action, Action::ViewLab(_)),
        };
        while loops {
            std::hint::black_box(());
        }
        Ok(())
    }
}
