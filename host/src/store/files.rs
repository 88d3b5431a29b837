//! Bind files of topologies. What a topology may have of them in all is checked here, since only here can two that are
//! written at once be told one after the other.

use std::collections::HashMap;

use sqlx::AnyConnection;

use super::{Store, StoreError, found, no_null};
use crate::labs::model::{BindFile, BindFileId, TopologyId};

/// Most bytes that one file may have.
pub const MAX_FILE: usize = 1 << 20;
/// Most bytes that all files of a topology may have together.
pub const MAX_FILES: usize = 4 << 20;
/// Most files that a topology may have.
pub const MAX_COUNT: usize = 200;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    topology_id: String,
    path: String,
    content: String,
}

impl From<Row> for BindFile {
    fn from(row: Row) -> Self {
        Self { id: row.id.into(), topology_id: row.topology_id.into(), path: row.path, content: row.content }
    }
}

impl Store {
    /// The files of a topology, by path; none if there is no such topology.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn bind_files(&self, topology: &TopologyId) -> Result<Vec<BindFile>, StoreError> {
        let query = "SELECT id, topology_id, path, content FROM bind_files WHERE topology_id = $1";
        let rows = self.read(topology, |db, topology| {
            Box::pin(sqlx::query_as::<_, Row>(query).bind(topology.as_str()).fetch_all(db))
        });
        let rows = rows.await?;
        Ok(sorted(rows))
    }

    /// The files of all topologies, by path.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn all_bind_files(&self) -> Result<HashMap<TopologyId, Vec<BindFile>>, StoreError> {
        let query = "SELECT id, topology_id, path, content FROM bind_files";
        let rows: Vec<Row> = self.read(&(), |db, ()| Box::pin(sqlx::query_as(query).fetch_all(db))).await?;
        let mut files: HashMap<TopologyId, Vec<BindFile>> = HashMap::new();
        for file in sorted(rows) {
            files.entry(file.topology_id.clone()).or_default().push(file);
        }
        Ok(files)
    }

    /// Paths of the files of a topology, in order.
    pub(super) async fn file_paths(&self, topology: &TopologyId) -> Result<Vec<String>, StoreError> {
        let query = "SELECT path FROM bind_files WHERE topology_id = $1";
        let paths = self.read(topology, |db, topology| {
            Box::pin(sqlx::query_scalar::<_, String>(query).bind(topology.as_str()).fetch_all(db))
        });
        let mut paths = paths.await?;
        paths.sort_unstable();
        Ok(paths)
    }

    /// Paths of the files of all topologies, in order.
    pub(super) async fn all_file_paths(&self) -> Result<HashMap<String, Vec<String>>, StoreError> {
        let query = "SELECT topology_id, path FROM bind_files";
        let mut rows: Vec<(String, String)> =
            self.read(&(), |db, ()| Box::pin(sqlx::query_as(query).fetch_all(db))).await?;
        rows.sort_unstable();
        let mut paths: HashMap<String, Vec<String>> = HashMap::new();
        for (topology, path) in rows {
            paths.entry(topology).or_default().push(path);
        }
        Ok(paths)
    }

    /// Adds a file to a topology.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such topology, [`StoreError::PathTaken`], [`StoreError::PathInUse`],
    /// [`StoreError::TooMuch`], [`StoreError::Database`].
    pub async fn insert_bind_file(&self, file: &BindFile) -> Result<(), StoreError> {
        self.write(file, |db, file| Box::pin(insert(db, file))).await
    }

    /// Changes path and content of a file, which has to be what it was `before` still: what others changed meanwhile isn't
    /// undone.
    ///
    /// # Errors
    /// As [`Self::insert_bind_file`]; [`StoreError::NotFound`] when its topology has no such file, [`StoreError::Overtaken`].
    pub async fn update_bind_file(&self, before: &BindFile, after: &BindFile) -> Result<(), StoreError> {
        self.write(&(before, after), |db, (before, after)| Box::pin(update(db, before, after))).await
    }

    /// Deletes a file of a topology.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn delete_bind_file(&self, topology: &TopologyId, id: &BindFileId) -> Result<(), StoreError> {
        self.write(&(topology, id), |db, (topology, id)| Box::pin(delete(db, topology, id))).await
    }
}

pub(super) async fn insert(db: &mut AnyConnection, file: &BindFile) -> Result<(), StoreError> {
    check(db, file).await?;
    sqlx::query("INSERT INTO bind_files (id, topology_id, path, content) VALUES ($1, $2, $3, $4)")
        .bind(file.id.as_str())
        .bind(file.topology_id.as_str())
        .bind(&file.path)
        .bind(&file.content)
        .execute(db)
        .await?;
    Ok(())
}

async fn update(db: &mut AnyConnection, before: &BindFile, file: &BindFile) -> Result<(), StoreError> {
    check(db, file).await?;
    let kept: Option<(String, String)> =
        sqlx::query_as("SELECT path, content FROM bind_files WHERE id = $1 AND topology_id = $2")
            .bind(file.id.as_str())
            .bind(file.topology_id.as_str())
            .fetch_optional(&mut *db)
            .await?;
    let (path, content) = kept.ok_or_else(|| StoreError::NotFound { what: "file", id: file.id.to_string() })?;
    if path != before.path || content != before.content {
        return Err(StoreError::Overtaken("file"));
    }
    sqlx::query("UPDATE bind_files SET path = $3, content = $4 WHERE id = $1 AND topology_id = $2")
        .bind(file.id.as_str())
        .bind(file.topology_id.as_str())
        .bind(&file.path)
        .bind(&file.content)
        .execute(db)
        .await?;
    Ok(())
}

async fn delete(db: &mut AnyConnection, topology: &TopologyId, id: &BindFileId) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM bind_files WHERE id = $1 AND topology_id = $2")
        .bind(id.as_str())
        .bind(topology.as_str())
        .execute(db)
        .await?;
    found(done.rows_affected(), "file", id.as_str())
}

fn sorted(rows: Vec<Row>) -> Vec<BindFile> {
    let mut files: Vec<BindFile> = rows.into_iter().map(BindFile::from).collect();
    // Not by the database: each orders text in its own way.
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Whether a file can be written as it is, besides those that its topology has. Keeps others from writing one meanwhile.
async fn check(connection: &mut AnyConnection, file: &BindFile) -> Result<(), StoreError> {
    no_null("file", &[file.id.as_str(), &file.path, &file.content])?;
    let topology = file.topology_id.as_str();
    // Changes nothing, but whoever does the same waits until this transaction has ended.
    let held = sqlx::query("UPDATE topologies SET name = name WHERE id = $1").bind(topology).execute(&mut *connection);
    found(held.await?.rows_affected(), "topology", topology)?;
    let others: Vec<(String, i64)> = sqlx::query_as(
        "SELECT path, CAST(OCTET_LENGTH(content) AS BIGINT) FROM bind_files WHERE topology_id = $1 AND id <> $2",
    )
    .bind(topology)
    .bind(file.id.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let path = &file.path;
    let below = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    for (other, _) in &others {
        if other == path {
            return Err(StoreError::PathTaken(path.clone()));
        }
        if below(path, other) || below(other, path) {
            return Err(StoreError::PathInUse { path: path.clone(), other: other.clone() });
        }
    }
    let bytes =
        others.iter().map(|(_, bytes)| usize::try_from(*bytes).unwrap_or(0)).sum::<usize>() + file.content.len();
    let too_much = |what: String| Err(StoreError::TooMuch(what));
    if file.content.len() > MAX_FILE {
        return too_much(format!("content: a file may have {MAX_FILE} bytes, and this one has {}", file.content.len()));
    }
    if bytes > MAX_FILES {
        return too_much(format!(
            "content: the files of a topology may have {MAX_FILES} bytes, and with this one they have {bytes}"
        ));
    }
    if others.len() >= MAX_COUNT {
        return too_much(format!("filePath: a topology may have {MAX_COUNT} files, and this one has them already"));
    }
    Ok(())
}
