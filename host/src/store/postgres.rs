//! PostgreSQL: a database on a server, maybe of another machine, that may be away when this server starts and at any
//! time later. Opened by [`Store`](super::Store) alone.
//!
//! Everything is in a schema of its own: the database of an existing Antimony server, which the configuration of that server
//! names, has tables of the same names in another one.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, sleep, timeout};

use super::config::Postgres;
use super::owner::{self, Claim, Owner, Watch};
use super::sqlite::Pools;
use super::{migrations, percent_encoded};

/// The schema that everything is in.
const SCHEMA: &str = "antimony_host";
/// What is said on each connection. Keepalives, so that either side notices within a minute when the other's machine has gone: the
/// lock of a server that has gone is to be had then.
pub(super) const EACH_CONNECTION: &str = "SET search_path = antimony_host; SET client_min_messages = warning; \
     SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 6;";
/// And on those that serve requests: nothing may go on for nobody, or hold others up.
const EACH_QUERY: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s';";

/// How many queries read at once. One more connection writes, and one holds the lock.
const READERS: u32 = 8;
/// How long a query waits for a connection.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before the next attempt.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a database can't be had.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may be there in a moment.
    Passing(String),
    /// Somebody has to do something.
    Final(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        if is_away(&error) { Self::Passing(sentence(&error)) } else { Self::Final(sentence(&error)) }
    }
}

/// Opens the database, waits for it if it is away, makes it this server's, and brings its schema up to date.
pub(super) async fn open(postgres: &Postgres) -> Result<(Pools, Owner, Watch), String> {
    let options = options(postgres)?;
    let give_up = Instant::now() + postgres.start_timeout;
    let mut told = false;
    let mut claim = loop {
        let attempt = async { take(connect(&options).await?, postgres).await };
        let attempt = timeout(CONNECT_TIMEOUT * 2, attempt).await;
        match attempt.unwrap_or_else(|_| Err(Trouble::Passing("it doesn't answer".to_owned()))) {
            Ok(claim) => break claim,
            Err(Trouble::Final(reason)) => return Err(reason),
            Err(Trouble::Passing(reason)) if Instant::now() >= give_up => {
                let asked = postgres.start_timeout.as_secs();
                return Err(format!(
                    "{reason}; it was asked for {asked} s (database.startTimeout): see that PostgreSQL runs there and lets this machine in"
                ));
            }
            Err(Trouble::Passing(reason)) => {
                if !told {
                    let seconds = postgres.start_timeout.as_secs();
                    tracing::warn!(database = %postgres, reason, "the database can't be reached yet; it is asked again for {seconds} s");
                    told = true;
                }
                sleep(AGAIN).await;
            }
        }
    };
    migrations::run(claim.connection()).await.map_err(|error| {
        migrations::sentence(&error, |error| error.downcast_ref().map_or_else(|| error.to_string(), sentence))
    })?;
    let (owner, watch) = Owner::start(options, postgres.to_string(), claim);
    let pool = |connections: u32| {
        let watch = watch.clone();
        let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(TURN_TIMEOUT);
        let options = options.after_connect(move |connection, _| {
            let watch = watch.clone();
            Box::pin(async move {
                sqlx::raw_sql(EACH_CONNECTION).execute(&mut *connection).await?;
                sqlx::raw_sql(EACH_QUERY).execute(&mut *connection).await?;
                watch.admit(connection).await
            })
        });
        sqlx::any::install_default_drivers();
        let address = AnyConnectOptions::from_str(&address(postgres)?).map_err(|error| sentence(&error))?;
        Ok::<_, String>(options.connect_lazy_with(address))
    };
    Ok((Pools { reads: pool(READERS)?, writes: pool(1)? }, owner, watch))
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Trouble> {
    let connecting = timeout(CONNECT_TIMEOUT, options.connect()).await;
    Ok(connecting
        .map_err(|_| Trouble::Passing(format!("it can't be reached: no answer for {CONNECT_TIMEOUT:?}")))??)
}

/// Makes the database this server's, if it can be used.
async fn take(mut connection: PgConnection, postgres: &Postgres) -> Result<Claim, Trouble> {
    check_encoding(&mut connection).await?;
    if !has_schema(&mut connection).await? {
        let made = sqlx::query("CREATE SCHEMA IF NOT EXISTS antimony_host").execute(&mut connection).await;
        match made {
            // Somebody made it this very moment.
            Err(error) if code(&error).is_some_and(|code| matches!(&*code, "23505" | "42P06")) => {}
            Err(error) if code(&error).as_deref() == Some("42501") => return Err(Trouble::Final(no_schema(postgres))),
            made => {
                made?;
            }
        }
    }
    sqlx::raw_sql(EACH_CONNECTION).execute(&mut connection).await?;
    owner::claim(connection).await
}

async fn has_schema(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) > 0 FROM pg_namespace WHERE nspname = $1")
        .bind(SCHEMA)
        .fetch_one(connection)
        .await
}

fn no_schema(postgres: &Postgres) -> String {
    let user = postgres.user.replace('"', "\"\"");
    format!(
        "the user may not make the schema that everything is kept in: have the owner of the database run \
         CREATE SCHEMA {SCHEMA} AUTHORIZATION \"{user}\""
    )
}

async fn check_encoding(connection: &mut PgConnection) -> Result<(), Trouble> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(connection).await?;
    match &*encoding {
        "UTF8" => Ok(()),
        other => Err(Trouble::Final(format!(
            "its encoding is {other}, in which not every name can be kept: make one with ENCODING 'UTF8'"
        ))),
    }
}

/// What a start would find, without changing anything.
pub(super) async fn probe(postgres: &Postgres) -> Result<String, String> {
    let found = async {
        let mut connection = connect(&options(postgres).map_err(Trouble::Final)?).await?;
        check_encoding(&mut connection).await?;
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
        if has_schema(&mut connection).await? {
            sqlx::raw_sql(EACH_CONNECTION).execute(&mut connection).await?;
            migrations::check_not_newer(&mut connection).await.map_err(Trouble::Final)?;
        } else {
            let may = "SELECT has_database_privilege(current_database(), 'CREATE')";
            if !sqlx::query_scalar::<_, bool>(may).fetch_one(&mut connection).await? {
                return Err(Trouble::Final(no_schema(postgres)));
            }
        }
        if let Some(who) = owner::user(&mut connection).await? {
            return Err(Trouble::Final(owner::taken(Some(&who))));
        }
        let _ = connection.close().await;
        Ok(format!("PostgreSQL {version}, {postgres}"))
    };
    found.await.map_err(|trouble| match trouble {
        Trouble::Passing(reason) | Trouble::Final(reason) => reason,
    })
}

/// Whether it could be reached as far as that is up to this side.
pub(super) fn examine(postgres: &Postgres) -> Result<(), String> {
    options(postgres).map(drop)
}

fn options(postgres: &Postgres) -> Result<PgConnectOptions, String> {
    if let Some(path) = &postgres.ssl_root_cert {
        check_certificate(path)?;
    }
    PgConnectOptions::from_str(&address(postgres)?).map_err(|error| sentence(&error))
}

/// The library would only say that something isn't there, not what.
fn check_certificate(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("database.sslRootCert: {} can't be read: {error}", path.display()))?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    Err(format!("database.sslRootCert: {} holds no certificate in PEM form", path.display()))
}

/// The database as one address, which is how either kind of connection is told about it. It holds the password.
fn address(postgres: &Postgres) -> Result<String, String> {
    let Postgres { host, port, database, user, password, ssl_mode, ssl_root_cert, .. } = postgres;
    let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let name = format!("antimony-host on {machine}, process {}", std::process::id());
    let mut address = "postgres:///?".to_owned();
    let mut say = |key: &str, value: &str| address.push_str(&format!("{key}={}&", percent_encoded(value)));
    say("host", host);
    say("port", &port.to_string());
    say("dbname", database);
    say("user", user);
    say("sslmode", &ssl_mode.to_string());
    say("application_name", &name);
    if let Some(password) = password {
        say("password", password);
    }
    if let Some(path) = ssl_root_cert {
        say("sslrootcert", path.to_str().ok_or("database.sslRootCert: its path is not UTF-8")?);
    }
    address.pop();
    Ok(address)
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// Whether it is the way to the database that failed, or the database as a whole: nothing is wrong with what was asked.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    match error {
        // A certificate that isn't right won't be at the next attempt.
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
        sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => code(error).is_some_and(|code| {
            // It shuts down or has crashed, starts up, has too many connections; connection exceptions.
            matches!(&*code, "57P01" | "57P02" | "57P03" | "53300") || code.starts_with("08")
        }),
        _ => false,
    }
}

/// Whether a transaction lost against another one, and would do better at another attempt.
pub(super) fn is_overtaken(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// An error in one line, with what helps where that is known. Never names the password.
pub(super) fn sentence(error: &sqlx::Error) -> String {
    let said = match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            format!("no encrypted connection: {error}")
        }
        sqlx::Error::Io(error) => format!("it can't be reached: {error}"),
        // What the library wraps says more than the wrapping.
        sqlx::Error::Tls(error) => match error.source() {
            Some(source) => format!("no encrypted connection: {error}: {source}"),
            None => format!("no encrypted connection: {error}"),
        },
        error => error.to_string(),
    };
    let said = said.replace('\n', " ");
    let remedy = match code(error).as_deref() {
        Some("28P01") => "set SB_DATABASE_PASSWORD to the right one",
        Some("28000") => "see database.user, and pg_hba.conf of PostgreSQL",
        Some("3D000") => "make one with createdb, or mend database.database",
        Some("42501") => "have the owner of the database grant that",
        Some("53100") => "make room on the disk of PostgreSQL",
        _ => return said,
    };
    format!("{said}: {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::config::SslMode;

    #[test]
    fn an_address_says_what_was_meant_whatever_the_names_are() {
        let postgres = Postgres {
            host: "/run/a b".to_owned(),
            port: 5433,
            database: "a&b=c?d#e/ü".to_owned(),
            user: "me@home:x".to_owned(),
            password: Some("p@ss/w%rd&+ \"'".to_owned()),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            start_timeout: Duration::ZERO,
        };
        let options = options(&postgres).expect("valid");
        assert_eq!(options.get_socket().map(|path| path.display().to_string()).as_deref(), Some("/run/a b"));
        assert_eq!(options.get_port(), 5433);
        assert_eq!(options.get_database(), Some("a&b=c?d#e/ü"));
        assert_eq!(options.get_username(), "me@home:x");
        let expected = PgConnectOptions::new_without_pgpass().password("p@ss/w%rd&+ \"'");
        let password = |options: &PgConnectOptions| options.to_url_lossy().password().map(str::to_owned);
        assert_eq!(password(&options), password(&expected));
    }
}
