-- Logins by OpenID Connect that can be refreshed. What the provider gave for that is sealed with a key that isn't in here.
CREATE TABLE openid_sessions (
    id      TEXT   NOT NULL PRIMARY KEY,
    sealed  TEXT   NOT NULL,
    expires BIGINT NOT NULL
);
