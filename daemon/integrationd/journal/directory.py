"""The directory: tenants and connections made over the API, and what was done to connections.

Every act is one commit with its event. A connection's secrets are sealed in the commit that keeps
the connection, so that a crash leaves both or none.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from integrationd.call import DEFAULT_TENANT, EventRecord, pinned_to
from integrationd.clock import Clock
from integrationd.errors import ConflictError, DamagedError
from integrationd.journal import directory_rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.beside import read_beside
from integrationd.journal.directory_rows import (
    ConnectionState,
    Directory,
    StoredConnection,
    StoredTenant,
)
from integrationd.journal.leases import LANES
from integrationd.journal.secrets import keep_secret
from integrationd.journal.writer import Transaction
from integrationd.masking import Masker
from integrationd.settings.tenants import SHARED_SECRETS_OF
from integrationd.vault import Keyring

# All of them are held in memory, so there is an end to them.
MOST_TENANTS = 10_000
MOST_CONNECTIONS = 2_000

Awaits: TypeAlias = Callable[[str], bool]
"""Says whether a lane's calls wait for a connection; asked inside a commit, so it may not wait."""


class NewSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed beside a connection.

    Attributes:
        keyring: What seals it.
        tenant: Whose vault it goes to.
        values: What the secrets hold, by name.
    """

    keyring: Keyring
    tenant: str
    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"NewSecrets({self.tenant}, {', '.join(self.values)})"


class DirectoryTables:
    """The tables of tenants, connections and their states.

    Args:
        access: The journal.
        clock: Where time is read.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    async def read(self) -> Directory:
        """Return the directory as it stands.

        Raises:
            JournalError: The journal cannot be read.
        """
        return Directory(await self._access.rows(directory_rows.ALL))

    async def pending_in(self, lane: str, besides: str) -> int:
        """Count the pending calls of a lane.

        Args:
            lane: The lane.
            besides: Leave out those whose last attempt went through this connection.

        Raises:
            JournalError: The journal cannot be read.
        """
        found = await self._access.rows_slowly(
            "SELECT count(*) FROM call WHERE lane = ? AND state = 'pending'"
            " AND damaged_at_ms IS NULL AND connection IS NOT ?",
            (lane, besides),
        )
        count: int = found[0][0]
        return count

    async def keep_tenant(self, tenant: StoredTenant, by: str) -> None:
        """Keep a tenant, in the place of the one of that id.

        Raises:
            ConflictError: There are too many.
            JournalError: The journal is full or not open.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> None:
            before = _find(transaction, StoredTenant, tenant.id)
            if before is None:
                _check_count(transaction.db, StoredTenant, MOST_TENANTS, "tenants")
            directory_rows.store(transaction.db, tenant)
            kind = "tenant.created" if before is None else "tenant.changed"
            told = {"id": tenant.id, **_moved(before, tenant)}
            _tell(transaction, kind, tenant.id, told, by, self._clock.now_ms())

        await self._access.write(job)

    async def delete_tenant(self, name: str, by: str) -> None:
        """Delete a tenant with its secrets, so that none of its name ever has them.

        Raises:
            JournalError: The disk failed.
        """

        def job(transaction: Transaction) -> None:
            before = _find(transaction, StoredTenant, name)
            directory_rows.remove(transaction.db, StoredTenant, name)
            if name != DEFAULT_TENANT:
                for table in ("secret", "oauth_token", "oauth_state"):
                    statement = " ".join(["DELETE FROM", table, "WHERE tenant = ?"])
                    transaction.db.execute(statement, (name,))
            told = {"id": name, **_moved(before, None)}
            _tell(transaction, "tenant.deleted", name, told, by, self._clock.now_ms())

        await self._access.write(job)

    async def keep_connection(
        self, connection: StoredConnection, secrets: NewSecrets | None, by: str
    ) -> None:
        """Keep a connection with its secrets, in the place of the one of that id.

        Raises:
            ConflictError: There are too many.
            VaultError: Its secrets cannot be sealed.
            JournalError: The journal is full or not open.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> None:
            db, now_ms = transaction.db, self._clock.now_ms()
            before = _find(transaction, StoredConnection, connection.id)
            if before is None:
                _check_count(db, StoredConnection, MOST_CONNECTIONS, "connections")
                # What was done to one of the file that had this id is over.
                directory_rows.remove(db, ConnectionState, connection.id)
            directory_rows.store(db, connection)
            if secrets is not None:
                _seal(transaction, secrets, by, now_ms)
            _forget_secrets(transaction, before, connection)
            kind = "connection.created" if before is None else "connection.changed"
            renewed = {"secrets": sorted(secrets.values)} if secrets is not None else {}
            told = {**_moved(before, connection), **renewed}
            _tell_of(transaction, kind, connection.id, connection.tenant, told, by, now_ms)

        await self._access.write(job)

    async def is_awaited(self, name: str, awaits: Awaits) -> bool:
        """Say whether calls go through a connection or wait for it, those just accepted too.

        Raises:
            JournalError: The journal is full or not open.
        """
        # In the writer's turn, after all that was accepted before.
        return await self._access.write(lambda transaction: _is_awaited(transaction, name, awaits))

    async def delete_connection(self, name: str, by: str, awaits: Awaits) -> None:
        """Delete a connection with its state, its own secrets and its authorisation.

        Args:
            name: Its id.
            by: Who deletes it.
            awaits: Says whether a lane's calls wait for it; asked in the commit itself.

        Raises:
            ConflictError: Calls wait on it.
            JournalError: The disk failed.
        """

        def job(transaction: Transaction) -> None:
            if _is_awaited(transaction, name, awaits):
                raise ConflictError(
                    f"connection {name!r} has calls that wait on it",
                    code="calls_waiting",
                    hint="With ?drain=true it takes no new calls and goes when the last has ended.",
                )
            db, now_ms = transaction.db, self._clock.now_ms()
            before = _sound(transaction, name)
            directory_rows.remove(db, StoredConnection, name)
            directory_rows.remove(db, ConnectionState, name)
            tenant = before.tenant if before is not None else None
            if before is not None:
                _forget_all_of(db, before)
            told = _moved(before, None)
            _tell_of(transaction, "connection.deleted", name, tenant, told, by, now_ms)

        await self._access.write(job)

    async def keep_state(
        self, state: ConnectionState, tenant: str | None, act: str, told: Mapping[str, Any], by: str
    ) -> None:
        """Keep what was done to a connection.

        Args:
            state: What holds from now on.
            tenant: Whose connection it is.
            act: What was done: ``paused``, ``resumed``, ``draining`` or ``tested``.
            told: What else the event says.
            by: Who did it.

        Raises:
            JournalError: The journal is full or not open.
        """

        def job(transaction: Transaction) -> None:
            directory_rows.store(transaction.db, state)
            now_ms = self._clock.now_ms()
            _tell_of(transaction, f"connection.{act}", state.id, tenant, told, by, now_ms)

        await self._access.write(job)


def stored_directory(path: Path) -> Directory:
    """Read the directory of a journal from its file, also while a daemon owns it.

    Raises:
        JournalUnavailableError: The journal cannot be read.
    """
    return read_beside(path, directory_rows.read, Directory)


def _find(transaction: Transaction, kind: type[directory_rows.Stored], name: str) -> Any:
    return directory_rows.find(transaction.db, kind, name)


def _check_count(
    db: sqlite.Connection, kind: type[directory_rows.Stored], most: int, words: str
) -> None:
    if directory_rows.count(db, kind) >= most:
        raise ConflictError(
            f"there are {most} {words}, and no more are possible",
            code=f"too_many_{words}",
            hint="Delete those that are not needed any more.",
        )


def _seal(transaction: Transaction, secrets: NewSecrets, by: str, now_ms: int) -> None:
    for name, value in secrets.values.items():
        keep_secret(transaction, secrets.keyring, secrets.tenant, name, value, by, now_ms)


def _sound(transaction: Transaction, name: str) -> StoredConnection | None:
    """Return a connection; None where its row is damaged, so that it can still be deleted."""
    try:
        found: StoredConnection | None = _find(transaction, StoredConnection, name)
    except DamagedError:
        return None
    return found


def _is_awaited(transaction: Transaction, name: str, awaits: Awaits) -> bool:
    """Say whether calls go through a connection, or wait for it without an attempt so far."""
    db = transaction.db
    counted = sqlite.fetch_all(
        db,
        "SELECT sum(pending + processing + waiting + unknown) FROM ledger WHERE connection = ?",
        (name,),
    )
    if counted[0][0]:
        return True
    lanes = (lane for (lane,) in sqlite.fetch_all(db, LANES))
    return any(pinned_to(lane) is None and awaits(lane) for lane in lanes)


def _forget_secrets(
    transaction: Transaction, before: StoredConnection | None, after: StoredConnection
) -> None:
    """Delete the secrets that only the connection as it was has had for its own."""
    if before is None:
        return
    for tenant, name in sorted(own_secrets(before) - own_secrets(after)):
        transaction.db.execute("DELETE FROM secret WHERE tenant = ? AND name = ?", (tenant, name))


def _forget_all_of(db: sqlite.Connection, connection: StoredConnection) -> None:
    """Delete a connection's own secrets, its token, and what was begun to get one."""
    tenant, prefix = connection.tenant or SHARED_SECRETS_OF, own_prefix(connection.id)
    db.execute(
        "DELETE FROM secret WHERE tenant = ? AND substr(name, 1, ?) = ?",
        (tenant, len(prefix), prefix),
    )
    for table in ("oauth_token", "oauth_state"):
        statement = " ".join(["DELETE FROM", table, "WHERE tenant = ? AND connection = ?"])
        db.execute(statement, (tenant, connection.id))


def own_prefix(connection: str) -> str:
    """Return what the names of a connection's own secrets begin with."""
    return f"connections.{connection}."


def own_secrets(connection: StoredConnection) -> frozenset[tuple[str, str]]:
    """Return tenant and name of the secrets that were sealed for a connection alone."""
    config = json.loads(connection.settings).get("config", {})
    prefix = f"vault:{own_prefix(connection.id)}"
    tenant = connection.tenant or SHARED_SECRETS_OF
    return frozenset(
        (tenant, text.removeprefix("vault:")) for text in _texts(config) if text.startswith(prefix)
    )


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return []
    return [text for member in members for text in _texts(member)]


def _moved(
    before: StoredTenant | StoredConnection | None, after: StoredTenant | StoredConnection | None
) -> dict[str, Any]:
    # What is no secret by its type may still be one by its name.
    return {
        "before": Masker().value(json.loads(before.settings)) if before is not None else None,
        "after": Masker().value(json.loads(after.settings)) if after is not None else None,
    }


def _tell(
    transaction: Transaction,
    kind: str,
    tenant: str | None,
    told: Mapping[str, Any],
    by: str,
    now_ms: int,
) -> None:
    event = EventRecord(type=kind, tenant=tenant, data={"by": by, **told})
    transaction.chain.append(transaction.db, event, now_ms)


def _tell_of(
    transaction: Transaction,
    kind: str,
    connection: str,
    tenant: str | None,
    told: Mapping[str, Any],
    by: str,
    now_ms: int,
) -> None:
    data = {"by": by, "connection": connection, **told}
    event = EventRecord(type=kind, tenant=tenant, data=data, connection=connection)
    transaction.chain.append(transaction.db, event, now_ms)
