-- The event log as apps read it and write to it.

-- All events of one call are read together, from the first on.
CREATE INDEX event_call ON event (call_id, seq) WHERE call_id IS NOT NULL;

-- Outlives the event that it names.
CREATE TABLE event_key (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    event_seq INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_key_age ON event_key (created_at_ms);
