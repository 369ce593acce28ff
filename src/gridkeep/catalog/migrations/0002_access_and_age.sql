-- Who may come in to a server, and artifacts in the order that they were made in.
-- Statements end in a semicolon at a line's end; there is none elsewhere.

-- Whatever opens a door is here as a hash only: who reads the catalog can come in no more than before.
CREATE TABLE keys (
    key_id       TEXT PRIMARY KEY, -- the part of a key that is no secret
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    owner        TEXT NOT NULL, -- as whom it acts
    digest       TEXT NOT NULL, -- SHA-256 of the whole key
    created_at   DOUBLE PRECISION NOT NULL,
    last_used_at DOUBLE PRECISION,
    revoked_at   DOUBLE PRECISION
);

CREATE TABLE sessions (
    digest     TEXT PRIMARY KEY, -- SHA-256 of what the cookie holds
    owner      TEXT NOT NULL,
    role       TEXT NOT NULL,
    key_id     TEXT, -- the key that it was opened with, and ends with
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);

CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE login_codes (
    digest     TEXT PRIMARY KEY, -- SHA-256 of the code, which opens one session
    owner      TEXT NOT NULL,
    role       TEXT NOT NULL,
    key_id     TEXT,
    expires_at DOUBLE PRECISION NOT NULL
);

CREATE TABLE audit (
    number  BIGINT PRIMARY KEY,
    at      DOUBLE PRECISION NOT NULL,
    who     TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL -- JSON
);

-- The order of artifact_ids is that of time. First those with bytes in the store, which is what is asked for most.
CREATE INDEX artifacts_by_age ON artifacts (experiment_id, (sha256 IS NULL), artifact_id);

CREATE INDEX artifacts_by_type_and_age ON artifacts (experiment_id, type, artifact_id) WHERE type <> 'file';
