"""Idempotency keys: one key, one call, whatever happens in between."""

import asyncio

import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import DAY_MS, KEY, Heard, accept, claim_one, complete, new

from integrationd.errors import ConflictError, UnprocessableError
from integrationd.events import Bus, CallAccepted
from integrationd.journal import Journal, Kept, Retention
from integrationd.journal.retention import IDEMPOTENCY_KEPT_MS

KEPT = Kept(calls_ms=DAY_MS, attempts_ms=DAY_MS, events_ms=DAY_MS)


async def count(journal: Journal) -> int:
    found: int = (await journal.rows("SELECT count(*) FROM call"))[0][0]
    return found


async def test_same_key_and_request_give_the_call_as_it_now_is(journal: Journal) -> None:
    (first,) = await journal.calls.accept([new(key="k")])
    await complete(journal, await claim_one(journal))

    (again,) = await journal.calls.accept([new(key="k")])

    assert not first.is_replay
    assert again.is_replay
    assert again.call_id == first.call_id
    assert again.call is not None
    assert again.call.state == "completed"
    assert await count(journal) == 1


async def test_same_key_with_another_request_is_refused(journal: Journal) -> None:
    await journal.calls.accept([new(key="k")])

    with pytest.raises(UnprocessableError) as refused:
        await journal.calls.accept([new(key="k", digest=b"e" * 32)])

    assert refused.value.error_code == "idempotency_mismatch"
    assert await count(journal) == 1


async def test_same_key_of_another_tenant_is_another_key(journal: Journal) -> None:
    receipts = [
        (await journal.calls.accept([new(key="k", tenant=tenant)]))[0] for tenant in ("a", "b")
    ]

    assert len({receipt.call_id for receipt in receipts}) == 2
    assert await count(journal) == 2


async def test_calls_without_a_key_are_never_the_same(journal: Journal) -> None:
    await journal.calls.accept([new(), new()])

    assert await count(journal) == 2


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (new(key="k", digest=b"e" * 32), UnprocessableError),
        (new(own_reference="r", reference_scope="main"), ConflictError),
    ],
)
async def test_batch_is_accepted_whole_or_not_at_all(
    journal: Journal, bus: Bus, fault: object, told: type[Exception]
) -> None:
    await journal.calls.accept([new(key="k"), new(own_reference="r", reference_scope="main")])
    heard = Heard(bus, CallAccepted)

    with pytest.raises(told):
        await journal.calls.accept([new(key="first"), fault, new(key="last")])  # type: ignore[list-item] # parametrized

    assert await count(journal) == 2
    assert not heard.events
    # Refused calls are not remembered.
    (receipt,) = await journal.calls.accept([new(key="first", digest=b"x" * 32)])
    assert not receipt.is_replay


async def test_batch_gives_replays_and_new_calls_in_their_places(journal: Journal) -> None:
    (known,) = await journal.calls.accept([new(key="b")])

    receipts = await journal.calls.accept([new(key="a"), new(key="b"), new(key="c")])

    assert [receipt.is_replay for receipt in receipts] == [False, True, False]
    assert receipts[1].call_id == known.call_id


async def test_batch_that_names_a_key_twice_makes_one_call(journal: Journal) -> None:
    first, second = await journal.calls.accept([new(key="k"), new(key="k")])

    assert (first.is_replay, second.is_replay) == (False, True)
    assert first.call_id == second.call_id
    assert await count(journal) == 1


async def test_batch_that_names_a_key_twice_for_two_requests_is_refused(journal: Journal) -> None:
    with pytest.raises(UnprocessableError):
        await journal.calls.accept([new(key="k"), new(key="k", digest=b"e" * 32)])

    assert await count(journal) == 0


async def test_batch_that_names_a_provider_reference_twice_is_refused(journal: Journal) -> None:
    twice = [new(own_reference="r", reference_scope="main") for _ in range(2)]

    with pytest.raises(ConflictError, match="already that of call"):
        await journal.calls.accept(twice)

    assert await count(journal) == 0


async def test_provider_reference_is_unique_within_its_connection(journal: Journal) -> None:
    taken = await accept(journal, new(own_reference="r", reference_scope="main"))
    await accept(journal, new(own_reference="r", reference_scope="backup"))

    with pytest.raises(ConflictError, match=taken.id) as refused:
        await accept(journal, new(own_reference="r", reference_scope="main"))

    assert refused.value.error_code == "reference_taken"


async def test_key_outlives_its_pruned_call(journal: Journal, clock: FakeClock) -> None:
    (first,) = await journal.calls.accept([new(key="k")])
    await complete(journal, await claim_one(journal))
    await accept(journal, new(now_ms=clock.now_ms()))
    await clock.advance(2 * 24 * 3600)
    while await Retention(journal, clock, KEPT, KEY).prune_once():
        pass
    assert await count(journal) == 1

    (again,) = await journal.calls.accept([new(key="k")])

    assert again.is_replay
    assert (again.call, again.call_id) == (None, first.call_id)


async def test_key_is_forgotten_after_its_time(journal: Journal, clock: FakeClock) -> None:
    await journal.calls.accept([new(key="k")])
    await clock.advance(IDEMPOTENCY_KEPT_MS / 1000 + 1)
    while await Retention(journal, clock, KEPT, KEY).prune_once():
        pass

    (again,) = await journal.calls.accept([new(key="k", now_ms=clock.now_ms())])

    assert not again.is_replay


async def test_hundred_callers_with_one_key_get_one_call(journal: Journal) -> None:
    receipts = await asyncio.gather(*(journal.calls.accept([new(key="k")]) for _ in range(100)))

    found = [receipt for (receipt,) in receipts]
    assert len({receipt.call_id for receipt in found}) == 1
    assert sum(not receipt.is_replay for receipt in found) == 1
    assert await count(journal) == 1


async def test_hundred_callers_in_several_groups_with_one_key_get_one_call(
    journal: Journal,
) -> None:
    async def after(turns: int) -> bool:
        for _ in range(turns):
            await asyncio.sleep(0)
        (receipt,) = await journal.calls.accept([new(key="k")])
        return receipt.is_replay

    replays = await asyncio.gather(*(after(turns) for turns in range(100)))

    assert sorted(replays) == [False, *[True] * 99]
    assert await count(journal) == 1
