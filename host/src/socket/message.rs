//! Reading what a client sent, whatever it is, and answering it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use socketioxide_core::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::access::{self, Connected};
use super::error::{INVALID, WireError};
use super::peer::Peer;
use super::transport::EventInProgress;

/// How long a client's queue may stay full before the client counts as one that doesn't read.
const FULL_LIMIT: Duration = Duration::from_secs(5);

/// Such answers as wait for nothing but room that may wait for one socket.
const WAITING_ANSWERS: usize = 1024;

/// An event as it came: the library's own extractors drop what they can't decode, and with it the acknowledgement.
pub(super) struct Message {
    /// The first argument, if there is one.
    pub(super) argument: Option<Argument>,
    /// Where the answer goes.
    pub(super) ack: Ack,
}

/// The first argument of an event.
pub(super) enum Argument {
    /// JSON.
    Json(Box<RawValue>),
    /// A binary attachment.
    Binary(Bytes),
}

impl FromMessageParts<LocalAdapter> for Message {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        value: &mut Value,
        ack_id: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let argument = match value {
            Value::Str(text, attachments) => first_argument(text, attachments.as_ref().and_then(|all| all.front())),
            Value::Bytes(bytes) => Some(Argument::Binary(bytes.clone())),
        };
        let in_progress = access::begin_event(socket);
        Ok(Self { argument, ack: Ack { peer: Peer::of(socket), id: *ack_id, _in_progress: in_progress } })
    }
}

/// The first argument in `["event", argument, …]`.
fn first_argument(text: &str, attachment: Option<&Bytes>) -> Option<Argument> {
    let parts: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let argument = *parts.get(1)?;
    #[derive(serde::Deserialize)]
    struct Placeholder {
        _placeholder: bool,
        num: u32,
    }
    match (attachment, serde_json::from_str::<Placeholder>(argument.get())) {
        (Some(bytes), Ok(Placeholder { _placeholder: true, num: 0 })) => Some(Argument::Binary(bytes.clone())),
        _ => Some(Argument::Json(argument.to_owned())),
    }
}

/// Where the answer to an event goes; nowhere, if the client didn't ask for one.
pub(super) struct Ack {
    peer: Peer,
    id: Option<i64>,
    /// Counts the event until it has been answered.
    _in_progress: Option<EventInProgress>,
}

/// `{payload: …}`
#[derive(Serialize)]
struct Payload<'a, T> {
    payload: &'a T,
}

impl Ack {
    /// Answers `{payload: …}` or `{code, message}`, as soon as the client's queue has room. A client that makes none
    /// loses its transport: it would wait for this answer for ever.
    pub(super) async fn answer<T: Serialize>(&self, result: &Result<T, WireError>) {
        let attempt = || match result {
            Ok(payload) => self.send(&Payload { payload }),
            Err(error) => self.send(error),
        };
        if let Err(error) = until_not_full(attempt).await {
            self.undeliverable(error);
        }
    }

    fn undeliverable(&self, why: Undeliverable) {
        if why != Undeliverable::Gone
            && let Some(socket) = self.peer.socket()
        {
            tracing::info!(socket = %socket.id, namespace = socket.ns(), ?why, "a client is cut");
            access::kill(&socket);
        }
    }

    fn send<T: Serialize>(&self, data: &T) -> Result<(), SendError> {
        // The library's sender is used up by an attempt that finds the queue full; a new one is made for each attempt.
        let socket = self.peer.shared().ok_or(SendError::Socket(SocketError::Closed))?;
        let Ok(sender) = AckSender::from_message_parts(&socket, &mut Value::Bytes(Bytes::new()), &self.id);
        sender.send(data)
    }
}

/// Why something couldn't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undeliverable {
    /// The client has gone.
    Gone,
    /// The client doesn't read.
    Stuck,
    /// It can't be written as JSON.
    Unwritable,
}

/// Tries to send until the client's queue has room, a few seconds at most.
pub(super) async fn until_not_full(attempt: impl Fn() -> Result<(), SendError>) -> Result<(), Undeliverable> {
    let mut pause = Duration::from_millis(1);
    let mut full_since = None;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(SendError::Socket(SocketError::Closed)) => return Err(Undeliverable::Gone),
            Err(SendError::Serialize(_)) => return Err(Undeliverable::Unwritable),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => {}
        }
        if full_since.get_or_insert_with(Instant::now).elapsed() > FULL_LIMIT {
            return Err(Undeliverable::Stuck);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Emits an event to one socket, waiting for room in its queue.
pub(super) async fn emit<T: ?Sized + Serialize>(
    peer: &Peer,
    event: &'static str,
    data: &T,
) -> Result<(), Undeliverable> {
    let closed = || SendError::Socket(SocketError::Closed);
    until_not_full(|| peer.socket().ok_or_else(closed)?.emit(event, data)).await
}

/// Emits an event to one socket if there is room in its queue; whether that worked.
pub(super) fn emit_now<T: ?Sized + Serialize>(peer: &Peer, event: &'static str, data: &T) -> bool {
    peer.socket().is_some_and(|socket| socket.emit(event, data).is_ok())
}

/// Answers events of one socket that were dealt with at once. So many answers may wait for room in the client's queue and
/// no more: a client for whom more would wait sends and doesn't read, and loses its transport.
#[derive(Clone)]
pub(super) struct Answers(Arc<Semaphore>);

impl Answers {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_ANSWERS)))
    }

    /// Answers one. To be awaited at once, and with nothing of the event kept.
    pub(super) async fn give(&self, ack: Ack, result: Result<(), WireError>) {
        match self.0.try_acquire() {
            Ok(_place) => ack.answer(&result).await,
            Err(_) => ack.undeliverable(Undeliverable::Stuck),
        }
    }
}

/// Answers every event that a namespace doesn't take with 5422, and does nothing else with it.
pub(super) fn refuse_input(socket: &SocketRef, _: &Connected) {
    let answers = Answers::new();
    socket.on_fallback(move |Message { ack, .. }: Message| {
        let answers = answers.clone();
        let error = WireError::new(INVALID, "this namespace takes no such event from clients");
        async move { answers.give(ack, Err(error)).await }
    });
}
