"""Retention: what is over is pruned in small steps, so that no write waits for it.

A walk over a table looks at so many rows at most and goes on from there in the next step, so its
cost is bounded whatever the tenants keep. What goes of the attempts is told by an event, what goes
of the events by a signed anchor, so that the log still proves that nothing else went.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from integrationd.clock import Clock
from integrationd.journal import sqlite
from integrationd.journal.access import Access
from integrationd.journal.chain import (
    FIRST_HEAD,
    pruned_event,
    ranges_event,
    sign_anchor,
    sign_attempts,
)
from integrationd.journal.evidence import follows, merged, pruned_ranges
from integrationd.journal.writer import Transaction

STEP = 200
LOOKED_AT = 5_000
LOOKS = 20
IDEMPOTENCY_KEPT_MS = 7 * 24 * 3600 * 1000


class KeptHere(msgspec.Struct, frozen=True, kw_only=True):
    """How long a tenant's things are kept, where that differs; in milliseconds after their end."""

    calls_ms: int | None = None
    attempts_ms: int | None = None
    inbox_ms: int | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How long each class is kept, in milliseconds after its end.

    Attributes:
        by_tenant: What differs, by tenant.
    """

    calls_ms: int
    attempts_ms: int
    events_ms: int
    inbox_ms: int = 90 * 24 * 3600 * 1000
    by_tenant: Mapping[str, KeptHere] = msgspec.field(default_factory=dict)


class _Periods(NamedTuple):
    """How long one class is kept: as a rule, and by tenant."""

    usual_ms: int
    by_tenant: Mapping[str, int]

    def of(self, tenant: str) -> int:
        return self.by_tenant.get(tenant, self.usual_ms)

    @property
    def shortest_ms(self) -> int:
        return min((self.usual_ms, *self.by_tenant.values()))


class _Walk:
    """Goes over a table in the order of its numbers, and begins anew at its end.

    Args:
        statement: Selects number, tenant, when the row began and when it was over (None while it
            is not), for numbers over the first parameter, at most so many as the second.
    """

    def __init__(self, access: Access, statement: str) -> None:
        self._access = access
        self._statement = statement
        self._after = 0

    async def next(self, periods: _Periods, now_ms: int) -> list[int]:
        """Return the next numbers of what has been kept long enough, a step of them at most."""
        for _ in range(LOOKS):
            rows = await self._access.rows_slowly(self._statement, (self._after, LOOKED_AT))
            chosen = self._choose(rows, periods, now_ms)
            if chosen or not self._after:
                return chosen
        return []

    def _choose(self, rows: Sequence[sqlite.Row], periods: _Periods, now_ms: int) -> list[int]:
        chosen: list[int] = []
        for seq, tenant, began_ms, over_ms in rows:
            if began_ms >= now_ms - periods.shortest_ms:
                break
            self._after = seq
            if over_ms is not None and over_ms < now_ms - periods.of(tenant):
                chosen.append(seq)
                if len(chosen) == STEP:
                    return chosen
        else:
            if len(rows) == LOOKED_AT:
                return chosen
        # Everything that can be over has been looked at: begin again.
        self._after = 0
        return chosen


class Retention:
    """Prunes finished calls, attempts, webhooks, events and idempotency keys."""

    def __init__(self, access: Access, clock: Clock, kept: Kept, key: bytes) -> None:
        self._access = access
        self._clock = clock
        self._kept = kept
        self._key = key
        self._calls = _Walk(access, _CALLS)
        self._attempts = _Walk(access, _ATTEMPTS)
        self._inbox = _Walk(access, _INBOX)

    def use(self, kept: Kept) -> None:
        """Keep each class for another time from now on."""
        self._kept = kept

    async def prune_once(self) -> int:
        """Prune one step of every class and return how many rows went."""
        now_ms = self._clock.now_ms()
        gone = await self._prune_calls(now_ms)
        gone += await self._prune_attempts(now_ms)
        gone += await self._prune_events(now_ms)
        gone += await self._prune_inbox(now_ms)
        for oldest, delete in _KEYS:
            gone += await self._prune_keys(now_ms - IDEMPOTENCY_KEPT_MS, oldest, delete)
        return gone

    def _periods(self, usual_ms: int, of: Callable[[KeptHere], int | None]) -> _Periods:
        given = {tenant: of(kept) for tenant, kept in self._kept.by_tenant.items()}
        return _Periods(usual_ms, {tenant: ms for tenant, ms in given.items() if ms is not None})

    async def _prune_calls(self, now_ms: int) -> int:
        """Delete finished calls; the newest stays, so that numbers only grow."""
        periods = self._periods(self._kept.calls_ms, lambda kept: kept.calls_ms)
        over = [(seq,) for seq in await self._calls.next(periods, now_ms)]

        def job(transaction: Transaction) -> None:
            db = transaction.db
            found = [row for seq in over for row in db.execute(_ATTEMPTS_OF_CALL, seq)]
            for statement in _DELETE_CALL:
                db.executemany(statement, over)
            _delete_attempts(transaction, sorted(seq for (seq,) in found), now_ms)

        if over:
            await self._access.write(job, heavy=True)
        return len(over)

    async def _prune_attempts(self, now_ms: int) -> int:
        periods = self._periods(self._kept.attempts_ms, lambda kept: kept.attempts_ms)
        over = await self._attempts.next(periods, now_ms)
        if over:
            await self._access.write(
                lambda transaction: _delete_attempts(transaction, over, now_ms), heavy=True
            )
        return len(over)

    async def _prune_inbox(self, now_ms: int) -> int:
        """Delete webhooks that are done with."""
        periods = self._periods(self._kept.inbox_ms, lambda kept: kept.inbox_ms)
        over = [(seq,) for seq in await self._inbox.next(periods, now_ms)]
        if over:
            await self._access.write(
                lambda transaction: transaction.db.executemany(
                    "DELETE FROM inbox WHERE seq = ? AND state NOT IN ('new', 'held')", over
                ),
                heavy=True,
            )
        return len(over)

    async def _prune_keys(self, before_ms: int, oldest: str, delete: str) -> int:
        found = await self._access.rows(oldest)
        if found[0][0] is None or found[0][0] >= before_ms:
            return 0
        return await self._access.write(
            lambda transaction: transaction.db.execute(delete, (before_ms, STEP)).rowcount
        )

    async def _prune_events(self, now_ms: int) -> int:
        """Delete the oldest events and sign the place where the chain now begins.

        What does not verify stays, and so does all after it: it is evidence.
        """
        before_ms = now_ms - self._kept.events_ms
        found = await self._access.rows("SELECT at_ms FROM event ORDER BY seq LIMIT 1")
        if not found or found[0][0] >= before_ms:
            return 0
        return await self._access.write(
            lambda transaction: self._delete_events(transaction, before_ms, now_ms), heavy=True
        )

    def _delete_events(self, transaction: Transaction, before_ms: int, now_ms: int) -> int:
        db = transaction.db
        seq, head = db.execute("SELECT seq, mac FROM event_anchor").fetchone() or (0, FIRST_HEAD)
        first, ranges = seq, list[tuple[int, int]]()
        for row in db.execute(_OLDEST_EVENTS, (STEP,)):
            is_next = row[0] == seq + 1 and follows(self._key, head, row)
            if row[1] >= before_ms or not is_next:
                break
            seq, head = row[0], row[7]
            ranges += pruned_ranges(row[2], row[6])
        if seq == first:
            return 0
        db.execute("DELETE FROM event WHERE seq <= ?", (seq,))
        db.execute(
            "REPLACE INTO event_anchor (one, seq, mac, signature) VALUES (1, ?, ?, ?)",
            (seq, head, sign_anchor(self._key, seq, head)),
        )
        if ranges:
            self._carry(transaction, ranges, now_ms)
        return seq - first

    def _carry(self, transaction: Transaction, ranges: list[tuple[int, int]], now_ms: int) -> None:
        """Keep what the deleted events told of pruned attempts: in the anchor, else in an event."""
        db = transaction.db
        row = db.execute("SELECT gone, plain FROM attempt_anchor").fetchone()
        gone, plain = row or (0, 0)
        if gone:
            ranges = [(1, gone), *ranges]
        told = merged(ranges)
        if told[0][0] == 1:
            gone, told = told[0][1], told[1:]
        if told:
            transaction.chain.append(db, ranges_event(told), now_ms)
        db.execute(
            "REPLACE INTO attempt_anchor (one, gone, plain, signature) VALUES (1, ?, ?, ?)",
            (gone, plain, sign_attempts(self._key, gone, plain)),
        )


def _delete_attempts(transaction: Transaction, over: Sequence[int], now_ms: int) -> None:
    """Delete attempts and tell of it; the newest stays, so that numbers only grow."""
    db = transaction.db
    (newest,) = db.execute("SELECT max(seq) FROM attempt").fetchone()
    gone = [seq for seq in over if seq != newest]
    db.executemany("DELETE FROM attempt WHERE seq = ?", [(seq,) for seq in gone])
    if gone:
        transaction.chain.append(db, pruned_event(gone), now_ms)


_CALLS = (
    "SELECT seq, tenant, created_at_ms, finished_at_ms FROM call"
    " WHERE seq > ? AND seq < (SELECT max(seq) FROM call) ORDER BY seq LIMIT ?"
)
_ATTEMPTS = (
    "SELECT seq, tenant, started_at_ms, started_at_ms FROM attempt"
    " WHERE seq > ? AND seq < (SELECT max(seq) FROM attempt) ORDER BY seq LIMIT ?"
)
_INBOX = (
    "SELECT seq, tenant, received_at_ms,"
    " CASE WHEN state NOT IN ('new', 'held') THEN received_at_ms END FROM inbox"
    " WHERE seq > ? ORDER BY seq LIMIT ?"
)
_ATTEMPTS_OF_CALL = "SELECT seq FROM attempt WHERE call_seq = ?"
_OLDEST_EVENTS = (
    "SELECT seq, at_ms, type, tenant, call_id, connection, data, mac, erased_event, erased_seal"
    " FROM event WHERE seq < (SELECT max(seq) FROM event) ORDER BY seq LIMIT ?"
)
_DELETE_CALL = (
    "DELETE FROM call_result WHERE seq = ?",
    "DELETE FROM call_body WHERE seq = ?",
    "DELETE FROM part WHERE call_seq = ?",
    "DELETE FROM call WHERE seq = ?",
)

# The keys of calls and of events: how old the oldest is, and how a step of them goes.
_OLD_CALL_KEYS = (
    "DELETE FROM idempotency WHERE (tenant, key) IN (SELECT tenant, key FROM idempotency"
    " WHERE created_at_ms < ? ORDER BY created_at_ms LIMIT ?)"
)
_OLD_EVENT_KEYS = (
    "DELETE FROM event_key WHERE (tenant, key) IN (SELECT tenant, key FROM event_key"
    " WHERE created_at_ms < ? ORDER BY created_at_ms LIMIT ?)"
)
_KEYS = (
    ("SELECT min(created_at_ms) FROM idempotency", _OLD_CALL_KEYS),
    ("SELECT min(created_at_ms) FROM event_key", _OLD_EVENT_KEYS),
)
