//! Ending a client's transport, whatever state it is in.
//!
//! Leaving a namespace is a packet, which a client that has stopped reading never gets, and after which clients don't
//! come back by themselves. Losing the transport is what they expect of a network: they connect anew and, where their
//! token has expired, get another one first. The Socket.IO library has no way to end a transport, so this is done on both
//! sides of it: below, each accepted connection can be made to fail ([`killable`]); above, each request of a session
//! passes [`watch`], which knows the connection of its web socket and ends its polling.
//!
//! The library deals with each event in a task of its own and reads on meanwhile, as fast as it can: a client that sends
//! faster than events are dealt with would fill the memory with such tasks. So events that are being dealt with are
//! counted ([`Transport::begin_event`]), and while there are too many the client is not read.
//!
//! `edge` makes each connection killable, `server` puts [`watch`] around the layer; `access`, `pump` and `message` call
//! [`Transport::kill`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::access::Bearer;

/// Where the layer answers.
const PATH: &str = "/socket.io";

/// So many events of one session may be being dealt with before it is read no further. More than there are commands that
/// may take long at once, so that waiting for those never keeps a client from typing.
const EVENTS: usize = 256;

/// The sessions that clients have at present, by id. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Transports {
    live: Arc<Mutex<HashMap<String, Weak<Transport>>>>,
}

impl Transports {
    /// How many sessions clients have at present.
    pub fn count(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The transport of the session with this id. It is remembered for as long as somebody holds it: requests while
    /// they run, web sockets while they are open, sockets in a namespace while they are there.
    pub(super) fn of(&self, session: &str) -> Arc<Transport> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = live.get(session).and_then(Weak::upgrade) {
            return known;
        }
        let transport = Arc::new(Transport {
            session: session.to_owned(),
            killed: CancellationToken::new(),
            connections: Mutex::default(),
            bearer: Mutex::default(),
            events: AtomicUsize::new(0),
            all: self.clone(),
        });
        live.insert(session.to_owned(), Arc::downgrade(&transport));
        transport
    }
}

/// What carries the packets of one session: a web socket, or requests one after another, or both during the change.
#[derive(Debug)]
pub(super) struct Transport {
    session: String,
    killed: CancellationToken,
    /// Connections that carry this session and nothing else, as long as they are open.
    connections: Mutex<Vec<Weak<Line>>>,
    /// Whom its client was found to be last.
    bearer: Mutex<Option<Bearer>>,
    /// Events that are being dealt with.
    events: AtomicUsize,
    all: Transports,
}

/// An event that is being dealt with, until this is dropped.
#[derive(Debug)]
pub(super) struct EventInProgress(Arc<Transport>);

impl Drop for EventInProgress {
    fn drop(&mut self) {
        if self.0.events.fetch_sub(1, Ordering::SeqCst) == EVENTS {
            for connection in self.0.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                if let Some(connection) = connection.upgrade() {
                    connection.reader.wake();
                }
            }
        }
    }
}

impl Transport {
    /// Ends it, and all that the client is connected to by it.
    pub(super) fn kill(&self) {
        self.killed.cancel();
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(connection) = connection.upgrade() {
                connection.killed.cancel();
            }
        }
    }

    /// Counts an event that has come, for as long as the answer is kept. While too many are counted the client is not read.
    pub(super) fn begin_event(self: &Arc<Self>) -> EventInProgress {
        self.events.fetch_add(1, Ordering::SeqCst);
        EventInProgress(Arc::clone(self))
    }

    fn is_overloaded(&self) -> bool {
        self.events.load(Ordering::SeqCst) >= EVENTS
    }

    /// Ready once it has been ended by [`Self::kill`].
    pub(super) async fn killed(&self) {
        self.killed.cancelled().await;
    }

    /// Whom its client was found to be last.
    pub(super) fn bearer(&self) -> Option<Bearer> {
        self.bearer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers whom its client was found to be.
    pub(super) fn set_bearer(&self, bearer: Bearer) {
        *self.bearer.lock().unwrap_or_else(PoisonError::into_inner) = Some(bearer);
    }

    /// Says that a connection carries this session from now on, and nothing else.
    pub(super) fn carried_by(self: &Arc<Self>, Connection(line): &Connection) {
        *line.carries.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(self));
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|known| known.strong_count() > 0);
        // This is said anew with each namespace that the client asks for, as often as it likes.
        if !connections.iter().any(|known| known.as_ptr() == Arc::as_ptr(line)) {
            connections.push(Arc::downgrade(line));
        }
        drop(connections);
        // It may have been killed just before, without this one.
        if self.killed.is_cancelled() {
            line.killed.cancel();
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let mut live = self.all.live.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have taken its place already.
        if live.get(&self.session).is_some_and(|known| known.strong_count() == 0) {
            live.remove(&self.session);
        }
    }
}

/// Sees each request of a session: notes which connection becomes its web socket, and ends what a killed session still
/// asks for. To be put around the Socket.IO layer.
pub async fn watch(State(transports): State<Transports>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with(PATH) {
        return next.run(request).await;
    }
    let Some(session) = query_value(request.uri().query().unwrap_or_default(), "sid") else {
        // The session is made by this request; `admit` finds out which connection it came by.
        return next.run(detached(request)).await;
    };
    let transport = transports.of(session);
    if is_web_socket(&request)
        && let Some(ConnectInfo(connection)) = request.extensions().get::<ConnectInfo<Connection>>()
    {
        transport.carried_by(connection);
    }
    let answer = pin!(next.run(request));
    tokio::select! {
        biased;
        () = transport.killed() => unknown_session(),
        answer = answer => answer,
    }
}

/// The same request with head fields of its own. Those that the server hands out are parts of the buffer that it read them
/// into, 16 KiB which would stay for as long as the session, since the library keeps the head of the request that began it.
fn detached(request: Request) -> Request {
    let (mut head, body) = request.into_parts();
    if let Ok(uri) = head.uri.to_string().parse() {
        head.uri = uri;
    }
    let copy = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        let mut copied = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        copied.set_sensitive(value.is_sensitive());
        Some((name, copied))
    };
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for (name, value) in head.headers.iter().filter_map(copy) {
        headers.append(name, value);
    }
    head.headers = headers;
    Request::from_parts(head, body)
}

/// What Engine.IO answers for a session that it doesn't know; clients then begin another one.
fn unknown_session() -> Response {
    let body = r#"{"code":"1","message":"Session ID unknown"}"#;
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn is_web_socket<B>(request: &axum::http::Request<B>) -> bool {
    query_value(request.uri().query().unwrap_or_default(), "transport") == Some("websocket")
}

/// The connection by which a session began, if it is a web socket and thus carries nothing else.
pub(super) fn web_socket_of(handshake: &axum::http::request::Parts) -> Option<&Connection> {
    if query_value(handshake.uri.query().unwrap_or_default(), "transport") != Some("websocket") {
        return None;
    }
    handshake.extensions.get::<ConnectInfo<Connection>>().map(|ConnectInfo(connection)| connection)
}

/// A value of a query that needs no decoding.
fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// An accepted connection, as requests know it.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    /// The client's end, of a connection over a network.
    peer: Option<SocketAddr>,
    killed: CancellationToken,
    /// The session that it carries and nothing else; kept from being forgotten by this.
    carries: Mutex<Option<Arc<Transport>>>,
    /// Who reads it, while that waits for events to be dealt with.
    reader: AtomicWaker,
}

impl Line {
    /// Whether to wait before reading on; whoever reads is woken then.
    fn is_overloaded(&self, context: &Context<'_>) -> bool {
        let carries = self.carries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(transport) = carries.as_ref().filter(|transport| transport.is_overloaded()) else { return false };
        self.reader.register(context.waker());
        // The last of too many may have ended before the waker was there.
        transport.is_overloaded()
    }
}

impl Connection {
    /// The address at the other end, which may be that of a proxy.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }
}

/// Makes a stream that can be ended from outside, by what requests know it as.
pub fn killable<S>(stream: S, peer: SocketAddr) -> (Killable<S>, Connection) {
    let stream = Killable::new(stream, Some(peer));
    let connection = Connection(Arc::clone(&stream.line));
    (stream, connection)
}

/// A stream that fails, for whoever reads or writes it, once it has been killed.
#[derive(Debug)]
pub struct Killable<S> {
    stream: S,
    line: Arc<Line>,
    /// One for each direction: they are waited for by different tasks.
    read_end: Pin<Box<WaitForCancellationFutureOwned>>,
    write_end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Killable<S> {
    fn new(stream: S, peer: Option<SocketAddr>) -> Self {
        let line = Arc::new(Line { peer, ..Line::default() });
        let end = || Box::pin(line.killed.clone().cancelled_owned());
        Self { stream, read_end: end(), write_end: end(), line }
    }

    fn poll_write_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.write_end.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::ConnectionAborted.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Killable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.line.killed.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if !self.line.is_overloaded(context)
            && let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer)
        {
            return Poll::Ready(read);
        }
        // Polled only where there is nothing to read: being killed has to wake whoever waits.
        ready!(self.read_end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Killable<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_unless_killed(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unless_killed(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Also of one that was killed: the client shall hear of it.
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_unless_killed(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: AsyncWrite + Unpin> Killable<S> {
    /// Does `write` unless killed, and fails when killed while that waits.
    fn poll_unless_killed<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.line.killed.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), context) {
            return Poll::Ready(written);
        }
        self.poll_write_end(context).map(Err)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn killing_a_connection_wakes_who_reads_it_and_who_writes_it() {
        // Nobody reads the other end, so that writing waits after 16 bytes.
        let (near, mut far) = tokio::io::duplex(16);
        let stream = Killable::new(near, None);
        let killed = stream.line.killed.clone();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move { reader.read_u8().await.map(drop) });
        let writing = tokio::spawn(async move { writer.write_all(&[0; 1000]).await });
        // Both wait by now: the writer has filled what there is.
        far.read_u8().await.expect("the writer has begun");
        killed.cancel();
        for end in [reading.await.expect("no panic"), writing.await.expect("no panic")] {
            assert_eq!(end.expect_err("killed").kind(), io::ErrorKind::ConnectionAborted);
        }
    }

    #[tokio::test]
    async fn a_client_is_not_read_while_too_many_of_its_events_are_being_dealt_with() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = Killable::new(near, None);
        let transport = Transports::default().of("a");
        transport.carried_by(&Connection(Arc::clone(&stream.line)));
        let mut events: Vec<_> = (0..EVENTS).map(|_| transport.begin_event()).collect();
        far.write_u8(7).await.expect("there is room");
        let reading = tokio::spawn(async move { stream.read_u8().await });
        // On one thread: it has had its turn.
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        events.pop();
        assert_eq!(reading.await.expect("no panic").expect("it was written"), 7);
    }

    #[test]
    fn killing_a_session_ends_its_connections_also_those_that_come_later() {
        let transports = Transports::default();
        let transport = transports.of("a");
        let (before, after) = (Connection(Arc::default()), Connection(Arc::default()));
        let other = transports.of("b");
        transport.carried_by(&before);
        transports.of("a").kill();
        transport.carried_by(&after);
        assert!(before.0.killed.is_cancelled() && after.0.killed.is_cancelled());
        assert!(!other.killed.is_cancelled());
    }

    #[test]
    fn a_session_that_nobody_holds_is_forgotten() {
        let transports = Transports::default();
        let (one, same) = (transports.of("a"), transports.of("a"));
        drop(one);
        assert!(Arc::ptr_eq(&same, &transports.of("a")));
        let web_socket = Connection(Arc::default());
        same.carried_by(&web_socket);
        drop(same);
        assert_eq!(transports.live.lock().expect("no panic").len(), 1, "its connection is still open");
        drop(web_socket);
        assert!(transports.live.lock().expect("no panic").is_empty());
    }

    #[test]
    fn a_connection_is_known_once_however_many_namespaces_it_carries() {
        let transport = Transports::default().of("a");
        let connection = Connection(Arc::default());
        for _ in 0..3 {
            transport.carried_by(&connection);
        }
        assert_eq!(transport.connections.lock().expect("no panic").len(), 1);
    }

    #[test]
    fn the_session_is_found_in_the_query() {
        assert_eq!(query_value("EIO=4&transport=polling&sid=abc&t=x", "sid"), Some("abc"));
        assert_eq!(query_value("EIO=4&transport=polling", "sid"), None);
    }
}
