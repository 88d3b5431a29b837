//! An auth policy that stands behind another one and forbids deploying labs, but for some people.
//!
//! A lab's start time comes without anybody being asked: what the schedule is to deploy is decided when a lab is created
//! or changed. So those are refused as well. Labs that were scheduled before still start; their creators can delete them.
//!
//! Policies work together: each has to allow an action. This one allows everything that it isn't about, and knows nobody,
//! so that another policy says who somebody is.

use std::sync::OnceLock;

use antimony::plugin::logging::{Level, log};
use antimony::plugin::types::{Circumstances, CommandKind, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });
export!(DeployFreeze);

/// What the operator sets. Unknown keys are errors, since most of them are misspelt known ones.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Ids of the users who may deploy all the same.
    #[serde(default)]
    allowed: Vec<String>,
    /// Why, as everybody else is told.
    reason: String,
}

/// Set by `configure` and part of the snapshot from which every call starts: parsing it costs nothing per call.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct DeployFreeze;

impl lifecycle::Guest for DeployFreeze {
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

impl Guest for DeployFreeze {
    fn identify(_claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        Ok(None)
    }

    fn authorize(user: Identity, action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        let (lab, what) = match &action {
            Action::Command(request) if request.kind == CommandKind::Deploy => (&request.lab, "deployed"),
            Action::CreateLab(lab) => (lab, "created"),
            Action::UpdateLab(change) => (&change.after, "changed"),
            _ => return Ok(()),
        };
        let Some(settings) = SETTINGS.get() else { return Ok(()) };
        if settings.allowed.contains(&user.id) {
            return Ok(());
        }
        log(Level::Info, &format!("kept {} from having {} {what}", user.id, lab.name));
        let message = format!("Labs can't be {what} at the moment: {}", settings.reason);
        Err(Denial { rule: "deploy-freeze".into(), message })
    }
}
