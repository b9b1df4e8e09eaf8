"""The ledger: every accepted call is in exactly one state, per tenant and connection."""

import msgspec

from integrationd.journal.access import Access

_OLDEST = (
    "SELECT created_at_ms FROM call WHERE state = 'pending'"
    " AND state NOT IN ('processing', 'completed') AND (?1 IS NULL OR tenant = ?1)"
    " ORDER BY seq LIMIT 1"
)
_ATTENTION = (
    "SELECT (SELECT count(*) FROM call WHERE damaged_at_ms IS NOT NULL"
    "  AND (?1 IS NULL OR tenant = ?1)),"
    " (SELECT count(*) FROM call WHERE contradiction IS NOT NULL"
    "  AND (?1 IS NULL OR tenant = ?1))"
)


class LedgerLine(msgspec.Struct, frozen=True):
    """How many calls one tenant has through one connection, by state.

    Attributes:
        tenant: Whose calls.
        connection: The connection; None while none is chosen.
        accepted: Calls that were accepted, ever.
    """

    tenant: str
    connection: str | None
    accepted: int
    pending: int
    processing: int
    waiting: int
    unknown: int
    completed: int
    failed: int
    expired: int
    cancelled: int

    @property
    def balances(self) -> bool:
        """Whether every accepted call is accounted for."""
        return self.accepted == (
            self.pending
            + self.processing
            + self.waiting
            + self.unknown
            + self.completed
            + self.failed
            + self.expired
            + self.cancelled
        )


class Ledger:
    """The table of counters, kept by the schema's triggers."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def lines(self, within: str | None = None) -> list[LedgerLine]:
        """Return the balance per tenant and connection, all read at one commit.

        Args:
            within: Only lines of this tenant; all if None.
        """
        found = await self._access.rows(
            "SELECT tenant, nullif(connection, ''), accepted, pending, processing, waiting,"
            " unknown, completed, failed, expired, cancelled FROM ledger"
            " WHERE (?1 IS NULL OR tenant = ?1) AND (accepted <> 0"
            " OR pruned_completed + pruned_failed + pruned_expired + pruned_cancelled <> 0)"
            " ORDER BY tenant, connection",
            (within,),
        )
        return [LedgerLine(*row) for row in found]

    async def open_calls(self) -> dict[str, int]:
        """Count the calls of each connection that are not final."""
        found = await self._access.rows(
            "SELECT connection, sum(pending + processing + waiting + unknown) FROM ledger"
            " WHERE connection <> '' GROUP BY connection"
        )
        return dict(found)

    async def oldest_pending_ms(self, within: str | None = None) -> int | None:
        """Return when the oldest pending call, of a tenant if one is named, was accepted."""
        found = await self._access.rows(_OLDEST, (within,))
        return found[0][0] if found else None

    async def attention(self, within: str | None = None) -> dict[str, int]:
        """Count what a person should look at, of a tenant if one is named.

        Returns:
            How many calls are ``damaged``, and how many ``contradicted``.
        """
        found = await self._access.rows(_ATTENTION, (within,))
        return {"damaged": found[0][0], "contradicted": found[0][1]}
