//! Commands that do one thing and end.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::CtlError;
use super::output::{Output, printable, table};
use super::session::Session;
use crate::client::Emitter;

/// What can be done to a node, with its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Stop = 2,
    Start = 3,
    Restart = 4,
}

/// Numbers of the other commands on the wire.
pub(super) const DEPLOY: u8 = 0;
pub(super) const DESTROY: u8 = 1;
pub(super) const SHELLS: u8 = 5;
pub(super) const OPEN_SHELL: u8 = 6;
pub(super) const CLOSE_SHELL: u8 = 7;

/// A lab to be created.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Topology file, as containerlab has it
    #[arg(value_name = "FILE")]
    topology: PathBuf,
    /// Name of the collection that it belongs to
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Name of the lab [default: that of the topology]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// When it starts by itself, such as 2026-12-01T08:00:00Z [default: it doesn't]
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// When it ends by itself [default: it doesn't]
    #[arg(long, value_name = "TIME")]
    end: Option<Timestamp>,
}

/// Text of a field; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The one lab that has this name or id.
pub(super) async fn find(session: &mut Session, lab: &str) -> Result<Value, CtlError> {
    let labs = session.get("/labs").await?;
    let mut found: Vec<&Value> = entries(&labs).iter().filter(|one| text(one, "id") == lab).collect();
    if found.is_empty() {
        found = entries(&labs).iter().filter(|one| text(one, "name") == lab).collect();
    }
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CtlError::NotOne(format!("there is no lab {lab}, or it isn't yours to see; `ctl labs` lists them"))),
        several => {
            let ids: Vec<_> = several.iter().map(|one| text(one, "id")).collect();
            Err(CtlError::NotOne(format!("several labs have the name {lab}; say which by its id: {}", ids.join(", "))))
        }
    }
}

/// What is in a list.
pub(super) fn entries(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// In which state a lab is, in a word.
fn state(lab: &Value) -> &'static str {
    match lab["instance"]["state"].as_i64() {
        Some(0) => "deploying",
        Some(1) => "running",
        Some(2) => "stopping",
        Some(3) => "failed",
        Some(_) => "?",
        None => match text(lab, "startTime").parse::<Timestamp>() {
            Ok(start) if start > Timestamp::now() => "scheduled",
            _ => "inactive",
        },
    }
}

pub(super) async fn list(session: &mut Session, search: Option<&str>, output: &Output) -> Result<(), CtlError> {
    let mut labs = session.get("/labs").await?;
    if let (Some(search), Some(labs)) = (search, labs.as_array_mut()) {
        labs.retain(|lab| text(lab, "name").to_lowercase().contains(&search.to_lowercase()));
    }
    output.answer(&labs, || {
        let row = |lab: &Value| {
            let nodes = entries(&lab["instance"]["nodes"]);
            let running = nodes.iter().filter(|node| node["state"] == "running").count();
            let nodes = if nodes.is_empty() { "-".to_owned() } else { format!("{running}/{}", nodes.len()) };
            let creator = printable(text(&lab["creator"], "name"));
            vec![printable(text(lab, "name")), state(lab).to_owned(), nodes, creator, text(lab, "id").to_owned()]
        };
        table(&["LAB", "STATE", "NODES", "CREATOR", "ID"], &entries(&labs).iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) async fn show(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let lab = find(session, lab).await?;
    output.answer(&lab, || {
        let mut lines = vec![format!("{} is {}", printable(text(&lab, "name")), state(&lab))];
        let times = [("starts", "startTime"), ("ends", "endTime")];
        lines.extend(
            times
                .iter()
                .filter(|(_, key)| lab[key].is_string())
                .map(|(what, key)| format!("  {what} {}", text(&lab, key))),
        );
        let row = |node: &Value| ["name", "kind", "state", "ipv4", "containerId"].map(|key| printable(text(node, key)));
        let rows: Vec<_> = entries(&lab["instance"]["nodes"]).iter().map(|node| row(node).to_vec()).collect();
        if !rows.is_empty() {
            lines.push(table(&["NODE", "KIND", "STATE", "ADDRESS", "CONTAINER"], &rows));
        }
        lines.join("\n")
    })
}

pub(super) async fn create(session: &mut Session, create: &Create, output: &Output) -> Result<(), CtlError> {
    let file = create.topology.display().to_string();
    let definition = std::fs::read_to_string(&create.topology).map_err(|error| CtlError::File(file, error))?;
    let collection = collection(session, &create.collection, output).await?;
    let topology = topology(session, &collection, &definition, output).await?;
    let name = create.name.clone().or_else(|| name_in(&definition)).unwrap_or_default();
    let start = create.start.unwrap_or_else(Timestamp::now);
    let body = json!({ "name": name, "topologyId": topology, "startTime": start, "endTime": create.end });
    let id = session.request(Method::POST, "/labs", Some(&body)).await?;
    output.answer(&json!({ "id": id, "name": name }), || id.as_str().unwrap_or_default().to_owned())
}

/// The name that a topology gives itself.
fn name_in(definition: &str) -> Option<String> {
    let topology: Value = serde_saphyr::from_str(definition).ok()?;
    Some(topology["name"].as_str()?.to_owned())
}

/// The id of the collection of that name, which is made where it isn't there.
async fn collection(session: &mut Session, name: &str, output: &Output) -> Result<String, CtlError> {
    let collections = session.get("/collections").await?;
    if let Some(found) = entries(&collections).iter().find(|one| text(one, "name") == name) {
        return Ok(text(found, "id").to_owned());
    }
    let body = json!({ "name": name, "publicWrite": false, "publicDeploy": false });
    let id = session.request(Method::POST, "/collections", Some(&body)).await?;
    output.note(&format!("made the collection {name}"));
    Ok(id.as_str().unwrap_or_default().to_owned())
}

/// The id of a topology with this definition: one that is there, one of that name that is changed to it, or a new one.
async fn topology(
    session: &mut Session,
    collection: &str,
    definition: &str,
    output: &Output,
) -> Result<String, CtlError> {
    let topologies = session.get("/topologies").await?;
    let name = name_in(definition);
    let mut there = entries(&topologies).iter().filter(|one| text(one, "collectionId") == collection);
    let same_name = |one: &&Value| name.is_some() && name_in(text(one, "definition")) == name;
    match there.find(same_name) {
        Some(found) if text(found, "definition") == definition => Ok(text(found, "id").to_owned()),
        Some(found) => {
            let id = text(found, "id");
            let body = json!({ "definition": definition });
            session.request(Method::PATCH, &format!("/topologies/{id}"), Some(&body)).await?;
            output.note(&format!("changed the topology {}", name.unwrap_or_default()));
            Ok(id.to_owned())
        }
        None => {
            let body = json!({ "collectionId": collection, "definition": definition, "syncUrl": "" });
            let id = session.request(Method::POST, "/topologies", Some(&body)).await?;
            output.note(&format!("made the topology {}", name.unwrap_or_default()));
            Ok(id.as_str().unwrap_or_default().to_owned())
        }
    }
}

/// Sends a command about a lab; `more` has the node or shell.
pub(super) async fn command(commands: &Emitter, lab: &str, command: u8, more: Value) -> Result<Value, CtlError> {
    let mut message = json!({ "labId": lab, "command": command });
    if let (Some(message), Value::Object(more)) = (message.as_object_mut(), more) {
        message.extend(more);
    }
    Ok(commands.call("data", message).await?)
}

/// Sends one command over a connection of its own; answers the lab and what was answered.
async fn send(session: &mut Session, lab: &str, number: u8, more: Value) -> Result<(Value, Value), CtlError> {
    let lab = find(session, lab).await?;
    let connection = session.connect().await?;
    let commands = session.join(&connection, "/lab-commands").await?;
    let answer = command(&commands, text(&lab, "id"), number, more).await?;
    Ok((lab, answer))
}

pub(super) async fn destroy(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let (lab, _) = send(session, lab, DESTROY, json!({})).await?;
    output.answer(&json!({ "destroyed": lab["id"] }), || format!("{} is destroyed", printable(text(&lab, "name"))))
}

pub(super) async fn delete(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let lab = find(session, lab).await?;
    session.request(Method::DELETE, &format!("/labs/{}", text(&lab, "id")), None).await?;
    output.answer(&json!({ "deleted": lab["id"] }), || format!("{} is deleted", printable(text(&lab, "name"))))
}

pub(super) async fn node(
    session: &mut Session,
    action: Action,
    lab: &str,
    node: &str,
    output: &Output,
) -> Result<(), CtlError> {
    let (lab, _) = send(session, lab, action as u8, json!({ "node": node })).await?;
    let done = match action {
        Action::Stop => "stopped",
        Action::Start => "started",
        Action::Restart => "restarted",
    };
    let answer = json!({ "labId": lab["id"], "node": node, "done": done });
    output.answer(&answer, || format!("{node} of {} has been {done}", printable(text(&lab, "name"))))
}

pub(super) async fn shells(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let (_, shells) = send(session, lab, SHELLS, json!({})).await?;
    output.answer(&shells, || {
        let row = |shell: &Value| vec![text(shell, "node").to_owned(), text(shell, "id").to_owned()];
        table(&["NODE", "ID"], &entries(&shells).iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) async fn close(session: &mut Session, lab: &str, shell: &str, output: &Output) -> Result<(), CtlError> {
    send(session, lab, CLOSE_SHELL, json!({ "shellId": shell })).await?;
    output.answer(&json!({ "closed": shell }), || "the shell is closed".to_owned())
}

/// How the server is.
pub(super) async fn status(session: &Session, output: &Output) -> Result<(), CtlError> {
    let status = session.readiness().await?;
    output.answer(&status, || {
        let ready = if status["ready"] == true { "the server is ready" } else { "the server is not ready" };
        let line = |check: &Value| {
            let verdict = if check["ok"] == true { "ok" } else { "not ok" };
            format!("  {:10} {verdict}: {}", text(check, "name"), printable(text(check, "detail")))
        };
        [ready.to_owned()].into_iter().chain(entries(&status["checks"]).iter().map(line)).collect::<Vec<_>>().join("\n")
    })
}
