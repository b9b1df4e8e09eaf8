"""Settling: guarded by lease and revision, kept once, and late results become evidence."""

import asyncio

import anyio
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    CONNECTION,
    LANE,
    LEASE_MS,
    POLICY,
    Heard,
    accept,
    attempt_of,
    claim_one,
    delivered,
    new,
    note,
    parts_by_state,
    sent,
)

from integrationd.call import CallState
from integrationd.errors import ConflictError, NotFoundError
from integrationd.events import AttemptEnded, Bus, CallChanged
from integrationd.journal import AttemptFilter, Journal, Transaction
from integrationd.sdk import outcome as said
from integrationd.settlement import Resolution, cancel, resolve, settle_late_outcome

UNCERTAIN = said.Uncertain(reason="interrupted")


async def attempts(journal: Journal) -> list[tuple[str, str]]:
    found = await journal.attempts.list(AttemptFilter(), before=None, limit=100)
    return [(attempt.outcome, attempt.rule) for attempt in reversed(found)]


async def test_settle_writes_state_result_parts_attempt_and_event_at_once(
    journal: Journal, bus: Bus, clock: FakeClock
) -> None:
    heard = Heard(bus, AttemptEnded, CallChanged)
    call = await accept(journal, new(recipients=("a", "b")))
    lease = await claim_one(journal)
    parts = (
        said.Part(recipient="a", outcome=said.Delivered(reference="m-a")),
        said.Part(recipient="b", outcome=said.Rejected(reason="blocked")),
    )
    outcome = said.Delivered(result={"batch": 7}, reference="batch-7", parts=parts)

    settlement = sent(lease, outcome, clock.now_ms())
    assert await journal.leases.settle(lease, settlement, attempt_of(lease)) is None

    detail = await journal.calls.detail(call.id)
    assert detail.call == settlement.call
    assert (detail.call.state, detail.call.provider_reference) == ("completed", "batch-7")
    assert detail.result == b'{"batch":7}'
    assert parts_by_state(detail.parts) == {"a": "done", "b": "failed"}
    assert await attempts(journal) == [("delivered", "delivered")]
    assert [event.type for event in await journal.events.after(0, 10)] == ["call.completed"]
    assert [type(event) for event in heard.events] == [AttemptEnded, CallChanged]


async def test_settle_writes_what_goes_beside_in_the_same_commit(journal: Journal) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)

    def beside(writing: Transaction) -> None:
        note("beside")(writing)

    await journal.leases.settle(lease, delivered(lease), attempt_of(lease), beside)

    types = [event.type for event in await journal.events.after(0, 10)]
    assert types == ["call.completed", "beside"]


async def reclaimed(journal: Journal, clock: FakeClock) -> None:
    """Let the lease run out and be reclaimed as an uncertain send."""
    await clock.advance(LEASE_MS / 1000)
    (lost,) = await journal.leases.leased(clock.now_ms(), 5)
    assert await journal.leases.settle(lost, sent(lost, UNCERTAIN, clock.now_ms())) is None


async def test_late_result_is_not_applied_but_told_and_stored(
    journal: Journal, bus: Bus, clock: FakeClock
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    await reclaimed(journal, clock)
    heard = Heard(bus, AttemptEnded, CallChanged)

    current = await journal.leases.settle(
        lease, delivered(lease, clock.now_ms()), attempt_of(lease)
    )

    assert current == await journal.calls.get(lease.call.id)
    assert current is not None
    assert current.state is CallState.UNKNOWN
    assert await attempts(journal) == [("delivered", "late")]
    assert not heard.events


async def test_late_result_becomes_evidence(journal: Journal, clock: FakeClock) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    await reclaimed(journal, clock)
    outcome = said.Delivered(result={"id": "m"}, reference="m")
    settlement = sent(lease, outcome, clock.now_ms())
    assert await journal.leases.settle(lease, settlement, attempt_of(lease)) is not None

    current, parts = await journal.leases.look(lease.call.seq)
    assert current is not None
    evidence = settle_late_outcome(current, parts, outcome, POLICY, clock.now_ms())
    assert evidence is not None
    assert await journal.leases.store_late(current, evidence)

    detail = await journal.calls.detail(lease.call.id)
    assert (detail.call.state, detail.result) == ("completed", b'{"id":"m"}')
    assert not await journal.leases.store_late(current, evidence)


async def test_late_result_is_stored_once_however_often_it_is_told(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    await reclaimed(journal, clock)

    for _ in range(3):
        settlement = delivered(lease, clock.now_ms())
        assert await journal.leases.settle(lease, settlement, attempt_of(lease)) is not None

    assert await attempts(journal) == [("delivered", "late")]


async def test_late_result_of_an_earlier_lease_leaves_the_new_lease_alone(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new())
    first = await claim_one(journal)
    await clock.advance(LEASE_MS / 1000)
    refused = said.Retryable(reason="refused", sent=False)
    await journal.leases.settle(first, sent(first, refused, clock.now_ms()))
    await clock.advance(5)
    second = await claim_one(journal)

    current = await journal.leases.settle(first, delivered(first), attempt_of(first))

    assert current == second.call
    assert await journal.calls.get(first.call.id) == second.call


async def test_settling_twice_is_kept_once(journal: Journal, bus: Bus) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    heard = Heard(bus, CallChanged)

    for _ in range(2):
        assert await journal.leases.settle(lease, delivered(lease), attempt_of(lease)) is None

    assert await attempts(journal) == [("delivered", "delivered")]
    assert len(await journal.events.after(0, 10)) == 1
    assert len(heard.events) == 1


async def test_settling_twice_is_kept_once_even_if_the_call_has_moved_in_between(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    later = sent(lease, said.Retryable(reason="busy"), clock.now_ms())
    assert await journal.leases.settle(lease, later, attempt_of(lease, "retryable")) is None
    await journal.calls.change(lease.call.id, lambda call, _: cancel(call, "ana", 1))

    assert await journal.leases.settle(lease, later, attempt_of(lease, "retryable")) is None

    assert await attempts(journal) == [("retryable", "tried again later")]
    assert (await journal.calls.get(lease.call.id)).state == "cancelled"


async def test_settling_a_pruned_call_does_nothing(journal: Journal) -> None:
    call = await accept(journal, new())
    lease = await claim_one(journal)
    await journal.leases.settle(lease, delivered(lease), attempt_of(lease))
    await journal.write(lambda writing: writing.db.execute("DELETE FROM call").rowcount)

    assert await journal.leases.settle(lease, delivered(lease), attempt_of(lease)) is None

    with pytest.raises(NotFoundError):
        await journal.calls.get(call.id)
    assert await journal.leases.look(call.seq) == (None, ())


async def test_only_one_of_many_settlements_wins(journal: Journal, clock: FakeClock) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    outcomes: list[said.Outcome] = [
        said.Delivered(reference="r"),
        said.Rejected(reason="blocked"),
        said.Retryable(reason="busy"),
        said.Accepted(reference="r"),
    ]

    found = await asyncio.gather(
        *(
            journal.leases.settle(
                lease, sent(lease, one, clock.now_ms()), attempt_of(lease, str(n))
            )
            for n, one in enumerate(outcomes)
        )
    )

    assert [one is None for one in found] == [True, False, False, False]
    current = await journal.calls.get(lease.call.id)
    assert current.state == "completed"
    assert current.revision == 3


async def test_person_cannot_move_a_call_under_lease(journal: Journal) -> None:
    call = await accept(journal, new())
    lease = await claim_one(journal)

    with pytest.raises(ConflictError, match="only a pending call can be cancelled"):
        await journal.calls.change(call.id, lambda one, _: cancel(one, "ana", 1))

    assert await journal.leases.settle(lease, delivered(lease)) is None


async def test_claim_and_cancel_never_both_win(journal: Journal) -> None:
    calls = [await accept(journal, new()) for _ in range(20)]

    async def try_to_cancel(call_id: str) -> bool:
        try:
            await journal.calls.change(call_id, lambda one, _: cancel(one, "ana", 1))
        except ConflictError:
            return False
        return True

    cancelling = [asyncio.ensure_future(try_to_cancel(call.id)) for call in calls[::2]]
    await anyio.lowlevel.checkpoint()
    leases, _ = await journal.leases.claim(LANE, CONNECTION, 50, LEASE_MS)
    cancelled = {call.id for call, one in zip(calls[::2], cancelling, strict=True) if await one}

    leased = {lease.call.id for lease in leases}
    assert not leased & cancelled
    assert leased | cancelled == {call.id for call in calls}


async def test_evidence_against_a_final_state_is_shown_until_acknowledged(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    refused = sent(lease, said.Rejected(reason="blocked"), clock.now_ms())
    await journal.leases.settle(lease, refused, attempt_of(lease, "rejected"))
    current, parts = await journal.leases.look(lease.call.seq)
    assert current is not None
    against = settle_late_outcome(current, parts, said.Delivered(), POLICY, clock.now_ms())
    assert against is not None
    assert await journal.leases.store_late(current, against)

    assert (await journal.ledger.attention())["contradicted"] == 1
    assert (await journal.calls.get(current.id)).state == "failed"
    await journal.calls.acknowledge(current.id, "ana")

    assert (await journal.ledger.attention())["contradicted"] == 0
    with pytest.raises(ConflictError):
        await journal.calls.acknowledge(current.id, "ana")


async def test_completed_call_without_a_result_shows_none(
    journal: Journal, clock: FakeClock
) -> None:
    call = await accept(journal, new())
    lease = await claim_one(journal)
    await journal.leases.settle(lease, sent(lease, UNCERTAIN, clock.now_ms()))
    await journal.calls.change(
        call.id,
        lambda one, parts: resolve(one, parts, Resolution.DONE, "ana", "", 1, give_up_at_ms=2),
    )

    assert (await journal.calls.detail(call.id)).result is None
