-- The journal: calls, their parts and attempts, the ledger and the chained event log.
-- Times are UTC epoch milliseconds. Every `sum` is a CRC-32 over the record that it ends.

CREATE TABLE call (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    operation TEXT NOT NULL,
    lane TEXT NOT NULL,
    connection TEXT,
    requested_connection TEXT,
    priority INTEGER NOT NULL,
    ordering_key TEXT,
    parts INTEGER NOT NULL,
    state TEXT NOT NULL,
    revision INTEGER NOT NULL,
    reason TEXT,
    detail TEXT,
    tries INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    repeats INTEGER NOT NULL,
    queries INTEGER NOT NULL,
    doubt INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    due_at_ms INTEGER,
    expires_at_ms INTEGER,
    give_up_at_ms INTEGER NOT NULL,
    ask_at_ms INTEGER,
    ask_until_ms INTEGER,
    first_sent_at_ms INTEGER,
    finished_at_ms INTEGER,
    provider_reference TEXT,
    own_reference TEXT,
    reference_scope TEXT,
    reference_type TEXT,
    reference_id TEXT,
    on_uncertain TEXT,
    delivery TEXT,
    contradiction TEXT,
    lease_id INTEGER,
    lease_until_ms INTEGER,
    last_lease_id INTEGER,
    sum INTEGER NOT NULL,
    damaged_at_ms INTEGER,
    CHECK (priority IN (0, 1, 2)),
    CHECK (state IN (
        'pending', 'processing', 'waiting', 'unknown',
        'completed', 'failed', 'expired', 'cancelled'
    )),
    CHECK (length(id) = 36 AND length(tenant) > 0 AND length(lane) > 0),
    CHECK ((state = 'pending') = (due_at_ms IS NOT NULL)),
    CHECK (state <> 'processing' OR (lease_id IS NOT NULL AND connection IS NOT NULL)),
    CHECK ((lease_id IS NULL) = (lease_until_ms IS NULL)),
    CHECK (lease_id IS NULL OR state IN ('processing', 'waiting', 'unknown')),
    CHECK (ask_at_ms IS NULL OR state IN ('waiting', 'unknown')),
    CHECK (state <> 'waiting' OR ask_at_ms IS NOT NULL),
    CHECK ((state IN ('completed', 'failed', 'expired', 'cancelled')) = (finished_at_ms IS NOT NULL)),
    CHECK (state NOT IN ('failed', 'expired', 'unknown') OR reason IS NOT NULL),
    CHECK (attempts <= tries AND repeats >= 0 AND queries >= 0 AND doubt IN (0, 1)),
    CHECK (revision > 0),
    CHECK (on_uncertain IS NULL OR on_uncertain IN ('hold', 'repeat'))
) STRICT;

-- Columns in the order of the Call record, so that a row can be read and checked as a whole.
CREATE VIEW call_record AS
SELECT
    seq, id, tenant, operation, lane, connection, requested_connection, priority, ordering_key,
    parts, state, revision, reason, detail, tries, attempts, repeats, queries, doubt,
    created_at_ms, due_at_ms, expires_at_ms, give_up_at_ms, ask_at_ms, ask_until_ms,
    first_sent_at_ms, finished_at_ms, provider_reference, own_reference, reference_scope,
    reference_type, reference_id, on_uncertain, delivery, contradiction, lease_id, lease_until_ms,
    last_lease_id, sum, damaged_at_ms
FROM call;

CREATE UNIQUE INDEX call_id ON call (id);
CREATE INDEX call_due ON call (lane, priority, due_at_ms)
WHERE state = 'pending' AND damaged_at_ms IS NULL;
CREATE INDEX call_deadline ON call (coalesce(min(expires_at_ms, give_up_at_ms), give_up_at_ms))
WHERE state = 'pending' AND damaged_at_ms IS NULL;
CREATE INDEX call_ask ON call (connection, ask_at_ms)
WHERE ask_at_ms IS NOT NULL AND lease_id IS NULL AND damaged_at_ms IS NULL;
CREATE INDEX call_leased ON call (seq) WHERE lease_id IS NOT NULL;
CREATE INDEX call_state ON call (state, seq) WHERE state NOT IN ('processing', 'completed');
CREATE INDEX call_damaged ON call (seq) WHERE damaged_at_ms IS NOT NULL;
CREATE INDEX call_contradicted ON call (seq) WHERE contradiction IS NOT NULL;
CREATE INDEX call_reference ON call (reference_id, reference_type) WHERE reference_id IS NOT NULL;
CREATE UNIQUE INDEX call_own_reference ON call (reference_scope, own_reference)
WHERE own_reference IS NOT NULL;

CREATE TRIGGER call_begins_pending BEFORE INSERT ON call
WHEN new.state <> 'pending' OR new.revision <> 1
BEGIN
    SELECT raise(ABORT, 'a call begins as pending');
END;

CREATE TRIGGER call_arrow BEFORE UPDATE OF state ON call
WHEN old.state <> new.state AND NOT CASE old.state
    WHEN 'pending' THEN new.state IN ('processing', 'cancelled', 'expired')
    WHEN 'processing' THEN
        new.state IN ('pending', 'completed', 'waiting', 'failed', 'unknown')
    WHEN 'waiting' THEN new.state IN ('completed', 'failed', 'unknown')
    WHEN 'unknown' THEN new.state IN ('completed', 'failed', 'pending')
    WHEN 'failed' THEN new.state = 'pending'
    WHEN 'expired' THEN new.state = 'pending'
    ELSE 0
END
BEGIN
    SELECT raise(ABORT, 'there is no such arrow');
END;

CREATE TRIGGER call_revision BEFORE UPDATE OF revision ON call
WHEN new.revision <= old.revision
BEGIN
    SELECT raise(ABORT, 'a revision only grows');
END;

-- What never changes stands apart, so that a change of state rewrites a short row.
CREATE TABLE call_body (
    seq INTEGER PRIMARY KEY,
    payload BLOB NOT NULL,
    metadata BLOB,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE call_result (
    seq INTEGER PRIMARY KEY,
    result BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE part (
    call_seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'failed', 'unknown')),
    reason TEXT,
    detail TEXT,
    provider_reference TEXT,
    delivery TEXT,
    sum INTEGER NOT NULL,
    PRIMARY KEY (call_seq, position)
) STRICT, WITHOUT ROWID;

-- Outlives the call that it names.
CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    call_id TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at_ms);

CREATE TABLE attempt (
    seq INTEGER PRIMARY KEY,
    call_seq INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    operation TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('send', 'query')),
    number INTEGER NOT NULL CHECK (number > 0),
    connection TEXT NOT NULL,
    provider TEXT NOT NULL,
    plugin_digest TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
    outcome TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    sent INTEGER NOT NULL CHECK (sent IN (0, 1)),
    status_code INTEGER,
    request TEXT,
    response TEXT,
    rule TEXT NOT NULL,
    digest BLOB NOT NULL,
    event_seq INTEGER
) STRICT;
CREATE INDEX attempt_call ON attempt (call_seq);

-- Numbered without gaps; each mac is an HMAC over the one before it and this row.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    type TEXT NOT NULL,
    tenant TEXT,
    call_id TEXT,
    connection TEXT,
    data TEXT NOT NULL,
    mac BLOB NOT NULL
) STRICT;

-- Where the chain begins after pruning: the last pruned number and its mac, itself signed.
CREATE TABLE event_anchor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    mac BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;

-- How many calls each tenant has in each state, by connection ('' while none is chosen).
-- accepted is counted when a call comes in; the rest moves with the states.
CREATE TABLE ledger (
    tenant TEXT NOT NULL,
    connection TEXT NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    processing INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    pruned_completed INTEGER NOT NULL DEFAULT 0,
    pruned_failed INTEGER NOT NULL DEFAULT 0,
    pruned_expired INTEGER NOT NULL DEFAULT 0,
    pruned_cancelled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, connection),
    CHECK (pending >= 0 AND processing >= 0 AND waiting >= 0 AND unknown >= 0),
    CHECK (completed >= 0 AND failed >= 0 AND expired >= 0 AND cancelled >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_accepts AFTER INSERT ON call
BEGIN
    INSERT INTO ledger (tenant, connection, accepted, pending)
    VALUES (new.tenant, coalesce(new.connection, ''), 1, 1)
    ON CONFLICT (tenant, connection) DO UPDATE SET accepted = accepted + 1, pending = pending + 1;
END;

CREATE TRIGGER ledger_moves AFTER UPDATE OF state ON call
WHEN old.state <> new.state AND old.connection IS new.connection
BEGIN
    UPDATE ledger SET
        pending = pending + (new.state = 'pending') - (old.state = 'pending'),
        processing = processing + (new.state = 'processing') - (old.state = 'processing'),
        waiting = waiting + (new.state = 'waiting') - (old.state = 'waiting'),
        unknown = unknown + (new.state = 'unknown') - (old.state = 'unknown'),
        completed = completed + (new.state = 'completed') - (old.state = 'completed'),
        failed = failed + (new.state = 'failed') - (old.state = 'failed'),
        expired = expired + (new.state = 'expired') - (old.state = 'expired'),
        cancelled = cancelled + (new.state = 'cancelled') - (old.state = 'cancelled')
    WHERE tenant = new.tenant AND connection = coalesce(new.connection, '');
END;

-- A call that changes its connection takes its acceptance along.
CREATE TRIGGER ledger_reassigns AFTER UPDATE OF connection ON call
WHEN old.connection IS NOT new.connection
BEGIN
    UPDATE ledger SET
        accepted = accepted - 1,
        pending = pending - (old.state = 'pending'),
        processing = processing - (old.state = 'processing'),
        waiting = waiting - (old.state = 'waiting'),
        unknown = unknown - (old.state = 'unknown'),
        completed = completed - (old.state = 'completed'),
        failed = failed - (old.state = 'failed'),
        expired = expired - (old.state = 'expired'),
        cancelled = cancelled - (old.state = 'cancelled')
    WHERE tenant = old.tenant AND connection = coalesce(old.connection, '');
    INSERT INTO ledger (
        tenant, connection, accepted, pending, processing, waiting, unknown,
        completed, failed, expired, cancelled
    )
    VALUES (
        new.tenant, coalesce(new.connection, ''), 1, new.state = 'pending',
        new.state = 'processing', new.state = 'waiting', new.state = 'unknown',
        new.state = 'completed', new.state = 'failed', new.state = 'expired',
        new.state = 'cancelled'
    )
    ON CONFLICT (tenant, connection) DO UPDATE SET
        accepted = accepted + 1,
        pending = pending + excluded.pending,
        processing = processing + excluded.processing,
        waiting = waiting + excluded.waiting,
        unknown = unknown + excluded.unknown,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        expired = expired + excluded.expired,
        cancelled = cancelled + excluded.cancelled;
END;

-- Only finished calls are pruned; the ledger remembers how many.
CREATE TRIGGER ledger_prunes AFTER DELETE ON call
BEGIN
    SELECT raise(ABORT, 'only finished calls are pruned') WHERE old.finished_at_ms IS NULL;
    UPDATE ledger SET
        pruned_completed = pruned_completed + (old.state = 'completed'),
        pruned_failed = pruned_failed + (old.state = 'failed'),
        pruned_expired = pruned_expired + (old.state = 'expired'),
        pruned_cancelled = pruned_cancelled + (old.state = 'cancelled')
    WHERE tenant = old.tenant AND connection = coalesce(old.connection, '');
END;

CREATE TABLE breaker (
    connection TEXT PRIMARY KEY,
    record BLOB NOT NULL,
    changed_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Grows by one with every commit; its last value is also kept outside the WAL.
CREATE TABLE commit_mark (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO commit_mark (one, seq) VALUES (1, 0);
