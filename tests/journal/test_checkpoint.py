"""Checkpoints: made once the log is long, beside the commits, and no oftener."""

import asyncio
from pathlib import Path

from tests.journal.cases import accept, new, opened

from integrationd.journal import CallFilter, Journal, database

PAYLOAD = b"{" + b" " * 20_000 + b"}"


async def fill(journal: Journal, times: float) -> int:
    """Write calls of so many times the threshold, 20 to a commit; return how many."""
    count = round(times * database.CHECKPOINT_BYTES / len(PAYLOAD) / 20)
    for _ in range(count):
        await asyncio.gather(*(accept(journal, new(PAYLOAD)) for _ in range(20)))
    return 20 * count


async def test_log_grows_to_the_threshold_and_is_then_brought_into_the_file(
    journal: Journal, path: Path
) -> None:
    await fill(journal, 0.5)
    assert not database.wal_is_long(path)
    before = path.stat().st_size

    await fill(journal, 1)

    assert path.stat().st_size >= before + database.CHECKPOINT_BYTES
    assert not database.wal_is_long(path)


async def test_log_stays_bounded_under_continued_load(journal: Journal, path: Path) -> None:
    longest, done = 0, asyncio.Event()

    async def read_on() -> None:
        nonlocal longest
        while not done.is_set():
            await journal.calls.list(CallFilter(), before=None, limit=20)
            longest = max(longest, database.wal_bytes(path))

    readers = [asyncio.ensure_future(read_on()) for _ in range(3)]
    await fill(journal, 12)
    done.set()
    await asyncio.gather(*readers)

    assert database.CHECKPOINT_BYTES < longest < 5 * database.CHECKPOINT_BYTES
    assert journal.status().wal_bytes < 5 * database.CHECKPOINT_BYTES


async def test_log_that_began_anew_is_not_checkpointed_again_at_once(
    journal: Journal, path: Path
) -> None:
    await fill(journal, 1.5)
    assert database.wal_bytes(path) >= database.CHECKPOINT_BYTES
    size = path.stat().st_size

    for _ in range(30):
        await accept(journal, new())

    # The log's file is as long as it was, yet nothing of it was brought into the journal's.
    assert path.stat().st_size == size
    assert not journal._checkpointing


async def test_everything_is_there_after_many_checkpoints(path: Path) -> None:
    async with opened(path) as journal:
        written = await fill(journal, 4)

    async with opened(path) as journal:
        assert await journal.rows("SELECT count(*) FROM call_body") == [(written,)]
        assert await journal.rows("PRAGMA integrity_check") == [("ok",)]
        assert journal.status().alarm == ""


async def test_closing_brings_the_whole_log_into_the_file(path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal, 0.5)

    assert database.wal_bytes(path) == 0
    assert not database.wal_is_long(path)
