-- Seals of attempts under the instance key, and what was erased.
-- From here on an attempt's `digest` is an HMAC over its number and all that it says.

-- What is not vouched for: attempts numbered up to `gone` may be missing, those up to `plain` have
-- digests that an earlier version made without the key. Signed with the instance key.
CREATE TABLE attempt_anchor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    gone INTEGER NOT NULL,
    plain INTEGER NOT NULL,
    signature BLOB NOT NULL
) STRICT;

-- `erased_event` is the number of the `privacy.erased` event that tells of it. An erased attempt
-- keeps its digest; `erased_seal` binds that to what is left of it.
ALTER TABLE attempt ADD COLUMN erased_event INTEGER;
ALTER TABLE attempt ADD COLUMN erased_seal BLOB;
ALTER TABLE call_body ADD COLUMN erased_event INTEGER;
ALTER TABLE inbox ADD COLUMN erased_event INTEGER;

-- A journal of an earlier version: the daemon signs this when it first opens it.
INSERT INTO attempt_anchor (one, gone, plain, signature)
SELECT 1, coalesce((SELECT max(seq) FROM attempt), 0), coalesce((SELECT max(seq) FROM attempt), 0), x''
FROM commit_mark WHERE seq > 0;

-- What an event told may be erased too; its MAC stays, and `erased_seal` binds that to what is left.
ALTER TABLE event ADD COLUMN erased_event INTEGER;
ALTER TABLE event ADD COLUMN erased_seal BLOB;
