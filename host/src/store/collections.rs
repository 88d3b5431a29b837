//! Collections.

use sqlx::AnyConnection;

use super::{Store, StoreError, found, no_null, users, write_error};
use crate::labs::model::{Collection, CollectionId, User};

const ALL: &str = "SELECT c.id, c.name, c.public_write, c.public_deploy, c.creator_id, u.name AS creator_name \
                   FROM collections c JOIN users u ON u.id = c.creator_id";
const ONE: &str = "SELECT c.id, c.name, c.public_write, c.public_deploy, c.creator_id, u.name AS creator_name \
                   FROM collections c JOIN users u ON u.id = c.creator_id WHERE c.id = $1";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    public_write: i32,
    public_deploy: i32,
    creator_id: String,
    creator_name: String,
}

impl From<Row> for Collection {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            public_write: row.public_write != 0,
            public_deploy: row.public_deploy != 0,
            creator: User { id: row.creator_id.into(), name: row.creator_name },
        }
    }
}

fn taken(collection: &Collection) -> StoreError {
    StoreError::NameTaken { what: "collection", name: collection.name.clone() }
}

fn missing(id: &str) -> StoreError {
    StoreError::NotFound { what: "collection", id: id.to_owned() }
}

impl Store {
    /// All collections, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn collections(&self) -> Result<Vec<Collection>, StoreError> {
        let rows: Vec<Row> = self.read(&(), |db, ()| Box::pin(sqlx::query_as(ALL).fetch_all(db))).await?;
        let mut collections: Vec<Collection> = rows.into_iter().map(Collection::from).collect();
        collections.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(collections)
    }

    /// The collection of that id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn collection(&self, id: &CollectionId) -> Result<Option<Collection>, StoreError> {
        let query = self.read(id, |db, id| Box::pin(sqlx::query_as(ONE).bind(id.as_str()).fetch_optional(db)));
        let row: Option<Row> = query.await?;
        Ok(row.map(Collection::from))
    }

    /// Adds a collection; its creator becomes known.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::Database`].
    pub async fn insert_collection(&self, collection: &Collection) -> Result<(), StoreError> {
        self.write(collection, |db, collection| Box::pin(insert(db, collection))).await
    }

    /// Changes everything about a collection but its creator, if it still is what it was `before`: what others changed
    /// meanwhile isn't undone.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Overtaken`], [`StoreError::NameTaken`], [`StoreError::Database`].
    pub async fn update_collection(&self, before: &Collection, after: &Collection) -> Result<(), StoreError> {
        self.write(&(before, after), |db, (before, after)| Box::pin(update(db, before, after))).await
    }

    /// Deletes a collection that has no topologies.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::InUse`], [`StoreError::Database`].
    pub async fn delete_collection(&self, id: &CollectionId) -> Result<(), StoreError> {
        self.write(id, |db, id| Box::pin(delete(db, id))).await
    }
}

pub(super) async fn insert(db: &mut AnyConnection, collection: &Collection) -> Result<(), StoreError> {
    no_null("collection", &[&collection.name])?;
    users::ensure(db, &collection.creator).await?;
    sqlx::query(
        "INSERT INTO collections (id, name, public_write, public_deploy, creator_id) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(collection.id.as_str())
    .bind(&collection.name)
    .bind(i32::from(collection.public_write))
    .bind(i32::from(collection.public_deploy))
    .bind(collection.creator.id.as_str())
    .execute(db)
    .await
    .map_err(|error| write_error(error, || taken(collection), || missing(collection.id.as_str())))?;
    Ok(())
}

async fn update(db: &mut AnyConnection, before: &Collection, collection: &Collection) -> Result<(), StoreError> {
    no_null("collection", &[&collection.name])?;
    let row: Option<Row> = sqlx::query_as(ONE).bind(collection.id.as_str()).fetch_optional(&mut *db).await?;
    let kept = Collection::from(row.ok_or_else(|| missing(collection.id.as_str()))?);
    // All that is written. A creator may have got another name.
    let written = |of: &Collection| (of.name.clone(), of.public_write, of.public_deploy);
    if written(&kept) != written(before) {
        return Err(StoreError::Overtaken("collection"));
    }
    let done = sqlx::query("UPDATE collections SET name = $2, public_write = $3, public_deploy = $4 WHERE id = $1")
        .bind(collection.id.as_str())
        .bind(&collection.name)
        .bind(i32::from(collection.public_write))
        .bind(i32::from(collection.public_deploy))
        .execute(db)
        .await
        .map_err(|error| write_error(error, || taken(collection), || missing(collection.id.as_str())))?;
    found(done.rows_affected(), "collection", collection.id.as_str())
}

async fn delete(db: &mut AnyConnection, id: &CollectionId) -> Result<(), StoreError> {
    let in_use = || StoreError::InUse { what: "collection", users: "topologies" };
    let done = sqlx::query("DELETE FROM collections WHERE id = $1")
        .bind(id.as_str())
        .execute(db)
        .await
        .map_err(|error| write_error(error, in_use, in_use))?;
    found(done.rows_affected(), "collection", id.as_str())
}
