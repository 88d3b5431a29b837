//! What survives a restart: users and their sessions, collections, topologies and their files, labs, and which labs have an
//! instance.
//!
//! `labs` keeps its labs and instances here, `http` its collections and topologies, and which logins go on. The store checks what the data need
//! to hold together (names taken, things in use), and no rule beyond that.
//!
//! Everything is kept in one of two databases, SQLite or PostgreSQL ([`config`] says how it is decided which), by the same
//! SQL through the same code: identifiers and texts are TEXT, flags and states INTEGER, times BIGINT in milliseconds since
//! 1970, and lists are sorted here, as each database would do it in its own way. What differs is in [`sqlite`] and
//! [`postgres`]: how a database is opened, and what its errors mean.
//!
//! Queries go through [`Store::read`], changes through [`Store::write`], which knows what to do when the database is away or
//! something is in the way: what it answers with an error has not been done, not even half of it.

mod checkpoints;
mod collections;
pub mod config;
mod files;
mod labs;
mod migrations;
mod owner;
mod postgres;
mod sessions;
mod sqlite;
#[cfg(test)]
mod tests;
mod topologies;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::Connection as _;
use sqlx::error::ErrorKind;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};
use tokio::time::{Instant, sleep, timeout};

use self::config::{DatabaseKind, Location};
use self::owner::{Owner, State, Watch};
use self::sqlite::Pools;
use crate::labs::model::{BindFile, Collection, Lab, StoredTopology, User};

pub use self::checkpoints::CheckpointLimits;
pub use self::files::{MAX_COUNT, MAX_FILE, MAX_FILES};
pub use self::sessions::MAX_SESSIONS;

/// How often something is begun that the database is in the way of.
const TRIES: u32 = 4;
/// How long PostgreSQL may take for one request. Its own limit for one query is lower.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take for many things that are added together: each is a query or more, and the database may be far away.
/// The limit for one query holds here, too.
const MANY_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long to find out whether something was done, when the connection broke at that very moment.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it is kept what was done. Nobody asks later than [`OUTCOME_TIMEOUT`].
const MARKS_KEPT: Duration = Duration::from_secs(300);

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be used.
    #[error("the database {place} can't be used: {reason}")]
    Open {
        /// Its path, or its name and where it is.
        place: String,
        /// Why, and what helps.
        reason: String,
    },
    /// Something of that kind has this name already.
    #[error("there is a {what} named `{name}` already")]
    NameTaken {
        /// `collection`, `topology` or `checkpoint`.
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
    /// What is to be replaced isn't what the change was made from. Nothing was done.
    #[error("others change the {0} at the same time, and nothing was done: try again in a moment")]
    Overtaken(&'static str),
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
    /// A topology or lab would have more of something, or larger ones, than it may; says what and how many.
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
    /// The database can't be reached at the moment. Nothing was done.
    #[error("the database can't be reached at the moment, and nothing was done ({0}); try again in a moment")]
    Away(String),
    /// The connection broke while the database was told to keep a change, and it can't be asked what became of that.
    #[error("the connection to the database broke: look whether it was done before you try again")]
    Unknown,
    /// A text that can't be kept, in either database.
    #[error("the {0} contains a null character: leave it out")]
    Null(&'static str),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Handle to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reads: AnyPool,
    /// One connection: writers wait for their turn here. Left to SQLite they would try their luck again and again, and on
    /// a busy machine one would go without it for as long as it may take. And no two of them are ever in each other's way.
    writes: AnyPool,
    /// Of PostgreSQL.
    remote: Option<Remote>,
    /// Of a file.
    lock: Option<Arc<sqlite::Lock>>,
}

/// What there is to know about a database that isn't a file.
#[derive(Clone, Debug)]
struct Remote {
    watch: Watch,
    owner: Arc<Owner>,
}

/// Things that are added together.
#[derive(Debug, Clone, Default)]
pub struct Everything {
    /// Users who needn't have created anything.
    pub users: Vec<User>,
    /// Collections.
    pub collections: Vec<Collection>,
    /// Topologies, of these collections or others that are there.
    pub topologies: Vec<StoredTopology>,
    /// Files, of these topologies or others that are there.
    pub files: Vec<BindFile>,
    /// Labs, of these topologies or others that are there.
    pub labs: Vec<Lab>,
}

impl Store {
    /// Opens the database, makes its file if it isn't there, and brings its schema up to date. Only the user that runs the
    /// server may read a file; no other server may open the same database at the same time. One that can't be reached is
    /// waited for, as long as its `start_timeout`.
    ///
    /// # Errors
    /// [`StoreError::Open`] when it can't be made, read or written, is damaged, belongs to a newer version or to another
    /// server, or can't be reached.
    pub async fn open(location: &Location) -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { place: location.to_string(), reason };
        match location {
            Location::Sqlite(path) => {
                let (pools, lock) = sqlite::open(path).await.map_err(fail)?;
                Ok(Self { lock: Some(Arc::new(lock)), ..Self::local(pools) })
            }
            Location::Postgres(postgres) => {
                let (Pools { reads, writes }, owner, watch) = postgres::open(postgres).await.map_err(fail)?;
                Ok(Self { reads, writes, remote: Some(Remote { watch, owner: Arc::new(owner) }), lock: None })
            }
        }
    }

    /// Opens a SQLite database in a file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_file(path: &Path) -> Result<Self, StoreError> {
        Self::open(&Location::Sqlite(path.to_owned())).await
    }

    /// A database of this process alone, which is gone with the last handle to it.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the schema can't be made, which would be a bug.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { place: "in memory".to_owned(), reason };
        Ok(Self::local(sqlite::in_memory().await.map_err(fail)?))
    }

    fn local(Pools { reads, writes }: Pools) -> Self {
        Self { reads, writes, remote: None, lock: None }
    }

    /// Looks at the database without changing anything, and says in a few words what is there.
    ///
    /// # Errors
    /// [`StoreError::Open`] where [`Self::open`] would fail.
    pub async fn probe(location: &Location) -> Result<String, StoreError> {
        let found = match location {
            Location::Sqlite(path) => sqlite::probe(path).await,
            Location::Postgres(postgres) => postgres::probe(postgres).await,
        };
        found.map_err(|reason| StoreError::Open { place: location.to_string(), reason })
    }

    /// Looks at what can be told of the database without asking another program: its file, or how it is to be reached.
    ///
    /// # Errors
    /// [`StoreError::Open`] where [`Self::open`] would fail whether the other one answers or not.
    pub async fn examine(location: &Location) -> Result<(), StoreError> {
        let found = match location {
            Location::Sqlite(path) => sqlite::probe(path).await.map(drop),
            Location::Postgres(postgres) => postgres::examine(postgres),
        };
        found.map_err(|reason| StoreError::Open { place: location.to_string(), reason })
    }

    /// Which of the two databases it is.
    pub fn kind(&self) -> DatabaseKind {
        if self.remote.is_some() { DatabaseKind::Postgres } else { DatabaseKind::Sqlite }
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// [`StoreError::Away`], [`StoreError::Database`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(&(), |db, ()| Box::pin(sqlx::query("SELECT 1").execute(db))).await?;
        Ok(())
    }

    /// Has tables go by another name, so that whatever needs them fails.
    #[cfg(test)]
    pub(crate) async fn rename_tables(&self, names: &[(&str, &str)]) {
        for (from, to) in names {
            let statement = sqlx::AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}"));
            sqlx::query(statement).execute(&self.writes).await.expect("the table is there");
        }
    }

    /// Waits for running queries and closes the database, which another server can open then. Handles that are left answer
    /// with errors.
    pub async fn close(&self) {
        self.reads.close().await;
        self.writes.close().await;
        if let Some(remote) = &self.remote {
            remote.owner.release().await;
        }
        if let Some(lock) = &self.lock {
            lock.release();
        }
    }

    /// Adds all of it, or nothing. What is there already stays, and is an error.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::NotFound`] when something refers to what isn't there, [`StoreError::Null`],
    /// [`StoreError::Away`], [`StoreError::Unknown`], [`StoreError::Database`].
    pub async fn insert_all(&self, everything: &Everything) -> Result<(), StoreError> {
        self.write_within(MANY_TIMEOUT, everything, |db, everything| {
            Box::pin(async move {
                for user in &everything.users {
                    users::ensure(db, user).await?;
                }
                for collection in &everything.collections {
                    collections::insert(db, collection).await?;
                }
                for topology in &everything.topologies {
                    topologies::insert(db, topology).await?;
                }
                for file in &everything.files {
                    files::insert(db, file).await?;
                }
                for lab in &everything.labs {
                    labs::insert(db, lab).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Runs a query about `what`, anew if the connection breaks.
    async fn read<A, T>(
        &self,
        what: &A,
        query: impl for<'c> Fn(&'c mut AnyConnection, &'c A) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError>
    where
        A: ?Sized,
    {
        for _ in 0..TRIES {
            let mut connection = self.connection(&self.reads).await?;
            match self.in_time(ANSWER_TIMEOUT, query(&mut connection, what)).await {
                Some(Err(error)) if self.is_away(&error) => {}
                Some(result) => return Ok(result?),
                None => return Err(self.give_up(ANSWER_TIMEOUT, connection)),
            }
        }
        Err(StoreError::Away("the connection breaks again and again".to_owned()))
    }

    /// Makes a change to `what`, in one transaction: all of it, or nothing. It is made anew where nothing was done because the
    /// connection broke, or another program changed the same.
    async fn write<A, T>(&self, what: &A, work: impl Work<A, T>) -> Result<T, StoreError>
    where
        A: ?Sized,
    {
        self.write_within(ANSWER_TIMEOUT, what, work).await
    }

    /// The same for a change that may take so long.
    async fn write_within<A, T>(&self, limit: Duration, what: &A, work: impl Work<A, T>) -> Result<T, StoreError>
    where
        A: ?Sized,
    {
        for tries in 0..TRIES {
            let mut connection = self.connection(&self.writes).await?;
            match self.transaction(limit, &mut connection, what, &work).await {
                End::Done(done) => return Ok(done),
                End::Failed(StoreError::Database(error)) if self.is_worth_another_try(&error) => {
                    drop(connection);
                    sleep(Duration::from_millis(10 << tries)).await;
                }
                End::Failed(error) => {
                    if let StoreError::Database(cause) = &error
                        && self.remote.is_none()
                        && sqlite::spoils_connection(cause)
                    {
                        connection.close_on_drop();
                    }
                    return Err(error);
                }
                End::Silent => return Err(self.give_up(limit, connection)),
                End::Unknown(mark, done) => {
                    connection.close_on_drop();
                    drop(connection);
                    match self.outcome(&mark).await {
                        Some(true) => return Ok(done),
                        Some(false) => {}
                        None => return Err(StoreError::Unknown),
                    }
                }
            }
        }
        Err(StoreError::Away("something gets in the way again and again".to_owned()))
    }

    async fn transaction<A, T>(
        &self,
        limit: Duration,
        connection: &mut AnyConnection,
        what: &A,
        work: &impl Work<A, T>,
    ) -> End<T>
    where
        A: ?Sized,
    {
        // Of SQLite there is but one level, and of writers but one.
        let begin = if self.remote.is_some() { "BEGIN ISOLATION LEVEL SERIALIZABLE" } else { "BEGIN" };
        let begun = self.in_time(limit, async {
            let mut transaction = connection.begin_with(begin).await?;
            let done = work(&mut transaction, what).await?;
            let mark = match &self.remote {
                None => String::new(),
                Some(_) => leave_mark(&mut transaction).await?,
            };
            Ok((transaction, mark, done))
        });
        let (transaction, mark, done) = match begun.await {
            Some(Ok(begun)) => begun,
            Some(Err(error)) => return End::Failed(error),
            None => return End::Silent,
        };
        match self.in_time(ANSWER_TIMEOUT, transaction.commit()).await {
            Some(Ok(())) => End::Done(done),
            Some(Err(error)) if !self.is_away(&error) => End::Failed(error.into()),
            Some(Err(_)) | None => End::Unknown(mark, done),
        }
    }

    /// A connection to a database that is there, as far as anybody knows.
    async fn connection(&self, pool: &AnyPool) -> Result<PoolConnection<Any>, StoreError> {
        let Some(remote) = &self.remote else { return Ok(pool.acquire().await?) };
        // Nobody is to wait for what is known already.
        let known = |state| match state {
            State::Here(_) => Ok(()),
            State::Away(reason) | State::Taken(reason) => Err(StoreError::Away(reason)),
        };
        known(remote.watch.state())?;
        pool.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolClosed => StoreError::Database(error),
            error => {
                remote.watch.nudge();
                known(remote.watch.state()).err().unwrap_or_else(|| StoreError::Away(postgres::sentence(&error)))
            }
        })
    }

    /// What `work` comes to, if it ends within the time that it may take. A file answers when it answers.
    async fn in_time<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        match self.remote {
            None => Some(work.await),
            Some(_) => timeout(limit, work).await.ok(),
        }
    }

    /// A connection that doesn't answer is of no use to anybody.
    fn give_up(&self, limit: Duration, mut connection: PoolConnection<Any>) -> StoreError {
        connection.close_on_drop();
        self.nudge();
        StoreError::Away(format!("it hasn't answered for {limit:?}"))
    }

    /// Whether the transaction with this mark was made, if the database can still say so. If not, it never will be.
    async fn outcome(&self, mark: &str) -> Option<bool> {
        let give_up = Instant::now() + OUTCOME_TIMEOUT;
        // What is left here in its place, to be known again: the answer to this may be lost, too.
        let instead = (Timestamp::now() + 2 * MARKS_KEPT).as_millisecond();
        while Instant::now() < give_up {
            if let Ok(mut connection) = self.connection(&self.writes).await {
                // Waits for a transaction with this mark that is under way still, and keeps it from being made later. The
                // numbers of transactions would not do: a database that crashed gives them out anew.
                let sql = "INSERT INTO writes (mark, made) VALUES ($1, $2) \
                           ON CONFLICT (mark) DO UPDATE SET mark = excluded.mark RETURNING made";
                let found = sqlx::query_scalar::<_, i64>(sql).bind(mark).bind(instead);
                match self.in_time(ANSWER_TIMEOUT, found.fetch_one(&mut *connection)).await {
                    Some(Ok(made)) => return Some(made != instead),
                    Some(Err(_)) => connection.close_on_drop(),
                    None => drop(self.give_up(ANSWER_TIMEOUT, connection)),
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }

    fn nudge(&self) {
        if let Some(remote) = &self.remote {
            remote.watch.nudge();
        }
    }

    fn is_away(&self, error: &sqlx::Error) -> bool {
        let away = self.remote.is_some() && postgres::is_away(error);
        if away {
            self.nudge();
        }
        away
    }

    fn is_overtaken(&self, error: &sqlx::Error) -> bool {
        self.remote.is_some() && postgres::is_overtaken(error)
    }

    fn is_worth_another_try(&self, error: &sqlx::Error) -> bool {
        self.is_away(error) || self.is_overtaken(error)
    }
}

/// Leaves a mark in a transaction by which it can be told later whether it was made.
async fn leave_mark(transaction: &mut AnyConnection) -> Result<String, StoreError> {
    let (mark, now) = (uuid::Uuid::new_v4().to_string(), Timestamp::now());
    let old = now.as_millisecond() - i64::try_from(MARKS_KEPT.as_millis()).unwrap_or(i64::MAX);
    sqlx::query("DELETE FROM writes WHERE made < $1").bind(old).execute(&mut *transaction).await?;
    let left = sqlx::query("INSERT INTO writes (mark, made) VALUES ($1, $2)").bind(&mark).bind(now.as_millisecond());
    left.execute(&mut *transaction).await?;
    Ok(mark)
}

/// What is done within a transaction to something of type `A`. Maybe several times: where it wasn't kept.
trait Work<A: ?Sized, T>: for<'c> Fn(&'c mut AnyConnection, &'c A) -> BoxFuture<'c, Result<T, StoreError>> {}

impl<A: ?Sized, T, F> Work<A, T> for F where
    F: for<'c> Fn(&'c mut AnyConnection, &'c A) -> BoxFuture<'c, Result<T, StoreError>>
{
}

/// How an attempt to change something ended.
enum End<T> {
    /// It was done.
    Done(T),
    /// It wasn't.
    Failed(StoreError),
    /// The database doesn't answer. It wasn't told to keep the change.
    Silent,
    /// It was told, but didn't answer. With the mark by which it can be asked for later.
    Unknown(String, T),
}

/// A text as part of an address: everything is encoded that could mean something there.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Refuses what PostgreSQL couldn't keep, whichever database it is for.
fn no_null(what: &'static str, texts: &[&str]) -> Result<(), StoreError> {
    if texts.iter().any(|text| text.contains('\0')) { Err(StoreError::Null(what)) } else { Ok(()) }
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
