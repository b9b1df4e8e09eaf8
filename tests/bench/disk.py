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
from integrationd.journal import sqlite
from integrationd.journal.chain import Chain, read_position
from integrationd.journal.database import open_writer
from integrationd.journal.mark import MarkFile
from integrationd.journal.writer import Transaction, Writer
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
    """Rows of 1 KiB with two indexes, inserted through a connection set up as the daemon's.

    Args:
        file: The database.
    """

    def __init__(self, file: Path) -> None:
        self.db, _ = open_writer(file)
        for statement in _SCHEMA:
            self.db.execute(statement)
        self._seq = 0

    def insert(self, db: sqlite.Connection) -> None:
        """Insert one row, inside the transaction that is open."""
        self._seq += 1
        db.execute(_INSERT, (self._seq, f"{self._seq:036}", self._seq, ROW))

    def count(self) -> int:
        """Return how many there are."""
        found: int = self.db.execute("SELECT count(*) FROM bench").fetchone()[0]
        return found

    def checkpoint(self) -> None:
        """Empty the WAL, which the daemon does beside its commits."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


class SqlLayer:
    """One row a transaction, nothing in between."""

    def __init__(self, file: Path) -> None:
        self.rows = Rows(file)

    def measure(self, seconds: float) -> float:
        """Return commits a second."""
        found = rate(self._step, seconds)
        self.rows.checkpoint()
        return found

    def _step(self) -> None:
        db = self.rows.db
        db.execute("BEGIN IMMEDIATE")
        self.rows.insert(db)
        db.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        self.rows.db.close()


class OneSubmitter:
    """One row at a time through the journal's writer, each awaited.

    Args:
        file: The database.
        runner: The loop that it runs on.
    """

    def __init__(self, file: Path, runner: asyncio.Runner) -> None:
        self.rows = Rows(file)
        self._runner = runner
        self._faults: list[Exception] = []
        self._mark = MarkFile(file.with_suffix(".mark"))
        self._writer = runner.run(self._open())

    async def _open(self) -> Writer:
        chain = Chain(b"k" * 32, read_position(self.rows.db))
        return Writer(self.rows.db, chain, self._mark, Bus(), SystemClock(), self._faults.append)

    def measure(self, seconds: float) -> float:
        """Return commits a second."""
        found = self._runner.run(self._submit(seconds))
        assert not self._faults, self._faults
        self.rows.checkpoint()
        return found

    async def _submit(self, seconds: float) -> float:
        began_s, done = time.perf_counter(), 0
        while (passed_s := time.perf_counter() - began_s) < seconds:
            await self._writer.run(self._job)
            done += 1
        return done / passed_s

    def _job(self, transaction: Transaction) -> None:
        self.rows.insert(transaction.db)

    def close(self) -> None:
        """End the writer and close the database."""
        self._runner.run(self._writer.close())
        self._mark.close()
        self.rows.db.close()
