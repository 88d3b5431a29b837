//! What a fresh node has before anything of it has run: each path with a digest of what it is. Taken by whoever builds the
//! node, and held against it when it is saved, so that only what the node has changed or made is kept.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;
use sha2::{Digest as _, Sha256};

/// A digest of everything about a file that would be kept.
pub(super) type Mark = [u8; 32];

/// Paths and what they were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Baseline(BTreeMap<PathBuf, Mark>);

impl Baseline {
    pub(super) fn insert(&mut self, path: PathBuf, mark: Mark) {
        self.0.insert(path, mark);
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Mark> {
        self.0.get(path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Writes it, for [`Self::read`].
    pub(in crate::runtime) fn write(&self, mut to: impl Write) -> io::Result<()> {
        for (path, mark) in &self.0 {
            let path = path.as_os_str().as_bytes();
            to.write_all(&u32::try_from(path.len()).map_err(io::Error::other)?.to_le_bytes())?;
            to.write_all(path)?;
            to.write_all(mark)?;
        }
        to.flush()
    }

    /// Reads what [`Self::write`] has written.
    pub(in crate::runtime) fn read(mut from: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let cut = || io::Error::other("what is known of the fresh node ends too early");
        let (mut rest, mut baseline) = (&bytes[..], Self::default());
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let (path, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
            let (mark, after) = after.split_first_chunk::<32>().ok_or_else(cut)?;
            baseline.insert(PathBuf::from(OsString::from_vec(path.to_vec())), *mark);
            rest = after;
        }
        Ok(baseline)
    }
}

/// The digest of something with this in it: of a file its bytes, of a link its target, of a folder nothing.
pub(super) fn mark(stat: &FileStat, content: &mut dyn Read) -> io::Result<Mark> {
    let mut digest = Sha256::new();
    for number in [u64::from(stat.st_mode), u64::from(stat.st_uid), u64::from(stat.st_gid)] {
        digest.update(number.to_le_bytes());
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            length => digest.update(&buffer[..length]),
        }
    }
}

/// The same of a link.
pub(super) fn mark_of_link(stat: &FileStat, target: &OsStr) -> Mark {
    mark(stat, &mut target.as_bytes()).expect("bytes in memory can be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_what_is_cut_short_is_an_error() {
        let mut baseline = Baseline::default();
        baseline.insert("etc".into(), [1; 32]);
        baseline.insert(PathBuf::from(OsString::from_vec(b"etc/\xff\n".to_vec())), [2; 32]);
        let mut bytes = Vec::new();
        baseline.write(&mut bytes).unwrap();
        assert_eq!(Baseline::read(&bytes[..]).unwrap(), baseline);
        assert!(Baseline::read(&bytes[..bytes.len() - 1]).is_err());
        assert_eq!(Baseline::read(&b""[..]).unwrap(), Baseline::default());
    }
}
