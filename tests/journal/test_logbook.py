"""The logbook: attempts and webhooks as one list, each entry once, the latest first."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import CONNECTION, accept, attempt_of, claim_one, new, sent

from integrationd.call import Call, new_call_id
from integrationd.errors import NotFoundError
from integrationd.journal import Journal, LogEntry, LogFilter, LogPlace, Received
from integrationd.journal.logbook import merged
from integrationd.sdk import outcome as said

FAULTS = ("rejected", "retryable", "uncertain")


async def attempted(
    journal: Journal,
    outcome: said.Outcome | None = None,
    name: str = "delivered",
    *,
    at_ms: int = START_MS,
    reason: str | None = None,
    **call: Any,
) -> Call:
    """Accept a call and have it attempted once."""
    accepted = await accept(journal, new(**call))
    lease = await claim_one(journal, accepted.lane)
    attempt = msgspec.structs.replace(attempt_of(lease, name, started_ms=at_ms), reason=reason)
    settled = sent(lease, outcome or said.Delivered(reference="theirs"), START_MS)
    await journal.leases.settle(lease, settled, attempt)
    return accepted


async def received(journal: Journal, at_ms: int = START_MS, **changes: Any) -> str:
    """Keep a webhook and return its id."""
    usual: dict[str, Any] = {
        "id": new_call_id(at_ms),
        "tenant": "default",
        "connection": CONNECTION,
        "provider": "till",
        "received_at_ms": at_ms,
        "source": "203.0.113.7",
        "method": "POST",
        "path": "",
        "query": "",
        "headers": "{}",
        "body": b"{}",
        "proof": "signature",
        "address_call_id": None,
        "dedupe": random.randbytes(8),
        "reply_status": 200,
        "reply_type": "",
        "reply_body": b"",
        "types": "charge.success",
    }
    kept, _ = await journal.inbox.keep(Received(**{**usual, **changes}))
    return kept.id


async def listed(journal: Journal, limit: int = 100, **wanted: Any) -> Sequence[LogEntry]:
    found, _ = await journal.logbook.list(LogFilter(**wanted), after=LogPlace(), limit=limit)
    return found


async def shown(journal: Journal, **wanted: Any) -> list[str]:
    """Return outcomes of attempts and states of webhooks that are listed."""
    return [one.outcome for one in await listed(journal, **wanted)]


async def test_attempts_and_webhooks_are_one_list_the_latest_first(journal: Journal) -> None:
    for step in range(3):
        await attempted(journal, at_ms=START_MS + 10 * step)
        await received(journal, START_MS + 10 * step + 5)

    found = await listed(journal)

    assert [one.at_ms - START_MS for one in found] == [25, 20, 15, 10, 5, 0]
    assert [one.is_inbound for one in found] == [True, False] * 3


async def test_entry_names_the_call_that_it_is_about(journal: Journal) -> None:
    call = await attempted(journal, reference_type="invoice", reference_id="INV-7")
    webhook = await received(journal)
    await journal.inbox.mark(1, "applied", None, call.id, START_MS)

    attempt, told = (
        await journal.logbook.attempt(1, None),
        await journal.logbook.webhook(webhook, None),
    )

    about = (call.id, "invoice", "INV-7", "theirs")
    for one in (attempt, told):
        found = (one.call_id, one.reference_type, one.reference_id, one.provider_reference)
        assert found == about
    assert (attempt.operation, attempt.provider, attempt.duration_ms) == ("sms.send", "console", 12)
    assert (told.operation, told.source, told.status_code) == ("charge.success", "203.0.113.7", 200)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
async def test_pages_neither_miss_nor_repeat_whatever_the_clocks_said(
    journal: Journal, limit: int
) -> None:
    chance = random.Random(limit)
    for _ in range(12):
        at_ms = START_MS + chance.randrange(5)
        await (
            attempted(journal, at_ms=at_ms) if chance.random() < 0.5 else received(journal, at_ms)
        )
    expected = {(one.is_inbound, one.seq) for one in await listed(journal)}

    seen: list[tuple[bool, int]] = []
    place = LogPlace()
    while True:
        found, place = await journal.logbook.list(LogFilter(), after=place, limit=limit)
        seen += [(one.is_inbound, one.seq) for one in found]
        # What comes meanwhile is in none of the pages that follow.
        await received(journal, START_MS + 1000)
        if len(found) < limit:
            break

    assert len(seen) == len(set(seen)) == len(expected) == 12
    assert set(seen) == expected


async def test_list_can_be_narrowed(journal: Journal) -> None:
    await attempted(journal, reference_type="invoice", reference_id="INV-7")
    await attempted(
        journal, said.Rejected(reason="no"), "rejected", reason="no", at_ms=START_MS + 9
    )
    late = said.Uncertain(reason="timeout")
    await attempted(journal, late, "uncertain", reason="timeout", tenant="school")
    await received(journal, tenant="school", connection="other", types="refund")

    assert await shown(journal, tenant="school") == ["uncertain", "new"]
    assert await shown(journal, tenant="") == []
    assert await shown(journal, operation="refund") == ["new"]
    assert await shown(journal, operation="sms.send", outcomes=FAULTS) == ["uncertain", "rejected"]
    assert await shown(journal, provider="till") == ["new"]
    assert await shown(journal, connection="other") == ["new"]
    assert await shown(journal, reference_id="INV-7") == ["delivered"]
    assert await shown(journal, reference_id="INV-7", reference_type="order") == []
    assert await shown(journal, reference_type="invoice") == ["delivered"]
    assert await shown(journal, external_reference="theirs") == ["delivered"]
    assert await shown(journal, external_reference="theirs", reference_id="INV-8") == []
    assert await shown(journal, states=(), outcomes=("delivered",)) == ["delivered"]
    assert await shown(journal, states=("new",), outcomes=()) == ["new"]
    timed_out = {"states": (), "outcomes": FAULTS, "timeouts": ("timeout",)}
    assert await shown(journal, timed_out=True, **timed_out) == ["uncertain"]
    assert await shown(journal, timed_out=False, **timed_out) == ["rejected"]
    assert await shown(journal, since_ms=START_MS + 9) == ["rejected"]
    assert len(await shown(journal, until_ms=START_MS + 9)) == 3


async def test_what_is_another_tenants_is_not_there(journal: Journal) -> None:
    await attempted(journal, tenant="school")
    webhook = await received(journal, tenant="school")

    for within in ("shop", "default"):
        with pytest.raises(NotFoundError):
            await journal.logbook.attempt(1, within)
        with pytest.raises(NotFoundError):
            await journal.logbook.webhook(webhook, within)
    assert (await journal.logbook.attempt(1, "school")).seq == 1
    assert (await journal.logbook.webhook(webhook, "school")).id == webhook


async def test_faults_are_the_latest_of_each_call_in_their_order(
    journal: Journal, clock: FakeClock
) -> None:
    call = await accept(journal, new())
    for number in range(5):
        await clock.advance(10)
        lease = await claim_one(journal)
        busy = said.Retryable(reason=f"busy-{number}", sent=False)
        attempt = msgspec.structs.replace(
            attempt_of(lease, "retryable", started_ms=START_MS + number), reason=busy.reason
        )
        await journal.leases.settle(lease, sent(lease, busy, clock.now_ms()), attempt)
    fine = await attempted(journal, operation="email.send", at_ms=START_MS + 77)
    ids = [call.id, fine.id, "nobody"]

    faults = await journal.logbook.faults(ids, FAULTS, 3)

    assert {name: [one.reason for one in found] for name, found in faults.items()} == {
        call.id: ["busy-2", "busy-3", "busy-4"]
    }
    assert await journal.logbook.last_sends_ms(ids) == {
        call.id: START_MS + 4,
        fine.id: START_MS + 77,
    }


async def test_types_are_told_apart_by_connection(journal: Journal) -> None:
    for types in ("a,b", "b,c", ""):
        await received(journal, types=types)
    await received(journal, connection="other", types="z")

    assert await journal.logbook.told_types() == {CONNECTION: ["a", "b", "c"], "other": ["z"]}


@given(
    attempts=st.lists(st.integers(0, 9)),
    webhooks=st.lists(st.integers(0, 9)),
    limit=st.integers(0, 9),
)
def test_merging_keeps_the_order_of_both(
    attempts: list[int], webhooks: list[int], limit: int
) -> None:
    both = [
        [entry(seq, at_ms, is_inbound=is_inbound) for seq, at_ms in enumerate(times)]
        for is_inbound, times in ((False, attempts), (True, webhooks))
    ]

    found = merged(*both, limit=limit)

    assert len(found) == min(limit, len(attempts) + len(webhooks))
    for is_inbound, entries in zip((False, True), both, strict=True):
        taken = [one for one in found if one.is_inbound == is_inbound]
        assert taken == entries[: len(taken)]


def entry(seq: int, at_ms: int, *, is_inbound: bool) -> LogEntry:
    return LogEntry(
        *(is_inbound, seq, str(seq), None, "t", "c", "p", "o", "x", None, None, None, at_ms),
        *(None, None, None, None, None),
    )
