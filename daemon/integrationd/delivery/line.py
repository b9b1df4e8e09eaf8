"""A line: everything that goes through one connection.

Each connection has a line of its own, so that a slow or dead one holds up no other. A line claims
no more calls than its gate can take at once; a million calls behind an open breaker cost nothing.
"""

import dataclasses
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from integrationd.call import Lease
from integrationd.clock import Clock
from integrationd.delivery.answers import Answer
from integrationd.delivery.attempt import Attempts
from integrationd.delivery.gate import Gate
from integrationd.delivery.slots import Slots
from integrationd.delivery.terms import Terms
from integrationd.errors import JournalError
from integrationd.journal import Transaction
from integrationd.journal.leases import Leases
from integrationd.registry import Connection
from integrationd.settlement import give_back

JOURNAL_PAUSE_S = 1.0
LONGEST_NAP_S = 3600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all lines share.

    Attributes:
        slots: How many attempts the whole daemon may still start.
        leases: Where calls are claimed.
        attempts: Makes the attempts.
        clock: Where time is read.
        tell_due: Told of a lane that has more to do, and when. The lane may have moved to another
            line meanwhile.
        tell_room: Told of a connection whose attempt has ended; another line may serve it by then.
    """

    slots: Slots
    leases: Leases
    attempts: Attempts
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
        self._slots = common.slots
        self._leases = common.leases
        self._attempts = common.attempts
        self._clock = common.clock
        self._tell_due = common.tell_due
        self._tell_room = common.tell_room
        self._due: dict[str, int] = {}
        self._ask_ms: int | None = None
        self._wake = anyio.Event()
        self._draining = False

    def use(self, connection: Connection, terms: Terms) -> None:
        """Attempt calls through another connection of this name; those under way go on."""
        self._connection, self._terms = connection, terms
        self.wake()

    def forget_lanes(self) -> None:
        """Forget which lanes have work, since lanes have moved; they are told anew."""
        self._due.clear()

    def note_due(self, lane: str, due_ms: int) -> None:
        """Take note that a lane of this line has work at ``due_ms``."""
        known = self._due.get(lane)
        if known is None or due_ms < known:
            self._due[lane] = due_ms
            self.wake()

    def note_ask(self, ask_ms: int) -> None:
        """Take note that a call of this connection is to be asked about at ``ask_ms``."""
        if self._ask_ms is None or ask_ms < self._ask_ms:
            self._ask_ms = ask_ms
            self.wake()

    def wake(self) -> None:
        """Have the line look again."""
        self._wake.set()

    def drain(self) -> None:
        """Claim nothing more."""
        self._draining = True
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
        """Claim what can go now; return whether anything was claimed."""
        room = min(self._gate.capacity(self._clock.now_ms()), self._slots.free)
        if room <= 0:
            return False
        # What was claimed is attempted on the terms of its lease, whatever a reload brings.
        with self._connection.held() as connection:
            terms = self._terms
            leases = await self._claim(room, round(terms.limits.lease_s * 1000))
            for lease in leases:
                # While the claim was made durable, an attempt under way may have opened the
                # breaker, or a reload may have taken the connection away.
                if self._gate.capacity(self._clock.now_ms()) > 0 and not self._draining:
                    self._start(lease, connection, terms, attempts)
                else:
                    attempts.start_soon(self._give_back, lease)
        return bool(leases)

    async def _claim(self, room: int, lease_ms: int) -> list[Lease]:
        now_ms = self._clock.now_ms()
        leases = await self._claim_asks(now_ms, room, lease_ms)
        lanes = [lane for lane, due_ms in self._due.items() if due_ms <= now_ms]
        for number, lane in enumerate(lanes):
            left = room - len(leases)
            if left <= 0:
                break
            share = max(1, left // (len(lanes) - number))
            leases += await self._claim_lane(lane, share, lease_ms)
        return leases

    async def _claim_lane(self, lane: str, limit: int, lease_ms: int) -> list[Lease]:
        # Forgotten first, so that what is told during the claim is not overwritten by its answer.
        # Put back last, so that the lanes take turns.
        due_ms = self._due.pop(lane, None)
        if due_ms is None:
            return []
        try:
            leases, next_ms = await self._leases.claim(lane, self._connection.name, limit, lease_ms)
        except BaseException:
            self._tell_due(lane, due_ms)
            raise
        if next_ms is not None:
            self._tell_due(lane, next_ms)
        return leases

    async def _claim_asks(self, now_ms: int, limit: int, lease_ms: int) -> list[Lease]:
        due_ms = self._ask_ms
        if due_ms is None or due_ms > now_ms:
            return []
        self._ask_ms = None
        try:
            leases, next_ms = await self._leases.claim_to_ask(
                self._connection.name, limit, lease_ms
            )
        except BaseException:
            self.note_ask(due_ms)
            raise
        if next_ms is not None:
            self.note_ask(next_ms)
        return leases

    def _start(
        self, lease: Lease, connection: Connection, terms: Terms, attempts: TaskGroup
    ) -> None:
        term = self._gate.start(self._clock.now_ms())
        self._slots.take()
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
            return self._gate.end(answer, term, self._clock.now_ms())

        try:
            await self._attempts.run(lease, connection, terms, on_answer)
        finally:
            connection.let_go()
            if not answered:
                self._gate.abandon(term)
            self._slots.give_back()
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
        due = [*self._due.values()]
        if self._ask_ms is not None:
            due.append(self._ask_ms)
        if not due or self._slots.free <= 0:
            return None
        gate_ms = self._gate.next_ms(now_ms)
        if gate_ms is None:
            return None
        return (max(min(due), gate_ms) - now_ms) / 1000
