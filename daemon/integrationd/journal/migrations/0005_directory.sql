-- Tenants and connections that were made over the API. `settings` is what their makers wrote, as
-- JSON, with every secret replaced by a reference to the vault. `sum` is a CRC-32 over the row.

CREATE TABLE tenant (
    id TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    CHECK (json_valid(settings))
) STRICT;

CREATE TABLE connection (
    id TEXT PRIMARY KEY,
    tenant TEXT,
    settings TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    CHECK (json_valid(settings))
) STRICT;

-- What was done to a connection by hand, be it of the file or made over the API.
CREATE TABLE connection_state (
    id TEXT PRIMARY KEY,
    paused_at_ms INTEGER,
    paused_by TEXT,
    draining_at_ms INTEGER,
    draining_by TEXT,
    tested_at_ms INTEGER,
    test_ok INTEGER CHECK (test_ok IN (0, 1)),
    test_message TEXT,
    test_hint TEXT,
    test_duration_ms INTEGER,
    sum INTEGER NOT NULL,
    CHECK ((paused_at_ms IS NULL) = (paused_by IS NULL)),
    CHECK ((draining_at_ms IS NULL) = (draining_by IS NULL)),
    CHECK ((tested_at_ms IS NULL) = (test_ok IS NULL)),
    CHECK ((tested_at_ms IS NULL) = (test_message IS NULL))
) STRICT;
