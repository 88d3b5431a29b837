//! `/lab-updates`: tells a client which labs to fetch again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::access::{self, Connected, Door};
use super::pump::{self, Selection};
use super::sight::{self, Sight};
use super::{Hub, message};
use crate::auth::Identity;
use crate::history::Entry;
use crate::labs::model::LabSnapshot;
use crate::plugins::decision::{Namespace, Refusal};

/// Its path.
pub(super) const PATH: &str = "/lab-updates";

/// What has changed.
#[derive(Debug)]
pub(super) enum LabUpdate {
    /// A lab has changed, or has gone: as it is, or as it was.
    Lab(Arc<LabSnapshot>),
    /// Who may see what may be otherwise, for all labs.
    All,
}

impl Entry for Arc<LabUpdate> {
    fn weight(&self) -> usize {
        // The snapshot is shared with the lab's task, but an old one lives only for the sake of this entry.
        1024 + match &**self {
            LabUpdate::Lab(lab) => lab.definition.len(),
            LabUpdate::All => 0,
        }
    }
}

/// The updates of labs that this user may see.
struct Visible {
    hub: Hub,
    user: Arc<Identity>,
}

impl Selection<Arc<LabUpdate>> for Visible {
    type Message = Value;

    async fn select(&self, update: &Arc<LabUpdate>) -> Option<Value> {
        let everything = || Some(json!({"payload": {"labId": null}}));
        let LabUpdate::Lab(lab) = &**update else { return everything() };
        match sight::allowed(&self.hub, &self.user, lab, Sight::Lab).await {
            Ok(()) => Some(json!({"payload": {"labId": lab.lab.id}})),
            // Nobody could say whether this user may know of the lab. "Everything changed" names nothing, and whoever
            // fetches the labs is judged anew.
            Err(refusal @ Refusal::Failed { .. }) => {
                tracing::error!(user = %self.user.id, %refusal, "an update could not be judged");
                everything()
            }
            Err(_) => None,
        }
    }
}

pub(super) fn register(hub: &Hub) {
    access::serve(hub, PATH, Door::Global(Namespace::LabUpdates), message::refuse_input, async |connected| {
        let Connected { hub, peer, session } = connected;
        let mut updates = hub.updates.follow_new();
        pump::live(&peer, &mut updates, &Visible { hub, user: session.user }).await;
    });
}
