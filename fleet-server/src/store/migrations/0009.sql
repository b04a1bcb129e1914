-- A role's next list while its signatures are gathered. What is signed is forgotten once the proposal is over: what was
-- published stands in the repository, and the digest stays.
CREATE TABLE proposals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team TEXT NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    signed BLOB,
    change TEXT NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL,
    created INTEGER NOT NULL,
    state TEXT NOT NULL,
    ended INTEGER,
    ended_why TEXT
) STRICT;
CREATE INDEX proposals_team ON proposals (team, state);

-- Who signed it with which key.
CREATE TABLE proposal_signatures (
    proposal INTEGER NOT NULL REFERENCES proposals (id) ON DELETE CASCADE,
    key_id TEXT NOT NULL,
    sig TEXT NOT NULL,
    sent_by TEXT NOT NULL,
    sent INTEGER NOT NULL,
    override_reason TEXT,
    PRIMARY KEY (proposal, key_id)
) STRICT, WITHOUT ROWID;

-- Whether the team's list of candidates names the version; `signed` says so of its releases.
ALTER TABLE versions ADD COLUMN candidate INTEGER NOT NULL DEFAULT 0;

-- What a team's signed list says of a model besides: floor, recalled versions, what devices do then.
CREATE TABLE standings (
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    standing TEXT NOT NULL,
    PRIMARY KEY (team, model_id)
) STRICT, WITHOUT ROWID;
