//! From a folder into an archive. The folder may belong to somebody hostile, who may change it meanwhile: whatever they do,
//! this ends, stays within its limits and within the folder.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use tar::{Builder, EntryType};

use super::archive::append_link;
use super::baseline::{Baseline, Mark, mark, mark_of_link};
use super::tree::{Folder, Kind};
use super::{Copied, DELETED, NODES, SaveLimits, new_header, place};

/// How many folders may lie within one another.
const DEPTH: usize = 64;
/// How many things are looked at. The file system of a node has fewer; only one that is changed all the time has more.
const MOST: usize = 262_144;
/// Bytes that are read, beyond what may be saved, to find out that they are as they were.
const COMPARED: u64 = 64 << 20;

/// Why a folder was not saved.
#[derive(Debug, thiserror::Error)]
pub(in crate::runtime) enum CollectError {
    /// It has more than may be saved.
    #[error(
        "{files} files with {bytes} bytes differ from a fresh node, and {} files with {} bytes may be saved; the largest is \
         {largest}, with {size} bytes: remove it, or have the operator raise checkpoints.nodeFiles and checkpoints.nodeBytes",
        .limits.files, .limits.bytes
    )]
    TooMuch {
        /// Files, links and folders.
        files: u64,
        /// Bytes.
        bytes: u64,
        /// What may be.
        limits: SaveLimits,
        /// The largest of the files.
        largest: String,
        /// Its bytes.
        size: u64,
    },
    /// Folders lie too deep within one another, or there are too many things in them.
    #[error("{0}: {1}")]
    Shape(String, &'static str),
    /// Something can't be read.
    #[error("{0}: {1}")]
    Read(String, io::Error),
    /// Whoever takes the archive takes no more.
    #[error("the archive can't be written: {0}")]
    Write(io::Error),
}

/// Something that was found.
enum Found<'a> {
    Folder,
    Link(&'a OsStr),
    File(&'a mut File),
}

type Visit<'v> = dyn FnMut(&Path, &FileStat, Found<'_>) -> Result<(), CollectError> + 'v;

impl Baseline {
    /// Takes in what a folder has that nobody changes meanwhile.
    pub(in crate::runtime) fn of(root: OwnedFd, leave_out: &dyn Fn(&Path) -> bool) -> Result<Self, CollectError> {
        let mut baseline = Self::default();
        walk(root, leave_out, &mut |path, stat, found| {
            baseline.insert(path.to_owned(), mark_of(path, stat, found)?);
            Ok(())
        })?;
        Ok(baseline)
    }
}

/// What is wanted of a folder.
pub(in crate::runtime) struct Wanted<'a> {
    /// Whether this path, from the folder on, is not wanted, nor what is in it.
    pub(in crate::runtime) leave_out: &'a dyn Fn(&Path) -> bool,
    /// Whether symbolic links are: not where a program of the host will look at what is restored, which would follow them.
    pub(in crate::runtime) links: bool,
    /// What is not wanted as long as it is like this.
    pub(in crate::runtime) baseline: &'a Baseline,
    /// How much at most.
    pub(in crate::runtime) limits: SaveLimits,
}

/// Writes everything into an archive that is in `root` and wanted, and the names of what of the baseline is there no more. What
/// is on another mount is left out, too.
///
/// # Errors
/// [`CollectError`]; part of it may have been written.
pub(in crate::runtime) fn collect(
    root: OwnedFd,
    node: &str,
    wanted: &Wanted<'_>,
    archive: &mut Builder<impl Write>,
) -> Result<Copied, CollectError> {
    let Wanted { leave_out, links, baseline, limits } = *wanted;
    let mut there = BTreeSet::new();
    let (mut files, mut bytes, mut largest) = (0_u64, 0_u64, (PathBuf::new(), 0));
    let mut compared = limits.bytes.saturating_add(COMPARED);
    walk(root, leave_out, &mut |path, stat, mut found| {
        if !links && matches!(found, Found::Link(_)) {
            return Ok(());
        }
        let size = if matches!(found, Found::File(_)) { u64::try_from(stat.st_size).unwrap_or(u64::MAX) } else { 0 };
        if let Some(before) = baseline.get(path) {
            there.insert(path.to_owned());
            // A file can be said to be of any size at no cost to who made it.
            if size <= compared {
                compared -= size;
                let same = match &mut found {
                    Found::File(file) => {
                        let same = mark(stat, &mut (&mut **file).take(size))
                            .map_err(|error| unreadable(path, error))?
                            == *before;
                        file.rewind().map_err(|error| unreadable(path, error))?;
                        same
                    }
                    Found::Link(target) => mark_of_link(stat, target) == *before,
                    Found::Folder => mark_of(path, stat, Found::Folder)? == *before,
                };
                if same {
                    return Ok(());
                }
            }
        }
        files += 1;
        bytes = bytes.saturating_add(size);
        if size >= largest.1 {
            largest = (path.to_owned(), size);
        }
        // What is beyond the limits is only counted, so that the largest can be named.
        if files > limits.files || bytes > limits.bytes {
            return Ok(());
        }
        append(archive, &place(NODES, node, path), stat, found, size).map_err(CollectError::Write)
    })?;
    if files > limits.files || bytes > limits.bytes {
        let (largest, size) = (shown(&largest.0), largest.1);
        return Err(CollectError::TooMuch { files, bytes, limits, largest, size });
    }
    let (mut gone, mut deleted): (Option<&Path>, u64) = (None, 0);
    for path in baseline.paths().filter(|path| !there.contains(*path)) {
        // What was in it has gone with it.
        if gone.is_some_and(|folder| path.starts_with(folder)) {
            continue;
        }
        gone = Some(path);
        let mut header = new_header(0, 0o644);
        deleted += 1;
        archive.append_data(&mut header, place(DELETED, node, path), io::empty()).map_err(CollectError::Write)?;
    }
    Ok(Copied { files, bytes, deleted })
}

fn append(
    archive: &mut Builder<impl Write>,
    place: &Path,
    stat: &FileStat,
    found: Found<'_>,
    size: u64,
) -> io::Result<()> {
    let mut header = new_header(size, 0o777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    match found {
        Found::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(stat.st_mode & 0o1777);
            archive.append_data(&mut header, place, io::empty())
        }
        Found::Link(target) => append_link(archive, header, place, target),
        Found::File(file) => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(stat.st_mode & 0o777);
            // It may become longer or shorter while it is read, but the archive has said by now how long it is.
            archive.append_data(&mut header, place, file.chain(io::repeat(0)).take(size))
        }
    }
}

fn mark_of(path: &Path, stat: &FileStat, found: Found<'_>) -> Result<Mark, CollectError> {
    match found {
        Found::Folder => mark(stat, &mut io::empty()),
        Found::Link(target) => Ok(mark_of_link(stat, target)),
        Found::File(file) => mark(stat, file),
    }
    .map_err(|error| unreadable(path, error))
}

/// Shows everything that would be kept to `visit`, folders before what is in them.
fn walk(root: OwnedFd, leave_out: &dyn Fn(&Path) -> bool, visit: &mut Visit<'_>) -> Result<(), CollectError> {
    let root = Folder::of(root);
    let stat = root.own_stat().map_err(|error| unreadable(Path::new(""), error.into()))?;
    visit(Path::new(""), &stat, Found::Folder)?;
    let mut left = MOST;
    within(&root, Path::new(""), &mut left, leave_out, visit)
}

fn within(
    folder: &Folder,
    path: &Path,
    left: &mut usize,
    leave_out: &dyn Fn(&Path) -> bool,
    visit: &mut Visit<'_>,
) -> Result<(), CollectError> {
    if path.components().count() >= DEPTH {
        return Err(CollectError::Shape(shown(path), "folders lie too deep within one another"));
    }
    let names = match folder.names(*left) {
        Ok(names) => names,
        Err(Errno::E2BIG) => return Err(too_many(path)),
        Err(error) if is_gone(error) => return Ok(()),
        Err(error) => return Err(unreadable(path, error.into())),
    };
    for name in names {
        *left = left.checked_sub(1).ok_or_else(|| too_many(path))?;
        let path = path.join(&name);
        if leave_out(&path) {
            continue;
        }
        match one(folder, &name, &path, left, leave_out, visit) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(error) if is_gone(error) => {}
            // Opening was not to wait.
            Err(Errno::EAGAIN) => {
                return Err(CollectError::Shape(shown(&path), "a process in the node holds a lease on it"));
            }
            Err(error) => return Err(unreadable(&path, error.into())),
        }
    }
    Ok(())
}

fn one(
    folder: &Folder,
    name: &OsString,
    path: &Path,
    left: &mut usize,
    leave_out: &dyn Fn(&Path) -> bool,
    visit: &mut Visit<'_>,
) -> Result<Result<(), CollectError>, Errno> {
    // What was seen by name may have been exchanged by the time it is opened: what was opened counts.
    match Kind::of(&folder.stat(name)?) {
        Kind::Folder => {
            let inner = folder.folder(name)?;
            let visited = visit(path, &inner.own_stat()?, Found::Folder);
            Ok(visited.and_then(|()| within(&inner, path, left, leave_out, visit)))
        }
        Kind::File => {
            let mut file = folder.file(name)?;
            let stat = fstat(&file)?;
            if Kind::of(&stat) != Kind::File {
                return Ok(Ok(()));
            }
            Ok(visit(path, &stat, Found::File(&mut file)))
        }
        Kind::Link => {
            let stat = folder.stat(name)?;
            let target = folder.link(name)?;
            Ok(if Kind::of(&stat) == Kind::Link { visit(path, &stat, Found::Link(&target)) } else { Ok(()) })
        }
        Kind::Other => Ok(Ok(())),
    }
}

/// Whether it is no longer what was found, or on another mount.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::EXDEV | Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO | Errno::EINVAL)
}

fn too_many(path: &Path) -> CollectError {
    CollectError::Shape(shown(path), "there are too many files in it")
}

fn unreadable(path: &Path, error: io::Error) -> CollectError {
    CollectError::Read(shown(path), error)
}

/// A path as it is said in errors: it may be of any length, and of any bytes.
fn shown(path: &Path) -> String {
    let text: String = Path::new("/").join(path).to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
