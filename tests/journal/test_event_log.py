"""The event log read from a cursor, and written to by apps."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    KEY,
    accept,
    claim_one,
    complete,
    joined,
    new,
    opened,
    raw,
    sent,
    steer,
)

from integrationd.call import EventRecord
from integrationd.errors import JournalFullError, UnprocessableError
from integrationd.events import Bus, Committed
from integrationd.journal import (
    Condition,
    EventFilter,
    EventPage,
    Journal,
    Kept,
    NewEvent,
    Retention,
    StoredEvent,
    Transaction,
    read_after,
    sqlite,
)
from integrationd.journal.event_log import STEP
from integrationd.journal.migrate import migrate
from integrationd.sdk import outcome as said

WEEK_MS = 7 * 86_400_000
INSERT = (
    "INSERT INTO event (seq, at_ms, type, tenant, call_id, connection, data, mac)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
TYPES = ("call.completed", "call.failed", "payment.received", "reward.issued")
PATTERNS = (*TYPES, "call.*", "payment.*", "*", "call", "a.b")


async def append(journal: Journal, *records: EventRecord) -> None:
    def job(writing: Transaction) -> None:
        for record in records:
            writing.chain.append(writing.db, record, 7)

    await journal.write(job)


def told(kind: str = "reward.issued", **about: str) -> EventRecord:
    return EventRecord(type=kind, data={}, **about)


def numbers(page: EventPage) -> list[int]:
    return [event.seq for event in page]


async def test_page_goes_on_where_the_one_before_ended(journal: Journal) -> None:
    await append(journal, *[told() for _ in range(5)])

    first = await journal.events.after(0, 3)
    second = await journal.events.after(first.upto, 3)
    third = await journal.events.after(second.upto, 3)

    assert (numbers(first), first.upto, first.is_at_end) == ([1, 2, 3], 3, False)
    assert (numbers(second), second.upto, second.is_at_end) == ([4, 5], 5, True)
    assert (numbers(third), third.upto, third.is_at_end) == ([], 5, True)
    assert (third.first, third.last) == (1, 5)


async def test_empty_log_has_neither_beginning_nor_end(journal: Journal) -> None:
    page = await journal.events.after(0, 10)

    assert (numbers(page), page.upto, page.first, page.last) == ([], 0, 0, 0)
    assert (await journal.events.latest(3)).upto == 0


async def test_latest_events_come_in_order_with_the_end_of_the_log(journal: Journal) -> None:
    await append(journal, *[told("call.failed" if n % 2 else "reward.issued") for n in range(6)])

    all_ = await journal.events.latest(3)
    some = await journal.events.latest(2, EventFilter(types=("call.*",)))
    none = await journal.events.latest(0)

    assert (numbers(all_), all_.upto) == ([4, 5, 6], 6)
    assert (numbers(some), some.upto) == ([4, 6], 6)
    assert (numbers(none), none.upto) == ([], 6)


async def append_many(journal: Journal, count: int, tenant: str | None = None) -> None:
    """Append events past the chain, which takes no time."""

    def job(writing: Transaction) -> None:
        (last,) = writing.db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
        writing.db.executemany(
            INSERT,
            (
                (last + number, 7, "call.failed", tenant, None, None, "{}", b"")
                for number in range(1, count + 1)
            ),
        )

    await journal.write(job, heavy=True)


async def test_filter_that_matches_nothing_moves_the_cursor_on_step_by_step(
    journal: Journal,
) -> None:
    await append_many(journal, 2 * STEP + 5)
    cursor = 0
    seen: list[int] = []

    while not seen or seen[-1] < 2 * STEP + 5:
        page = await journal.events.after(cursor, 5, EventFilter(tenant="nobody"))
        assert not page.events
        cursor = page.upto
        seen.append(cursor)

    assert seen == [STEP, 2 * STEP, 2 * STEP + 5]
    assert page.is_at_end


async def test_step_begins_at_the_first_event_that_is_kept(journal: Journal) -> None:
    await append_many(journal, 3 * STEP)
    await journal.write(
        lambda writing: writing.db.execute("DELETE FROM event WHERE seq <= ?", (2 * STEP,))
    )

    page = await journal.events.after(0, 3)

    assert numbers(page) == [2 * STEP + 1, 2 * STEP + 2, 2 * STEP + 3]
    assert page.first == 2 * STEP + 1


async def test_events_of_one_call_are_found_however_many_others_there_are(
    journal: Journal,
) -> None:
    await append(journal, told(call_id="c-1"), told(call_id="c-2"))
    await append_many(journal, STEP)
    await journal.write(
        lambda writing: writing.db.execute(
            "UPDATE event SET call_id = 'c-1' WHERE seq = ?", (STEP + 2,)
        )
    )

    wanted = EventFilter(call_id="c-1")
    page, latest = await journal.events.after(0, 5, wanted), await journal.events.latest(1, wanted)

    assert (numbers(page), page.upto) == ([1, STEP + 2], STEP + 2)
    assert numbers(latest) == [STEP + 2]


async def test_events_are_read_inside_a_write_as_they_stand_there(journal: Journal) -> None:
    await append(journal, told(), told("call.failed"))

    def job(writing: Transaction) -> EventPage:
        writing.chain.append(writing.db, told(), 8)
        return read_after(writing.db, 1, 10, EventFilter(types=("reward.issued",)))

    page = await journal.write(job)

    assert (numbers(page), page.last) == ([3], 3)


async def test_many_types_are_asked_for_at_a_time(journal: Journal) -> None:
    await append(journal, *map(told, TYPES))

    page = await journal.events.after(0, 9, EventFilter(types=("payment.*", "call.failed")))

    assert [event.type for event in page] == ["call.failed", "payment.received"]


EVENTS = st.builds(
    StoredEvent,
    seq=st.just(0),
    at_ms=st.just(7),
    type=st.sampled_from(TYPES),
    tenant=st.sampled_from([None, "a", "b"]),
    call_id=st.sampled_from([None, "c-1", "c-2"]),
    connection=st.sampled_from([None, "till"]),
    data=st.just("{}"),
)
FILTERS = st.builds(
    EventFilter,
    types=st.lists(st.sampled_from(PATTERNS), max_size=3).map(tuple),
    tenant=st.sampled_from([None, "a", "b"]),
    call_id=st.sampled_from([None, "c-1"]),
    connection=st.sampled_from([None, "till"]),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite.Connection]:
    with raw(tmp_path_factory.mktemp("log") / "journal.db") as db:
        migrate(db, lambda _version: None)
        yield db


@given(events=st.lists(EVENTS, max_size=12), wanted=FILTERS, after=st.integers(0, 12))
def test_filter_says_in_memory_what_it_says_in_the_journal(
    table: sqlite.Connection, events: Sequence[StoredEvent], wanted: EventFilter, after: int
) -> None:
    table.execute("DELETE FROM event")
    rows = [
        (number, one.at_ms, one.type, one.tenant, one.call_id, one.connection, one.data, b"")
        for number, one in enumerate(events, 1)
    ]
    table.executemany(INSERT, rows)

    page = read_after(table, after, 100, wanted)

    expected = [n for n, one in enumerate(events, 1) if n > after and wanted.matches(one)]
    assert numbers(page) == expected


# Published by apps.


def an_event(kind: str = "reward.issued", key: str | None = "k", digest: bytes = b"d") -> NewEvent:
    record = EventRecord(type=kind, data={"n": 1}, tenant="default")
    return NewEvent(record=record, idempotency_key=key, digest=digest)


async def test_same_key_gives_the_same_event_across_a_restart(path: Path, clock: FakeClock) -> None:
    async with opened(path, clock) as journal:
        first = await journal.events.publish(an_event(), 7)

    async with opened(path, clock) as journal:
        again = await journal.events.publish(an_event(), 9)
        assert len(await journal.events.after(0, 10)) == 1

    assert (first.seq, first.at_ms, first.is_replay) == (1, 7, False)
    assert (again.seq, again.at_ms, again.is_replay) == (1, 7, True)


async def test_key_of_another_event_is_refused_and_one_of_another_tenant_is_not(
    journal: Journal,
) -> None:
    await journal.events.publish(an_event(), 7)
    record = EventRecord(type="reward.issued", data={}, tenant="other")

    other = await journal.events.publish(
        NewEvent(record=record, idempotency_key="k", digest=b"e"), 7
    )
    with pytest.raises(UnprocessableError, match="another event"):
        await journal.events.publish(an_event(digest=b"e"), 7)

    assert other.seq == 2
    assert (await journal.events.after(0, 10)).last == 2


async def test_events_without_a_key_are_all_kept(journal: Journal) -> None:
    for _ in range(3):
        await journal.events.publish(an_event(key=None), 7)

    assert len(await journal.events.after(0, 10)) == 3


async def test_keys_are_forgotten_after_a_week(journal: Journal, clock: FakeClock) -> None:
    kept = Kept(calls_ms=WEEK_MS, attempts_ms=WEEK_MS, events_ms=100 * WEEK_MS)
    retention = Retention(journal, clock, kept, KEY)
    await journal.events.publish(an_event(), clock.now_ms())
    clock.start_ms += WEEK_MS - 1
    await retention.prune_once()
    assert (await journal.events.publish(an_event(), clock.now_ms())).is_replay

    clock.start_ms += 2
    await retention.prune_once()

    assert not (await journal.events.publish(an_event(), clock.now_ms())).is_replay


async def test_nothing_is_published_while_the_disk_is_full(journal: Journal) -> None:
    journal._move(Condition.FULL, "The disk has no room for the journal.")

    with pytest.raises(JournalFullError):
        await journal.events.publish(an_event(), 7)


# What others rely on.


async def test_commit_tells_how_far_the_log_goes(journal: Journal, bus: Bus) -> None:
    heard: list[int] = []
    bus.subscribe(Committed, lambda event: heard.append(event.last_event))

    await append(journal, told(), told())
    await journal.write(lambda _writing: None)
    await append(journal, told())

    assert heard == [2, 2, 3]


async def test_payment_is_told_in_the_commit_that_ends_its_call(
    journal: Journal,
) -> None:
    await accept(
        journal,
        new(
            operation="payment.initiate",
            lane="default/payment.initiate",
            payload=b'{"amount":"10.00","currency":"KES","reference":"INV-7"}',
        ),
    )
    lease = await claim_one(journal, "default/payment.initiate")
    steered = steer(journal)

    settled = sent(lease, said.Delivered(result={"receipt": "R-1"}, reference="p-1"), 1)
    await journal.leases.settle(lease, settled)

    completed, paid = await journal.events.after(0, 10)
    assert steered.commits == 1
    assert (completed.type, paid.type) == ("call.completed", "payment.succeeded")
    assert paid.call_id == lease.call.id
    assert '"amount":"10.00"' in paid.data
    assert '"receipt":"R-1"' in paid.data


async def test_payment_whose_payload_is_gone_is_settled_and_told_without_it(
    journal: Journal,
) -> None:
    await accept(
        journal, new(operation="payment.payout", lane="default/payment.payout", payload=b"{}")
    )
    lease = await claim_one(journal, "default/payment.payout")
    await journal.write(
        lambda writing: writing.db.execute(joined("UPDATE call_body SET payload =", "x'00'"))
    )

    await journal.leases.settle(lease, sent(lease, said.Rejected(reason="refused"), 1))

    failed = (await journal.events.after(0, 10))[-1]
    assert (failed.type, '"amount":null' in failed.data) == ("payment.payout_failed", True)


async def test_other_calls_tell_nothing_of_money(journal: Journal) -> None:
    await accept(journal, new())
    await complete(journal, await claim_one(journal))

    assert [event.type for event in await journal.events.after(0, 10)] == ["call.completed"]


@pytest.mark.parametrize(
    ("wanted", "plan"),
    [
        (EventFilter(), r"SEARCH event USING INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)"),
        (EventFilter(tenant="a"), r"INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)"),
        (EventFilter(types=("a.b",)), r"INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)"),
        (EventFilter(call_id="c"), r"event_call \(call_id=\? AND seq>\?\)"),
    ],
)
async def test_reading_seeks_its_place_and_never_scans_the_log(
    journal: Journal, wanted: EventFilter, plan: str
) -> None:
    await append(journal, told())
    steered = steer(journal)

    await journal.write(lambda writing: read_after(writing.db, 0, 5, wanted))

    (read,) = [one for one in steered.statements if "FROM event" in one[0]]
    steps = [row[3] for row in steered.execute("EXPLAIN QUERY PLAN " + read[0], read[1])]
    assert any(re.search(plan, step) for step in steps), steps
    assert not [step for step in steps if step.startswith("SCAN event")]
