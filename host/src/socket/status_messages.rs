//! `/status-messages`: tells a client in words what happens to labs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::access::{self, Connected, Door};
use super::pump::{self, Selection};
use super::{Hub, message};
use crate::auth::Identity;
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

    fn wire(&self) -> Value {
        json!({"payload": {
            "id": self.id,
            // RFC 3339, which is an ISO 8601 format.
            "timestamp": self.event.at.to_string(),
            "source": self.status.source,
            "content": self.status.content,
            "logContent": self.status.log_content,
            "severity": self.status.severity as u8,
        }})
    }
}

impl Entry for Arc<StatusMessage> {
    fn weight(&self) -> usize {
        1024 + self.event.lab.definition.len() + self.status.content.len() + self.status.log_content.len()
    }
}

/// The messages about labs that this user may see.
struct Visible {
    hub: Hub,
    user: Arc<Identity>,
}

impl Selection<Arc<StatusMessage>> for Visible {
    type Message = Value;

    async fn select(&self, message: &Arc<StatusMessage>) -> Option<Value> {
        let circumstances = self.hub.circumstances(&self.user);
        self.hub.plugins.authorize(&self.user, Action::ViewLab(&message.event.lab), circumstances).await.ok()?;
        Some(message.wire())
    }
}

pub(super) fn register(hub: &Hub) {
    access::serve(hub, PATH, Door::Global(Namespace::StatusMessages), message::refuse_input, async |connected| {
        let Connected { hub, socket, session } = connected;
        let mut statuses = hub.statuses.follow_new();
        pump::live(&socket, &mut statuses, &Visible { hub, user: session.user }).await;
    });
}
