//! Topologies.

use sqlx::AnyConnection;

use super::{Store, StoreError, found, no_null, users, write_error};
use crate::labs::model::{StoredTopology, TopologyId, User};

const ALL: &str = "SELECT t.id, t.name, t.collection_id, t.definition, t.sync_url, t.last_deploy_failed, t.creator_id, \
                   u.name AS creator_name FROM topologies t JOIN users u ON u.id = t.creator_id";
const ONE: &str = "SELECT t.id, t.name, t.collection_id, t.definition, t.sync_url, t.last_deploy_failed, t.creator_id, \
                   u.name AS creator_name FROM topologies t JOIN users u ON u.id = t.creator_id WHERE t.id = $1";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    collection_id: String,
    definition: String,
    sync_url: Option<String>,
    last_deploy_failed: i32,
    creator_id: String,
    creator_name: String,
}

impl Row {
    fn with(self, file_paths: Vec<String>) -> StoredTopology {
        StoredTopology {
            id: self.id.into(),
            name: self.name,
            collection_id: self.collection_id.into(),
            definition: self.definition,
            sync_url: self.sync_url,
            last_deploy_failed: self.last_deploy_failed != 0,
            creator: User { id: self.creator_id.into(), name: self.creator_name },
            file_paths,
        }
    }
}

fn taken(topology: &StoredTopology) -> StoreError {
    StoreError::NameTaken { what: "topology", name: topology.name.clone() }
}

/// Of what a topology refers to, its collection alone can be missing.
fn no_collection(topology: &StoredTopology) -> StoreError {
    StoreError::NotFound { what: "collection", id: topology.collection_id.to_string() }
}

impl Store {
    /// All topologies, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn topologies(&self) -> Result<Vec<StoredTopology>, StoreError> {
        let rows: Vec<Row> = self.read(&(), |db, ()| Box::pin(sqlx::query_as(ALL).fetch_all(db))).await?;
        let mut paths = self.all_file_paths().await?;
        let with_paths = |row: Row| {
            let paths = paths.remove(&row.id).unwrap_or_default();
            row.with(paths)
        };
        let mut topologies: Vec<StoredTopology> = rows.into_iter().map(with_paths).collect();
        topologies.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(topologies)
    }

    /// The topology of that id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn topology(&self, id: &TopologyId) -> Result<Option<StoredTopology>, StoreError> {
        match self.read(id, |db, id| Box::pin(one(db, id))).await? {
            Some(row) => Ok(Some(row.with(self.file_paths(id).await?))),
            None => Ok(None),
        }
    }

    /// Adds a topology, without any files; its creator becomes known.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::NotFound`] when there is no such collection, [`StoreError::Database`].
    pub async fn insert_topology(&self, topology: &StoredTopology) -> Result<(), StoreError> {
        self.write(topology, |db, topology| Box::pin(insert(db, topology))).await
    }

    /// Changes what an author can change about a topology: name, collection, definition, sync URL. It can't go to another
    /// collection while labs are made from it: they would go along, out of sight of those who made them. And it has to be
    /// what it was `before` still: what others changed meanwhile isn't undone.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the topology or its new collection, [`StoreError::Overtaken`],
    /// [`StoreError::NameTaken`], [`StoreError::InUse`], [`StoreError::Database`].
    pub async fn update_topology(&self, before: &StoredTopology, after: &StoredTopology) -> Result<(), StoreError> {
        self.write(&(before, after), |db, (before, after)| Box::pin(update(db, before, after))).await
    }

    /// Notes whether the last attempt to deploy a topology failed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn set_topology_deploy_failed(&self, id: &TopologyId, failed: bool) -> Result<(), StoreError> {
        self.write(&(id, failed), |db, (id, failed)| Box::pin(set_deploy_failed(db, id, *failed))).await
    }

    /// Deletes a topology that no lab is made from, and its files.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::InUse`], [`StoreError::Database`].
    pub async fn delete_topology(&self, id: &TopologyId) -> Result<(), StoreError> {
        self.write(id, |db, id| Box::pin(delete(db, id))).await
    }
}

async fn one(db: &mut AnyConnection, id: &TopologyId) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(ONE).bind(id.as_str()).fetch_optional(db).await
}

pub(super) async fn insert(db: &mut AnyConnection, topology: &StoredTopology) -> Result<(), StoreError> {
    check(topology)?;
    users::ensure(db, &topology.creator).await?;
    sqlx::query(
        "INSERT INTO topologies (id, name, collection_id, definition, sync_url, last_deploy_failed, creator_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(topology.id.as_str())
    .bind(&topology.name)
    .bind(topology.collection_id.as_str())
    .bind(&topology.definition)
    .bind(topology.sync_url.as_deref())
    .bind(i32::from(topology.last_deploy_failed))
    .bind(topology.creator.id.as_str())
    .execute(db)
    .await
    .map_err(|error| write_error(error, || taken(topology), || no_collection(topology)))?;
    Ok(())
}

fn check(topology: &StoredTopology) -> Result<(), StoreError> {
    no_null("topology", &[&topology.name, &topology.definition, topology.sync_url.as_deref().unwrap_or_default()])
}

async fn update(db: &mut AnyConnection, before: &StoredTopology, topology: &StoredTopology) -> Result<(), StoreError> {
    check(topology)?;
    let missing = || StoreError::NotFound { what: "topology", id: topology.id.to_string() };
    let kept = one(db, &topology.id).await?.ok_or_else(missing)?;
    // All that is written. How its last deploy went is noted by others.
    let is_as_before = kept.name == before.name
        && kept.collection_id == before.collection_id.as_str()
        && kept.definition == before.definition
        && kept.sync_url == before.sync_url;
    if !is_as_before {
        return Err(StoreError::Overtaken("topology"));
    }
    let done = sqlx::query(
        "UPDATE topologies SET name = $2, collection_id = $3, definition = $4, sync_url = $5 WHERE id = $1 \
         AND (collection_id = $3 OR NOT EXISTS (SELECT 1 FROM labs WHERE topology_id = $1))",
    )
    .bind(topology.id.as_str())
    .bind(&topology.name)
    .bind(topology.collection_id.as_str())
    .bind(&topology.definition)
    .bind(topology.sync_url.as_deref())
    .execute(db)
    .await
    .map_err(|error| write_error(error, || taken(topology), || no_collection(topology)))?;
    // It is there, as was seen above.
    if done.rows_affected() == 0 { Err(StoreError::InUse { what: "topology", users: "labs" }) } else { Ok(()) }
}

async fn set_deploy_failed(db: &mut AnyConnection, id: &TopologyId, failed: bool) -> Result<(), StoreError> {
    let change = sqlx::query("UPDATE topologies SET last_deploy_failed = $2 WHERE id = $1");
    let done = change.bind(id.as_str()).bind(i32::from(failed)).execute(db).await?;
    found(done.rows_affected(), "topology", id.as_str())
}

async fn delete(db: &mut AnyConnection, id: &TopologyId) -> Result<(), StoreError> {
    let in_use = || StoreError::InUse { what: "topology", users: "labs" };
    let done = sqlx::query("DELETE FROM topologies WHERE id = $1")
        .bind(id.as_str())
        .execute(db)
        .await
        .map_err(|error| write_error(error, in_use, in_use))?;
    found(done.rows_affected(), "topology", id.as_str())
}
