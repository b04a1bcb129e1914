CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;

CREATE TABLE enrolments (
    secret_hash TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    labels TEXT NOT NULL,
    ordered_by TEXT NOT NULL,
    ordered INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    replaces INTEGER NOT NULL,
    used INTEGER,
    used_key TEXT
) STRICT;
CREATE INDEX enrolments_device ON enrolments (device);

CREATE TABLE devices (
    device TEXT PRIMARY KEY,
    enrolled INTEGER NOT NULL,
    device_class TEXT NOT NULL,
    own_labels TEXT NOT NULL,
    operator_labels TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    key_sha256 TEXT NOT NULL,
    certificate_expires INTEGER NOT NULL,
    revoked INTEGER,
    online INTEGER NOT NULL DEFAULT 0,
    boot TEXT,
    last_seen INTEGER,
    twin BLOB,
    twin_generation INTEGER NOT NULL DEFAULT 0,
    desired BLOB,
    desired_expires INTEGER,
    generation INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE desired_models (
    device TEXT NOT NULL REFERENCES devices (device) ON DELETE CASCADE,
    model_id TEXT NOT NULL,
    team TEXT NOT NULL,
    version TEXT NOT NULL,
    demand TEXT NOT NULL,
    PRIMARY KEY (device, model_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE running_models (
    device TEXT NOT NULL REFERENCES devices (device) ON DELETE CASCADE,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (device, team, model_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX running_models_version ON running_models (team, model_id, version);

CREATE TABLE retained (
    topic TEXT PRIMARY KEY,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE versions (
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    manifest BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    published INTEGER NOT NULL,
    published_by TEXT NOT NULL,
    signed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (team, model_id, version)
) STRICT;

CREATE TABLE version_blobs (
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (team, model_id, version, sha256),
    FOREIGN KEY (team, model_id, version) REFERENCES versions (team, model_id, version) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX version_blobs_digest ON version_blobs (sha256);

CREATE TABLE assignments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    model TEXT NOT NULL,
    selector TEXT NOT NULL,
    reason TEXT NOT NULL,
    devices TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    device TEXT,
    team TEXT,
    model_id TEXT,
    version TEXT,
    code TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TABLE reports (
    device TEXT NOT NULL,
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    received INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (device, stream, sequence)
) STRICT, WITHOUT ROWID;
