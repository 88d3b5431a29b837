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
use socketioxide::socket::Socket;
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::peer::{self, Peer};
use super::transport::{self, EventInProgress, Transport};
use crate::auth::Identity;
use crate::labs::model::{LabId, ShellId};
use crate::plugins::decision::{Action, Namespace, Refusal};

/// Who is on the other end of a socket, and until when their token says so. In the extensions of every socket that was
/// let in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) user: Arc<Identity>,
    pub(super) expires: Timestamp,
    /// What carries the socket, and all other namespaces of this client.
    pub(super) transport: Arc<Transport>,
    /// Cancelled when the socket has left the namespace.
    gone: CancellationToken,
}

/// Ends the transport of a socket. What was queued for the client is lost; it comes back with a token that is valid.
pub(super) fn kill(socket: &Socket) {
    if let Some(session) = socket.extensions.get::<Session>() {
        session.transport.kill();
    }
}

/// What carries a socket, alone: every event asks for it.
#[derive(Clone)]
struct Carrier(Arc<Transport>);

/// Counts an event of a socket, for as long as the answer is kept.
pub(super) fn begin_event(socket: &Socket) -> Option<EventInProgress> {
    socket.extensions.get::<Carrier>().map(|Carrier(transport)| transport.begin_event())
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

/// Lets a socket in, or says why not.
async fn admit(hub: &Hub, socket: &SocketRef, auth: Value, door: &Door) -> Result<Session, NotAdmitted> {
    let transport = hub.transports.of(&socket.id.to_string());
    if let Some(connection) = transport::web_socket_of(socket.req_parts()) {
        transport.carried_by(connection);
    }
    if hub.stop.is_cancelled() {
        // Told no, a client would not come back to the next server; this it takes for the network's fault.
        transport.kill();
        return Err(NotAdmitted::NoAccess);
    }
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
    Ok(Session { user: Arc::new(user), expires: token.expires, transport, gone: CancellationToken::new() })
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
    pub(super) peer: Peer,
    pub(super) session: Session,
}

/// Registers a namespace: whoever `door` admits gets in, and `inside` is run for them until they go or their token
/// expires. `setup` says which events are taken. It is called before the client hears that it is in: what clients send at
/// once is not missed.
pub(super) fn serve<F>(
    hub: &Hub,
    path: impl Into<Cow<'static, str>>,
    door: Door,
    setup: impl Fn(&SocketRef, &Connected) + Clone + Send + Sync + 'static,
    inside: impl Fn(Connected) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let outside = hub.clone();
    let admit = move |socket: SocketRef, peer: Peer, TryData(auth): TryData<Value>| {
        let (hub, door, setup) = (outside.clone(), door.clone(), setup.clone());
        async move {
            let session = admit(&hub, &socket, auth.unwrap_or_default(), &door).await?;
            // From here on nothing waits: the next thing that the library does is to tell the client. Where that fails,
            // the socket is dropped with everything that hangs on it.
            let session = Session { gone: peer::gone(&socket), ..session };
            socket.extensions.insert(Carrier(Arc::clone(&session.transport)));
            socket.extensions.insert(session.clone());
            setup(&socket, &Connected { hub, peer, session });
            Ok::<(), NotAdmitted>(())
        }
    };
    let inner = hub.clone();
    let connected = move |peer: Peer| {
        let (hub, inside) = (inner.clone(), inside.clone());
        async move {
            // The middleware has put it there, unless the client has gone already.
            let session = peer.socket().and_then(|socket| socket.extensions.get::<Session>());
            let Some(session) = session else { return };
            let mut guard = pin!(guard(&session));
            tokio::select! {
                () = &mut guard => return,
                () = inside(Connected { hub, peer, session: session.clone() }) => {}
            }
            guard.await;
        }
    };
    hub.io.ns(path, connected.with(admit));
}

/// Ends the transport when the token expires. Returns when the socket has gone, whatever the reason.
///
/// Every namespace of a client has the same token in practice, and leaving this one alone would leave it for good:
/// clients don't come back after they were told to go. See [`transport`].
async fn guard(session: &Session) {
    tokio::select! {
        () = session.gone.cancelled() => {}
        () = session.transport.killed() => {}
        () = session.expired() => {
            tracing::debug!(user = %session.user.id, "a token has expired");
            session.transport.kill();
        }
    }
}
