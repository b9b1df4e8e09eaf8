"""So many submitters, each awaiting its commit: in groups, or each in a transaction of its own."""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import uvloop
from tests.bench.backlog import new_call
from tests.bench.children import order_of
from tests.bench.disk import tuned

from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Journal, NewCall, rows
from integrationd.journal.database import open_writer

Submit = Callable[[], Awaitable[object]]


async def submitted(submit: Submit, concurrency: int, seconds: float) -> float:
    """Return how many submissions a second are done."""
    await asyncio.gather(*(submit() for _ in range(concurrency)))
    began_s, done = time.monotonic(), 0

    async def work() -> None:
        nonlocal done
        while time.monotonic() - began_s < seconds:
            await submit()
            done += 1

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return done / (time.monotonic() - began_s)


async def in_groups(file: Path, concurrency: int, seconds: float) -> float:
    """Return how many calls a second the journal accepts."""
    clock = SystemClock()
    journal = Journal(file, b"k" * 32, Bus(), clock)
    await journal.open()
    try:
        return await submitted(
            lambda: journal.calls.accept([new_call(clock.now_ms())]), concurrency, seconds
        )
    finally:
        await journal.close()


async def one_by_one(file: Path, concurrency: int, seconds: float) -> float:
    """Return how many calls a second aiosqlite keeps, each in a transaction of its own."""
    opened, _ = open_writer(file)
    db: Any = await aiosqlite.Connection(lambda: opened, iter_chunk_size=64)
    clock, seq = SystemClock(), itertools.count(1)

    def keep(new: NewCall) -> None:
        """Make the whole transaction in one turn of aiosqlite's thread, as is best for it."""
        call = new.call.replace(seq=next(seq))
        opened.execute("BEGIN IMMEDIATE")
        opened.execute(rows.INSERT_CALL, rows.insert_values(call))
        body = (call.seq, new.payload, None, rows.seal(call.seq, new.payload, None))
        opened.execute(rows.INSERT_BODY, body)
        opened.execute("COMMIT")

    async def submit() -> None:
        await db._execute(keep, new_call(clock.now_ms()))

    try:
        return await submitted(submit, concurrency, seconds)
    finally:
        await db.close()


async def _run(order: dict[str, Any]) -> float:
    measure = in_groups if order["how"] == "in groups" else one_by_one
    with tempfile.TemporaryDirectory(dir=order["directory"]) as fresh:
        return await measure(Path(fresh, "j.db"), order["concurrency"], order["seconds"])


if __name__ == "__main__":
    with tuned():
        print(json.dumps(uvloop.run(_run(order_of(sys.argv)))))
