//! Plain data about collections, topologies, labs and their instances. No IO, no wire format.
//!
//! The store keeps these, the lifecycle moves them, the edges (`socket`, `http`) translate them to JSON, and `plugins`
//! translates them to WIT.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new id that nothing else has: a time-ordered UUID.
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string().into())
            }

            /// The id as it is written everywhere.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id.into())
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Identifies a collection.
    CollectionId
);
id!(
    /// Identifies a stored topology.
    TopologyId
);
id!(
    /// Identifies a bind file of a topology.
    BindFileId
);
id!(
    /// Identifies a lab.
    LabId
);
id!(
    /// Identifies a checkpoint of a lab.
    CheckpointId
);
id!(
    /// Identifies a shell session.
    ShellId
);
id!(
    /// Identifies a user. Whatever the auth policy says a person's id is; never generated here.
    UserId
);

/// Somebody as the REST API names them: an id, and a name to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Stable id.
    pub id: UserId,
    /// Name to show.
    pub name: String,
}

/// A named group of topologies and labs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// Unique name, which identities refer to.
    pub name: String,
    /// Members may create topologies in it.
    pub public_write: bool,
    /// Members may create labs from its topologies.
    pub public_deploy: bool,
    /// Who created it.
    pub creator: User,
}

/// A stored topology definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTopology {
    /// Its id.
    pub id: TopologyId,
    /// `name` of the definition, unique within the collection.
    pub name: String,
    /// The collection that it belongs to.
    pub collection_id: CollectionId,
    /// The definition: YAML text, as its author wrote it.
    pub definition: String,
    /// Where the author keeps the original, if they said so. Kept for clients; the server never fetches it.
    pub sync_url: Option<String>,
    /// Whether the last attempt to deploy it failed.
    pub last_deploy_failed: bool,
    /// Who created it.
    pub creator: User,
    /// Paths of its bind files, in order. They are written one by one, never with the topology.
    pub file_paths: Vec<String>,
}

/// A file that lies beside the definition of a topology when it is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindFile {
    /// Its id.
    pub id: BindFileId,
    /// The topology that it belongs to.
    pub topology_id: TopologyId,
    /// Path beside the definition, unique within the topology, as [`crate::topology::file_path`] answers it.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// A stored lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lab {
    /// Its id.
    pub id: LabId,
    /// The name that its creator gave it.
    pub name: String,
    /// When it should start.
    pub start_time: Timestamp,
    /// When it should be destroyed; `None`: when somebody destroys it.
    pub end_time: Option<Timestamp>,
    /// The topology that it is made from.
    pub topology_id: TopologyId,
    /// The collection of that topology.
    pub collection_id: CollectionId,
    /// Who created it.
    pub creator: User,
    /// Whether the schedule still has to start it: set while its start time lies ahead, cleared when it is deployed.
    pub start_pending: bool,
    /// How many seconds before its end its users have been warned of that, at the last; `None`: not yet.
    pub warned_before: Option<u32>,
    /// Its instance, as far as it has to survive a restart of the server. Written before a deploy begins and removed
    /// after a destroy has ended.
    pub instance: Option<StoredInstance>,
}

/// What has to be known about an instance after a restart of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// Name that the runtime knows it by: topology name and a timestamp.
    pub name: String,
    /// Name of the runtime that it was deployed on, which alone knows what becomes of it.
    pub runtime: String,
    /// The definition that it was deployed from, which may differ from the topology's present one.
    pub definition: String,
    /// When its deploy began.
    pub deployed: Timestamp,
    /// Its state when it was last written.
    pub state: InstanceState,
    /// When that state began.
    pub since: Timestamp,
}

/// A lab as it was at some moment, to which it can be brought back. Its bind files, and those that its nodes had changed or
/// made, are in an archive that is kept with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// The lab.
    pub lab_id: LabId,
    /// Name, unique within the lab.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub creator: User,
    /// The definition at that moment: the instance's, or the topology's where there was no instance.
    pub definition: String,
    /// Name of the runtime that files of nodes were saved on, which alone can do something with them; `None`: it has none.
    pub runtime: Option<String>,
    /// How many files, links and folders its archive has.
    pub files: u64,
    /// Bytes that its archive takes.
    pub bytes: u64,
}

/// State of an instance. The discriminant is the number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// Being brought up.
    Deploying = 0,
    /// Up.
    Running = 1,
    /// Being taken down.
    Stopping = 2,
    /// An attempt to bring it up or down failed.
    Failed = 3,
}

/// State of a lab: that of its instance, or, where it has none, derived from its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabState {
    /// No instance; start time ahead (-2).
    Scheduled,
    /// No instance; start time past (-1).
    Inactive,
    /// Has an instance (0 to 3).
    Instance(InstanceState),
}

impl LabState {
    /// The state of a lab that starts at `start_time` and whose instance, if it has one, is in `instance`.
    pub fn derive(instance: Option<InstanceState>, start_time: Timestamp, now: Timestamp) -> Self {
        match instance {
            Some(state) => Self::Instance(state),
            None if start_time > now => Self::Scheduled,
            None => Self::Inactive,
        }
    }

    /// The number that clients know it by, for instance in `stateFilter`.
    pub fn code(self) -> i32 {
        match self {
            Self::Scheduled => -2,
            Self::Inactive => -1,
            Self::Instance(state) => state as i32,
        }
    }
}

/// An instance as the server knows it while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name that the runtime knows it by.
    pub name: String,
    /// When its deploy began.
    pub deployed: Timestamp,
    /// Its state.
    pub state: InstanceState,
    /// When that state began.
    pub since: Timestamp,
    /// Its nodes, in the order of the definition. Empty until the runtime has made them.
    pub nodes: Vec<NodeStatus>,
    /// Whether it was taken up again after a restart of the server.
    pub recovered: bool,
}

/// A node of an instance as the runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Name in the definition, letter for letter.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Image, if it was made from one.
    pub image: Option<String>,
    /// What it does.
    pub state: NodeState,
    /// Management address without prefix length; empty: none.
    pub ipv4: String,
    /// Management address without prefix length; empty: none.
    pub ipv6: String,
    /// 12 hexadecimal digits, unique on this machine.
    pub container_id: String,
    /// Name of the container, such as `clab-lab-r1`.
    pub container_name: String,
}

/// What a node does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Made, not up yet.
    Starting,
    /// Its process runs.
    Running,
    /// Its process has ended or was stopped.
    Exited,
}

/// A lab with all that a decision about it, or an answer to a client, needs: taken at one moment.
#[derive(Debug, Clone)]
pub struct LabSnapshot {
    /// The stored lab.
    pub lab: Lab,
    /// Its collection.
    pub collection: Collection,
    /// Its state at that moment.
    pub state: LabState,
    /// The definition that counts: the instance's, or the topology's where there is no instance.
    pub definition: String,
    /// The same, read: with the files that lie beside it, which decide what of it reaches for the host.
    pub topology: Arc<crate::topology::Topology>,
    /// Its instance, if it has one.
    pub instance: Option<Instance>,
    /// What a deploy would build, where that is not what runs: the topology was changed since.
    pub next: Option<Arc<Definition>>,
}

/// A topology definition, as text and read.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// As its author wrote it.
    pub text: String,
    /// The same, read.
    pub topology: Arc<crate::topology::Topology>,
}

impl LabSnapshot {
    /// The lab as a deploy is to be judged: with what it would build, rather than with what runs at the moment.
    pub fn to_deploy(self: &Arc<Self>) -> Arc<Self> {
        match &self.next {
            None => Arc::clone(self),
            Some(next) => Arc::new(Self {
                definition: next.text.clone(),
                topology: Arc::clone(&next.topology),
                ..(**self).clone()
            }),
        }
    }
}
