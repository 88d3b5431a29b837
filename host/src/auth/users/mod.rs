//! Local users: people whom a file names, for teams that have no provider of logins.
//!
//! `file` is the file and `password` the hashes in it. [`LocalUsers`] is what a server holds: the users as they are now,
//! kept up to date by a task of its own that looks at the file as `plugins::reload` does, and for the same reasons. A file
//! that can't be used changes nothing, and the log says why; one that has gone has no users.

pub mod file;
pub mod password;

use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;

pub use self::file::{Entry, Users, UsersError};
use super::Bearer;

/// The file of users unless the configuration names one, in the data folder.
pub const DEFAULT_USERS_FILE: &str = "users.yml";

/// How often the file is looked at. What has changed counts once it has stayed the same for as long.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What ids of local users begin with, so that nobody else's is the same.
const ID_PREFIX: &str = "local:";

/// Where the users are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersSource {
    /// The file.
    pub path: PathBuf,
    /// Whether it has to be there when the server starts.
    pub required: bool,
}

impl UsersSource {
    /// Whether there are local users: the file is there, or has to be.
    pub fn is_used(&self) -> bool {
        self.required || self.path.exists()
    }
}

/// The users of the file as they are now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalUsers {
    now: Arc<ArcSwap<Users>>,
    /// Says whose hash is checked in place of that of an unknown user.
    decoys: RandomState,
}

impl LocalUsers {
    /// Nobody, for ever.
    pub fn none() -> Self {
        Self { now: Arc::default(), decoys: RandomState::new() }
    }

    /// Reads the file, and begins to look after it. Goes on until the last handle is dropped.
    ///
    /// # Errors
    /// [`UsersError`].
    pub fn open(source: UsersSource) -> Result<Self, UsersError> {
        let UsersSource { path, required } = source;
        // Looked at before it is read, so that no change after that is missed.
        let stat = stat(&path);
        let users = match Users::read(&path)? {
            None if required => return Err(UsersError::Missing(path)),
            users => users.unwrap_or_default(),
        };
        warn_if_open(&path);
        let all = Self { now: Arc::new(ArcSwap::from_pointee(users)), decoys: RandomState::new() };
        tokio::spawn(follow(path, stat, Arc::downgrade(&all.now)));
        Ok(all)
    }

    /// All of them.
    pub fn now(&self) -> Arc<Users> {
        self.now.load_full()
    }

    /// The user, if this is their password. Takes as long where there is no such user, and blocks meanwhile.
    pub fn check(&self, name: &str, password: &str) -> Option<Bearer> {
        let users = self.now();
        let known = users.get(name);
        // In place of an unknown user's, the hash of one and the same other user is checked, whatever comes of it: how
        // long it takes is nothing that would tell them from somebody who is there.
        let decoy = || {
            let count = u64::try_from(users.len()).unwrap_or(u64::MAX).max(1);
            let index = usize::try_from(self.decoys.hash_one(name) % count).unwrap_or_default();
            users.iter().nth(index).map(|(_, entry)| entry)
        };
        let right = known.or_else(decoy).is_some_and(|entry| entry.password.is_of(password));
        known.filter(|_| right).map(|entry| bearer(name, entry))
    }

    /// The user of this id as they are now, and what their refresh tokens stand on: their name and the hash of their
    /// password.
    pub fn current(&self, id: &str) -> Option<(Bearer, String)> {
        let name = id.strip_prefix(ID_PREFIX)?;
        let users = self.now();
        let entry = users.get(name)?;
        Some((bearer(name, entry), ground(name, entry)))
    }
}

/// What a refresh token stands on. Changes with the password.
fn ground(name: &str, entry: &Entry) -> String {
    format!("local user\0{}\0{name}\0{}", name.len(), entry.password.as_str())
}

fn bearer(name: &str, entry: &Entry) -> Bearer {
    Bearer {
        id: format!("{ID_PREFIX}{name}").into(),
        name: name.to_owned(),
        admin: entry.admin,
        collections: entry.collections.clone(),
    }
}

/// What changes when a file is written or replaced. Links are followed.
type Stat = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn stat(path: &Path) -> Stat {
    let found = std::fs::metadata(path).ok()?;
    let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
    Some((found.dev(), found.ino(), found.size(), times.0, times.1, times.2, times.3))
}

fn warn_if_open(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "others can read the hashes of the users' passwords: chmod 600 keeps them out");
    }
}

/// Reads the file whenever it has changed and then stayed the same for one look.
async fn follow(path: PathBuf, mut read: Stat, now: std::sync::Weak<ArcSwap<Users>>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = read;
    loop {
        looks.tick().await;
        let file = path.clone();
        let (before, known) = (last, read);
        // Asks the file system, which may take its time.
        let looked = tokio::task::spawn_blocking(move || {
            let stat = stat(&file);
            let users = (stat == before && stat != known).then(|| Users::read(&file));
            (stat, users)
        });
        let Ok((found, users)) = looked.await else { continue };
        last = found;
        let Some(now) = now.upgrade() else { return };
        let Some(users) = users else { continue };
        read = found;
        match users {
            Ok(users) => {
                let users = users.unwrap_or_default();
                tracing::info!(path = %path.display(), users = users.len(), "the users were read again");
                warn_if_open(&path);
                now.store(Arc::new(users));
            }
            Err(error) => tracing::error!(%error, "the users stay as they were"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::users::password::PasswordHash;

    fn write(path: &Path, users: &[(&str, &str, bool)]) {
        file::edit::<UsersError>(path, |all| {
            *all = Users::default();
            for (name, password, admin) in users {
                let password = PasswordHash::of(password).expect("hashed");
                all.insert(name, Entry { password, admin: *admin, collections: vec!["course".to_owned()] });
            }
            Ok(())
        })
        .expect("written");
    }

    async fn until(what: &str, check: impl Fn() -> bool) {
        let waited = async {
            while !check() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
    }

    #[tokio::test]
    async fn users_change_with_their_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.yml");
        let source = UsersSource { path: path.clone(), required: false };
        let users = LocalUsers::open(source).expect("no file is fine");
        assert_eq!(users.check("alice", "correct horse"), None);
        write(&path, &[("alice", "correct horse", false)]);
        until("alice", || users.now().len() == 1).await;
        let alice = users.check("alice", "correct horse").expect("let in");
        assert_eq!((alice.id.as_str(), alice.admin), ("local:alice", false));
        assert_eq!(users.check("alice", "wrong horse"), None);
        assert_eq!(users.check("Alice", "correct horse"), None);
        let (_, before) = users.current("local:alice").expect("there");

        write(&path, &[("alice", "another horse", true)]);
        until("another password", || users.current("local:alice").is_some_and(|(_, ground)| ground != before)).await;
        assert!(users.current("local:alice").expect("there").0.admin);
        assert_eq!(users.check("alice", "correct horse"), None);

        write(&path, &[]);
        until("nobody", || users.now().is_empty()).await;
        assert_eq!(users.current("local:alice"), None);
        for id in ["native:alice", "alice", "local:"] {
            assert_eq!(users.current(id), None, "{id}");
        }
    }

    #[tokio::test]
    async fn a_file_that_the_configuration_names_has_to_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = UsersSource { path: folder.path().join("users.yml"), required: true };
        assert!(source.is_used());
        let error = LocalUsers::open(source).expect_err("it isn't").to_string();
        assert!(error.contains("auth.usersFile") && error.contains("user add"), "{error}");
    }

    #[test]
    fn a_password_of_somebody_else_lets_nobody_in() {
        let mut all = Users::default();
        for name in ["alice", "bob"] {
            let password = PasswordHash::of(&format!("password of {name}")).expect("hashed");
            all.insert(name, Entry { password, admin: false, collections: Vec::new() });
        }
        let users = LocalUsers { now: Arc::new(ArcSwap::from_pointee(all)), decoys: RandomState::new() };
        for name in ["carol", "dave", "erin", "frank", "", "alice\0"] {
            for password in ["password of alice", "password of bob"] {
                assert_eq!(users.check(name, password), None, "{name}");
            }
        }
        assert!(users.check("bob", "password of bob").is_some());
    }

    #[test]
    fn it_takes_as_long_whether_there_is_such_a_user_or_not() {
        let mut all = Users::default();
        let password = PasswordHash::of("correct horse").expect("hashed");
        all.insert("alice", Entry { password, admin: false, collections: Vec::new() });
        let users = LocalUsers { now: Arc::new(ArcSwap::from_pointee(all)), decoys: RandomState::new() };
        let took = |name: &str| {
            let began = std::time::Instant::now();
            assert_eq!(users.check(name, "wrong horse"), None);
            began.elapsed()
        };
        // The quickest of some, in turns, so that whatever else the machine does strikes both. To look a name up takes a
        // ten thousandth of what a hash does.
        let (known, unknown): (Vec<_>, Vec<_>) = (0..10).map(|_| (took("alice"), took("nobody"))).unzip();
        let (known, unknown) = (known.into_iter().min().unwrap(), unknown.into_iter().min().unwrap());
        assert!(unknown * 4 > known && known * 4 > unknown, "{known:?} {unknown:?}");
    }
}
