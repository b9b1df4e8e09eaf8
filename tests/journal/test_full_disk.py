"""A disk that is really full: a small file system of its own, in a namespace of its own."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    KEY,
    accept,
    attempt_of,
    claim_one,
    complete,
    delivered,
    kept_alive,
    new,
    passes,
    until,
)

from integrationd.errors import JournalFullError
from integrationd.events import Bus
from integrationd.journal import Journal

ON_A_SMALL_DISK = 'mount -t tmpfs -o size=1m small "$0" && exec "$@"'


def fill(directory: Path) -> Path:
    """Take all room that is left."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


async def accept_until_full(journal: Journal) -> list[str]:
    accepted = []
    try:
        while True:
            accepted.append((await accept(journal, new(b"{" + b" " * 5000 + b"}"))).id)
    except JournalFullError:
        return accepted


async def full_at_start(directory: Path) -> None:
    filler, clock = fill(directory), FakeClock()
    journal = Journal(directory / "journal.db", KEY, Bus(), clock)

    await journal.open()

    assert journal.condition == "full"
    assert "no room" in journal.status().reason
    with pytest.raises(JournalFullError):
        await accept(journal, new())
    with pytest.raises(JournalFullError):
        await journal.rows("SELECT 1")
    async with kept_alive(journal):
        await clock.advance(3.0)
        assert journal.condition == "full"
        filler.unlink()
        await passes(clock, journal, "ready")
        await accept(journal, new())
    await journal.close()


async def full_while_running(directory: Path) -> None:
    clock = FakeClock()
    journal = Journal(directory / "journal.db", KEY, Bus(), clock)
    await journal.open()
    first = await accept(journal, new())
    lease = await claim_one(journal)
    filler = fill(directory)

    accepted = await accept_until_full(journal)

    assert journal.condition == "full"
    assert len(await journal.rows("SELECT 1 FROM call")) == 1 + len(accepted)
    async with kept_alive(journal):
        settling = asyncio.ensure_future(
            journal.leases.settle(lease, delivered(lease), attempt_of(lease))
        )
        for _ in range(3):
            await clock.advance(1.0)
            await anyio.sleep(0.01)
        assert not settling.done()
        assert (await journal.calls.get(first.id)).state == "processing"
        filler.unlink()
        await until(clock, settling.done)
        assert await settling is None
        await passes(clock, journal, "ready")
        later = await accept(journal, new())
    ids = await journal.rows("SELECT id FROM call ORDER BY seq")
    assert [one for (one,) in ids] == [first.id, *accepted, later.id]
    assert len(await journal.rows("SELECT 1 FROM attempt")) == 1
    assert all(line.balances for line in await journal.ledger.lines())
    assert journal.status().alarm == ""
    await journal.close()


async def full_restarted(directory: Path) -> None:
    clock = FakeClock()
    journal = Journal(directory / "journal.db", KEY, Bus(), clock)
    await journal.open()
    await accept(journal, new())
    await complete(journal, await claim_one(journal))
    filler = fill(directory)
    accepted = await accept_until_full(journal)
    await journal.close()

    await journal.open()
    async with kept_alive(journal):
        filler.unlink()
        await passes(clock, journal, "ready")
        await accept(journal, new())
    assert len(await journal.rows("SELECT 1 FROM call")) == 2 + len(accepted)
    await journal.close()


@pytest.mark.parametrize("story", [full_at_start, full_while_running, full_restarted])
def test_full_disk_loses_nothing_and_resumes_by_itself(
    story: Callable[[Path], Coroutine[Any, Any, None]], tmp_path: Path
) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = [*alone, "sh", "-c", ON_A_SMALL_DISK, str(tmp_path)]
    try:
        able = subprocess.run([*mount, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("this machine lets nobody mount a file system of his own")

    told = subprocess.run(
        [*mount, sys.executable, "-m", __name__, story.__name__, str(tmp_path)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert told.returncode == 0, told.stderr


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))
