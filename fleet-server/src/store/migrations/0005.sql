CREATE TABLE rollouts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    selector TEXT NOT NULL,
    policy TEXT NOT NULL,
    state TEXT NOT NULL,
    phase TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    request_key TEXT,
    request_sha256 TEXT,
    closed INTEGER
) STRICT;
-- A model has one rollout at a time. One that is aborted or undone counts until everything is demanded back.
CREATE UNIQUE INDEX rollouts_open ON rollouts (team, model_id) WHERE closed IS NULL;
CREATE UNIQUE INDEX rollouts_request ON rollouts (created_by, request_key) WHERE request_key IS NOT NULL;

CREATE TABLE rollout_history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    entry TEXT NOT NULL,
    verdict TEXT
) STRICT;
CREATE INDEX rollout_history_rollout ON rollout_history (rollout, number);
CREATE TRIGGER rollout_history_is_never_changed BEFORE UPDATE ON rollout_history
    BEGIN SELECT RAISE(ABORT, 'the history of rollouts is append-only'); END;
CREATE TRIGGER rollout_history_is_never_removed BEFORE DELETE ON rollout_history
    BEGIN SELECT RAISE(ABORT, 'the history of rollouts is append-only'); END;

-- What a rollout did to a device. `previous` is the whole demand that a take-back restores; `departed` says who else has
-- demanded the model of the device since: 0 nobody, the number of another rollout, -1 an operator.
CREATE TABLE rollout_devices (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    device TEXT NOT NULL,
    stage INTEGER NOT NULL,
    round INTEGER NOT NULL,
    at INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    previous TEXT,
    fetched INTEGER,
    outcome TEXT,
    code TEXT,
    settled INTEGER,
    taken_back TEXT,
    departed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (rollout, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_devices_device ON rollout_devices (device);
CREATE INDEX rollout_devices_unfetched ON rollout_devices (device) WHERE fetched IS NULL AND taken_back IS NULL;

-- When the server first heard that a model stands in its state. `seen` has a bit for each state heard since the demand.
CREATE TABLE model_states (
    device TEXT NOT NULL REFERENCES devices (device) ON DELETE CASCADE,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    desired TEXT,
    seen INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (device, team, model_id)
) STRICT, WITHOUT ROWID;
