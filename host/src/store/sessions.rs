//! Sessions of people who have logged in: by OpenID Connect, each sealed by whoever keeps it here (`auth::openid`), and by
//! password, of which there is nothing to know but that they go on (`http::users`).

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::{Store, StoreError, users};
use crate::labs::model::User;

/// So many sessions by password a user may have. Whoever has more loses those that would have ended first: a program that
/// logs in again and again must not fill the disk.
pub const MAX_SESSIONS: i64 = 1000;

/// A session by password, as it begins.
struct Begun<'a> {
    user: &'a User,
    id: &'a str,
    expires: i64,
}

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

    /// Remembers a user, or their new name, and that a session of theirs has begun by password; it goes on until it expires or
    /// is ended. Forgets all that have expired, and of theirs those that are more than [`MAX_SESSIONS`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn begin_session(&self, user: &User, id: &str, expires: Timestamp) -> Result<(), StoreError> {
        let begun = Begun { user, id, expires: expires.as_millisecond() };
        self.write(&begun, |db, begun| Box::pin(begin(db, begun))).await
    }

    /// Whether a session by password goes on.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn session_goes_on(&self, id: &str) -> Result<bool, StoreError> {
        let query = self.read(id, |db, id| {
            let query = sqlx::query_scalar("SELECT count(*) FROM password_sessions WHERE id = $1 AND expires > $2");
            Box::pin(query.bind(id).bind(Timestamp::now().as_millisecond()).fetch_one(db))
        });
        let found: i64 = query.await?;
        Ok(found > 0)
    }

    /// Ends a session by password, if it goes on.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn end_session(&self, id: &str) -> Result<(), StoreError> {
        self.write(id, |db, id| Box::pin(end(db, id))).await
    }
}

async fn begin(db: &mut AnyConnection, begun: &Begun<'_>) -> Result<(), StoreError> {
    users::upsert(db, begun.user).await?;
    sqlx::query("DELETE FROM password_sessions WHERE expires <= $1")
        .bind(Timestamp::now().as_millisecond())
        .execute(&mut *db)
        .await?;
    // The number is there for SQLite, which skips only where there is a limit.
    sqlx::query(
        "DELETE FROM password_sessions WHERE id IN (SELECT id FROM password_sessions WHERE user_id = $1 \
         ORDER BY expires DESC, id LIMIT 1000000000 OFFSET $2)",
    )
    .bind(begun.user.id.as_str())
    .bind(MAX_SESSIONS - 1)
    .execute(&mut *db)
    .await?;
    sqlx::query("INSERT INTO password_sessions (id, user_id, expires) VALUES ($1, $2, $3)")
        .bind(begun.id)
        .bind(begun.user.id.as_str())
        .bind(begun.expires)
        .execute(db)
        .await?;
    Ok(())
}

async fn end(db: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM password_sessions WHERE id = $1").bind(id).execute(db).await?;
    Ok(())
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
