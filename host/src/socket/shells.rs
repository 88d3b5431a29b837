//! `/shells/<shellId>`: what goes into a shell and what comes out. It exists from before the acknowledgement that names
//! the shell, and for a while after the shell has ended, so that a reloaded page can show what was there.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;

use super::access::{self, Door, Session};
use super::message::{Argument, Message};
use super::shell_commands::{ShellCommand, ShellNotice};
use super::{Hub, pump};
use crate::labs::model::ShellId;
use crate::shells::{InputError, Session as Shell};

/// Its path.
pub(super) fn path(shell: &ShellId) -> String {
    format!("/shells/{shell}")
}

/// Makes the namespace of a shell, unless it is there.
pub(super) fn ensure(hub: &Hub, shell: &Arc<Shell>) {
    hub.namespaces.ensure(path(&shell.info().id), |path| {
        let (door, id) = (hub.clone(), shell.info().id.clone());
        let admit = async move |socket: SocketRef, TryData(auth): TryData<Value>| {
            access::admit(&door, &socket, auth.unwrap_or_default(), &Door::Shell(id.clone())).await
        };
        let (inside, shell) = (hub.clone(), Arc::clone(shell));
        let connected = async move |socket: SocketRef| {
            let gone = access::until_disconnect(&socket);
            accept_input(&inside, &socket, &shell);
            let Some(session) = Session::of(&socket) else { return };
            if inside.shells.get(&shell.info().id).is_none() {
                // It was forgotten while the socket was being let in; its namespace has lost track of it.
                let _ = socket.disconnect();
                return;
            }
            let (backlog, follower) = shell.output().follow();
            tokio::select! {
                () = access::guard(socket.clone(), &session, &gone) => {}
                () = async {
                    pump::backlog_then_live(&socket, backlog, follower).await;
                    // The shell has ended; whoever watched it may stay and read.
                    gone.cancelled().await;
                } => {}
            }
        };
        hub.io.ns(path, connected.with(admit));
    });
}

fn accept_input(hub: &Hub, socket: &SocketRef, shell: &Arc<Shell>) {
    let notices = Arc::clone(&hub.shell_notices);
    let shell = Arc::clone(shell);
    // Each event is a task of its own, and tasks overtake each other at their awaits: all the work is done before the
    // first, which keeps what was typed in order.
    socket.on(pump::DATA, move |socket: SocketRef, message: Message| {
        let expired = Session::of(&socket).is_none_or(|session| session.expires <= jiff::Timestamp::now());
        if !expired
            && let Some(bytes) = typed(message)
            && let Err(error) = shell.input(bytes)
            && error == InputError::Full
        {
            let (shell, message) = (shell.info().clone(), error.to_string());
            notices.append(Arc::new(ShellNotice { shell, command: ShellCommand::Error, message }));
        }
        ready(())
    });
}

/// What was typed: a string, or a binary frame as it is. Anything else is nothing that could be typed.
fn typed(message: Message) -> Option<Bytes> {
    match message.argument? {
        Argument::Binary(bytes) => Some(bytes),
        Argument::Json(json) => serde_json::from_str::<String>(json.get()).ok().map(Bytes::from),
    }
}
