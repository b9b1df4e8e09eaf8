-- The vault: secrets sealed under their tenant's data key, data keys wrapped by the master key.
-- Nothing here can be opened without the master key, which is never in the journal.
-- Every `sum` is a CRC-32 over the row, by which damage is known without the key.

CREATE TABLE data_key (
    tenant TEXT NOT NULL CHECK (length(tenant) > 0),
    generation INTEGER NOT NULL CHECK (generation > 0),
    master TEXT NOT NULL CHECK (length(master) = 16),
    wrapped BLOB NOT NULL CHECK (length(wrapped) = 61),
    versions INTEGER NOT NULL CHECK (versions >= 0),
    made_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (tenant, generation)
) STRICT, WITHOUT ROWID;

-- `versions` of the data key counts what was ever sealed for the tenant, so that no two secrets
-- share tenant, name and version.
CREATE TABLE secret (
    tenant TEXT NOT NULL CHECK (length(tenant) > 0),
    name TEXT NOT NULL CHECK (length(name) > 0),
    version INTEGER NOT NULL CHECK (version > 0),
    generation INTEGER NOT NULL,
    sealed BLOB NOT NULL CHECK (length(sealed) > 29),
    set_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER secret_has_its_key BEFORE INSERT ON secret
WHEN NOT EXISTS (
    SELECT 1 FROM data_key WHERE tenant = new.tenant AND generation = new.generation
)
BEGIN
    SELECT raise(ABORT, 'a secret needs the data key that it is sealed under');
END;

CREATE TRIGGER data_key_is_needed BEFORE DELETE ON data_key
WHEN EXISTS (
    SELECT 1 FROM secret WHERE tenant = old.tenant AND generation = old.generation
)
BEGIN
    SELECT raise(ABORT, 'secrets are sealed under this data key');
END;
