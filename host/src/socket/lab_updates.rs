//! `/lab-updates`: tells a client which labs to fetch again.

use std::sync::Arc;

use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;

use super::access::{self, Door, Session};
use super::{Hub, message, pump};
use crate::history::Entry;
use crate::labs::model::LabSnapshot;
use crate::plugins::decision::{Action, Namespace};

/// Its path.
const PATH: &str = "/lab-updates";

/// A lab has changed, or has gone.
#[derive(Debug)]
pub(super) struct LabUpdate {
    /// The lab as it is, or as it was.
    pub(super) lab: Arc<LabSnapshot>,
}

impl Entry for Arc<LabUpdate> {
    fn weight(&self) -> usize {
        // The snapshot is shared with the lab's task, but an old one lives only for the sake of this entry.
        1024 + self.lab.definition.len()
    }
}

pub(super) fn register(hub: &Hub) {
    let door = hub.clone();
    let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
        access::admit(&door, &socket, auth.unwrap_or_default(), &Door::Global(Namespace::LabUpdates)).await
    };
    let inside = hub.clone();
    let connected = async move |socket: SocketRef| {
        let gone = access::until_disconnect(&socket);
        message::refuse_input(&socket);
        let Some(session) = Session::of(&socket) else { return };
        let mut updates = inside.updates.follow_new();
        let visible = async |update: &Arc<LabUpdate>| {
            let circumstances = inside.circumstances(&session.user);
            let verdict = inside.plugins.authorize(&session.user, Action::ViewLab(&update.lab), circumstances).await;
            verdict.ok().map(|()| serde_json::json!({"payload": {"labId": update.lab.lab.id}}))
        };
        tokio::select! {
            () = access::guard(socket.clone(), &session, &gone) => {}
            () = pump::live(&socket, &mut updates, visible) => {}
        }
    };
    hub.io.ns(PATH, connected.with(admit));
}
