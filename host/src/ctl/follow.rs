//! What is shown as it comes: the log of a deploy, logs, status messages.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::labs::{self, text};
use super::output::{Output, printable};
use super::session::Session;
use super::{CtlError, checkpoints};
use crate::client::{Connection, Event, Namespace};

/// After how long without a line a log counts as read to its end.
const QUIET: Duration = Duration::from_millis(300);
/// How long to wait before a lost connection is made again.
const AGAIN: Duration = Duration::from_secs(1);

const SEVERITIES: [&str; 5] = ["success", "info", "warning", "error", "fatal"];

/// Deploys a lab, and shows what its log gets meanwhile.
pub(super) async fn deploy(session: &mut Session, lab: &str, output: &Output) -> Result<(), CtlError> {
    let lab = labs::find(session, lab).await?;
    let connection = session.connect().await?;
    let commands = session.join(&connection, "/lab-commands").await?;
    let deployed = labs::command(&commands, text(&lab, "id"), labs::DEPLOY, json!({}));
    with_log(session, &connection, &lab, deployed, output).await
}

/// Deploys a checkpoint of a lab, and shows the same.
pub(super) async fn restore(session: &mut Session, lab: &str, name: &str, output: &Output) -> Result<(), CtlError> {
    let (lab, path) = checkpoints::path_of(session, lab, name).await?;
    let connection = session.connect().await?;
    let (mut asking, path) = (session.clone(), format!("{path}/restore"));
    let restored = asking.request(Method::POST, &path, None);
    with_log(session, &connection, &lab, restored, output).await
}

/// Shows what the log of a lab gets while it is deployed, and says when it is up.
async fn with_log(
    session: &mut Session,
    connection: &Connection,
    lab: &Value,
    deployed: impl Future<Output = Result<Value, CtlError>>,
    output: &Output,
) -> Result<(), CtlError> {
    let (id, name) = (text(lab, "id"), printable(text(lab, "name")));
    let path = format!("/logs/{id}");
    let mut updates = session.join(connection, "/lab-updates").await?;
    let mut log = session.try_join(connection, &path).await?;
    if let Some(log) = &mut log {
        // What earlier deploys have left there is not of this one.
        log.next_event().await;
    }
    tokio::pin!(deployed);
    let outcome = loop {
        tokio::select! {
            biased;
            // The log is there once the lab has an instance, which an update announces.
            update = updates.next_event(), if log.is_none() => match update {
                Some(update) if update.data()["payload"]["labId"] == id => {
                    log = session.try_join(connection, &path).await?;
                }
                Some(_) => {}
                None => return Err(CtlError::Ended),
            },
            line = next_of(&mut log) => match line {
                Some(line) => show(&line, output)?,
                None => return Err(CtlError::Ended),
            },
            outcome = &mut deployed => break outcome,
        }
    };
    if log.is_none() {
        log = session.try_join(connection, &path).await?;
    }
    if let Some(log) = &mut log {
        read_to_the_end(log, output).await?;
    }
    outcome?;
    output.came(&json!({ "deployed": id }), || format!("{name} is up"))
}

async fn next_of(log: &mut Option<Namespace>) -> Option<Event> {
    match log {
        Some(log) => log.next_event().await,
        None => std::future::pending().await,
    }
}

/// The lines in an event of a log: one, or all that were there.
fn lines(event: &Event) -> Vec<&str> {
    match event.data() {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        line => line.as_str().into_iter().collect(),
    }
}

fn show(event: &Event, output: &Output) -> Result<(), CtlError> {
    lines(event).into_iter().try_for_each(|line| output.came(&json!({ "log": line }), || printable(line)))
}

async fn read_to_the_end(log: &mut Namespace, output: &Output) -> Result<(), CtlError> {
    while let Ok(Some(event)) = tokio::time::timeout(QUIET, log.next_event()).await {
        show(&event, output)?;
    }
    Ok(())
}

/// Shows the log of a lab or node, and goes on with it where that is wanted.
pub(super) async fn logs(
    session: &mut Session,
    lab: &str,
    node: Option<&str>,
    follow: bool,
    output: &Output,
) -> Result<(), CtlError> {
    let lab = labs::find(session, lab).await?;
    let id = text(&lab, "id");
    let path = node.map_or_else(|| format!("/logs/{id}"), |node| format!("/logs/{id}/{node}"));
    let mut shown = 0;
    let mut lost = false;
    loop {
        let log = async {
            let connection = session.connect().await?;
            session.join(&connection, &path).await
        };
        match log.await {
            Ok(mut log) => {
                if let Some(backlog) = log.next_event().await {
                    // After a loss, what was shown already comes first.
                    let all = lines(&backlog);
                    let new = if all.len() >= shown { &all[shown..] } else { &all[..] };
                    for line in new {
                        output.came(&json!({ "log": line }), || printable(line))?;
                    }
                    shown = all.len();
                }
                if !follow {
                    return Ok(());
                }
                while let Some(event) = log.next_event().await {
                    show(&event, output)?;
                    shown += lines(&event).len();
                }
                lost = true;
            }
            Err(error) if !lost || is_final(&error) => return Err(error),
            Err(_) => {}
        }
        output.note("the connection is lost; trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether trying again can't help.
fn is_final(error: &CtlError) -> bool {
    matches!(error, CtlError::LoggedOut(_) | CtlError::Join(..))
}

/// Shows status messages and updates of labs as they come, over losses of the connection too.
pub(super) async fn status(session: &mut Session, output: &Output) -> Result<(), CtlError> {
    let mut lost = false;
    loop {
        let joined = async {
            let connection = session.connect().await?;
            let statuses = session.join(&connection, "/status-messages").await?;
            Ok((statuses, session.join(&connection, "/lab-updates").await?))
        };
        match joined.await {
            Ok((mut statuses, mut updates)) => {
                loop {
                    tokio::select! {
                        status = statuses.next_event() => match status {
                            Some(status) => show_status(&status.data()["payload"], output)?,
                            None => break,
                        },
                        update = updates.next_event() => match update {
                            Some(update) => {
                                let lab = &update.data()["payload"]["labId"];
                                let words = || format!("update      lab {}", lab.as_str().unwrap_or("(any)"));
                                output.came(&json!({ "update": lab }), words)?;
                            }
                            None => break,
                        },
                    }
                }
                lost = true;
            }
            Err(error) if !lost || is_final(&error) => return Err(error),
            Err(_) => {}
        }
        output.note("the connection is lost; trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn show_status(status: &Value, output: &Output) -> Result<(), CtlError> {
    output.came(&json!({ "status": status }), || {
        let severity = status["severity"].as_u64().and_then(|number| SEVERITIES.get(usize::try_from(number).ok()?));
        let word = |key| printable(text(status, key));
        format!("{:11} {}  {}: {}", severity.unwrap_or(&"?"), word("timestamp"), word("source"), word("content"))
    })
}
