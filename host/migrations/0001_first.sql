-- What survives a restart. Written so that SQLite and PostgreSQL both take it: identifiers and texts are TEXT, flags
-- and states INTEGER, times BIGINT in milliseconds since 1970.

CREATE TABLE users (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE collections (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    public_write  INTEGER NOT NULL,
    public_deploy INTEGER NOT NULL,
    creator_id    TEXT    NOT NULL REFERENCES users (id)
);

CREATE TABLE topologies (
    id                 TEXT    NOT NULL PRIMARY KEY,
    collection_id      TEXT    NOT NULL REFERENCES collections (id),
    name               TEXT    NOT NULL,
    definition         TEXT    NOT NULL,
    sync_url           TEXT,
    last_deploy_failed INTEGER NOT NULL,
    creator_id         TEXT    NOT NULL REFERENCES users (id),
    UNIQUE (collection_id, name)
);

-- The collection of a lab is that of its topology, and so is not kept a second time.
-- The five columns of an instance are set together or not at all.
CREATE TABLE labs (
    id                  TEXT    NOT NULL PRIMARY KEY,
    name                TEXT    NOT NULL,
    start_time          BIGINT  NOT NULL,
    end_time            BIGINT,
    topology_id         TEXT    NOT NULL REFERENCES topologies (id),
    creator_id          TEXT    NOT NULL REFERENCES users (id),
    start_pending       INTEGER NOT NULL,
    instance_name       TEXT UNIQUE,
    instance_definition TEXT,
    instance_deployed   BIGINT,
    instance_state      INTEGER,
    instance_since      BIGINT,
    CHECK ((instance_name IS NULL) = (instance_definition IS NULL)
       AND (instance_name IS NULL) = (instance_deployed IS NULL)
       AND (instance_name IS NULL) = (instance_state IS NULL)
       AND (instance_name IS NULL) = (instance_since IS NULL))
);

CREATE INDEX topologies_by_collection ON topologies (collection_id);
CREATE INDEX labs_by_topology ON labs (topology_id);
