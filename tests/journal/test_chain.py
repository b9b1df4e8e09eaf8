"""The event chain, verified by a computation of its own: numbers, macs, anchor, attempts."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    DAY_MS,
    KEY,
    LANE,
    accept,
    asked,
    attempt_of,
    claim_one,
    complete,
    decoded,
    new,
    note,
    opened,
    raw,
    sent,
)

from integrationd.call import pinned_lane
from integrationd.errors import ConflictError
from integrationd.journal import Journal, Kept, Retention, Transaction
from integrationd.sdk import outcome as said
from integrationd.settlement import cancel

EVENTS = "SELECT seq, at_ms, type, tenant, call_id, connection, data, mac FROM event ORDER BY seq"
KEEP_A_DAY = Kept(calls_ms=DAY_MS, attempts_ms=DAY_MS, events_ms=DAY_MS)

Row = tuple[Any, ...]


def is_whole(rows: Sequence[Row], anchor: Row | None, key: bytes = KEY) -> bool:
    """Say whether the events follow from the beginning, or from the signed anchor, one by one."""
    number, head = 0, bytes(32)
    if anchor is not None:
        number, head, signature = anchor
        signed = msgspec.msgpack.encode([number, head])
        if hmac.new(key, b"anchor" + signed, hashlib.sha256).digest() != signature:
            return False
    for seq, *fields, mac in rows:
        packed = msgspec.msgpack.encode([seq, *fields])
        head = hmac.new(key, head + packed, hashlib.sha256).digest()
        number += 1
        if seq != number or mac != head:
            return False
    return True


def read(path: Path) -> tuple[list[Row], Row | None]:
    with raw(path) as db:
        rows = db.execute(EVENTS).fetchall()
        anchor = db.execute("SELECT seq, mac, signature FROM event_anchor").fetchone()
    return rows, anchor


async def live(journal: Journal, calls: int = 4) -> None:
    """Complete, retry and cancel some calls, so that there are events of several kinds."""
    for number in range(calls):
        call = await accept(journal, new())
        if number % 2:
            await complete(journal, await claim_one(journal))
        else:
            await journal.calls.change(call.id, lambda one, _: cancel(one, "ana", 1))


async def test_events_form_a_chain_that_anyone_with_the_key_can_verify(
    journal: Journal, path: Path
) -> None:
    await live(journal)

    rows, anchor = read(path)

    assert [row[0] for row in rows] == [1, 2, 3, 4]
    assert anchor is None
    assert is_whole(rows, anchor)
    assert not is_whole(rows, anchor, key=b"another key".ljust(32))


async def test_chain_goes_on_after_a_restart_and_after_a_rollback(path: Path) -> None:
    def refuse(writing: Transaction) -> None:
        note("never")(writing)
        raise ConflictError("no")

    for _ in range(3):
        async with opened(path) as journal:
            await live(journal, 2)
            with pytest.raises(ConflictError):
                await journal.write(refuse)

    rows, anchor = read(path)
    assert len(rows) == 6
    assert is_whole(rows, anchor)


@pytest.mark.parametrize("column", range(8))
async def test_editing_any_column_of_any_event_breaks_the_chain(
    journal: Journal, path: Path, column: int
) -> None:
    await live(journal)
    rows, anchor = read(path)

    for place, row in enumerate(rows):
        value = row[column]
        other = value + 1 if isinstance(value, int) else b"x" * 32 if column == 7 else "other"
        edited = (*row[:column], other, *row[column + 1 :])

        assert not is_whole([*rows[:place], edited, *rows[place + 1 :]], anchor)


async def test_leaving_out_or_swapping_events_breaks_the_chain(
    journal: Journal, path: Path
) -> None:
    await live(journal, 6)
    rows, anchor = read(path)
    assert len(rows) == 6

    for place in range(5):
        less = [*rows[:place], *rows[place + 1 :]]
        assert not is_whole(less, anchor)
        # Not even if whoever did it numbered them anew.
        assert not is_whole([(n, *row[1:]) for n, row in enumerate(less, start=1)], anchor)
        a, b = rows[place], rows[place + 1]
        swapped = [*rows[:place], (a[0], *b[1:]), (b[0], *a[1:]), *rows[place + 2 :]]
        assert not is_whole(swapped, anchor)


async def test_cutting_the_last_events_off_is_seen_at_the_mark(path: Path) -> None:
    async with opened(path) as journal:
        await live(journal)
    with raw(path) as db:
        db.execute("DELETE FROM event WHERE seq > 2")

    async with opened(path) as journal:
        assert "it ends at commit" in journal.status().alarm
        assert "and event 2" in journal.status().alarm


async def prune(journal: Journal, clock: FakeClock) -> int:
    retention = Retention(journal, clock, KEEP_A_DAY, KEY)
    gone = 0
    while step := await retention.prune_once():
        gone += step
    return gone


async def test_pruning_keeps_a_signed_anchor_from_which_the_chain_verifies(
    journal: Journal, path: Path, clock: FakeClock
) -> None:
    await live(journal)
    before, _ = read(path)
    await clock.advance(2 * 24 * 3600)
    await complete(journal, await accept_and_claim(journal, clock))

    assert await prune(journal, clock) > 0

    rows, anchor = read(path)
    assert [(row[0], row[2]) for row in rows] == [(5, "call.completed"), (6, "journal.pruned")]
    assert anchor is not None
    assert anchor[:2] == (4, before[-1][7])
    assert is_whole(rows, anchor)
    forged = (anchor[0], bytes(32), anchor[2])
    assert not is_whole(rows, forged)


async def accept_and_claim(journal: Journal, clock: FakeClock) -> Any:
    await accept(journal, new(now_ms=clock.now_ms()))
    return await claim_one(journal)


async def test_chain_goes_on_from_the_anchor_after_further_pruning(
    path: Path, clock: FakeClock
) -> None:
    for _ in range(3):
        async with opened(path, clock) as journal:
            for _ in range(3):
                await complete(journal, await accept_and_claim(journal, clock), clock.now_ms())
            await clock.advance(2 * 24 * 3600)
            await prune(journal, clock)

    rows, anchor = read(path)
    # The newest stays: it tells which attempts went.
    assert (rows[-1][0], rows[-1][2]) == (12, "journal.pruned")
    assert is_whole(rows, anchor)


async def test_attempts_ride_in_the_next_event_of_their_call(
    journal: Journal, path: Path, clock: FakeClock
) -> None:
    call = await accept(journal, new())
    pinned = pinned_lane("main", "default")
    for lane in (LANE, pinned, pinned):
        lease = await claim_one(journal, lane)
        later = sent(lease, said.Retryable(reason="busy", detail="Try later."), clock.now_ms())
        await journal.leases.settle(lease, later, attempt_of(lease, "retryable"))
        await clock.advance(10)
    await complete(journal, await claim_one(journal, pinned))

    (event,) = await journal.events.after(0, 10)
    with raw(path) as db:
        stored = db.execute(
            "SELECT seq, call_seq, call_id, tenant, operation, kind, number, connection,"
            " provider, plugin_digest, started_at_ms,"
            " duration_ms, outcome, reason, detail, sent, status_code, request, response, rule,"
            " digest, event_seq FROM attempt ORDER BY seq"
        ).fetchall()
    packed = [b"attempt" + msgspec.msgpack.encode(list(row[:20])) for row in stored]
    digests = [hmac.new(KEY, one, hashlib.sha256).digest() for one in packed]
    assert [row[20] for row in stored] == digests
    assert [row[21] for row in stored] == [event.seq] * 4
    assert event.call_id == call.id
    assert decoded(event.data.encode())["attempts"] == [digest.hex() for digest in digests]


async def test_each_attempt_rides_once(journal: Journal, clock: FakeClock) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    taken = sent(lease, said.Accepted(reference="r"), clock.now_ms())
    await journal.leases.settle(lease, taken, attempt_of(lease, "accepted"))
    await clock.advance(60)
    (asking,), _ = await journal.leases.claim_to_ask("main", "default", 1, 1000)
    await complete_by_asking(journal, asking, clock)

    waiting, completed = await journal.events.after(0, 10)

    assert len(decoded(waiting.data.encode())["attempts"]) == 1
    assert len(decoded(completed.data.encode())["attempts"]) == 1
    assert not set(decoded(waiting.data.encode())["attempts"]) & set(
        decoded(completed.data.encode())["attempts"]
    )


async def complete_by_asking(journal: Journal, lease: Any, clock: FakeClock) -> None:
    settlement = asked(lease, said.Done(result={}, reference="r"), clock.now_ms())
    assert await journal.leases.settle(lease, settlement, attempt_of(lease, "done")) is None
