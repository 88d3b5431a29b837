//! What another Antimony server leaves behind: its tables as GORM makes them in SQLite and in PostgreSQL, with rows in them,
//! and its folder of topologies.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// What a column is called, and what it is in SQLite and in PostgreSQL.
type Column = (&'static str, &'static str, &'static str);

/// Tables of both.
const TABLES: &[(&str, &[Column])] = &[
    ("users", &[TEXT_UUID, ("sub", "text NOT NULL", "text NOT NULL"), NAME]),
    (
        "collections",
        &[TEXT_UUID, NAME, ("public_write", "numeric", "boolean"), ("public_deploy", "numeric", "boolean"), CREATOR],
    ),
    (
        "topologies",
        &[
            TEXT_UUID,
            NAME,
            ("sync_url", "text", "text"),
            ("collection_id", "integer NOT NULL", "bigint NOT NULL"),
            CREATOR,
            ("last_deploy_failed", "numeric NOT NULL DEFAULT false", "boolean NOT NULL DEFAULT false"),
        ],
    ),
    (
        "bind_files",
        &[
            TEXT_UUID,
            ("file_path", "text NOT NULL", "text NOT NULL"),
            ("topology_id", "integer NOT NULL", "bigint NOT NULL"),
        ],
    ),
    (
        "labs",
        &[
            TEXT_UUID,
            NAME,
            ("start_time", "datetime NOT NULL", "timestamptz NOT NULL"),
            ("end_time", "datetime", "timestamptz"),
            ("topology_id", "integer NOT NULL", "bigint NOT NULL"),
            CREATOR,
            ("instance_name", "text", "text"),
            ("topology_definition", "text", "text"),
        ],
    ),
];
const TEXT_UUID: Column = ("uuid", "text NOT NULL", "text NOT NULL");
const NAME: Column = ("name", "text NOT NULL", "text NOT NULL");
const CREATOR: Column = ("creator_id", "integer NOT NULL", "bigint NOT NULL");

/// Rows of both.
const ROWS: &str = "
INSERT INTO users (uuid, sub, name) VALUES ('00000000-0000-0000-0000-00000000000', 'Admin', 'Admin'),
    ('u-ada', 'f3a-subject', 'ada@example.org');
INSERT INTO collections (uuid, name, public_write, public_deploy, creator_id, deleted_at) VALUES
    ('c-course', 'course', true, true, 1, NULL), ('c-old', 'old', true, true, 1, '2025-06-01 10:00:00+00:00');
INSERT INTO topologies (uuid, name, sync_url, collection_id, creator_id, last_deploy_failed) VALUES
    ('t-one', 'one', 'https://git.example/one', 1, 2, true), ('t-broken', 'broken', '', 1, 1, false),
    ('t-old', 'lost', '', 2, 1, false), ('t-nowhere', 'nowhere', '', 1, 1, false);
INSERT INTO bind_files (uuid, file_path, topology_id) VALUES ('f-motd', 'etc/motd', 1), ('f-out', '../../etc/passwd', 1);
INSERT INTO labs (uuid, name, start_time, end_time, topology_id, creator_id, instance_name) VALUES
    ('l-ada', 'Ada''s lab', '2026-01-02 15:04:05.25+01:00', NULL, 1, 2, 'one-1767362645'),
    ('l-ahead', 'ahead', '2999-01-01 08:00:00+00:00', '2999-01-01 10:00:00+00:00', 1, 1, NULL),
    ('l-lost', 'lost', '2026-01-02 15:04:05+00:00', NULL, 4, 1, NULL);
";

/// The definition that `f-motd` belongs to.
pub(super) const DEFINITION: &str =
    "name: one\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      binds: [etc/motd:/motd:ro]\n";

fn statements(is_postgres: bool) -> String {
    let mut sql = String::new();
    for (table, columns) in TABLES {
        let (id, time) = match is_postgres {
            true => ("bigserial PRIMARY KEY", "timestamptz"),
            false => ("integer PRIMARY KEY AUTOINCREMENT", "datetime"),
        };
        sql.push_str(&format!(
            "CREATE TABLE {table} (id {id}, created_at {time}, updated_at {time}, deleted_at {time}"
        ));
        for (name, sqlite, postgres) in *columns {
            sql.push_str(&format!(", {name} {}", if is_postgres { postgres } else { sqlite }));
        }
        sql.push_str(");\n");
        sql.push_str(&format!("CREATE UNIQUE INDEX idx_{table}_uuid ON {table} (uuid);\n"));
    }
    sql + ROWS
}

/// The tables and rows as PostgreSQL takes them.
pub(super) fn postgres() -> String {
    statements(true)
}

/// Makes the database in a file of SQLite.
pub(super) async fn sqlite(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements(false))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Makes of the database in a file what is left of it, in another one, when its server is ended while it writes: pages of a
/// change that was never made, and beside it the journal that says what they were.
pub(super) async fn ended_in_mid_write(path: &Path, left: &Path) {
    let journal = |path: &Path| PathBuf::from(format!("{}-journal", path.display()));
    let mut connection: SqliteConnection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    // With so little room, pages are written long before the end.
    let write = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA cache_size = 5; BEGIN IMMEDIATE; \
                 UPDATE collections SET name = 'half done'; DELETE FROM labs; CREATE TABLE more (x BLOB); \
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
                 INSERT INTO more SELECT randomblob(1000) FROM n";
    sqlx::raw_sql(write).execute(&mut connection).await.unwrap();
    fs::copy(path, left).unwrap();
    fs::copy(journal(path), journal(left)).unwrap();
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_ne!(fs::read(path).unwrap(), fs::read(left).unwrap(), "nothing was written yet");
}

/// Makes the folder of topologies in `root`.
pub(super) fn storage(root: &Path) -> PathBuf {
    let storage = root.join("storage");
    for (path, text) in [
        ("t-one/topology.clab.yaml", DEFINITION),
        ("t-one/etc/motd", "welcome back\n"),
        ("t-broken/topology.clab.yaml", "name: broken\ntopology: {nodes: {n1: {knid: linux}}}\n"),
        ("t-old/topology.clab.yaml", DEFINITION),
    ] {
        let path = storage.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    storage
}
