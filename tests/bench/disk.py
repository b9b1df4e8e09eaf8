"""What the disk gives, and what SQLite with the daemon's settings makes of it."""

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvloop

from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Journal, Transaction, sqlite
from integrationd.journal.database import open_writer
from integrationd.supervisor import SWITCH_INTERVAL_S

ROW = b"x" * 1024
MEMORY_SPEED = 200_000
_SCHEMA = (
    "CREATE TABLE bench (seq INTEGER PRIMARY KEY, key TEXT, due_at_ms INTEGER, payload BLOB)",
    "CREATE UNIQUE INDEX bench_key ON bench (key)",
    "CREATE INDEX bench_due ON bench (due_at_ms)",
)
_INSERT = "INSERT INTO bench (seq, key, due_at_ms, payload) VALUES (?, ?, ?, ?)"


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Set the interpreter as the daemon sets it."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(50_000, 20, 100)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)


@contextlib.contextmanager
def on_a_loop() -> Iterator[asyncio.Runner]:
    """Give the daemon's kind of event loop, run whenever something is measured on it."""
    with tuned(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


def rate(step: Callable[[], object], seconds: float) -> float:
    """Return how often a second a step can be done."""
    began_s, done = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - began_s) < seconds:
        step()
        done += 1
    return done / passed_s


def sync_rate(file: Path, seconds: float) -> float:
    """Return how often a second 4 KiB can be appended and synced with fdatasync."""
    block = os.urandom(4096)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def step() -> None:
        os.write(handle, block)
        os.fdatasync(handle)

    try:
        found = rate(step, seconds)
    finally:
        os.close(handle)
    assert found < MEMORY_SPEED, f"{file.parent} is no disk; name one with pytest --basetemp"
    return found


class Rows:
    """Makes rows of 1 KiB in a table with two indexes."""

    def __init__(self) -> None:
        self._seq = 0

    def prepare(self, db: sqlite.Connection) -> None:
        """Make the table."""
        for statement in _SCHEMA:
            db.execute(statement)

    def insert(self, db: sqlite.Connection) -> None:
        """Insert one row, inside the transaction that is open."""
        self._seq += 1
        db.execute(_INSERT, (self._seq, f"{self._seq:036}", self._seq, ROW))


class SqlLayer:
    """One row a transaction on a connection set up as the journal's, nothing in between.

    It makes its own checkpoints, in SQLite's default rhythm: the journal's are not its part.
    """

    def __init__(self, file: Path) -> None:
        self._db, _ = open_writer(file)
        self._db.execute("PRAGMA wal_autocheckpoint = 1000")
        self._rows = Rows()
        self._rows.prepare(self._db)

    def measure(self, seconds: float) -> float:
        """Return commits a second."""
        return rate(self._step, seconds)

    def _step(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._rows.insert(self._db)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class OneSubmitter:
    """One row at a time through the journal's writer, each awaited.

    Args:
        file: The journal.
        runner: The loop that it runs on.
    """

    def __init__(self, file: Path, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._rows = Rows()
        self._journal = runner.run(self._open(file))

    async def _open(self, file: Path) -> Journal:
        journal = Journal(file, b"k" * 32, Bus(), SystemClock())
        await journal.open()
        await journal.write(lambda writing: self._rows.prepare(writing.db))
        return journal

    def measure(self, seconds: float) -> float:
        """Return commits a second."""
        return self._runner.run(self._submit(seconds))

    async def _submit(self, seconds: float) -> float:
        began_s, done = time.perf_counter(), 0
        while (passed_s := time.perf_counter() - began_s) < seconds:
            await self._journal.write(self._job)
            done += 1
        return done / passed_s

    def _job(self, transaction: Transaction) -> None:
        self._rows.insert(transaction.db)

    def close(self) -> None:
        """Close the journal."""
        self._runner.run(self._journal.close())
