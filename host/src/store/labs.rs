//! Labs, and the part of their instances that survives a restart.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};

use super::{Store, StoreError, found, no_null, time, users, write_error};
use crate::labs::model::{InstanceState, Lab, LabId, StoredInstance, User};

/// The runtime of instances that were stored without one.
const BEFORE_THERE_WAS_A_CHOICE: &str = "embedded";

const ALL: &str = "SELECT l.id, l.name, l.start_time, l.end_time, l.topology_id, t.collection_id, l.creator_id, \
                   u.name AS creator_name, l.start_pending, l.warned_before, l.instance_name, l.instance_definition, \
                   l.instance_deployed, l.instance_state, l.instance_since, l.instance_runtime \
                   FROM labs l JOIN topologies t ON t.id = l.topology_id JOIN users u ON u.id = l.creator_id";
const ONE: &str = "SELECT l.id, l.name, l.start_time, l.end_time, l.topology_id, t.collection_id, l.creator_id, \
                   u.name AS creator_name, l.start_pending, l.warned_before, l.instance_name, l.instance_definition, \
                   l.instance_deployed, l.instance_state, l.instance_since, l.instance_runtime \
                   FROM labs l JOIN topologies t ON t.id = l.topology_id JOIN users u ON u.id = l.creator_id \
                   WHERE l.id = $1";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    start_time: i64,
    end_time: Option<i64>,
    topology_id: String,
    collection_id: String,
    creator_id: String,
    creator_name: String,
    start_pending: i32,
    warned_before: Option<i64>,
    instance_name: Option<String>,
    instance_runtime: Option<String>,
    instance_definition: Option<String>,
    instance_deployed: Option<i64>,
    instance_state: Option<i32>,
    instance_since: Option<i64>,
}

impl TryFrom<Row> for Lab {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let what = || format!("lab {}", row.id);
        // The schema sees to it that all five are there or none.
        let times = row.instance_deployed.zip(row.instance_since);
        let instance = match (row.instance_name, row.instance_definition, row.instance_state, times) {
            (Some(name), Some(definition), Some(state), Some((deployed, since))) => {
                let state = state_of(state)
                    .ok_or_else(|| StoreError::Nonsense { what: what(), problem: format!("state {state}") })?;
                let (deployed, since) = (time(deployed, what)?, time(since, what)?);
                let runtime = row.instance_runtime.unwrap_or_else(|| BEFORE_THERE_WAS_A_CHOICE.to_owned());
                Some(StoredInstance { name, runtime, definition, deployed, state, since })
            }
            _ => None,
        };
        Ok(Self {
            start_time: time(row.start_time, what)?,
            end_time: row.end_time.map(|end| time(end, what)).transpose()?,
            id: row.id.into(),
            name: row.name,
            topology_id: row.topology_id.into(),
            collection_id: row.collection_id.into(),
            creator: User { id: row.creator_id.into(), name: row.creator_name },
            start_pending: row.start_pending != 0,
            // What doesn't fit was not written here; at worst somebody is warned once more.
            warned_before: row.warned_before.and_then(|seconds| u32::try_from(seconds).ok()),
            instance,
        })
    }
}

fn state_of(number: i32) -> Option<InstanceState> {
    use InstanceState::{Deploying, Failed, Running, Stopping};
    [Deploying, Running, Stopping, Failed].into_iter().find(|&state| state as i32 == number)
}

type Statement = Query<'static, Any, AnyArguments>;

fn bind_instance(statement: Statement, instance: Option<&StoredInstance>) -> Statement {
    statement
        .bind(instance.map(|instance| instance.name.clone()))
        .bind(instance.map(|instance| instance.definition.clone()))
        .bind(instance.map(|instance| instance.deployed.as_millisecond()))
        .bind(instance.map(|instance| instance.state as i32))
        .bind(instance.map(|instance| instance.since.as_millisecond()))
        .bind(instance.map(|instance| instance.runtime.clone()))
}

/// Of what a lab refers to, its topology alone can be missing.
fn no_topology(lab: &Lab) -> StoreError {
    StoreError::NotFound { what: "topology", id: lab.topology_id.to_string() }
}

fn instance_taken(instance: Option<&StoredInstance>) -> StoreError {
    let name = instance.map(|instance| instance.name.clone()).unwrap_or_default();
    StoreError::NameTaken { what: "instance", name }
}

impl Store {
    /// All labs, by start time.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Nonsense`].
    pub async fn labs(&self) -> Result<Vec<Lab>, StoreError> {
        let rows: Vec<Row> = self.read(&(), |db, ()| Box::pin(sqlx::query_as(ALL).fetch_all(db))).await?;
        let mut labs = rows.into_iter().map(Lab::try_from).collect::<Result<Vec<_>, _>>()?;
        labs.sort_by(|a, b| (a.start_time, &a.id).cmp(&(b.start_time, &b.id)));
        Ok(labs)
    }

    /// The lab of that id.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Nonsense`].
    pub async fn lab(&self, id: &LabId) -> Result<Option<Lab>, StoreError> {
        let query = self.read(id, |db, id| Box::pin(sqlx::query_as(ONE).bind(id.as_str()).fetch_optional(db)));
        let row: Option<Row> = query.await?;
        row.map(Lab::try_from).transpose()
    }

    /// Adds a lab; its creator becomes known. Times are kept to the millisecond, and the collection is that of the
    /// topology, whatever `lab` says.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such topology, [`StoreError::Database`].
    pub async fn insert_lab(&self, lab: &Lab) -> Result<(), StoreError> {
        self.write(lab, |db, lab| Box::pin(insert(db, lab))).await
    }

    /// Changes everything about a lab but its creator and its instance.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the lab or its new topology, [`StoreError::Database`].
    pub async fn update_lab(&self, lab: &Lab) -> Result<(), StoreError> {
        self.write(lab, |db, lab| Box::pin(update(db, lab))).await
    }

    /// Notes that a lab has this instance in this state, or none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NameTaken`] when another lab has an instance of that name,
    /// [`StoreError::Database`].
    pub async fn set_lab_instance(&self, id: &LabId, instance: Option<&StoredInstance>) -> Result<(), StoreError> {
        self.write(&(id, instance), |db, (id, instance)| Box::pin(set_instance(db, id, *instance))).await
    }

    /// Notes whether the schedule still has to start a lab.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn set_lab_start_pending(&self, id: &LabId, pending: bool) -> Result<(), StoreError> {
        self.write(&(id, pending), |db, (id, pending)| Box::pin(set_start_pending(db, id, *pending))).await
    }

    /// Notes that the users of a lab have been warned so many seconds before its end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn set_lab_warned(&self, id: &LabId, before: Option<u32>) -> Result<(), StoreError> {
        self.write(&(id, before), |db, (id, before)| Box::pin(set_warned(db, id, *before))).await
    }

    /// Deletes a lab, whether it has an instance or not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn delete_lab(&self, id: &LabId) -> Result<(), StoreError> {
        self.write(id, |db, id| Box::pin(delete(db, id))).await
    }
}

pub(super) async fn insert(db: &mut AnyConnection, lab: &Lab) -> Result<(), StoreError> {
    no_null("lab", &[&lab.name])?;
    users::ensure(db, &lab.creator).await?;
    let statement = sqlx::query(
        "INSERT INTO labs (id, name, start_time, end_time, topology_id, creator_id, start_pending, \
         instance_name, instance_definition, instance_deployed, instance_state, instance_since, \
         instance_runtime, warned_before) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(lab.id.as_str().to_owned())
    .bind(lab.name.clone())
    .bind(lab.start_time.as_millisecond())
    .bind(lab.end_time.map(|end| end.as_millisecond()))
    .bind(lab.topology_id.as_str().to_owned())
    .bind(lab.creator.id.as_str().to_owned())
    .bind(i32::from(lab.start_pending));
    bind_instance(statement, lab.instance.as_ref())
        .bind(lab.warned_before.map(i64::from))
        .execute(db)
        .await
        .map_err(|error| write_error(error, || instance_taken(lab.instance.as_ref()), || no_topology(lab)))?;
    Ok(())
}

async fn update(db: &mut AnyConnection, lab: &Lab) -> Result<(), StoreError> {
    no_null("lab", &[&lab.name])?;
    let done = sqlx::query(
        "UPDATE labs SET name = $2, start_time = $3, end_time = $4, topology_id = $5, start_pending = $6, warned_before = $7 \
         WHERE id = $1",
    )
    .bind(lab.id.as_str())
    .bind(&lab.name)
    .bind(lab.start_time.as_millisecond())
    .bind(lab.end_time.map(|end| end.as_millisecond()))
    .bind(lab.topology_id.as_str())
    .bind(i32::from(lab.start_pending))
    .bind(lab.warned_before.map(i64::from))
    .execute(db)
    .await
    .map_err(|error| write_error(error, || no_topology(lab), || no_topology(lab)))?;
    found(done.rows_affected(), "lab", lab.id.as_str())
}

async fn set_instance(db: &mut AnyConnection, id: &LabId, instance: Option<&StoredInstance>) -> Result<(), StoreError> {
    let statement = sqlx::query(
        "UPDATE labs SET instance_name = $2, instance_definition = $3, instance_deployed = $4, \
         instance_state = $5, instance_since = $6, instance_runtime = $7 WHERE id = $1",
    )
    .bind(id.as_str().to_owned());
    let done = bind_instance(statement, instance)
        .execute(db)
        .await
        .map_err(|error| write_error(error, || instance_taken(instance), || instance_taken(instance)))?;
    found(done.rows_affected(), "lab", id.as_str())
}

async fn set_start_pending(db: &mut AnyConnection, id: &LabId, pending: bool) -> Result<(), StoreError> {
    let change = sqlx::query("UPDATE labs SET start_pending = $2 WHERE id = $1");
    let done = change.bind(id.as_str()).bind(i32::from(pending)).execute(db).await?;
    found(done.rows_affected(), "lab", id.as_str())
}

async fn set_warned(db: &mut AnyConnection, id: &LabId, before: Option<u32>) -> Result<(), StoreError> {
    let change = sqlx::query("UPDATE labs SET warned_before = $2 WHERE id = $1");
    let done = change.bind(id.as_str()).bind(before.map(i64::from)).execute(db).await?;
    found(done.rows_affected(), "lab", id.as_str())
}

async fn delete(db: &mut AnyConnection, id: &LabId) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM labs WHERE id = $1").bind(id.as_str()).execute(db).await?;
    found(done.rows_affected(), "lab", id.as_str())
}
