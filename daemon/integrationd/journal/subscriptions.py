"""Subscriptions: who is told of which events, how far, and what became of it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from integrationd.call import Call, EventRecord, subscription_connection
from integrationd.clock import Clock
from integrationd.errors import ConflictError, NotFoundError
from integrationd.events import CallChanged, SubscriptionMoved
from integrationd.journal import rows, sqlite
from integrationd.journal import subscription_rows as own_rows
from integrationd.journal.access import Access
from integrationd.journal.calls import Calls, NewCall
from integrationd.journal.damage import sound
from integrationd.journal.feeds import FeedTerms, delivery
from integrationd.journal.settled import store_settlement
from integrationd.journal.subscription_rows import Cursor, StoredSubscription, SubscriptionTerms
from integrationd.journal.writer import Transaction
from integrationd.settlement import cancel

MOST_SUBSCRIPTIONS = 1000

_OF_ID = f"{own_rows.SUBSCRIPTION} WHERE id = ? AND (?2 IS NULL OR tenant = ?2)"
_LIST = (
    f"{own_rows.SUBSCRIPTION} WHERE (?1 IS NULL OR tenant = ?1) AND seq < ?2"
    " ORDER BY seq DESC LIMIT ?3"
)
_DELIVERIES = (
    "SELECT r.*, b.payload, a.status_code, a.started_at_ms, a.duration_ms, a.reason, a.detail,"
    " a.response FROM call_record AS r JOIN call_body AS b USING (seq)"
    " LEFT JOIN attempt AS a ON a.seq = (SELECT max(seq) FROM attempt WHERE call_seq = r.seq)"
    " WHERE r.reference_id = :subscription AND r.reference_type = 'subscription'"
    " AND r.requested_connection = :connection AND (:state IS NULL OR r.state = :state)"
    " AND r.seq < :before AND r.damaged_at_ms IS NULL ORDER BY r.seq DESC LIMIT :limit"
)
_PENDING = (
    "SELECT * FROM call_record WHERE reference_id = ? AND reference_type = 'subscription'"
    " AND requested_connection = ? AND state = 'pending' AND doubt = 0 AND damaged_at_ms IS NULL"
)
_COUNTS = (
    "SELECT connection, sum(pending + processing), sum(completed), sum(failed + expired)"
    " FROM ledger WHERE connection >= 'subscription:' AND connection < 'subscription;'"
    " GROUP BY connection"
)
_BIG = (1 << 63) - 1


class StoredDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one subscription.

    Attributes:
        call: The call that delivers it.
        payload: What it sends, as the operation ``webhook.send`` takes it.
        status_code: What the receiver answered last, if it did.
        attempted_at_ms: When the last attempt began.
        duration_ms: How long it took.
        reason: What it came to, as a machine word.
        detail: The same as a sentence.
        response: What came back, masked.
    """

    call: Call
    payload: bytes
    status_code: int | None = None
    attempted_at_ms: int | None = None
    duration_ms: int | None = None
    reason: str | None = None
    detail: str | None = None
    response: str | None = None


class DeliveryCounts(msgspec.Struct, frozen=True):
    """How many deliveries of a subscription there are, ever; pruned ones included."""

    open: int = 0
    delivered: int = 0
    failed: int = 0


class Subscriptions:
    """The table family of subscriptions.

    Args:
        access: The journal.
        calls: Where deliveries are kept.
        clock: Where time is read.
    """

    def __init__(self, access: Access, calls: Calls, clock: Clock) -> None:
        self._access = access
        self._calls = calls
        self._clock = clock

    async def all(self) -> tuple[list[StoredSubscription], list[str]]:
        """Return all subscriptions, and the ids of those whose rows are damaged."""
        return own_rows.sorted_out(await self._access.rows(f"{own_rows.SUBSCRIPTION} ORDER BY seq"))

    async def list(
        self, within: str | None, *, before: int | None, limit: int
    ) -> list[StoredSubscription]:
        """Return subscriptions, the latest first; of one tenant, or of all."""
        bound = _BIG if before is None else before
        found, _ = own_rows.sorted_out(await self._access.rows(_LIST, (within, bound, limit)))
        return found

    async def get(self, subscription: str, within: str | None) -> StoredSubscription:
        """Return a subscription.

        Raises:
            NotFoundError: There is none of that id, or it is not that tenant's.
            DamagedError: Its row fails its checksum.
        """
        found = await self._access.rows(_OF_ID, (subscription, within))
        if not found:
            raise no_such_subscription(subscription)
        return own_rows.of_row(found[0])

    async def cursors(self) -> dict[str, Cursor]:
        """Return how far each has been told; damaged ones are left out."""
        found = await self._access.rows(own_rows.CURSOR)
        return {row[0]: own_rows.cursor_of(row) for row in found if _is_sound(row)}

    async def counts(self) -> dict[str, DeliveryCounts]:
        """Return how many deliveries there are, by connection."""
        found = await self._access.rows(_COUNTS)
        return {row[0]: DeliveryCounts(*row[1:]) for row in found}

    async def add(self, new: StoredSubscription, by: str) -> StoredSubscription:
        """Keep a subscription; it is told of what happens from now on.

        Raises:
            ConflictError: There are too many.
            JournalError: The journal is full or not open.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> StoredSubscription:
            count = transaction.db.execute("SELECT count(*) FROM subscription").fetchone()[0]
            if count >= MOST_SUBSCRIPTIONS:
                raise ConflictError(
                    f"there are {count} subscriptions, and no more are possible",
                    code="too_many_subscriptions",
                    hint="Delete those that are not needed any more.",
                )
            # Before its own event, of which it is told.
            here = transaction.chain.position[0]
            own_rows.store_cursor(transaction.db, Cursor(id=new.id, seq=here))
            kept = msgspec.structs.replace(new, seq=own_rows.store(transaction.db, new))
            _tell(transaction, "created", kept, new.created_at_ms, by=by, after=_shown(kept))
            return kept

        return await self._access.write(job)

    async def replace(
        self,
        subscription: str,
        within: str | None,
        terms: SubscriptionTerms,
        *,
        active: bool,
        by: str,
    ) -> StoredSubscription:
        """Change a subscription; one that the daemon had switched off goes on from where it stood.

        Raises:
            NotFoundError: There is none of that id, or it is not that tenant's.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> StoredSubscription:
            before = _get(transaction.db, subscription, within)
            after = msgspec.structs.replace(
                before,
                terms=terms,
                active=active,
                stopped=None if active else before.stopped,
                stopped_at_ms=None if active else before.stopped_at_ms,
                changed_at_ms=now_ms,
            )
            own_rows.store(transaction.db, after)
            if active:
                note_failing(transaction, subscription, None, None)
            shown = {"before": _shown(before), "after": _shown(after)}
            _tell(transaction, "changed", after, now_ms, by=by, **shown)
            return after

        return await self._access.write(job)

    async def note_rotated(
        self, subscription: str, within: str | None, by: str, **about: Any
    ) -> None:
        """Tell in the event log that a subscription's secret has changed."""
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> None:
            found = _get(transaction.db, subscription, within)
            _tell(transaction, "rotated", found, now_ms, by=by, **about)

        await self._access.write(job)

    async def remove(self, subscription: str, within: str | None, by: str) -> StoredSubscription:
        """Delete a subscription and call off its deliveries that wait.

        Raises:
            NotFoundError: There is none of that id, or it is not that tenant's.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> StoredSubscription:
            found = _get(transaction.db, subscription, within)
            connection = subscription_connection(subscription)
            for row in sqlite.fetch_all(transaction.db, _PENDING, (subscription, connection)):
                call = rows.call_of(row)
                settlement = cancel(call, by, now_ms)
                store_settlement(transaction, call, settlement, now_ms)
                transaction.told.append(CallChanged(settlement.call, settlement.rule))
            for table in ("subscription", "subscription_cursor"):
                transaction.db.execute(_DELETE[table], (subscription,))
            _tell(transaction, "deleted", found, now_ms, by=by, before=_shown(found))
            return found

        return await self._access.write(job, heavy=True)

    async def begin(self, subscription: str) -> None:
        """Have the app's own door be told from now on, if it is not yet told at all.

        Raises:
            DamagedError: How far it has been told cannot be read.
        """

        def job(transaction: Transaction) -> None:
            if own_rows.read_cursor(transaction.db, subscription) is None:
                here = transaction.chain.position[0]
                own_rows.store_cursor(transaction.db, Cursor(id=subscription, seq=here))

        await self._access.write(job)

    async def replay(self, found: StoredSubscription, after: int, upto: int, by: str) -> None:
        """Have the events with the numbers after ``after`` and up to ``upto`` told once more.

        Raises:
            ConflictError: That is under way for other events already.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> None:
            _get(transaction.db, found.id, found.tenant)
            cursor = own_rows.read_cursor(transaction.db, found.id)
            if cursor is None or cursor.replay_after is not None:
                raise ConflictError(
                    f"subscription {found.id} is being told events again already",
                    code="redelivery_under_way",
                    hint="Wait until it is over; GET shows where it stands.",
                )
            moved = msgspec.structs.replace(cursor, replay_after=after, replay_upto=upto)
            own_rows.store_cursor(transaction.db, moved)
            _tell(transaction, "redelivered", found, now_ms, by=by, after=after, upto=upto)

        await self._access.write(job)

    async def redeliver(self, terms: FeedTerms, call_id: str) -> Call:
        """Make a delivery once more, with the same body under the same id for the receiver.

        Raises:
            NotFoundError: The subscription has no such delivery.
        """
        detail = await self._calls.detail(call_id)
        if detail.call.requested_connection != terms.connection:
            raise NotFoundError(f"there is no delivery {call_id}", code="no_such_call")
        return await self.deliver(terms, detail.payload)

    async def deliver(self, terms: FeedTerms, payload: bytes) -> Call:
        """Keep one delivery that no cursor makes, such as a test."""
        now_ms = self._clock.now_ms()
        new = NewCall(call=delivery(terms, now_ms, None), payload=payload)
        (receipt,) = await self._calls.accept([new])
        return receipt.call or new.call

    async def deliveries(
        self, subscription: str, *, state: str | None, before: int | None, limit: int
    ) -> Sequence[StoredDelivery]:
        """Return deliveries, the latest first, each with its last attempt."""
        terms = {
            "subscription": subscription,
            "connection": subscription_connection(subscription),
            "state": state,
            "before": _BIG if before is None else before,
            "limit": limit,
        }
        found = await self._access.rows(_DELIVERIES, terms)
        return await sound(self._access, self._clock.now_ms(), found, _delivery_of)

    async def seq_at(self, at_ms: int) -> int:
        """Return the number of the last event from before a moment; 0 if there is none."""
        found = await self._access.rows_slowly(
            "SELECT coalesce(max(seq), 0) FROM event WHERE at_ms < ?", (at_ms,)
        )
        seq: int = found[0][0]
        return seq


def note_failing(
    transaction: Transaction, subscription: str, since_ms: int | None, failed_at_ms: int | None
) -> None:
    """Write since when a subscription's deliveries have been failing, without any success."""
    cursor = own_rows.read_cursor(transaction.db, subscription)
    if cursor is not None:
        moved = msgspec.structs.replace(
            cursor, failing_since_ms=since_ms, failed_at_ms=failed_at_ms
        )
        own_rows.store_cursor(transaction.db, moved)


def stop(transaction: Transaction, subscription: str, reason: str, now_ms: int) -> None:
    """Switch a subscription off by itself, and tell of it."""
    row = transaction.db.execute(_OF_ID, (subscription, None)).fetchone()
    found = own_rows.of_row(row) if row is not None else None
    if found is None or not found.active:
        return
    stopped = msgspec.structs.replace(
        found, active=False, stopped=reason, stopped_at_ms=now_ms, changed_at_ms=now_ms
    )
    own_rows.store(transaction.db, stopped)
    _tell(transaction, "disabled", stopped, now_ms, reason=reason, after=_shown(stopped))


def no_such_subscription(subscription: str) -> NotFoundError:
    """Return the error of an id that no subscription has."""
    return NotFoundError(
        f"there is no subscription {subscription[:80]!r}",
        code="no_such_subscription",
        hint="'integrationd subscriptions' lists them.",
    )


_DELETE = {
    "subscription": "DELETE FROM subscription WHERE id = ?",
    "subscription_cursor": "DELETE FROM subscription_cursor WHERE id = ?",
}


def _get(db: sqlite.Connection, subscription: str, within: str | None) -> StoredSubscription:
    row = db.execute(_OF_ID, (subscription, within)).fetchone()
    if row is None:
        raise no_such_subscription(subscription)
    return own_rows.of_row(row)


def _is_sound(row: sqlite.Row) -> bool:
    return rows.seal(*row[:-1]) == int(row[-1])


def _delivery_of(row: sqlite.Row) -> StoredDelivery:
    payload, status, started_ms, duration_ms, reason, detail, response = row[rows.CALL_WIDTH + 2 :]
    return StoredDelivery(
        call=rows.call_of(row),
        payload=payload,
        status_code=status,
        attempted_at_ms=started_ms,
        duration_ms=duration_ms,
        reason=reason,
        detail=detail,
        response=response,
    )


def _shown(one: StoredSubscription) -> dict[str, Any]:
    """Return what an event may tell of a subscription; the rest of its URL may be a secret."""
    parts = urlsplit(one.terms.url)
    shown: dict[str, Any] = msgspec.to_builtins(one.terms)
    return {**shown, "url": f"{parts.scheme}://{parts.netloc}", "active": one.active}


def _tell(
    transaction: Transaction, verb: str, one: StoredSubscription, now_ms: int, **data: Any
) -> None:
    """Append an administrative act, and have the daemon look anew once it is durable."""
    about = {"subscription": one.id, "name": one.terms.name, **data}
    event = EventRecord(type=f"subscription.{verb}", tenant=one.tenant, data=about)
    transaction.chain.append(transaction.db, event, now_ms)
    transaction.told.append(SubscriptionMoved(one.id, verb))
