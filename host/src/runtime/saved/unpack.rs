//! From an archive into the folder of a fresh node. What is in an archive was written by somebody hostile: a link in it is made
//! and never followed, and nothing is touched but what is in that folder, on that mount.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use tar::{Archive, Entry, EntryType};

use super::tree::{Folder, Kind};
use super::{DELETED, NODES, parts};

/// How many folders may lie within one another in what is removed.
const DEPTH: usize = 96;

/// Puts what an archive has of `node` into `root`, in place of whatever is there by these names; symbolic links only if `links`
/// says so. The archive has been checked when it was taken over.
///
/// # Errors
/// With the path; part of it may have been done.
pub(in crate::runtime) fn unpack(root: OwnedFd, node: &str, links: bool, archive: impl Read) -> io::Result<()> {
    let root = Folder::of(root);
    let mut archive = Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let place = entry.path()?.into_owned();
        let Some((folder, of, path)) = parts(&place) else { continue };
        if of != node {
            continue;
        }
        if !links && entry.header().entry_type() == EntryType::Symlink {
            continue;
        }
        let done = if folder == DELETED {
            remove(&root, path)
        } else if folder == NODES {
            put(&root, path, &mut entry)
        } else {
            Ok(())
        };
        done.map_err(|error| io::Error::new(error.kind(), format!("/{}: {error}", path.display())))?;
    }
    Ok(())
}

fn put(root: &Folder, path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let header = entry.header();
    let mode = Mode::from_bits_truncate(header.mode()? & 0o1777);
    let id = |id: io::Result<u64>| u32::try_from(id?).map_err(io::Error::other);
    let (owner, group) = (Some(Uid::from_raw(id(header.uid())?)), Some(Gid::from_raw(id(header.gid())?)));
    let mtime = i64::try_from(header.mtime()?).unwrap_or(0);
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Folder,
        EntryType::Regular => Kind::File,
        EntryType::Symlink => Kind::Link,
        _ => return Ok(()),
    };
    let Some(name) = path.file_name() else {
        // The folder itself.
        own(fchown(root, owner, group))?;
        return Ok(fchmod(root, mode)?);
    };
    let folder = parent(root, path, true)?;
    let folder = folder.as_ref().unwrap_or(root);
    match folder.stat(name) {
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
        Ok(stat) if Kind::of(&stat) == Kind::Folder && kind == Kind::Folder => {}
        Ok(stat) => match remove_tree(folder, name, Kind::of(&stat), DEPTH) {
            // Something else is mounted there, which the topology says is to be there.
            Err(Errno::EBUSY | Errno::EXDEV) => return Ok(()),
            done => done?,
        },
    }
    match kind {
        Kind::Folder => {
            let made = match folder.create_folder(name) {
                Err(Errno::EEXIST) => folder.folder(name),
                made => made,
            };
            let made = match made {
                Err(Errno::EXDEV) => return Ok(()),
                made => made?,
            };
            own(fchown(&made, owner, group))?;
            fchmod(&made, mode)?;
        }
        Kind::Link => {
            let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("the link leads nowhere"))?;
            folder.create_link(name, OsStr::from_bytes(&target))?;
            own(fchownat(folder, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        }
        Kind::File => {
            let mut file = folder.create_file(name)?;
            io::copy(entry, &mut file)?;
            own(fchown(&file, owner, group))?;
            fchmod(&file, mode)?;
            futimens(&file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(mtime, 0))?;
        }
        Kind::Other => {}
    }
    Ok(())
}

/// Where there are fewer users than there were, everything is root's, as it is when root makes it.
fn own(done: Result<(), Errno>) -> io::Result<()> {
    match done {
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The folder that something lies in, which is made if `make` says so; `None`: it is `root`, or isn't there.
fn parent(root: &Folder, path: &Path, make: bool) -> io::Result<Option<Folder>> {
    let mut folder: Option<Folder> = None;
    for component in path.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(name) = component else { return Err(io::Error::other("this is no path in a node")) };
        let within = folder.as_ref().unwrap_or(root);
        let inner = match within.folder(name) {
            Err(Errno::ENOENT) if make => within.create_folder(name),
            inner => inner,
        };
        folder = Some(inner?);
    }
    Ok(folder)
}

/// Removes what the node had removed.
fn remove(root: &Folder, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let folder = match parent(root, path, false) {
        Ok(folder) => folder,
        // It isn't there, or what it lay in is something else by now.
        Err(_) => return Ok(()),
    };
    let folder = folder.as_ref().unwrap_or(root);
    let Ok(stat) = folder.stat(name) else { return Ok(()) };
    match remove_tree(folder, name, Kind::of(&stat), DEPTH) {
        Err(Errno::EBUSY | Errno::EXDEV | Errno::ENOENT) => Ok(()),
        done => Ok(done?),
    }
}

fn remove_tree(folder: &Folder, name: &OsStr, kind: Kind, depth: usize) -> Result<(), Errno> {
    if kind == Kind::Folder {
        let inner = folder.folder(name)?;
        let deeper = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
        for name in inner.names(usize::MAX - 1)? {
            let kind = Kind::of(&inner.stat(&name)?);
            remove_tree(&inner, &name, kind, deeper)?;
        }
    }
    folder.remove(name, kind)
}
