-- Logins by password that can be refreshed: a refresh token is worth something as long as its row is here.
CREATE TABLE password_sessions (
    id      TEXT   NOT NULL PRIMARY KEY,
    user_id TEXT   NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX password_sessions_by_user ON password_sessions (user_id, expires);
CREATE INDEX password_sessions_by_time ON password_sessions (expires);
