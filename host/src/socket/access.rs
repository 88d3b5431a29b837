//! Who may connect to a namespace. The texts of the refusals are part of the API: clients act on them.

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::Socket;
use tokio_util::sync::CancellationToken;

use super::peer::{self, Peer};
use super::sight::{self, Sight};
use super::transport::{self, EventInProgress, Transport};
use super::{Hub, namespaces};
use crate::auth::Identity;
use crate::labs::model::{LabId, LabSnapshot, ShellId};
use crate::plugins::decision::{Action, Namespace, Refusal, ShellInfo};

/// How often, and after how long, a decision that failed is asked for again before somebody who is there has to go.
const RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who is on the other end of a socket, and until when their token says so. In the extensions of every socket that was
/// let in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) user: Arc<Identity>,
    pub(super) expires: Timestamp,
    /// What carries the socket, and all other namespaces of this client.
    pub(super) transport: Arc<Transport>,
    token: Arc<str>,
    /// The plugins that let them in were these, or later ones.
    generation: u64,
    /// The same for those that last found the token to stand for this user.
    confirmed: Arc<AtomicU64>,
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

/// Whether somebody who was let in is who they were, as the plugins in force see it.
pub(super) enum Confirmed {
    /// They are.
    Same,
    /// Their token means somebody else now, or nobody.
    Other,
    /// A plugin failed to say.
    Unknown(Refusal),
}

impl Session {
    /// Has the token looked at again, if other plugins are in force than when that was done last.
    pub(super) async fn confirm(&self, hub: &Hub) -> Confirmed {
        let generation = hub.plugins.generation();
        if self.confirmed.load(Ordering::Relaxed) >= generation {
            return Confirmed::Same;
        }
        // Whose token has expired by now is on the way out.
        let Ok(token) = hub.auth.verify_access(&self.token) else { return Confirmed::Other };
        match hub.plugins.identify(&token.claims).await {
            Ok(user) if user == *self.user => {
                self.confirmed.fetch_max(generation, Ordering::Relaxed);
                Confirmed::Same
            }
            Err(refusal @ Refusal::Failed { .. }) => Confirmed::Unknown(refusal),
            Ok(_) | Err(_) => {
                tracing::info!(user = %self.user.id, "a client is cut: its token means somebody else to the plugins in force");
                Confirmed::Other
            }
        }
    }

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
    /// What the nodes of a lab use: open to those who may read its log.
    LabStats(LabId),
    /// The log of a node of a lab, by its name.
    NodeLog(LabId, String),
    /// A shell.
    Shell(ShellId),
}

/// Why somebody isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAdmitted {
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
        // Also an empty one: the deployed web client shows that right after a login, and gets itself a token when it is told
        // that this one is invalid. Told that there was none, it would stay without its namespaces.
        Some(Value::String(token)) => token,
        Some(_) => return Err(NotAdmitted::InvalidToken),
    };
    // Before anything is decided: where other plugins come in between, it is decided again.
    let generation = hub.plugins.generation();
    let bearer = recognise(hub, socket, &transport, token).await?;
    let result = match door {
        Door::Global(namespace) => {
            let action = Action::Connect(*namespace);
            hub.plugins.authorize(&bearer.user, action, hub.circumstances(&bearer.user)).await
        }
        _ => {
            let sight = LabSight::of(hub, door).ok_or(NotAdmitted::InvalidNamespace)?;
            sight.allowed(hub, &bearer.user).await
        }
    };
    result.map_err(|refusal| {
        log_refusal(socket, &refusal);
        NotAdmitted::NoAccess
    })?;
    let Bearer { user, expires, token, .. } = bearer;
    let confirmed = Arc::new(AtomicU64::new(generation));
    Ok(Session { user, expires, transport, token, generation, confirmed, gone: CancellationToken::new() })
}

/// Who a token was found to stand for. A client shows the same for each namespace; it is looked at once per transport, and
/// again when other plugins are in force.
#[derive(Debug, Clone)]
pub(super) struct Bearer {
    token: Arc<str>,
    user: Arc<Identity>,
    expires: Timestamp,
    generation: u64,
}

async fn recognise(hub: &Hub, socket: &SocketRef, transport: &Transport, token: &str) -> Result<Bearer, NotAdmitted> {
    let generation = hub.plugins.generation();
    let counts =
        |known: &Bearer| *known.token == *token && known.generation == generation && known.expires > Timestamp::now();
    if let Some(known) = transport.bearer().filter(counts) {
        return Ok(known);
    }
    let verified = hub.auth.verify_access(token).map_err(|error| {
        tracing::debug!(namespace = socket.ns(), %error, "a token was refused");
        NotAdmitted::InvalidToken
    })?;
    let user = hub.plugins.identify(&verified.claims).await.map_err(|refusal| {
        log_refusal(socket, &refusal);
        match refusal {
            Refusal::Failed { .. } => NotAdmitted::NoAccess,
            _ => NotAdmitted::InvalidToken,
        }
    })?;
    let bearer = Bearer { token: token.into(), user: Arc::new(user), expires: verified.expires, generation };
    transport.set_bearer(bearer.clone());
    Ok(bearer)
}

/// What a door that belongs to a lab lets see of it.
struct LabSight {
    lab: Arc<LabSnapshot>,
    what: DoorTo,
}

enum DoorTo {
    LabLog,
    NodeLog(String),
    Shell(ShellInfo),
}

impl LabSight {
    /// As things are now. `None`: it has gone, or it is no such door.
    fn of(hub: &Hub, door: &Door) -> Option<Self> {
        let (lab, what) = match door {
            Door::Global(_) => return None,
            Door::LabLog(lab) | Door::LabStats(lab) => (hub.labs.get(lab)?, DoorTo::LabLog),
            Door::NodeLog(lab, node) => (hub.labs.get(lab)?, DoorTo::NodeLog(node.clone())),
            Door::Shell(id) => {
                let shell = hub.shells.get(id)?.info().clone();
                (hub.labs.get(&shell.lab_id)?, DoorTo::Shell(shell))
            }
        };
        Some(Self { lab, what })
    }

    async fn allowed(&self, hub: &Hub, user: &Arc<Identity>) -> Result<(), Refusal> {
        let sight = match &self.what {
            DoorTo::LabLog => Sight::LabLog,
            DoorTo::NodeLog(node) => Sight::NodeLog(node),
            DoorTo::Shell(shell) => Sight::Shell(shell),
        };
        sight::allowed(hub, user, &self.lab, sight).await
    }
}

/// What somebody who was let in has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The right to be in this namespace.
    Access,
    /// Being who they were: all of their namespaces are somebody else's.
    Identity,
}

impl Lost {
    /// Sees somebody out.
    async fn leave(self, socket: impl Fn() -> Option<SocketRef>, session: &Session) {
        match self {
            Self::Access => namespaces::disconnect(socket).await,
            Self::Identity => session.transport.kill(),
        }
    }
}

/// What came of asking again about somebody who is there.
enum Again {
    Allowed,
    Lost(Lost),
    /// A plugin failed to say.
    Failed(Refusal, Lost),
}

async fn ask_again(hub: &Hub, session: &Session, door: &Door) -> Again {
    match session.confirm(hub).await {
        Confirmed::Same => {}
        Confirmed::Other => return Again::Lost(Lost::Identity),
        Confirmed::Unknown(refusal) => return Again::Failed(refusal, Lost::Identity),
    }
    let user = &session.user;
    let result = match door {
        Door::Global(namespace) => {
            hub.plugins.authorize(user, Action::Connect(*namespace), hub.circumstances(user)).await
        }
        _ => match LabSight::of(hub, door) {
            Some(sight) => sight.allowed(hub, user).await,
            // What the namespace belonged to has gone, and whoever removes it sees to those who are there.
            None => Ok(()),
        },
    };
    match result {
        Ok(()) => Again::Allowed,
        Err(refusal @ Refusal::Failed { .. }) => Again::Failed(refusal, Lost::Access),
        Err(refusal) => {
            tracing::info!(user = %user.id, %refusal, "a client may not be in a namespace any more");
            Again::Lost(Lost::Access)
        }
    }
}

/// Judges somebody again who is there; `None`: they may stay. `of_many`: everybody else is judged as well.
async fn judge_again(hub: &Hub, session: &Session, door: &Door, of_many: bool) -> Option<Lost> {
    let mut failures = 0;
    loop {
        // They take turns, so that nobody has to go because a plugin was asked too much at once.
        let turn = if of_many { hub.turns.acquire().await.ok() } else { None };
        let again = ask_again(hub, session, door).await;
        drop(turn);
        match again {
            Again::Allowed => return None,
            Again::Lost(lost) => return Some(lost),
            // So many at once as a change brings may be more than a plugin has time for.
            Again::Failed(..) if failures < RETRIES => {
                failures += 1;
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Again::Failed(refusal, lost) => {
                tracing::error!(user = %session.user.id, %refusal, "a client has to go: nobody can say whether it may stay");
                return Some(lost);
            }
        }
    }
}

/// Ready when somebody who was let in may not be there, because other plugins were put in force while they came.
async fn once_more(hub: Hub, session: Session, door: Door) -> Lost {
    match judge_again(&hub, &session, &door, true).await {
        Some(lost) => lost,
        None => std::future::pending().await,
    }
}

/// Ready when somebody who was let in may not be there any more, because the lab has changed or other plugins are in force.
async fn no_longer_allowed(hub: Hub, session: Session, door: Door) -> Lost {
    let changes = LabSight::of(&hub, &door).and_then(|sight| hub.labs.watch(&sight.lab.lab.id));
    let Some(mut changes) = changes else { return std::future::pending().await };
    let mut generations = hub.plugins.generations();
    // Whoever was let in was judged by the lab and by the plugins as they were then, which may be before this.
    changes.mark_changed();
    if *generations.borrow_and_update() != session.generation {
        generations.mark_changed();
    }
    loop {
        let (changed, of_many) = tokio::select! {
            changed = changes.changed() => (changed, false),
            changed = generations.changed() => (changed, true),
        };
        if changed.is_err() {
            break;
        }
        // Boxed: it happens seldom, and everybody who is there would have room for it all the time.
        if let Some(lost) = Box::pin(judge_again(&hub, &session, &door, of_many)).await {
            return lost;
        }
    }
    std::future::pending().await
}

/// Has everybody in the global namespaces judged again whenever other plugins are in force: nothing is kept for that in
/// each of them. Runs until the server ends.
pub(super) async fn judge_again_when_plugins_change(hub: Hub) {
    let mut generations = hub.plugins.generations();
    loop {
        tokio::select! {
            () = hub.stop.cancelled() => return,
            // It can't end before the hub does.
            changed = generations.changed() => if changed.is_err() { return },
        }
        for (path, namespace) in super::GLOBAL {
            let there = hub.io.of(path).map(|of| of.sockets()).unwrap_or_default();
            let there: Vec<_> =
                there.iter().filter_map(|socket| Some((socket.id, socket.extensions.get::<Session>()?))).collect();
            let (hub, door) = (&hub, &Door::Global(namespace));
            let each = futures::stream::iter(there).for_each_concurrent(super::TURNS, async |(id, session)| {
                if let Some(lost) = judge_again(hub, &session, door, true).await {
                    // Looked up again: it may have gone meanwhile.
                    lost.leave(|| hub.io.of(path).and_then(|of| of.get_socket(id)), &session).await;
                }
            });
            each.await;
        }
    }
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
    let (outside, outer) = (hub.clone(), door.clone());
    let admit = move |socket: SocketRef, peer: Peer, TryData(auth): TryData<Value>| {
        let (hub, door, setup) = (outside.clone(), outer.clone(), setup.clone());
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
        let (hub, door, inside) = (inner.clone(), door.clone(), inside.clone());
        async move {
            // The middleware has put it there, unless the client has gone already.
            let session = peer.socket().and_then(|socket| socket.extensions.get::<Session>());
            let Some(session) = session else { return };
            // Every byte in here is there once for each namespace of each client, for as long as they are connected: what
            // is moved would take its place twice, and what is rare is boxed.
            let mut revoked = if let Door::Global(_) = door {
                // `judge_again_when_plugins_change` sees to them, but not to those who came while it did that.
                let missed = session.generation != hub.plugins.generation();
                missed.then(|| once_more(hub.clone(), session.clone(), door).boxed())
            } else {
                Some(no_longer_allowed(hub.clone(), session.clone(), door).boxed())
            };
            let mut guard = pin!(guard(&session));
            let mut inside = pin!(inside(Connected { hub, peer: peer.clone(), session: session.clone() }));
            let mut over = false;
            let lost = loop {
                tokio::select! {
                    () = &mut guard => return,
                    lost = async { revoked.as_mut().expect("guarded").await }, if revoked.is_some() => break lost,
                    () = &mut inside, if !over => over = true,
                }
            };
            Box::pin(lost.leave(|| peer.socket(), &session)).await;
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
