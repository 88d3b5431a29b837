//! A namespace that has been joined: what a client says and hears there.
//!
//! Handles only; [`super::connection`] does the work.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::connection::Command;

/// Where the arguments of an acknowledgement go.
pub(super) type AckSender = oneshot::Sender<Result<Vec<Value>, AckError>>;

/// Why a namespace was not joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server said no; these are its words, to the letter.
    #[error("{0}")]
    Refused(String),
    /// This connection has joined that namespace already.
    #[error("this connection is in that namespace already")]
    InUse,
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
}

/// Why a call brought no payload.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AckError {
    /// The server's answer is an error.
    #[error("error {code}: {message}")]
    Refused {
        /// The documented error code.
        code: i64,
        /// The server's sentence.
        message: String,
    },
    /// The acknowledgement is neither a payload nor an error; this is what it is.
    #[error("the acknowledgement is neither a payload nor an error: {0}")]
    Malformed(Value),
    /// Namespace or connection ended before an answer came.
    #[error("the namespace or the connection was closed before an answer came")]
    Closed,
    /// No answer came in time. Whether it was done is unknown.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl AckError {
    /// The server's error code, where it gave one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Something that the server sent in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `data` or `backlog`.
    pub name: String,
    /// Its arguments.
    pub args: Vec<Value>,
}

impl Event {
    /// Its first argument; null where it has none.
    pub fn data(&self) -> &Value {
        self.args.first().unwrap_or(&Value::Null)
    }
}

/// The sending half of a namespace. Cheap to clone; works for as long as the [`Namespace`] that it came from is there.
#[derive(Debug, Clone)]
pub struct Emitter {
    path: String,
    commands: mpsc::Sender<Command>,
}

impl Emitter {
    /// Sends an event without asking for an acknowledgement.
    ///
    /// # Errors
    /// [`AckError::Closed`] when the connection is gone.
    pub async fn emit(&self, event: &str, value: impl Into<Value>) -> Result<(), AckError> {
        self.emit_args(event, vec![value.into()]).await
    }

    /// Like [`Self::emit`], with any number of arguments.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub async fn emit_args(&self, event: &str, args: Vec<Value>) -> Result<(), AckError> {
        self.send(event, args, None).await
    }

    /// Sends an event and waits, for as long as it takes, for its acknowledgement; answers the payload.
    ///
    /// # Errors
    /// [`AckError::Refused`] with the server's code and sentence, and the others as they are.
    pub async fn call(&self, event: &str, value: impl Into<Value>) -> Result<Value, AckError> {
        let acknowledged = self.call_args(event, vec![value.into()]).await?;
        read_acknowledgement(acknowledged)
    }

    /// Like [`Self::call`], but waits no longer than `limit`.
    ///
    /// # Errors
    /// As [`Self::call`], and [`AckError::TimedOut`].
    pub async fn call_within(&self, limit: Duration, event: &str, value: impl Into<Value>) -> Result<Value, AckError> {
        tokio::time::timeout(limit, self.call(event, value)).await.unwrap_or(Err(AckError::TimedOut(limit)))
    }

    /// Sends an event with any number of arguments; answers the acknowledgement's arguments just as they came.
    ///
    /// # Errors
    /// [`AckError::Closed`].
    pub async fn call_args(&self, event: &str, args: Vec<Value>) -> Result<Vec<Value>, AckError> {
        let (ack, answer) = oneshot::channel();
        self.send(event, args, Some(ack)).await?;
        answer.await.unwrap_or(Err(AckError::Closed))
    }

    /// Sends an event whose one argument is a binary attachment, and waits as [`Self::call`] does.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_binary(&self, event: &str, bytes: impl Into<Bytes>) -> Result<Value, AckError> {
        let (ack, answer) = oneshot::channel();
        let placeholder = json!({ "_placeholder": true, "num": 0 });
        self.send_with(event, vec![placeholder], vec![bytes.into()], Some(ack)).await?;
        read_acknowledgement(answer.await.unwrap_or(Err(AckError::Closed))?)
    }

    async fn send(&self, event: &str, args: Vec<Value>, ack: Option<AckSender>) -> Result<(), AckError> {
        self.send_with(event, args, Vec::new(), ack).await
    }

    async fn send_with(
        &self,
        event: &str,
        mut args: Vec<Value>,
        attachments: Vec<Bytes>,
        ack: Option<AckSender>,
    ) -> Result<(), AckError> {
        args.insert(0, event.into());
        let command = Command::Emit { namespace: self.path.clone(), args: Value::Array(args), attachments, ack };
        self.commands.send(command).await.map_err(|_| AckError::Closed)
    }
}

/// Antimony's acknowledgements are one argument: `{payload}` or `{code, message}`.
fn read_acknowledgement(args: Vec<Value>) -> Result<Value, AckError> {
    let malformed = || AckError::Malformed(Value::Array(args.clone()));
    let [Value::Object(answer)] = args.as_slice() else { return Err(malformed()) };
    match (answer.get("payload"), answer.get("code"), answer.get("message")) {
        (Some(payload), None, None) => Ok(payload.clone()),
        (None, Some(code), Some(Value::String(message))) => {
            let code = code.as_i64().ok_or_else(malformed)?;
            Err(AckError::Refused { code, message: message.clone() })
        }
        _ => Err(malformed()),
    }
}

/// A namespace that has been joined. Dropping it leaves the namespace.
#[derive(Debug)]
pub struct Namespace {
    emitter: Emitter,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Namespace {
    pub(super) fn new(path: &str, commands: mpsc::Sender<Command>, events: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { emitter: Emitter { path: path.to_owned(), commands }, events }
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.emitter.path
    }

    /// The next event, in the order in which the server sent them; `None` when the namespace or the connection has
    /// ended. May be dropped while it waits without losing an event.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A sending half for another task.
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }
}

impl std::ops::Deref for Namespace {
    type Target = Emitter;

    fn deref(&self) -> &Emitter {
        &self.emitter
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: when the connection is too busy to take it, the next event finds that nobody listens, and the
        // connection leaves by itself.
        let _ = self.emitter.commands.try_send(Command::Leave { namespace: self.emitter.path.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_a_payload_or_an_error_and_never_both() {
        assert_eq!(read_acknowledgement(vec![json!({"payload": null})]), Ok(Value::Null));
        assert_eq!(
            read_acknowledgement(vec![json!({"code": 5403, "message": "no"})]),
            Err(AckError::Refused { code: 5403, message: "no".to_owned() })
        );
        for odd in [json!({}), json!({"payload": 1, "code": 5000, "message": ""}), json!({"code": 5000}), json!("x")] {
            assert!(matches!(read_acknowledgement(vec![odd]), Err(AckError::Malformed(_))));
        }
        assert!(matches!(read_acknowledgement(vec![]), Err(AckError::Malformed(_))));
    }
}
