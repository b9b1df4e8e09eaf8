-- API keys. Of a key itself only its SHA-256 is stored; `id` is the part of it that may be shown.
-- `sum` is a CRC-32 over everything but when the key was last used.

CREATE TABLE api_key (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant TEXT,
    role TEXT NOT NULL CHECK (role IN ('admin', 'staff', 'read')),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    replaced_by TEXT,
    grace_until_ms INTEGER,
    sum INTEGER NOT NULL,
    last_used_at_ms INTEGER,
    CHECK ((replaced_by IS NULL) = (grace_until_ms IS NULL))
) STRICT;

CREATE UNIQUE INDEX api_key_id ON api_key (id);
-- Whoever did something is known by name, so two keys of one name never are in force by themselves.
CREATE UNIQUE INDEX api_key_name ON api_key (name)
WHERE revoked_at_ms IS NULL AND replaced_by IS NULL;
CREATE INDEX api_key_kept ON api_key (seq) WHERE revoked_at_ms IS NULL;
