-- Tenants at acceptance and in turn: how many calls came in a day, and whose are to be asked about.

-- How many calls of a tenant with a quota were accepted in a day (days since 1970-01-01, UTC).
-- The calls themselves are the truth: a row that is missing or damaged is counted anew from them.
CREATE TABLE tenant_day (
    tenant TEXT NOT NULL CHECK (length(tenant) > 0),
    day INTEGER NOT NULL CHECK (day >= 0),
    accepted INTEGER NOT NULL CHECK (accepted >= 0),
    sum INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

-- Lists of one tenant cost no more for what others have. Where there is only one tenant, the list
-- of all is its list, and calls cost no index.
CREATE INDEX call_tenant ON call (tenant, seq) WHERE tenant <> 'default';
CREATE INDEX attempt_tenant ON attempt (tenant, seq) WHERE tenant <> 'default';

-- Each tenant's calls to be asked about stand in a lane of their own, so that they take turns.
DROP INDEX call_ask;
CREATE INDEX call_ask ON call (connection, tenant, ask_at_ms)
WHERE ask_at_ms IS NOT NULL AND lease_id IS NULL AND damaged_at_ms IS NULL;

-- Each tenant names its keys as it likes; '' are those of all.
DROP INDEX api_key_name;
CREATE UNIQUE INDEX api_key_name ON api_key (coalesce(tenant, ''), name)
WHERE revoked_at_ms IS NULL AND replaced_by IS NULL;
