"""Retention: what is over is pruned in small steps, so that no write waits for it."""

import msgspec

from integrationd.clock import Clock
from integrationd.journal.access import Access
from integrationd.journal.chain import sign_anchor
from integrationd.journal.writer import Transaction

STEP = 200
IDEMPOTENCY_KEPT_MS = 7 * 24 * 3600 * 1000


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How long each class is kept, in milliseconds after its end."""

    calls_ms: int
    attempts_ms: int
    events_ms: int
    inbox_ms: int = 90 * 24 * 3600 * 1000


class Retention:
    """Prunes finished calls, attempts, events and idempotency keys."""

    def __init__(self, access: Access, clock: Clock, kept: Kept, key: bytes) -> None:
        self._access = access
        self._clock = clock
        self._kept = kept
        self._key = key
        self._calls_after = 0

    def use(self, kept: Kept) -> None:
        """Keep each class for another time from now on."""
        self._kept = kept

    async def prune_once(self) -> int:
        """Prune one step of every class and return how many rows went."""
        now_ms = self._clock.now_ms()
        gone = await self._prune_calls(now_ms - self._kept.calls_ms)
        gone += await self._prune_attempts(now_ms - self._kept.attempts_ms)
        gone += await self._prune_events(now_ms - self._kept.events_ms)
        gone += await self._prune_inbox(now_ms - self._kept.inbox_ms)
        return gone + await self._prune_keys(now_ms - IDEMPOTENCY_KEPT_MS)

    async def _prune_calls(self, before_ms: int) -> int:
        """Delete calls finished before then; the newest call stays, so that numbers only grow."""
        found = await self._access.rows_slowly(
            "SELECT seq, finished_at_ms FROM call WHERE seq > ? AND created_at_ms < ?"
            " AND seq < (SELECT max(seq) FROM call) ORDER BY seq LIMIT ?",
            (self._calls_after, before_ms, STEP),
        )
        over = [(seq,) for seq, ended_ms in found if ended_ms is not None and ended_ms < before_ms]

        def job(transaction: Transaction) -> None:
            for statement in _DELETE_CALL:
                transaction.db.executemany(statement, over)

        if over:
            await self._access.write(job, heavy=True)
        # A full step goes on behind it; else everything has been looked at: begin again.
        self._calls_after = found[-1][0] if len(found) == STEP else 0
        return len(over)

    async def _prune_attempts(self, before_ms: int) -> int:
        """Delete attempts begun before then; the newest stays, so that numbers only grow."""
        found = await self._access.rows("SELECT started_at_ms FROM attempt ORDER BY seq LIMIT 1")
        if not found or found[0][0] >= before_ms:
            return 0

        def job(transaction: Transaction) -> int:
            return transaction.db.execute(
                "DELETE FROM attempt WHERE seq < (SELECT min(seq) + ? FROM attempt)"
                " AND seq < (SELECT max(seq) FROM attempt) AND started_at_ms < ?",
                (STEP, before_ms),
            ).rowcount

        return await self._access.write(job, heavy=True)

    async def _prune_inbox(self, before_ms: int) -> int:
        """Delete webhooks that came before then and are done with."""
        found = await self._access.rows("SELECT min(received_at_ms) FROM inbox")
        if found[0][0] is None or found[0][0] >= before_ms:
            return 0

        def job(transaction: Transaction) -> int:
            return transaction.db.execute(
                "DELETE FROM inbox WHERE seq IN (SELECT seq FROM inbox WHERE received_at_ms < ?"
                " AND state NOT IN ('new', 'held') ORDER BY received_at_ms LIMIT ?)",
                (before_ms, STEP),
            ).rowcount

        return await self._access.write(job, heavy=True)

    async def _prune_keys(self, before_ms: int) -> int:
        def job(transaction: Transaction) -> int:
            return transaction.db.execute(
                "DELETE FROM idempotency WHERE (tenant, key) IN (SELECT tenant, key"
                " FROM idempotency WHERE created_at_ms < ? ORDER BY created_at_ms LIMIT ?)",
                (before_ms, STEP),
            ).rowcount

        found = await self._access.rows("SELECT min(created_at_ms) FROM idempotency")
        if found[0][0] is None or found[0][0] >= before_ms:
            return 0
        return await self._access.write(job)

    async def _prune_events(self, before_ms: int) -> int:
        """Delete the oldest events and sign the place where the chain now begins."""
        found = await self._access.rows(
            "SELECT seq, mac FROM event WHERE at_ms < ? AND seq < (SELECT max(seq) FROM event)"
            " AND seq < (SELECT min(seq) FROM event) + ? ORDER BY seq",
            (before_ms, STEP),
        )
        if not found:
            return 0
        seq, mac = found[-1]

        def job(transaction: Transaction) -> int:
            gone = transaction.db.execute("DELETE FROM event WHERE seq <= ?", (seq,)).rowcount
            transaction.db.execute(
                "REPLACE INTO event_anchor (one, seq, mac, signature) VALUES (1, ?, ?, ?)",
                (seq, mac, sign_anchor(self._key, seq, mac)),
            )
            return gone

        return await self._access.write(job, heavy=True)


_DELETE_CALL = (
    "DELETE FROM call_result WHERE seq = ?",
    "DELETE FROM call_body WHERE seq = ?",
    "DELETE FROM part WHERE call_seq = ?",
    "DELETE FROM attempt WHERE call_seq = ?",
    "DELETE FROM call WHERE seq = ?",
)
