-- The record of runs, experiments and artifacts. One text for SQLite and PostgreSQL: SQLite takes any type's name.
-- Statements end in a semicolon at a line's end; there is none elsewhere.

-- One row: the last change number given out. Every write transaction holds it, so numbers become visible in order.
CREATE TABLE change_counter (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), last BIGINT NOT NULL);

INSERT INTO change_counter (only_row, last) VALUES (1, 0);

CREATE TABLE clusters (
    name     TEXT PRIMARY KEY,
    engine   TEXT NOT NULL,
    store    TEXT NOT NULL,
    endpoint TEXT,
    region   TEXT
);

CREATE TABLE runs (
    run_id     TEXT PRIMARY KEY,
    ulid       TEXT NOT NULL, -- run_id without its prefix, which would order runs by kind before time
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    cluster    TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    parent     TEXT,
    deleting   BOOLEAN NOT NULL DEFAULT FALSE,
    spec       TEXT NOT NULL -- JSON
);

-- A name is free again as soon as its run is being deleted.
CREATE UNIQUE INDEX runs_by_name ON runs (name) WHERE NOT deleting;

CREATE INDEX runs_by_age ON runs (ulid, run_id) WHERE NOT deleting;

CREATE INDEX runs_by_owner ON runs (created_by, ulid, run_id) WHERE NOT deleting;

CREATE TABLE experiments (
    experiment_id   TEXT PRIMARY KEY,
    run_id          TEXT NOT NULL,
    number          BIGINT NOT NULL,
    state           TEXT NOT NULL,
    change          BIGINT NOT NULL,
    deleting        BOOLEAN NOT NULL DEFAULT FALSE,
    created_at      DOUBLE PRECISION NOT NULL,
    started_at      DOUBLE PRECISION,
    ended_at        DOUBLE PRECISION,
    finished_at     DOUBLE PRECISION,
    artifacts       BIGINT NOT NULL DEFAULT 0, -- these four are kept by whoever writes the experiment's artifacts
    bytes           BIGINT NOT NULL DEFAULT 0,
    missing         BIGINT NOT NULL DEFAULT 0,
    growing         BIGINT NOT NULL DEFAULT 0,
    attempt         BIGINT NOT NULL,
    exit_code       BIGINT,
    outcome         TEXT,
    reason          TEXT,
    waiting_for     TEXT,
    stop_requested  TEXT,
    manifest_sha256 TEXT,
    command         TEXT NOT NULL,
    params          TEXT NOT NULL, -- JSON, as the next two
    args            TEXT NOT NULL,
    capture         TEXT
);

CREATE UNIQUE INDEX experiments_by_number ON experiments (run_id, number);

CREATE INDEX experiments_by_change ON experiments (change);

-- Small whatever the history: every command asks whether there is any.
CREATE INDEX experiments_unfinished ON experiments (created_at, run_id, number)
    WHERE state IN ('queued', 'running', 'syncing') AND NOT deleting;

CREATE INDEX experiments_deleting ON experiments (experiment_id) WHERE deleting;

CREATE TABLE artifacts (
    artifact_id   TEXT PRIMARY KEY,
    experiment_id TEXT NOT NULL,
    path          BYTEA NOT NULL, -- empty where it is unknown, so that it sorts as such
    path_unknown  BOOLEAN NOT NULL,
    state         TEXT NOT NULL,
    type          TEXT NOT NULL,
    size          BIGINT,
    sha256        TEXT,
    mtime_ns      BIGINT,
    mode          BIGINT,
    reason        TEXT,
    key           TEXT,
    etag          TEXT,
    count         BIGINT NOT NULL,
    change        BIGINT NOT NULL
);

CREATE INDEX artifacts_by_path ON artifacts (experiment_id, path, artifact_id);

CREATE INDEX artifacts_by_state ON artifacts (experiment_id, state, path, artifact_id);

-- Ordinary files are nearly all there is where there are many; for them the index by path serves.
CREATE INDEX artifacts_by_type ON artifacts (experiment_id, type, path, artifact_id) WHERE type <> 'file';

CREATE INDEX artifacts_by_change ON artifacts (change);

-- What was deleted, so that readers of changes hear of it.
CREATE TABLE tombstones (id TEXT PRIMARY KEY, kind TEXT NOT NULL, change BIGINT NOT NULL);

CREATE INDEX tombstones_by_change ON tombstones (change);
