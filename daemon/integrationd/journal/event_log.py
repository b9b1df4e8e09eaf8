"""The event log: facts that no other change tells of are appended here, all are read here.

It is read from a cursor, in order, in steps: each looks at a limited number of events however few
of them match, and says how far it has come. So a reader whose filter matches nothing in a million
events costs no more than any other.
"""

import dataclasses
from collections.abc import Sequence
from typing import overload

import msgspec

from integrationd.call import EventRecord
from integrationd.errors import UnprocessableError
from integrationd.journal import sqlite
from integrationd.journal.access import Access
from integrationd.journal.writer import Transaction

# So many events are looked at in one step.
STEP = 10_000


class StoredEvent(msgspec.Struct, frozen=True):
    """One fact of the log.

    Attributes:
        seq: Its number; numbers have no gaps.
        at_ms: When it was appended, UTC milliseconds.
        type: Dotted name.
        tenant: Whose fact it is, or None.
        call_id: The call that it is about, or None.
        connection: The connection that it is about, or None.
        data: What happened, as JSON text.
    """

    seq: int
    at_ms: int
    type: str
    tenant: str | None
    call_id: str | None
    connection: str | None
    data: str


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to read; what is empty or None asks for nothing.

    Attributes:
        types: Any of these: names as they are, or ``payment.*`` for all that begin so. Of letters,
            digits, dots and underscores only; whoever takes them from outside checks that.
        tenant: Whose facts; those that are nobody's are left out.
        call_id: About this call.
        connection: About this connection.
    """

    types: tuple[str, ...] = ()
    tenant: str | None = None
    call_id: str | None = None
    connection: str | None = None

    def matches(self, event: StoredEvent) -> bool:
        """Say whether an event is one of those."""
        return (
            (not self.types or any(_is_of(event.type, one) for one in self.types))
            and self.tenant in (None, event.tenant)
            and self.call_id in (None, event.call_id)
            and self.connection in (None, event.connection)
        )


EVERYTHING = EventFilter()


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An app's own event.

    Attributes:
        record: What it tells, and whose it is.
        idempotency_key: The app's key, or None.
        digest: SHA-256 of the parsed request, compared when the key comes again.
    """

    record: EventRecord
    idempotency_key: str | None = None
    digest: bytes = b""


class Published(msgspec.Struct, frozen=True):
    """What became of an app's own event.

    Attributes:
        seq: Its number.
        at_ms: When it was appended, UTC milliseconds.
        is_replay: It had been published before under the same idempotency key.
    """

    seq: int
    at_ms: int
    is_replay: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class EventPage(Sequence[StoredEvent]):
    """Events in the order of the log, and how far they reach.

    Attributes:
        events: The events.
        upto: Go on after this number: every event up to it that matches is among these.
        first: The lowest number that is still kept; 0 in an empty log.
        last: The highest number, when this was read.
    """

    events: tuple[StoredEvent, ...]
    upto: int
    first: int
    last: int

    @property
    def is_at_end(self) -> bool:
        """Whether there was nothing more to look at."""
        return self.upto >= self.last

    def __len__(self) -> int:
        """Return how many events there are."""
        return len(self.events)

    @overload
    def __getitem__(self, index: int) -> StoredEvent: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StoredEvent]: ...
    def __getitem__(self, index: int | slice) -> StoredEvent | Sequence[StoredEvent]:
        """Return one of the events, or some."""
        return self.events[index]


class EventLog:
    """The table of events."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def append(self, event: EventRecord, now_ms: int) -> None:
        """Append a fact that no call's change tells of.

        Raises:
            JournalError: The journal is full or not open.
        """
        await self._access.write(lambda writing: writing.chain.append(writing.db, event, now_ms))

    async def publish(self, new: NewEvent, now_ms: int) -> Published:
        """Append an app's own event, once for each idempotency key; durable when this returns.

        Raises:
            UnprocessableError: The key came before with another request.
            JournalFullError: The disk is full.
            JournalUnavailableError: The journal is recovering.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> Published:
            known = _known(transaction.db, new)
            if known is not None:
                return known
            seq = transaction.chain.append(transaction.db, new.record, now_ms)
            if new.idempotency_key is not None:
                transaction.db.execute(
                    "INSERT INTO event_key (tenant, key, digest, event_seq, created_at_ms)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (new.record.tenant, new.idempotency_key, new.digest, seq, now_ms),
                )
            return Published(seq, now_ms)

        return await self._access.write(job)

    async def after(self, seq: int, limit: int, wanted: EventFilter = EVERYTHING) -> EventPage:
        """Return events with a greater number, in order; at most one step's worth is looked at.

        Args:
            seq: The number of the last event that is known already; 0 for none.
            limit: How many at most.
            wanted: Which of them.
        """
        found = await self._access.rows(*_reading(seq, limit, wanted))
        return _page(found, seq, limit)

    async def latest(self, limit: int, wanted: EventFilter = EVERYTHING) -> EventPage:
        """Return the last events of the log, in order; at most one step's worth is looked at.

        Args:
            limit: How many at most; with 0 only the end is told.
            wanted: Which of them.
        """
        sql = _LATEST_OF_CALL if wanted.call_id is not None else _LATEST
        found = await self._access.rows(sql, _terms(wanted, 0, limit))
        page = _page(found, 0, limit)
        return dataclasses.replace(page, upto=page.last)


def read_after(
    db: sqlite.Connection, seq: int, limit: int, wanted: EventFilter = EVERYTHING
) -> EventPage:
    """Return events with a greater number as they stand inside a write; see ``EventLog.after``."""
    return _page(sqlite.fetch_all(db, *_reading(seq, limit, wanted)), seq, limit)


def _known(db: sqlite.Connection, new: NewEvent) -> Published | None:
    if new.idempotency_key is None:
        return None
    found = db.execute(
        "SELECT digest, event_seq, created_at_ms FROM event_key WHERE tenant = ? AND key = ?",
        (new.record.tenant, new.idempotency_key),
    ).fetchone()
    if found is None:
        return None
    if found[0] != new.digest:
        raise UnprocessableError(
            "this Idempotency-Key was used before with another event",
            code="idempotency_mismatch",
            hint="Use a new key for a new event; repeat one with exactly the same body.",
        )
    return Published(found[1], found[2], is_replay=True)


def _reading(seq: int, limit: int, wanted: EventFilter) -> tuple[str, dict[str, object]]:
    sql = _AFTER_OF_CALL if wanted.call_id is not None else _AFTER
    return sql, _terms(wanted, seq, limit)


def _terms(wanted: EventFilter, seq: int, limit: int) -> dict[str, object]:
    return {
        "after": seq,
        "limit": limit,
        "step": STEP,
        # A name is a pattern of GLOB that matches itself; a prefix with its star is one too.
        "one_type": wanted.types[0] if len(wanted.types) == 1 else None,
        "types": msgspec.json.encode(wanted.types).decode() if len(wanted.types) > 1 else None,
        "tenant": wanted.tenant,
        "call_id": wanted.call_id,
        "connection": wanted.connection,
    }


def _page(found: Sequence[sqlite.Row], after: int, limit: int) -> EventPage:
    """Read rows of first, last, the end of the step, and an event or nothing."""
    first, last, looked_at = found[0][:3] if found else (0, 0, after)
    events = tuple(StoredEvent(*row[3:]) for row in found if row[3] is not None)
    upto = events[-1].seq if events and len(events) >= limit else max(after, looked_at)
    return EventPage(events=events, upto=upto, first=first, last=last)


def _is_of(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


_FIRST = "coalesce((SELECT min(seq) FROM event), 0)"
_LAST = "coalesce((SELECT max(seq) FROM event), 0)"
# How far a step reaches: from the cursor, or from the first event that is still kept.
_REACH = f"min(max(:after, {_FIRST} - 1) + :step, {_LAST})"
_EVENTS = "SELECT seq, at_ms, type, tenant, call_id, connection, data FROM event WHERE "
_MATCHES = (
    " AND (:one_type IS NULL OR type GLOB :one_type)"
    # json_each has a type of its own.
    " AND (:types IS NULL"
    "  OR EXISTS (SELECT 1 FROM json_each(:types) WHERE event.type GLOB value))"
    " AND (:tenant IS NULL OR tenant = :tenant)"
    " AND (:connection IS NULL OR connection = :connection)"
)
_BESIDE = ", e.* FROM (SELECT 1) LEFT JOIN "
_OF_CALL = " AND call_id = :call_id AND call_id IS NOT NULL"


def _statement(upto: str, where: str, order: str) -> str:
    """Return a SELECT that tells the ends of the log and the events as of one moment.

    Where no event matches, one row still tells the ends.
    """
    ends = ", ".join((_FIRST, _LAST, upto))
    events = f"{_EVENTS}{where}{_MATCHES} ORDER BY seq {order} LIMIT :limit"
    return "".join(("SELECT ", ends, _BESIDE, "(", events, ") AS e ORDER BY e.seq"))


_AFTER = _statement(_REACH, f"seq > :after AND seq <= {_REACH}", "ASC")
# All events of one call are found by their index, however many others there are.
_AFTER_OF_CALL = _statement(_LAST, f"seq > :after{_OF_CALL}", "ASC")
_LATEST = _statement(_LAST, f"seq > {_LAST} - :step", "DESC")
_LATEST_OF_CALL = _statement(_LAST, f"seq > :after{_OF_CALL}", "DESC")
