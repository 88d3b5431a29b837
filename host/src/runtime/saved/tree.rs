//! Reaches into a folder whose owner may be hostile, and may change it at the same time.
//!
//! Everything is opened by one name from the descriptor of its folder, never by a path, never through a link, and never
//! on another mount than the folder that it began with. So whatever is put where in between, nothing outside is read,
//! written or removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

/// A folder that is open.
pub(super) struct Folder(OwnedFd);

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
    Link,
    /// A device, a socket, a pipe.
    Other,
}

impl Kind {
    pub(super) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
            SFlag::S_IFDIR => Self::Folder,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFLNK => Self::Link,
            _ => Self::Other,
        }
    }
}

impl Folder {
    /// The folder that this descriptor is of.
    pub(super) fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    fn open(&self, name: &OsStr, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            // A node can make whoever opens its file wait, if they are ready to.
            .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .mode(mode)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        loop {
            match openat2(&self.0, name, how) {
                // The kernel could not be sure, since somebody renamed something meanwhile, or was interrupted.
                Err(Errno::EINTR) => {}
                opened => return opened,
            }
        }
    }

    /// A folder in it.
    pub(super) fn folder(&self, name: &OsStr) -> Result<Self, Errno> {
        self.open(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).map(Self)
    }

    /// A file in it, to be read.
    pub(super) fn file(&self, name: &OsStr) -> Result<File, Errno> {
        self.open(name, OFlag::O_RDONLY, Mode::empty()).map(File::from)
    }

    /// A new file in it, which nobody but its owner may use so far.
    pub(super) fn create_file(&self, name: &OsStr) -> Result<File, Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        self.open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
    }

    /// A new folder in it.
    pub(super) fn create_folder(&self, name: &OsStr) -> Result<Self, Errno> {
        mkdirat(&self.0, name, Mode::from_bits_truncate(0o755))?;
        self.folder(name)
    }

    /// A new symbolic link in it.
    pub(super) fn create_link(&self, name: &OsStr, target: &OsStr) -> Result<(), Errno> {
        symlinkat(target, &self.0, name)
    }

    /// What a symbolic link in it says.
    pub(super) fn link(&self, name: &OsStr) -> Result<OsString, Errno> {
        readlinkat(&self.0, name)
    }

    /// What is there by that name.
    pub(super) fn stat(&self, name: &OsStr) -> Result<FileStat, Errno> {
        fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// What is known of the folder itself.
    pub(super) fn own_stat(&self) -> Result<FileStat, Errno> {
        fstat(&self.0)
    }

    /// Removes a file or link, or a folder with nothing in it.
    pub(super) fn remove(&self, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let flag = if kind == Kind::Folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        unlinkat(&self.0, name, flag)
    }

    /// Names of what is in it, in order; no more than `most`.
    pub(super) fn names(&self, most: usize) -> Result<Vec<OsString>, Errno> {
        // Another description of the same folder: reading one moves on in it.
        let again = self.open(OsStr::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(again)?.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
            if names.len() > most {
                return Err(Errno::E2BIG);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
