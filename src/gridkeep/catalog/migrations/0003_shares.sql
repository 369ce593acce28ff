-- Links that let whoever has them see one file, folder, experiment or run, until they end.
-- Statements end in a semicolon at a line's end; there is none elsewhere.

CREATE TABLE shares (
    share_id       TEXT PRIMARY KEY,
    digest         TEXT NOT NULL, -- SHA-256 of the token, which is nowhere
    run_id         TEXT NOT NULL,
    experiment_id  TEXT, -- none: all of the run
    path           BYTEA, -- none: all of the experiment
    folder         BOOLEAN NOT NULL, -- the path is that of a folder
    created_by     TEXT NOT NULL,
    created_at     DOUBLE PRECISION NOT NULL,
    expires_at     DOUBLE PRECISION NOT NULL,
    revoked_at     DOUBLE PRECISION,
    opens          BIGINT NOT NULL,
    last_opened_at DOUBLE PRECISION
);

CREATE UNIQUE INDEX shares_by_digest ON shares (digest);

CREATE INDEX shares_by_run ON shares (run_id);
