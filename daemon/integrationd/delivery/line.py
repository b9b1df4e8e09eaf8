"""A line: everything that goes through one connection.

Each connection has a line of its own, so that a slow or dead one holds up no other. A line claims
no more calls than its gate can take at once; a million calls behind an open breaker cost nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup

from integrationd.call import AttemptKind, Lease
from integrationd.clock import Clock
from integrationd.delivery.answers import Answer
from integrationd.delivery.attempt import Attempts
from integrationd.delivery.feeds import Feeds
from integrationd.delivery.gate import Gate
from integrationd.delivery.link import Link
from integrationd.delivery.slots import Slots
from integrationd.delivery.terms import Terms
from integrationd.errors import JournalError
from integrationd.journal import Transaction
from integrationd.journal.leases import Leases
from integrationd.registry import Connection
from integrationd.settlement import give_back

JOURNAL_PAUSE_S = 1.0
LONGEST_NAP_S = 3600.0


class Turn(NamedTuple):
    """What takes turns on a line.

    Attributes:
        kind: Whether calls are to be sent or asked about.
        of: The lane of those to be sent; the tenant of those to be asked about.
    """

    kind: AttemptKind
    of: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all lines share.

    Attributes:
        link: Whether the world can be reached.
        slots: How many attempts the whole daemon may still start.
        leases: Where calls are claimed.
        attempts: Makes the attempts.
        feeds: What subscriptions are told of.
        clock: Where time is read.
        tell_due: Told of a lane that has more to do, and when. The lane may have moved to another
            line meanwhile.
        tell_room: Told of a connection whose attempt has ended; another line may serve it by then.
    """

    link: Link
    slots: Slots
    leases: Leases
    attempts: Attempts
    feeds: Feeds
    clock: Clock
    tell_due: Callable[[str, int], None]
    tell_room: Callable[[str], None]


class Line:
    """Claims and attempts the calls of one connection.

    Args:
        connection: What they go through.
        terms: The rules of that connection.
        gate: How many may start when.
        common: What it shares with the other lines.
    """

    def __init__(self, connection: Connection, terms: Terms, gate: Gate, common: Common) -> None:
        self._connection = connection
        self._terms = terms
        self._gate = gate
        self._link = common.link
        self._slots = common.slots
        self._leases = common.leases
        self._attempts = common.attempts
        self._feeds = common.feeds
        self._clock = common.clock
        self._tell_due = common.tell_due
        self._tell_room = common.tell_room
        self._due: dict[Turn, int] = {}
        self._wake = anyio.Event()
        self._draining = False

    def use(self, connection: Connection, terms: Terms) -> None:
        """Attempt calls through another connection of this name; those under way go on."""
        self._connection, self._terms = connection, terms
        self.wake()

    def forget_lanes(self) -> None:
        """Forget which lanes have work, since lanes have moved; they are told anew."""
        asks = {turn: ms for turn, ms in self._due.items() if turn.kind is AttemptKind.QUERY}
        self._due = asks

    def note_due(self, lane: str, due_ms: int) -> None:
        """Take note that a lane of this line has work at ``due_ms``."""
        self._note(Turn(AttemptKind.SEND, lane), due_ms)

    def note_ask(self, tenant: str, ask_ms: int) -> None:
        """Take note that a call of this connection is to be asked about at ``ask_ms``."""
        self._note(Turn(AttemptKind.QUERY, tenant), ask_ms)

    def _note(self, turn: Turn, due_ms: int) -> None:
        known = self._due.get(turn)
        if known is None or due_ms < known:
            self._due[turn] = due_ms
            self.wake()

    def wake(self) -> None:
        """Have the line look again."""
        self._wake.set()

    def drain(self) -> None:
        """Claim nothing more."""
        self._draining = True
        self._slots.leave(self)
        self.wake()

    async def run(self, attempts: TaskGroup) -> None:
        """Claim and start attempts until drained.

        Args:
            attempts: Where attempts run; they may outlive this method.
        """
        while not self._draining:
            self._wake = anyio.Event()
            try:
                busy = await self._claim_once(attempts)
            except JournalError:
                # The journal is full or recovering; what is due stays due.
                await self._clock.sleep(JOURNAL_PAUSE_S)
                continue
            if not busy:
                await self._nap()

    async def _claim_once(self, attempts: TaskGroup) -> bool:
        """Claim what can go now and start it; return whether anything was claimed."""
        now_ms = self._clock.now_ms()
        capacity = self._capacity(now_ms)
        due = [turn for turn, due_ms in self._due.items() if due_ms <= now_ms]
        room = self._slots.reserve(self, capacity if due else 0)
        claimed = 0
        try:
            for number, turn in enumerate(due):
                if claimed >= room:
                    break
                share = max(1, (room - claimed) // (len(due) - number))
                claimed += await self._take_turn(turn, share, attempts)
        finally:
            self._slots.release(room - claimed)
        return claimed > 0

    def _capacity(self, now_ms: int) -> int:
        """Return how many attempts may start now."""
        on_link = self._link.room(self._connection.name, self._gate.running, now_ms)
        return min(self._gate.capacity(now_ms), on_link) if on_link else 0

    async def _take_turn(self, turn: Turn, limit: int, attempts: TaskGroup) -> int:
        """Claim up to ``limit`` calls and start them; return how many were claimed."""
        # What was claimed is attempted on the terms of its lease, whatever a reload brings.
        with self._connection.held() as connection:
            terms = self._terms
            leases = await self._claim(turn, limit, round(terms.limits.lease_s * 1000))
            for lease in leases:
                # While the claim was made durable, an attempt under way may have opened the
                # breaker or found the link down, or a reload may have taken the connection away.
                if self._capacity(self._clock.now_ms()) > 0 and not self._draining:
                    self._start(lease, connection, terms, attempts)
                else:
                    self._slots.release()
                    attempts.start_soon(self._give_back, lease)
        return len(leases)

    async def _claim(self, turn: Turn, limit: int, lease_ms: int) -> list[Lease]:
        # Forgotten first, so that what is told during the claim is not overwritten by its answer.
        # Put back last, so that all take turns.
        due_ms = self._due.pop(turn, None)
        if due_ms is None:
            return []
        try:
            leases, next_ms = await self._claim_of(turn, limit, lease_ms)
        except BaseException:
            self._tell(turn, due_ms)
            raise
        if next_ms is not None:
            self._tell(turn, next_ms)
        return leases

    async def _claim_of(
        self, turn: Turn, limit: int, lease_ms: int
    ) -> tuple[list[Lease], int | None]:
        name = self._connection.name
        if turn.kind is AttemptKind.QUERY:
            return await self._leases.claim_to_ask(name, turn.of, limit, lease_ms)
        feed = self._feeds.find(name)
        if feed is None:
            return await self._leases.claim(turn.of, name, limit, lease_ms)
        return await feed.claim(limit, lease_ms, self._clock.now_ms())

    def _tell(self, turn: Turn, due_ms: int) -> None:
        if turn.kind is AttemptKind.SEND:
            self._tell_due(turn.of, due_ms)
        else:
            self._note(turn, due_ms)

    def _start(
        self, lease: Lease, connection: Connection, terms: Terms, attempts: TaskGroup
    ) -> None:
        term = self._gate.start(self._clock.now_ms())
        # Held from now on, so that it is not closed before the attempt's task has begun.
        connection.hold()
        attempts.start_soon(self._attempt, lease, connection, terms, term)

    async def _give_back(self, lease: Lease) -> None:
        now_ms = self._clock.now_ms()
        due_ms = self._gate.next_ms(now_ms) or now_ms
        await self._leases.settle(lease, give_back(lease.call, due_ms, now_ms))

    async def _attempt(self, lease: Lease, connection: Connection, terms: Terms, term: int) -> None:
        answered = False

        def on_answer(answer: Answer) -> Callable[[Transaction], None] | None:
            nonlocal answered
            answered = True
            moved = self._gate.end(answer, term, self._clock.now_ms())
            return both(moved, self._feeds.answered(connection.name, answer))

        try:
            await self._attempts.run(lease, connection, terms, on_answer)
        finally:
            connection.let_go()
            if not answered:
                self._gate.abandon(term)
            self._slots.release()
            self._tell_room(connection.name)

    async def _nap(self) -> None:
        """Wait until something may go, or until woken."""
        seconds = self._nap_s(self._clock.now_ms())
        if seconds is None:
            await self._wake.wait()
        elif seconds > 0:
            await self._clock.wait(self._wake, min(seconds, LONGEST_NAP_S))

    def _nap_s(self, now_ms: int) -> float | None:
        """Return how long there is nothing to do; None while only an event can change that."""
        if not self._due or self._slots.has_waiting(self):
            return None
        gate_ms = self._gate.next_ms(now_ms)
        link_ms = self._link.next_ms(self._connection.name, self._gate.running, now_ms)
        if gate_ms is None or link_ms is None:
            return None
        return (max(min(self._due.values()), gate_ms, link_ms) - now_ms) / 1000


def both(
    one: Callable[[Transaction], None] | None, other: Callable[[Transaction], None] | None
) -> Callable[[Transaction], None] | None:
    """Return what writes both, of which either may be nothing."""
    if one is None or other is None:
        return one or other

    def job(transaction: Transaction) -> None:
        one(transaction)
        other(transaction)

    return job
