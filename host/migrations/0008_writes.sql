-- What was written of late, by marks that whoever writes gives: by them one can tell whether a change was made whose
-- connection broke before the answer. Used with PostgreSQL only.
CREATE TABLE writes (
    mark TEXT   NOT NULL PRIMARY KEY,
    made BIGINT NOT NULL
);
CREATE INDEX writes_by_time ON writes (made);
