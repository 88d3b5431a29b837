//! SQLite: a database in one file, which nobody else may read. Opened by [`Store`](super::Store) alone.
//!
//! SQLite lets any number of processes share a file, but what a server remembers of its labs would then be wrong. So whoever
//! opens one for writing holds a lock on a file beside it, [`Lock`]. Not on the database itself: SQLite has locks of its own
//! there, which a process loses when it closes the file, however it had opened it.

use std::borrow::Cow;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AnyPool, ConnectOptions, Connection};

use super::{migrations, owner, percent_encoded};

/// How long a connection waits for another program that has locked the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a query waits for its turn before the disk counts as broken.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// How many queries read at once.
const READERS: u32 = 4;
/// What is true of one connection only, and so is said on each. `FULL`: what was committed survives a power cut.
const EACH_CONNECTION: &str = "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;";

/// Why a file isn't used that has something else in it.
const FOREIGN: &str = "it belongs to another program; name another file";

/// The connections to a database: those that read, and the one that writes.
pub(super) struct Pools {
    pub(super) reads: AnyPool,
    pub(super) writes: AnyPool,
}

/// Keeps other servers out of a database. It is let go with the last handle, or when the process ends, however it does.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes it for the database at `path`, which is its real name: whoever uses another one means the same file.
    fn take(path: &Path) -> Result<Self, String> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(beside(path));
        let file = file.map_err(|error| format!("its lock {} can't be made: {error}", beside(path).display()))?;
        free(&file)?;
        Ok(Self(file))
    }

    /// Says so when somebody has it, without taking it.
    fn look(path: &Path) -> Result<(), String> {
        // Who can't read it can't tell; whoever opens the database will.
        File::open(beside(path)).map_or(Ok(()), |file| free(&file))
    }

    /// Lets the database go, whoever still has a handle. When this returns, another server can have it.
    pub(super) fn release(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the database is held until the server ends");
        }
    }
}

/// Takes a lock that nobody has.
fn free(file: &File) -> Result<(), String> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(owner::taken(None)),
        Err(TryLockError::Error(error)) => Err(format!("it can't be told whether another server uses it: {error}")),
    }
}

/// The file whose lock keeps others out. It stays: whoever removed it would let two in, each with a lock of their own.
fn beside(path: &Path) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(".lock");
    file.into()
}

/// Opens the file, makes it if it isn't there, and brings its schema up to date. It is this process's alone, as long as it
/// has the lock.
pub(super) async fn open(path: &Path) -> Result<(Pools, Lock), String> {
    // Before anything is done to it: opening a database changes its file.
    if belongs_to_another_program(path).await? {
        return Err(FOREIGN.to_owned());
    }
    make_private(path).map_err(|error| sentence(&error))?;
    // By its whole name: it becomes part of an address.
    let path = path.canonicalize().map_err(|error| sentence(&error))?;
    let lock = Lock::take(&path)?;
    // The kind of journal is in the file, too: it is left as it is until the file is known to be this program's.
    let options = SqliteConnectOptions::new().filename(&path).busy_timeout(BUSY_TIMEOUT);
    let mut connection = options.connect().await.map_err(|error| sentence(&error))?;
    let ready = prepare(&mut connection).await;
    let closed = connection.close().await;
    ready?;
    closed.map_err(|error| sentence(&error))?;
    let address = format!("sqlite://{}?mode=rw", percent_encoded(path.to_str().ok_or("its path is not UTF-8")?));
    let writes = connect(1, &address).await?;
    Ok((Pools { reads: connect(READERS, &address).await?, writes }, lock))
}

async fn connect(connections: u32, address: &str) -> Result<AnyPool, String> {
    let pool = pool(connections).acquire_timeout(TURN_TIMEOUT);
    pool.connect_with(address_of(address)?).await.map_err(|error| sentence(&error))
}

/// Whether after this error nobody knows what becomes of the connection's transaction. Where the disk is full or broken, SQLite
/// ends it by itself, which sqlx doesn't hear of: the connection would begin no other any more. A change that contradicts what
/// is there ends no transaction.
pub(super) fn spoils_connection(error: &sqlx::Error) -> bool {
    const CONSTRAINT: i32 = 19;
    let code = |error: &dyn DatabaseError| error.code().and_then(|code| code.parse::<i32>().ok());
    error.as_database_error().is_some_and(|error| code(error).is_none_or(|code| code & 0xff != CONSTRAINT))
}

/// A database of this process alone, which is gone with its last connection.
pub(super) async fn in_memory() -> Result<Pools, String> {
    // Each connection has a database of its own, so there is exactly one, and it never ends.
    let pool = pool(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_with(address_of("sqlite::memory:")?).await.map_err(|error| sentence(&error))?;
    migrations::run(&pool).await.map_err(|error| migrations::sentence(&error, sentence))?;
    Ok(Pools { reads: pool.clone(), writes: pool })
}

fn pool(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(connections).after_connect(|connection, _| {
        Box::pin(async move {
            sqlx::raw_sql(EACH_CONNECTION).execute(connection).await?;
            Ok(())
        })
    })
}

fn address_of(address: &str) -> Result<AnyConnectOptions, String> {
    sqlx::any::install_default_drivers();
    address.parse().map_err(|error: sqlx::Error| sentence(&error))
}

/// Says what is wrong with the database, or brings its schema up to date.
async fn prepare(connection: &mut SqliteConnection) -> Result<(), String> {
    // Once more: it could have become another program's since it was looked at.
    if is_foreign(connection).await.map_err(|error| sentence(&error))? {
        return Err(FOREIGN.to_owned());
    }
    healthy(connection).await?;
    sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut *connection).await.map_err(|error| sentence(&error))?;
    migrations::run(connection).await.map_err(|error| migrations::sentence(&error, sentence))
}

async fn healthy(connection: &mut SqliteConnection) -> Result<(), String> {
    match sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(connection).await.as_deref() {
        Ok("ok") => Ok(()),
        Ok(damage) => {
            let damage = damage.lines().last().unwrap_or_default();
            Err(format!("it is damaged ({damage}); restore it from a backup"))
        }
        Err(error) => Err(sentence(error)),
    }
}

/// Whether there is something in it, but nothing of this program.
async fn is_foreign(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let count = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let tables: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await?;
    let count = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    let ours: i64 = sqlx::query_scalar(count).fetch_one(connection).await?;
    Ok(tables > 0 && ours == 0)
}

async fn look_into(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT).connect().await
}

/// Whether the file is a database, and of another program: the one that existing Antimony servers keep.
///
/// # Errors
/// A sentence, where that can't be found out at the moment: then the file may be anybody's.
pub(super) async fn belongs_to_another_program(path: &Path) -> Result<bool, String> {
    match tokio::fs::metadata(path).await {
        // What is no file is nobody's database, and is refused for that later.
        Ok(found) if !found.is_file() || found.len() == 0 => return Ok(false),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
        Err(error) => return Err(not_known(&error)),
    }
    let looked = async {
        let mut connection = look_into(path).await?;
        let foreign = is_foreign(&mut connection).await;
        let _ = connection.close().await;
        foreign
    };
    match looked.await {
        // It is no database: SQLITE_NOTADB.
        Err(error) if code_of(&error).as_deref() == Some("26") => Ok(false),
        found => found.map_err(|error| not_known(&error)),
    }
}

fn not_known(error: &(dyn std::error::Error + 'static)) -> String {
    format!(
        "it can't be told whether it belongs to another program, so it is left as it is ({}): stop whatever uses it, and \
         if it is another Antimony server's, start that once and stop it again so that it tidies up its file; or name \
         another file",
        sentence(error)
    )
}

/// What a start would find, without changing anything.
pub(super) async fn probe(path: &Path) -> Result<String, String> {
    if !path.exists() {
        return Ok(format!("SQLite in {}, which isn't there yet", path.display()));
    }
    Lock::look(&path.canonicalize().map_err(|error| sentence(&error))?)?;
    let mut connection = look_into(path).await.map_err(|error| sentence(&error))?;
    let found = async {
        healthy(&mut connection).await?;
        if is_foreign(&mut connection).await.map_err(|error| sentence(&error))? {
            return Err(FOREIGN.to_owned());
        }
        migrations::check_not_newer(&mut connection).await
    };
    let found = found.await;
    let _ = connection.close().await;
    found.map(|()| format!("SQLite in {}", path.display()))
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

/// SQLite's number for an error. Its lowest byte says what it is, the rest more precisely.
fn code_of(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// An error in one line, with what helps where that is known.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref().and_then(code_of).as_deref() {
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
