PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE change_counter (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), last BIGINT NOT NULL);
INSERT INTO change_counter VALUES(1,34);
CREATE TABLE clusters (
    name     TEXT PRIMARY KEY,
    engine   TEXT NOT NULL,
    store    TEXT NOT NULL,
    endpoint TEXT,
    region   TEXT
);
INSERT INTO clusters VALUES('local','local','file://@HOME@/store',NULL,NULL);
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
INSERT INTO runs VALUES('wr_01m81j7bpqs1vq50fw0j8gewj9','01m81j7bpqs1vq50fw0j8gewj9','first','script','local','somebody',1795348999.8954167365,NULL,0,'{"argv": ["/usr/bin/python3", "train.py"], "display": "train.py --lr ''[1,2]''", "workdir": "", "root": "/home/somebody/project", "umask": 18, "in_place": false, "capture": true, "linked": [], "exclude": [], "env_names": [], "inputs": [], "cpus": 1, "gpus": 0, "memory": null, "parallel": null, "timeout": null, "auto_resume": false, "strategy": "grid_search", "num_trials": null, "seed": null, "on_build": [], "on_experiment_start": [], "on_experiment_end": []}');
INSERT INTO runs VALUES('wr_01m81j7cdvgg9jzk25q83p8esm','01m81j7cdvgg9jzk25q83p8esm','failed','script','local','somebody',1795349000.6358406544,NULL,0,'{"argv": ["/usr/bin/python3", "fails.py"], "display": "fails.py", "workdir": "", "root": "/home/somebody/project", "umask": 18, "in_place": false, "capture": true, "linked": [], "exclude": [], "env_names": [], "inputs": [], "cpus": 1, "gpus": 0, "memory": null, "parallel": null, "timeout": null, "auto_resume": false, "strategy": "grid_search", "num_trials": null, "seed": null, "on_build": [], "on_experiment_start": [], "on_experiment_end": []}');
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
INSERT INTO experiments VALUES('01m81j7bpqq9qy33fq025x8dga','wr_01m81j7bpqs1vq50fw0j8gewj9',0,'completed',30,0,1795348999.8954167365,1795349000.137443304,1795349000.3059489727,1795349000.4632024764,4,266,0,0,1,0,'exit',NULL,NULL,NULL,'d9c97904ffea838bd0758ec30bedc6c303415afb68ead18929381d6c821c91b6','train.py --lr 1','{"lr": 1}','["--lr", "1"]','{"mode": "python", "why": "seccomp user notification", "notices": 28, "answered": 28, "records": 6, "lost": 0, "late": 0, "unreadable": 0, "io_uring": 0, "watchdog": 0, "guard": 0, "swept": 0}');
INSERT INTO experiments VALUES('01m81j7bpqxrh4rvgyp6qmrs3v','wr_01m81j7bpqs1vq50fw0j8gewj9',1,'completed',24,0,1795348999.8954167365,1795349000.1294796466,1795349000.3064696788,1795349000.3607771397,4,266,0,0,1,0,'exit',NULL,NULL,NULL,'e66818c5c71be48057bc56a47da5c3ec7b540c81ee33fc594e9b1ac1b38e3a87','train.py --lr 2','{"lr": 2}','["--lr", "2"]','{"mode": "python", "why": "seccomp user notification", "notices": 28, "answered": 28, "records": 6, "lost": 0, "late": 0, "unreadable": 0, "io_uring": 0, "watchdog": 0, "guard": 0, "swept": 0}');
INSERT INTO experiments VALUES('01m81j7cdvv43h17jw6s9bqs25','wr_01m81j7cdvgg9jzk25q83p8esm',0,'failed',34,0,1795349000.6358406544,1795349001.0896427631,1795349001.2466208935,1795349001.4399819374,0,0,0,0,1,3,'exit','exit code 3',NULL,NULL,'9d5cd2c2f6a0f09b81d7f348ac89c149878f5e81a9918e44104a3799fb3696b9','fails.py','{}','[]','{"mode": "python", "why": "seccomp user notification", "notices": 22, "answered": 22, "records": 0, "lost": 0, "late": 0, "unreadable": 0, "io_uring": 0, "watchdog": 0, "guard": 0, "swept": 0}');
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
INSERT INTO artifacts VALUES('art_01m81j7c4w7ghpwqk9qhdx8ycr','01m81j7bpqxrh4rvgyp6qmrs3v',X'656d707479',0,'stored','file',0,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',1795349000297952356,33188,NULL,'experiments/01m81j7bpqxrh4rvgyp6qmrs3v/artifacts/empty',NULL,1,19);
INSERT INTO artifacts VALUES('art_01m81j7c4w83e8gaga75v4kkth','01m81j7bpqxrh4rvgyp6qmrs3v',X'676f6e65',0,'removed','file',NULL,NULL,NULL,NULL,'removed by the run',NULL,NULL,1,7);
INSERT INTO artifacts VALUES('art_01m81j7c4w0pxsx104p1b1fe79','01m81j7bpqxrh4rvgyp6qmrs3v',X'6f6464ff0a',0,'stored','file',3,'990cb8ebd0afb7150da453a213036a92f2c05e091df0d803e62d257ea7796c27',1795349000297952356,33188,NULL,'experiments/01m81j7bpqxrh4rvgyp6qmrs3v/artifacts/_enc/50e0fd5184a693503b060d644f6d50391c1a3c02a233797718bfd432a9592c71',NULL,1,20);
INSERT INTO artifacts VALUES('art_01m81j7c4wd4rh53hp8dv696y4','01m81j7bpqxrh4rvgyp6qmrs3v',X'6f75742f646174612e62696e',0,'stored','file',256,'40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880',1795349000297771625,33188,NULL,'experiments/01m81j7bpqxrh4rvgyp6qmrs3v/artifacts/out/data.bin',NULL,1,21);
INSERT INTO artifacts VALUES('art_01m81j7c3940vadg16rr51n6da','01m81j7bpqxrh4rvgyp6qmrs3v',X'726573756c742e747874',0,'stored','file',7,'4fb52515136790cac62833a9e7c64ef503d739c1f70eb93160f6431963e89100',1795349000296725545,33188,NULL,'experiments/01m81j7bpqxrh4rvgyp6qmrs3v/artifacts/result.txt',NULL,1,22);
INSERT INTO artifacts VALUES('art_01m81j7c3b00vggd0t4mqhh600','01m81j7bpqq9qy33fq025x8dga',X'656d707479',0,'stored','file',0,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',1795349000298757329,33188,NULL,'experiments/01m81j7bpqq9qy33fq025x8dga/artifacts/empty',NULL,1,25);
INSERT INTO artifacts VALUES('art_01m81j7c3bcn7chh7wzajd9yj7','01m81j7bpqq9qy33fq025x8dga',X'676f6e65',0,'removed','file',NULL,NULL,NULL,NULL,'removed by the run',NULL,NULL,1,14);
INSERT INTO artifacts VALUES('art_01m81j7c3aw6ekjvtf14pk5m2f','01m81j7bpqq9qy33fq025x8dga',X'6f6464ff0a',0,'stored','file',3,'990cb8ebd0afb7150da453a213036a92f2c05e091df0d803e62d257ea7796c27',1795349000298757329,33188,NULL,'experiments/01m81j7bpqq9qy33fq025x8dga/artifacts/_enc/50e0fd5184a693503b060d644f6d50391c1a3c02a233797718bfd432a9592c71',NULL,1,26);
INSERT INTO artifacts VALUES('art_01m81j7c3aj4pnjvprah91aftd','01m81j7bpqq9qy33fq025x8dga',X'6f75742f646174612e62696e',0,'stored','file',256,'40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880',1795349000298609417,33188,NULL,'experiments/01m81j7bpqq9qy33fq025x8dga/artifacts/out/data.bin',NULL,1,27);
INSERT INTO artifacts VALUES('art_01m81j7c3ae3xy4w3k5zrzm20h','01m81j7bpqq9qy33fq025x8dga',X'726573756c742e747874',0,'stored','file',7,'df40b60f40ab4ae48aeb51efc356d3d0962c38b31c55669a18077679894f5d41',1795349000298365371,33188,NULL,'experiments/01m81j7bpqq9qy33fq025x8dga/artifacts/result.txt',NULL,1,28);
CREATE TABLE tombstones (id TEXT PRIMARY KEY, kind TEXT NOT NULL, change BIGINT NOT NULL);
CREATE UNIQUE INDEX runs_by_name ON runs (name) WHERE NOT deleting;
CREATE INDEX runs_by_age ON runs (ulid, run_id) WHERE NOT deleting;
CREATE INDEX runs_by_owner ON runs (created_by, ulid, run_id) WHERE NOT deleting;
CREATE UNIQUE INDEX experiments_by_number ON experiments (run_id, number);
CREATE INDEX experiments_by_change ON experiments (change);
CREATE INDEX experiments_unfinished ON experiments (created_at, run_id, number)
    WHERE state IN ('queued', 'running', 'syncing') AND NOT deleting;
CREATE INDEX experiments_deleting ON experiments (experiment_id) WHERE deleting;
CREATE INDEX artifacts_by_path ON artifacts (experiment_id, path, artifact_id);
CREATE INDEX artifacts_by_state ON artifacts (experiment_id, state, path, artifact_id);
CREATE INDEX artifacts_by_type ON artifacts (experiment_id, type, path, artifact_id) WHERE type <> 'file';
CREATE INDEX artifacts_by_change ON artifacts (change);
CREATE INDEX tombstones_by_change ON tombstones (change);
COMMIT;
PRAGMA user_version = 1;
