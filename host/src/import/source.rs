//! The rows of another Antimony server's database, as they are.
//!
//! Read are the tables that the backend of Antimony makes by GORM's `AutoMigrate`, in all versions from that which knows
//! topologies by name (May 2025) to those of 2026: `users` (`uuid`, `sub`, `name`), `collections` (`uuid`, `name`,
//! `public_write`, `public_deploy`, `creator_id`), `topologies` (`uuid`, `name`, `sync_url`, `last_deploy_failed`,
//! `collection_id`, `creator_id`), `bind_files` (`uuid`, `file_path`, `topology_id`) and `labs` (`uuid`, `name`,
//! `start_time`, `end_time`, `topology_id`, `creator_id`, `instance_name`), each with `id` and `deleted_at`. Versions differ
//! in the columns that are optional here and in what has to be unique. Rows with `deleted_at` set are gone for that server,
//! and so for this one.

use std::path::{Path, PathBuf};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use tempfile::TempDir;

/// The password of a PostgreSQL whose address has none.
const ENV_PASSWORD: &str = "SB_DATABASE_PASSWORD";

/// Why the other database can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It can't be opened.
    #[error("{from} can't be opened: {problem}")]
    Open {
        /// What was given, without a password.
        from: String,
        /// Why.
        problem: String,
    },
    /// It isn't the database of an Antimony server, or of one that is too old.
    #[error(
        "{from} has no {missing}, which databases of Antimony servers have: if it is one, start the latest version of that \
         server with it once"
    )]
    Missing {
        /// What was given, without a password.
        from: String,
        /// A table, or a column of one.
        missing: String,
    },
    /// It failed while it was read.
    #[error("{from} can't be read: {error}")]
    Read {
        /// What was given, without a password.
        from: String,
        /// What it says.
        error: sqlx::Error,
    },
}

/// All that is there, in the order in which it was made.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) users: Vec<UserRow>,
    pub(super) collections: Vec<CollectionRow>,
    pub(super) topologies: Vec<TopologyRow>,
    pub(super) files: Vec<FileRow>,
    pub(super) labs: Vec<LabRow>,
}

#[derive(Debug, Clone)]
pub(super) struct UserRow {
    pub(super) uuid: String,
    /// What the OpenID provider calls them.
    pub(super) sub: String,
    pub(super) name: String,
}

#[derive(Debug, Clone)]
pub(super) struct CollectionRow {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) public_write: bool,
    pub(super) public_deploy: bool,
    /// `uuid` of a user; `None`: that row is gone.
    pub(super) creator: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct TopologyRow {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) sync_url: Option<String>,
    pub(super) last_deploy_failed: bool,
    /// `uuid` of a collection; `None`: it was deleted.
    pub(super) collection: Option<String>,
    pub(super) creator: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct FileRow {
    pub(super) uuid: String,
    pub(super) path: String,
    /// `uuid` of a topology; `None`: it was deleted.
    pub(super) topology: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct LabRow {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) start_time: String,
    pub(super) end_time: Option<String>,
    /// `uuid` of a topology; `None`: it was deleted.
    pub(super) topology: Option<String>,
    pub(super) creator: Option<String>,
    /// What its nodes are called, if it was deployed.
    pub(super) instance: Option<String>,
}

/// The two sorts of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Sqlite,
    Postgres,
}

/// An open database.
struct Source {
    connection: AnyConnection,
    sort: Sort,
    /// What was given, without a password.
    from: String,
    /// Where a copy is that is read instead, as long as it is.
    _copy: Option<TempDir>,
}

impl Rows {
    /// Reads a file of SQLite, or a PostgreSQL database by its address. All of it as it is at one moment.
    pub(super) async fn read(from: &str) -> Result<Self, SourceError> {
        let mut source = Source::open(from).await?;
        // Nothing is ever written, so that it may end however it likes.
        let begin = match source.sort {
            Sort::Sqlite => "BEGIN",
            Sort::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        source.execute(begin).await?;
        let rows = Self {
            users: source.users().await?,
            collections: source.collections().await?,
            topologies: source.topologies().await?,
            files: source.files().await?,
            labs: source.labs().await?,
        };
        source.execute("ROLLBACK").await?;
        Ok(rows)
    }
}

impl Source {
    async fn open(from: &str) -> Result<Self, SourceError> {
        sqlx::any::install_default_drivers();
        if from.starts_with("postgres://") || from.starts_with("postgresql://") {
            let (url, from) = postgres_url(from, std::env::var(ENV_PASSWORD).ok())?;
            return match AnyConnection::connect(&url).await {
                Ok(connection) => Ok(Self { connection, sort: Sort::Postgres, from, _copy: None }),
                Err(error) => Err(SourceError::Open { from, problem: error.to_string() }),
            };
        }
        let path = from.strip_prefix("sqlite://").unwrap_or(from);
        let failed = |problem: String| SourceError::Open { from: path.to_owned(), problem };
        // SQLite's own words for this say nothing about why.
        std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        let connect = async |path: &Path, mode| AnyConnection::connect(&sqlite_url(path, mode)).await;
        let mut connection = connect(Path::new(path), "ro").await.map_err(|error| failed(error.to_string()))?;
        let mut copy = None;
        if is_half_written(&mut connection).await {
            let folder = copied(Path::new(path)).map_err(|error| failed(format!("it can't be copied: {error}")))?;
            connection = connect(&folder.path().join(COPY), "rw").await.map_err(|error| failed(error.to_string()))?;
            copy = Some(folder);
        }
        Ok(Self { connection, sort: Sort::Sqlite, from: path.to_owned(), _copy: copy })
    }

    async fn execute(&mut self, statement: &'static str) -> Result<(), SourceError> {
        let done = sqlx::query(statement).execute(&mut self.connection).await;
        done.map(drop).map_err(|error| SourceError::Read { from: self.from.clone(), error })
    }

    async fn fetch(&mut self, statement: String) -> Result<Vec<AnyRow>, SourceError> {
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut self.connection).await;
        rows.map_err(|error| SourceError::Read { from: self.from.clone(), error })
    }

    /// Reads a table: of each row these columns, each with how it is read, and `None` where an optional one isn't there.
    async fn table<T>(
        &mut self,
        table: &'static str,
        columns: &[Column],
        rest: &str,
        row: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, SourceError> {
        let there = self.columns(table).await?;
        let missing = |missing: String| SourceError::Missing { from: self.from.clone(), missing };
        if there.is_empty() {
            return Err(missing(format!("table {table}")));
        }
        let mut expressions = Vec::new();
        for column in columns {
            let name = column.name.rsplit('.').next().unwrap_or(column.name);
            let joined = !column.name.starts_with("x.");
            expressions.push(match there.iter().any(|there| there == name) || joined {
                true => column.read.expression(column.name, self.sort),
                false if column.optional => column.read.nothing().to_owned(),
                false => return Err(missing(format!("column {name} in its table {table}"))),
            });
        }
        let select = expressions.join(", ");
        let rows = self.fetch(format!("SELECT {select} FROM {table} x {rest} ORDER BY x.id")).await?;
        let read = rows.iter().map(row).collect::<Result<_, _>>();
        read.map_err(|error| SourceError::Read { from: self.from.clone(), error })
    }

    /// Names of the columns of a table; none: there is no such table.
    async fn columns(&mut self, table: &str) -> Result<Vec<String>, SourceError> {
        let statement = match self.sort {
            Sort::Sqlite => format!("SELECT CAST(name AS TEXT) FROM pragma_table_info('{table}')"),
            Sort::Postgres => format!(
                "SELECT CAST(column_name AS TEXT) FROM information_schema.columns WHERE table_schema = current_schema() \
                 AND table_name = '{table}'"
            ),
        };
        let rows = self.fetch(statement).await?;
        let names = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        names.map_err(|error| SourceError::Read { from: self.from.clone(), error })
    }

    async fn users(&mut self) -> Result<Vec<UserRow>, SourceError> {
        // Those that were deleted as well: what they have made is still there.
        let columns = [text("x.uuid"), text("x.sub"), text("x.name")];
        let row = |row: &AnyRow| Ok(UserRow { uuid: row.try_get(0)?, sub: row.try_get(1)?, name: row.try_get(2)? });
        self.table("users", &columns, "", row).await
    }

    async fn collections(&mut self) -> Result<Vec<CollectionRow>, SourceError> {
        let columns =
            [text("x.uuid"), text("x.name"), flag("x.public_write"), flag("x.public_deploy"), text("creator.uuid")];
        let rest = "LEFT JOIN users creator ON creator.id = x.creator_id WHERE x.deleted_at IS NULL";
        let row = |row: &AnyRow| {
            Ok(CollectionRow {
                uuid: row.try_get(0)?,
                name: row.try_get(1)?,
                public_write: row.try_get::<i64, _>(2)? != 0,
                public_deploy: row.try_get::<i64, _>(3)? != 0,
                creator: row.try_get(4)?,
            })
        };
        self.table("collections", &columns, rest, row).await
    }

    async fn topologies(&mut self) -> Result<Vec<TopologyRow>, SourceError> {
        let columns = [
            text("x.uuid"),
            text("x.name"),
            text("x.sync_url").if_there(),
            flag("x.last_deploy_failed").if_there(),
            text("collection.uuid"),
            text("creator.uuid"),
        ];
        let rest = "LEFT JOIN users creator ON creator.id = x.creator_id LEFT JOIN collections collection \
                    ON collection.id = x.collection_id AND collection.deleted_at IS NULL WHERE x.deleted_at IS NULL";
        let row = |row: &AnyRow| {
            Ok(TopologyRow {
                uuid: row.try_get(0)?,
                name: row.try_get(1)?,
                sync_url: row.try_get(2)?,
                last_deploy_failed: row.try_get::<i64, _>(3)? != 0,
                collection: row.try_get(4)?,
                creator: row.try_get(5)?,
            })
        };
        self.table("topologies", &columns, rest, row).await
    }

    async fn files(&mut self) -> Result<Vec<FileRow>, SourceError> {
        if self.columns("bind_files").await?.is_empty() {
            return Ok(Vec::new());
        }
        let columns = [text("x.uuid"), text("x.file_path"), text("topology.uuid")];
        let rest = "LEFT JOIN topologies topology ON topology.id = x.topology_id AND topology.deleted_at IS NULL \
                    WHERE x.deleted_at IS NULL";
        let row =
            |row: &AnyRow| Ok(FileRow { uuid: row.try_get(0)?, path: row.try_get(1)?, topology: row.try_get(2)? });
        self.table("bind_files", &columns, rest, row).await
    }

    async fn labs(&mut self) -> Result<Vec<LabRow>, SourceError> {
        let columns = [
            text("x.uuid"),
            text("x.name"),
            time("x.start_time"),
            time("x.end_time"),
            text("topology.uuid"),
            text("creator.uuid"),
            text("x.instance_name").if_there(),
        ];
        let rest = "LEFT JOIN users creator ON creator.id = x.creator_id LEFT JOIN topologies topology \
                    ON topology.id = x.topology_id AND topology.deleted_at IS NULL WHERE x.deleted_at IS NULL";
        let row = |row: &AnyRow| {
            Ok(LabRow {
                uuid: row.try_get(0)?,
                name: row.try_get(1)?,
                start_time: row.try_get(2)?,
                end_time: row.try_get(3)?,
                topology: row.try_get(4)?,
                creator: row.try_get(5)?,
                instance: row.try_get::<Option<String>, _>(6)?.filter(|name| !name.is_empty()),
            })
        };
        self.table("labs", &columns, rest, row).await
    }
}

/// A column to be read.
struct Column {
    /// With the name of its table, which is `x` for the one that is read.
    name: &'static str,
    read: Read,
    optional: bool,
}

/// How a column is read.
#[derive(Clone, Copy)]
enum Read {
    Text,
    /// 0 or 1.
    Flag,
    Time,
}

const fn text(name: &'static str) -> Column {
    Column { name, read: Read::Text, optional: false }
}

const fn flag(name: &'static str) -> Column {
    Column { name, read: Read::Flag, optional: false }
}

const fn time(name: &'static str) -> Column {
    Column { name, read: Read::Time, optional: false }
}

impl Column {
    const fn if_there(self) -> Self {
        Self { optional: true, ..self }
    }
}

impl Read {
    fn expression(self, column: &str, sort: Sort) -> String {
        match (self, sort) {
            (Self::Text, _) | (Self::Time, Sort::Sqlite) => format!("CAST({column} AS TEXT)"),
            (Self::Flag, Sort::Sqlite) => format!("CAST(COALESCE({column}, 0) AS BIGINT)"),
            (Self::Flag, Sort::Postgres) => format!("CAST(COALESCE(CAST({column} AS INTEGER), 0) AS BIGINT)"),
            (Self::Time, Sort::Postgres) => {
                format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
            }
        }
    }

    /// What stands for a column that isn't there.
    fn nothing(self) -> &'static str {
        match self {
            Self::Text | Self::Time => "CAST(NULL AS TEXT)",
            Self::Flag => "CAST(0 AS BIGINT)",
        }
    }
}

/// The address of a file. SQLite's addresses have characters of their own.
fn sqlite_url(path: &Path, mode: &str) -> String {
    let encoded = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{encoded}?mode={mode}")
}

/// What the copy of a file is called.
const COPY: &str = "copy.db";

/// Whether the file's server was ended while it wrote: what it had begun has to be undone before anything can be read, by the
/// journal beside it, and whoever only reads can't do that.
async fn is_half_written(connection: &mut AnyConnection) -> bool {
    const READONLY: i32 = 8;
    let looked = sqlx::query("SELECT count(*) FROM sqlite_master").execute(connection).await;
    let code = looked.err().and_then(|error| error.as_database_error()?.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == READONLY)
}

/// Copies a file, with the journal beside it, to where the copy can be tidied up. The other server's stays as it is.
fn copied(path: &Path) -> std::io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("antimony-import-").tempdir()?;
    for end in ["", "-journal", "-wal"] {
        let beside = |path: &Path| {
            let mut path = path.as_os_str().to_owned();
            path.push(end);
            PathBuf::from(path)
        };
        match std::fs::copy(beside(path), beside(&folder.path().join(COPY))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound || end.is_empty() => return Err(error),
            _ => {}
        }
    }
    Ok(folder)
}

/// The address with the password of the environment where it has none of its own, and as anybody may see it.
fn postgres_url(from: &str, password: Option<String>) -> Result<(String, String), SourceError> {
    let mut url = reqwest::Url::parse(from).map_err(|error| SourceError::Open {
        from: "the address of the PostgreSQL database".to_owned(),
        problem: format!("it is none such as postgres://user@host:5432/antimony: {error}"),
    })?;
    let mut shown = url.clone();
    // Only addresses without a host have no place for a password.
    let _ = shown.set_password(None);
    shown.set_query(None);
    if url.password().is_none()
        && let Some(password) = password.filter(|password| !password.is_empty())
    {
        let _ = url.set_password(Some(&password));
    }
    Ok((url.into(), shown.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_from_the_address_or_the_environment_and_is_never_shown() {
        let url = |from: &str| postgres_url(from, Some("en/v".to_owned())).expect("an address");
        let (connect, shown) = url("postgres://u@db:5432/antimony");
        assert_eq!(
            (connect.as_str(), shown.as_str()),
            ("postgres://u:en%2Fv@db:5432/antimony", "postgres://u@db:5432/antimony")
        );
        let (connect, shown) = url("postgres://u:own@db/antimony?sslmode=disable");
        assert!(connect.contains("own") && connect.ends_with("sslmode=disable"), "{connect}");
        assert_eq!(shown, "postgres://u@db/antimony");
        let error = postgres_url("postgres://u:own@[", None).expect_err("no address").to_string();
        assert!(!error.contains("own"), "{error}");
    }
}
