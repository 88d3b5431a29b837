//! `/logs/<labId>`: what the deploys and destroys of a lab print. It exists once the lab has an instance, and stays for as
//! long as the lab: what a failed deploy printed is wanted after it failed.

use super::access::{self, Connected, Door};
use super::{Hub, message, namespaces, pump};
use crate::labs::model::LabId;

/// Its path.
pub(super) fn path(lab: &LabId) -> String {
    format!("/logs/{lab}")
}

/// Makes the namespace of a lab, unless it is there.
pub(super) fn ensure(hub: &Hub, lab: &LabId) {
    hub.namespaces.ensure(path(lab), |path| {
        let id = lab.clone();
        access::serve(hub, path, Door::LabLog(lab.clone()), message::refuse_input, move |connected| {
            let id = id.clone();
            async move {
                let Connected { hub, peer, .. } = connected;
                let Some(log) = hub.labs.log(&id) else {
                    // The lab has gone while the socket was being let in, and its namespace has lost track of it.
                    namespaces::disconnect(|| peer.socket()).await;
                    return;
                };
                let (backlog, follower) = log.follow();
                pump::backlog_then_live(&peer, backlog, follower, &pump::Everything).await;
            }
        });
    });
}
