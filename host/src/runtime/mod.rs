//! What labs need of whatever runs their nodes: the [`RuntimeDriver`] trait and the types around it.
//!
//! `labs` and `shells` know this trait and never a driver; `server` picks one. A driver keeps no state that a restart
//! of the server would have to bring back: what runs can be asked of it with [`RuntimeDriver::list`].

pub mod capture;
pub mod choose;
pub mod containerlab;
pub mod docker;
pub mod embedded;
mod interfaces;
pub mod saved;
mod sessions;
pub mod stats;
mod sys;
mod terminal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::capture::{Capture, CaptureOptions};
use self::saved::{NodeSaved, SaveLimits, SavedFiles};
use self::stats::NodeStats;
use crate::labs::model::{LabId, NodeState, NodeStatus};
use crate::topology::Topology;

/// Takes the lines of a deploy or destroy as they are written.
#[async_trait]
pub trait LineSink: Send + Sync {
    /// Takes a line, without its line end. Cheap, never blocks.
    fn line(&self, text: &str);

    /// Ready when those who read the lines are not too far behind. Whoever passes on what a process prints awaits this in
    /// between, and so makes the process wait.
    async fn room(&self) {}
}

#[async_trait]
impl<F: Fn(&str) + Send + Sync> LineSink for F {
    fn line(&self, text: &str) {
        self(text);
    }
}

/// Where the lines of a deploy or destroy go.
pub type LogSink = Arc<dyn LineSink>;

/// An instance that is to be made.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// The lab that it belongs to.
    pub lab_id: LabId,
    /// Name that the runtime shall know it by; unique, and fit for a file name.
    pub name: String,
    /// What it consists of.
    pub topology: Arc<Topology>,
    /// The same as YAML text, for runtimes that read it themselves.
    pub definition: String,
    /// A folder of its own, which exists, for whatever the runtime has to keep on disk. Removed after a destroy.
    pub dir: PathBuf,
    /// What its nodes begin with besides what any has: what [`RuntimeDriver::save`] had written of an earlier instance.
    pub saved: Option<SavedFiles>,
}

/// Something that changed without having been asked for through the trait.
#[derive(Debug, Clone)]
pub enum RuntimeEvent {
    /// A node changed its state.
    Node {
        /// Name of the instance.
        instance: String,
        /// Name of the node in the topology.
        node: String,
        /// Its state now.
        state: NodeState,
    },
    /// A whole instance is gone, although nobody asked for that here.
    InstanceLost {
        /// Name of the instance.
        instance: String,
        /// What is known of the cause, in one sentence.
        reason: String,
    },
    /// Something about a node that its users have to know and that its state doesn't say, such as a link that it has lost.
    Note {
        /// Name of the instance.
        instance: String,
        /// Name of the node in the topology.
        node: String,
        /// What it is and what can be done about it, in a sentence.
        text: String,
        /// Whether something is wrong that somebody has to see to; else it has been put right.
        failure: bool,
    },
}

/// A place in the log of a node, which a runtime gives out and takes again, also from another server than it gave it to.
/// What it says is that runtime's affair; to everybody else it is a piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogPosition(Arc<str>);

impl LogPosition {
    /// The position that a runtime writes like this. It is kept with the log many times over: some dozen bytes are fine.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// What the runtime wrote.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A piece of what a node has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// What it wrote, cut anywhere.
    pub data: Bytes,
    /// Where whoever has dealt with this piece goes on: what is followed after it begins with the byte that comes next.
    /// `None`: the runtime can't say.
    pub position: Option<LogPosition>,
    /// It isn't what comes behind the piece before it, or, being the first, behind the position that was asked for: the
    /// log has been replaced by another, or the runtime no longer keeps what was there. Whoever has counted what is known
    /// from that position on begins to count anew.
    pub elsewhere: bool,
}

/// What shall be done to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeAction {
    /// Start it.
    Start,
    /// Stop it, with the grace period before it is killed.
    Stop,
    /// Stop and start it.
    Restart,
}

/// A terminal that is to be opened in a node.
#[derive(Debug, Clone)]
pub struct PtyRequest {
    /// Columns and rows.
    pub size: (u16, u16),
    /// Commands to try, in order: the first that exists in the node is run. Each is a program and its arguments.
    pub commands: Vec<Vec<String>>,
    /// How long opening may take.
    pub timeout: Duration,
}

/// An open terminal. Dropping it ends its process group, as does [`PtyControl::terminate`].
pub struct Pty {
    /// What the user types. A full channel means that the process doesn't read; dropping it closes nothing.
    pub input: mpsc::Sender<Bytes>,
    /// What the process writes, cut anywhere. Ends when the process and its terminal are gone.
    pub output: mpsc::Receiver<Bytes>,
    /// Everything else that can be done to it.
    pub control: Box<dyn PtyControl>,
    /// Told once, when the process has ended, with a short description such as `exit status 0` or `signal 9`;
    /// or [`NOT_ENDED`].
    pub exit: oneshot::Receiver<String>,
}

/// Told as the exit of a terminal that is gone while its process goes on, because there was no way to end it.
pub const NOT_ENDED: &str = "its process could not be ended";

/// What can be done to an open terminal besides reading and writing.
pub trait PtyControl: Send + Sync {
    /// Tells the terminal its size, in columns and rows.
    fn resize(&self, cols: u16, rows: u16);
    /// Ends the process and everything that it started in its session; what has left that, as daemons do, stays until
    /// the node stops. Returns at once; `exit` and the end of `output` follow.
    fn terminate(&self);
}

/// Why a runtime didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The topology asks for something that this runtime can't do; says what, where, and which runtime can.
    #[error("{0}")]
    Unsupported(String),
    /// The runtime reported an error (5001 on the wire).
    #[error("{0}")]
    Failed(String),
    /// Whatever does the work can't be reached. Nothing was begun and nothing has changed.
    #[error("{0}")]
    Unreachable(String),
    /// Cancelled through the token; nothing is left of what was begun.
    #[error("cancelled")]
    Cancelled,
    /// It knows no such instance.
    #[error("the runtime knows no instance named {0}")]
    NoInstance(String),
    /// The instance has no such node.
    #[error("there is no node named {0}")]
    NoNode(String),
    /// The node has no such interface.
    #[error("there is no interface {interface} in the node; there are {}", .interfaces.join(", "))]
    NoInterface {
        /// The one that was asked for.
        interface: String,
        /// Those that there are.
        interfaces: Vec<String>,
    },
    /// The node isn't running.
    #[error("node {0} is not running")]
    NodeNotRunning(String),
    /// It took longer than it may.
    #[error("{0} did not finish within {1:?}")]
    TimedOut(String, Duration),
}

/// Runs labs. All methods may be called at any time and from any task; calls about different instances don't wait for
/// each other.
#[async_trait]
pub trait RuntimeDriver: Send + Sync {
    /// Name in the configuration and in messages: `embedded`, `containerlab`.
    fn name(&self) -> &'static str;

    /// Its name, and where it runs instances if that can be different from one start of a server to the next. Kept with each
    /// instance, for [`Self::reaches`] and for people.
    fn place(&self) -> String {
        self.name().to_owned()
    }

    /// Whether it knows what becomes of instances that were made at `place`, and can take them down.
    fn reaches(&self, place: &str) -> bool {
        place == self.name()
    }

    /// Says whether this runtime can run `topology` at all, without doing anything: kinds, options.
    ///
    /// # Errors
    /// [`RuntimeError::Unsupported`] naming the node or link and the key.
    fn check(&self, topology: &Topology) -> Result<(), RuntimeError>;

    /// Brings an instance up and answers its nodes. Lines for the user go to `log` while it works.
    ///
    /// Nothing is left behind when it fails or is cancelled.
    ///
    /// # Errors
    /// [`RuntimeError::Cancelled`] once `cancel` has been triggered and everything is cleaned up; others as they are.
    async fn deploy(
        &self,
        spec: &InstanceSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeStatus>, RuntimeError>;

    /// Takes an instance down whose folder is `dir`. Done when nothing of it is left; an instance that is not there is no
    /// error.
    ///
    /// # Errors
    /// [`RuntimeError::Unreachable`] when it was not begun, [`RuntimeError::Failed`] when something is left; it can be called
    /// again.
    async fn destroy(&self, instance: &str, dir: &Path, log: LogSink) -> Result<(), RuntimeError>;

    /// Ends what an earlier server had begun to do with an instance and can't have finished, since it ended itself: from then
    /// on the instance stays as it is. Answers what is left of it besides nodes, each in a few words.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the runtime can't be asked.
    async fn settle(&self, instance: &str, dir: &Path) -> Result<Vec<String>, RuntimeError> {
        let _ = (instance, dir);
        Ok(Vec::new())
    }

    /// Sees to an instance that has run on without a server: to what its nodes have lost meanwhile. Answers at once; what was
    /// done, or can't be, is told by [`RuntimeEvent::Note`].
    fn resume(&self, instance: &str) {
        let _ = instance;
    }

    /// The nodes of an instance at this moment.
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`].
    async fn inspect(&self, instance: &str) -> Result<Vec<NodeStatus>, RuntimeError>;

    /// What each node of an instance uses at this moment, in the order of [`Self::inspect`]. A node of which something can't
    /// be found out lacks that, and the others have theirs. May be dropped while it waits.
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`]; others when the runtime can't be asked at all.
    async fn stats(&self, instance: &str) -> Result<Vec<NodeStats>, RuntimeError>;

    /// Names of all instances that run, whoever deployed them.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the runtime can't be asked.
    async fn list(&self) -> Result<Vec<String>, RuntimeError>;

    /// Starts, stops or restarts a node; its links and addresses are kept. Answers the node as it is afterwards. A link that it
    /// could not be given is told by a [`RuntimeEvent::Note`].
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`], [`RuntimeError::NoNode`], [`RuntimeError::Failed`].
    async fn node(&self, instance: &str, node: &str, action: NodeAction) -> Result<NodeStatus, RuntimeError>;

    /// Writes the configurations of all nodes of an instance into `archive`, a new file, as [`saved`] says, no more than
    /// `limits` of each. Lines for the user go to `log` while it works. Answers what was saved of each node, in the order of the
    /// topology; of one that failed nothing is in the archive. A node that has been stopped is saved as well, where its files
    /// are still there.
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`]; [`RuntimeError::Cancelled`] soon after `cancel` has been triggered;
    /// [`RuntimeError::Failed`] when the archive can't be written. What is in the file then is of no use.
    async fn save(
        &self,
        instance: &str,
        dir: &Path,
        archive: std::fs::File,
        limits: SaveLimits,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Vec<NodeSaved>, RuntimeError>;

    /// Follows what a node writes to its standard output and error, as raw chunks: from its start, or from behind the chunk
    /// that came with the position `after`. Goes on over restarts of the node, and ends with the instance. Dropping the
    /// receiver ends it. A node that prints faster than the receiver is read waits, where the runtime can make it wait.
    ///
    /// Followed twice from one place, a log is the same byte by byte as far as both get, however it is cut into chunks. What
    /// the runtime keeps no longer is left out, and where that is possible, a line says so.
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`], [`RuntimeError::NoNode`]; [`RuntimeError::Failed`], after which it is tried again.
    async fn follow_log(
        &self,
        instance: &str,
        node: &str,
        after: Option<LogPosition>,
    ) -> Result<mpsc::Receiver<LogChunk>, RuntimeError>;

    /// Opens a terminal in a running node.
    ///
    /// # Errors
    /// [`RuntimeError::NodeNotRunning`]; [`RuntimeError::Failed`] when none of the commands exists in the node, naming
    /// them; [`RuntimeError::TimedOut`]. Nothing half open is left.
    async fn open_pty(&self, instance: &str, node: &str, request: PtyRequest) -> Result<Pty, RuntimeError>;

    /// Captures packets at an interface of a running node, in both directions, until the capture is dropped, the node stops
    /// or the interface goes. The node notices nothing of it, unless the capture is promiscuous.
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`], [`RuntimeError::NoNode`], [`RuntimeError::NoInterface`],
    /// [`RuntimeError::NodeNotRunning`]; [`RuntimeError::Unsupported`] where the runtime has no way to the node's interfaces,
    /// or what they pass on can't be written down; [`RuntimeError::Failed`].
    async fn capture(
        &self,
        instance: &str,
        node: &str,
        interface: &str,
        options: &CaptureOptions,
    ) -> Result<Capture, RuntimeError>;

    /// Changes that nobody asked for through this trait, from now on.
    fn watch(&self) -> broadcast::Receiver<RuntimeEvent>;

    /// Ends everything that would not survive the server anyway. Called once, last.
    async fn shut_down(&self);
}
