"""Joins what webhooks tell to the calls that they are about, after they have been answered.

A notice may come before the answer to our own request, twice, out of order, or for a call that we
never made. What cannot be applied yet stays in the inbox and is looked at again when its call has
moved.
"""

import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import structlog

from integrationd.call import Call, CallState, EventRecord, Part
from integrationd.clock import Clock
from integrationd.errors import JournalError
from integrationd.events import Bus, CallChanged
from integrationd.journal import Journal, StoredWebhook
from integrationd.registry import Connection, Registry
from integrationd.registry.containment import contained
from integrationd.retry import Jitter
from integrationd.sdk.webhook import Notice, UnreadableError
from integrationd.settlement import Policy, Settlement, settle_notice, settle_receipt
from integrationd.webhooks.receiver import request_of

PolicyOf: TypeAlias = Callable[[Call, bytes], Policy]
# The state of the webhook, a sentence for a person, and the call that it is about.
Result: TypeAlias = tuple[str, str, str | None]

STEP = 100
JOURNAL_PAUSE_S = 1.0
_TRIES = 5
_PRUNED: Result = ("ignored", "Its call has been pruned.", None)
_UNSETTLED = frozenset({CallState.PENDING, CallState.PROCESSING})


class Correlator:
    """Works through the inbox.

    Args:
        journal: The inbox and the calls.
        registry: The live connections, whose plugins say what a webhook means.
        policy_of: Returns the rules for a call.
        bus: Where it is told that calls have moved.
        clock: Where time is read.
        jitter: Randomness for backoff.
    """

    def __init__(
        self,
        journal: Journal,
        registry: Registry,
        policy_of: PolicyOf,
        bus: Bus,
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._journal = journal
        self._registry = registry
        self._policy_of = policy_of
        self._clock = clock
        self._jitter = jitter
        self._log = structlog.get_logger("integrationd.webhooks")
        self._todo: dict[int, None] = {}
        self._held: defaultdict[str, set[int]] = defaultdict(set)
        self._unmatched: defaultdict[str, set[int]] = defaultdict(set)
        self._stirred = anyio.Event()
        bus.subscribe(CallChanged, self._on_changed)

    def add(self, kept: StoredWebhook) -> None:
        """Have one webhook worked on, or worked on again."""
        self._todo[kept.seq] = None
        self._stirred.set()

    async def run(self) -> None:
        """Work for the daemon's life, beginning with what an earlier run has left."""
        await self._surely(self._read_backlog)
        while True:
            self._stirred = anyio.Event()
            if not self._todo:
                await self._stirred.wait()
                continue
            seq = next(iter(self._todo))
            del self._todo[seq]
            await self._surely(functools.partial(self.work_on, seq))

    async def _surely(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await step()
            except JournalError:
                await self._clock.sleep(JOURNAL_PAUSE_S)

    async def _read_backlog(self) -> None:
        after = 0
        while found := await self._journal.inbox.open_ones(after, STEP):
            for kept in found:
                self._todo[kept.seq] = None
            after = found[-1].seq

    def _on_changed(self, event: CallChanged) -> None:
        """Look again at what waited for this call, or for any call with its reference."""
        call = event.call
        if call.state not in _UNSETTLED and call.id in self._held:
            self._again(self._held.pop(call.id))
        for reference in (call.provider_reference, call.own_reference):
            if reference is not None and reference in self._unmatched:
                self._again(self._unmatched.pop(reference))

    def _again(self, seqs: set[int]) -> None:
        self._todo.update(dict.fromkeys(sorted(seqs)))
        self._stirred.set()

    async def work_on(self, seq: int) -> None:
        """Work out what one webhook means and apply it.

        Raises:
            JournalError: The journal is full or not open.
        """
        kept = await self._journal.inbox.by_seq(seq)
        if kept is None:
            return
        connection = self._registry.find(kept.connection)
        if connection is None:
            await self._mark(kept, "failed", "Its connection is not there any more.")
            return
        try:
            with contained():
                notices = connection.provider.read_webhook(request_of(kept))
        except UnreadableError as error:
            await self._mark(kept, "unreadable", str(error))
            return
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            self._log.exception("webhook_not_understood", webhook=kept.id)
            await self._mark(kept, "failed", f"The plugin raised {type(error).__name__}.")
            return
        await self._apply_all(kept, connection, notices)

    async def _apply_all(
        self, kept: StoredWebhook, connection: Connection, notices: Sequence[Notice]
    ) -> None:
        """Apply every notice; the webhook is as far as the one that is least far."""
        if not notices:
            await self._mark(kept, "ignored", "It tells nothing that concerns us.")
            return
        results = [await self._apply(kept, connection, notice) for notice in notices]
        order = ("held", "unmatched", "applied", "ignored")
        state, note, call_id = min(results, key=lambda result: order.index(result[0]))
        await self._mark(kept, state, note, call_id)

    async def _apply(self, kept: StoredWebhook, connection: Connection, notice: Notice) -> Result:
        """Apply one notice; return the state of the webhook by it, a sentence, and its call."""
        seq = await self._journal.inbox.find_call(
            connection.name,
            call_id=kept.address_call_id,
            ours=notice.our_reference,
            theirs=notice.provider_reference,
        )
        if seq is None:
            return await self._without_call(kept, connection, notice)
        for _ in range(_TRIES):
            call, parts = await self._journal.leases.look(seq)
            verdict = self._verdict(kept, connection, notice, call)
            if call is None or verdict is not None:
                return verdict or _PRUNED
            settled = await self._settlement(call, parts, notice)
            if settled is None or settled.call == call:
                return "applied", "It is no news.", call.id
            if await self._journal.leases.store_late(call, settled):
                return "applied", f"{notice.type}: {settled.rule}.", call.id
        self._todo[kept.seq] = None
        return "held", "Its call keeps moving; it is looked at again.", None

    def _verdict(
        self, kept: StoredWebhook, connection: Connection, notice: Notice, call: Call | None
    ) -> Result | None:
        """Say what becomes of a notice that changes nothing, or not yet; None for the others."""
        if call is None:
            return _PRUNED
        if call.connection is not None and call.connection != connection.name:
            return "ignored", "Its call went through another connection.", call.id
        if notice.delivery is None and notice.finding is None:
            return "applied", f"{notice.type} changes nothing.", call.id
        if notice.delivery is None and call.state in _UNSETTLED:
            self._held[call.id].add(kept.seq)
            return "held", "Its call is being attempted; it is applied afterwards.", call.id
        return None

    async def _settlement(
        self, call: Call, parts: Sequence[Part], notice: Notice
    ) -> Settlement | None:
        if notice.delivery is not None:
            return settle_receipt(
                call,
                parts,
                notice.delivery,
                recipient=notice.recipient,
                provider_reference=notice.provider_reference,
            )
        if notice.finding is None:
            return None
        payload = await self._journal.inbox.payload(call)
        return settle_notice(
            call,
            parts,
            notice.finding,
            self._policy_of(call, payload),
            now_ms=self._clock.now_ms(),
            jitter=self._jitter,
        )

    async def _without_call(
        self, kept: StoredWebhook, connection: Connection, notice: Notice
    ) -> Result:
        """What is about no call of ours is an event of its own, or waits for its call."""
        if notice.event is not None:
            event = EventRecord(
                type=notice.event,
                tenant=kept.tenant,
                connection=connection.name,
                data={**notice.data, "webhook": kept.id, "event_id": notice.event_id},
            )
            told = f"{notice.event}: nobody had asked for it."
            at_ms = self._clock.now_ms()
            await self._journal.inbox.mark(kept.seq, "applied", told, None, at_ms, event)
            return "applied", told, None
        references = {notice.provider_reference, notice.our_reference} - {None}
        if not references or (notice.finding is None and notice.delivery is None):
            return "ignored", f"{notice.type} is about no call of ours.", None
        for reference in references:
            self._unmatched[str(reference)].add(kept.seq)
        return "unmatched", f"{notice.type} is about a call that is not known (yet).", None

    async def _mark(
        self, kept: StoredWebhook, state: str, note: str, call_id: str | None = None
    ) -> None:
        at_ms = self._clock.now_ms()
        await self._journal.inbox.mark(kept.seq, state, note, call_id, at_ms)
