//! Servers that echo, made of what the program is made of: its edge, its watch over transports, its settings.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antimony_host::config::ServerConfig;
use antimony_host::edge::Edge;
use antimony_host::edge::config::UiConfig;
use antimony_host::socket::transport::{Transports, watch};
use antimony_host::socket::{MAX_MESSAGE, settings};
use axum::Router;
use axum::middleware::from_fn_with_state;
use bytes::Bytes;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::layer::EngineIoLayer;
use engineioxide::socket::DisconnectReason;
use engineioxide::{Socket, Str};
use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::{Value, json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::FromMessageParts;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How the server makes sure that clients are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heartbeat {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// As the program has it: nothing of it is noticed in a test but the first ping.
pub(super) const CALM: Heartbeat = Heartbeat { interval: Duration::from_secs(25), timeout: Duration::from_secs(20) };
/// Pings come often, and may be answered late: for tests of answered pings.
pub(super) const BEATING: Heartbeat = Heartbeat { interval: Duration::from_millis(300), timeout: CALM.timeout };
/// As the suites have it: for tests of pings that are never answered.
pub(super) const IMPATIENT: Heartbeat =
    Heartbeat { interval: Duration::from_millis(300), timeout: Duration::from_millis(200) };

/// How long the server waits for a client's first namespace, where a test waits for its end.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that runs until it is dropped.
pub(super) struct Listening {
    pub(super) url: String,
    serving: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Wraps `app` as the program does its own.
async fn listen(app: Router) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = app.layer(from_fn_with_state(Transports::default(), watch));
    let edge = Edge::open(&ServerConfig::default(), &UiConfig::default(), Path::new("."), |_| true).unwrap();
    let app = edge.around_all(app);
    let serving = tokio::spawn(edge.serve(listener, None, app, CancellationToken::new()));
    Listening { url, serving }
}

/// An Engine.IO server that echoes messages: what the suite of Engine.IO wants.
pub(super) async fn engine_io(heartbeat: Heartbeat) -> Listening {
    let config = EngineIoConfig::builder()
        .req_path("/socket.io")
        .max_payload(MAX_MESSAGE as u64)
        .ws_max_message_size(MAX_MESSAGE)
        .ws_max_frame_size(MAX_MESSAGE)
        .ping_interval(heartbeat.interval)
        .ping_timeout(heartbeat.timeout)
        .build();
    listen(Router::new().layer(EngineIoLayer::from_config(Arc::new(Echo), config))).await
}

#[derive(Debug, Clone)]
struct Echo;

impl EngineIoHandler for Echo {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: Arc<Socket<()>>) {}

    fn on_disconnect(&self, _: Arc<Socket<()>>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, text: Str, socket: Arc<Socket<()>>) {
        socket.emit(text).unwrap();
    }

    fn on_binary(self: &Arc<Self>, bytes: Bytes, socket: Arc<Socket<()>>) {
        socket.emit_binary(bytes).unwrap();
    }
}

/// A Socket.IO server with the namespaces and events that the suite of Socket.IO wants.
pub(super) async fn socket_io(heartbeat: Heartbeat) -> Listening {
    socket_io_from(settings().ping_interval(heartbeat.interval).ping_timeout(heartbeat.timeout)).await
}

/// The same, with a limit to how long somebody may stay without a namespace.
pub(super) async fn socket_io_that_wants_a_namespace() -> Listening {
    socket_io_from(settings().connect_timeout(CONNECT_TIMEOUT)).await
}

async fn socket_io_from(settings: socketioxide::SocketIoBuilder) -> Listening {
    let (layer, io) = settings.build_layer();
    for path in ["/", "/custom"] {
        io.ns(path, async |socket: SocketRef, TryData(auth): TryData<Value>| {
            socket.on("message", async |socket: SocketRef, arguments: Arguments| {
                socket.emit("message-back", &arguments).unwrap();
            });
            socket.on("message-with-ack", async |arguments: Arguments, ack: AckSender| ack.send(&arguments).unwrap());
            socket.emit("auth", &auth.unwrap_or(json!({}))).unwrap();
        });
    }
    listen(Router::new().layer(layer)).await
}

/// All arguments of an event, as they came.
struct Arguments(Vec<Argument>);

enum Argument {
    Json(Value),
    Binary(Bytes),
}

impl FromMessageParts<LocalAdapter> for Arguments {
    type Error = Infallible;

    fn from_message_parts(
        _: &Arc<socketioxide::socket::Socket<LocalAdapter>>,
        value: &mut socketioxide_core::Value,
        _: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let socketioxide_core::Value::Str(text, attachments) = value else { panic!("another parser is in use") };
        let mut all: Vec<Value> = serde_json::from_str(text).expect("the parser has checked it");
        let mut attachments = attachments.take().unwrap_or_default();
        let argument = |value: Value| match value["_placeholder"] {
            Value::Bool(true) => Argument::Binary(attachments.pop_front().expect("as many as placeholders")),
            _ => Argument::Json(value),
        };
        Ok(Self(all.drain(1..).map(argument).collect()))
    }
}

impl Serialize for Arguments {
    /// As a tuple, which the library takes for several arguments.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for argument in &self.0 {
            tuple.serialize_element(argument)?;
        }
        tuple.end()
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(value) => value.serialize(serializer),
            Self::Binary(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}
