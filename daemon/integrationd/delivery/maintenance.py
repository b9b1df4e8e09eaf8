"""What has to be done now and then: reclaim, expire, prune; each step can be run by hand."""

import dataclasses
from collections.abc import Mapping

import anyio

from integrationd.call import AttemptKind, Call, CallState, Lease, is_subscription, pinned_to
from integrationd.clock import Clock
from integrationd.delivery.link import Link
from integrationd.delivery.routing import Routing
from integrationd.delivery.terms import Terms
from integrationd.errors import DamagedError, JournalError
from integrationd.events import Bus, CallAccepted, CallChanged
from integrationd.journal import Journal, Retention
from integrationd.retry import Jitter, RetryPolicy
from integrationd.sdk import outcome as said
from integrationd.settlement import (
    Policy,
    Settlement,
    expire,
    settle_finding,
    settle_send,
    settle_unrepeatable,
)

STEP = 200
RECLAIM_EVERY_S = 10.0
PRUNE_EVERY_S = 300.0
JOURNAL_PAUSE_S = 1.0
LONGEST_NAP_S = 3600.0
# While nothing is given up, what has a time of its own still expires, as near to the dot as this.
HELD_NAP_S = 5.0


class Reclaimer:
    """Ends leases that nobody holds any more; what they were for may have arrived."""

    def __init__(
        self,
        journal: Journal,
        routing: Routing,
        terms: Mapping[str, Terms],
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._journal = journal
        self._routing = routing
        self._terms = terms
        self._clock = clock
        self._jitter = jitter

    async def reclaim_all(self) -> int:
        """End every lease, whenever it would end; for the start of the daemon."""
        return await self._reclaim(None)

    async def run_once(self) -> int:
        """End the leases whose time is over and return how many there were."""
        return await self._reclaim(self._clock.now_ms())

    async def run(self) -> None:
        """Reclaim for the daemon's life."""
        while True:
            await self._clock.sleep(RECLAIM_EVERY_S)
            try:
                await self.run_once()
            except JournalError:
                continue

    async def _reclaim(self, until_ms: int | None) -> int:
        count = 0
        while leases := await self._journal.leases.leased(until_ms, STEP):
            for lease in leases:
                await self._journal.leases.settle(lease, self._settlement(lease))
            count += len(leases)
        return count

    def _settlement(self, lease: Lease) -> Settlement:
        policy, now_ms = self.policy(lease), self._clock.now_ms()
        detail = "The attempt was cut short before its result was known."
        if lease.kind is AttemptKind.QUERY:
            finding = said.CannotTell(reason="interrupted", detail=detail)
            return settle_finding(
                lease.call, lease.parts, finding, policy, now_ms=now_ms, jitter=self._jitter
            )
        return settle_send(
            lease.call,
            lease.parts,
            said.Uncertain(reason="interrupted", detail=detail),
            policy,
            started_ms=now_ms,
            now_ms=now_ms,
            jitter=self._jitter,
        )

    def policy(self, lease: Lease) -> Policy:
        """Return the rules for a call outside an attempt; nothing repeats if they are not known."""
        return self.policy_of(lease.call, lease.payload)

    def policy_of(self, call: Call, payload: bytes) -> Policy:
        """Return the rules for a call by its payload; nothing repeats if they are not known."""
        connection = self._routing.named(call.connection or "")
        if connection is None and is_subscription(call.connection):
            # Receivers drop copies; it is switched off, or cannot be used for now.
            endless = RetryPolicy(attempts=1 << 60)
            refusal = Policy.for_refusal()
            return dataclasses.replace(refusal, repeat_safe=True, reads_only=True, retry=endless)
        if connection is None or call.operation not in connection.plugin.operations:
            return Policy.for_refusal()
        served = connection.plugin.operations[call.operation]
        try:
            request = served.decode(payload)
        except ValueError:
            return Policy.for_refusal()
        return self._terms[connection.name].policy(call, connection, served, request)


class Expirer:
    """Ends pending calls whose time is over, on the dot and not by polling.

    While the link is down, and for a while after, only what expires by its own time is ended.
    """

    def __init__(
        self,
        journal: Journal,
        reclaimer: Reclaimer,
        link: Link,
        bus: Bus,
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._journal = journal
        self._reclaimer = reclaimer
        self._link = link
        self._clock = clock
        self._jitter = jitter
        self._next_ms: int | None = None
        self._wake = anyio.Event()
        bus.subscribe(CallAccepted, lambda event: self._note(event.call))
        bus.subscribe(CallChanged, lambda event: self._note(event.call))

    def _note(self, call: Call) -> None:
        if call.state is not CallState.PENDING:
            return
        if self._next_ms is None or call.deadline_ms < self._next_ms:
            self._next_ms = call.deadline_ms
            self._wake.set()

    async def run_once(self) -> int:
        """End what is over and return how many calls that were."""
        count = 0
        while calls := await self._journal.leases.past_deadline(STEP, gives_up=self._gives_up()):
            now_ms = self._clock.now_ms()
            plain = [(call, expire(call, now_ms)) for call in calls if not call.doubt]
            await self._journal.leases.expire(plain)
            for call in calls:
                if call.doubt:
                    await self._end_in_doubt(call)
            count += len(calls)
        return count

    async def _end_in_doubt(self, call: Call) -> None:
        """An earlier send may have arrived: the call is not expired but unknown."""
        connection = call.connection or pinned_to(call.lane) or ""
        lease = await self._journal.leases.lease_one(call, connection, 60_000)
        if lease is None:
            return
        policy = self._reclaimer.policy(lease)
        settlement = settle_unrepeatable(
            lease.call, lease.parts, policy, self._clock.now_ms(), self._jitter
        )
        await self._journal.leases.settle(lease, settlement)

    async def run(self) -> None:
        """Expire for the daemon's life."""
        while True:
            self._wake = anyio.Event()
            try:
                await self.run_once()
                self._next_ms = await self._next_deadline_ms()
            except (JournalError, DamagedError):
                await self._clock.sleep(JOURNAL_PAUSE_S)
                continue
            await self._nap()

    def _gives_up(self) -> bool:
        return self._link.gives_up(self._clock.now_ms())

    async def _next_deadline_ms(self) -> int | None:
        if self._gives_up():
            return await self._journal.leases.next_deadline_ms()
        # What is overdue stays so; the next look is not put off by it, nor begun at once.
        return self._clock.now_ms() + round(HELD_NAP_S * 1000)

    async def _nap(self) -> None:
        seconds = LONGEST_NAP_S
        if self._next_ms is not None:
            seconds = min(seconds, max(0.0, (self._next_ms - self._clock.now_ms()) / 1000))
        await self._clock.wait(self._wake, seconds)


class Pruner:
    """Prunes what has been kept long enough."""

    def __init__(self, retention: Retention, clock: Clock) -> None:
        self._retention = retention
        self._clock = clock

    async def run(self) -> None:
        """Prune for the daemon's life."""
        while True:
            try:
                gone = await self._retention.prune_once()
            except JournalError:
                gone = 0
            await self._clock.sleep(1.0 if gone else PRUNE_EVERY_S)
