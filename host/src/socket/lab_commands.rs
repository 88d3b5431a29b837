//! `/lab-commands`: what clients ask for.
//!
//! A command is read here, found valid by the validators, allowed by the policies, and carried out by labs or shells, in
//! this order. The acknowledgement is sent when it is done.

use std::collections::HashSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use socketioxide::extract::SocketRef;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::access::{self, Confirmed, Connected, Door, Session};
use super::error::{DENIED, GENERIC, INVALID, LAB_NOT_FOUND, SHELL_NOT_FOUND, WireError};
use super::message::{Answers, Argument, Message};
use super::sight::{self, Sight};
use super::{Hub, message, pump, shells};
use crate::auth::Identity;
use crate::labs::LabCommandError;
use crate::labs::capacity::NoRoom;
use crate::labs::model::{LabId, ShellId};
use crate::metrics::kind_name;
use crate::plugins::decision::{Action, Command, CommandKind, Namespace, Refusal};
use crate::runtime::NodeAction;

/// Its path.
pub(super) const PATH: &str = "/lab-commands";
/// Commands of one connection that may be carried out at once, until their answers are on their way.
const IN_FLIGHT: usize = 64;

pub(super) fn register(hub: &Hub) {
    // Everything happens in the handler of the event; nothing is to be done inside but to be there.
    access::serve(hub, PATH, Door::Global(Namespace::LabCommands), accept_commands, |_| ready(()));
}

fn accept_commands(socket: &SocketRef, connected: &Connected) {
    message::refuse_input(socket, connected);
    let (hub, session) = (connected.hub.clone(), connected.session.clone());
    let (places, answers) = (Arc::new(Semaphore::new(IN_FLIGHT)), Answers::new());
    socket.on(pump::DATA, move |Message { argument, ack }: Message| {
        let (hub, session, answers) = (hub.clone(), session.clone(), answers.clone());
        // Taken before the first await: what has no place takes no memory either.
        let place = Arc::clone(&places).try_acquire_owned();
        let argument = argument.filter(|_| place.is_ok());
        async move {
            let begun = Instant::now();
            let Ok(_place) = place else {
                let message = format!("{IN_FLIGHT} commands are being carried out for this connection: wait for one");
                hub.commands.record(None, Some(GENERIC), begun.elapsed());
                return answers.give(ack, Err(WireError::new(GENERIC, message))).await;
            };
            let mut kind = None;
            let result = match argument {
                _ if session.is_over() => {
                    Err(WireError::new(DENIED, "your access token has expired: connect again with a new one"))
                }
                _ if hub.stop.is_cancelled() => Err(LabCommandError::ShuttingDown.into()),
                None => Err(WireError::new(INVALID, "the event carries no command")),
                Some(argument) => match read(&argument) {
                    Ok(command) => {
                        drop(argument);
                        kind = Some(command.kind);
                        match confirm(&hub, &session).await {
                            Ok(()) => traced(&hub, &session.user, command).await,
                            Err(error) => Err(error),
                        }
                    }
                    Err(error) => Err(error),
                },
            };
            let code = result.as_ref().err().map(|error| error.code);
            hub.commands.record(kind, code, begun.elapsed());
            if let (Err(error), None) = (&result, kind) {
                tracing::debug!(user = %session.user.id, code = error.code, message = error.message, "no command was read");
            }
            ack.answer(&result).await;
        }
    });
}

/// Whoever sends a command has to be who they were when they connected, also where other plugins have come in force since.
async fn confirm(hub: &Hub, session: &Session) -> Result<(), WireError> {
    match session.confirm(hub).await {
        Confirmed::Same => Ok(()),
        Confirmed::Unknown(refusal) => Err(refused(&session.user, refusal)),
        Confirmed::Other => {
            session.transport.kill();
            Err(WireError::new(DENIED, "your access token means somebody else by now: connect again"))
        }
    }
}

/// A command as it is on the wire.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    lab_id: String,
    command: i64,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    shell_id: Option<String>,
}

/// Reads a command: an object, or, as clients in the field send it, the same object as a JSON string.
fn read(argument: &Argument) -> Result<Command, WireError> {
    let invalid = |why: String| WireError::new(INVALID, why);
    let Argument::Json(json) = argument else {
        return Err(invalid("a command is an object, not a binary frame".into()));
    };
    let text: String;
    let json = if json.get().starts_with('"') {
        text = serde_json::from_str(json.get()).map_err(|error| invalid(error.to_string()))?;
        &text
    } else {
        json.get()
    };
    // An array of the values would be read as well otherwise.
    if !json.trim_start().starts_with('{') {
        return Err(invalid("a command is an object such as {\"labId\": \"…\", \"command\": 0}".into()));
    }
    let request: Request =
        serde_json::from_str(json).map_err(|error| invalid(format!("the command can't be read: {error}")))?;
    let kind = match request.command {
        0 => CommandKind::Deploy,
        1 => CommandKind::Destroy,
        2 => CommandKind::StopNode,
        3 => CommandKind::StartNode,
        4 => CommandKind::RestartNode,
        5 => CommandKind::ListShells,
        6 => CommandKind::OpenShell,
        7 => CommandKind::CloseShell,
        other => return Err(invalid(format!("command: {other} is not one of 0 to 7"))),
    };
    Ok(Command {
        kind,
        lab_id: LabId::from(request.lab_id),
        // Clients in the field send what they leave out as null or as an empty string.
        node: request.node.filter(|node| !node.is_empty()),
        shell_id: request.shell_id.filter(|id| !id.is_empty()).map(ShellId::from),
    })
}

/// Longest part of an id from a client that goes into the log, in bytes.
const LOGGED: usize = 64;

/// Carries a command out, within a span that everything which is logged meanwhile belongs to.
async fn traced(hub: &Hub, user: &Identity, command: Command) -> Result<Value, WireError> {
    let (begun, kind) = (Instant::now(), kind_name(command.kind));
    let lab = command.lab_id.as_str();
    // As the client sent it: quoted, since it may hold anything, and cut, since it may be long.
    let lab = &lab[..lab.floor_char_boundary(LOGGED)];
    let span = tracing::info_span!("command", user = %user.id, ?lab, kind, code = Empty, micros = Empty);
    let result = carry_out(hub, user, command).instrument(span.clone()).await;
    let code = result.as_ref().err().map_or(0, |error| error.code);
    span.record("code", code);
    span.record("micros", u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    span.in_scope(|| match &result {
        Ok(_) => tracing::debug!("a command was carried out"),
        Err(error) => tracing::debug!(message = error.message, "a command failed"),
    });
    result
}

async fn carry_out(hub: &Hub, user: &Identity, command: Command) -> Result<Value, WireError> {
    let unknown = || WireError::new(LAB_NOT_FOUND, format!("there is no lab {}", command.lab_id));
    let lab = hub.labs.get(&command.lab_id).ok_or_else(unknown)?;
    let shell_of = |command: &Command| command.shell_id.as_ref().and_then(|id| hub.shells.get(id));
    let circumstances = hub.circumstances(user);

    let named = shell_of(&command);
    let named = named.as_ref().map(|shell| shell.info());
    let command = match hub.plugins.validate(command, user, &lab, named, circumstances).await {
        Ok(command) => command,
        Err(rejection) => {
            // What is wrong with a command tells something of the lab: only to those who may see it.
            if let Err(denial) = hub.plugins.authorize(user, Action::ViewLab(&lab), circumstances).await {
                return Err(refused(user, denial));
            }
            return Err(refused(user, rejection));
        }
    };

    // A deploy is judged by what it would build, which need not be what runs.
    let lab = if command.kind == CommandKind::Deploy { lab.to_deploy() } else { lab };
    // Looked up again: the validators may have put another shell in.
    let shell = shell_of(&command);
    let action = Action::Command(&command, &lab, shell.as_ref().map(|shell| shell.info()));
    hub.plugins.authorize(user, action, circumstances).await.map_err(|refusal| refused(user, refusal))?;

    let by = Some(user.id.clone());
    let id = &command.lab_id;
    let node =
        || command.node.clone().ok_or_else(|| WireError::new(INVALID, "node: this command needs the name of a node"));
    match command.kind {
        CommandKind::Deploy => {
            let deployed = hub.labs.deploy(id, by, Some(lab)).await;
            // The logs can be read by whoever hears the answer.
            hub.labs.publisher().heard().await;
            match deployed {
                Err(LabCommandError::NoRoom(no_room)) => {
                    return Err(WireError::new(GENERIC, worded(hub, user, &no_room).await));
                }
                deployed => deployed?,
            }
        }
        CommandKind::Destroy => hub.labs.destroy(id, by).await?,
        CommandKind::StopNode => hub.labs.node(id, node()?, NodeAction::Stop, by).await?,
        CommandKind::StartNode => hub.labs.node(id, node()?, NodeAction::Start, by).await?,
        CommandKind::RestartNode => hub.labs.node(id, node()?, NodeAction::Restart, by).await?,
        CommandKind::ListShells => {
            let open = hub.shells.list(id, &user.id);
            return Ok(open.iter().map(|shell| json!({"id": shell.id, "node": shell.node})).collect());
        }
        CommandKind::OpenShell => {
            let shell = hub.shells.open(&lab, &node()?, &user.id).await?;
            shells::ensure(hub, &shell);
            return Ok(json!(shell.info().id));
        }
        CommandKind::CloseShell => {
            let gone = || WireError::new(SHELL_NOT_FOUND, "there is no such shell, or it has been closed");
            let shell = shell.filter(|shell| shell.is_open()).ok_or_else(gone)?;
            shell.request_close("its owner closed it");
            shell.ended().await;
        }
    }
    Ok(Value::Null)
}

/// A refusal for lack of room, with what is in the way named as far as the user may see it.
async fn worded(hub: &Hub, user: &Identity, no_room: &NoRoom) -> String {
    let (user, mut seen) = (Arc::new(user.clone()), HashSet::new());
    for id in no_room.labs() {
        if let Some(lab) = hub.labs.get(id)
            && sight::allowed(hub, &user, &lab, Sight::Lab).await.is_ok()
        {
            seen.insert(id.clone());
        }
    }
    no_room.sentence(&seen)
}

/// A refusal by plugins as the user sees it. Operators find it in the log, faults as errors.
fn refused(user: &Identity, refusal: Refusal) -> WireError {
    match &refusal {
        Refusal::Failed { .. } => tracing::error!(user = %user.id, %refusal, "a command was refused"),
        _ => tracing::info!(user = %user.id, %refusal, "a command was refused"),
    }
    refusal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(json: &str) -> Result<Command, WireError> {
        read(&Argument::Json(serde_json::value::RawValue::from_string(json.into()).expect("test input is JSON")))
    }

    #[test]
    fn a_command_is_read_as_an_object_and_as_a_json_string() {
        let object = r#"{"labId":"l","command":6,"node":"r1"}"#;
        let expected =
            Command { kind: CommandKind::OpenShell, lab_id: "l".into(), node: Some("r1".into()), shell_id: None };
        assert_eq!(read_json(object), Ok(expected.clone()));
        assert_eq!(read_json(&serde_json::to_string(object).expect("a string")), Ok(expected));
    }

    #[test]
    fn malformed_commands_are_5422() {
        for json in [
            "null",
            "[]",
            "1",
            "{}",
            r#""no JSON""#,
            r#"{"command":0}"#,
            r#"["l",5]"#,
            r#"{"labId":"l"}"#,
            r#"{"labId":"l","command":8}"#,
            r#"{"labId":"l","command":-1}"#,
            r#"{"labId":"l","command":"0"}"#,
            r#"{"labId":"l","command":0.5}"#,
            r#"{"labId":1,"command":0}"#,
            r#"{"labId":"l","command":6,"node":1}"#,
        ] {
            let error = read_json(json).expect_err(json);
            assert_eq!(error.code, INVALID, "{json}: {}", error.message);
        }
    }

    #[test]
    fn empty_and_null_fields_count_as_absent() {
        let command = read_json(r#"{"labId":"l","command":5,"node":"","shellId":null}"#).expect("is valid");
        assert_eq!((command.node, command.shell_id), (None, None));
    }
}
