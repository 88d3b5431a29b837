//! Checkpoints of labs, but for the archives that hold their files. How many a lab may have, and how large, is checked here,
//! since only here can two that are made at once be told one after the other.

use sqlx::AnyConnection;

use super::{Store, StoreError, found, no_null, time, users, write_error};
use crate::labs::model::{Checkpoint, CheckpointId, LabId, User};

/// How much a lab may have of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointLimits {
    /// How many.
    pub count: usize,
    /// Bytes of all together.
    pub bytes: u64,
}

const OF_LAB: &str = "SELECT c.id, c.lab_id, c.name, c.created, c.creator_id, u.name AS creator_name, c.definition, \
                      c.runtime, c.files, c.bytes FROM checkpoints c JOIN users u ON u.id = c.creator_id WHERE c.lab_id = $1";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    lab_id: String,
    name: String,
    created: i64,
    creator_id: String,
    creator_name: String,
    definition: String,
    runtime: Option<String>,
    files: i64,
    bytes: i64,
}

impl TryFrom<Row> for Checkpoint {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let created = time(row.created, || format!("checkpoint {}", row.id))?;
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Self {
            id: row.id.into(),
            lab_id: row.lab_id.into(),
            name: row.name,
            created,
            creator: User { id: row.creator_id.into(), name: row.creator_name },
            definition: row.definition,
            runtime: row.runtime,
            files: number(row.files),
            bytes: number(row.bytes),
        })
    }
}

impl Store {
    /// The checkpoints of a lab, the oldest first; none if there is no such lab.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Nonsense`].
    pub async fn checkpoints(&self, lab: &LabId) -> Result<Vec<Checkpoint>, StoreError> {
        let rows: Vec<Row> =
            self.read(lab, |db, lab| Box::pin(sqlx::query_as(OF_LAB).bind(lab.as_str()).fetch_all(db))).await?;
        let mut checkpoints = rows.into_iter().map(Checkpoint::try_from).collect::<Result<Vec<_>, _>>()?;
        checkpoints.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(checkpoints)
    }

    /// Ids of all checkpoints, each with its lab.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn checkpoint_ids(&self) -> Result<Vec<(LabId, CheckpointId)>, StoreError> {
        let query = "SELECT lab_id, id FROM checkpoints";
        let rows: Vec<(String, String)> =
            self.read(&(), |db, ()| Box::pin(sqlx::query_as(query).fetch_all(db))).await?;
        Ok(rows.into_iter().map(|(lab, id)| (lab.into(), id.into())).collect())
    }

    /// Adds a checkpoint; its creator becomes known. The time is kept to the millisecond.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such lab, [`StoreError::NameTaken`], [`StoreError::TooMuch`],
    /// [`StoreError::Null`], [`StoreError::Database`].
    pub async fn insert_checkpoint(&self, checkpoint: &Checkpoint, limits: CheckpointLimits) -> Result<(), StoreError> {
        self.write(&(checkpoint, limits), |db, (checkpoint, limits)| Box::pin(insert(db, checkpoint, *limits))).await
    }

    /// Deletes a checkpoint of a lab.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn delete_checkpoint(&self, lab: &LabId, id: &CheckpointId) -> Result<(), StoreError> {
        self.write(&(lab, id), |db, (lab, id)| Box::pin(delete(db, lab, id))).await
    }
}

async fn insert(db: &mut AnyConnection, checkpoint: &Checkpoint, limits: CheckpointLimits) -> Result<(), StoreError> {
    no_null("checkpoint", &[&checkpoint.name, &checkpoint.definition])?;
    let lab = checkpoint.lab_id.as_str();
    // Changes nothing, but whoever does the same waits until this transaction has ended.
    let held = sqlx::query("UPDATE labs SET name = name WHERE id = $1").bind(lab).execute(&mut *db);
    found(held.await?.rows_affected(), "lab", lab)?;
    let others: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, bytes FROM checkpoints WHERE lab_id = $1").bind(lab).fetch_all(&mut *db).await?;
    let taken = || StoreError::NameTaken { what: "checkpoint", name: checkpoint.name.clone() };
    if others.iter().any(|(name, _)| *name == checkpoint.name) {
        return Err(taken());
    }
    if others.len() >= limits.count {
        let most = limits.count;
        return Err(StoreError::TooMuch(format!(
            "a lab may have {most} checkpoints, and this one has them already: remove one, or have the operator raise \
             checkpoints.perLab"
        )));
    }
    let before = others.iter().map(|(_, bytes)| u64::try_from(*bytes).unwrap_or(0)).sum::<u64>();
    let (all, most) = (before.saturating_add(checkpoint.bytes), limits.bytes);
    if all > most {
        return Err(StoreError::TooMuch(format!(
            "the checkpoints of a lab may have {most} bytes, and with this one they have {all}: remove one, or have the \
             operator raise checkpoints.labBytes"
        )));
    }
    users::ensure(db, &checkpoint.creator).await?;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO checkpoints (id, lab_id, name, created, creator_id, definition, runtime, files, bytes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(checkpoint.id.as_str())
    .bind(lab)
    .bind(&checkpoint.name)
    .bind(checkpoint.created.as_millisecond())
    .bind(checkpoint.creator.id.as_str())
    .bind(&checkpoint.definition)
    .bind(checkpoint.runtime.as_deref())
    .bind(number(checkpoint.files))
    .bind(number(checkpoint.bytes))
    .execute(db)
    .await
    .map_err(|error| {
        let no_lab = || StoreError::NotFound { what: "lab", id: lab.to_owned() };
        write_error(error, taken, no_lab)
    })?;
    Ok(())
}

async fn delete(db: &mut AnyConnection, lab: &LabId, id: &CheckpointId) -> Result<(), StoreError> {
    let done =
        sqlx::query("DELETE FROM checkpoints WHERE id = $1 AND lab_id = $2").bind(id.as_str()).bind(lab.as_str());
    found(done.execute(db).await?.rows_affected(), "checkpoint", id.as_str())
}
