"""The vault's tables: secrets are set, listed, deleted and sealed anew; values never leave unasked.

Every change is one commit with its event. What one commit has written, the keyring of that moment
opens; whoever changes the master key holds both until it is over.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from integrationd.call import EventRecord
from integrationd.clock import Clock
from integrationd.errors import DamagedError, NotFoundError
from integrationd.journal import oauth_rows, secret_rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.beside import read_beside
from integrationd.journal.secret_rows import Sealed, StoredKey, StoredSecret
from integrationd.journal.writer import Transaction
from integrationd.settings.tenants import SHARED_SECRETS_OF
from integrationd.vault import Keyring, seal


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """What a rotation has done.

    Attributes:
        master: The id of the master key that wraps all data keys now.
        data_keys: How many data keys it wraps.
        sealed_anew: How many secrets and OAuth tokens were sealed anew, under new data keys.
    """

    master: str
    data_keys: int
    sealed_anew: int


class Secrets:
    """The vault's tables.

    Args:
        access: The journal.
        clock: Where time is read.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    async def sealed(self) -> Sealed:
        """Return the vault as it stands, nothing of it opened.

        Raises:
            JournalError: The journal cannot be read.
        """
        return Sealed(await self._access.rows(secret_rows.ALL))

    async def masters(self) -> frozenset[str]:
        """Return the ids of the master keys that wrap data keys, once all writes are over.

        Raises:
            JournalError: The journal is full or not open.
        """
        # In the writer's turn, so that no commit is under way that would change it.
        found = await self._access.write(lambda transaction: secret_rows.read(transaction.db))
        return found.masters

    async def get(self, keyring: Keyring, tenant: str, name: str) -> str:
        """Return what a secret holds.

        Raises:
            NotFoundError: There is none of that name.
            DamagedError: Its row fails its checksum.
            VaultError: It cannot be opened; the message names the row.
        """
        found = await self.sealed()
        if not found.has(tenant, name):
            raise _no_such_secret(name)
        return found.open(keyring, tenant, name)

    async def set(
        self, keyring: Keyring, tenant: str, name: str, value: str, by: str
    ) -> StoredSecret:
        """Keep a secret, in the place of the one of that name.

        Raises:
            DamagedError: The tenant's data key fails its checksum.
            VaultError: The tenant's data key cannot be opened.
            JournalError: The journal is full or not open.
        """
        self._access.refuse_new_work()
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> StoredSecret:
            return keep_secret(transaction, keyring, tenant, name, value, by, now_ms)

        return await self._access.write(job)

    async def delete(self, tenant: str, name: str, by: str) -> None:
        """Delete a secret.

        Raises:
            NotFoundError: There is none of that name.
            JournalError: The disk failed.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> None:
            gone = transaction.db.execute(
                "DELETE FROM secret WHERE tenant = ? AND name = ?", (tenant, name)
            )
            if gone.rowcount != 1:
                raise _no_such_secret(name)
            _tell(transaction, "vault.secret_deleted", tenant, {"name": name, "by": by}, now_ms)

        await self._access.write(job)

    async def rewrap(self, keyring: Keyring, by: str, *, anew: bool = False) -> Rotated:
        """Wrap every data key by the keyring's current master key, in one commit.

        Args:
            keyring: Opens what is there.
            by: Who asks.
            anew: Make new data keys too, and seal every secret anew under them.

        Raises:
            DamagedError: A row fails its checksum; nothing has changed.
            VaultError: A row cannot be opened; nothing has changed.
            JournalError: The journal is full; or it failed, and it is not known which master key
                wraps the data keys now.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> Rotated:
            before = secret_rows.read(transaction.db)
            damage = next(iter(before.damaged.values()), None)
            if damage is not None:
                raise DamagedError(damage)
            made = _sealed_anew if anew else _wrapped_anew
            rotated = made(transaction.db, keyring, before, now_ms)
            about = {**msgspec.structs.asdict(rotated), "by": by}
            _tell(transaction, "vault.rotated", None, about, now_ms)
            return rotated

        return await self._access.write(job, heavy=True)


def keep_secret(
    transaction: Transaction,
    keyring: Keyring,
    tenant: str,
    name: str,
    value: str,
    by: str,
    now_ms: int,
) -> StoredSecret:
    """Seal a secret in a commit that is under way.

    Args:
        transaction: The commit.
        keyring: What seals it.
        tenant: Whose it is.
        name: What references call it.
        value: What it holds.
        by: Who asked for it.
        now_ms: The time, UTC milliseconds.

    Raises:
        DamagedError: The tenant's data key fails its checksum.
        VaultError: The tenant's data key cannot be opened.
    """
    key = counted_key(transaction.db, keyring, tenant, now_ms)
    fresh = StoredSecret(
        tenant=tenant,
        name=name,
        version=key.versions,
        generation=key.generation,
        sealed=b"",
        set_at_ms=now_ms,
    )
    secret = _sealed(keyring.open(key.data_key), fresh, value)
    secret_rows.store(transaction.db, secret)
    about = {"name": name, "version": secret.version, "by": by}
    _tell(transaction, "vault.secret_set", tenant, about, now_ms)
    return secret


def stored_vault(path: Path) -> Sealed:
    """Read the vault of a journal from its file, also while a daemon owns it.

    Raises:
        JournalUnavailableError: The journal cannot be read.
    """
    return read_beside(path, secret_rows.read, Sealed)


def _wrapped_anew(db: sqlite.Connection, keyring: Keyring, before: Sealed, _now_ms: int) -> Rotated:
    for key in before.keys:
        data_key = keyring.rewrapped(key.data_key)
        after = msgspec.structs.replace(key, master=data_key.master, wrapped=data_key.wrapped)
        secret_rows.store(db, after)
    return Rotated(master=keyring.current.id, data_keys=len(before.keys), sealed_anew=0)


def _sealed_anew(db: sqlite.Connection, keyring: Keyring, before: Sealed, now_ms: int) -> Rotated:
    latest = {key.tenant: key for key in before.keys}
    made: dict[str, bytes] = {}
    for tenant, key in latest.items():
        after = _new_key(keyring, tenant, key.generation + 1, key.versions, now_ms)
        secret_rows.store(db, after)
        made[tenant] = keyring.open(after.data_key)
    for secret in before.secrets:
        value = before.open(keyring, secret.tenant, secret.name)
        moved = msgspec.structs.replace(secret, generation=latest[secret.tenant].generation + 1)
        secret_rows.store(db, _sealed(made[secret.tenant], moved, value))
    fresh = {tenant: (latest[tenant].generation + 1, key) for tenant, key in made.items()}
    tokens = oauth_rows.seal_anew(db, keyring, before, fresh)
    for key in before.keys:
        db.execute(
            "DELETE FROM data_key WHERE tenant = ? AND generation = ?", (key.tenant, key.generation)
        )
    return Rotated(
        master=keyring.current.id,
        data_keys=len(latest),
        sealed_anew=len(before.secrets) + tokens,
    )


def counted_key(db: sqlite.Connection, keyring: Keyring, tenant: str, now_ms: int) -> StoredKey:
    """Return the tenant's data key, made where there is none, with one more version counted."""
    found = db.execute(
        "SELECT tenant, generation, master, wrapped, versions, made_at_ms, sum FROM data_key"
        " WHERE tenant = ? ORDER BY generation DESC LIMIT 1",
        (tenant,),
    ).fetchone()
    if found is None:
        counted = _new_key(keyring, tenant, 1, 1, now_ms)
    else:
        key = secret_rows.key_of(found)
        counted = msgspec.structs.replace(key, versions=key.versions + 1)
    secret_rows.store(db, counted)
    return counted


def _new_key(
    keyring: Keyring, tenant: str, generation: int, versions: int, now_ms: int
) -> StoredKey:
    data_key = keyring.new_data_key(tenant, generation)
    return StoredKey(
        tenant=tenant,
        generation=generation,
        master=data_key.master,
        wrapped=data_key.wrapped,
        versions=versions,
        made_at_ms=now_ms,
    )


def _sealed(key: bytes, secret: StoredSecret, value: str) -> StoredSecret:
    plain = value.encode("utf-8", "surrogatepass")
    return msgspec.structs.replace(secret, sealed=seal(key, secret.identity, plain))


def _tell(
    transaction: Transaction, kind: str, tenant: str | None, data: Mapping[str, Any], now_ms: int
) -> None:
    whose = None if tenant == SHARED_SECRETS_OF else tenant
    event = EventRecord(type=kind, data=data, tenant=whose)
    transaction.chain.append(transaction.db, event, now_ms)


def _no_such_secret(name: str) -> NotFoundError:
    return NotFoundError(
        f"the vault holds no secret {name[:80]!r}",
        code="no_such_secret",
        hint="'integrationd vault list' shows what it holds.",
    )
