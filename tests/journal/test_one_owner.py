"""One daemon owns a journal; with an unsafe SQLite, one connection does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    KEY,
    accept,
    claim_one,
    complete,
    fail,
    kept_alive,
    new,
    note,
    opened,
    passes,
    run_python,
    steer,
)

from integrationd.errors import JournalLockedError, JournalUnavailableError
from integrationd.events import Bus
from integrationd.journal import CallFilter, Journal, database, sqlite

OTHER_DAEMON = """
import asyncio, sys
from pathlib import Path
from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), bytes(32), Bus(), SystemClock())
    try:
        await journal.open()
    finally:
        await journal.close()

asyncio.run(main())
"""
OTHER_READER = """
import sys
from pathlib import Path
from integrationd.journal import sqlite

print(sqlite.connect(Path(sys.argv[1])).execute("SELECT count(*) FROM call").fetchone()[0])
"""


async def test_second_daemon_on_the_same_journal_is_refused(journal: Journal, path: Path) -> None:
    told = await asyncio.to_thread(run_python, OTHER_DAEMON, path)

    assert "JournalLockedError: another daemon owns journal.db" in told.stderr
    await accept(journal, new())


async def test_second_journal_in_the_same_process_is_refused(
    journal: Journal, path: Path, clock: FakeClock
) -> None:
    second = Journal(path, KEY, Bus(), clock)

    with pytest.raises(JournalLockedError):
        await second.open()

    await second.close()
    assert journal.condition == "ready"


async def test_journal_is_free_again_after_it_was_closed(path: Path) -> None:
    async with opened(path):
        pass

    told = await asyncio.to_thread(run_python, OTHER_DAEMON, path)

    assert "JournalLockedError" not in told.stderr
    assert told.returncode == 0


async def test_another_process_reads_beside_a_shared_journal(journal: Journal, path: Path) -> None:
    await accept(journal, new())

    told = await asyncio.to_thread(run_python, OTHER_READER, path)

    assert told.stdout.strip() == "1", told.stderr


@pytest.mark.parametrize(
    ("version", "unsafe"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
    ],
)
def test_library_is_safe_from_the_versions_that_carry_the_fix(
    version: tuple[int, ...], unsafe: bool
) -> None:
    assert sqlite.has_wal_reset_bug(version) is unsafe


@pytest.fixture
async def exclusive(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Journal]:
    """Open a journal as with a library that is not safe with two connections."""
    monkeypatch.setattr(sqlite, "has_wal_reset_bug", lambda: True)
    async with opened(path, clock) as journal:
        yield journal


async def test_exclusive_journal_reads_between_commits(exclusive: Journal, path: Path) -> None:
    call = await accept(exclusive, new())
    await complete(exclusive, await claim_one(exclusive))

    assert exclusive.status().exclusive
    assert (await exclusive.calls.detail(call.id)).call.state == "completed"
    assert len(await exclusive.calls.list(CallFilter(), before=None, limit=5)) == 1
    assert all(line.balances for line in await exclusive.ledger.lines())
    # One connection needs no memory shared with others.
    assert not path.with_name(path.name + "-shm").exists()


async def test_exclusive_journal_commits_nothing_for_a_read(exclusive: Journal) -> None:
    steered = steer(exclusive)

    await asyncio.gather(*(exclusive.rows("SELECT 1") for _ in range(20)))

    assert steered.commits == 0


async def test_exclusive_journal_lets_reads_and_writes_take_turns(exclusive: Journal) -> None:
    async def read_on() -> None:
        for _ in range(200):
            await exclusive.rows("SELECT count(*) FROM event")

    reading = asyncio.gather(*(read_on() for _ in range(5)))
    for _ in range(20):
        await exclusive.write(note("one"))
    still_reading = not reading.done()
    await reading

    assert still_reading
    assert len(await exclusive.events.after(0, 100)) == 20


async def test_exclusive_journal_keeps_every_other_process_out(
    exclusive: Journal, path: Path
) -> None:
    await accept(exclusive, new())

    told = await asyncio.to_thread(run_python, OTHER_READER, path)

    assert "database is locked" in told.stderr


async def test_exclusive_journal_reads_on_a_full_disk(exclusive: Journal) -> None:
    call = await accept(exclusive, new())
    steered = steer(exclusive)
    steered.before_commit = fail("SQLITE_FULL")

    assert await exclusive.calls.get(call.id) == call


async def test_exclusive_journal_recovers_and_checkpoints(
    exclusive: Journal, clock: FakeClock, path: Path
) -> None:
    steer(exclusive).before_commit = fail("SQLITE_IOERR_FSYNC")
    async with kept_alive(exclusive):
        with pytest.raises(JournalUnavailableError):
            await accept(exclusive, new())
        await passes(clock, exclusive, "ready")
        for _ in range(300):
            await accept(exclusive, new(b"{" + b" " * 40_000 + b"}"))

    assert database.wal_bytes(path) < 2 * database.CHECKPOINT_BYTES
    assert len(await exclusive.rows("SELECT 1 FROM call")) == 300


async def test_exclusive_journal_tells_of_a_bad_read(exclusive: Journal) -> None:
    with pytest.raises(JournalUnavailableError):
        await exclusive.rows("SELECT nothing FROM nowhere")

    assert await exclusive.rows("SELECT 1") == [(1,)]
