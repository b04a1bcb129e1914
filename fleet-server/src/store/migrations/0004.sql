-- How far the detector has read `telemetry`; one row. Moves in the transaction that keeps what it made of the rows.
CREATE TABLE detector (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    cursor INTEGER NOT NULL
) STRICT;
INSERT INTO detector (one, cursor) VALUES (1, 0);

-- What is remembered of a version under watch; `state` is postcard of `format`. Without a profile there is none.
CREATE TABLE detector_versions (
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    windows INTEGER NOT NULL,
    devices INTEGER NOT NULL,
    figures TEXT NOT NULL,
    format INTEGER NOT NULL,
    state BLOB,
    updated INTEGER NOT NULL,
    PRIMARY KEY (team, model_id, version)
) STRICT, WITHOUT ROWID;

-- The same of one device on that version.
CREATE TABLE detector_devices (
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    device TEXT NOT NULL,
    format INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (team, model_id, version, device)
) STRICT, WITHOUT ROWID;

-- Which version a device's newest windows are of, and how many in a row (2 is enough to know).
CREATE TABLE detector_runs (
    device TEXT NOT NULL,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    in_a_row INTEGER NOT NULL,
    PRIMARY KEY (device, team, model_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE incidents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    state TEXT NOT NULL,
    opened INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    resolved INTEGER,
    acknowledged_by TEXT,
    acknowledged INTEGER,
    muted_until INTEGER,
    muted_by TEXT,
    mute_reason TEXT,
    -- When its retained topic is cleared; none while it is open, and once that is done.
    clear_after INTEGER,
    body TEXT NOT NULL
) STRICT;
-- Opened once.
CREATE UNIQUE INDEX incidents_open ON incidents (team, model_id, version, kind) WHERE state = 'open';
CREATE INDEX incidents_clear ON incidents (clear_after) WHERE clear_after IS NOT NULL;

-- Runs of hooks: one row for each hook and occasion of an incident, kept for ever.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER NOT NULL REFERENCES incidents (number),
    hook TEXT NOT NULL,
    occasion TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    UNIQUE (incident, hook, occasion)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (hook, due) WHERE state = 'waiting';
