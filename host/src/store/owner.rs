//! Whose a PostgreSQL database is: labs are looked after by exactly one server, so a second one is kept out.
//!
//! The task in here holds one connection with an advisory lock, which PostgreSQL gives up when the connection ends, however
//! the server ended. Through it the store also learns early that the database is away, and that it is back.
//!
//! Two locks keep two servers apart even where a connection breaks without the server noticing. The owner holds [`OWNER`];
//! each other connection of its store shares [`USED`], and is only made while the owner's lock is held
//! ([`Watch::admit`]). Whoever becomes the owner has to have `USED` alone for a moment: then no connection of an earlier
//! owner is left, and none can be made. A mark in the database tells an owner that was away whether there was another
//! meanwhile, in which case what it remembers of the labs counts for nothing.
//!
//! ```text
//!  claim ──► Here ──connection broken──► Away ──lock and mark are still ours──► Here
//!             │ ▲                          └──somebody else's──► Taken (for good)
//!  no answer  ▼ │ an answer
//!            Away
//! ```

use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::postgres::{self, Trouble};

/// First half of the keys of our advisory locks: `ANTI`.
const LOCKS: i32 = 0x414E_5449;
/// Held by the owner of the database.
const OWNER: i32 = 1;
/// Shared by all other connections of the owner.
const USED: i32 = 2;

/// How long an earlier owner may take to let go: its connections end a moment after its process.
const HANDOVER: Duration = Duration::from_secs(5);
/// How often the owner's connection is tried.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the database may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take altogether before the connection counts as broken.
const BROKEN: Duration = Duration::from_secs(30);
/// How long to wait before the next attempt to reach it, at first and at most.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The database is this server's. The number is PostgreSQL's for the owner's connection.
    Here(i32),
    /// It can't be reached; says why.
    Away(String),
    /// Another server has taken it; says who.
    Taken(String),
}

/// What the store sees of it. Cheap to clone; keeps nothing alive.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    state: watch::Receiver<State>,
    nudge: Arc<Notify>,
}

impl Watch {
    /// How things are, as far as that is known.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Somebody has found the database away: have it looked at at once.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Makes a new connection one of the owner's, if the database is still this server's.
    pub(super) async fn admit(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        let refused = |why: &str| Err(sqlx::Error::Protocol(why.to_owned()));
        let shared = sqlx::query_scalar("SELECT pg_try_advisory_lock_shared($1, $2)").bind(LOCKS).bind(USED);
        if !shared.fetch_one(&mut *connection).await? {
            return refused("another server is about to take this database");
        }
        let State::Here(owner) = self.state() else { return refused("the database isn't this server's yet") };
        let held: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $1 AND mode = 'ExclusiveLock' \
             AND classid::bigint = $2 AND objid::bigint = $3 AND objsubid = 2 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(owner)
        .bind(i64::from(LOCKS))
        .bind(i64::from(OWNER))
        .fetch_one(connection)
        .await?;
        if held == 0 { refused("the database isn't this server's any more") } else { Ok(()) }
    }
}

/// The lock on a database. It is let go when this is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Owner {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Owner {
    /// Starts to watch over a database that was claimed through `connection`.
    pub(super) fn start(options: PgConnectOptions, place: String, claim: Claim) -> (Self, Watch) {
        let (state, watch) = watch::channel(State::Here(claim.pid));
        let (stop, nudge) = (CancellationToken::new(), Arc::new(Notify::new()));
        let watch = Watch { state: watch, nudge: Arc::clone(&nudge) };
        let task = Task { options, place, mark: claim.mark, state, nudge };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.run(claim.connection) => {}
            }
        });
        (Self { stop, task }, watch)
    }

    /// Lets the database go. When this returns, another server can have it.
    pub(super) async fn release(&self) {
        self.stop.cancel();
        while !self.task.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A database that is this server's.
pub(super) struct Claim {
    connection: PgConnection,
    pid: i32,
    mark: String,
}

/// Makes the database behind `connection` this server's.
pub(super) async fn claim(mut connection: PgConnection) -> Result<Claim, Trouble> {
    let give_up = Instant::now() + HANDOVER;
    let pid = loop {
        if let Some(pid) = lock(&mut connection).await? {
            if alone(&mut connection).await? {
                break pid;
            }
            unlock(&mut connection, OWNER).await?;
        }
        if Instant::now() >= give_up {
            let who = user(&mut connection).await?;
            return Err(Trouble::Final(taken(who.as_deref())));
        }
        sleep(Duration::from_millis(50)).await;
    };
    let mark = Uuid::new_v4().to_string();
    sqlx::query("CREATE TABLE IF NOT EXISTS owner (mark TEXT NOT NULL)").execute(&mut connection).await?;
    sqlx::query("WITH before AS (DELETE FROM owner) INSERT INTO owner (mark) VALUES ($1)")
        .bind(&mark)
        .execute(&mut connection)
        .await?;
    unlock(&mut connection, USED).await?;
    Ok(Claim { connection, pid, mark })
}

impl Claim {
    /// The connection, for what else is to be done before anybody else has one.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// PostgreSQL's number of this connection, if it has got the owner's lock.
async fn lock(connection: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    let lock = sqlx::query_scalar("SELECT CASE WHEN pg_try_advisory_lock($1, $2) THEN pg_backend_pid() END");
    lock.bind(LOCKS).bind(OWNER).fetch_one(connection).await
}

/// Whether no connection of an earlier owner is left. If so, none can be made until `USED` is unlocked.
async fn alone(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)").bind(LOCKS).bind(USED).fetch_one(connection).await
}

async fn unlock(connection: &mut PgConnection, key: i32) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_unlock($1, $2)").bind(LOCKS).bind(key).execute(connection).await?;
    Ok(())
}

/// Who has the database, as far as PostgreSQL tells; `None` if nobody has.
pub(super) async fn user(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(nullif(a.application_name, ''), 'unknown') FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = $1 AND l.objsubid = 2 \
         AND l.pid <> pg_backend_pid() \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1",
    )
    .bind(i64::from(LOCKS))
    .fetch_optional(connection)
    .await
}

/// The same as a reason why it can't be had.
pub(super) fn taken(who: Option<&str>) -> String {
    let who = who.map(|who| format!(" ({who})")).unwrap_or_default();
    format!("another server uses it{who}: end that one, or give this one a database of its own")
}

struct Task {
    options: PgConnectOptions,
    place: String,
    mark: String,
    state: watch::Sender<State>,
    nudge: Arc<Notify>,
}

impl Task {
    /// Ends when the database is another server's.
    async fn run(self, mut connection: PgConnection) {
        loop {
            let reason = self.hold(&mut connection).await;
            // Whatever is left of it must not keep the lock from the next one.
            let _ = connection.close_hard().await;
            self.away(reason);
            connection = match self.regain().await {
                Ok(connection) => connection,
                Err(by) => {
                    tracing::error!(database = %self.place, "this server has lost its database: {by}");
                    self.state.send_replace(State::Taken(by));
                    return;
                }
            };
            tracing::info!(database = %self.place, "the database is back");
        }
    }

    fn away(&self, reason: String) {
        if matches!(*self.state.borrow(), State::Here(_)) {
            tracing::error!(database = %self.place, reason, "the database is away; trying to reach it again");
        }
        self.state.send_replace(State::Away(reason));
    }

    /// Looks whether the database is there, until the connection is broken. Says why it is.
    async fn hold(&self, connection: &mut PgConnection) -> String {
        let here = self.state.borrow().clone();
        loop {
            tokio::select! {
                () = sleep(PERIOD) => {}
                () = self.nudge.notified() => {}
            }
            let mut answer = std::pin::pin!(connection.ping());
            let answered = match timeout(PATIENCE, &mut answer).await {
                Ok(answered) => answered,
                Err(_) => {
                    self.away(format!("it hasn't answered for {PATIENCE:?}"));
                    // The connection, and with it the lock, may be as good as ever.
                    match timeout(BROKEN - PATIENCE, answer).await {
                        Ok(answered) => answered,
                        Err(_) => return format!("it hasn't answered for {BROKEN:?}"),
                    }
                }
            };
            if let Err(error) = answered {
                return postgres::sentence(&error);
            }
            if *self.state.borrow() != here {
                tracing::info!(database = %self.place, "the database answers again");
                self.state.send_replace(here.clone());
            }
        }
    }

    /// Reaches the database again, and has the lock again. The error says who has taken it.
    async fn regain(&self) -> Result<PgConnection, String> {
        let mut again = AGAIN[0];
        loop {
            match timeout(PATIENCE, self.try_to_regain()).await {
                Ok(Ok(regained)) => return regained,
                Ok(Err(error)) => self.away(postgres::sentence(&error)),
                Err(_) => self.away(format!("it hasn't answered for {PATIENCE:?}")),
            }
            sleep(again).await;
            again = (again * 2).min(AGAIN[1]);
        }
    }

    async fn try_to_regain(&self) -> Result<Result<PgConnection, String>, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        sqlx::raw_sql(postgres::EACH_CONNECTION).execute(&mut connection).await?;
        let Some(pid) = lock(&mut connection).await? else {
            // It may be the connection that broke, which PostgreSQL hasn't noticed yet; or somebody who only looks.
            let mark = self.read_mark(&mut connection).await?;
            if mark.as_deref() == Some(&self.mark) {
                return Err(sqlx::Error::Protocol("its lock is held by another connection".to_owned()));
            }
            return Ok(Err(taken(user(&mut connection).await?.as_deref())));
        };
        if self.read_mark(&mut connection).await?.as_deref() != Some(&self.mark) {
            return Ok(Err("another server has used it meanwhile: restart this one".to_owned()));
        }
        self.state.send_replace(State::Here(pid));
        Ok(Ok(connection))
    }

    async fn read_mark(&self, connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT mark FROM owner").fetch_optional(connection).await
    }
}
