//! Takes over what another Antimony server has: users, collections, topologies with their files, and labs, from its database
//! and its storage folder, into the store of this one.
//!
//! ```text
//! source   the rows of the other database, as they are        (SQLite or PostgreSQL, read only)
//! storage  definitions and files, which lie in a folder
//! plan     what becomes of each row here, beside what there is, and why some can't be taken: pure
//! store    writes all of it in one transaction, or nothing
//! ```
//!
//! Ids stay as they are, so that links and bookmarks go on to work, except those of users: they become the ids that logins
//! give the same people here (`plan` says which). Whatever is here already stays as it is, so that importing twice adds nothing. The
//! other server's database and folder are only read.

mod plan;
mod source;
mod storage;
#[cfg(test)]
mod tests;
mod time;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use self::plan::{Here, Plan, plan};
use self::source::Rows;
use self::storage::Storage;
use crate::store::{Store, StoreError};

pub use self::source::SourceError;

/// What to take over, and from where.
#[derive(Debug, Clone)]
pub struct Import {
    /// A file of SQLite, or the address of a PostgreSQL database.
    pub from: String,
    /// The folder that the other server keeps definitions in.
    pub storage: PathBuf,
    /// The name by which the other server's administrator logs in here.
    pub native_username: String,
    /// Whether to find out only what would happen.
    pub dry_run: bool,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The other server's database can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The folder isn't one.
    #[error(
        "the storage folder {path} can't be read: {error}; name the other server's `fileSystem.storage` by --storage"
    )]
    Storage {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// This server's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Users.
    pub users: usize,
    /// Collections.
    pub collections: usize,
    /// Topologies.
    pub topologies: usize,
    /// Files of topologies.
    pub files: usize,
    /// Labs.
    pub labs: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { users, collections, topologies, files, labs } = self;
        write!(f, "users {users}, collections {collections}, topologies {topologies}, files {files}, labs {labs}")
    }
}

/// Something to be said about one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// `user`, `collection`, `topology`, `file` or `lab`.
    pub what: &'static str,
    /// Its id in the other database.
    pub id: String,
    /// Its name, or its path.
    pub name: String,
    /// What there is to say.
    pub why: String,
}

impl Note {
    pub(crate) fn new(what: &'static str, id: &str, name: &str, why: impl Into<String>) -> Self {
        Self { what, id: id.to_owned(), name: name.to_owned(), why: why.into() }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({}): {}", self.what, self.name, self.id, self.why)
    }
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was written, because that was asked for.
    pub dry_run: bool,
    /// What wasn't here before.
    pub added: Counts,
    /// What was here already and was left as it is.
    pub already: Counts,
    /// What can't be taken over, and why.
    pub refused: Vec<Note>,
    /// What is to be said about something that was taken over.
    pub warnings: Vec<Note>,
}

impl Import {
    /// Does it.
    ///
    /// # Errors
    /// [`ImportError`]; then nothing has changed.
    pub async fn run(&self, store: &Store) -> Result<Report, ImportError> {
        let rows = Rows::read(&self.from).await?;
        let storage =
            Storage::open(&self.storage).map_err(|error| ImportError::Storage { path: self.storage.clone(), error })?;
        // Nobody else writes into the store meanwhile: whoever imports keeps servers out of the data folder.
        let here = Here {
            users: store.user_ids().await?,
            collections: store.collections().await?,
            topologies: store.topologies().await?,
            files: store.all_bind_files().await?.into_values().flatten().collect(),
            labs: store.labs().await?,
        };
        let Plan { new, added, already, refused, warnings } =
            plan(rows, &storage, here, &self.native_username, Timestamp::now());
        if !self.dry_run {
            store.insert_all(&new).await?;
        }
        Ok(Report { dry_run: self.dry_run, added, already, refused, warnings })
    }
}
