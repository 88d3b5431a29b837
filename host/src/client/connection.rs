//! One Socket.IO connection: the task that owns the websocket, and the handle to it.
//!
//! The task answers pings, hands events to the namespace that they are for and acknowledgements to the call that waits
//! for them, and writes what the handles give it. It goes on reading while a write is stuck, or two peers that both
//! write could wait for each other for ever. It ends with the websocket, with a server that falls silent, or when all
//! handles are gone; handles notice by what they wait for.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::ConfigVerifierExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async, connect_async_with_config};

use super::namespace::{AckError, AckSender, ConnectError, Event, Namespace};
use super::packet::{Kind, Packet};
use super::watch::{Direction, Watched};

/// How many packets may wait to be written before the task takes no more commands from its handles.
const WRITE_QUEUE: usize = 64;

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The base URL is neither an `http://` nor an `https://` one.
    #[error("{0} is no base URL of the form http://HOST:PORT or https://HOST:PORT")]
    BaseUrl(String),
    /// There is no TLS to be had there, or not with somebody whom this machine trusts.
    #[error("no TLS connection to {0}: {1}")]
    Tls(String, io::Error),
    /// There is no websocket to be had there.
    #[error("no websocket connection to {0}: {1}")]
    WebSocket(String, Box<tungstenite::Error>),
    /// Whatever answers there doesn't speak Engine.IO 4.
    #[error("{0} did not open an Engine.IO session: {1}")]
    Handshake(String, String),
}

/// A handle to a Socket.IO connection. Cheap to clone; the connection ends with the last handle and namespace.
#[derive(Debug, Clone)]
pub struct Connection {
    commands: mpsc::Sender<Command>,
}

/// What the handles ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Join a namespace.
    Connect {
        namespace: String,
        auth: Option<Value>,
        events: mpsc::UnboundedSender<Event>,
        joined: oneshot::Sender<Result<(), ConnectError>>,
    },
    /// Send an event, with a place for its acknowledgement if one is wanted. Its placeholders stand for the attachments.
    Emit { namespace: String, args: Value, attachments: Vec<Bytes>, ack: Option<AckSender> },
    /// Leave a namespace.
    Leave { namespace: String },
}

/// The Engine.IO `open` packet, as far as it concerns a client that only uses websocket. Times are milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    ping_interval: u64,
    ping_timeout: u64,
}

impl Connection {
    /// Connects to the server at `base_url`, such as `http://127.0.0.1:3000`. No namespace is joined yet.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is left open.
    pub async fn open(base_url: &str) -> Result<Self, OpenError> {
        let bad = || OpenError::BaseUrl(base_url.to_owned());
        let (scheme, rest) = base_url.trim_end_matches('/').split_once("://").ok_or_else(bad)?;
        if rest.is_empty() {
            return Err(bad());
        }
        let query = "socket.io/?EIO=4&transport=websocket";
        let fail = |error| OpenError::WebSocket(base_url.to_owned(), Box::new(error));
        // Nagle's algorithm would hold keystrokes back.
        let no_delay = true;
        match scheme {
            "http" => {
                let url = format!("ws://{rest}/{query}");
                let (socket, _) = connect_async_with_config(&url, None, no_delay).await.map_err(fail)?;
                Self::over(base_url, socket).await
            }
            "https" => {
                let stream = tls(rest).await.map_err(|error| OpenError::Tls(base_url.to_owned(), error))?;
                let url = format!("wss://{rest}/{query}");
                let (socket, _) = client_async(&url, stream).await.map_err(fail)?;
                Self::over(base_url, socket).await
            }
            _ => Err(bad()),
        }
    }

    /// Takes up the session on a websocket that has just been opened.
    async fn over<S>(base_url: &str, mut socket: WebSocketStream<S>) -> Result<Self, OpenError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = |problem: String| OpenError::Handshake(base_url.to_owned(), problem);
        let open = match socket.next().await {
            Some(Ok(Message::Text(text))) => text
                .as_str()
                .strip_prefix('0')
                .ok_or_else(|| handshake(format!("its first packet was {text:?}")))
                .and_then(|json| serde_json::from_str::<Open>(json).map_err(|error| handshake(error.to_string())))?,
            Some(Ok(other)) => return Err(handshake(format!("its first packet was {other:?}"))),
            Some(Err(error)) => return Err(handshake(error.to_string())),
            None => return Err(handshake("it closed the connection".to_owned())),
        };
        let (commands, receiver) = mpsc::channel(WRITE_QUEUE);
        let task = Task {
            commands: receiver,
            queue: VecDeque::new(),
            namespaces: HashMap::new(),
            acks: HashMap::new(),
            next_ack: 0,
            watched: Watched::new(base_url),
            // Engine.IO 4: the server pings, and is gone when it hasn't for this long.
            patience: Duration::from_millis(open.ping_interval.saturating_add(open.ping_timeout)),
        };
        tokio::spawn(task.run(socket));
        Ok(Self { commands })
    }

    /// Joins `namespace` (with its leading slash), giving `auth` in the packet that asks for it.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] with the server's words; the other namespaces of the connection go on.
    pub async fn connect(&self, namespace: &str, auth: Option<Value>) -> Result<Namespace, ConnectError> {
        // Unbounded, since one namespace that nobody reads must not hold the pings and all other namespaces back.
        let (events, receiver) = mpsc::unbounded_channel();
        let (joined, answer) = oneshot::channel();
        let command = Command::Connect { namespace: namespace.to_owned(), auth, events, joined };
        self.commands.send(command).await.map_err(|_| ConnectError::Closed)?;
        answer.await.map_err(|_| ConnectError::Closed)??;
        Ok(Namespace::new(namespace, self.commands.clone(), receiver))
    }

    /// Joins `namespace` as the holder of an access token, as Antimony's namespaces want it.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with_token(&self, namespace: &str, token: &str) -> Result<Namespace, ConnectError> {
        self.connect(namespace, Some(json!({ "token": token }))).await
    }

    /// Whether the connection is gone for good.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }
}

/// A TLS connection to `HOST` or `HOST:PORT`, trusting whom this machine trusts: its own certificates, or those in the file
/// that `SSL_CERT_FILE` names.
async fn tls(authority: &str) -> io::Result<TlsStream<TcpStream>> {
    crate::crypto::ready();
    let config = ClientConfig::with_platform_verifier().map_err(io::Error::other)?;
    let uri: http::uri::Authority = authority.parse().map_err(io::Error::other)?;
    let host = uri.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A namespace as the task sees it.
struct Joined {
    events: mpsc::UnboundedSender<Event>,
    /// Who waits for the server's answer; `None` once it has come.
    waiting: Option<oneshot::Sender<Result<(), ConnectError>>>,
}

struct Task {
    commands: mpsc::Receiver<Command>,
    /// Frames that wait to be written.
    queue: VecDeque<Message>,
    namespaces: HashMap<String, Joined>,
    /// Calls that wait for their acknowledgement. Ids count per namespace in the protocol; counting them over all
    /// namespaces is allowed and needs no table of counters.
    acks: HashMap<u64, (String, AckSender)>,
    next_ack: u64,
    watched: Watched,
    patience: Duration,
}

/// What ends the task.
struct Ended;

impl Task {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, socket: WebSocketStream<S>) {
        let (mut sink, mut stream) = socket.split();
        let mut unflushed = false;
        let mut silent_until = Instant::now() + self.patience;
        loop {
            // Every branch may be dropped half way: channels and streams lose nothing then, and the sink is polled
            // rather than sent to, so a frame leaves the queue only when the sink has taken it.
            let has_frames = !self.queue.is_empty();
            tokio::select! {
                written = poll_fn(|context| match has_frames {
                    true => sink.poll_ready_unpin(context),
                    false => sink.poll_flush_unpin(context),
                }), if has_frames || unflushed => {
                    let taken = match self.queue.pop_front() {
                        _ if written.is_err() => break,
                        Some(frame) => sink.start_send_unpin(frame),
                        None => Ok(()),
                    };
                    if taken.is_err() {
                        break;
                    }
                    unflushed = has_frames;
                }
                command = self.commands.recv(), if self.queue.len() < WRITE_QUEUE => match command {
                    Some(command) => self.obey(command),
                    None => {
                        // Nobody is left: what they asked for is still written, then the connection is closed.
                        for frame in self.queue.drain(..) {
                            if sink.feed(frame).await.is_err() {
                                break;
                            }
                        }
                        let _ = sink.close().await;
                        break;
                    }
                },
                frame = stream.next() => match frame {
                    Some(Ok(frame)) => {
                        silent_until = Instant::now() + self.patience;
                        if let Err(Ended) = self.take_frame(&frame) {
                            break;
                        }
                    }
                    Some(Err(_)) | None => break,
                },
                () = tokio::time::sleep_until(silent_until) => break,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Connect { namespace, auth, events, joined } => {
                if self.namespaces.contains_key(&namespace) {
                    let _ = joined.send(Err(ConnectError::InUse));
                    return;
                }
                self.write(&Packet::new(Kind::Connect, &namespace, auth));
                self.namespaces.insert(namespace, Joined { events, waiting: Some(joined) });
            }
            Command::Emit { namespace, args, attachments, ack } => {
                if !self.namespaces.contains_key(&namespace) {
                    // Dropping the place for the acknowledgement tells the caller.
                    return;
                }
                let kind = if attachments.is_empty() { Kind::Event } else { Kind::BinaryEvent };
                let mut packet = Packet::new(kind, &namespace, Some(args));
                packet.attachments = attachments.len();
                if let Some(ack) = ack {
                    packet.id = Some(self.next_ack);
                    self.acks.insert(self.next_ack, (namespace, ack));
                    self.next_ack += 1;
                }
                self.write(&packet);
                self.queue.extend(attachments.into_iter().map(Message::Binary));
            }
            Command::Leave { namespace } => self.leave(&namespace),
        }
    }

    fn leave(&mut self, namespace: &str) {
        if self.forget(namespace).is_some() {
            self.write(&Packet::new(Kind::Disconnect, namespace, None));
        }
    }

    /// Drops what belongs to a namespace: its events end, and calls that wait in it fail.
    fn forget(&mut self, namespace: &str) -> Option<Joined> {
        self.acks.retain(|_, (of, _)| of != namespace);
        self.namespaces.remove(namespace)
    }

    fn write(&mut self, packet: &Packet) {
        self.watched.show(Direction::Sent, packet);
        // 4: an Engine.IO message.
        self.queue.push_back(Message::text(format!("4{}", packet.encode())));
    }

    fn take_frame(&mut self, frame: &Message) -> Result<(), Ended> {
        let Message::Text(text) = frame else {
            // Attachments of binary packets: accepted, and not used by anything here. Websocket's own pings are
            // answered by the websocket.
            return if frame.is_close() { Err(Ended) } else { Ok(()) };
        };
        let text = text.as_str();
        match text.as_bytes().first() {
            Some(b'1') => Err(Ended),
            Some(b'2') => {
                // A pong carries back what came with the ping. It is put in front: under load a late pong costs the
                // connection.
                self.queue.push_front(Message::text(format!("3{}", &text[1..])));
                Ok(())
            }
            Some(b'4') => match Packet::decode(&text[1..]) {
                Ok(packet) => {
                    self.take_packet(packet);
                    Ok(())
                }
                Err(_) => Err(Ended),
            },
            // Pongs and no-ops.
            _ => Ok(()),
        }
    }

    fn take_packet(&mut self, packet: Packet) {
        self.watched.show(Direction::Received, &packet);
        let Packet { kind, namespace, id, data, .. } = packet;
        match kind {
            Kind::Connect => {
                if let Some(joined) = self.namespaces.get_mut(&namespace)
                    && let Some(waiting) = joined.waiting.take()
                    && waiting.send(Ok(())).is_err()
                {
                    // Whoever asked has given up in the meantime.
                    self.leave(&namespace);
                }
            }
            Kind::ConnectError => {
                if let Some(waiting) = self.forget(&namespace).and_then(|joined| joined.waiting) {
                    let message = data.as_ref().and_then(|data| data["message"].as_str()).unwrap_or_default();
                    let _ = waiting.send(Err(ConnectError::Refused(message.to_owned())));
                }
            }
            Kind::Disconnect => drop(self.forget(&namespace)),
            Kind::Event | Kind::BinaryEvent => {
                let Some(Value::Array(mut args)) = data else { return };
                if args.is_empty() {
                    return;
                }
                let Value::String(name) = args.remove(0) else { return };
                // What comes before the answer to a join was sent to the socket that was here before.
                if let Some(joined) = self.namespaces.get(&namespace)
                    && joined.waiting.is_none()
                    && joined.events.send(Event { name, args }).is_err()
                {
                    self.leave(&namespace);
                }
            }
            Kind::Ack | Kind::BinaryAck => {
                let Some((_, waiting)) = id.and_then(|id| self.acks.remove(&id)) else { return };
                let _ = waiting.send(match data {
                    Some(Value::Array(args)) => Ok(args),
                    other => Err(AckError::Malformed(other.unwrap_or_default())),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use socketioxide::SocketIo;
    use socketioxide::extract::{AckSender as ServerAck, Data, SocketRef, TryData};

    use super::*;

    /// A real server: `/echo` wants the token `t`, sends `hello` and acknowledges `data` with its argument.
    async fn server(ping_timeout: Duration) -> String {
        let (layer, io) =
            SocketIo::builder().ping_interval(Duration::from_millis(50)).ping_timeout(ping_timeout).build_layer();
        let authenticate = async |TryData(auth): TryData<Value>| match auth {
            Ok(auth) if auth["token"] == "t" => Ok(()),
            _ => Err("Invalid Token"),
        };
        let welcome = async |socket: SocketRef| {
            socket.on("data", async |Data::<Value>(value), ack: ServerAck| {
                let _ = ack.send(&json!({ "payload": value }));
            });
            socket.on("binary", async |socket: SocketRef| {
                let _ = socket.emit("bytes", &bytes::Bytes::from_static(b"\x00\xff"));
                let _ = socket.emit("after", "the bytes");
            });
            socket.on("leave", async |socket: SocketRef| drop(socket.disconnect()));
            let _ = socket.emit("hello", "you");
        };
        use socketioxide::handler::ConnectHandler;
        io.ns("/echo", welcome.with(authenticate));
        io.ns("/other", welcome.with(authenticate));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, axum::Router::new().layer(layer)).into_future());
        url
    }

    #[tokio::test]
    async fn a_refused_namespace_leaves_the_others_of_its_connection_alone() {
        let connection = Connection::open(&server(Duration::from_secs(20)).await).await.unwrap();
        let mut echo = connection.connect_with_token("/echo", "t").await.unwrap();
        let refused = connection.connect_with_token("/other", "x").await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused("Invalid Token".to_owned()));
        let refused = connection.connect("/nowhere", None).await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused("Invalid namespace".to_owned()));
        assert_eq!(connection.connect("/echo", None).await.unwrap_err(), ConnectError::InUse);
        assert_eq!(echo.call("data", json!({"a": [1]})).await, Ok(json!({"a": [1]})));
        let hello = echo.next_event().await.unwrap();
        assert_eq!((hello.name.as_str(), hello.data()), ("hello", &json!("you")));
        let other = connection.connect_with_token("/other", "t").await.unwrap();
        assert_eq!(other.call("data", 1).await, Ok(json!(1)));
    }

    #[tokio::test]
    async fn a_namespace_that_ends_ends_its_calls_and_events_and_can_be_joined_again() {
        let connection = Connection::open(&server(Duration::from_secs(20)).await).await.unwrap();
        let mut echo = connection.connect_with_token("/echo", "t").await.unwrap();
        assert_eq!(echo.call_args("leave", vec![]).await, Err(AckError::Closed));
        assert_eq!(echo.next_event().await.unwrap().name, "hello");
        assert_eq!(echo.next_event().await, None);
        drop(echo);
        let echo = connection.connect_with_token("/echo", "t").await.unwrap();
        assert_eq!(echo.call("data", 1).await, Ok(json!(1)));
    }

    #[tokio::test]
    async fn binary_events_are_taken_and_what_follows_them_arrives() {
        let connection = Connection::open(&server(Duration::from_secs(20)).await).await.unwrap();
        let mut echo = connection.connect_with_token("/echo", "t").await.unwrap();
        echo.emit_args("binary", vec![]).await.unwrap();
        let mut names = Vec::new();
        while names.len() < 3 {
            names.push(echo.next_event().await.unwrap().name);
        }
        assert_eq!(names, ["hello", "bytes", "after"]);
    }

    #[tokio::test]
    async fn pings_are_answered_so_the_connection_outlives_many_of_them() {
        // Without an answer the server ends the connection 2.05 s after it began.
        let connection = Connection::open(&server(Duration::from_secs(2)).await).await.unwrap();
        let mut echo = connection.connect_with_token("/echo", "t").await.unwrap();
        assert_eq!(echo.next_event().await.unwrap().name, "hello");
        let ended = tokio::time::timeout(Duration::from_secs(3), echo.next_event()).await;
        assert!(ended.is_err(), "the connection ended: {ended:?}");
        assert_eq!(echo.call("data", 1).await, Ok(json!(1)));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_noticed_by_all_who_wait() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let open = r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1}"#;
            socket.send(Message::text(open)).await.unwrap();
            // Reads the request to join, and goes away without an answer.
            let _ = socket.next().await;
        });
        let connection = Connection::open(&url).await.unwrap();
        assert_eq!(connection.connect("/echo", None).await.unwrap_err(), ConnectError::Closed);
        server.await.unwrap();
        assert_eq!(connection.connect("/echo", None).await.unwrap_err(), ConnectError::Closed);
    }

    #[tokio::test]
    async fn where_there_is_no_server_opening_says_so() {
        assert!(matches!(Connection::open("ftp://x").await, Err(OpenError::BaseUrl(_))));
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = Connection::open(&format!("http://{unused}")).await.unwrap_err();
        assert!(error.to_string().contains(&unused.to_string()), "{error}");
    }
}
