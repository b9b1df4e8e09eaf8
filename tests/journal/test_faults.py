"""A full or failing disk: nothing is lost, nothing false is said, and it comes back by itself."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    KEY,
    Heard,
    accept,
    attempt_of,
    claim_one,
    delivered,
    fail,
    kept_alive,
    new,
    note,
    opened,
    passes,
    raw,
    steer,
    until,
)

from integrationd.errors import JournalError, JournalFullError, JournalUnavailableError
from integrationd.events import Bus, CallAccepted, JournalMoved
from integrationd.journal import Condition, Journal, database


@contextlib.contextmanager
def no_room(journal: Journal) -> Iterator[None]:
    """Let the journal not grow by a single page: SQLite itself then says that it is full."""
    assert journal._db is not None
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages:d}")
    try:
        yield
    finally:
        journal._db.execute("PRAGMA max_page_count = 1073741823")


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Have the system refuse to write any file beyond a size: SQLite then sees an I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def big() -> bytes:
    return b'{"text":"' + b"x" * 40_000 + b'"}'


async def test_full_disk_refuses_new_calls_and_keeps_nothing_of_them(
    journal: Journal, bus: Bus
) -> None:
    heard = Heard(bus, JournalMoved, CallAccepted)
    with no_room(journal):
        with pytest.raises(JournalFullError):
            await accept(journal, new(big()))

        assert journal.condition == "full"
        assert [type(event) for event in heard.events] == [JournalMoved]
        assert await journal.rows("SELECT 1 FROM call") == []
        with pytest.raises(JournalFullError):
            await accept(journal, new())


async def test_full_disk_is_shown_and_what_is_there_is_served(journal: Journal) -> None:
    call = await accept(journal, new())
    with no_room(journal):
        with pytest.raises(JournalFullError):
            await accept(journal, new(big()))

        assert journal.status().condition is Condition.FULL
        assert "no room" in journal.status().reason
        assert await journal.calls.get(call.id) == call


async def test_full_disk_refuses_every_call_of_a_shared_commit(journal: Journal) -> None:
    with no_room(journal):
        results = await asyncio.gather(
            *(accept(journal, new(big() if n == 3 else b"{}")) for n in range(8)),
            return_exceptions=True,
        )

    assert {type(result) for result in results} == {JournalFullError}
    assert await journal.rows("SELECT 1 FROM call") == []


async def test_journal_takes_new_calls_again_once_there_is_room(
    journal: Journal, clock: FakeClock
) -> None:
    async with kept_alive(journal):
        with no_room(journal), pytest.raises(JournalFullError):
            await accept(journal, new(big()))

        await passes(clock, journal, "ready")

        await accept(journal, new(big()))


async def test_settling_on_a_full_disk_waits_and_is_kept_once(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    steered = steer(journal)
    steered.before_commit = fail("SQLITE_FULL")

    settling = asyncio.ensure_future(
        journal.leases.settle(lease, delivered(lease), attempt_of(lease))
    )
    for _ in range(3):
        await anyio.sleep(0.02)
        await clock.advance(1.0)
    assert not settling.done()
    steered.before_commit = lambda: None
    await until(clock, settling.done)

    assert await settling is None
    assert (await journal.calls.get(lease.call.id)).state == "completed"
    assert len(await journal.rows("SELECT 1 FROM attempt")) == 1
    assert [event.type for event in await journal.events.after(0, 10)] == ["call.completed"]


async def test_settling_is_idempotent_when_a_failed_commit_had_been_kept(
    journal: Journal, clock: FakeClock
) -> None:
    await accept(journal, new())
    lease = await claim_one(journal)
    steer(journal).after_commit = fail("SQLITE_IOERR_FSYNC")

    async with kept_alive(journal):
        settling = asyncio.ensure_future(
            journal.leases.settle(lease, delivered(lease), attempt_of(lease))
        )
        await until(clock, settling.done)
        assert await settling is None

    assert len(await journal.rows("SELECT 1 FROM attempt")) == 1
    assert [event.type for event in await journal.events.after(0, 10)] == ["call.completed"]


@pytest.mark.parametrize(
    "name", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT", "SQLITE_READONLY"]
)
async def test_failed_commit_is_never_acknowledged(
    journal: Journal, bus: Bus, clock: FakeClock, name: str
) -> None:
    heard = Heard(bus, CallAccepted)
    kept = await accept(journal, new())
    steered = steer(journal)
    steered.before_commit = fail(name)

    async with kept_alive(journal):
        with pytest.raises(JournalUnavailableError, match=name):
            await accept(journal, new())
        assert journal.condition == "recovering"
        with pytest.raises(JournalUnavailableError):
            await accept(journal, new())

        await passes(clock, journal, "ready")

        commits = steered.commits
        later = await accept(journal, new())
        # The connection that had failed is not used again.
        assert steered.commits == commits
    assert [event.call.id for event in heard.events] == [kept.id, later.id]
    assert await journal.rows("SELECT id FROM call ORDER BY seq") == [(kept.id,), (later.id,)]


async def test_failed_sync_ends_every_write_of_that_connection(journal: Journal) -> None:
    steered = steer(journal)
    steered.before_commit = fail("SQLITE_IOERR_FSYNC")

    # More than one group: what waits behind the failed commit must not use the connection again.
    writes = [asyncio.ensure_future(journal.write(note("n"))) for _ in range(600)]
    results = await asyncio.gather(*writes, return_exceptions=True)

    assert {type(result) for result in results} == {JournalUnavailableError}
    assert steered.commits == 1


async def test_journal_is_rechecked_before_it_takes_new_calls(
    journal: Journal, bus: Bus, clock: FakeClock, path: Path
) -> None:
    checked: list[int] = []

    def look(moved: JournalMoved) -> None:
        if moved.condition == "ready":
            checked.append(database.wal_bytes(path))

    bus.subscribe(JournalMoved, look)
    await accept(journal, new())
    steer(journal).before_commit = fail("SQLITE_IOERR_FSYNC")

    with raw(path) as other:
        # With another connection open, closing the journal's own leaves the log as it is.
        other.execute("SELECT 1 FROM call").fetchall()
        async with kept_alive(journal):
            with pytest.raises(JournalUnavailableError):
                await accept(journal, new())
            assert database.wal_bytes(path) > 0
            await passes(clock, journal, "ready")

    # The whole log had been brought into the file by then.
    assert checked == [0]


async def test_damaged_journal_stays_closed_to_new_calls_and_is_not_deleted(
    path: Path, clock: FakeClock, bus: Bus
) -> None:
    async with opened(path, clock, bus) as journal:
        for _ in range(200):
            await accept(journal, new())
    stored = bytearray(path.read_bytes())
    with raw(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'call'").fetchone()[0]
    stored[(root - 1) * 4096 : (root - 1) * 4096 + 64] = bytes(64)
    path.write_bytes(stored)

    async with opened(path, clock, bus) as journal, kept_alive(journal):
        for _ in range(5):
            await anyio.sleep(0.02)
            await clock.advance(1.0)
        assert journal.condition == "recovering"
        assert journal.status().reason
        with pytest.raises(JournalUnavailableError):
            await accept(journal, new())

    assert path.stat().st_size == len(stored)


async def test_journal_that_is_closed_while_it_recovers_is_closed_once_and_for_all(
    path: Path, clock: FakeClock
) -> None:
    for blinks in range(20):
        async with opened(path, clock, Bus()) as journal:
            steer(journal).before_commit = fail("SQLITE_IOERR_FSYNC")
            with pytest.raises(JournalUnavailableError):
                await accept(journal, new())
            async with kept_alive(journal):
                await clock.advance(1.0)
                for _ in range(blinks):
                    await anyio.lowlevel.checkpoint()

        assert journal.condition is Condition.CLOSED
        with pytest.raises(JournalUnavailableError):
            await accept(journal, new())


async def test_real_write_error_recovers_once_the_disk_works(
    journal: Journal, clock: FakeClock, path: Path
) -> None:
    kept = await accept(journal, new())
    async with kept_alive(journal):
        with files_up_to(database.wal_bytes(path) + 8192):
            with pytest.raises(JournalUnavailableError, match="SQLITE_IOERR"):
                await accept(journal, new(big()))
            assert journal.condition == "recovering"

        await passes(clock, journal, "ready")

        later = await accept(journal, new(big()))
    assert await journal.rows("SELECT id FROM call ORDER BY seq") == [(kept.id,), (later.id,)]
    assert journal.status().alarm == ""


async def test_checkpoints_go_on_after_a_fault_in_the_middle_of_one(
    journal: Journal, clock: FakeClock, path: Path, bus: Bus
) -> None:
    steered = steer(journal)
    journal._checkpointing = True
    steered.before_commit = fail("SQLITE_IOERR_FSYNC")

    async with kept_alive(journal):
        with pytest.raises(JournalUnavailableError):
            await accept(journal, new())
        await passes(clock, journal, "ready")
        for _ in range(400):
            await accept(journal, new(big()))
            # Where the disk is slow, what is accepted meanwhile would only show that it is.
            while journal._checkpointing:
                await asyncio.sleep(0)

    assert database.wal_bytes(path) < 2 * database.CHECKPOINT_BYTES


async def test_reads_during_recovery_are_answered_or_refused(
    journal: Journal, clock: FakeClock
) -> None:
    steer(journal).before_commit = fail("SQLITE_IOERR_FSYNC")
    with pytest.raises(JournalUnavailableError):
        await accept(journal, new())

    async with kept_alive(journal):
        while journal.condition != "ready":
            await clock.advance(0.5)
            with contextlib.suppress(JournalError):
                assert await journal.rows("SELECT 1") == [(1,)]

    assert await journal.rows("SELECT 1") == [(1,)]


async def test_file_that_is_no_journal_is_refused_at_start(path: Path, clock: FakeClock) -> None:
    with raw(path) as db:
        db.execute("CREATE TABLE call (something TEXT)")
    journal = Journal(path, KEY, Bus(), clock)

    with pytest.raises(JournalError, match="cannot serve as the journal"):
        await journal.open()

    await journal.close()
    with raw(path) as db:
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("call",)]
