"""A disk low on room: what can wait is refused first, what was accepted always goes on."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    KEY,
    Heard,
    accept,
    claim_one,
    complete,
    fail,
    kept_alive,
    new,
    opened,
    passes,
    steer,
)

from integrationd.call import EventRecord, Priority
from integrationd.errors import (
    JournalFullError,
    JournalHighWaterError,
    JournalUnavailableError,
    UnprocessableError,
)
from integrationd.events import Bus, JournalMoved
from integrationd.journal import Condition, Journal, NewCall, NewEvent, Watermarks
from integrationd.journal.room import Level, Room
from integrationd.settlement import cancel

TOTAL, HIGH, CRITICAL = 10_000, 1000, 300
AMPLE_FREE, LITTLE_FREE, HARDLY_FREE = 5000, 500, 100


class Disk:
    """A disk whose room a test decides on.

    Attributes:
        free: What is free.
        looks: How often somebody has looked.
    """

    def __init__(self) -> None:
        self.free: int | None = AMPLE_FREE
        self.looks = 0

    def read(self, _directory: Path) -> Room | None:
        self.looks += 1
        return None if self.free is None else Room(self.free, TOTAL)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@contextlib.asynccontextmanager
async def watched(path: Path, disk: Disk, bus: Bus, clock: FakeClock) -> AsyncIterator[Journal]:
    journal = Journal(path, KEY, bus, clock, Watermarks(HIGH, CRITICAL), disk.read)
    try:
        await journal.open()
        yield journal
    finally:
        await journal.close()


@pytest.fixture
async def journal(path: Path, disk: Disk, bus: Bus, clock: FakeClock) -> AsyncIterator[Journal]:
    async with watched(path, disk, bus, clock) as journal:
        yield journal


async def leave(journal: Journal, disk: Disk, clock: FakeClock, free: int | None) -> None:
    """Leave so much room, and have it noticed by the next commit."""
    disk.free = free
    await clock.advance(1.0)
    await journal.write(lambda _writing: None)


async def idle(journal: Journal) -> None:
    """Have what was begun come to its end, and be taken note of."""
    await anyio.wait_all_tasks_blocked()
    while journal.is_busy:
        await anyio.sleep(0.001)
    await anyio.wait_all_tasks_blocked()


def low(key: str | None = None, digest: bytes = b"d" * 32) -> NewCall:
    return new(key=key, digest=digest, priority=Priority.LOW)


async def test_high_mark_refuses_calls_of_low_priority_only(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, LITTLE_FREE)

    with pytest.raises(JournalHighWaterError, match="low on room"):
        await accept(journal, low())
    await accept(journal, new())
    await accept(journal, new(priority=Priority.HIGH))

    assert journal.condition is Condition.READY
    assert len(await journal.rows("SELECT 1 FROM call")) == 2


async def test_high_mark_refuses_a_batch_with_one_low_call_whole(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, LITTLE_FREE)

    with pytest.raises(JournalHighWaterError):
        await journal.calls.accept([new(), low(), new()])

    assert await journal.rows("SELECT 1 FROM call") == []


async def test_critical_mark_refuses_every_new_call(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, HARDLY_FREE)

    for one in (low(), new(), new(priority=Priority.HIGH)):
        with pytest.raises(JournalFullError, match="All new calls are refused"):
            await accept(journal, one)

    assert journal.condition is Condition.FULL


async def test_critical_mark_leaves_room_to_claim_settle_cancel_and_read(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    first = await accept(journal, new())
    second = await accept(journal, new(connection="other"))
    await leave(journal, disk, clock, HARDLY_FREE)

    await complete(journal, await claim_one(journal))
    cancelled = await journal.calls.change(
        second.id, lambda call, _parts: cancel(call, "ana", clock.now_ms())
    )

    assert (await journal.calls.get(first.id)).state == "completed"
    assert cancelled.state == "cancelled"
    assert all(line.balances for line in await journal.ledger.lines())
    assert journal.condition is Condition.FULL


@pytest.mark.parametrize("free", [LITTLE_FREE, HARDLY_FREE])
async def test_replay_answers_as_ever_whatever_the_room(
    journal: Journal, disk: Disk, clock: FakeClock, free: int
) -> None:
    kept = await journal.calls.accept([low("a"), low("b")])
    await leave(journal, disk, clock, free)

    again = await journal.calls.accept([low("a"), low("b")])

    assert [one.call_id for one in again] == [one.call_id for one in kept]
    assert [one.call for one in again] == [one.call for one in kept]
    assert all(one.is_replay for one in again)
    with pytest.raises(UnprocessableError, match="used before with another request"):
        await journal.calls.accept([low("a", b"x" * 32)])
    with pytest.raises(JournalFullError):
        await journal.calls.accept([low("a"), low("c")])


async def test_replay_is_answered_by_a_disk_without_any_room(journal: Journal) -> None:
    (kept,) = await journal.calls.accept([new(key="a")])
    steer(journal).before_commit = fail("SQLITE_FULL")
    with pytest.raises(JournalFullError):
        await accept(journal, new())

    (again,) = await journal.calls.accept([new(key="a")])

    assert (again.call_id, again.is_replay) == (kept.call_id, True)


async def test_high_mark_leaves_everything_else_as_it_is(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await accept(journal, low())
    await leave(journal, disk, clock, LITTLE_FREE)

    await journal.events.publish(NewEvent(record=EventRecord(type="shop.closed", data={})), 1)
    await complete(journal, await claim_one(journal))

    assert journal.condition is Condition.READY
    assert journal.status().level is Level.HIGH


async def test_journal_takes_everything_again_once_there_is_a_tenth_more_room(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    async with kept_alive(journal):
        await leave(journal, disk, clock, HARDLY_FREE)
        for free, condition, level in (
            (CRITICAL, Condition.FULL, Level.CRITICAL),
            (CRITICAL * 11 // 10, Condition.READY, Level.HIGH),
            (HIGH, Condition.READY, Level.HIGH),
            (HIGH * 11 // 10, Condition.READY, Level.AMPLE),
        ):
            disk.free = free
            await clock.advance(1.0)
            await idle(journal)
            assert (journal.condition, journal.status().level) == (condition, level)
        await accept(journal, low())


async def test_critical_mark_is_left_only_when_a_write_works(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, HARDLY_FREE)
    steered = steer(journal)
    steered.before_commit = fail("SQLITE_FULL")

    async with kept_alive(journal):
        disk.free = AMPLE_FREE
        await clock.advance(1.0)
        await idle(journal)
        assert journal.condition == "full"
        steered.before_commit = lambda: None
        await passes(clock, journal, "ready")


async def test_full_disk_is_not_ready_again_under_the_critical_mark(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    steered = steer(journal)
    steered.before_commit = fail("SQLITE_FULL")
    with pytest.raises(JournalFullError):
        await accept(journal, new())
    steered.before_commit = lambda: None
    disk.free = HARDLY_FREE

    async with kept_alive(journal):
        for _ in range(3):
            await clock.advance(1.0)
            await idle(journal)
        assert journal.condition is Condition.FULL
        assert "All new calls are refused" in journal.status().reason


async def test_room_that_is_low_is_looked_at_after_every_commit(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, LITTLE_FREE)
    disk.free = HARDLY_FREE

    await accept(journal, new())

    with pytest.raises(JournalFullError):
        await accept(journal, new())


async def test_room_is_looked_at_after_commits_and_once_a_second_at_most(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    at_start = disk.looks
    for _ in range(5):
        await accept(journal, new())
    assert disk.looks == at_start

    await clock.advance(1.0)
    for _ in range(5):
        await accept(journal, new())

    assert disk.looks == at_start + 1


async def test_idle_journal_that_has_room_is_left_alone(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    at_start = disk.looks

    async with kept_alive(journal):
        await clock.advance(60.0)

    assert disk.looks == at_start


async def test_status_tells_the_room_as_it_is_now(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    disk.free = LITTLE_FREE
    await clock.advance(1.0)

    status = journal.status()

    assert (status.level, status.free_bytes, status.disk_bytes) == (Level.HIGH, LITTLE_FREE, TOTAL)
    assert "500 B of 9.8 KiB are free" in status.reason


async def test_disk_that_cannot_be_read_has_room(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, LITTLE_FREE)
    await leave(journal, disk, clock, None)

    await accept(journal, low())

    assert journal.status().free_bytes is None


async def test_every_change_is_told_once_and_in_order(
    journal: Journal, disk: Disk, clock: FakeClock, bus: Bus
) -> None:
    heard = Heard(bus, JournalMoved)

    async with kept_alive(journal):
        for free in (LITTLE_FREE, LITTLE_FREE - 1, HARDLY_FREE, LITTLE_FREE, AMPLE_FREE):
            await leave(journal, disk, clock, free)
            await clock.advance(1.0)
            await idle(journal)

    assert [(event.condition, event.is_low) for event in heard.events] == [
        ("ready", True),
        ("full", False),
        ("ready", True),
        ("ready", False),
    ]
    assert heard.events[-1].reason == ""


@pytest.mark.parametrize(
    ("free", "told"),
    [
        (LITTLE_FREE, [("ready", True)]),
        # Ready first, so that what is there is delivered.
        (HARDLY_FREE, [("ready", False), ("full", False)]),
    ],
)
async def test_room_is_looked_at_when_the_journal_is_opened(
    path: Path, disk: Disk, clock: FakeClock, bus: Bus, free: int, told: list[tuple[str, bool]]
) -> None:
    disk.free = free
    heard = Heard(bus, JournalMoved)

    async with watched(path, disk, bus, clock) as journal:
        with pytest.raises(JournalFullError):
            await accept(journal, low())

    assert [(event.condition, event.is_low) for event in heard.events] == told


async def test_recovered_journal_still_knows_that_its_disk_is_low_on_room(
    journal: Journal, disk: Disk, clock: FakeClock
) -> None:
    await leave(journal, disk, clock, LITTLE_FREE)
    steer(journal).before_commit = fail("SQLITE_IOERR_FSYNC")

    async with kept_alive(journal):
        with pytest.raises(JournalUnavailableError):
            await accept(journal, new())
        await passes(clock, journal, "ready")
        with pytest.raises(JournalHighWaterError):
            await accept(journal, low())


async def test_journal_without_marks_fills_its_disk(path: Path) -> None:
    async with opened(path) as journal:
        assert journal.status().level is Level.AMPLE
        assert journal.status().free_bytes
