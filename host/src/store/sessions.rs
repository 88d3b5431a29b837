//! Sessions of people who have logged in by OpenID Connect, each sealed by whoever keeps it here (`auth::openid`).

use jiff::Timestamp;

use super::{Store, StoreError};

impl Store {
    /// Keeps a session until it expires, and forgets all that have expired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn insert_session(&self, id: &str, sealed: &str, expires: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM openid_sessions WHERE expires <= $1")
            .bind(Timestamp::now().as_millisecond())
            .execute(&self.writes)
            .await?;
        sqlx::query("INSERT INTO openid_sessions (id, sealed, expires) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(sealed)
            .bind(expires.as_millisecond())
            .execute(&self.writes)
            .await?;
        Ok(())
    }

    /// A session that hasn't expired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn session(&self, id: &str) -> Result<Option<String>, StoreError> {
        let sealed = sqlx::query_scalar("SELECT sealed FROM openid_sessions WHERE id = $1 AND expires > $2")
            .bind(id)
            .bind(Timestamp::now().as_millisecond())
            .fetch_optional(&self.reads)
            .await?;
        Ok(sealed)
    }

    /// Replaces what is kept of a session; nothing happens to one that has been deleted.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn update_session(&self, id: &str, sealed: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE openid_sessions SET sealed = $2 WHERE id = $1")
            .bind(id)
            .bind(sealed)
            .execute(&self.writes)
            .await?;
        Ok(())
    }

    /// Deletes a session, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_session(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM openid_sessions WHERE id = $1").bind(id).execute(&self.writes).await?;
        Ok(())
    }
}
