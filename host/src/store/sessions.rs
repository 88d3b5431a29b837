//! Sessions of people who have logged in by OpenID Connect, each sealed by whoever keeps it here (`auth::openid`).

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::{Store, StoreError};

/// A session as it is kept.
struct Session {
    id: String,
    sealed: String,
    expires: i64,
}

impl Store {
    /// Keeps a session until it expires, and forgets all that have expired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn insert_session(&self, id: &str, sealed: &str, expires: Timestamp) -> Result<(), StoreError> {
        let session = Session { id: id.to_owned(), sealed: sealed.to_owned(), expires: expires.as_millisecond() };
        self.write(&session, |db, session| Box::pin(insert(db, session))).await
    }

    /// A session that hasn't expired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn session(&self, id: &str) -> Result<Option<String>, StoreError> {
        let query = self.read(id, |db, id| {
            let query = sqlx::query_scalar("SELECT sealed FROM openid_sessions WHERE id = $1 AND expires > $2");
            Box::pin(query.bind(id).bind(Timestamp::now().as_millisecond()).fetch_optional(db))
        });
        query.await
    }

    /// Replaces what is kept of a session; nothing happens to one that has been deleted.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn update_session(&self, id: &str, sealed: &str) -> Result<(), StoreError> {
        let session = Session { id: id.to_owned(), sealed: sealed.to_owned(), expires: 0 };
        self.write(&session, |db, session| Box::pin(update(db, session))).await
    }

    /// Deletes a session, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_session(&self, id: &str) -> Result<(), StoreError> {
        self.write(id, |db, id| Box::pin(delete(db, id))).await
    }
}

async fn insert(db: &mut AnyConnection, session: &Session) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM openid_sessions WHERE expires <= $1")
        .bind(Timestamp::now().as_millisecond())
        .execute(&mut *db)
        .await?;
    sqlx::query("INSERT INTO openid_sessions (id, sealed, expires) VALUES ($1, $2, $3)")
        .bind(session.id.as_str())
        .bind(session.sealed.as_str())
        .bind(session.expires)
        .execute(db)
        .await?;
    Ok(())
}

async fn update(db: &mut AnyConnection, session: &Session) -> Result<(), StoreError> {
    sqlx::query("UPDATE openid_sessions SET sealed = $2 WHERE id = $1")
        .bind(session.id.as_str())
        .bind(session.sealed.as_str())
        .execute(db)
        .await?;
    Ok(())
}

async fn delete(db: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM openid_sessions WHERE id = $1").bind(id).execute(db).await?;
    Ok(())
}
