//! The folder in which the other server keeps the definitions of topologies and their files: one folder each, by the id of
//! the topology, with `topology.clab.yaml` in it.
//!
//! Paths come from the other database; nothing outside the folder of their topology is read.

use std::io;
use std::path::{Component, Path, PathBuf};

/// The definition of a topology in its folder.
const DEFINITION: &str = "topology.clab.yaml";
/// Longest text that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Somewhere to read definitions and files from.
pub(super) trait Files {
    /// The definition of a topology.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    fn definition(&self, topology: &str) -> Result<String, String> {
        self.file(topology, DEFINITION)
    }

    /// The text of a file of a topology.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    fn file(&self, topology: &str, path: &str) -> Result<String, String>;
}

/// The folder.
#[derive(Debug)]
pub(super) struct Storage(PathBuf);

impl Storage {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let real = folder.canonicalize()?;
        std::fs::read_dir(&real)?;
        Ok(Self(real))
    }
}

impl Files for Storage {
    fn file(&self, topology: &str, path: &str) -> Result<String, String> {
        let plain = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if topology.contains('/') || !plain(topology) || !plain(path) {
            return Err(format!("{topology}/{path} is no path within the storage folder"));
        }
        let folder = self.0.join(topology);
        let file = folder.join(path);
        let failed = |error: io::Error| format!("{} can't be read: {error}", file.display());
        let real = file.canonicalize().map_err(failed)?;
        if !real.starts_with(&folder) {
            return Err(format!("{} is a link out of the topology's folder", file.display()));
        }
        let details = std::fs::metadata(&real).map_err(failed)?;
        if !details.is_file() || details.len() > MAX_BYTES {
            return Err(format!("{} is no file of at most {MAX_BYTES} bytes", file.display()));
        }
        let bytes = std::fs::read(&real).map_err(failed)?;
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        text.ok_or_else(|| format!("{} is no text in UTF-8, which is all that clients can show", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_texts_within_the_folder_of_a_topology_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("storage/t1");
        std::fs::create_dir_all(folder.join("a")).expect("made");
        std::fs::write(dir.path().join("secret"), "secret").expect("written");
        std::fs::write(folder.join(DEFINITION), "name: x").expect("written");
        std::fs::write(folder.join("a/b.cfg"), "text").expect("written");
        std::fs::write(folder.join("binary"), [0xff, 0xfe]).expect("written");
        std::os::unix::fs::symlink("../../secret", folder.join("link")).expect("linked");
        let storage = Storage::open(&dir.path().join("storage")).expect("a folder");
        assert_eq!(storage.definition("t1").as_deref(), Ok("name: x"));
        assert_eq!(storage.file("t1", "a/b.cfg").as_deref(), Ok("text"));
        for (topology, path, part) in [
            ("t1", "../../secret", "no path"),
            ("t1", "/etc/passwd", "no path"),
            ("..", "secret", "no path"),
            ("t1/a", "b.cfg", "no path"),
            ("t1", "link", "a link"),
            ("t1", "a", "no file"),
            ("t1", "binary", "UTF-8"),
            ("t2", DEFINITION, "t2/topology.clab.yaml"),
        ] {
            let error = storage.file(topology, path).expect_err(path);
            assert!(error.contains(part), "{error}");
        }
        assert!(Storage::open(&dir.path().join("nowhere")).is_err());
    }
}
