"""API keys: who may use the API, in which role; of each key only its SHA-256 is kept."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from integrationd.call import EventRecord
from integrationd.errors import ConflictError, DamagedError, NotFoundError
from integrationd.journal import rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.writer import Transaction

# All that are not revoked are held in memory, so there is an end to them; and no tenant uses up
# those of the others.
MOST_KEYS = 10_000
MOST_KEYS_OF_TENANT = 1_000
_BIG = 1 << 62

# What the checksum covers, in the order of the columns.
_SEALED = (
    *("id", "name", "tenant", "role", "digest", "created_at_ms", "expires_at_ms"),
    *("revoked_at_ms", "replaced_by", "grace_until_ms"),
)
_SELECT = (
    "SELECT seq, id, name, tenant, role, digest, created_at_ms, expires_at_ms, revoked_at_ms,"
    " replaced_by, grace_until_ms, sum, last_used_at_ms FROM api_key"
)
_INSERT = (
    "INSERT INTO api_key (id, name, tenant, role, digest, created_at_ms, expires_at_ms,"
    " revoked_at_ms, replaced_by, grace_until_ms, sum, last_used_at_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_OF_ID = f"{_SELECT} WHERE id = ? AND (?2 IS NULL OR tenant = ?2)"
_KEPT = f"{_SELECT} WHERE revoked_at_ms IS NULL ORDER BY seq"
_LIST = f"{_SELECT} WHERE (?1 IS NULL OR tenant = ?1) AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
_UPDATE = (
    "UPDATE api_key SET revoked_at_ms = ?, replaced_by = ?, grace_until_ms = ?, sum = ?"
    " WHERE id = ?"
)


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key that is to be kept.

    Attributes:
        id: The part of it that may be shown.
        name: How its holder is named in events.
        tenant: Whose it is; None for a key of all tenants.
        role: ``admin``, ``staff`` or ``read``.
        digest: The SHA-256 of the whole key.
        created_at_ms: When it was made, UTC milliseconds.
        expires_at_ms: From when on it is refused, or None.
    """

    id: str
    name: str
    tenant: str | None
    role: str
    digest: bytes
    created_at_ms: int
    expires_at_ms: int | None = None


class StoredApiKey(NewApiKey, frozen=True, kw_only=True):
    """An API key of the journal.

    Attributes:
        seq: Its number.
        revoked_at_ms: When it was revoked, or None.
        replaced_by: The id of the key that has taken its place, or None.
        grace_until_ms: From when on it is refused for that.
        last_used_at_ms: When it was last used, to a minute.
    """

    seq: int
    revoked_at_ms: int | None = None
    replaced_by: str | None = None
    grace_until_ms: int | None = None
    last_used_at_ms: int | None = None


class KeysAtHand(msgspec.Struct, frozen=True):
    """All keys that are not revoked.

    Attributes:
        keys: Those that can be trusted; expired ones among them.
        damaged: The ids of those whose checksum does not fit.
    """

    keys: Sequence[StoredApiKey]
    damaged: Sequence[str]


class ApiKeys:
    """The table of API keys."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def at_hand(self) -> KeysAtHand:
        """Return all keys that are not revoked.

        Raises:
            JournalError: The journal is not open.
        """
        return _sorted_out(await self._access.rows(_KEPT))

    async def list(
        self, tenant: str | None, *, before: int | None, limit: int
    ) -> Sequence[StoredApiKey]:
        """Return keys, the latest first; damaged ones are left out.

        Args:
            tenant: Only those of this tenant; all if None.
            before: Only those with a lower number.
            limit: How many at most.

        Raises:
            JournalError: The journal is not open.
        """
        keys: list[StoredApiKey] = []
        last = before if before is not None else _BIG
        while len(keys) < limit:
            found = await self._access.rows(_LIST, (tenant, last, limit))
            keys += _sorted_out(found).keys
            if len(found) < limit:
                break
            last = found[-1][0]
        return keys[:limit]

    async def add(self, key: NewApiKey, by: str) -> StoredApiKey:
        """Keep a new key durably.

        Raises:
            ConflictError: There is a key of that name, or there are too many.
            JournalError: The journal is full or not open.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> StoredApiKey:
            _check_name(transaction.db, key)
            _check_count(transaction.db, key.tenant)
            _note(transaction, "key.created", key, by, key.created_at_ms)
            return _insert(transaction.db, key)

        return await self._access.write(job)

    async def rotate(
        self,
        key_id: str,
        fresh: NewApiKey,
        *,
        within: str | None,
        grace_ms: int,
        by: str,
    ) -> tuple[StoredApiKey, StoredApiKey]:
        """Put a new key in the place of one, which goes on for a while.

        The new one takes over name, tenant and role, and where ``fresh`` says nothing of it, the
        length of the old one's life.

        Args:
            key_id: The key that is replaced.
            fresh: The new one.
            within: The tenant that it must be of; any if None.
            grace_ms: For how long the old one goes on, milliseconds.
            by: Who asked for it.

        Returns:
            The old key as it is now, and the new one.

        Raises:
            NotFoundError: There is none of that id.
            ConflictError: It is revoked or replaced already, or there are too many.
            DamagedError: Its stored form is damaged.
            JournalError: The journal is full or not open.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> tuple[StoredApiKey, StoredApiKey]:
            old = _get(transaction.db, key_id, within)
            _check_not_ended(old)
            _check_count(transaction.db, old.tenant)
            return _replace(transaction, old, _successor(old, fresh), grace_ms, by)

        return await self._access.write(job)

    async def revoke(
        self, key_id: str, *, within: str | None, by: str, now_ms: int
    ) -> StoredApiKey:
        """Revoke a key for ever; one that is revoked already stays as it is.

        Args:
            key_id: The key.
            within: The tenant that it must be of; any if None.
            by: Who asked for it.
            now_ms: The time, UTC milliseconds.

        Raises:
            NotFoundError: There is none of that id.
            DamagedError: Its stored form is damaged.
            JournalError: The journal is full or not open.
        """

        def job(transaction: Transaction) -> StoredApiKey:
            found = _get(transaction.db, key_id, within)
            if found.revoked_at_ms is not None:
                return found
            revoked = msgspec.structs.replace(found, revoked_at_ms=now_ms)
            _store(transaction.db, revoked)
            _note(transaction, "key.revoked", revoked, by, now_ms)
            return revoked

        return await self._access.write(job)

    async def note_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were last used.

        Args:
            uses: UTC milliseconds, by the key's id.

        Raises:
            JournalError: The journal is full or not open.
        """
        changes = [(at_ms, key_id) for key_id, at_ms in uses.items()]
        await self._access.write(
            lambda transaction: transaction.db.executemany(
                "UPDATE api_key SET last_used_at_ms = ? WHERE id = ?", changes
            )
        )


def check(db: sqlite.Connection, note: Callable[[str], None]) -> None:
    """Compare every key with its checksum, and tell of those that do not fit.

    Args:
        db: A journal, of this version or an earlier one.
        note: Called with what is wrong, in words.
    """
    for row in _all(db):
        try:
            _stored(row)
        except DamagedError as error:
            note(str(error))


def copy(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Copy the keys that fit their checksums into an empty journal."""
    for row in _all(old):
        with contextlib.suppress(DamagedError, sqlite.IntegrityError):
            _stored(row)
            new.execute(_INSERT, row[1:])


def _all(db: sqlite.Connection) -> Iterator[sqlite.Row]:
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'api_key'").fetchone():
        yield from db.execute(f"{_SELECT} ORDER BY seq")


def _sorted_out(found: Iterable[sqlite.Row]) -> KeysAtHand:
    keys, damaged = [], []
    for row in found:
        try:
            keys.append(_stored(row))
        except DamagedError:
            damaged.append(str(row[1]))
    return KeysAtHand(keys, damaged)


def _stored(row: sqlite.Row) -> StoredApiKey:
    # From the id on; behind what is sealed stand the checksum and the last use.
    rows.check(f"API key {row[1]}", row[-2], *row[1:-2])
    fields: dict[str, Any] = dict(zip(_SEALED, row[1:], strict=False))
    return StoredApiKey(seq=row[0], last_used_at_ms=row[-1], **fields)


def _get(db: sqlite.Connection, key_id: str, within: str | None) -> StoredApiKey:
    row = db.execute(_OF_ID, (key_id, within)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no API key {key_id[:80]!r}", code="no_such_key")
    return _stored(row)


def _insert(db: sqlite.Connection, key: NewApiKey) -> StoredApiKey:
    kept = StoredApiKey(seq=0, **msgspec.structs.asdict(key))
    values = _sealed_values(kept)
    seq = db.execute(_INSERT, (*values, rows.seal(*values), None)).lastrowid
    return msgspec.structs.replace(kept, seq=seq)


def _store(db: sqlite.Connection, key: StoredApiKey) -> None:
    ends = (key.revoked_at_ms, key.replaced_by, key.grace_until_ms)
    db.execute(_UPDATE, (*ends, rows.seal(*_sealed_values(key)), key.id))


def _replace(
    transaction: Transaction, old: StoredApiKey, fresh: NewApiKey, grace_ms: int, by: str
) -> tuple[StoredApiKey, StoredApiKey]:
    now_ms = fresh.created_at_ms
    replaced = msgspec.structs.replace(old, replaced_by=fresh.id, grace_until_ms=now_ms + grace_ms)
    # Before the new one is there, since two of one name may not be.
    _store(transaction.db, replaced)
    kept = _insert(transaction.db, fresh)
    _note(transaction, "key.rotated", kept, by, now_ms, replaces=old.id)
    return replaced, kept


def _sealed_values(key: StoredApiKey) -> tuple[Any, ...]:
    return tuple(getattr(key, name) for name in _SEALED)


def _successor(old: StoredApiKey, fresh: NewApiKey) -> NewApiKey:
    expires_at_ms = fresh.expires_at_ms
    if expires_at_ms is None and old.expires_at_ms is not None:
        expires_at_ms = fresh.created_at_ms + old.expires_at_ms - old.created_at_ms
    return msgspec.structs.replace(
        fresh, name=old.name, tenant=old.tenant, role=old.role, expires_at_ms=expires_at_ms
    )


def _check_name(db: sqlite.Connection, key: NewApiKey) -> None:
    row = db.execute(
        "SELECT id FROM api_key WHERE coalesce(tenant, '') = ? AND name = ?"
        " AND revoked_at_ms IS NULL AND replaced_by IS NULL",
        (key.tenant or "", key.name),
    ).fetchone()
    if row is not None:
        raise ConflictError(
            f"there is an API key named {key.name!r} already: {row[0]}",
            code="name_taken",
            pointer="/name",
            hint="Choose another name, or rotate or revoke that key.",
        )


def _check_count(db: sqlite.Connection, tenant: str | None) -> None:
    count, of_tenant = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE tenant = ?) FROM api_key"
        " WHERE revoked_at_ms IS NULL",
        (tenant,),
    ).fetchone()
    if count >= MOST_KEYS or of_tenant >= MOST_KEYS_OF_TENANT:
        told = f"there are {count} API keys" if tenant is None else f"{tenant} has {of_tenant} keys"
        raise ConflictError(
            f"{told}, and no more are possible",
            code="too_many_keys",
            hint="Revoke those that are not needed any more.",
        )


def _check_not_ended(key: StoredApiKey) -> None:
    if key.revoked_at_ms is not None:
        raise ConflictError(
            f"API key {key.id} is revoked",
            code="key_revoked",
            hint="Create a new one.",
        )
    if key.replaced_by is not None:
        raise ConflictError(
            f"API key {key.id} has been replaced by {key.replaced_by}",
            code="key_replaced",
            hint="Rotate that one.",
        )


def _note(
    transaction: Transaction, kind: str, key: NewApiKey, by: str, now_ms: int, **more: str
) -> None:
    data = {"by": by, "key": key.id, "name": key.name, "role": key.role, **more}
    event = EventRecord(type=kind, tenant=key.tenant, data=data)
    transaction.chain.append(transaction.db, event, now_ms)
