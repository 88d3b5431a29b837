//! What the driver and a lab's helper say to each other over their socket pair.
//!
//! A frame is its length (4 bytes, little endian, without these), a tag and a body. Requests, replies and events are
//! JSON; what nodes print travels as it is, since it may be anything and a lot. The driver's first frame is the
//! [`LabPlan`]. A descriptor rides on the first byte of the request that needs it: a
//! terminal, or the end of a socket pair over which another descriptor comes back.
//!
//! Used by `lab` on the server's side and by `helper` on the other; it knows nothing of either.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::runtime::saved::SaveLimits;
use crate::runtime::stats::Usage;

/// Longest frame that is accepted: a plan with very many nodes stays far below.
pub(super) const MAX_FRAME: usize = 16 << 20;

/// Our own program as nodes see it, as `antimony` and under the name of each tool that it can stand in for.
pub(super) const TOOLS: &str = "/opt/antimony/bin";
/// Where programs are looked for in a node: the host's come before ours.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/antimony/bin";

/// A whole lab as the helper builds it. Nodes and links are addressed by their index from here on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LabPlan {
    /// Name of the instance.
    pub instance: String,
    /// Which ids of the host stand behind those of the nodes.
    pub ids: IdMap,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
    /// Its links.
    pub links: Vec<LinkPlan>,
    /// Processes that a node may have.
    pub processes: u64,
    /// Bytes that a node may write to its root file system.
    pub disk: u64,
    /// Paths of the host that no node sees, even below a folder that it sees.
    pub hidden: Vec<PathBuf>,
    /// Files that nodes share: those that their `binds` name.
    pub files: Vec<FilePlan>,
}

/// A file that nodes see where their `binds` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FilePlan {
    /// Path beside the topology.
    pub path: String,
    /// What is in it. It travels as base64, which keeps a plan with all the files that a topology may have within a frame.
    #[serde(with = "base64_text")]
    pub content: Vec<u8>,
}

/// Something of [`LabPlan::files`] that a node sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BindPlan {
    /// Path of a file, or of a folder of files.
    pub source: String,
    /// Absolute path in the node.
    pub target: String,
    /// Whether the node may only read it.
    pub read_only: bool,
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// How user and group ids of nodes map to those of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum IdMap {
    /// Root of every node is the user that runs the server, and there are no other ids: all that an ordinary user may.
    Own,
    /// The helper is `base`; node `i` has the `width` ids from `base + (i + 1) * width` on. The server runs as root.
    Range {
        /// First id on the host.
        base: u32,
        /// Ids of each node.
        width: u32,
    },
}

impl IdMap {
    /// The id of a node's root as the helper sees it.
    pub(super) fn root_in_lab(self, node: usize) -> u32 {
        match self {
            Self::Own => 0,
            Self::Range { width, .. } => (u32::try_from(node).expect("few nodes") + 1) * width,
        }
    }

    /// The id of a node's root on the host; `None`: that of the server itself.
    pub(super) fn root_on_host(self, node: usize) -> Option<u32> {
        match self {
            Self::Own => None,
            Self::Range { base, .. } => Some(base + self.root_in_lab(node)),
        }
    }

    /// How many ids a node has.
    pub(super) fn width(self) -> u32 {
        match self {
            Self::Own => 1,
            Self::Range { width, .. } => width,
        }
    }
}

/// A node as the helper builds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NodePlan {
    /// Name in the topology, and host name.
    pub name: String,
    /// What its main process runs; empty: nothing, the node just is there.
    pub command: Vec<String>,
    /// Environment of everything that is started in it.
    pub env: Vec<(String, String)>,
    /// User and group of its command and `exec`.
    pub user: (u32, u32),
    /// Keys (`net.…`) and values written when it starts.
    pub sysctls: Vec<(String, String)>,
    /// Bytes of memory, where cgroups allow.
    pub memory: u64,
    /// Content of its `/etc/hosts`.
    pub hosts: String,
    /// What it sees of the lab's files.
    pub binds: Vec<BindPlan>,
}

/// A link as the helper builds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LinkPlan {
    /// Its ends.
    pub ends: [EndPlan; 2],
    /// Bytes.
    pub mtu: u32,
}

/// One end of a link.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EndPlan {
    /// Index of the node.
    pub node: usize,
    /// Name of the interface in it.
    pub interface: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Addresses and prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Something that the driver wants done; answered by a [`Message::Reply`] with the same id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Chosen by the driver, never 0.
    pub id: u64,
    /// What.
    pub op: Op,
}

/// Bytes of one source's output that a helper sends before it hears that they were passed on. Beyond that, whoever prints
/// has to wait.
pub(super) const WINDOW: usize = 512 << 10;

/// What can be asked of a helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Op {
    /// Make a node's namespaces and root file system.
    CreateNode(usize),
    /// Make a link between two nodes that were created.
    CreateLink(usize),
    /// Start a node's processes.
    Start(usize),
    /// Stop a node: SIGTERM to its main process, SIGKILL to everything after the grace period.
    Stop {
        /// Which.
        node: usize,
        /// Milliseconds.
        grace: u64,
    },
    /// Run a command in a node; its output follows under the id of this request, and the reply when it has ended.
    Exec {
        /// Which.
        node: usize,
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Run the first of some commands that exists on the terminal that comes with this request.
    OpenTerminal {
        /// Which.
        node: usize,
        /// Programs and arguments.
        commands: Vec<Vec<String>>,
    },
    /// Open a packet socket in a node's network, and send it over the socket that comes with this request.
    OpenCapture(usize),
    /// Hang up and kill the session that the request with this id opened. An unknown id is no error.
    EndTerminal(u64),
    /// Write what a node has changed or made into the pipe that comes with this request, as an archive. The node needn't run.
    Save {
        /// Which.
        node: usize,
        /// How much may be written.
        limits: SaveLimits,
    },
    /// Put what the archive in the pipe that comes with this request has of a node into its file system. To be done before it is
    /// started.
    Restore(usize),
    /// End what this request has begun, a [`Op::Save`]. An unknown id is no error.
    EndSave(u64),
    /// So many bytes of what a node has printed were passed on. It gets no reply.
    NodePassed(usize, usize),
    /// The same for an `Exec`, by the id of its request. An unknown id is no error.
    ExecPassed(u64, usize),
    /// Say what each node uses.
    Stats,
    /// Stop all nodes, as with `Stop`, and remove the links.
    Destroy {
        /// Milliseconds.
        grace: u64,
    },
}

/// What the helper says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// It is ready for requests. `note`: what it can't do on this machine, if anything.
    Ready {
        /// A sentence for the log.
        note: Option<String>,
    },
    /// A request is done.
    Reply {
        /// Its id.
        id: u64,
        /// What came of it.
        result: Result<Answer, Refusal>,
    },
    /// A node's main process has ended, whoever wanted it.
    NodeExited {
        /// Which.
        node: usize,
        /// Such as `exit status 0`.
        how: String,
    },
    /// The process on a terminal has ended.
    TerminalExited {
        /// Id of the request that opened it.
        id: u64,
        /// Such as `signal 9`.
        how: String,
    },
    /// The lab could not be made, or broke; the helper ends.
    Fatal(String),
}

/// What a request that worked answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// A command has ended, such as `exit status 0`.
    Exited(String),
    /// What each node uses, by its index; `None`: it doesn't run.
    Stats(Vec<Option<Usage>>),
    /// These are the interfaces of a node, with their numbers.
    Interfaces(Vec<(String, u32)>),
}

/// Why a request was not done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The node does not run.
    NotRunning,
    /// Anything else, in words.
    Failed(String),
}

/// A frame, taken apart.
#[derive(Debug)]
pub(super) enum Frame {
    /// A JSON document.
    Json(Vec<u8>),
    /// Raw output of a node.
    NodeOutput(usize, Vec<u8>),
    /// Raw output of the command that an `Exec` request runs.
    ExecOutput(u64, Vec<u8>),
}

impl Frame {
    /// The frame of a document.
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_vec(value).expect("the protocol's types are plain data with string keys"))
    }

    /// What a JSON frame says.
    pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
        serde_json::from_slice(body)
            .map_err(|error| format!("the other end of the lab's socket sent nonsense: {error}"))
    }

    /// Its bytes on the socket.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        let (tag, number, body) = match self {
            Self::Json(body) => (b'J', None, body),
            Self::NodeOutput(node, body) => (b'N', Some(*node as u64), body),
            Self::ExecOutput(id, body) => (b'X', Some(*id), body),
        };
        let length = 1 + number.map_or(0, |_| 8) + body.len();
        to.extend_from_slice(&u32::try_from(length).expect("frames are far below 4 GiB").to_le_bytes());
        to.push(tag);
        if let Some(number) = number {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.extend_from_slice(body);
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (tag, rest) = bytes.split_first().ok_or("an empty frame")?;
        let numbered = || {
            let (number, body) = rest.split_first_chunk::<8>().ok_or("a frame that ends too early")?;
            Ok::<_, String>((u64::from_le_bytes(*number), body.to_vec()))
        };
        match tag {
            b'J' => Ok(Self::Json(rest.to_vec())),
            b'N' => numbered().map(|(node, body)| Self::NodeOutput(usize::try_from(node).unwrap_or(usize::MAX), body)),
            b'X' => numbered().map(|(id, body)| Self::ExecOutput(id, body)),
            tag => Err(format!("a frame of the unknown kind {tag}")),
        }
    }
}

/// Puts frames together from bytes as they arrive.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Takes bytes that arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, String> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(format!("a frame of {length} bytes"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let frame = Frame::decode(&rest[..length])?;
        self.bytes.drain(..4 + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut wire = Vec::new();
        Frame::json(&Message::Fatal("no".into())).encode(&mut wire);
        Frame::NodeOutput(3, b"\xff\0line\n".to_vec()).encode(&mut wire);
        Frame::ExecOutput(7, Vec::new()).encode(&mut wire);
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for byte in wire {
            frames.push(&[byte]);
            while let Some(frame) = frames.next().unwrap() {
                seen.push(frame);
            }
        }
        assert!(
            matches!(&seen[0], Frame::Json(body) if matches!(Frame::parse(body), Ok(Message::Fatal(text)) if text == "no"))
        );
        assert!(matches!(&seen[1], Frame::NodeOutput(3, body) if body == b"\xff\0line\n"));
        assert!(matches!(&seen[2], Frame::ExecOutput(7, body) if body.is_empty()));
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_buffered() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(frames.next().is_err());
    }

    #[test]
    fn every_node_has_ids_of_its_own_when_the_server_is_root() {
        let ids = IdMap::Range { base: 0x7000_0000, width: 65_536 };
        assert_eq!(ids.root_on_host(0), Some(0x7001_0000));
        assert_eq!(ids.root_on_host(1), Some(0x7002_0000));
        assert_eq!(IdMap::Own.root_on_host(5), None);
    }
}
