//! What survives a restart: users, collections, topologies and their files, labs, and which labs have an instance.
//!
//! `labs` keeps its labs and instances here, `http` its collections and topologies. The store checks what the data need
//! to hold together (names taken, things in use), and no rule beyond that.
//!
//! The database is SQLite in one file of the data folder. The SQL keeps to what PostgreSQL takes as well.

mod collections;
mod files;
mod labs;
mod sessions;
#[cfg(test)]
mod tests;
mod topologies;
mod users;

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::error::ErrorKind;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

pub use self::files::{MAX_COUNT, MAX_FILE, MAX_FILES};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a connection waits for another program that has locked the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a query waits for its turn before the disk counts as broken.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// How many queries read at once.
const READERS: u32 = 4;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be used.
    #[error("the database {path} can't be used: {reason}")]
    Open {
        /// Its path.
        path: String,
        /// Why, and what helps.
        reason: String,
    },
    /// Something of that kind has this name already.
    #[error("there is a {what} named `{name}` already")]
    NameTaken {
        /// `collection` or `topology`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// It can't be deleted, because something else refers to it.
    #[error("the {what} can't be deleted: it still has {users}")]
    InUse {
        /// `collection` or `topology`.
        what: &'static str,
        /// `topologies` or `labs`.
        users: &'static str,
    },
    /// There is nothing of that kind with this id.
    #[error("there is no {what} {id}")]
    NotFound {
        /// `collection`, `topology` or `lab`.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// The topology has a file of this path already.
    #[error("filePath: the topology has a file {0} already")]
    PathTaken(String),
    /// One of two paths would have to be a file and a folder at once.
    #[error("filePath: {path} can't be a file beside {other}: one would be a folder of the other")]
    PathInUse {
        /// The new path.
        path: String,
        /// That of another file of the topology.
        other: String,
    },
    /// A topology would have more files, or larger ones, than it may; says what and how many.
    #[error("{0}")]
    TooMuch(String),
    /// Something in the database makes no sense.
    #[error("the database holds a {what} that makes no sense: {problem}")]
    Nonsense {
        /// What it is about.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Handle to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reads: SqlitePool,
    /// One connection: writers wait for their turn here. Left to SQLite they would try their luck again and again, and on
    /// a busy machine one would go without it for as long as it may take.
    writes: SqlitePool,
}

impl Store {
    /// Opens the database at `path`, makes it if it isn't there, and brings its schema up to date. Only the user that
    /// runs the server may read it.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file can't be made or written, is damaged, or belongs to a newer version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
        make_private(path).map_err(|error| fail(sentence(&error)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let connect = async |connections| {
            let pool = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(TURN_TIMEOUT);
            pool.connect_with(options.clone()).await.map_err(|error| fail(sentence(&error)))
        };
        // The one that writes first: it makes what readers look for.
        let writes = connect(1).await?;
        let store = Self { reads: connect(READERS).await?, writes };
        let ready = store.prepare().await;
        if ready.is_err() {
            store.close().await;
        }
        ready.map_err(fail)?;
        Ok(store)
    }

    /// A database of this process alone, which is gone with the last handle to it.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the schema can't be made, which would be a bug.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { path: "in memory".to_owned(), reason };
        // Each connection has a database of its own, so there is exactly one, and it never ends.
        let pool = SqlitePoolOptions::new().max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
        let pool = pool.connect_with(options).await.map_err(|error| fail(sentence(&error)))?;
        let store = Self { reads: pool.clone(), writes: pool };
        store.prepare().await.map_err(fail)?;
        Ok(store)
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reads).await?;
        Ok(())
    }

    /// Waits for running queries and closes the database. Handles that are left answer with errors.
    pub async fn close(&self) {
        self.reads.close().await;
        self.writes.close().await;
    }

    /// Says what is wrong with the database, or brings its schema up to date.
    async fn prepare(&self) -> Result<(), String> {
        let check = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&self.writes).await;
        match check.as_deref() {
            Ok("ok") => {}
            Ok(damage) => {
                let damage = damage.lines().last().unwrap_or_default();
                return Err(format!("it is damaged ({damage}); restore it from a backup"));
            }
            Err(error) => return Err(sentence(error)),
        }
        MIGRATIONS.run(&self.writes).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => {
                format!("it was written by a newer version of this program (schema {version}); run that version")
            }
            MigrateError::VersionMismatch(version) => {
                format!("its schema {version} is not the one that this version of the program makes")
            }
            MigrateError::Dirty(version) => format!("an upgrade to schema {version} was cut short; restore a backup"),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => sentence(&error),
            error => error.to_string(),
        })
    }
}

/// Makes the file, and the folder that it is in, unless they are there; keeps others from reading the file.
///
/// SQLite gives the files that it puts beside it the same permissions.
fn make_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// An error in one line, with what helps where that is known.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let code =
        error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error).and_then(|error| error.code());
    match code.as_deref() {
        // SQLITE_CORRUPT and SQLITE_NOTADB.
        Some("11" | "26") => {
            "it is damaged, or no database at all; restore it from a backup, or move it away".to_owned()
        }
        // SQLITE_BUSY and SQLITE_LOCKED.
        Some("5" | "6") => "another process is using it".to_owned(),
        // SQLITE_READONLY, SQLITE_FULL.
        Some("8") => "it can't be written".to_owned(),
        Some("13") => "the disk is full".to_owned(),
        _ => error.to_string().replace('\n', " "),
    }
}

/// What a failed write means.
fn write_error(
    error: sqlx::Error,
    unique: impl FnOnce() -> StoreError,
    foreign: impl FnOnce() -> StoreError,
) -> StoreError {
    match error.as_database_error().map(sqlx::error::DatabaseError::kind) {
        Some(ErrorKind::UniqueViolation) => unique(),
        Some(ErrorKind::ForeignKeyViolation) => foreign(),
        _ => StoreError::Database(error),
    }
}

/// Makes of an update that changed nothing the error that it is.
fn found(rows: u64, what: &'static str, id: &str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::NotFound { what, id: id.to_owned() }) } else { Ok(()) }
}

/// A time as it is stored: whole milliseconds.
fn time(milliseconds: i64, what: impl Fn() -> String) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|error| StoreError::Nonsense { what: what(), problem: error.to_string() })
}
