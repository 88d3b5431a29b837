//! Users: only what is needed to name the creator of something.

use sqlx::SqliteConnection;

use super::{Store, StoreError};
use crate::labs::model::{User, UserId};

impl Store {
    /// Remembers a user, or their new name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn upsert_user(&self, user: &User) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name")
            .bind(user.id.as_str())
            .bind(&user.name)
            .execute(&self.writes)
            .await?;
        Ok(())
    }

    /// The user of that id, if they have been here.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let name = sqlx::query_scalar::<_, String>("SELECT name FROM users WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reads)
            .await?;
        Ok(name.map(|name| User { id: id.clone(), name }))
    }
}

/// Sees to it that a creator can be referred to. A name that is known already stays.
pub(super) async fn ensure(connection: &mut SqliteConnection, user: &User) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
        .bind(user.id.as_str())
        .bind(&user.name)
        .execute(connection)
        .await?;
    Ok(())
}
