"""Authorisations that were begun: kept until somebody comes back from them, once, or time is up."""

import hashlib
from typing import Any

import msgspec

from integrationd.journal import rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.writer import Transaction

_SELECT = (
    "SELECT digest, tenant, connection, begun_by, begun_from, redirect_uri, made_for,"
    " expires_at_ms, sum FROM oauth_state WHERE digest = ?"
)
_INSERT = (
    "INSERT INTO oauth_state (digest, tenant, connection, begun_by, begun_from, redirect_uri,"
    " made_for, expires_at_ms, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
MOST_PER_CONNECTION = 20


class BegunAuthorisation(msgspec.Struct, frozen=True, kw_only=True):
    """An authorisation that somebody has begun.

    Attributes:
        tenant: Whose connection it is.
        connection: The connection's id.
        begun_by: Who began it.
        begun_from: From where.
        redirect_uri: Where the server was told to send the person back to.
        made_for: A digest of the server, client and scope that it was begun with.
        expires_at_ms: Until when one may come back, UTC milliseconds.
    """

    tenant: str
    connection: str
    begun_by: str
    begun_from: str
    redirect_uri: str
    made_for: str
    expires_at_ms: int


class OAuthStates:
    """The table of authorisations that were begun."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def begin(self, state: str, begun: BegunAuthorisation, now_ms: int) -> None:
        """Keep one durably; those whose time is up go.

        Args:
            state: What comes back with the person; only its digest is kept.
            begun: The authorisation.
            now_ms: The time, UTC milliseconds.

        Raises:
            JournalError: The journal is full or failing.
        """
        self._access.refuse_new_work()
        values = (digest_of(state), *msgspec.structs.astuple(begun))

        def job(transaction: Transaction) -> None:
            db = transaction.db
            db.execute("DELETE FROM oauth_state WHERE expires_at_ms <= ?", (now_ms,))
            _make_room(db, begun)
            db.execute(_INSERT, (*values, rows.seal(*values)))

        await self._access.write(job)

    async def take(self, state: str, now_ms: int) -> BegunAuthorisation | None:
        """Return one and forget it; None where it was taken before, is over, or never was.

        Raises:
            DamagedError: Its row fails its checksum.
            JournalError: The journal is full or failing.
        """
        digest = digest_of(state)

        def job(transaction: Transaction) -> tuple[Any, ...] | None:
            row: tuple[Any, ...] | None = transaction.db.execute(_SELECT, (digest,)).fetchone()
            transaction.db.execute("DELETE FROM oauth_state WHERE digest = ?", (digest,))
            return row

        row = await self._access.write(job)
        if row is None:
            return None
        rows.check("an authorisation that was begun", row[-1], *row[:-1])
        fields = dict(zip(BegunAuthorisation.__struct_fields__, row[1:-1], strict=True))
        begun = BegunAuthorisation(**fields)
        return begun if now_ms < begun.expires_at_ms else None


def digest_of(state: str) -> bytes:
    """Return what is kept of a state."""
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).digest()


def _make_room(db: sqlite.Connection, begun: BegunAuthorisation) -> None:
    """Forget the oldest of a connection, so that whoever begins over and over fills no disk."""
    db.execute(
        "DELETE FROM oauth_state WHERE digest IN (SELECT digest FROM oauth_state WHERE tenant = ?"
        " AND connection = ? ORDER BY expires_at_ms DESC LIMIT -1 OFFSET ?)",
        (begun.tenant, begun.connection, MOST_PER_CONNECTION - 1),
    )
