//! The Socket.IO API: one file per namespace, and what they share.
//!
//! [`Hub`] holds what the namespaces need of the server. `access` decides who connects, `message` reads events and
//! answers them, `sight` who sees what of a lab, `pump` carries a history to a socket, `namespaces` makes and removes
//! those that come and go with labs and shells, `notices` turns what labs and shells publish into what clients hear,
//! [`contract`] is the document for the authors of clients, and `error` is the one place where
//! an error becomes a code.

mod access;
pub mod contract;
mod error;
mod lab_commands;
mod lab_updates;
mod logs;
mod message;
mod namespaces;
mod notices;
mod peer;
mod pump;
mod shell_commands;
mod shells;
mod sight;
mod stats;
mod status_messages;
pub mod transport;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use socketioxide::layer::SocketIoLayer;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::lab_updates::LabUpdate;
use self::logs::LogNamespaces;
use self::namespaces::Namespaces;
use self::shell_commands::ShellNotice;
use self::sight::Decisions;
use self::status_messages::StatusMessage;
use self::transport::Transports;
use crate::auth::{Authenticator, Identity};
use crate::history::{History, Retention};
use crate::labs::Labs;
use crate::labs::model::UserId;
use crate::labs::publisher::Notice;
use crate::metrics::CommandCounts;
use crate::plugins::PluginHost;
use crate::plugins::decision::{Circumstances, Namespace};
use crate::shells::Shells;
use crate::stats::Stats;

/// Largest message that a client may send, in bytes: a pasted megabyte, escaped as JSON, fits.
pub const MAX_MESSAGE: usize = 2 * 1024 * 1024;
/// How long a session may take to join its first namespace. Until then the library keeps it, even if the client has gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The namespaces that are always there.
const GLOBAL: [(&str, Namespace<'static>); 4] = [
    (lab_commands::PATH, Namespace::LabCommands),
    (lab_updates::PATH, Namespace::LabUpdates),
    (status_messages::PATH, Namespace::StatusMessages),
    (shell_commands::PATH, Namespace::ShellCommands),
];
/// How many of those who are connected are judged anew at once when other plugins are in force: fewer than a plugin may be
/// asked at once, so that others are served meanwhile.
const TURNS: usize = 8;
/// Bytes of a feed that are kept for readers that are behind.
const FEED_CAPACITY: usize = 4 * 1024 * 1024;

/// What the namespaces need of the server. Cheap to clone.
#[derive(Clone)]
struct Hub {
    io: SocketIo,
    auth: Arc<Authenticator>,
    plugins: PluginHost,
    labs: Labs,
    shells: Shells,
    stats: Stats,
    namespaces: Arc<Namespaces>,
    logs: Arc<LogNamespaces>,
    transports: Transports,
    /// What was asked for on `/lab-commands`, counted.
    commands: Arc<CommandCounts>,
    decisions: Arc<Decisions>,
    /// Taken by whoever has somebody judged again because of other plugins.
    turns: Arc<Semaphore>,
    /// Cancelled when the server ends: nobody gets in any more, and no command is begun.
    stop: CancellationToken,
    /// What `/lab-updates` tells.
    updates: Arc<History<Arc<LabUpdate>>>,
    /// What `/status-messages` tells.
    statuses: Arc<History<Arc<StatusMessage>>>,
    /// Who has been told on `/status-messages` what the server found when it started.
    greeted: Arc<Mutex<HashSet<UserId>>>,
    /// What `/shell-commands` tells.
    shell_notices: Arc<History<Arc<ShellNotice>>>,
}

impl Hub {
    /// The figures of this user, now.
    fn circumstances(&self, user: &Identity) -> Circumstances {
        Circumstances {
            now: Timestamp::now(),
            open_shells: self.shells.count(&user.id),
            running_labs: self.labs.running_labs(&user.id),
        }
    }
}

/// The settings of the Socket.IO layer, without any namespace: what [`layer`] builds on, and what tests of the protocol do.
pub fn settings() -> SocketIoBuilder {
    // As much as in one message: the attachments of an event that never becomes whole are kept as long as the connection.
    let parser = ParserConfig::common().max_incoming_binary_buf_size(MAX_MESSAGE);
    SocketIo::builder()
        .with_parser(parser)
        .max_payload(MAX_MESSAGE as u64)
        .ws_max_message_size(MAX_MESSAGE)
        .ws_max_frame_size(MAX_MESSAGE)
        .ping_interval(Duration::from_secs(25))
        .ping_timeout(Duration::from_secs(20))
        .connect_timeout(CONNECT_TIMEOUT)
}

/// The Socket.IO side of the server, as a layer for the router. `notices` is a subscription that began before the labs
/// were opened, so that nothing is missed; `transports` are those that [`transport::watch`] around this layer sees.
/// From `stop` on, nobody gets in and no command is begun.
#[expect(clippy::too_many_arguments, reason = "each is another part of the server, and there is one caller")]
pub fn layer(
    auth: Arc<Authenticator>,
    plugins: PluginHost,
    labs: Labs,
    shells: Shells,
    stats: Stats,
    notices: mpsc::Receiver<Notice>,
    transports: Transports,
    commands: Arc<CommandCounts>,
    stop: CancellationToken,
) -> SocketIoLayer {
    let (layer, io) = settings().build_layer();
    let hub = Hub {
        io,
        auth,
        plugins,
        labs,
        shells,
        stats,
        namespaces: Arc::default(),
        logs: Arc::default(),
        transports,
        commands,
        decisions: Arc::default(),
        turns: Arc::new(Semaphore::new(TURNS)),
        stop,
        updates: Arc::new(History::new(Retention::latest(FEED_CAPACITY))),
        statuses: Arc::new(History::new(Retention::latest(FEED_CAPACITY))),
        greeted: Arc::default(),
        shell_notices: Arc::new(History::new(Retention::latest(FEED_CAPACITY))),
    };
    lab_commands::register(&hub);
    lab_updates::register(&hub);
    status_messages::register(&hub);
    shell_commands::register(&hub);
    for lab in hub.labs.list() {
        logs::update(&hub, &lab);
        stats::update(&hub, &lab);
    }
    tokio::spawn(access::judge_again_when_plugins_change(hub.clone()));
    tokio::spawn(notices::of_plugins(hub.clone()));
    tokio::spawn(notices::run(hub, notices));
    layer
}
