-- What a token is for, how long, and how it ended. Rows stay for ever: a name in the records means one holder.
ALTER TABLE tokens ADD COLUMN teams TEXT;
ALTER TABLE tokens ADD COLUMN devices TEXT;
ALTER TABLE tokens ADD COLUMN expires INTEGER;
ALTER TABLE tokens ADD COLUMN created_by TEXT;
ALTER TABLE tokens ADD COLUMN last_used INTEGER;
ALTER TABLE tokens ADD COLUMN revoked_by TEXT;
ALTER TABLE tokens ADD COLUMN revoke_reason TEXT;
CREATE TRIGGER tokens_are_never_removed BEFORE DELETE ON tokens
    BEGIN SELECT RAISE(ABORT, 'tokens are kept: their names are never given twice'); END;

-- Who read models and samples, and which requests were refused. `kind` says what `actor` names: an operator's token, a device,
-- or nobody who could be named ('-', with the address).
CREATE TABLE accesses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('operator', 'device', 'stranger')),
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    team TEXT,
    model_id TEXT,
    version TEXT,
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('granted', 'refused')),
    code TEXT NOT NULL,
    times INTEGER NOT NULL
) STRICT;
-- A device fetches a blob in many parts, and for one reason once.
CREATE UNIQUE INDEX accesses_of_devices ON accesses (actor, action, resource, reason)
    WHERE kind = 'device' AND outcome = 'granted';
CREATE INDEX accesses_by_actor ON accesses (actor, id);
CREATE INDEX accesses_by_model ON accesses (team, model_id, id) WHERE team IS NOT NULL;
CREATE TRIGGER accesses_are_never_changed BEFORE UPDATE ON accesses
    BEGIN SELECT RAISE(ABORT, 'accesses are append-only'); END;
CREATE TRIGGER accesses_are_never_removed BEFORE DELETE ON accesses
    BEGIN SELECT RAISE(ABORT, 'accesses are append-only'); END;
