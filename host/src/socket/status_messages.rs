//! `/status-messages`: tells a client in words what happens to labs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;

use super::access::{self, Door, Session};
use super::{Hub, message, pump};
use crate::history::Entry;
use crate::plugins::decision::{Action, Event, Namespace, Status};

/// Its path.
const PATH: &str = "/status-messages";

/// An event and how it was worded.
#[derive(Debug)]
pub(super) struct StatusMessage {
    /// The event; its lab decides who hears of it.
    event: Arc<Event>,
    status: Status,
    id: String,
}

impl StatusMessage {
    pub(super) fn new(event: Arc<Event>, status: Status) -> Self {
        Self { event, status, id: uuid::Uuid::now_v7().to_string() }
    }

    fn wire(&self) -> Message<'_> {
        Message {
            payload: Payload {
                id: &self.id,
                timestamp: self.event.at.to_string(),
                source: &self.status.source,
                content: &self.status.content,
                log_content: &self.status.log_content,
                severity: self.status.severity as u8,
            },
        }
    }
}

impl Entry for Arc<StatusMessage> {
    fn weight(&self) -> usize {
        1024 + self.event.lab.definition.len() + self.status.content.len() + self.status.log_content.len()
    }
}

#[derive(Serialize)]
struct Message<'a> {
    payload: Payload<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: &'a str,
    /// RFC 3339, which is an ISO 8601 format.
    timestamp: String,
    source: &'a str,
    content: &'a str,
    log_content: &'a str,
    severity: u8,
}

pub(super) fn register(hub: &Hub) {
    let door = hub.clone();
    let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
        access::admit(&door, &socket, auth.unwrap_or_default(), &Door::Global(Namespace::StatusMessages)).await
    };
    let inside = hub.clone();
    let connected = async move |socket: SocketRef| {
        let gone = access::until_disconnect(&socket);
        message::refuse_input(&socket);
        let Some(session) = Session::of(&socket) else { return };
        let mut statuses = inside.statuses.follow_new();
        let visible = async |message: &Arc<StatusMessage>| {
            let circumstances = inside.circumstances(&session.user);
            let action = Action::ViewLab(&message.event.lab);
            let verdict = inside.plugins.authorize(&session.user, action, circumstances).await;
            verdict.ok().and_then(|()| serde_json::to_value(message.wire()).ok())
        };
        tokio::select! {
            () = access::guard(socket.clone(), &session, &gone) => {}
            () = pump::live(&socket, &mut statuses, visible) => {}
        }
    };
    hub.io.ns(PATH, connected.with(admit));
}
