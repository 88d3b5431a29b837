//! Users: only what is needed to name the creator of something.

use sqlx::AnyConnection;

use super::{Store, StoreError, no_null};
use crate::labs::model::{User, UserId};

impl Store {
    /// Remembers a user, or their new name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn upsert_user(&self, user: &User) -> Result<(), StoreError> {
        self.write(user, |db, user| Box::pin(upsert(db, user))).await
    }

    /// The user of that id, if they have been here.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let query = self.read(id, |db, id| {
            Box::pin(sqlx::query_scalar("SELECT name FROM users WHERE id = $1").bind(id.as_str()).fetch_optional(db))
        });
        let name: Option<String> = query.await?;
        Ok(name.map(|name| User { id: id.clone(), name }))
    }
}

impl Store {
    /// Ids of all users who have been here.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn user_ids(&self) -> Result<Vec<UserId>, StoreError> {
        let query = "SELECT id FROM users";
        let ids: Vec<String> = self.read(&(), |db, ()| Box::pin(sqlx::query_scalar(query).fetch_all(db))).await?;
        Ok(ids.into_iter().map(UserId::from).collect())
    }
}

/// Sees to it that a creator can be referred to. A name that is known already stays.
pub(super) async fn ensure(db: &mut AnyConnection, user: &User) -> Result<(), StoreError> {
    no_null("user", &[user.id.as_str(), &user.name])?;
    sqlx::query("INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
        .bind(user.id.as_str())
        .bind(&user.name)
        .execute(db)
        .await?;
    Ok(())
}

/// Remembers a user, or their new name.
pub(super) async fn upsert(db: &mut AnyConnection, user: &User) -> Result<(), StoreError> {
    no_null("user", &[user.id.as_str(), &user.name])?;
    sqlx::query("INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name")
        .bind(user.id.as_str())
        .bind(&user.name)
        .execute(db)
        .await?;
    Ok(())
}
