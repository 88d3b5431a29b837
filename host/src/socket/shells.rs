//! `/shells/<shellId>`: what goes into a shell and what comes out. It exists from before the acknowledgement that names
//! the shell, and for a while after the shell has ended, so that a reloaded page can show what was there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use socketioxide::extract::SocketRef;

use super::access::{self, Connected, Door, Session};
use super::error::{DENIED, INVALID, WireError};
use super::message::{Answers, Argument, Message};
use super::pump::{self, Selection};
use super::{Hub, message, namespaces};
use crate::labs::model::ShellId;
use crate::shells::Session as Shell;

/// The event that tells how large a client's terminal is.
const RESIZE: &str = "resize";

/// Its path.
pub(super) fn path(shell: &ShellId) -> String {
    format!("/shells/{shell}")
}

/// Makes the namespace of a shell, unless it is there.
pub(super) fn ensure(hub: &Hub, shell: &Arc<Shell>) {
    let id = shell.info().id.clone();
    hub.namespaces.ensure(path(&id), |path| {
        let typed_into = Arc::clone(shell);
        let accept_input =
            move |socket: &SocketRef, connected: &Connected| accept_input(socket, connected, &typed_into);
        let shell = Arc::clone(shell);
        access::serve(hub, path, Door::Shell(id), accept_input, move |connected| {
            let shell = Arc::clone(&shell);
            async move {
                let Connected { hub, peer, .. } = connected;
                if hub.shells.get(&shell.info().id).is_none() {
                    // It was forgotten while the socket was being let in, and its namespace has lost track of it.
                    namespaces::disconnect(|| peer.socket()).await;
                    return;
                }
                let (backlog, follower) = shell.output().follow();
                pump::backlog_then_live(&peer, backlog, follower, &Output).await;
            }
        });
    });
}

/// What a shell prints. One that prints faster than somebody can read loses what is in between, and not its reader.
struct Output;

impl Selection<Arc<str>> for Output {
    type Message = Arc<str>;
    /// Short: programs that talk to programs do so here too.
    const GATHER: Duration = Duration::from_millis(1);

    async fn select(&self, text: &Arc<str>) -> Option<Arc<str>> {
        Some(Arc::clone(text))
    }

    fn gap(&self, bytes: u64) -> Option<Arc<str>> {
        Some(format!("\r\n[output skipped: about {} KiB]\r\n", bytes.div_ceil(1024)).into())
    }
}

fn accept_input(socket: &SocketRef, connected: &Connected, shell: &Arc<Shell>) {
    message::refuse_input(socket, connected);
    let session = connected.session.clone();
    let shell = Arc::clone(shell);
    let answers = Answers::new();
    let resized = (Arc::clone(&shell), session.clone(), answers.clone());
    socket.on(RESIZE, move |Message { argument, ack }: Message| {
        let (shell, session, answers) = &resized;
        let taken = may_type(session)
            .and_then(|()| size(argument))
            .and_then(|Size { cols, rows }| Ok(shell.resize(cols, rows)?));
        let answers = answers.clone();
        async move { answers.give(ack, taken).await }
    });
    // Each event is a task of its own, and tasks overtake each other at their awaits: all the work is done before the
    // first, which keeps what was typed in order.
    socket.on(pump::DATA, move |Message { argument, ack }: Message| {
        let taken = may_type(&session).and_then(|()| typed(argument)).and_then(|bytes| Ok(shell.input(bytes)?));
        let answers = answers.clone();
        async move { answers.give(ack, taken).await }
    });
}

fn may_type(session: &Session) -> Result<(), WireError> {
    if session.is_over() {
        return Err(WireError::new(DENIED, "your access token has expired: connect again with a new one"));
    }
    Ok(())
}

/// How large a terminal is: an extension of ours.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Size {
    cols: u16,
    rows: u16,
}

fn size(argument: Option<Argument>) -> Result<Size, WireError> {
    let invalid =
        || WireError::new(INVALID, "a size is an object such as {\"cols\": 80, \"rows\": 24}, each 1 to 65535");
    let Some(Argument::Json(json)) =
        argument.filter(|argument| matches!(argument, Argument::Json(json) if json.get().starts_with('{')))
    else {
        return Err(invalid());
    };
    let size: Size = serde_json::from_str(json.get()).map_err(|_| invalid())?;
    if size.cols == 0 || size.rows == 0 {
        return Err(invalid());
    }
    Ok(size)
}

/// What was typed: a string, or a binary frame as it is. Anything else is nothing that could be typed.
fn typed(argument: Option<Argument>) -> Result<Bytes, WireError> {
    let invalid = || WireError::new(INVALID, "what is typed is a string or a binary frame");
    match argument.ok_or_else(invalid)? {
        Argument::Binary(bytes) => Ok(bytes),
        Argument::Json(json) => serde_json::from_str::<String>(json.get()).map(Bytes::from).map_err(|_| invalid()),
    }
}
