//! `/stats/<labId>`: what the nodes of a lab use, again and again for as long as somebody is there.
//!
//! Exists while the lab has an instance. Whoever may read the lab's log may join. The latest reading comes at once, if there
//! is one; a client that takes its time gets what is latest when it is ready, and not all that it missed.

use serde::Serialize;

use super::access::{self, Connected, Door};
use super::{Hub, message, pump};
use crate::http::stats_json::StatsJson;
use crate::labs::model::{LabId, LabSnapshot};

/// `{payload: …}`
#[derive(Serialize)]
struct Payload {
    payload: StatsJson,
}

fn path(lab: &LabId) -> String {
    format!("/stats/{lab}")
}

/// Makes or removes the namespace of a lab, as it should be. Called by one task only, for each change in turn.
pub(super) fn update(hub: &Hub, lab: &LabSnapshot) {
    let id = &lab.lab.id;
    if lab.instance.is_some() {
        hub.namespaces.ensure(path(id), |path| serve(hub, path, id));
    } else {
        remove(hub, id);
    }
}

/// Removes the namespace of a lab, if there is one.
pub(super) fn remove(hub: &Hub, lab: &LabId) {
    hub.namespaces.remove_if_live(&hub.io, &path(lab));
}

fn serve(hub: &Hub, path: String, lab: &LabId) {
    let (door, lab) = (Door::LabStats(lab.clone()), lab.clone());
    access::serve(hub, path, door, message::refuse_input, move |connected| {
        let lab = lab.clone();
        async move {
            let Connected { hub, peer, .. } = connected;
            let mut listener = hub.stats.listen(&lab);
            drop(hub);
            while let Some(reading) = listener.next().await {
                let message = Payload { payload: StatsJson::from(&*reading) };
                drop(reading);
                if !pump::latest(&peer, &message).await {
                    return;
                }
            }
        }
    });
}
