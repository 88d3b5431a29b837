//! The key that tokens are signed with: made at the first start, kept in a file that nobody else may read.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of a new key: as many as the hash of HS256 takes in without folding them.
const KEY_BYTES: usize = 64;

/// The fewest that are accepted: those that the hash puts out.
const MIN_KEY_BYTES: usize = 32;

/// More than a key ever has; whatever is longer is some other file.
const MAX_KEY_BYTES: usize = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or made.
    #[error("the signing key {path} can't be used: {source}")]
    Io {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What is in the file can't be a key.
    #[error(
        "the signing key {path} has {length} bytes instead of {MIN_KEY_BYTES} to {MAX_KEY_BYTES}; delete it and a new \
         one is made, after which everybody has to log in again"
    )]
    Length {
        /// Its path.
        path: String,
        /// How many bytes it has.
        length: usize,
    },
}

/// A key for signing tokens. Whoever knows it can be anybody.
pub struct SigningKey(Vec<u8>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Self {
        let mut bytes = vec![0; KEY_BYTES];
        rand::fill(&mut bytes[..]);
        Self(bytes)
    }

    /// The key in the file at `path`, which is made if it isn't there.
    ///
    /// # Errors
    /// [`KeyError`], which names the file.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let fail = |source| KeyError::Io { path: path.display().to_string(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path).map_err(fail)?;
                File::open(path)
            }
            opened => opened,
        };
        let file = file.map_err(fail)?;
        if file.metadata().map_err(fail)?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others could read the signing key; they can't any more");
            file.set_permissions(Permissions::from_mode(0o600)).map_err(fail)?;
        }
        let mut bytes = Vec::new();
        file.take(MAX_KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
        if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&bytes.len()) {
            return Err(KeyError::Length { path: path.display().to_string(), length: bytes.len() });
        }
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes the file. It appears whole or not at all, and never replaces one that somebody else made in the meantime.
fn create(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let draft = path.with_extension(format!("new-{}", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let made = file.write_all(SigningKey::generate().bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    });
    std::fs::remove_file(&draft)?;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data").join("signing.key");
        let made = SigningKey::load_or_create(&path).expect("made");
        let loaded = SigningKey::load_or_create(&path).expect("loaded");
        assert_eq!(made.bytes(), loaded.bytes());
        assert_eq!(made.bytes().len(), KEY_BYTES);
        assert_eq!(path.metadata().expect("exists").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path().join("data")).expect("lists").count(), 1, "no draft is left");
        assert_ne!(SigningKey::generate().bytes(), SigningKey::generate().bytes());
        assert_eq!(format!("{made:?}"), "SigningKey(…)");
    }

    #[test]
    fn first_starts_at_the_same_time_agree_on_one_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("signing.key");
        let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let load = || SigningKey::load_or_create(&path).expect("a key").bytes().to_vec();
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("signing.key");
        for length in [0, 31, MAX_KEY_BYTES + 1] {
            std::fs::write(&path, vec![7; length]).expect("writes");
            let refused = SigningKey::load_or_create(&path).expect_err("refused").to_string();
            assert!(refused.contains("signing.key") && refused.contains("delete it"), "{refused}");
        }
    }

    #[test]
    fn a_key_that_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("signing.key");
        std::fs::write(&path, vec![7; 64]).expect("writes");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("sets");
        SigningKey::load_or_create(&path).expect("loaded");
        assert_eq!(path.metadata().expect("exists").permissions().mode() & 0o777, 0o600);
    }
}
