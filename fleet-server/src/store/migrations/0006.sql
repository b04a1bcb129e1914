CREATE TABLE readers (
    name TEXT PRIMARY KEY,
    key_sha256 TEXT NOT NULL,
    certificate_expires INTEGER NOT NULL,
    created INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked INTEGER,
    revoked_by TEXT,
    revoke_reason TEXT
) STRICT, WITHOUT ROWID;
