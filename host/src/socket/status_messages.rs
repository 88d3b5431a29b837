//! `/status-messages`: tells a client in words what happens to labs, also that one ends soon, and administrators what is
//! wrong with the plugins.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::{self, Connected, Door};
use super::pump::{self, Selection};
use super::sight::{self, Sight};
use super::{Hub, message};
use crate::auth::Identity;
use crate::history::Entry;
use crate::labs::model::LabSnapshot;
use crate::plugins::ReloadFailure;
use crate::plugins::decision::{Event, Namespace, Occurrence, Severity, Status};

/// Its path.
pub(super) const PATH: &str = "/status-messages";

/// Something that happened, and how it was worded.
#[derive(Debug)]
pub(super) struct StatusMessage {
    about: About,
    at: Timestamp,
    status: Status,
    id: String,
}

/// What decides who hears of it.
#[derive(Debug)]
enum About {
    /// The lab of this event.
    Lab(Arc<Event>),
    /// This lab, and that it ends at this time.
    End(Arc<LabSnapshot>, Timestamp),
    /// The server itself, which is for administrators.
    Server,
}

impl StatusMessage {
    pub(super) fn about_lab(event: Arc<Event>, status: Status) -> Self {
        Self { at: event.at, about: About::Lab(event), status, id: uuid::Uuid::now_v7().to_string() }
    }

    /// Not worded by a plugin: it is about them.
    pub(super) fn about_reload(failure: &ReloadFailure) -> Self {
        let which = failure.plugin.as_ref().map(|plugin| format!(" ({plugin})")).unwrap_or_default();
        let status = Status {
            source: "Plugins".into(),
            content: format!("The plugins could not be reloaded{which}; those in force stay so"),
            log_content: failure.message.clone(),
            severity: Severity::Error,
        };
        Self { at: failure.at, about: About::Server, status, id: uuid::Uuid::now_v7().to_string() }
    }

    /// Not worded by a plugin: they know of no such event.
    pub(super) fn about_end(at: Timestamp, lab: Arc<LabSnapshot>, end: Timestamp) -> Self {
        let left = time_left(Duration::try_from(at.duration_until(end)).unwrap_or_default());
        let (name, id) = (&lab.lab.name, &lab.lab.id);
        let status = Status {
            source: "Schedule".into(),
            content: format!("Lab {name} ends in {left}, at {end}, and is destroyed then"),
            log_content: format!("Lab {name} ({id}) ends in {left}: give it another end time to keep it"),
            severity: Severity::Warning,
        };
        Self { at, about: About::End(lab, end), status, id: uuid::Uuid::now_v7().to_string() }
    }

    fn wire(&self) -> Value {
        json!({"payload": {
            "id": self.id,
            // RFC 3339, which is an ISO 8601 format.
            "timestamp": self.at.to_string(),
            "source": self.status.source,
            "content": self.status.content,
            "logContent": self.status.log_content,
            "severity": self.status.severity as u8,
        }})
    }
}

impl Entry for Arc<StatusMessage> {
    fn weight(&self) -> usize {
        let definition = match &self.about {
            About::Lab(event) => event.lab.definition.len(),
            About::End(lab, _) => lab.definition.len(),
            About::Server => 0,
        };
        1024 + definition + self.status.content.len() + self.status.log_content.len()
    }
}

/// A time in words: minutes, or, where it is short, seconds. A moment that was needed to say it is passed over.
fn time_left(left: Duration) -> String {
    let seconds = left.as_secs() + u64::from(left.subsec_millis() >= 500);
    let of = |count: u64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    match seconds {
        0..120 => of(seconds, "second"),
        _ if seconds >= 2 * 3600 && (seconds + 30) % 3600 < 60 => of((seconds + 30) / 3600, "hour"),
        _ => of((seconds + 30) / 60, "minute"),
    }
}

/// The messages about labs that this user may see, about shells that they may connect to, and, to administrators, about the
/// server.
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

impl StatusMessage {
    /// Whether somebody who was away has to hear of it once: a lab is not what they left it as, or won't be for long.
    fn is_news(&self) -> bool {
        match &self.about {
            About::Lab(event) => {
                matches!(event.what, Occurrence::LabMissed | Occurrence::LabRecovered | Occurrence::LabLost { .. })
            }
            // Those who were warned in time have heard it; of a time that passed while no server was there nobody has.
            About::End(_, end) => *end > Timestamp::now(),
            About::Server => false,
        }
    }
}

impl Selection<Arc<StatusMessage>> for Visible {
    type Message = Value;

    async fn select(&self, message: &Arc<StatusMessage>) -> Option<Value> {
        match &message.about {
            About::Lab(event) => sight::allowed(&self.hub, &self.user, &event.lab, told_to_whom(event)).await.ok()?,
            About::End(lab, _) => sight::allowed(&self.hub, &self.user, lab, Sight::Lab).await.ok()?,
            About::Server if self.user.admin => {}
            About::Server => return None,
        }
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
            let news: Vec<_> = earlier.into_iter().filter(|message| message.is_news()).collect();
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
    fn the_time_that_is_left_is_said_in_the_unit_that_people_think_in() {
        for (milliseconds, words) in [
            (899_990, "15 minutes"),
            (300_000, "5 minutes"),
            (119_400, "119 seconds"),
            (120_000, "2 minutes"),
            (1_000, "1 second"),
            (3_600_000, "60 minutes"),
            (7_199_990, "2 hours"),
            (86_400_000, "24 hours"),
            (9_000_000, "150 minutes"),
        ] {
            assert_eq!(time_left(Duration::from_millis(milliseconds)), words);
        }
    }

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
