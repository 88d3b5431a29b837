-- Files that lie beside the definition of a topology when it is deployed. They go with it.

CREATE TABLE bind_files (
    id          TEXT NOT NULL PRIMARY KEY,
    topology_id TEXT NOT NULL REFERENCES topologies (id) ON DELETE CASCADE,
    path        TEXT NOT NULL,
    content     TEXT NOT NULL,
    UNIQUE (topology_id, path)
);
