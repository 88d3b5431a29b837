//! The demo: a person's first minute with the server, done by a real client and told as it happens.
//!
//! [`narrate`] does it against a server that its caller has started, [`farewell`] says how to go on by oneself. It uses
//! the public API alone; the only thing that it is given beyond a login is a way to get a token for another user, for
//! which the command line has `antimony-host token`. Every step that fails ends it with a sentence.

mod voice;

use std::time::Duration;

use serde_json::{Value, json};

use self::voice::{Voice, printable};
use crate::client::{AckError, Api, ApiError, ConnectError, Connection, Emitter, Event, Namespace, OpenError};
use crate::config::ENV_PASSWORD;

/// The lab that is shown.
const TOPOLOGY: &str = include_str!("../../../examples/labs/two-routers.clab.yml");
const LAB: &str = "first-lab";
const COLLECTION: &str = "demo";
/// The member who tries what only creators may do.
const MEMBER: &str = "student";

/// How long anything may take before the demo gives up on it: a deploy on a slow, busy machine, twice over.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ids of commands on `/lab-commands`.
const DEPLOY: u8 = 0;
const DESTROY: u8 = 1;
const OPEN_SHELL: u8 = 6;
const CLOSE_SHELL: u8 = 7;

/// Why the demo didn't reach its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The REST API refused something.
    #[error("the demo could not {0}: {1}")]
    Api(&'static str, ApiError),
    /// There is no Socket.IO connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A namespace could not be joined.
    #[error("the demo could not join {0}: {1}")]
    Connect(String, ConnectError),
    /// A command brought an error.
    #[error("the demo could not {0}: {1}")]
    Command(&'static str, AckError),
    /// Something didn't come in time.
    #[error("the demo waited {secs} s for {0}, in vain", secs = PATIENCE.as_secs())]
    TimedOut(String),
    /// A namespace or the connection ended.
    #[error("the server ended the connection while the demo waited for {0}")]
    Ended(String),
    /// Something came that should not have.
    #[error("{0}")]
    Unexpected(String),
}

/// Does and tells the demo against the server at `base_url`.
///
/// `admin_login` is a name and a password for the native login; `issue_token` answers an access token for a user who is
/// no administrator, from an id and the names of their collections. What was made is left as it is: the lab runs.
///
/// # Errors
/// The first step that failed.
pub async fn narrate(
    base_url: &str,
    admin_login: (&str, &str),
    issue_token: &dyn Fn(&str, &[&str]) -> String,
) -> Result<(), DemoError> {
    let mut voice = Voice::new();

    voice.step("Logging in");
    let anonymous = Api::anonymous(base_url);
    let login = anonymous.log_in(admin_login.0, admin_login.1).await.map_err(|e| DemoError::Api("log in", e))?;
    let admin = anonymous.with_token(&login.access_token);
    let connection = Connection::open(base_url).await?;
    voice.fact(&format!("{} is logged in at {base_url}, by REST and by Socket.IO", admin_login.0));

    voice.step("Creating a lab from examples/labs/two-routers.clab.yml");
    let lab = create_lab(&admin, &mut voice).await?;

    voice.step("Deploying it");
    let commands = join(&connection, "/lab-commands", &login.access_token).await?;
    let mut updates = join(&connection, "/lab-updates", &login.access_token).await?;
    let mut statuses = join(&connection, "/status-messages", &login.access_token).await?;
    deploy(&connection, &login.access_token, &commands, &mut updates, &lab, &mut voice).await?;
    show_nodes(&admin, &lab, &mut voice).await?;

    voice.step("Opening a shell in r1 and sending traffic across the link to r2");
    use_shell(&connection, &login.access_token, &commands, &lab, &mut voice).await?;

    voice.step("Another member of the collection tries to destroy the lab");
    let member_token = issue_token(MEMBER, &[COLLECTION]);
    refused_destroy(base_url, &member_token, &lab, &mut voice).await?;
    show_nodes(&admin, &lab, &mut voice).await?;

    voice.step("What /status-messages said meanwhile");
    let mut said = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(300), statuses.next_event()).await {
        let status = &event.data()["payload"];
        let text = |key: &str| printable(status[key].as_str().unwrap_or_default());
        let severity = ["success", "info", "warning", "error", "fatal"];
        let severity = status["severity"].as_u64().and_then(|s| severity.get(usize::try_from(s).ok()?));
        voice.quote(severity.unwrap_or(&"?"), &format!("{}: {}", text("source"), text("content")));
        said += 1;
    }
    if said == 0 {
        return Err(DemoError::Unexpected("the server sent no status message about any of this".to_owned()));
    }
    Ok(())
}

/// Says where the server is and how to use it, once the demo is through.
///
/// Without a password, the one in the environment is referred to by the name of its variable.
pub fn farewell(base_url: &str, username: &str, password: Option<&str>) {
    let mut voice = Voice::new();
    voice.step("Your turn");
    voice.fact(&format!("the server stays up at {base_url} until Ctrl-C; the lab above is running"));
    let login = match password {
        Some(password) => format!("as {username} with password {password}"),
        None => format!("as {username} with the password in {ENV_PASSWORD}"),
    };
    voice.fact(&format!("open {base_url} in a browser and log in {login}"));
    voice.text("\nWith npm's socket.io-client installed, in a file with the ending .mjs:\n");
    voice.text(&snippet(base_url, username, password));
}

/// Five lines of JavaScript that log in and follow what the server does.
pub fn snippet(base_url: &str, username: &str, password: Option<&str>) -> String {
    let username = Value::from(username);
    let password = password.map_or_else(|| format!("process.env.{ENV_PASSWORD}"), |text| Value::from(text).to_string());
    format!(
        r#"import {{ io }} from "socket.io-client";
const body = JSON.stringify({{ username: {username}, password: {password} }}), headers = {{ "Content-Type": "application/json" }};
const cookies = (await fetch("{base_url}/users/login/native", {{ method: "POST", headers, body }})).headers.getSetCookie();
const token = cookies.find((cookie) => cookie.startsWith("accessToken=")).split(/[=;]/)[1];
io("{base_url}/status-messages", {{ auth: {{ token }}, transports: ["websocket"] }}).on("data", console.log);
"#,
    )
}

async fn create_lab(admin: &Api, voice: &mut Voice) -> Result<String, DemoError> {
    let create = |what| move |error| DemoError::Api(what, error);
    let collection = admin.create_collection(COLLECTION, false, true).await.map_err(create("create a collection"))?;
    voice.fact(&format!("collection {COLLECTION}, {collection}"));
    let topology = admin.create_topology(&collection, TOPOLOGY).await.map_err(create("create a topology"))?;
    voice.fact(&format!("topology two-routers, {topology}"));
    let lab = admin.create_lab(&topology, LAB).await.map_err(create("create a lab"))?;
    voice.fact(&format!("lab {LAB}, {lab}"));
    Ok(lab)
}

async fn join(connection: &Connection, path: &str, token: &str) -> Result<Namespace, DemoError> {
    within("an answer to joining a namespace", connection.connect_with_token(path, token))
        .await?
        .map_err(|error| DemoError::Connect(path.to_owned(), error))
}

/// Sends a command about the lab; `node` and `shellId` are given in `more`.
async fn command(
    commands: &Emitter,
    what: &'static str,
    lab: &str,
    command: u8,
    more: Value,
) -> Result<Value, DemoError> {
    let mut message = json!({ "labId": lab, "command": command });
    if let (Some(message), Value::Object(more)) = (message.as_object_mut(), more) {
        message.extend(more);
    }
    commands.call_within(PATIENCE, "data", message).await.map_err(|error| DemoError::Command(what, error))
}

async fn deploy(
    connection: &Connection,
    token: &str,
    commands: &Namespace,
    updates: &mut Namespace,
    lab: &str,
    voice: &mut Voice,
) -> Result<(), DemoError> {
    let emitter = commands.emitter();
    let lab_id = lab.to_owned();
    let mut deployed =
        tokio::spawn(async move { command(&emitter, "deploy the lab", &lab_id, DEPLOY, json!({})).await });

    // The log's namespace is there once the lab has an instance, which an update announces.
    let log_path = format!("/logs/{lab}");
    let mut acknowledged = false;
    let mut log = loop {
        tokio::select! {
            update = next(updates, "an update about the lab") => {
                if update?.data()["payload"]["labId"] != lab {
                    continue;
                }
                match connection.connect_with_token(&log_path, token).await {
                    Ok(log) => break log,
                    Err(ConnectError::Refused(message)) if message == "Invalid namespace" => {}
                    Err(error) => return Err(DemoError::Connect(log_path, error)),
                }
            }
            outcome = &mut deployed => {
                flatten(outcome)?;
                acknowledged = true;
                // It was faster than the update; the backlog has it all.
                break join(connection, &log_path, token).await?;
            }
        }
    };
    voice.fact(&format!("the deploy is under way; this is {log_path}, as it is written:"));
    let show = |voice: &mut Voice, event: &Event| match event.data() {
        Value::Array(lines) => lines.iter().for_each(|line| voice.quote("log", &shown(line))),
        line => voice.quote("log", &shown(line)),
    };
    while !acknowledged {
        tokio::select! {
            biased;
            event = next(&mut log, "the log") => show(voice, &event?),
            outcome = &mut deployed => {
                flatten(outcome)?;
                acknowledged = true;
            }
        }
    }
    // The last lines may be on their way still.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(300), log.next_event()).await {
        show(voice, &event);
    }
    voice.fact("the deploy was acknowledged: the lab is up");
    Ok(())
}

fn shown(line: &Value) -> String {
    line.as_str().map_or_else(|| line.to_string(), printable)
}

async fn show_nodes(api: &Api, lab: &str, voice: &mut Voice) -> Result<(), DemoError> {
    let lab = api.lab(lab).await.map_err(|error| DemoError::Api("fetch the lab", error))?;
    let nodes = lab["instance"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let running = nodes.iter().filter(|node| node["state"] == "running").count();
    for node in nodes {
        let text = |key: &str| node[key].as_str().unwrap_or("?").to_owned();
        let (name, kind, state, container) = (text("name"), text("kind"), text("state"), text("containerName"));
        voice.fact(&format!("node {name} of kind {kind} is {state} in container {container}"));
    }
    if running != 2 {
        return Err(DemoError::Unexpected(format!("two running nodes were due, and {running} are there: {lab}")));
    }
    Ok(())
}

async fn use_shell(
    connection: &Connection,
    token: &str,
    commands: &Emitter,
    lab: &str,
    voice: &mut Voice,
) -> Result<(), DemoError> {
    let shell = command(commands, "open a shell", lab, OPEN_SHELL, json!({ "node": "r1" })).await?;
    let shell = shell.as_str().ok_or_else(|| DemoError::Unexpected(format!("{shell} is no shell id")))?.to_owned();
    let mut terminal = join(connection, &format!("/shells/{shell}"), token).await?;
    voice.fact(&format!("shell {shell}; this is its terminal:"));
    let mut seen = String::new();
    let mut typed = false;
    let status = loop {
        // Typed once the shell has shown its prompt, as a person would. A shell without a prompt gets it all the same.
        let patience = if typed { PATIENCE } else { Duration::from_secs(3) };
        match tokio::time::timeout(patience, terminal.next_event()).await {
            Ok(None) => return Err(DemoError::Ended("the shell's answer".to_owned())),
            Err(_) if typed => return Err(DemoError::TimedOut("the shell's answer".to_owned())),
            Err(_) => {}
            Ok(Some(event)) => {
                let output = match event.data() {
                    Value::Array(pieces) => pieces.iter().filter_map(Value::as_str).collect(),
                    piece => piece.as_str().unwrap_or_default().to_owned(),
                };
                voice.terminal("r1", &output);
                seen.push_str(&printable(&output));
                if let Some(status) = exit_status(&seen) {
                    break status;
                }
                if output.is_empty() {
                    continue;
                }
            }
        }
        if !std::mem::replace(&mut typed, true) {
            let line = "ping -c 3 10.0.0.2; echo \"ping's exit status: $?\"\r";
            terminal.emit("data", line).await.map_err(|error| DemoError::Command("type into the shell", error))?;
        }
    };
    if status != 0 {
        return Err(DemoError::Unexpected(format!("r2 did not answer r1: ping ended with status {status}")));
    }
    voice.fact("r2 answered over the link");
    command(commands, "close the shell", lab, CLOSE_SHELL, json!({ "shellId": shell })).await?;
    voice.fact("the shell is closed");
    Ok(())
}

/// The number behind the last `exit status: `. What was typed says `$?` in its place.
fn exit_status(seen: &str) -> Option<u8> {
    let (_, after) = seen.rsplit_once("exit status: ")?;
    // A line end has to follow, or more digits might.
    after.split_once('\n')?.0.parse().ok()
}

async fn refused_destroy(base_url: &str, token: &str, lab: &str, voice: &mut Voice) -> Result<(), DemoError> {
    let connection = Connection::open(base_url).await?;
    let commands = join(&connection, "/lab-commands", token).await?;
    voice.fact(&format!("{MEMBER} belongs to collection {COLLECTION}, and sends the command to destroy {LAB}"));
    match command(&commands, "destroy the lab", lab, DESTROY, json!({})).await {
        Err(DemoError::Command(_, AckError::Refused { code: 5403, message })) => {
            // The sentence names the plugin that refused it, and its rule.
            voice.fact(&format!("refused, error 5403: {message}"));
            Ok(())
        }
        Err(other) => Err(other),
        Ok(_) => Err(DemoError::Unexpected(format!("{MEMBER} could destroy a lab of somebody else"))),
    }
}

async fn next(namespace: &mut Namespace, what: &str) -> Result<Event, DemoError> {
    within(what, namespace.next_event()).await?.ok_or_else(|| DemoError::Ended(what.to_owned()))
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, DemoError> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| DemoError::TimedOut(what.to_owned()))
}

fn flatten(outcome: Result<Result<Value, DemoError>, tokio::task::JoinError>) -> Result<(), DemoError> {
    match outcome {
        Ok(answer) => answer.map(drop),
        Err(error) => Err(DemoError::Unexpected(format!("the deploy command was dropped: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_of_the_typed_command_is_not_taken_for_its_result() {
        let echo = "# ping -c 3 10.0.0.2; echo \"ping's exit status: $?\"\n";
        assert_eq!(exit_status(echo), None);
        assert_eq!(exit_status(&format!("{echo}3 packets\nping's exit status: 12")), None);
        assert_eq!(exit_status(&format!("{echo}3 packets\nping's exit status: 12\n# ")), Some(12));
    }

    #[test]
    fn the_snippet_has_five_lines() {
        assert_eq!(snippet("http://127.0.0.1:3000", "admin", Some("admin")).lines().count(), 5);
        let own = snippet("http://127.0.0.1:3000", "me", None);
        assert!(own.contains("password: process.env.SB_NATIVE_PASSWORD"), "{own}");
    }
}
