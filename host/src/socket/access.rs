//! Who may connect to a namespace. The texts of the refusals are part of the API: clients act on them.

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use tokio_util::sync::CancellationToken;

use super::Hub;
use crate::auth::Identity;
use crate::labs::model::{LabId, ShellId};
use crate::plugins::decision::{Action, Namespace, Refusal};

/// Who is on the other end of a socket, and until when their token says so.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) user: Arc<Identity>,
    pub(super) expires: Timestamp,
}

impl Session {
    /// Whether the token has expired.
    pub(super) fn is_over(&self) -> bool {
        self.expires <= Timestamp::now()
    }

    /// Ready when the token has expired.
    async fn expired(&self) {
        loop {
            let left = self.expires.duration_since(Timestamp::now());
            let Ok(left) = Duration::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// Where somebody wants to connect to.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// One of the global namespaces.
    Global(Namespace<'static>),
    /// The log of a lab.
    LabLog(LabId),
    /// A shell.
    Shell(ShellId),
}

/// Why somebody isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotAdmitted {
    /// No token came.
    Unauthorized,
    /// The token is not a valid access token of anybody.
    InvalidToken,
    /// The policy says no, or couldn't decide.
    NoAccess,
    /// What the namespace belonged to has just gone.
    InvalidNamespace,
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => "Unauthorized",
            Self::InvalidToken => "Invalid Token",
            Self::NoAccess => "No Access",
            Self::InvalidNamespace => "Invalid namespace",
        })
    }
}

/// Lets a socket in, or says why not. On success the socket carries its [`Session`].
async fn admit(hub: &Hub, socket: &SocketRef, auth: Value, door: &Door) -> Result<(), NotAdmitted> {
    let token = match auth.get("token") {
        None | Some(Value::Null) => return Err(NotAdmitted::Unauthorized),
        Some(Value::String(token)) if token.is_empty() => return Err(NotAdmitted::Unauthorized),
        Some(Value::String(token)) => token,
        Some(_) => return Err(NotAdmitted::InvalidToken),
    };
    let token = hub.auth.verify_access(token).map_err(|error| {
        tracing::debug!(namespace = socket.ns(), %error, "a token was refused");
        NotAdmitted::InvalidToken
    })?;
    let user = hub.plugins.identify(&token.claims).await.map_err(|refusal| {
        log_refusal(socket, &refusal);
        match refusal {
            Refusal::Failed { .. } => NotAdmitted::NoAccess,
            _ => NotAdmitted::InvalidToken,
        }
    })?;
    let (shell, lab);
    let namespace = match door {
        Door::Global(namespace) => *namespace,
        Door::LabLog(id) => {
            lab = hub.labs.get(id).ok_or(NotAdmitted::InvalidNamespace)?;
            Namespace::LabLog(&lab)
        }
        Door::Shell(id) => {
            shell = hub.shells.get(id).ok_or(NotAdmitted::InvalidNamespace)?;
            lab = hub.labs.get(&shell.info().lab_id).ok_or(NotAdmitted::InvalidNamespace)?;
            Namespace::Shell(shell.info(), &lab)
        }
    };
    let circumstances = hub.circumstances(&user);
    hub.plugins.authorize(&user, Action::Connect(namespace), circumstances).await.map_err(|refusal| {
        log_refusal(socket, &refusal);
        NotAdmitted::NoAccess
    })?;
    socket.extensions.insert(Session { user: Arc::new(user), expires: token.expires });
    Ok(())
}

fn log_refusal(socket: &SocketRef, refusal: &Refusal) {
    match refusal {
        Refusal::Failed { .. } => tracing::error!(namespace = socket.ns(), %refusal, "a connect was refused"),
        _ => tracing::info!(namespace = socket.ns(), %refusal, "a connect was refused"),
    }
}

/// A socket that was let in.
pub(super) struct Connected {
    pub(super) hub: Hub,
    pub(super) socket: SocketRef,
    pub(super) session: Session,
}

/// Registers a namespace: whoever `door` admits gets in, and `inside` is run for them until they go or their token
/// expires. `setup` is called first, before anything can happen on the socket, to say which events are taken.
pub(super) fn serve<F>(
    hub: &Hub,
    path: impl Into<Cow<'static, str>>,
    door: Door,
    setup: impl Fn(&Connected) + Clone + Send + Sync + 'static,
    inside: impl Fn(Connected) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let outside = hub.clone();
    let admit = move |socket: SocketRef, TryData(auth): TryData<Value>| {
        let (hub, door) = (outside.clone(), door.clone());
        async move { admit(&hub, &socket, auth.unwrap_or_default(), &door).await }
    };
    let inner = hub.clone();
    let connected = move |socket: SocketRef| {
        let (hub, setup, inside) = (inner.clone(), setup.clone(), inside.clone());
        async move {
            // Before the first await: a handler for the end that is set later can miss it.
            let gone = CancellationToken::new();
            let end = gone.clone();
            socket.on_disconnect(async move || end.cancel());
            // The middleware has put it there.
            let Some(session) = socket.extensions.get::<Session>() else { return };
            let connected = Connected { hub, socket: socket.clone(), session: session.clone() };
            setup(&connected);
            if !socket.connected() {
                return;
            }
            let mut guard = pin!(guard(&socket, &session, &gone));
            tokio::select! {
                () = &mut guard => return,
                () = inside(connected) => {}
            }
            guard.await;
        }
    };
    hub.io.ns(path, connected.with(admit));
}

/// Cuts a socket when its token expires. Returns when it has gone, whatever the reason.
async fn guard(socket: &SocketRef, session: &Session, gone: &CancellationToken) {
    tokio::select! {
        () = gone.cancelled() => {}
        () = session.expired() => {
            tracing::debug!(namespace = socket.ns(), user = %session.user.id, "a token has expired");
            // An error means that it has gone by itself.
            let _ = socket.clone().disconnect();
        }
    }
}
