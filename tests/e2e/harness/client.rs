//! A person with a client: one Socket.IO connection, the REST API, and shorthands for what tests do over and over.

use antimony_host::client::{AckError, Api, ConnectError, Connection, Event, Namespace};
use serde_json::{Value, json};

use super::{Server, within};

/// A user who is connected.
pub(crate) struct Client {
    url: String,
    pub(crate) api: Api,
    pub(crate) token: String,
    pub(crate) connection: Connection,
    pub(crate) commands: Namespace,
}

impl Client {
    pub(crate) async fn connect(server: &Server, token: &str) -> Self {
        Self::try_connect(&server.url, token).await.expect("join /lab-commands")
    }

    /// The same by the server's address alone, where the server may say no.
    pub(crate) async fn try_connect(url: &str, token: &str) -> Result<Self, ConnectError> {
        let connection = within("a connection", Connection::open(url)).await.expect("connect");
        let commands = within("/lab-commands", connection.connect_with_token("/lab-commands", token)).await?;
        Ok(Self {
            url: url.to_owned(),
            api: Api::anonymous(url).with_token(token),
            token: token.to_owned(),
            connection,
            commands,
        })
    }

    /// Joins a namespace that has to be there.
    pub(crate) async fn join(&self, path: &str) -> Namespace {
        self.try_join(path).await.unwrap_or_else(|error| panic!("join {path}: {error}"))
    }

    pub(crate) async fn try_join(&self, path: &str) -> Result<Namespace, ConnectError> {
        within(path, self.connection.connect_with_token(path, &self.token)).await
    }

    /// Joins a namespace as from another tab: over a connection of its own.
    pub(crate) async fn join_elsewhere(&self, path: &str) -> Namespace {
        let connection = Connection::open(&self.url).await.expect("connect");
        within(path, connection.connect_with_token(path, &self.token))
            .await
            .unwrap_or_else(|error| panic!("join {path}: {error}"))
    }

    /// Joins a namespace that an event has announced, or is about to.
    pub(crate) async fn join_once_there(&self, path: &str) -> Namespace {
        self.join_once_there_by(&self.connection, path).await
    }

    /// The same over a connection of its own.
    pub(crate) async fn join_once_there_elsewhere(&self, path: &str) -> Namespace {
        let connection = Connection::open(&self.url).await.expect("connect");
        self.join_once_there_by(&connection, path).await
    }

    async fn join_once_there_by(&self, connection: &Connection, path: &str) -> Namespace {
        within(path, async {
            loop {
                match connection.connect_with_token(path, &self.token).await {
                    Ok(namespace) => return namespace,
                    Err(ConnectError::Refused(message)) if message == "Invalid namespace" => {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                    Err(error) => panic!("join {path}: {error}"),
                }
            }
        })
        .await
    }

    /// Creates a lab in a collection of the same name as `collection`, which is created as well.
    pub(crate) async fn create_lab(&self, collection: &str, definition: &str) -> String {
        let collection = self.api.create_collection(collection, true, true).await.expect("create a collection");
        let topology = self.api.create_topology(&collection, definition).await.expect("create a topology");
        self.api.create_lab(&topology, "lab").await.expect("create a lab")
    }

    /// Sends a command and waits for its acknowledgement.
    pub(crate) async fn command(&self, lab: &str, command: u8, more: Value) -> Result<Value, AckError> {
        within("an acknowledgement", self.commands.call("data", command_message(lab, command, more))).await
    }

    /// Sends a command; the answer may be awaited later, or never.
    pub(crate) fn command_in_background(
        &self,
        lab: &str,
        command: u8,
        more: Value,
    ) -> tokio::task::JoinHandle<Result<Value, AckError>> {
        let commands = self.commands.emitter();
        let message = command_message(lab, command, more);
        tokio::spawn(async move { within("an acknowledgement", commands.call("data", message)).await })
    }

    pub(crate) async fn deploy(&self, lab: &str) -> Result<Value, AckError> {
        self.command(lab, 0, json!({})).await
    }

    pub(crate) async fn destroy(&self, lab: &str) -> Result<Value, AckError> {
        self.command(lab, 1, json!({})).await
    }

    /// Opens a shell; answers its id.
    pub(crate) async fn open_shell(&self, lab: &str, node: &str) -> String {
        let id = self.command(lab, 6, json!({ "node": node })).await.expect("open a shell");
        id.as_str().expect("a shell id is a string").to_owned()
    }

    /// State of a lab's instance on the wire; `None`: it has none.
    pub(crate) async fn state(&self, lab: &str) -> Option<i64> {
        self.api.lab(lab).await.expect("fetch the lab")["instance"]["state"].as_i64()
    }

    /// All that a lab has logged so far.
    pub(crate) async fn log(&self, lab: &str) -> Vec<String> {
        let mut log = self.join_elsewhere(&format!("/logs/{lab}")).await;
        let backlog = next(&mut log).await;
        assert_eq!(backlog.name, "backlog");
        lines_of(backlog.data())
    }
}

fn command_message(lab: &str, command: u8, more: Value) -> Value {
    let mut message = json!({ "labId": lab, "command": command });
    if let (Some(message), Value::Object(more)) = (message.as_object_mut(), more) {
        message.extend(more);
    }
    message
}

/// The error code of a command that was refused.
pub(crate) fn code_of(answer: Result<Value, AckError>) -> i64 {
    match answer {
        Err(AckError::Refused { code, message }) => {
            assert!(!message.trim().is_empty(), "error {code} comes without a sentence");
            code
        }
        other => panic!("an error was due, and this came: {other:?}"),
    }
}

/// The next event of a namespace, which has to come.
pub(crate) async fn next(namespace: &mut Namespace) -> Event {
    let path = namespace.path().to_owned();
    within(&format!("an event in {path}"), namespace.next_event()).await.unwrap_or_else(|| panic!("{path} ended"))
}

/// The next event whose data is as `matches` wants it; others before it are passed over.
pub(crate) async fn expect_data(namespace: &mut Namespace, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
    let mut passed = Vec::new();
    let found = tokio::time::timeout(super::PATIENCE, async {
        loop {
            let event = namespace.next_event().await?;
            if event.name == "data" && matches(event.data()) {
                return Some(event.data().clone());
            }
            passed.push(event);
        }
    })
    .await;
    match found {
        Ok(Some(data)) => data,
        outcome => panic!("{what}: not seen in {} ({outcome:?}); seen: {passed:#?}", namespace.path()),
    }
}

fn lines_of(data: &Value) -> Vec<String> {
    let lines = data.as_array().unwrap_or_else(|| panic!("a backlog is a list, not {data}"));
    lines.iter().map(|line| line.as_str().expect("a line is a string").to_owned()).collect()
}

/// Text that comes in pieces in a namespace with history: one `backlog`, then `data`.
pub(crate) struct Lines {
    namespace: Namespace,
    pub(crate) pieces: Vec<String>,
    had_backlog: bool,
}

impl Lines {
    pub(crate) fn of(namespace: Namespace) -> Self {
        Self { namespace, pieces: Vec::new(), had_backlog: false }
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Reads until the text, as a whole, has `wanted` in it. Fails when the order of events is not as promised.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let read = tokio::time::timeout(super::PATIENCE, async {
            loop {
                let text = self.text();
                if text.contains(wanted) {
                    return text;
                }
                assert!(self.read().await, "{} ended before {wanted:?}; so far: {text}", self.namespace.path());
            }
        });
        match read.await {
            Ok(text) => text,
            Err(_) => panic!("{wanted:?} did not come; so far: {}", self.text()),
        }
    }

    /// Everything so far, each piece behind a line feed if this is a log, where a piece is a line.
    pub(crate) fn text(&self) -> String {
        let separator = if self.namespace.path().starts_with("/logs/") { "\n" } else { "" };
        self.pieces.join(separator)
    }

    /// Takes one event; false: the namespace has ended.
    pub(crate) async fn read(&mut self) -> bool {
        let Some(event) = self.namespace.next_event().await else { return false };
        match event.name.as_str() {
            "backlog" => {
                assert!(!self.had_backlog, "a second backlog in {}", self.namespace.path());
                self.had_backlog = true;
                self.pieces.extend(lines_of(event.data()));
            }
            "data" => {
                assert!(self.had_backlog, "data before the backlog in {}", self.namespace.path());
                self.pieces.push(event.data().as_str().expect("a piece is a string").to_owned());
            }
            other => panic!("{other} is no event of {}", self.namespace.path()),
        }
        true
    }
}
