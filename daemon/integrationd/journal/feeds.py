"""Feeding a subscription: events become calls as its line takes them, in the commit of the claim.

The cursor's step, the calls that it makes and their claim are one commit, so that each event is
told, and none twice. Only a small window of them is open at a time; what comes after stays in the
event log, where it costs nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec

from integrationd.call import (
    SUBSCRIPTION_PREFIX,
    WEBHOOK_OPERATION,
    Call,
    Priority,
    new_call_id,
    pinned_lane,
)
from integrationd.errors import DamagedError
from integrationd.journal import sqlite
from integrationd.journal.calls import Calls, NewCall
from integrationd.journal.event_log import EventFilter, EventPage, StoredEvent, read_after
from integrationd.journal.subscription_rows import Cursor, read_cursor, store_cursor
from integrationd.journal.writer import Transaction

# A cursor that only passes over events of others is written so often.
PASSED_OVER = 5000

# Not before the earlier ones of its key: until they are over, or until each was tried once.
_IS_FREE = (
    " NOT EXISTS (SELECT 1 FROM call AS o WHERE o.lane = r.lane"
    "  AND o.ordering_key = r.ordering_key AND o.ordering_key IS NOT NULL AND o.seq < r.seq"
    "  AND o.state IN ('pending', 'processing', 'unknown') AND o.damaged_at_ms IS NULL"
    "  AND (:is_ordered OR o.tries = 0 OR o.reason = 'interrupted'"
    "   OR (o.tries = 1 AND o.state = 'processing')))"
)
_DUE = " ".join(
    (
        "SELECT r.*, b.payload, b.metadata, b.sum FROM call_record AS r",
        "LEFT JOIN call_body AS b USING (seq)",
        "WHERE r.lane = :lane AND r.state = 'pending' AND r.due_at_ms <= :now",
        "AND r.damaged_at_ms IS NULL AND",
        _IS_FREE,
        "ORDER BY r.due_at_ms, r.seq LIMIT :limit",
    )
)
_NEXT = " ".join(
    (
        "SELECT min(r.due_at_ms) FROM call AS r WHERE r.lane = :lane AND r.state = 'pending'",
        "AND r.damaged_at_ms IS NULL AND",
        _IS_FREE,
    )
)
_OPEN = (
    "SELECT coalesce(sum(pending + processing + unknown), 0) FROM ledger"
    " WHERE tenant = ? AND connection = ?"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedTerms:
    """What is fed to whom.

    Attributes:
        subscription: The subscription's id.
        connection: The connection that is its own.
        tenant: Whose events; everybody's when None.
        deliveries_of: Whose calls the deliveries are.
        events: Names of events, prefixes such as ``payment.*``, or ``*``.
        scheme: ``standard`` or ``simple``.
        is_ordered: An event about a call waits until the one before it was taken.
        lives_ms: How long a delivery is tried, in milliseconds.
        window: How many deliveries may be open at a time.
        payload_of: Makes the payload of an event's delivery, given its id for receivers.
    """

    subscription: str
    connection: str
    tenant: str | None
    deliveries_of: str
    events: tuple[str, ...]
    scheme: str
    is_ordered: bool
    lives_ms: int
    window: int
    payload_of: Callable[[StoredEvent, str, str], bytes]

    @property
    def lane(self) -> str:
        """The lane of its deliveries."""
        return pinned_lane(self.connection, self.deliveries_of)

    @property
    def wanted(self) -> EventFilter:
        """Which events it is told of."""
        return EventFilter(types=self.events, tenant=self.tenant)


class Turn:
    """One claim of a feed; what came of it counts once the commit is durable.

    Args:
        terms: What is fed to whom.
        calls: Where deliveries are kept.
        after: A number up to which no event concerns it, beyond its cursor; 0 for none known.
        has_more: Whether there may be events to feed; else only what is open is claimed.

    Attributes:
        position: Up to which event it has been fed.
        is_at_end: Whether the log had no more, and nothing is told again.
    """

    def __init__(self, terms: FeedTerms, calls: Calls, after: int, *, has_more: bool) -> None:
        self._terms = terms
        self._calls = calls
        self._after = after
        self._has_more = has_more
        self._is_full = False
        self.position = after
        self.is_at_end = not has_more

    def fill(self, transaction: Transaction, now_ms: int, room: int) -> None:
        """Make deliveries of the next events, if what is open leaves room for any."""
        # Since it may run again after another member of its group has failed.
        self.is_at_end, self._is_full = not self._has_more, False
        if not self._has_more:
            return
        cursor = _sound_cursor(transaction.db, self._terms.subscription)
        if cursor is None:
            # Nobody knows what it was told; what is open still goes out.
            self.is_at_end = True
            return
        open_already = transaction.db.execute(
            _OPEN, (self._terms.deliveries_of, self._terms.connection)
        ).fetchone()[0]
        room = min(
            room - self._due_already(transaction.db, now_ms, room),
            self._terms.window - open_already,
        )
        self._is_full = room <= 0
        if room > 0:
            self._feed(transaction, cursor, now_ms, room)

    def due(self, db: sqlite.Connection, now_ms: int, limit: int) -> list[sqlite.Row]:
        """Return what may be claimed now, with its body."""
        return sqlite.fetch_all(db, _DUE, {**self._ordering(), "now": now_ms, "limit": limit})

    def next_ms(self, db: sqlite.Connection, now_ms: int) -> int | None:
        """Return when there is something to claim; None while only an event can tell."""
        if not self.is_at_end and not self._is_full:
            return now_ms
        found: int | None = db.execute(_NEXT, self._ordering()).fetchone()[0]
        return found

    def _due_already(self, db: sqlite.Connection, now_ms: int, limit: int) -> int:
        return len(self.due(db, now_ms, limit))

    def _ordering(self) -> dict[str, Any]:
        return {"lane": self._terms.lane, "is_ordered": int(self._terms.is_ordered)}

    def _feed(self, transaction: Transaction, cursor: Cursor, now_ms: int, room: int) -> None:
        position = max(cursor.seq, self._after)
        page = read_after(transaction.db, position, room, self._terms.wanted)
        made = self._make(transaction, page.events, now_ms)
        moved = msgspec.structs.replace(cursor, seq=page.upto)
        again_at_end = True
        if page.is_at_end and cursor.replay_after is not None:
            moved, again_at_end = self._feed_again(transaction, moved, now_ms, room - made)
            made += 1
        self.position = page.upto
        self.is_at_end = page.is_at_end and again_at_end
        if made or page.upto - cursor.seq >= PASSED_OVER:
            store_cursor(transaction.db, moved)

    def _feed_again(
        self, transaction: Transaction, cursor: Cursor, now_ms: int, room: int
    ) -> tuple[Cursor, bool]:
        """Make deliveries of what is to be told once more; return whether that is all."""
        after, upto = cursor.replay_after or 0, cursor.replay_upto or 0
        if room <= 0:
            return cursor, False
        page = _until(read_after(transaction.db, after, room, self._terms.wanted), upto)
        self._make(transaction, page.events, now_ms)
        if page.upto >= upto:
            ended = msgspec.structs.replace(cursor, replay_after=None, replay_upto=None)
            return ended, True
        return msgspec.structs.replace(cursor, replay_after=page.upto), False

    def _make(self, transaction: Transaction, events: tuple[StoredEvent, ...], now_ms: int) -> int:
        told = [event for event in events if is_told(event)]
        for event in told:
            webhook_id = _webhook_id(transaction.db, event.seq)
            payload = self._terms.payload_of(event, webhook_id, self._terms.scheme)
            call = delivery(self._terms, now_ms, event.call_id)
            self._calls.insert(transaction, NewCall(call=call, payload=payload))
        return len(told)


def delivery(terms: FeedTerms, now_ms: int, ordering_key: str | None) -> Call:
    """Return the call that delivers something to a subscription."""
    return Call(
        id=new_call_id(now_ms),
        tenant=terms.deliveries_of,
        operation=WEBHOOK_OPERATION,
        lane=terms.lane,
        connection=terms.connection,
        requested_connection=terms.connection,
        priority=Priority.NORMAL,
        ordering_key=ordering_key,
        created_at_ms=now_ms,
        due_at_ms=now_ms,
        give_up_at_ms=now_ms + terms.lives_ms,
        reference_type="subscription",
        reference_id=terms.subscription,
    )


def is_told(event: StoredEvent) -> bool:
    """Say whether subscribers hear of an event; not of how telling them goes.

    A breaker that opens towards one of them would else be something more to tell it.
    """
    return not (event.connection or "").startswith(SUBSCRIPTION_PREFIX)


def _sound_cursor(db: sqlite.Connection, subscription: str) -> Cursor | None:
    try:
        return read_cursor(db, subscription)
    except DamagedError:
        return None


def _until(page: EventPage, upto: int) -> EventPage:
    events = tuple(event for event in page.events if event.seq <= upto)
    return dataclasses.replace(page, events=events)


def _webhook_id(db: sqlite.Connection, seq: int) -> str:
    """Return an event's id for receivers: its number, and what no other daemon's event has."""
    row = db.execute("SELECT hex(substr(mac, 1, 8)) FROM event WHERE seq = ?", (seq,)).fetchone()
    return f"evt_{seq}_{row[0].lower()}"
