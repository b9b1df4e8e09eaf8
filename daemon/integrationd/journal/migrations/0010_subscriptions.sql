-- Who is told of which events. What a person wrote stands in `subscription`; secrets and the values
-- of headers are in the vault. `sum` is a CRC-32 over the row.

CREATE TABLE subscription (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    tenant TEXT,
    settings TEXT NOT NULL,
    active INTEGER NOT NULL CHECK (active IN (0, 1)),
    stopped TEXT,
    stopped_at_ms INTEGER,
    created_at_ms INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    CHECK (json_valid(settings)),
    CHECK ((stopped IS NULL) = (stopped_at_ms IS NULL)),
    CHECK (active = 0 OR stopped IS NULL)
) STRICT;
CREATE UNIQUE INDEX subscription_id ON subscription (id);

-- How far each has been told: a short row, since it moves with every event. The app's own door has
-- one too. `replay_*` is the part of the log that a person wants told once more.
CREATE TABLE subscription_cursor (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    replay_after INTEGER,
    replay_upto INTEGER,
    failing_since_ms INTEGER,
    failed_at_ms INTEGER,
    sum INTEGER NOT NULL,
    CHECK ((replay_after IS NULL) = (replay_upto IS NULL)),
    CHECK ((failing_since_ms IS NULL) = (failed_at_ms IS NULL)),
    CHECK (seq >= 0)
) STRICT, WITHOUT ROWID;

-- What holds back the later calls of its key.
CREATE INDEX call_ordering ON call (lane, ordering_key, seq)
WHERE ordering_key IS NOT NULL AND state IN ('pending', 'processing', 'unknown');
