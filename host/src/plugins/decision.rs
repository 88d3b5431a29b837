//! What the rest of the server asks of plugins, and what it gets back, in the server's own types.
//!
//! `socket`, `http` and `labs` speak these types; only [`super`] knows that WebAssembly answers them.

use jiff::Timestamp;

use crate::labs::model::{Collection, LabId, LabSnapshot, NodeStatus, ShellId, StoredTopology, UserId};
use crate::topology::Topology;

/// What a command asks for. The discriminant is its id on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// Bring the lab up, anew if it is up.
    Deploy = 0,
    /// Take it down.
    Destroy = 1,
    /// Stop a node.
    StopNode = 2,
    /// Start a node.
    StartNode = 3,
    /// Restart a node.
    RestartNode = 4,
    /// List the user's shells in the lab.
    ListShells = 5,
    /// Open a shell in a node.
    OpenShell = 6,
    /// Close a shell.
    CloseShell = 7,
}

/// A command as a user sent it, or as the validators left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What it asks for.
    pub kind: CommandKind,
    /// The lab, which exists.
    pub lab_id: LabId,
    /// The node that it names.
    pub node: Option<String>,
    /// The shell that it names.
    pub shell_id: Option<ShellId>,
}

/// A shell, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellInfo {
    /// Its id.
    pub id: ShellId,
    /// The lab of its node.
    pub lab_id: LabId,
    /// Its node.
    pub node: String,
    /// Who opened it.
    pub owner: UserId,
}

/// Figures that a rule may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// When the question is asked.
    pub now: Timestamp,
    /// Shells that the user has open.
    pub open_shells: u32,
    /// Labs that the user created and that have an instance.
    pub running_labs: u32,
}

/// A namespace that somebody wants to connect to.
#[derive(Debug, Clone, Copy)]
pub enum Namespace<'a> {
    /// `/lab-commands`
    LabCommands,
    /// `/lab-updates`
    LabUpdates,
    /// `/status-messages`
    StatusMessages,
    /// `/shell-commands`
    ShellCommands,
    /// `/logs/<lab>`
    LabLog(&'a LabSnapshot),
    /// `/logs/<lab>/<node>`
    NodeLog(&'a LabSnapshot, &'a str),
    /// `/shells/<shell>`
    Shell(&'a ShellInfo, &'a LabSnapshot),
}

/// A topology together with what has been looked up and read of it.
#[derive(Debug, Clone, Copy)]
pub struct TopologyView<'a> {
    /// The stored topology.
    pub stored: &'a StoredTopology,
    /// Its collection.
    pub collection: &'a Collection,
    /// Its definition, read.
    pub definition: &'a Topology,
}

/// What somebody wants to do, and to what. See `policy.action` in `wit/` for when each is asked.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// Connect to a namespace.
    Connect(Namespace<'a>),
    /// Carry out a command. The shell is the one that the command names, if it is known.
    Command(&'a Command, &'a LabSnapshot, Option<&'a ShellInfo>),
    /// See a lab.
    ViewLab(&'a LabSnapshot),
    /// Create a lab; its id is empty.
    CreateLab(&'a LabSnapshot),
    /// Change a lab, from the first to the second; the same twice where it is saved, or its checkpoints are changed.
    UpdateLab(&'a LabSnapshot, &'a LabSnapshot),
    /// Delete a lab.
    DeleteLab(&'a LabSnapshot),
    /// See a topology.
    ViewTopology(TopologyView<'a>),
    /// Create a topology; its id is empty.
    CreateTopology(TopologyView<'a>),
    /// Change a topology, from the first to the second.
    UpdateTopology(TopologyView<'a>, TopologyView<'a>),
    /// Delete a topology.
    DeleteTopology(TopologyView<'a>),
    /// See a collection.
    ViewCollection(&'a Collection),
    /// Create a collection; its id is empty.
    CreateCollection(&'a Collection),
    /// Change a collection, from the first to the second.
    UpdateCollection(&'a Collection, &'a Collection),
    /// Delete a collection.
    DeleteCollection(&'a Collection),
}

/// Something that happened and that users are told of.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The lab that it happened to, in its state afterwards.
    pub lab: std::sync::Arc<LabSnapshot>,
    /// Who asked for it; `None`: the schedule, or nobody.
    pub by: Option<UserId>,
    /// What happened.
    pub what: Occurrence,
}

/// What happened. See `formatter.occurrence` in `wit/`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each case is the documented one of the same name in wit/status-formatter.wit")]
pub enum Occurrence {
    LabDeploying,
    LabDeployed,
    LabDeployFailed { reason: String, detail: String },
    LabDeployCancelled,
    LabDestroying,
    LabDestroyed,
    LabDestroyFailed { reason: String, detail: String },
    LabMissed,
    LabRecovered,
    LabLost { reason: String, detail: String },
    NodeStarted(NodeStatus),
    NodeStopped(NodeStatus),
    NodeRestarted(NodeStatus),
    NodeExited(NodeStatus),
    NodeFailed { node: NodeStatus, reason: String },
    ShellOpened(ShellInfo),
    ShellClosed(ShellInfo),
    ShellFailed { shell: ShellInfo, reason: String },
}

/// Severity of a status message. The discriminant is the number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something that was asked for has been done.
    Success = 0,
    /// Something goes on.
    Info = 1,
    /// Something is odd.
    Warning = 2,
    /// Something failed.
    Error = 3,
    /// The server is in trouble.
    Fatal = 4,
}

/// A worded event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The part of the server that speaks.
    pub source: String,
    /// What happened, in a sentence.
    pub content: String,
    /// The same in full, for logs.
    pub log_content: String,
    /// How much it matters.
    pub severity: Severity,
}

/// The documented error code that a validator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each case is the documented one of the same name in wit/command-validator.wit")]
pub enum RejectionCode {
    Generic,
    LabDeploying,
    LabNotRunning,
    NodeNotRunning,
    NodeNotFound,
    ShellNotFound,
    ShellLimit,
    InvalidRequest,
}

/// Why a decision didn't come out in the user's favour.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// A validator says that the command is not valid.
    #[error("{message} (refused by plugin {plugin}, rule {rule})")]
    Rejected {
        /// Name of the plugin.
        plugin: String,
        /// The rule that spoke.
        rule: String,
        /// A sentence for the user.
        message: String,
        /// The error code for the user.
        code: RejectionCode,
    },
    /// A policy says no.
    #[error("{message} (refused by plugin {plugin}, rule {rule})")]
    Denied {
        /// Name of the plugin.
        plugin: String,
        /// The rule that spoke.
        rule: String,
        /// A sentence for the user.
        message: String,
    },
    /// No policy knows the bearer of this token.
    #[error("no auth policy recognises this token")]
    Unrecognised,
    /// A plugin failed to decide, which counts as no.
    #[error("plugin {plugin} could not decide: {failure}")]
    Failed {
        /// Name of the plugin.
        plugin: String,
        /// How it failed.
        failure: CallFailure,
    },
}

/// How a call into a plugin failed. Each has its own name in logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// It ran longer than its budget.
    #[error("it exceeded its time budget of {0:?}")]
    TimedOut(std::time::Duration),
    /// It wanted more memory than its budget.
    #[error("it exceeded its memory budget of {0} bytes")]
    OutOfMemory(usize),
    /// It wanted larger tables than its budget.
    #[error("it exceeded its budget of {0} table elements")]
    TableOverflow(usize),
    /// What it answered is larger than its budget.
    #[error("its answer exceeds the budget of {0} bytes")]
    Oversize(usize),
    /// It used up its stack.
    #[error("it overflowed its stack")]
    StackOverflow,
    /// It trapped.
    #[error("it trapped: {0}")]
    Trapped(String),
    /// Its answer makes no sense, such as a command for another lab.
    #[error("its answer is not valid: {0}")]
    InvalidAnswer(String),
    /// As many calls as it may have at once were running, and none ended in time.
    #[error("too many calls at once")]
    Busy,
    /// It wasn't asked, since it keeps failing on this.
    #[error("it keeps failing, and is not asked for a while")]
    BreakerOpen,
}

impl CallFailure {
    /// A short, stable name of this kind of failure, for logs and metrics.
    pub fn name(&self) -> &'static str {
        super::metrics::Outcome::from(self).name()
    }
}
