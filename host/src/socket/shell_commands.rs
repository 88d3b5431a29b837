//! `/shell-commands`: tells a user what became of their shells.

use std::sync::Arc;

use serde_json::{Value, json};

use super::access::{self, Connected, Door};
use super::pump::{self, Selection};
use super::{Hub, message};
use crate::history::Entry;
use crate::labs::model::UserId;
use crate::plugins::decision::{Namespace, ShellInfo};

/// Its path.
pub(super) const PATH: &str = "/shell-commands";

/// What happened to a shell. The discriminant is the number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShellCommand {
    /// There was an I/O error.
    Error = 0,
    /// It has been closed.
    Close = 1,
}

/// Something happened to a shell.
#[derive(Debug)]
pub(super) struct ShellNotice {
    pub(super) shell: ShellInfo,
    pub(super) command: ShellCommand,
    /// A sentence for the user.
    pub(super) message: String,
}

impl Entry for Arc<ShellNotice> {
    fn weight(&self) -> usize {
        256 + self.message.len()
    }
}

/// The messages about shells of this user: whose shell it is, is no decision.
struct Own(UserId);

impl Selection<Arc<ShellNotice>> for Own {
    type Message = Value;

    async fn select(&self, notice: &Arc<ShellNotice>) -> Option<Value> {
        (notice.shell.owner == self.0).then(|| {
            // The specification draws the message bare here; like on the other global namespaces it is wrapped, which is
            // what clients in the field read.
            json!({"payload": {
                "labId": notice.shell.lab_id,
                "node": notice.shell.node,
                "shellId": notice.shell.id,
                "command": notice.command as u8,
                "message": notice.message,
            }})
        })
    }
}

pub(super) fn register(hub: &Hub) {
    access::serve(hub, PATH, Door::Global(Namespace::ShellCommands), message::refuse_input, async |connected| {
        let Connected { hub, peer, session } = connected;
        let mut notices = hub.shell_notices.follow_new();
        pump::live(&peer, &mut notices, &Own(session.user.id.clone())).await;
    });
}
