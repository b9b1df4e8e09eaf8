"""Breakers: each connection's breaker as it last moved, so that it survives a restart."""

from integrationd.call import Breaker, EventRecord, is_subscription
from integrationd.events import BreakerMoved
from integrationd.journal.access import Access
from integrationd.journal.writer import Transaction


class Breakers:
    """The table of breakers."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def all(self) -> list[Breaker]:
        """Return every stored breaker."""
        found = await self._access.rows("SELECT connection, record, changed_at_ms FROM breaker")
        return [
            Breaker(connection=connection, record=record, changed_at_ms=changed_at_ms)
            for connection, record, changed_at_ms in found
        ]

    async def store(self, breaker: Breaker, moved: BreakerMoved) -> None:
        """Keep a breaker that moved, with the event that tells of it."""
        await self._access.write(lambda transaction: store_breaker(transaction, breaker, moved))

    async def keep(self, breaker: Breaker, event: EventRecord) -> None:
        """Keep what stands among the breakers, with the event that tells of it."""

        def job(transaction: Transaction) -> None:
            _replace(transaction, breaker)
            transaction.chain.append(transaction.db, event, breaker.changed_at_ms)

        await self._access.write(job)


def store_breaker(transaction: Transaction, breaker: Breaker, moved: BreakerMoved) -> None:
    """Keep a breaker that moved, inside another write."""
    _replace(transaction, breaker)
    if moved.after in ("open", "closed") and not _is_known(moved):
        transaction.chain.append(transaction.db, _event(moved), breaker.changed_at_ms)
    transaction.told.append(moved)


def _replace(transaction: Transaction, breaker: Breaker) -> None:
    transaction.db.execute(
        "REPLACE INTO breaker (connection, record, changed_at_ms) VALUES (?, ?, ?)",
        (breaker.connection, breaker.record, breaker.changed_at_ms),
    )


def _is_known(moved: BreakerMoved) -> bool:
    """Say whether the log tells of it already: a receiver may be dead for days of probes."""
    return is_subscription(moved.connection) and (moved.before, moved.after) == (
        "half_open",
        "open",
    )


def _event(moved: BreakerMoved) -> EventRecord:
    kind = "breaker.opened" if moved.after == "open" else "breaker.closed"
    by = {} if moved.by is None else {"by": moved.by}
    return EventRecord(
        type=kind,
        connection=moved.connection,
        tenant=moved.tenant,
        data={"before": moved.before, **by},
    )
