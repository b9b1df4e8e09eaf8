"""Claims: by lane, most urgent first, nobody starved, durable, and never twice."""

import asyncio
from pathlib import Path

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import (
    CONNECTION,
    LANE,
    LEASE_MS,
    accept,
    asked,
    attempt_of,
    claim,
    claim_one,
    complete,
    copied,
    new,
    opened,
    sent,
)

from integrationd.call import DEFAULT_TENANT, AttemptKind, CallState, Priority, pinned_lane
from integrationd.journal import Journal
from integrationd.journal.leases import STARVATION_SHARE
from integrationd.sdk import outcome as said
from integrationd.settlement import expire


async def test_claim_makes_the_call_processing_under_a_lease(journal: Journal) -> None:
    call = await accept(journal, new(b'{"a":1}'))

    (lease,), next_ms = await journal.leases.claim(LANE, CONNECTION, 5, LEASE_MS)

    assert (lease.kind, lease.payload, lease.parts) == (AttemptKind.SEND, b'{"a":1}', ())
    assert lease.call == await journal.calls.get(call.id)
    assert lease.call.state is CallState.PROCESSING
    assert (lease.call.connection, lease.call.tries, lease.call.revision) == (CONNECTION, 1, 2)
    assert lease.call.lease_until_ms == START_MS + LEASE_MS
    assert next_ms is None


async def test_claim_is_durable_when_it_returns(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)

    left = copied(path, tmp_path / "killed")

    async with opened(left) as after:
        assert await after.leases.leased(None, 5) == [lease]


async def test_claim_takes_from_its_own_lane_only(journal: Journal) -> None:
    await accept(journal, new())
    pinned = await accept(journal, new(connection="backup"))
    other = await accept(journal, new(tenant="school"))

    assert [one.call.id for one in await claim(journal, "@backup/default")] == [pinned.id]
    assert [one.call.id for one in await claim(journal, "school/sms.send")] == [other.id]
    assert await claim(journal, "nobody/sms.send") == []
    assert await journal.leases.lanes() == [LANE]


async def test_lanes_are_those_with_pending_calls(journal: Journal) -> None:
    for tenant in ("b", "a", "b"):
        await accept(journal, new(tenant=tenant))
    await accept(journal, new(connection="main"))

    assert await journal.leases.lanes() == ["@main/default", "a/sms.send", "b/sms.send"]


async def test_claim_takes_the_most_urgent_first_and_the_oldest_of_those(
    journal: Journal, clock: FakeClock
) -> None:
    order = []
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.HIGH):
        call = await accept(journal, new(now_ms=clock.now_ms(), priority=priority))
        order.append((priority, call.seq))
        await clock.advance(1)

    leases = await claim(journal, limit=5)

    assert [(lease.call.priority, lease.call.seq) for lease in leases] == sorted(order)


@pytest.mark.parametrize("limit", [1, 3, 8])
async def test_claim_lets_a_starved_low_call_move(journal: Journal, limit: int) -> None:
    await journal.calls.accept([new(priority=Priority.HIGH) for _ in range(60)])
    await journal.calls.accept([new(priority=Priority.LOW) for _ in range(10)])

    taken = []
    for _ in range(40 // limit):
        taken += [lease.call.priority for lease in await claim(journal, limit=limit)]

    assert taken.count(Priority.LOW) == len(taken) // STARVATION_SHARE
    assert taken.count(Priority.HIGH) == len(taken) - len(taken) // STARVATION_SHARE


async def test_claim_starves_no_lane_when_several_take_turns(journal: Journal) -> None:
    lanes = ["a/sms.send", "b/sms.send"]
    for tenant in "ab":
        await journal.calls.accept([new(tenant=tenant, priority=Priority.HIGH) for _ in range(30)])
        await journal.calls.accept([new(tenant=tenant, priority=Priority.LOW)])

    taken: dict[str, list[Priority]] = {lane: [] for lane in lanes}
    for _ in range(STARVATION_SHARE):
        for lane in lanes:
            taken[lane] += [one.call.priority for one in await claim(journal, lane, limit=1)]

    assert {lane: found.count(Priority.LOW) for lane, found in taken.items()} == dict.fromkeys(
        lanes, 1
    )


async def test_claim_gives_a_starved_turn_to_whoever_is_there(journal: Journal) -> None:
    await journal.calls.accept([new(priority=Priority.HIGH) for _ in range(25)])

    assert len(await claim(journal, limit=20)) == 20


async def test_claim_respects_the_due_time_and_tells_the_next(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new(due_at_ms=START_MS + 5_000, priority=Priority.LOW))
    await accept(journal, new(due_at_ms=START_MS + 9_000, priority=Priority.HIGH))

    assert await journal.leases.claim(LANE, CONNECTION, 5, LEASE_MS) == ([], START_MS + 5_000)
    await clock.advance(5)
    leases, next_ms = await journal.leases.claim(LANE, CONNECTION, 5, LEASE_MS)

    assert [lease.call.seq for lease in leases] == [1]
    assert next_ms == START_MS + 9_000


async def test_claim_takes_no_more_than_the_limit_and_says_that_there_is_more(
    journal: Journal,
) -> None:
    await journal.calls.accept([new() for _ in range(7)])

    leases, next_ms = await journal.leases.claim(LANE, CONNECTION, 3, LEASE_MS)

    assert len(leases) == 3
    assert next_ms == START_MS
    assert len(await claim(journal, limit=10)) == 4


async def test_claims_never_give_a_call_out_twice(journal: Journal) -> None:
    await journal.calls.accept([new() for _ in range(50)])

    found = await asyncio.gather(*(claim(journal, limit=7) for _ in range(10)))

    seqs = [lease.call.seq for leases in found for lease in leases]
    assert sorted(seqs) == list(range(1, 51))


async def test_claim_brings_the_parts_of_a_call_to_many(journal: Journal) -> None:
    await accept(journal, new(recipients=("a", "b", "c")))

    lease = await claim_one(journal)

    assert [(part.position, part.recipient) for part in lease.parts] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
    ]


async def test_lease_ids_are_unique_and_grow_across_restarts(path: Path) -> None:
    ids: list[int] = []
    for start_ms in (START_MS, START_MS + 1, 0):
        # The last start finds its clock back in 1970.
        async with opened(path, FakeClock(start_ms)) as journal:
            await journal.calls.accept([new(due_at_ms=0) for _ in range(4)])
            ids += [lease.call.lease_id or 0 for lease in await claim(journal)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 12


async def test_leases_are_reclaimed_after_a_restart(path: Path, clock: FakeClock) -> None:
    async with opened(path, clock) as journal:
        await accept(journal, new(recipients=("a", "b")))
        await accept(journal, new())
        before = await claim(journal)
        await accept(journal, new())

    async with opened(path, clock) as journal:
        assert await journal.leases.leased(START_MS, 10) == []
        found = await journal.leases.leased(None, 10)
        assert found == before
        for lease in found:
            lost = sent(lease, said.Uncertain(reason="interrupted"), clock.now_ms())
            assert await journal.leases.settle(lease, lost) is None

        assert await journal.leases.leased(None, 10) == []
        assert [(await journal.calls.get(one.call.id)).state for one in found] == ["unknown"] * 2


async def test_lease_is_over_at_its_time(journal: Journal, clock: FakeClock) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)

    assert await journal.leases.leased(START_MS + LEASE_MS - 1, 10) == []
    assert await journal.leases.leased(START_MS + LEASE_MS, 10) == [lease]


async def waiting(journal: Journal, clock: FakeClock, calls: int = 1) -> None:
    for _ in range(calls):
        await accept(journal, new(connection=CONNECTION, now_ms=clock.now_ms()))
        lease = await claim_one(journal, pinned_lane(CONNECTION, DEFAULT_TENANT))
        taken = sent(lease, said.Accepted(reference="r"), clock.now_ms())
        await journal.leases.settle(lease, taken, attempt_of(lease))


async def test_asking_leases_a_call_without_moving_it(journal: Journal, clock: FakeClock) -> None:
    await waiting(journal, clock)
    assert await journal.leases.to_ask() == [(CONNECTION, DEFAULT_TENANT)]
    assert await journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 5, LEASE_MS) == (
        [],
        START_MS + 10_000,
    )
    await clock.advance(10)

    (lease,), next_ms = await journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 5, LEASE_MS)

    assert lease.kind is AttemptKind.QUERY
    assert (lease.call.state, lease.call.tries) == (CallState.WAITING, 1)
    assert next_ms is None
    assert await journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 5, LEASE_MS) == ([], None)
    assert await journal.leases.to_ask() == []


async def test_asking_goes_on_until_there_is_an_answer(journal: Journal, clock: FakeClock) -> None:
    await waiting(journal, clock)
    for finding in (said.Pending(), said.CannotTell(), said.Done(result={"ok": True})):
        await clock.advance(60)
        ((lease,), _) = await journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 5, LEASE_MS)
        settlement = asked(lease, finding, clock.now_ms())
        assert await journal.leases.settle(lease, settlement, attempt_of(lease)) is None

    detail = await journal.calls.detail(lease.call.id)
    assert (detail.call.state, detail.call.queries) == (CallState.COMPLETED, 3)
    assert detail.result == b'{"ok":true}'


async def test_asking_takes_no_more_than_the_limit_and_the_longest_due_first(
    journal: Journal, clock: FakeClock
) -> None:
    for _ in range(4):
        await waiting(journal, clock)
        await clock.advance(1)
    await clock.advance(60)

    leases, next_ms = await journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 3, LEASE_MS)

    assert [lease.call.seq for lease in leases] == [1, 2, 3]
    assert next_ms == START_MS + 13_000


async def test_deadlines_come_in_order_and_only_when_they_have_come(
    journal: Journal, clock: FakeClock
) -> None:
    for expires_s in (30, 10, 20, None):
        expires_at_ms = START_MS + expires_s * 1000 if expires_s else None
        await accept(journal, new(expires_at_ms=expires_at_ms))

    assert await journal.leases.next_deadline_ms() == START_MS + 10_000
    assert await journal.leases.past_deadline(10) == []
    await clock.advance(20)
    late = await journal.leases.past_deadline(10)
    await journal.leases.expire([(call, expire(call, clock.now_ms())) for call in late])

    assert [call.seq for call in late] == [2, 3]
    assert await journal.leases.next_deadline_ms() == START_MS + 30_000
    events = [event.type for event in await journal.events.after(0, 10)]
    assert events == ["call.expired", "call.expired"]


async def test_expiring_leaves_out_what_has_moved_meanwhile(
    journal: Journal, clock: FakeClock
) -> None:
    await journal.calls.accept([new(expires_at_ms=START_MS + 1) for _ in range(2)])
    await clock.advance(1)
    first, second = await journal.leases.past_deadline(10)
    await complete(journal, (await claim(journal, limit=1))[0])

    both = [(call, expire(call, clock.now_ms())) for call in (first, second)]
    await journal.leases.expire(both)

    assert (await journal.calls.get(first.id)).state == "completed"
    assert (await journal.calls.get(second.id)).state == "expired"


async def test_lease_for_settling_alone_is_refused_once_the_call_has_moved(
    journal: Journal,
) -> None:
    call = await accept(journal, new(recipients=("a",)))

    lease = await journal.leases.lease_one(call, CONNECTION, LEASE_MS)

    assert lease is not None
    assert len(lease.parts) == 1
    assert await journal.leases.lease_one(call, CONNECTION, LEASE_MS) is None
