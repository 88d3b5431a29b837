//! `/logs/<labId>`: what the deploys and destroys of a lab print. It exists once the lab has an instance, and stays for as
//! long as the lab: what a failed deploy printed is wanted after it failed.

use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;

use super::access::{self, Door, Session};
use super::{Hub, message, pump};
use crate::labs::model::LabId;

/// Its path.
pub(super) fn path(lab: &LabId) -> String {
    format!("/logs/{lab}")
}

/// Makes the namespace of a lab, unless it is there.
pub(super) fn ensure(hub: &Hub, lab: &LabId) {
    hub.namespaces.ensure(path(lab), |path| {
        let (door, id) = (hub.clone(), lab.clone());
        let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
            access::admit(&door, &socket, auth.unwrap_or_default(), &Door::LabLog(id.clone())).await
        };
        let (inside, id) = (hub.clone(), lab.clone());
        let connected = async move |socket: SocketRef| {
            let gone = access::until_disconnect(&socket);
            message::refuse_input(&socket);
            // The lab may have gone while the socket was being let in; its namespace has then lost track of it.
            let (Some(session), Some(log)) = (Session::of(&socket), inside.labs.log(&id)) else {
                let _ = socket.disconnect();
                return;
            };
            let (backlog, follower) = log.follow();
            tokio::select! {
                () = access::guard(socket.clone(), &session, &gone) => {}
                () = async {
                    pump::backlog_then_live(&socket, backlog, follower).await;
                    gone.cancelled().await;
                } => {}
            }
        };
        hub.io.ns(path, connected.with(admit));
    });
}
