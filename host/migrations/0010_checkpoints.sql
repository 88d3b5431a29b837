-- Checkpoints of labs. What their nodes had is in the data folder, in an archive of each checkpoint's id; the runtime is the one
-- that it was saved on, or NULL where nothing of nodes is in it. They go with the lab.

CREATE TABLE checkpoints (
    id         TEXT   NOT NULL PRIMARY KEY,
    lab_id     TEXT   NOT NULL REFERENCES labs (id) ON DELETE CASCADE,
    name       TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    creator_id TEXT   NOT NULL REFERENCES users (id),
    definition TEXT   NOT NULL,
    runtime    TEXT,
    files      BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    UNIQUE (lab_id, name)
);
