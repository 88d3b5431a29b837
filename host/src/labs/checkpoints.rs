//! Where the archives of saves and checkpoints are: in a folder of each lab in the data folder. The tasks of labs write and
//! remove them through the [`Shelf`], which keeps folder and store in step.
//!
//! ```text
//! <data>/checkpoints/<lab>/saved-<runtime>.tar   what was last saved of the nodes
//! <data>/checkpoints/<lab>/<checkpoint>.tar      a checkpoint
//!     topology.clab.yml                          the definition
//!     files/<path>                               its bind files
//!     nodes/…, deleted/…                         files of nodes, as `runtime::saved` says
//! ```
//!
//! An archive is written under another name, gets its own when it is whole and on disk, and is noted in the store last. So
//! whenever a server ends, there is a checkpoint with all that belongs to it or none; what is in the folder and not in the
//! store is removed when the next one begins.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{Archive, Builder};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::LabCommandError;
use super::model::{BindFile, BindFileId, Checkpoint, CheckpointId, Definition, Lab, LabId};
use crate::runtime::saved::{self, NodeSaved, SaveLimits, SaveOutcome, SavedFile, SavedFiles, copy_node};
use crate::store::{CheckpointLimits, MAX_FILES, Store, StoreError};
use crate::topology::Topology;

/// Name of the definition in an archive.
const DEFINITION: &str = "topology.clab.yml";
/// Folder of the bind files.
const FILES: &str = "files";
/// Archives that aren't whole yet begin like this.
const UNFINISHED: &str = ".unfinished-";

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Of one node at most.
    pub node: SaveLimits,
    /// Of one lab at most.
    pub lab: CheckpointLimits,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        let lab = CheckpointLimits { count: 20, bytes: 512 << 20 };
        Self { node: SaveLimits { bytes: 32 << 20, files: 10_000, before: lab.bytes }, lab }
    }
}

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The file system failed.
    #[error("the archive can't be written or read: {0}")]
    Io(#[from] io::Error),
    /// It holds what it can't hold.
    #[error(transparent)]
    Archive(#[from] saved::ArchiveError),
    /// The store refused it, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is too much, or what it is made of can't be used; says what and what helps.
    #[error("{0}")]
    Refused(String),
}

impl From<ShelfError> for LabCommandError {
    fn from(error: ShelfError) -> Self {
        match error {
            ShelfError::Refused(reason) => Self::Refused(reason),
            ShelfError::Store(
                error @ (StoreError::NameTaken { .. } | StoreError::TooMuch(_) | StoreError::Null(_)),
            ) => Self::Refused(error.to_string()),
            ShelfError::Store(StoreError::NotFound { what: "lab", id }) => Self::NotFound(id.into()),
            error => {
                tracing::error!(%error, "a save or checkpoint failed");
                Self::Internal(match error {
                    ShelfError::Io(error) => format!("the archive can't be written or read: {error}"),
                    error => error.to_string(),
                })
            }
        }
    }
}

/// A checkpoint with all that a deploy needs of it.
#[derive(Debug)]
pub struct Kept {
    /// What is known of it.
    pub checkpoint: Checkpoint,
    /// Its definition, read beside its files.
    pub definition: Arc<Definition>,
    /// Its bind files.
    pub files: Vec<BindFile>,
    /// What its nodes had, if there is anything.
    pub saved: Option<SavedFiles>,
}

/// A checkpoint that is to be made.
#[derive(Debug, Clone)]
pub(super) struct ToKeep {
    pub(super) checkpoint: Checkpoint,
    pub(super) nodes: Vec<String>,
    pub(super) files: Vec<BindFile>,
}

/// Keeps the archives of all labs.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    root: PathBuf,
    store: Store,
    pub(super) options: CheckpointOptions,
    /// Taken by whoever lists what is in an archive, which may be long.
    pub(super) listing: Arc<Semaphore>,
}

/// Archives that are listed at once.
const LISTINGS: usize = 2;

impl Shelf {
    pub(super) fn new(root: PathBuf, store: Store, options: CheckpointOptions) -> Self {
        Self { root, store, options, listing: Arc::new(Semaphore::new(LISTINGS)) }
    }

    /// Removes what is no lab's, or in no store: of a server that was killed.
    pub(super) async fn tidy(&self, labs: &[Lab]) -> Result<(), StoreError> {
        let labs: BTreeSet<String> = labs.iter().map(|lab| lab.id.to_string()).collect();
        let known = self.store.checkpoint_ids().await?;
        let known: BTreeSet<PathBuf> = known.iter().map(|(lab, id)| self.archive(lab, id)).collect();
        let root = self.root.clone();
        let tidied = spawn_blocking(move || tidy(&root, &labs, &known)).await.map_err(io::Error::other).flatten();
        if let Err(error) = tidied {
            tracing::warn!(%error, "old archives of checkpoints could not be removed");
        }
        Ok(())
    }

    fn folder(&self, lab: &LabId) -> PathBuf {
        self.root.join(lab.as_str())
    }

    fn archive(&self, lab: &LabId, id: &CheckpointId) -> PathBuf {
        self.folder(lab).join(format!("{id}.tar"))
    }

    fn last_saved(&self, lab: &LabId, runtime: &str) -> PathBuf {
        self.folder(lab).join(format!("saved-{runtime}.tar"))
    }

    /// A file for an archive that is to be written; gone with the answer unless it is kept.
    pub(super) async fn unfinished(&self, lab: &LabId) -> Result<Unfinished, ShelfError> {
        let folder = self.folder(lab);
        blocking(move || Ok(Unfinished::new(&folder)?)).await
    }

    /// Keeps what was saved of nodes in place of what was saved before. Of those that failed, what there was stays.
    pub(super) async fn keep_saved(
        &self,
        lab: &LabId,
        runtime: &str,
        new: Unfinished,
        nodes: &[NodeSaved],
    ) -> Result<(), ShelfError> {
        let (place, nodes, folder) = (self.last_saved(lab, runtime), nodes.to_vec(), self.folder(lab));
        blocking(move || {
            let is_whole = nodes.iter().all(|node| !matches!(node.outcome, SaveOutcome::Failed(_)));
            if is_whole || !place.exists() {
                return Ok(new.keep(&place)?);
            }
            let (before, now) = (SavedFiles::open(&place)?, SavedFiles::open(&new.path)?);
            let merged = Unfinished::new(&folder)?;
            let mut archive = Builder::new(merged.file()?);
            for NodeSaved { node, outcome } in &nodes {
                let from = if matches!(outcome, SaveOutcome::Failed(_)) { &before } else { &now };
                copy_node(from.reader(), node, SaveLimits::NONE, &mut archive)?;
            }
            archive.into_inner()?;
            Ok(merged.keep(&place)?)
        })
        .await
    }

    /// Makes a checkpoint, with what was last saved of its nodes on `runtime`.
    pub(super) async fn keep(&self, to_keep: ToKeep, runtime: &str) -> Result<Checkpoint, ShelfError> {
        let ToKeep { mut checkpoint, nodes, files } = to_keep;
        let (lab, id) = (checkpoint.lab_id.clone(), checkpoint.id.clone());
        let (folder, place) = (self.folder(&lab), self.archive(&lab, &id));
        let saved = self.last_saved(&lab, runtime);
        let definition = checkpoint.definition.clone();
        let written = {
            let place = place.clone();
            blocking(move || {
                let saved = match SavedFiles::open(&saved) {
                    Ok(saved) => Some(saved),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error.into()),
                };
                let unfinished = Unfinished::new(&folder)?;
                let written = write(unfinished.file()?, &definition, &files, &nodes, saved.as_ref())?;
                unfinished.keep(&place)?;
                Ok(written)
            })
            .await?
        };
        checkpoint.files = written.files;
        checkpoint.bytes = written.bytes;
        checkpoint.runtime = written.of_nodes.then(|| runtime.to_owned());
        if let Err(error) = self.store.insert_checkpoint(&checkpoint, self.options.lab).await {
            // Unless it may be there all the same: then the next start finds out.
            if !matches!(error, StoreError::Unknown) {
                let _ = tokio::fs::remove_file(&place).await;
            }
            return Err(error.into());
        }
        Ok(checkpoint)
    }

    /// A checkpoint, with all that a deploy needs of it.
    pub(super) async fn open(&self, checkpoint: Checkpoint) -> Result<Kept, ShelfError> {
        let place = self.archive(&checkpoint.lab_id, &checkpoint.id);
        blocking(move || {
            let saved = open_archive(&place)?;
            let files = bind_files(&saved)?;
            let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
            let topology = Topology::parse_beside(&checkpoint.definition, &paths)
                .map_err(|error| ShelfError::Refused(format!("the checkpoint's definition: {error}")))?;
            let definition = Definition { text: checkpoint.definition.clone(), topology: Arc::new(topology) };
            let saved = checkpoint.runtime.is_some().then_some(saved);
            Ok(Kept { checkpoint, definition: Arc::new(definition), files, saved })
        })
        .await
    }

    /// The archive of a checkpoint.
    pub(super) async fn open_whole(&self, checkpoint: &Checkpoint) -> Result<SavedFiles, ShelfError> {
        let place = self.archive(&checkpoint.lab_id, &checkpoint.id);
        blocking(move || open_archive(&place)).await
    }

    /// Removes a checkpoint.
    pub(super) async fn remove(&self, lab: &LabId, id: &CheckpointId) -> Result<(), StoreError> {
        self.store.delete_checkpoint(lab, id).await?;
        if let Err(error) = tokio::fs::remove_file(self.archive(lab, id)).await {
            tracing::warn!(%lab, checkpoint = %id, %error, "the archive of a checkpoint could not be removed");
        }
        Ok(())
    }

    /// Removes all archives of a lab that is gone from the store.
    pub(super) async fn remove_lab(&self, lab: &LabId) {
        match tokio::fs::remove_dir_all(self.folder(lab)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%lab, %error, "the checkpoints of a lab could not be removed");
            }
            _ => {}
        }
    }
}

/// Does what takes long beside the tasks, to its end.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShelfError> + Send + 'static,
) -> Result<T, ShelfError> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn open_archive(place: &Path) -> Result<SavedFiles, ShelfError> {
    SavedFiles::open(place).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ShelfError::Refused(
            "the checkpoint's files are gone from the data folder: only the checkpoint can be removed".into(),
        ),
        _ => error.into(),
    })
}

/// What was written into an archive.
struct Written {
    files: u64,
    bytes: u64,
    /// Whether there is anything of nodes.
    of_nodes: bool,
}

fn write(
    file: File,
    definition: &str,
    files: &[BindFile],
    nodes: &[String],
    saved: Option<&SavedFiles>,
) -> Result<Written, ShelfError> {
    let mut archive = Builder::new(file);
    let mut append = |path: &Path, content: &str| {
        let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
        let mut header = saved::new_header(content.len() as u64, mode);
        archive.append_data(&mut header, path, content.as_bytes())
    };
    append(Path::new(DEFINITION), definition)?;
    for file in files {
        append(&Path::new(FILES).join(&file.path), &file.content)?;
    }
    let (mut count, mut of_nodes) = (files.len() as u64, false);
    for (node, saved) in nodes.iter().filter_map(|node| Some((node, saved?))) {
        let copied = copy_node(saved.reader(), node, SaveLimits::NONE, &mut archive)?;
        count += copied.files;
        of_nodes |= copied.files > 0 || copied.deleted > 0;
    }
    let bytes = archive.into_inner()?.metadata()?.len();
    Ok(Written { files: count, bytes, of_nodes })
}

/// The bind files in an archive.
fn bind_files(archive: &SavedFiles) -> Result<Vec<BindFile>, ShelfError> {
    let mut files = Vec::new();
    let mut archive = Archive::new(archive.reader());
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let place = entry.path()?.into_owned();
        let Some(path) = place.strip_prefix(FILES).ok().and_then(Path::to_str) else { continue };
        let mut content = String::new();
        entry.take(MAX_FILES as u64).read_to_string(&mut content)?;
        // It is no file of a topology, and has no id of one.
        let (id, topology_id) = (BindFileId::from(""), "".into());
        files.push(BindFile { id, topology_id, path: path.to_owned(), content });
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// What a checkpoint has, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Bind files: path and bytes.
    pub files: Vec<(String, u64)>,
    /// Files and links of nodes, the first of them.
    pub of_nodes: Vec<SavedFile>,
    /// How many there are besides.
    pub more: usize,
}

/// Files of nodes that are listed of a checkpoint. All are in its archive.
const LISTED: usize = 2000;

impl Contents {
    /// Reads what is in the archive of a checkpoint. Blocks.
    ///
    /// # Errors
    /// As the file system reports them.
    pub(super) fn read(archive: &SavedFiles) -> io::Result<Self> {
        let bind = |member: &saved::Member| {
            let path = member.place.strip_prefix(FILES).ok()?;
            Some((path.to_string_lossy().into_owned(), member.size))
        };
        let files = saved::members(archive.reader())?.iter().filter_map(bind).collect();
        let mut of_nodes = saved::list(archive)?;
        let more = of_nodes.len().saturating_sub(LISTED);
        of_nodes.truncate(LISTED);
        of_nodes.shrink_to_fit();
        Ok(Self { files, of_nodes, more })
    }
}

/// An archive that isn't whole yet. Its file is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn new(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(format!("{UNFINISHED}{}", uuid::Uuid::new_v4()));
        File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path })
    }

    /// The file, to be written from its beginning.
    pub(super) fn file(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(&self.path)
    }

    /// Gives it its name, once it is on disk.
    fn keep(self, place: &Path) -> io::Result<()> {
        self.file()?.sync_all()?;
        fs::rename(&self.path, place)?;
        match place.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has another name by now, or isn't wanted.
        let _ = fs::remove_file(&self.path);
    }
}

fn tidy(root: &Path, labs: &BTreeSet<String>, known: &BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| labs.contains(name)) {
            fs::remove_dir_all(entry.path())?;
            continue;
        }
        for file in fs::read_dir(entry.path())? {
            let file = file?;
            let name = file.file_name();
            let is_saved = name.to_str().is_some_and(|name| name.starts_with("saved-"));
            if !is_saved && !known.contains(&file.path()) {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_store_is_removed_and_the_rest_stays() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("checkpoints");
        let path = |name: &str| root.join(name);
        for file in ["a/1.tar", "a/2.tar", "a/.unfinished-x", "a/saved-embedded.tar", "gone/1.tar"] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), "").unwrap();
        }
        tidy(&root, &BTreeSet::from(["a".to_owned()]), &BTreeSet::from([path("a/1.tar")])).unwrap();
        let left = ["a/1.tar", "a/saved-embedded.tar"].map(|file| path(file).exists());
        assert_eq!(left, [true, true]);
        assert_eq!((fs::read_dir(path("a")).unwrap().count(), path("gone").exists()), (2, false));
        tidy(&place.path().join("none"), &BTreeSet::new(), &BTreeSet::new()).unwrap();
    }

    #[test]
    fn an_archive_that_is_not_kept_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        drop(Unfinished::new(place.path()).unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        let kept = place.path().join("x.tar");
        Unfinished::new(place.path()).unwrap().keep(&kept).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
