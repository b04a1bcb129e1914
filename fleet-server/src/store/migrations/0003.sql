-- What is committed of each stream. `reports` is written no more and goes in a later step. Its rows are not taken over:
-- no watermark was ever sent for them, so devices still have them and send them again.
CREATE TABLE streams (
    device TEXT NOT NULL,
    stream BLOB NOT NULL,
    watermark INTEGER NOT NULL,
    ahead TEXT NOT NULL,
    touched INTEGER NOT NULL,
    PRIMARY KEY (device, stream)
) STRICT, WITHOUT ROWID;

-- Windows and corrections in the order of their commits; old ones go. `number` is that of the window, or of the window
-- that a correction is of; a correction has no time of its own, so both are when it came.
CREATE TABLE telemetry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    received INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    item BLOB NOT NULL
) STRICT;
CREATE INDEX telemetry_device ON telemetry (device, team, model_id);

-- Exact sums, for ever.
CREATE TABLE figures (
    device TEXT NOT NULL,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    rows INTEGER NOT NULL,
    inferences INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    violations INTEGER NOT NULL,
    windows INTEGER NOT NULL,
    labels INTEGER NOT NULL,
    label_errors INTEGER NOT NULL,
    confidence TEXT NOT NULL,
    newest_end INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (device, team, model_id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX figures_version ON figures (team, model_id, version);

-- What could not be used; the oldest go. `bytes` stands last so that lists need not read it.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    code TEXT NOT NULL,
    received INTEGER NOT NULL,
    times INTEGER NOT NULL,
    stream BLOB,
    sequence INTEGER,
    message TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    length INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (device, sha256)
) STRICT;
