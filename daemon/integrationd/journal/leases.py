"""Leases: calls claimed for an attempt, settled under the lease, reclaimed when it is over."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from integrationd.call import Attempt, AttemptKind, Call, CallState, Lease, Part, Priority
from integrationd.clock import Clock
from integrationd.errors import DamagedError
from integrationd.events import AttemptEnded, CallChanged
from integrationd.journal import rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.calls import PARTS, parts_of
from integrationd.journal.damage import set_aside, sound
from integrationd.journal.settled import (
    ChangedError,
    is_stored,
    store_attempt,
    store_settlement,
)
from integrationd.journal.writer import Transaction
from integrationd.settlement import Settlement

# The body is joined from the left, so that a call that has lost its own is found out.
_WITH_BODY = (
    "SELECT r.*, b.payload, b.metadata, b.sum FROM call_record AS r"
    " LEFT JOIN call_body AS b USING (seq)"
)
# Answered from the index alone: most of these find nothing, and a whole record has forty columns.
_DUE = (
    "SELECT seq FROM call WHERE lane = ? AND priority = ? AND state = 'pending'"
    " AND due_at_ms <= ? AND damaged_at_ms IS NULL ORDER BY due_at_ms LIMIT ?"
)
_OF_SEQS = _WITH_BODY + (  # noqa: S608 - two constants
    " WHERE r.seq IN (SELECT value FROM json_each(?))"
)
_TO_ASK = _WITH_BODY + (
    " WHERE r.connection = ? AND r.tenant = ? AND r.ask_at_ms <= ? AND r.ask_at_ms IS NOT NULL"
    " AND r.lease_id IS NULL AND r.damaged_at_ms IS NULL ORDER BY r.ask_at_ms LIMIT ?"
)
_LEASED = _WITH_BODY + (
    " WHERE r.lease_id IS NOT NULL AND r.lease_until_ms <= ? AND r.damaged_at_ms IS NULL"
    " ORDER BY r.seq LIMIT ?"
)
_PAST_DEADLINE = (
    "SELECT * FROM call_record WHERE state = 'pending' AND damaged_at_ms IS NULL"
    " AND coalesce(min(expires_at_ms, give_up_at_ms), give_up_at_ms) <= :now"
    " AND (:gives_up OR expires_at_ms <= :now)"
    " ORDER BY coalesce(min(expires_at_ms, give_up_at_ms), give_up_at_ms) LIMIT :limit"
)
# Every lane with pending calls, by one index seek each.
LANES = (
    "WITH RECURSIVE lane(name) AS ("
    " SELECT min(lane) FROM call WHERE state = 'pending' AND damaged_at_ms IS NULL"
    " UNION ALL"
    " SELECT (SELECT min(lane) FROM call WHERE lane > name AND state = 'pending'"
    "  AND damaged_at_ms IS NULL)"
    " FROM lane WHERE name IS NOT NULL)"
    " SELECT name FROM lane WHERE name IS NOT NULL"
)
_FAR_FUTURE = 1 << 62
_HAS_PARTS = rows.CALL_COLUMNS.index("parts")

# Of this many claimed calls of a lane one is taken from the least urgent end, so that a starved
# low call still moves.
STARVATION_SHARE = 10


class Feeding(Protocol):
    """What makes calls as they are claimed."""

    def fill(self, transaction: Transaction, now_ms: int, room: int) -> None:
        """Make the next calls, at most so many."""
        ...

    def due(self, db: sqlite.Connection, now_ms: int, limit: int) -> list[sqlite.Row]:
        """Return what may be claimed now, with its body."""
        ...

    def next_ms(self, db: sqlite.Connection, now_ms: int) -> int | None:
        """Return when there is something to claim; None while only an event can tell."""
        ...


class Leases:
    """Claims, settles and reclaims."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._last_id = 0
        self._claimed: dict[str, int] = {}

    def begin_after(self, lease_id: int) -> None:
        """Give the next lease a greater id; told when the journal is opened."""
        self._last_id = max(self._last_id, lease_id)

    async def claim(
        self, lane: str, connection: str, limit: int, lease_ms: int
    ) -> tuple[list[Lease], int | None]:
        """Lease up to ``limit`` due calls of a lane for a send through ``connection``.

        The claim is durable when this returns. The most urgent calls come first.

        Returns:
            The leases, and when the lane may have work next: None if it has none, now if as many
            were taken as were asked for.
        """

        def job(transaction: Transaction) -> tuple[list[Lease], int | None]:
            now_ms = self._clock.now_ms()
            found = self._due_calls(transaction, lane, now_ms, limit)
            leases = [
                self._lease_to_send(transaction, one, connection, now_ms + lease_ms)
                for one in found
            ]
            self._count(lane, len(leases))
            # A full claim leaves the question to the next one, which often makes it needless.
            is_full = len(leases) == limit
            return leases, now_ms if is_full else next_due_ms(transaction.db, lane)

        return await self._access.write(job)

    async def claim_from(
        self, feed: Feeding, connection: str, limit: int, lease_ms: int
    ) -> tuple[list[Lease], int | None]:
        """Lease up to ``limit`` calls of a feed, which may make them in the same commit.

        Returns:
            The leases, and when the feed may have more: None while only an event can tell.
        """

        def job(transaction: Transaction) -> tuple[list[Lease], int | None]:
            now_ms = self._clock.now_ms()
            feed.fill(transaction, now_ms, limit)
            found = feed.due(transaction.db, now_ms, limit)
            opened = [_open(transaction, row, now_ms) for row in found]
            leases = [
                self._lease_to_send(transaction, one, connection, now_ms + lease_ms)
                for one in opened
                if one is not None
            ]
            is_full = len(found) == limit
            return leases, now_ms if is_full else feed.next_ms(transaction.db, now_ms)

        return await self._access.write(job)

    def _due_calls(
        self, transaction: Transaction, lane: str, now_ms: int, limit: int
    ) -> list[Lease]:
        """Return what may be leased, the most urgent first; what is damaged is set aside."""
        seqs = self._due_seqs(transaction.db, lane, now_ms, limit)
        if not seqs:
            return []
        found = sqlite.fetch_all(transaction.db, _OF_SEQS, (str(seqs),))
        opened = {row[0]: _open(transaction, row, now_ms) for row in found}
        taken = [one for one in map(opened.get, seqs) if one is not None]
        return sorted(taken, key=lambda one: one.call.priority)

    def _due_seqs(self, db: sqlite.Connection, lane: str, now_ms: int, limit: int) -> list[int]:
        starved = (self._claimed.get(lane, 0) + limit) // STARVATION_SHARE
        taken: dict[int, None] = {}

        def take(priority: Priority, most: int) -> None:
            # Those already taken may come again, so that there may be too many.
            found = db.execute(_DUE, (lane, priority, now_ms, most)).fetchall()
            taken.update(dict.fromkeys(seq for (seq,) in found))

        for priority in reversed(Priority):
            if starved > len(taken):
                take(priority, starved - len(taken))
        for priority in Priority:
            if len(taken) < limit:
                take(priority, limit)
        return list(taken)[:limit]

    def _count(self, lane: str, claimed: int) -> None:
        """Remember how far the lane is on its way to its next claim from the least urgent end."""
        on_the_way = (self._claimed.pop(lane, 0) + claimed) % STARVATION_SHARE
        if on_the_way:
            self._claimed[lane] = on_the_way

    def _lease_to_send(
        self, transaction: Transaction, found: Lease, connection: str, until_ms: int
    ) -> Lease:
        self._last_id += 1
        call = found.call
        leased = call.replace(
            state=CallState.PROCESSING,
            revision=call.revision + 1,
            connection=connection,
            tries=call.tries + 1,
            due_at_ms=None,
            lease_id=self._last_id,
            last_lease_id=self._last_id,
            lease_until_ms=until_ms,
        )
        _store(transaction, rows.CLAIM_CALL, rows.claim_values(leased, call.revision))
        return Lease(call=leased, payload=found.payload, kind=AttemptKind.SEND, parts=found.parts)

    async def claim_to_ask(
        self, connection: str, tenant: str, limit: int, lease_ms: int
    ) -> tuple[list[Lease], int | None]:
        """Lease up to ``limit`` waiting or unknown calls of a tenant that are to be asked about.

        Returns:
            The leases, and when there is something of the tenant to ask next.
        """

        def job(transaction: Transaction) -> tuple[list[Lease], int | None]:
            now_ms = self._clock.now_ms()
            found = sqlite.fetch_all(transaction.db, _TO_ASK, (connection, tenant, now_ms, limit))
            opened = [_open(transaction, row, now_ms) for row in found]
            leases = [
                self._lease_to_ask(transaction, one, now_ms + lease_ms) for one in opened if one
            ]
            return leases, next_ask_ms(transaction.db, connection, tenant)

        return await self._access.write(job)

    def _lease_to_ask(self, transaction: Transaction, found: Lease, until_ms: int) -> Lease:
        self._last_id += 1
        call = found.call
        leased = call.replace(
            revision=call.revision + 1, lease_id=self._last_id, lease_until_ms=until_ms
        )
        _store(transaction, rows.STORE_CALL, rows.store_values(leased, call.revision))
        return Lease(call=leased, payload=found.payload, kind=AttemptKind.QUERY, parts=found.parts)

    async def settle(
        self,
        lease: Lease,
        settlement: Settlement,
        attempt: Attempt | None = None,
        beside: Callable[[Transaction], None] | None = None,
    ) -> Call | None:
        """Write what became of a leased call, as often as it takes, and return None.

        If the lease is no longer ours, nothing but the attempt is written and the call as it now
        stands is returned; the caller weighs the result as late evidence.

        Args:
            lease: The lease under which the attempt was made.
            settlement: What to write.
            attempt: The exchange, if there was one.
            beside: Further statements for the same commit.
        """

        def job(transaction: Transaction) -> Call | None:
            try:
                # The revision changes with the lease, so it guards both.
                now_ms = self._clock.now_ms()
                store_settlement(transaction, lease.call, settlement, now_ms, attempt)
            except ChangedError:
                return self._settled_otherwise(transaction, lease, settlement, attempt)
            if beside is not None:
                beside(transaction)
            if attempt is not None:
                transaction.told.append(AttemptEnded(settlement.call, attempt))
            transaction.told.append(CallChanged(settlement.call, settlement.rule))
            return None

        return await self._access.write_surely(job)

    def _settled_otherwise(
        self,
        transaction: Transaction,
        lease: Lease,
        settlement: Settlement,
        attempt: Attempt | None,
    ) -> Call | None:
        current = _current(transaction.db, lease.call.seq)
        if current is None or current == settlement.call:
            # Pruned, or kept before by a commit of which nobody could tell.
            return None
        if attempt is None:
            return current
        if is_stored(transaction.db, settlement.call, attempt, settlement.rule):
            return None
        if not is_stored(transaction.db, lease.call, attempt, "late"):
            store_attempt(transaction, lease.call, attempt, "late")
        return current

    async def look(self, seq: int) -> tuple[Call | None, tuple[Part, ...]]:
        """Return a call and its parts as they stand now; None if it has been pruned."""

        def job(transaction: Transaction) -> tuple[Call | None, tuple[Part, ...]]:
            current = _current(transaction.db, seq)
            return current, parts_of(transaction.db, current) if current else ()

        return await self._access.write_surely(job)

    async def store_late(self, before: Call, settlement: Settlement) -> bool:
        """Write what late evidence means; return False if the call has moved again meanwhile."""

        def job(transaction: Transaction) -> bool:
            current = _current(transaction.db, before.seq)
            if current is None or current.revision != before.revision:
                return False
            store_settlement(transaction, before, settlement, self._clock.now_ms())
            transaction.told.append(CallChanged(settlement.call, settlement.rule))
            return True

        return await self._access.write_surely(job)

    async def leased(self, until_ms: int | None, limit: int) -> list[Lease]:
        """Return the leases that were over at ``until_ms``, or all of them when None."""
        bound = _FAR_FUTURE if until_ms is None else until_ms
        found = await self._access.rows(_LEASED, (bound, limit))
        parts = {
            row[0]: await self._access.rows(PARTS, (row[0],)) for row in found if row[_HAS_PARTS]
        }
        return await sound(
            self._access,
            self._clock.now_ms(),
            found,
            lambda row: _lease_of(row, parts.get(row[0], ())),
        )

    async def past_deadline(self, limit: int, *, gives_up: bool = True) -> list[Call]:
        """Return pending calls whose time to expire has come, or to give up, where that counts."""
        now_ms = self._clock.now_ms()
        terms = {"now": now_ms, "limit": limit, "gives_up": gives_up}
        found = await self._access.rows(_PAST_DEADLINE, terms)
        return await sound(self._access, now_ms, found, rows.call_of)

    async def next_deadline_ms(self) -> int | None:
        """Return when the next pending call expires or is given up."""
        found = await self._access.rows(
            "SELECT min(coalesce(min(expires_at_ms, give_up_at_ms), give_up_at_ms)) FROM call"
            " WHERE state = 'pending' AND damaged_at_ms IS NULL"
        )
        due: int | None = found[0][0]
        return due

    async def lease_one(self, call: Call, connection: str, lease_ms: int) -> Lease | None:
        """Lease one pending call whatever its due time, to settle it without an attempt."""

        def job(transaction: Transaction) -> Lease | None:
            current = _current(transaction.db, call.seq)
            if current is None or current.revision != call.revision:
                return None
            parts = parts_of(transaction.db, call)
            found = Lease(call=call, payload=b"", kind=AttemptKind.SEND, parts=parts)
            until_ms = self._clock.now_ms() + lease_ms
            return self._lease_to_send(transaction, found, connection, until_ms)

        return await self._access.write(job)

    async def expire(self, settled: Sequence[tuple[Call, Settlement]]) -> None:
        """Write the settlements of expired calls, leaving out any that has moved meanwhile."""

        def job(transaction: Transaction) -> None:
            now_ms = self._clock.now_ms()
            for before, settlement in settled:
                with contextlib.suppress(ChangedError):
                    store_settlement(transaction, before, settlement, now_ms)
                    transaction.told.append(CallChanged(settlement.call, settlement.rule))

        await self._access.write_surely(job)

    async def lanes(self) -> list[str]:
        """Return every lane with pending calls."""
        return [row[0] for row in await self._access.rows_slowly(LANES)]

    async def to_ask(self) -> list[tuple[str, str]]:
        """Return the connections and tenants with calls that are to be asked about."""
        found = await self._access.rows_slowly(
            "SELECT DISTINCT connection, tenant FROM call WHERE ask_at_ms IS NOT NULL"
            " AND lease_id IS NULL AND damaged_at_ms IS NULL"
        )
        return [(row[0], row[1]) for row in found]


def next_due_ms(db: sqlite.Connection, lane: str) -> int | None:
    """Return when the lane has work next: one index seek per priority."""
    dues = [
        db.execute(
            "SELECT min(due_at_ms) FROM call WHERE lane = ? AND priority = ?"
            " AND state = 'pending' AND damaged_at_ms IS NULL",
            (lane, priority),
        ).fetchone()[0]
        for priority in (0, 1, 2)
    ]
    return min((due for due in dues if due is not None), default=None)


def next_ask_ms(db: sqlite.Connection, connection: str, tenant: str) -> int | None:
    """Return when the connection has something of the tenant to ask next."""
    found: int | None = db.execute(
        "SELECT min(ask_at_ms) FROM call WHERE connection = ? AND tenant = ?"
        " AND ask_at_ms IS NOT NULL AND lease_id IS NULL AND damaged_at_ms IS NULL",
        (connection, tenant),
    ).fetchone()[0]
    return found


def _store(transaction: Transaction, statement: str, values: sqlite.Parameters) -> None:
    if transaction.db.execute(statement, values).rowcount != 1:
        # A lease that is not written would be given out, and sent, again and again.
        raise DamagedError("an index of the journal names a call that cannot be leased")


def _current(db: sqlite.Connection, seq: int) -> Call | None:
    found = sqlite.fetch_all(db, "SELECT * FROM call_record WHERE seq = ?", (seq,))
    return rows.call_of(found[0]) if found else None


def _open(transaction: Transaction, row: sqlite.Row, now_ms: int) -> Lease | None:
    """Return what a joined row holds, or set the call aside if it is damaged."""
    parts = sqlite.fetch_all(transaction.db, PARTS, (row[0],)) if row[_HAS_PARTS] else ()
    try:
        return _lease_of(row, parts)
    except DamagedError as error:
        set_aside(transaction, row, str(error), now_ms)
        return None


def _lease_of(row: sqlite.Row, parts: Sequence[sqlite.Row]) -> Lease:
    call = rows.call_of(row)
    payload, metadata, body_sum = row[rows.CALL_WIDTH + 2 :]
    rows.check(f"the payload of call {call.id}", body_sum, call.seq, payload, metadata)
    kind = AttemptKind.SEND if call.state is CallState.PROCESSING else AttemptKind.QUERY
    return Lease(call=call, payload=payload, kind=kind, parts=rows.parts_of(call, parts))
