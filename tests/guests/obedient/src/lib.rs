//! An auth policy that does what its settings say: who is whom, and who may not do what.

use std::sync::OnceLock;

use antimony::plugin::types::{Circumstances, CommandKind, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, ClaimValue, Denial, Guest, Namespace};

wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });
export!(Plugin);

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Ids of tokens that are refused.
    refuse: Vec<String>,
    /// Ids of tokens whose bearers are administrators and somebody else besides.
    promote: Vec<String>,
    /// What nobody may do who isn't an administrator.
    deny: Vec<What>,
    /// Why, as they are told.
    reason: String,
}

#[derive(Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    StatusMessages,
    LabUpdates,
    LabLog,
    ListShells,
    OpenShell,
    ViewLab,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Does what its settings say".into();
        Description { name: "obedient".into(), version: "0.1.0".into(), summary }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

fn settings() -> &'static Settings {
    SETTINGS.get_or_init(Settings::default)
}

fn denial() -> Denial {
    Denial { rule: "as-told".into(), message: settings().reason.clone() }
}

impl Guest for Plugin {
    fn identify(claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        let id = claims.into_iter().find_map(|claim| match claim.value {
            ClaimValue::Text(id) if claim.name == "id" => Some(id),
            _ => None,
        });
        let Some(id) = id else { return Ok(None) };
        if settings().refuse.contains(&id) {
            return Err(denial());
        }
        let promoted = settings().promote.contains(&id);
        Ok(promoted.then(|| Identity { id, admin: true, collections: vec![] }))
    }

    fn authorize(user: Identity, action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        let what = match &action {
            Action::Connect(Namespace::StatusMessages) => Some(What::StatusMessages),
            Action::Connect(Namespace::LabUpdates) => Some(What::LabUpdates),
            Action::Connect(Namespace::LabLog(_)) => Some(What::LabLog),
            Action::Command(request) if request.kind == CommandKind::ListShells => Some(What::ListShells),
            Action::Command(request) if request.kind == CommandKind::OpenShell => Some(What::OpenShell),
            Action::ViewLab(_) => Some(What::ViewLab),
            _ => None,
        };
        let denied = !user.admin && what.is_some_and(|what| settings().deny.contains(&what));
        if denied { Err(denial()) } else { Ok(()) }
    }
}
