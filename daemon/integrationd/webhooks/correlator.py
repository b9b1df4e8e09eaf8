"""Joins what webhooks tell to the calls that they are about, after they have been answered.

A notice may come before the answer to our own request, twice, out of order, or for a call that we
never made. What cannot be applied yet stays in the inbox and is looked at again when its call has
moved.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import structlog

from integrationd.call import Call, CallState, EventRecord, Part
from integrationd.clock import Clock
from integrationd.errors import JournalError, JournalFullError, JournalUnavailableError
from integrationd.events import Bus, CallChanged
from integrationd.journal import Journal, StoredWebhook
from integrationd.registry import Connection, Registry
from integrationd.retry import Jitter
from integrationd.sdk.webhook import Notice, UnreadableError
from integrationd.settlement import Policy, Settlement, settle_notice, settle_receipt
from integrationd.settlement.receipt import RULE as RECEIPT
from integrationd.webhooks.reading import notices_of
from integrationd.webhooks.receiver import request_of

PolicyOf: TypeAlias = Callable[[Call, bytes], Policy]

STEP = 100
JOURNAL_PAUSE_S = 1.0
_TRIES = 5
_UNSETTLED = frozenset({CallState.PENDING, CallState.PROCESSING})
_ORDER = ("held", "unmatched", "applied", "ignored")


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of one notice.

    Attributes:
        state: Of the webhook, as far as this notice is concerned.
        note: A sentence for a person.
        call_id: The call that it is about.
        event: What it tells of its own.
    """

    state: str
    note: str
    call_id: str | None = None
    event: EventRecord | None = None


_PRUNED = Result("ignored", "Its call has been pruned.")


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
        self._with_parts: dict[int, None] = {}
        self._stirred = anyio.Event()
        bus.subscribe(CallChanged, self._on_changed)

    def add(self, kept: StoredWebhook) -> None:
        """Have one webhook worked on, or worked on again."""
        self._todo[kept.seq] = None
        self._stirred.set()

    async def run(self) -> None:
        """Work for the daemon's life, beginning with what an earlier run has left."""
        while not await self._is_done(self._read_backlog()):
            continue
        while True:
            self._stirred = anyio.Event()
            if self._with_parts:
                moved = next(iter(self._with_parts))
                del self._with_parts[moved]
                if not await self._is_done(self._look_at_parts(moved)):
                    self._with_parts[moved] = None
                continue
            if not self._todo:
                await self._stirred.wait()
                continue
            seq = next(iter(self._todo))
            del self._todo[seq]
            if not await self._is_done(self.work_on(seq)):
                # To the end, so that no webhook can hold up the others.
                self._todo[seq] = None

    async def _is_done(self, step: Awaitable[None]) -> bool:
        try:
            await step
        except JournalError as error:
            self._log.warning("webhook_waits_for_journal", why=str(error))
            await self._clock.sleep(JOURNAL_PAUSE_S)
            return False
        return True

    async def _read_backlog(self) -> None:
        after = 0
        while found := await self._journal.inbox.open_ones(after, STEP):
            for kept in found:
                self._todo[kept.seq] = None
            after = found[-1].seq

    def _on_changed(self, event: CallChanged) -> None:
        """Look again at what waited for this call, or for any call with its reference."""
        call = event.call
        if call.lease_id is None and call.id in self._held:
            self._again(self._held.pop(call.id))
        self._on_known(call.provider_reference, call.own_reference, call.id)
        if call.parts and self._unmatched and event.rule != RECEIPT:
            # What its recipients are known by is not told; it is looked up.
            self._with_parts[call.seq] = None
            self._stirred.set()

    async def _look_at_parts(self, seq: int) -> None:
        """Look again at what waited for a recipient of a call to many."""
        _, parts = await self._journal.leases.look(seq)
        self._on_known(*(part.provider_reference for part in parts))

    def _on_known(self, *references: str | None) -> None:
        for reference in references:
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
            notices = notices_of(connection.provider, request_of(kept))
            results = [await self._apply(kept, connection, notice) for notice in notices]
        except UnreadableError as error:
            await self._mark(kept, "unreadable", str(error))
        except (JournalFullError, JournalUnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, or tell it
            self._log.exception("webhook_not_understood", webhook=kept.id)
            await self._mark(kept, "failed", f"It ended in {type(error).__name__}: see the log.")
        else:
            await self._conclude(kept, results)

    async def _conclude(self, kept: StoredWebhook, results: Sequence[Result]) -> None:
        """Note what came of all notices; the webhook is as far as the one that is least far."""
        if not results:
            await self._mark(kept, "ignored", "It tells nothing that concerns us.")
            return
        least = min(results, key=lambda result: _ORDER.index(result.state))
        events = [result.event for result in results if result.event is not None]
        await self._mark(kept, least.state, least.note, least.call_id, events)

    async def _apply(self, kept: StoredWebhook, connection: Connection, notice: Notice) -> Result:
        """Apply one notice and say what came of it."""
        seq = await self._find(kept, connection, notice)
        if seq is None:
            return self._without_call(kept, connection, notice)
        for _ in range(_TRIES):
            result = await self._try(kept, connection, notice, seq)
            if result is not None:
                return result
        self._todo[kept.seq] = None
        return Result("held", "Its call keeps moving; it is looked at again.")

    async def _try(
        self, kept: StoredWebhook, connection: Connection, notice: Notice, seq: int
    ) -> Result | None:
        """Apply a notice to its call as it stands now; None where it is to be looked at again."""
        call, parts = await self._journal.leases.look(seq)
        verdict = self._verdict(kept, connection, notice, call)
        if call is None or verdict is not None:
            return verdict
        if _is_too_early(notice, call):
            return self._hold(kept, call)
        settled = await self._settlement(call, parts, notice)
        if settled is None or settled.call == call:
            return Result("applied", "It is no news.", call.id)
        if await self._journal.leases.store_late(call, settled):
            return Result("applied", f"{notice.type}: {settled.rule}.", call.id)
        return None

    def _hold(self, kept: StoredWebhook, call: Call) -> Result | None:
        """Wait for the end of the call's attempt; looked at once more, lest it has just ended."""
        if kept.seq in self._held[call.id]:
            return Result("held", "Its call is being attempted; it is applied afterwards.", call.id)
        self._held[call.id].add(kept.seq)
        return None

    async def _find(
        self, kept: StoredWebhook, connection: Connection, notice: Notice
    ) -> int | None:
        """Return the number of the call of a notice; where it is not known yet, listen for it."""
        for is_last in (False, True):
            found = await self._journal.inbox.find_call(
                connection.name,
                call_id=kept.address_call_id,
                ours=notice.our_reference,
                theirs=notice.provider_reference,
            )
            references = _references(notice)
            if found is not None or is_last or notice.event is not None or not references:
                return found
            # Looked for once more: it may have come before anybody listened.
            for reference in references:
                self._unmatched[reference].add(kept.seq)
        return None

    def _verdict(
        self, kept: StoredWebhook, connection: Connection, notice: Notice, call: Call | None
    ) -> Result | None:
        """Say what becomes of a notice that changes nothing; None for the others."""
        if call is None:
            return _PRUNED
        if call.connection is not None and call.connection != connection.name:
            return Result("ignored", "Its call went through another connection.", call.id)
        if kept.address_call_id and _is_about_another(notice, call):
            told = f"It is about {notice.provider_reference}, not {call.provider_reference}."
            return Result("ignored", told, call.id)
        if notice.delivery is None and notice.finding is None:
            return Result("applied", f"{notice.type} changes nothing.", call.id)
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
                told=notice.data,
            )
        if notice.finding is None:
            return None
        payload = await self._journal.inbox.payload(call)
        return settle_notice(
            call,
            parts,
            notice.finding,
            self._policy_of(call, payload),
            reference=notice.provider_reference,
            now_ms=self._clock.now_ms(),
            jitter=self._jitter,
        )

    def _without_call(self, kept: StoredWebhook, connection: Connection, notice: Notice) -> Result:
        """What is about no call of ours is an event of its own, or waits for its call."""
        if notice.event is not None:
            event = EventRecord(
                type=notice.event,
                tenant=kept.tenant,
                connection=connection.name,
                data={**notice.data, "webhook": kept.id, "event_id": notice.event_id},
            )
            return Result("applied", f"{notice.event}: nobody had asked for it.", event=event)
        if not _references(notice):
            return Result("ignored", f"{notice.type} is about no call of ours.")
        return Result("unmatched", f"{notice.type} is about a call that is not known (yet).")

    async def _mark(
        self,
        kept: StoredWebhook,
        state: str,
        note: str,
        call_id: str | None = None,
        events: Sequence[EventRecord] = (),
    ) -> None:
        at_ms = self._clock.now_ms()
        await self._journal.inbox.mark(kept.seq, state, note, call_id, at_ms, events)


def _is_too_early(notice: Notice, call: Call) -> bool:
    """Say whether the call's attempt has to end first.

    What became of a message never changes the state, so that it waits only for an attempt that is
    under way: the call must not move beneath that, or its result would be lost.
    """
    if notice.delivery is not None:
        return call.lease_id is not None
    return call.state in _UNSETTLED


def _is_about_another(notice: Notice, call: Call) -> bool:
    """Say whether a notice at the call's own address names something else than the call's."""
    named = {notice.provider_reference, call.provider_reference}
    return None not in named and len(named) > 1


def _references(notice: Notice) -> set[str]:
    """Return what a call that turns up later may be known by; none where nothing waits for it."""
    if notice.finding is None and notice.delivery is None:
        return set()
    return {one for one in (notice.provider_reference, notice.our_reference) if one is not None}
