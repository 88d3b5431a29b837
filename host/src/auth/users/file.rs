//! The file of users: what is in it, how it is read, and how it is written so that a reader never meets half of it.
//!
//! ```yaml
//! users:
//!   alice:
//!     password: $argon2id$…
//!     admin: true
//!     collections: [course]
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::password::PasswordHash;

/// Longest name of a user, in characters.
const MAX_NAME: usize = 100;

/// Why the file of users can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It can't be read.
    #[error("{path}: the users can't be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It isn't what it should be.
    #[error("{path}: {error}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong.
        error: String,
    },
    /// The configuration names it, and it isn't there.
    #[error(
        "auth.usersFile: there is no {0}; `antimony-host user add NAME --config FILE` makes it, or take the key out of the \
         configuration"
    )]
    Missing(PathBuf),
    /// It can't be written.
    #[error("{path}: the users can't be written: {error}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A user, without their name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The hash of their password.
    #[serde(deserialize_with = "hash")]
    pub password: PasswordHash,
    /// Whether they are an administrator.
    #[serde(default)]
    pub admin: bool,
    /// Names of the collections that they belong to.
    #[serde(default)]
    pub collections: Vec<String>,
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PasswordHash, D::Error> {
    PasswordHash::read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The users of a file, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    #[serde(deserialize_with = "entries")]
    users: BTreeMap<String, Entry>,
}

fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Entry>, D::Error> {
    // A section that holds comments only says nothing, which is fine.
    let users = Option::<BTreeMap<String, Entry>>::deserialize(deserializer)?.unwrap_or_default();
    for name in users.keys() {
        check_name(name).map_err(|problem| serde::de::Error::custom(format!("the user {name:?}: {problem}")))?;
    }
    Ok(users)
}

/// Whether somebody may be called so.
///
/// # Errors
/// What is wrong with the name, in a sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("a user needs a name".to_owned())
    } else if name.chars().count() > MAX_NAME {
        Err(format!("a name has at most {MAX_NAME} characters"))
    } else if name != name.trim() {
        Err("a name must not begin or end with spaces".to_owned())
    } else if name.chars().any(char::is_control) {
        Err("a name must not have control characters".to_owned())
    } else {
        Ok(())
    }
}

impl Users {
    /// Reads the file; `None`: there is none.
    ///
    /// # Errors
    /// [`UsersError::Unreadable`], [`UsersError::Invalid`].
    pub fn read(path: &Path) -> Result<Option<Self>, UsersError> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| UsersError::Unreadable { path: path.to_owned(), error })?,
        };
        Self::parse(&text).map(Some).map_err(|error| UsersError::Invalid { path: path.to_owned(), error })
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The key is told apart from the error, which only knows the place.
        let mut key = String::new();
        // Never with the line itself, in which there may be a password.
        let options = serde_saphyr::options! { with_snippet: false };
        let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            serde_path_to_error::deserialize::<_, Option<Self>>(deserializer).map_err(|error| {
                key = error.path().to_string();
                error.into_inner()
            })
        });
        read.map(Option::unwrap_or_default)
            .map_err(|error| if key.is_empty() || key == "." { error.to_string() } else { format!("{key}: {error}") })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user of that name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.users.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.users.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Adds a user, or replaces the one of that name.
    pub fn insert(&mut self, name: &str, entry: Entry) {
        self.users.insert(name.to_owned(), entry);
    }

    /// Takes a user out; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.users.remove(name).is_some()
    }

    /// As it is written down. JSON's texts are texts of YAML as well.
    fn text(&self, head: &str) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = head.to_owned();
        text.push_str(if self.users.is_empty() { "users: {}\n" } else { "users:\n" });
        for (name, Entry { password, admin, collections }) in &self.users {
            let collections: Vec<String> = collections.iter().map(|name| quoted(name)).collect();
            let (name, password, collections) = (quoted(name), quoted(password.as_str()), collections.join(", "));
            text.push_str(&format!("  {name}:\n    password: {password}\n"));
            text.push_str(&format!("    admin: {admin}\n    collections: [{collections}]\n"));
        }
        text
    }
}

/// What a new file begins with.
const HEAD: &str = "\
# The users of an antimony-host. `antimony-host user` writes this file; the server reads it anew when it changes. Of the
# comments, those above `users:` are kept when it is written.
";

/// Changes the file in one step: others that change it wait, readers meet it as it was or as it is then. It is readable by
/// its owner alone, who is the one that it had before, or else that of its folder.
///
/// # Errors
/// [`UsersError`], or whatever `change` says: nothing is changed then.
pub fn edit<E: From<UsersError>>(path: &Path, change: impl FnOnce(&mut Users) -> Result<(), E>) -> Result<(), E> {
    let unwritable = |error| UsersError::Unwritable { path: path.to_owned(), error };
    // A link stays one, and what it points to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The folder itself is what editors take turns with, so that no file for that is left in it.
    let turn = File::open(folder).and_then(|folder| folder.lock().map(|()| folder)).map_err(unwritable)?;
    let before = std::fs::read_to_string(path).ok();
    let mut users = Users::read(path)?.unwrap_or_default();
    change(&mut users)?;
    let comments = |text: &String| -> String {
        let is_comment = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
        text.split_inclusive('\n').take_while(|line| is_comment(line)).collect()
    };
    let head = before.as_ref().map_or_else(|| HEAD.to_owned(), comments);
    write(path, folder, &users.text(&head)).map_err(unwritable)?;
    drop(turn);
    Ok(())
}

fn write(path: &Path, folder: &Path, text: &str) -> io::Result<()> {
    // Temporary files are private from the start, and stay so.
    let mut file = tempfile::Builder::new().prefix(".users-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    let owner = std::fs::metadata(path).or_else(|_| std::fs::metadata(folder))?;
    let ours = file.as_file().metadata()?;
    if (owner.uid(), owner.gid()) != (ours.uid(), ours.gid()) && nix::unistd::geteuid().is_root() {
        fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn entry(password: &str) -> Entry {
        let password = PasswordHash::of(password).expect("hashed");
        Entry { password, admin: false, collections: vec!["course: #1".to_owned(), "ü\"\\".to_owned()] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.yml");
        assert_eq!(Users::read(&path).expect("none"), None);
        let names = ["alice", "bob: #", "ünï", "true", "1", "-", "a\"b\\c", "~"];
        for name in names {
            edit::<UsersError>(&path, |users| {
                users.insert(name, entry("correct horse"));
                Ok(())
            })
            .expect("written");
        }
        let users = Users::read(&path).expect("valid").expect("there");
        assert_eq!(users.len(), names.len());
        assert!(names.iter().all(|name| users.get(name).is_some_and(|user| user.collections.len() == 2)));
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1, "nothing is left beside it");
        assert!(std::fs::read_to_string(&path).expect("text").starts_with("# The users of"));
    }

    #[test]
    fn a_change_that_fails_changes_nothing_and_comments_above_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.yml");
        std::fs::write(&path, "# ours\n\n# all of it\nusers:\n").expect("written");
        let failed = edit(&path, |_| Err(UsersError::Missing(path.clone())));
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "# ours\n\n# all of it\nusers:\n");
        edit::<UsersError>(&path, |_| Ok(())).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "# ours\n\n# all of it\nusers: {}\n");
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.yml");
        let one = entry("correct horse");
        std::thread::scope(|scope| {
            for index in 0..16 {
                let (path, one) = (&path, one.clone());
                scope.spawn(move || {
                    edit::<UsersError>(path, |users| {
                        users.insert(&format!("user{index}"), one);
                        Ok(())
                    })
                    .expect("written");
                });
            }
        });
        assert_eq!(Users::read(&path).expect("valid").expect("there").len(), 16);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key_and_line() {
        let hash = PasswordHash::of("correct horse").expect("hashed");
        for (text, part, line) in [
            ("users:\n  alice:\n    admin: true\n", "password", '3'),
            ("users:\n  alice:\n    password: secret\n", "users.alice.password", '3'),
            ("users:\n  alice:\n    password: HASH\n    admn: true\n", "admn", '4'),
            ("users:\n  alice:\n    password: HASH\n    admin: maybe\n", "users.alice.admin", '4'),
            ("users:\n  alice:\n    password: HASH\n  alice:\n    password: HASH\n", "alice", '4'),
            ("user:\n  alice:\n    password: HASH\n", "user", '1'),
            ("users:\n  \" alice\":\n    password: HASH\n", "begin or end", '2'),
        ] {
            let error = Users::parse(&text.replace("HASH", hash.as_str())).expect_err(text);
            assert!(error.contains(part) && error.contains(line), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for empty in ["", "# nothing\n", "users:\n", "users: {}\n"] {
            assert!(Users::parse(empty).expect(empty).is_empty());
        }
    }
}
