//! What the server itself does with archives. It takes over what it is sent entry by entry, since a process in a node's
//! namespaces has written it: names, kinds and sizes are checked here, whoever has checked them before.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

use super::{DELETED, NODES, SaveLimits, SaveOutcome, SavedFiles, parts};

/// Longest path, in bytes; the kernel's own limit.
const LONGEST: usize = 4096;
/// Bytes that the names of all files of a node may have, and what their links say: they are in memory when an archive is listed.
const NAMES: u64 = 4 << 20;

/// Why an archive can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It can't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something is in it that doesn't belong there.
    #[error("{0}: this has no place in what is saved of a node")]
    Strange(String),
    /// It has more than it may.
    #[error("more than {} files or {} bytes came", .0.files, .0.bytes)]
    TooMuch(SaveLimits),
    /// Names are too long.
    #[error("the names of the files, and what links say, are longer than {NAMES} bytes in all")]
    Names,
}

/// What was taken over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Files, links and folders.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Names of what was removed.
    pub deleted: u64,
}

/// The header of a plain file of the server's own user.
pub fn new_header(size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Takes over all that an archive has of `node`, and nothing else.
///
/// # Errors
/// [`ArchiveError`]; part of it may have been written.
pub fn copy_node(
    from: impl Read,
    node: &str,
    limits: SaveLimits,
    to: &mut Builder<impl Write>,
) -> Result<Copied, ArchiveError> {
    let mut copied = Copied::default();
    let mut names = 0_u64;
    let mut entries_left = limits.files.saturating_mul(2).saturating_add(65_536);
    let mut archive = Archive::new(from);
    for entry in archive.entries()? {
        let entry = entry?;
        let place = entry.path()?.into_owned();
        let strange = || ArchiveError::Strange(place.display().to_string());
        let plain = |component| matches!(component, Component::Normal(_));
        if place.as_os_str().len() > LONGEST || !place.components().all(plain) {
            return Err(strange());
        }
        entries_left = entries_left.checked_sub(1).ok_or(ArchiveError::TooMuch(limits))?;
        let Some((folder, of, path)) = parts(&place) else { continue };
        if of != node || ![NODES, DELETED].iter().any(|known| folder == *known) {
            continue;
        }
        let target = entry.link_name_bytes().map_or(0, |target| target.len());
        names += (place.as_os_str().len() + target) as u64;
        if names > NAMES {
            return Err(ArchiveError::Names);
        }
        let from = entry.header();
        let mut header = new_header(0, from.mode()? & 0o777);
        header.set_uid(from.uid()?);
        header.set_gid(from.gid()?);
        header.set_mtime(from.mtime()?);
        header.set_entry_type(from.entry_type());
        if folder == DELETED && from.entry_type() == EntryType::Regular && !path.as_os_str().is_empty() {
            copied.deleted += 1;
            to.append_data(&mut header, &place, io::empty())?;
            continue;
        }
        if folder != NODES {
            return Err(strange());
        }
        let size = if from.entry_type() == EntryType::Regular { entry.size() } else { 0 };
        copied = Copied { files: copied.files + 1, bytes: copied.bytes.saturating_add(size), ..copied };
        if copied.files > limits.files || copied.bytes > limits.bytes {
            return Err(ArchiveError::TooMuch(limits));
        }
        match from.entry_type() {
            EntryType::Directory => {
                header.set_mode(from.mode()? & 0o1777);
                to.append_data(&mut header, &place, io::empty())?;
            }
            EntryType::Regular => {
                header.set_size(size);
                to.append_data(&mut header, &place, entry)?;
            }
            EntryType::Symlink => {
                let target = OsString::from_vec(entry.link_name_bytes().ok_or_else(strange)?.into_owned());
                if target.len() > LONGEST {
                    return Err(strange());
                }
                append_link(to, header, &place, &target)?;
            }
            _ => return Err(strange()),
        }
    }
    Ok(copied)
}

/// Writes a symbolic link that says what it said, letter by letter.
pub(super) fn append_link(
    to: &mut Builder<impl Write>,
    mut header: Header,
    place: &Path,
    target: &OsStr,
) -> io::Result<()> {
    header.set_entry_type(EntryType::Symlink);
    // The longer ones get an entry of their own, unchanged.
    match header.set_link_name_literal(target.as_bytes()) {
        Ok(()) => to.append_data(&mut header, place, io::empty()),
        Err(_) => to.append_link(&mut header, place, target),
    }
}

/// After a node was written into an archive from `start` on: cuts it off again, if that failed.
///
/// # Errors
/// As the file system reports them.
pub(in crate::runtime) fn keep_or_cut(
    archive: &mut Builder<File>,
    start: u64,
    outcome: &SaveOutcome,
) -> io::Result<()> {
    if matches!(outcome, SaveOutcome::Saved { .. }) {
        return Ok(());
    }
    let file = archive.get_mut();
    file.set_len(start)?;
    file.seek(SeekFrom::Start(start)).map(drop)
}

/// Something in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where.
    pub place: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// A file of a node in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// Name of the node.
    pub node: String,
    /// Path from the node's root, without a slash at its beginning; what of it is no text is replaced.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// Everything that is in an archive, in its order. What files hold is not read. Blocks.
///
/// # Errors
/// As the file system reports them.
pub fn members(archive: impl Read + Seek) -> io::Result<Vec<Member>> {
    let mut archive = Archive::new(archive);
    let member = |entry: io::Result<tar::Entry<'_, _>>| {
        let entry = entry?;
        let is_folder = entry.header().entry_type() == EntryType::Directory;
        Ok(Member { place: entry.path()?.into_owned(), size: entry.size(), is_folder })
    };
    archive.entries_with_seek()?.map(member).collect()
}

/// The files and links of nodes that are in an archive. Blocks.
///
/// # Errors
/// As the file system reports them.
pub fn list(archive: &SavedFiles) -> io::Result<Vec<SavedFile>> {
    let of_node = |member: &Member| {
        let (folder, node, path) = parts(&member.place)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let wanted = folder == NODES && !member.is_folder;
        wanted.then(|| SavedFile { node: text(node.as_ref()), path: text(path), size: member.size })
    };
    Ok(members(archive.reader())?.iter().filter_map(of_node).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one entry of this kind and name, whatever a careful writer would say to it.
    fn archive(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = new_header(content.len() as u64, 0o6777);
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_link_name_literal("/etc/shadow").unwrap();
        header.set_cksum();
        let mut archive = Builder::new(Vec::new());
        archive.append(&header, content).unwrap();
        archive.into_inner().unwrap()
    }

    fn copy(bytes: &[u8], limits: SaveLimits) -> Result<(Copied, Vec<u8>), ArchiveError> {
        let mut to = Builder::new(Vec::new());
        let copied = copy_node(bytes, "n1", limits, &mut to)?;
        Ok((copied, to.into_inner().unwrap()))
    }

    #[test]
    fn what_has_no_place_in_what_is_saved_of_a_node_is_refused() {
        use EntryType as E;
        for (kind, name) in [
            (E::Regular, "nodes/n1/../../x"),
            (E::Regular, "/nodes/n1/x"),
            (E::Link, "nodes/n1/x"),
            (E::Char, "nodes/n1/x"),
            (E::Fifo, "nodes/n1/x"),
            (E::Symlink, "deleted/n1/x"),
            (E::Regular, "deleted/n1"),
        ] {
            let refused = copy(&archive(kind, name, b""), SaveLimits::NONE);
            assert!(matches!(refused, Err(ArchiveError::Strange(_))), "{kind:?} {name}: {refused:?}");
        }
        for (kind, name, copied) in [
            (E::Regular, "nodes/n1/x", Copied { files: 1, bytes: 3, deleted: 0 }),
            (E::Regular, "nodes/n2/x", Copied::default()),
            (E::Regular, "elsewhere", Copied::default()),
            (E::Regular, "deleted/n1/x", Copied { files: 0, bytes: 0, deleted: 1 }),
        ] {
            assert_eq!(copy(&archive(kind, name, b"abc"), SaveLimits::NONE).unwrap().0, copied, "{name}");
        }
        let cut = archive(E::Regular, "nodes/n1/x", &[7; 2000]);
        assert!(matches!(copy(&cut[..1000], SaveLimits::NONE), Err(ArchiveError::Io(_))));
    }

    #[test]
    fn what_is_taken_over_is_bounded_and_has_no_bits_that_raise_anybody() {
        let bytes = archive(EntryType::Regular, "nodes/n1/x", b"abc");
        for limits in [SaveLimits { bytes: 2, ..SaveLimits::NONE }, SaveLimits { files: 0, ..SaveLimits::NONE }] {
            assert!(matches!(copy(&bytes, limits), Err(ArchiveError::TooMuch(_))));
        }
        let (_, copied) = copy(&bytes, SaveLimits::NONE).unwrap();
        let mut copied = Archive::new(&copied[..]);
        assert_eq!(copied.entries().unwrap().next().unwrap().unwrap().header().mode().unwrap(), 0o777);
    }
}
