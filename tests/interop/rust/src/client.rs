//! `rust_socketio` as a person uses it: this client has one connection for each namespace.

use std::time::Duration;

use futures_util::FutureExt;
use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Event, Payload, TransportType};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Somebody with a token.
pub struct Person {
    url: String,
    token: String,
    mode: String,
}

/// A namespace that has been joined.
pub struct Namespace {
    path: String,
    client: Client,
    events: mpsc::UnboundedReceiver<(String, Value)>,
    /// What a namespace with history has brought so far; `None` before its backlog.
    text: Option<String>,
}

impl Person {
    pub fn new(url: &str, token: &str, mode: &str) -> Self {
        Self { url: url.to_owned(), token: token.to_owned(), mode: mode.to_owned() }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn join(&self, path: &str) -> Namespace {
        let joined = self.try_join(path, json!({ "token": self.token })).await;
        joined.unwrap_or_else(|words| panic!("join {path}: {words}"))
    }

    /// Joins a namespace, or answers the server's words to somebody who is not let in.
    pub async fn try_join(&self, path: &str, auth: Value) -> Result<Namespace, String> {
        let (sender, events) = mpsc::unbounded_channel();
        let (outcome, mut outcomes) = mpsc::unbounded_channel();
        let refused = outcome.clone();
        let client = ClientBuilder::new(self.url.as_str())
            .namespace(path)
            .auth(auth)
            .transport_type(match self.mode.as_str() {
                "websocket" => TransportType::Websocket,
                "polling" => TransportType::Polling,
                // Fails where `Any` would go on without the change.
                "upgrade" => TransportType::WebsocketUpgrade,
                other => panic!("{other} is no mode"),
            })
            .reconnect(false)
            .reconnect_on_disconnect(false)
            .on(Event::Connect, move |_, _| {
                let _ = outcome.send(Ok(()));
                async {}.boxed()
            })
            .on(Event::Error, move |payload, _| {
                let _ = refused.send(Err(first(payload)));
                async {}.boxed()
            })
            .on_any(move |event, payload, _| {
                let _ = sender.send((event.as_str().to_owned(), first(payload)));
                async {}.boxed()
            })
            .connect();
        let client = within(path, client).await.unwrap_or_else(|error| panic!("connect for {path}: {error}"));
        match within(path, outcomes.recv()).await.expect("the client holds the other end") {
            Ok(()) => Ok(Namespace { path: path.to_owned(), client, events, text: None }),
            Err(error) => {
                let _ = client.disconnect().await;
                // It hands out the packet as text.
                let error = error.as_str().unwrap_or_else(|| panic!("{error}")).to_owned();
                let packet =
                    error.strip_prefix("Received an ConnectError frame: ").unwrap_or_else(|| panic!("{error}"));
                let packet: Value = serde_json::from_str(packet).unwrap_or_else(|_| panic!("{error}"));
                Err(packet["message"].as_str().unwrap_or_else(|| panic!("{error}")).to_owned())
            }
        }
    }
}

/// The only argument that any of our events has.
fn first(payload: Payload) -> Value {
    match payload {
        Payload::Text(mut values) if values.len() == 1 => values.remove(0),
        other => panic!("one argument is due, and this came: {other:?}"),
    }
}

impl Namespace {
    /// The next event, which has to come.
    pub async fn next(&mut self) -> (String, Value) {
        within(&format!("an event in {}", self.path), self.events.recv())
            .await
            .unwrap_or_else(|| panic!("{} ended", self.path))
    }

    pub async fn emit(&self, argument: Value) {
        // Not `Value::into`: that takes a list for several arguments, and a text for JSON.
        self.client.emit("data", Payload::Text(vec![argument])).await.expect("emit");
    }

    pub async fn emit_bytes(&self, bytes: &'static [u8]) {
        self.client.emit("data", Payload::Binary(bytes.into())).await.expect("emit");
    }

    /// Sends an event; answers the only argument of its acknowledgement.
    pub async fn call(&self, argument: Value) -> Value {
        let (sender, answer) = oneshot::channel();
        let mut sender = Some(sender);
        let acknowledged = move |payload, _: Client| {
            if let Some(sender) = sender.take() {
                let _ = sender.send(payload);
            }
            async {}.boxed()
        };
        let arguments = Payload::Text(vec![argument]);
        self.client.emit_with_ack("data", arguments, LIMIT, acknowledged).await.expect("emit");
        let Payload::Text(values) = within("an acknowledgement", answer).await.expect("the client holds the other end")
        else {
            panic!("an acknowledgement with bytes");
        };
        // It hands out the list of arguments as if that were the first of them.
        match &values[..] {
            [Value::Array(arguments)] if arguments.len() == 1 => arguments[0].clone(),
            other => panic!("one argument is due, and this came: {other:?}"),
        }
    }

    /// Reads a namespace with history until its text has `wanted` in it: one backlog, then data.
    pub async fn until(&mut self, wanted: &str) {
        while !self.text.as_ref().is_some_and(|text| text.contains(wanted)) {
            let event = self.next().await;
            match (&mut self.text, event.0.as_str(), event.1) {
                (text @ None, "backlog", Value::Array(pieces)) => {
                    *text = Some(pieces.iter().map(|piece| piece.as_str().expect("a text")).collect());
                }
                (Some(text), "data", Value::String(piece)) => text.push_str(&piece),
                (_, name, argument) => panic!("{name} {argument} is out of order in {}", self.path),
            }
        }
    }

    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}
