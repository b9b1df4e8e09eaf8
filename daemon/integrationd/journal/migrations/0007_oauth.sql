-- OAuth: the tokens of connections, sealed under their tenant's data key, and authorisations begun.
-- `generation` counts with the tenant's sealed secrets, so that no two tokens ever share one.
-- `refreshing_since_ms` and `refreshing_by` stand from before a refresh leaves until its end is
-- known; a row that still has them after a start was cut off in the middle of one.

CREATE TABLE oauth_token (
    tenant TEXT NOT NULL CHECK (length(tenant) > 0),
    connection TEXT NOT NULL CHECK (length(connection) > 0),
    generation INTEGER NOT NULL CHECK (generation > 0),
    key_generation INTEGER NOT NULL CHECK (key_generation > 0),
    sealed BLOB NOT NULL CHECK (length(sealed) > 29),
    token_type TEXT NOT NULL,
    scope TEXT,
    obtained_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    refreshing_since_ms INTEGER,
    refreshing_by TEXT,
    last_error TEXT,
    needs_consent INTEGER NOT NULL CHECK (needs_consent IN (0, 1)),
    sum INTEGER NOT NULL,
    PRIMARY KEY (tenant, connection),
    CHECK ((refreshing_since_ms IS NULL) = (refreshing_by IS NULL)),
    CHECK (needs_consent = 0 OR last_error IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER oauth_token_has_its_key BEFORE INSERT ON oauth_token
WHEN NOT EXISTS (
    SELECT 1 FROM data_key WHERE tenant = new.tenant AND generation = new.key_generation
)
BEGIN
    SELECT raise(ABORT, 'a token needs the data key that it is sealed under');
END;

CREATE TRIGGER data_key_is_needed_by_a_token BEFORE DELETE ON data_key
WHEN EXISTS (
    SELECT 1 FROM oauth_token WHERE tenant = old.tenant AND key_generation = old.generation
)
BEGIN
    SELECT raise(ABORT, 'tokens are sealed under this data key');
END;

-- An authorisation that was begun, by the SHA-256 of its state. The verifier of its code is derived
-- from the state and the instance's key, so nothing here opens anything.
CREATE TABLE oauth_state (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    tenant TEXT NOT NULL CHECK (length(tenant) > 0),
    connection TEXT NOT NULL CHECK (length(connection) > 0),
    begun_by TEXT NOT NULL,
    begun_from TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    made_for TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_state_over ON oauth_state (expires_at_ms);
