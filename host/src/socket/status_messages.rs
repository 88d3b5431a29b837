//! `/status-messages`: tells a client in words what happens to labs.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::access::{self, Connected, Door};
use super::pump::{self, Selection};
use super::sight::{self, Sight};
use super::{Hub, message};
use crate::auth::Identity;
use crate::history::Entry;
use crate::plugins::decision::{Event, Namespace, Occurrence, Status};

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

/// The messages about labs that this user may see, and about shells that they may connect to.
struct Visible {
    hub: Hub,
    user: Arc<Identity>,
}

/// What somebody has to be allowed to see to hear of this.
fn told_to_whom(event: &Event) -> Sight<'_> {
    match &event.what {
        Occurrence::ShellOpened(shell) | Occurrence::ShellClosed(shell) | Occurrence::ShellFailed { shell, .. } => {
            Sight::Shell(shell)
        }
        _ => Sight::Lab,
    }
}

/// Whether somebody who was away has to hear of it once: a lab is not what they left it as.
fn is_news(what: &Occurrence) -> bool {
    matches!(what, Occurrence::LabMissed | Occurrence::LabRecovered | Occurrence::LabLost { .. })
}

impl Selection<Arc<StatusMessage>> for Visible {
    type Message = Value;

    async fn select(&self, message: &Arc<StatusMessage>) -> Option<Value> {
        let event = &message.event;
        sight::allowed(&self.hub, &self.user, &event.lab, told_to_whom(event)).await.ok()?;
        Some(message.wire())
    }
}

pub(super) fn register(hub: &Hub) {
    access::serve(hub, PATH, Door::Global(Namespace::StatusMessages), message::refuse_input, async |connected| {
        let Connected { hub, peer, session } = connected;
        let (earlier, mut statuses) = hub.statuses.follow();
        let (greeted, id) = (Arc::clone(&hub.greeted), session.user.id.clone());
        let first_time = !greeted.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
        let visible = Visible { hub, user: session.user };
        if first_time {
            // What the server found when it started happened while nobody could be connected to hear of it.
            let news: Vec<_> = earlier.into_iter().filter(|message| is_news(&message.event.what)).collect();
            if !pump::send(&peer, &news, &visible, |_| {}).await {
                return;
            }
            greeted.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
        pump::live(&peer, &mut statuses, &visible).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::lab_json::tests::snapshot;
    use crate::plugins::decision::ShellInfo;

    #[test]
    fn what_happens_to_a_shell_is_for_those_who_may_connect_to_it() {
        let shell = ShellInfo { id: "s".into(), lab_id: "l".into(), node: "r1".into(), owner: "u".into() };
        let event = |what| Event { at: jiff::Timestamp::now(), lab: Arc::new(snapshot()), by: None, what };
        for what in [
            Occurrence::ShellOpened(shell.clone()),
            Occurrence::ShellClosed(shell.clone()),
            Occurrence::ShellFailed { shell: shell.clone(), reason: "gone".into() },
        ] {
            let event = event(what);
            let sight = told_to_whom(&event);
            assert!(matches!(sight, Sight::Shell(asked) if *asked == shell), "{sight:?}");
        }
        assert!(matches!(told_to_whom(&event(Occurrence::LabDeployed)), Sight::Lab));
    }
}
