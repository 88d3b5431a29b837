//! `/shell-commands`: tells a user what became of their shells.

use std::sync::Arc;

use serde_json::{Value, json};
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;

use super::access::{self, Door, Session};
use super::{Hub, message, pump};
use crate::history::Entry;
use crate::plugins::decision::{Namespace, ShellInfo};

/// Its path.
const PATH: &str = "/shell-commands";

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

pub(super) fn register(hub: &Hub) {
    let door = hub.clone();
    let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
        access::admit(&door, &socket, auth.unwrap_or_default(), &Door::Global(Namespace::ShellCommands)).await
    };
    let inside = hub.clone();
    let connected = async move |socket: SocketRef| {
        let gone = access::until_disconnect(&socket);
        message::refuse_input(&socket);
        let Some(session) = Session::of(&socket) else { return };
        let mut notices = inside.shell_notices.follow_new();
        // A shell's messages go to its owner: that is whose shell it is, and no decision.
        let own = async |notice: &Arc<ShellNotice>| {
            (notice.shell.owner == session.user.id).then(|| {
                // The specification draws the message bare here; like on the other global namespaces it is wrapped,
                // which is what clients in the field read.
                json!({"payload": {
                    "labId": notice.shell.lab_id,
                    "node": notice.shell.node,
                    "shellId": notice.shell.id,
                    "command": notice.command as u8,
                    "message": notice.message,
                }})
            })
        };
        tokio::select! {
            () = access::guard(socket.clone(), &session, &gone) => {}
            () = pump::live(&socket, &mut notices, own) => {}
        }
    };
    hub.io.ns(PATH, connected.with(admit));
}
