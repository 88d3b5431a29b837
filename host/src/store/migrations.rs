//! The schema, step by step, in SQL that SQLite and PostgreSQL both take: one folder for both. What has been released is
//! never changed: databases remember what was done to them.

use std::error::Error;

use std::ops::Deref;

use futures::future::BoxFuture;
use sqlx::Acquire;
use sqlx::migrate::{Migrate, MigrateError, Migrator};

/// All steps.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The table that remembers which steps were taken.
const TABLE: &str = "_sqlx_migrations";

/// Takes the steps that weren't taken yet.
pub(super) fn run<'c, A>(database: A) -> BoxFuture<'c, Result<(), MigrateError>>
where
    A: Acquire<'c> + Send + 'c,
    <A::Connection as Deref>::Target: Migrate,
    A::Connection: Send,
{
    Box::pin(MIGRATIONS.run(database))
}

/// Why the schema couldn't be brought up to date; `sentence` words what the database itself says.
pub(super) fn sentence(error: &MigrateError, sentence: impl Fn(&(dyn Error + 'static)) -> String) -> String {
    match error {
        MigrateError::VersionMissing(version) => newer(*version),
        MigrateError::VersionMismatch(version) => {
            format!("its schema {version} is not the one that this version of the program makes")
        }
        MigrateError::Dirty(version) => format!("an upgrade to schema {version} was cut short; restore a backup"),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => sentence(error),
        error => error.to_string().replace('\n', " "),
    }
}

fn newer(version: i64) -> String {
    format!("it was written by a newer version of this program (schema {version}); run that version")
}

/// Says so when the database was written by a newer version. The table of steps has to be there, or nothing at all.
pub(super) async fn check_not_newer(connection: &mut impl Migrate) -> Result<(), String> {
    let known = MIGRATIONS.iter().map(|step| step.version).max().unwrap_or_default();
    let taken = connection.list_applied_migrations(TABLE).await.unwrap_or_default();
    match taken.into_iter().map(|step| step.version).max() {
        Some(version) if version > known => Err(newer(version)),
        _ => Ok(()),
    }
}
