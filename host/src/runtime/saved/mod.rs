//! Files of nodes, as they are saved and brought back: the one form that both runtimes write and read, a tar archive.
//!
//! ```text
//! nodes/<node>/<path>     what a node has changed or made, with modes and owners as the node sees them
//! deleted/<node>/<path>   an empty file for each that the node has removed of what every fresh one has
//! ```
//!
//! | module | role |
//! |---|---|
//! | [`tree`] | reaches into a folder whose owner may be hostile, without ever leaving it |
//! | [`baseline`] | what a fresh node has, so that only what differs is kept |
//! | [`collect`](mod@collect) | from such a folder into an archive |
//! | [`unpack`](mod@unpack) | from an archive into such a folder |
//! | [`archive`] | what the server does with archives: takes over what it is sent, and says what is in one |
//!
//! The drivers call these, in the server or in a node's own namespaces; `labs` keeps the archives and gives them back. An
//! archive holds folders, plain files and symbolic links: no devices, sockets or pipes, no set-user-id bits and no extended
//! attributes. Hard links become files of their own. No link is ever followed.

mod archive;
mod baseline;
mod collect;
mod tree;
mod unpack;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(super) use self::archive::keep_or_cut;
pub use self::archive::{ArchiveError, Copied, Member, SavedFile, copy_node, list, members, new_header};
pub(super) use self::baseline::Baseline;
pub(super) use self::collect::{Wanted, collect};
pub(super) use self::unpack::unpack;

/// Folder of an archive with the files of nodes.
const NODES: &str = "nodes";
/// Folder with the names of what nodes have removed.
const DELETED: &str = "deleted";

/// How much is saved of one node at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveLimits {
    /// Bytes of all its files together.
    pub bytes: u64,
    /// Files, links and folders.
    pub files: u64,
    /// Bytes that the nodes before it may have taken in the archive.
    pub before: u64,
}

impl SaveLimits {
    /// For what was within limits when it was saved.
    pub const NONE: Self = Self { bytes: u64::MAX, files: u64::MAX, before: u64::MAX };

    /// Why no other node is saved, when the archive is this long already.
    pub(super) fn full(&self, length: u64) -> Option<SaveOutcome> {
        let most = self.before;
        let reason = || {
            format!(
                "the nodes before it have {length} bytes, and a lab may have {most}: have the operator raise \
                 checkpoints.labBytes"
            )
        };
        (length > most).then(|| SaveOutcome::Failed(reason()))
    }
}

/// What was saved of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSaved {
    /// Its name.
    pub node: String,
    /// What came of it.
    pub outcome: SaveOutcome,
}

impl NodeSaved {
    /// A line for the log.
    pub(super) fn in_words(&self) -> String {
        let (node, detail) = (&self.node, self.outcome.detail());
        match self.outcome {
            SaveOutcome::Saved { .. } => format!("Saved node {node}: {detail}"),
            SaveOutcome::Nothing(_) | SaveOutcome::Failed(_) => format!("Node {node} was not saved: {detail}"),
        }
    }
}

/// What came of saving a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveOutcome {
    /// So much was saved; nothing, if the node has changed nothing.
    Saved {
        /// Files, links and folders.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// There is nothing that could be saved of such a node; why, in a sentence.
    Nothing(String),
    /// It could not be saved; why, in a sentence.
    Failed(String),
}

impl SaveOutcome {
    /// In a few words.
    pub fn detail(&self) -> String {
        match self {
            Self::Saved { files: 0, .. } => "nothing has changed".to_owned(),
            Self::Saved { files, bytes } => {
                let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
                format!("{files}, {bytes} bytes")
            }
            Self::Nothing(why) | Self::Failed(why) => why.clone(),
        }
    }
}

/// An archive with files of nodes. Cheap to clone, and there for as long as it is held, whatever becomes of its name.
#[derive(Debug, Clone)]
pub struct SavedFiles(Arc<File>);

impl SavedFiles {
    /// The archive in this file.
    ///
    /// # Errors
    /// As the file system reports them.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(File::open(path)?)))
    }

    /// Reads it from its beginning, whoever else does so.
    pub fn reader(&self) -> impl Read + Seek + Send + use<> {
        Reader { file: Arc::clone(&self.0), at: 0 }
    }
}

/// Reads a file from a place of its own.
struct Reader {
    file: Arc<File>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Where something of a node is in an archive.
fn place(folder: &str, node: &str, path: &Path) -> PathBuf {
    let mut place = Path::new(folder).join(node);
    // Without a path it is the node's own folder, and must not end in a slash.
    if !path.as_os_str().is_empty() {
        place.push(path);
    }
    place
}

/// Takes a place apart: which folder, which node, which path in it.
fn parts(place: &Path) -> Option<(&OsStr, &OsStr, &Path)> {
    let mut components = place.components();
    let (folder, node) = (components.next()?.as_os_str(), components.next()?.as_os_str());
    Some((folder, node, components.as_path()))
}
