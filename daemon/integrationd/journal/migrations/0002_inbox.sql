-- What providers sent to us. A row is kept before the provider is answered; what it means is
-- worked out afterwards. `sum` is a CRC-32 over what came in and what was answered.

CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    provider TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    query TEXT NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    proof TEXT NOT NULL CHECK (proof IN ('signature', 'secret', 'token', 'address')),
    address_call_id TEXT,
    dedupe BLOB NOT NULL,
    sum INTEGER NOT NULL,
    reply_status INTEGER NOT NULL,
    reply_type TEXT NOT NULL,
    reply_body BLOB NOT NULL,
    types TEXT NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN ('new', 'held', 'unmatched', 'applied', 'ignored', 'unreadable', 'failed')
    ),
    note TEXT,
    call_id TEXT,
    worked_at_ms INTEGER,
    repeats INTEGER NOT NULL DEFAULT 0,
    repeated_at_ms INTEGER
) STRICT;

-- Columns in the order of the Kept record.
CREATE VIEW inbox_record AS
SELECT
    seq, id, tenant, connection, provider, received_at_ms, source, method, path, query, headers,
    body, proof, address_call_id, dedupe, reply_status, reply_type, reply_body, types, state, note,
    call_id, worked_at_ms, repeats, repeated_at_ms
FROM inbox;

CREATE UNIQUE INDEX inbox_id ON inbox (id);
CREATE UNIQUE INDEX inbox_dedupe ON inbox (connection, dedupe);
CREATE INDEX inbox_open ON inbox (seq) WHERE state IN ('new', 'held', 'unmatched');
CREATE INDEX inbox_age ON inbox (received_at_ms);
CREATE INDEX inbox_call ON inbox (call_id) WHERE call_id IS NOT NULL;

-- How notices find their calls.
CREATE INDEX call_provider_reference ON call (provider_reference, connection)
WHERE provider_reference IS NOT NULL;
CREATE INDEX part_provider_reference ON part (provider_reference)
WHERE provider_reference IS NOT NULL;
