//! Saving labs, and their checkpoints.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::labs::{entries, find, text};
use super::output::{Output, printable, table};
use super::session::Session;
use super::{CtlError, Lab};

/// What can be done to checkpoints.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a checkpoint: of a lab that runs, with what its nodes have made
    Create(Named),
    /// List the checkpoints of a lab
    List(Lab),
    /// Remove a checkpoint
    Remove(Named),
}

/// Which checkpoint of which lab.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    #[command(flatten)]
    pub(super) lab: Lab,
    /// Name or id of a checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub(super) name: String,
}

pub(super) async fn save(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let lab = find(session, lab).await?;
    let saved = session.request(Method::POST, &format!("/labs/{}/save", text(&lab, "id")), None).await?;
    output.answer(&saved, || {
        let row = |node: &Value| {
            let saved = if node["saved"] == true { "yes" } else { "no" };
            vec![printable(text(node, "node")), saved.to_owned(), printable(text(node, "detail"))]
        };
        table(&["NODE", "SAVED", "DETAIL"], &entries(&saved["nodes"]).iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) async fn run(session: &mut Session, command: &Command, output: &Output) -> Result<(), CtlError> {
    match command {
        Command::Create(Named { lab, name }) => create(session, &lab.lab, name, output).await,
        Command::List(lab) => list(session, &lab.lab, output).await,
        Command::Remove(Named { lab, name }) => remove(session, &lab.lab, name, output).await,
    }
}

async fn create(session: &mut Session, lab: &str, name: &str, output: &Output) -> Result<(), CtlError> {
    let lab = find(session, lab).await?;
    let body = json!({ "name": name });
    let made = session.request(Method::POST, &place(&lab), Some(&body)).await?;
    output.answer(&made, || {
        let count = if made["files"] == 1 { "1 file".to_owned() } else { format!("{} files", made["files"]) };
        format!("made {} with {count}, {} bytes", printable(text(&made, "name")), made["bytes"])
    })
}

async fn list(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let lab = find(session, lab).await?;
    let checkpoints = session.get(&place(&lab)).await?;
    output.answer(&checkpoints, || {
        let row = |one: &Value| {
            let creator = printable(text(&one["creator"], "name"));
            let name = printable(text(one, "name"));
            vec![name, text(one, "createdAt").to_owned(), creator, one["files"].to_string(), one["bytes"].to_string()]
        };
        let rows: Vec<_> = entries(&checkpoints).iter().map(row).collect();
        table(&["CHECKPOINT", "MADE", "BY", "FILES", "BYTES"], &rows)
    })
}

async fn remove(session: &mut Session, lab: &str, name: &str, output: &Output) -> Result<(), CtlError> {
    let (_, path) = path_of(session, lab, name).await?;
    session.request(Method::DELETE, &path, None).await?;
    output.answer(&json!({ "removed": name }), || format!("{} is removed", printable(name)))
}

/// A lab, and where a checkpoint of it is in the API.
pub(super) async fn path_of(session: &mut Session, lab: &str, name: &str) -> Result<(Value, String), CtlError> {
    let lab = find(session, lab).await?;
    let checkpoints = session.get(&place(&lab)).await?;
    let found = entries(&checkpoints).iter().find(|one| text(one, "name") == name || text(one, "id") == name);
    let Some(found) = found else {
        let reason = format!("{} has no checkpoint {name}; `ctl checkpoint list` lists them", text(&lab, "name"));
        return Err(CtlError::NotOne(reason));
    };
    let path = format!("{}/{}", place(&lab), text(found, "id"));
    Ok((lab, path))
}

fn place(lab: &Value) -> String {
    format!("/labs/{}/checkpoints", text(lab, "id"))
}
