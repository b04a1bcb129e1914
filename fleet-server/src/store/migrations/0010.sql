-- Why a device is out, and since when and by which signs it has a double. `issuer` is the SHA-256 of the authority that
-- made its certificate; null where that was the first there was.
ALTER TABLE devices ADD COLUMN revoked_by TEXT;
ALTER TABLE devices ADD COLUMN revoke_reason TEXT;
ALTER TABLE devices ADD COLUMN cloned INTEGER;
ALTER TABLE devices ADD COLUMN clone_evidence TEXT;
ALTER TABLE devices ADD COLUMN issuer TEXT;

-- Tokens that make many devices, one for each serial number in their list.
CREATE TABLE claims (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    secret_hash TEXT NOT NULL UNIQUE,
    ordered_by TEXT NOT NULL,
    ordered INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE TABLE claim_serials (
    claim INTEGER NOT NULL REFERENCES claims (id) ON DELETE CASCADE,
    serial TEXT NOT NULL,
    device TEXT NOT NULL,
    labels TEXT NOT NULL,
    used INTEGER,
    used_key TEXT,
    PRIMARY KEY (claim, serial),
    UNIQUE (claim, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_serials_device ON claim_serials (device);
CREATE INDEX claim_serials_serial ON claim_serials (serial);
