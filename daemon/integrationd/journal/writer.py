"""The one writer: all writes that arrived while the last commit was under way share the next.

Statements run on the event loop inside one open transaction; only the COMMIT, which waits for the
disk, runs in a thread. The connection is used by one of the two at a time. A group that holds a
heavy write runs in the thread as a whole. A member that fails is rolled back alone.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from integrationd.clock import Clock
from integrationd.errors import JournalError, JournalUnavailableError
from integrationd.events import Bus, Committed
from integrationd.journal import sqlite
from integrationd.journal.chain import Chain, read_commit
from integrationd.journal.mark import Mark, MarkFile

GROUP_LIMIT = 512
BUSY_RETRY_S = 0.02

_Result = TypeVar("_Result")


class Transaction:
    """What one write sees: the connection, the event chain, and a place for bus events.

    Attributes:
        db: The connection, inside an open transaction.
        chain: Appends to the event log.
        told: Bus events to publish once the commit is durable.
    """

    __slots__ = ("chain", "db", "told")

    def __init__(self, db: sqlite.Connection, chain: Chain) -> None:
        self.db = db
        self.chain = chain
        self.told: list[object] = []


class _Write(Generic[_Result]):
    __slots__ = ("error", "future", "heavy", "job", "result", "told")

    def __init__(
        self,
        job: Callable[[Transaction], _Result],
        future: "asyncio.Future[_Result]",
        heavy: bool,
    ) -> None:
        self.job = job
        self.future = future
        self.heavy = heavy
        self.result: _Result | None = None
        self.error: Exception | None = None
        self.told: list[object] = []

    def finish(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
            # Nobody may be waiting any more; the error then concerns nobody.
            self.future.exception()
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type] # set with the job's own

    def run(self, db: sqlite.Connection, chain: Chain) -> None:
        transaction = Transaction(db, chain)
        self.error, self.told = None, []
        self.result = self.job(transaction)
        self.told = transaction.told


class _Between(Generic[_Result]):
    __slots__ = ("action", "error", "future", "result")

    def __init__(
        self, action: Callable[[sqlite.Connection], _Result], future: "asyncio.Future[_Result]"
    ) -> None:
        self.action = action
        self.future = future
        self.result: _Result | None = None
        self.error: Exception | None = None

    def run(self, db: sqlite.Connection) -> None:
        try:
            self.result = self.action(db)
        except Exception as error:  # noqa: BLE001 - told to whoever asked for it
            self.error = error

    def finish(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(_member_error(self.error))
            # Nobody may be waiting for it; the error then concerns nobody.
            self.future.exception()
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type] # set with the action's


class Writer:
    """Group commit over one connection.

    Args:
        connection: The writing connection, in autocommit mode.
        chain: The event chain, which is told of commits and rollbacks.
        mark: The high-water file.
        bus: Where events are published after their commit.
        clock: For measuring commits.
        on_fault: Called on the loop with the error of a commit that failed as a whole.
    """

    def __init__(
        self,
        connection: sqlite.Connection,
        chain: Chain,
        mark: MarkFile,
        bus: Bus,
        clock: Clock,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._db = connection
        self._chain = chain
        self._mark = mark
        self._bus = bus
        self._clock = clock
        self._on_fault = on_fault
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Write[Any]] = deque()
        self._between: deque[_Between[Any]] = deque()
        self._busy = False
        self._scheduled = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._commit_seq = read_commit(connection)
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal-commit", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a commit is under way or writes are waiting."""
        return self._busy or bool(self._waiting) or bool(self._between)

    async def run(self, job: Callable[[Transaction], _Result], *, heavy: bool = False) -> _Result:
        """Run ``job`` in the next group and return its result once that is durable.

        Cancelling the caller does not cancel the write: cancelled means "not known".

        Args:
            job: Makes its statements; may run more than once if another member fails.
            heavy: It takes long, so the group runs in the thread.

        Raises:
            JournalFullError: The disk is full; nothing was kept.
            JournalUnavailableError: The disk failed; it is not known whether it was kept.
            IntegrationdError: Whatever the job raised; nothing of it was kept.
        """
        if self._closed:
            raise JournalUnavailableError("the journal is closed")
        write = _Write(job, self._loop.create_future(), heavy)
        self._waiting.append(write)
        self._wake()
        return await asyncio.shield(write.future)

    def between_groups(
        self, action: Callable[[sqlite.Connection], _Result]
    ) -> "asyncio.Future[_Result]":
        """Have ``action`` run in the thread, outside any transaction, before the next group.

        Returns:
            Its result to come, or the error that it ended in, which need not be looked at.
        """
        between = _Between(action, self._loop.create_future())
        if self._closed:
            between.error = JournalUnavailableError("the journal is closed")
            between.finish()
        else:
            self._between.append(between)
            self._wake()
        return between.future

    async def close(self) -> None:
        """Finish what is waiting and end the thread. The connection stays open."""
        self._closed = True
        await self._idle.wait()
        self._tasks.put(None)
        await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        self._idle.clear()
        if not self._busy and not self._scheduled:
            # Not at once, so that everything this turn of the loop submits shares the group.
            self._scheduled = True
            self._loop.call_soon(self._start_group)

    def _start_group(self, *, writes_first: bool = False) -> None:
        self._scheduled = False
        if self._busy:
            return
        if self._between and not (writes_first and self._waiting):
            self._busy = True
            self._tasks.put(self._run_between)
        elif self._waiting:
            self._busy = True
            count = min(len(self._waiting), GROUP_LIMIT)
            group = [self._waiting.popleft() for _ in range(count)]
            self._open_group(group)
        else:
            self._idle.set()

    def _open_group(self, group: list[_Write[Any]]) -> None:
        if any(write.heavy for write in group):
            self._tasks.put(lambda: self._commit(group, prepare=True))
            return
        try:
            self._prepare(group)
        except Exception as error:  # noqa: BLE001 - told to every member below
            self._end_group(group, error, 0.0)
            return
        self._tasks.put(lambda: self._commit(group, prepare=False))

    def _prepare(self, group: list[_Write[Any]]) -> None:
        """Run the statements of a group; if one fails, again with each on its own savepoint."""
        self._begin()
        for write in group:
            before, restore = self._db.total_changes, self._chain.position
            try:
                write.run(self._db, self._chain)
            except Exception as error:
                # Kept for the member that it belongs to.
                if self._fails_the_group(error):
                    raise
                write.error = _member_error(error)
                if self._db.total_changes == before:
                    self._chain.position = restore
                    continue
            else:
                continue
            self._roll_back()
            self._prepare_apart(group)
            break
        self._commit_seq += 1
        self._db.execute("UPDATE commit_mark SET seq = ?", (self._commit_seq,))

    def _prepare_apart(self, group: list[_Write[Any]]) -> None:
        self._begin()
        for write in group:
            self._db.execute("SAVEPOINT member")
            restore = self._chain.position
            try:
                write.run(self._db, self._chain)
            except Exception as error:
                # Kept for the member that it belongs to.
                if self._fails_the_group(error):
                    raise
                write.error = _member_error(error)
                self._db.execute("ROLLBACK TO member")
                self._chain.position = restore
            self._db.execute("RELEASE member")

    def _fails_the_group(self, error: Exception) -> bool:
        """Say whether the disk or the library failed, rather than one member's statements."""
        lost = (sqlite.Fault.FULL, sqlite.Fault.BROKEN, sqlite.Fault.BUSY)
        # Out of memory, for one, SQLite ends the transaction of all by itself.
        return sqlite.fault_of(error) in lost or not self._db.in_transaction

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        sqlite.roll_back(self._db)
        self._chain.roll_back()

    def _commit(self, group: list[_Write[Any]], *, prepare: bool) -> None:
        """Make a group durable; runs in the thread."""
        error: Exception | None = None
        began = self._clock.monotonic()
        try:
            if prepare:
                self._prepare(group)
            self._db.execute("COMMIT")
        except Exception as raised:  # noqa: BLE001 - told to every member on the loop
            error = raised
        took = self._clock.monotonic() - began
        self._loop.call_soon_threadsafe(self._end_group, group, error, took)

    def _write_mark(self) -> None:
        try:
            self._mark.write(Mark(self._commit_seq, *self._chain.position))
        except OSError:
            # A mark below the journal is safe, and the next commit tries again.
            return

    def _end_group(self, group: list[_Write[Any]], error: Exception | None, took: float) -> None:
        if error is None:
            self._chain.commit()
            self._write_mark()
            for write in group:
                write.finish()
            for write in group:
                for event in write.told:
                    self._bus.publish(event)
            last_event = self._chain.position[0]
            self._bus.publish(Committed(writes=len(group), seconds=took, last_event=last_event))
        elif sqlite.fault_of(error) is sqlite.Fault.BUSY:
            self._roll_back_whole()
            self._waiting.extendleft(reversed(group))
            self._loop.call_later(BUSY_RETRY_S, self._go_on)
            return
        else:
            self._fail_group(group, error)
        self._go_on()

    def _roll_back_whole(self) -> None:
        self._roll_back()
        self._commit_seq = self._mark_in_journal()

    def _mark_in_journal(self) -> int:
        try:
            return read_commit(self._db)
        except sqlite.SqliteError:
            return self._commit_seq

    def _fail_group(self, group: list[_Write[Any]], error: Exception) -> None:
        self._roll_back_whole()
        self._fail(group, error)
        self._note(error)

    def _fail(self, group: Iterable[_Write[Any]], error: Exception) -> None:
        told: JournalError = sqlite.journal_error(error)
        for write in group:
            write.error = told
            write.finish()

    def _note(self, error: Exception) -> None:
        """Tell of a fault; after a failed sync nothing that the connection says can be trusted."""
        if sqlite.fault_of(error) is sqlite.Fault.BROKEN:
            self._closed = True
            self._fail(self._waiting, error)
            self._waiting.clear()
        self._on_fault(error)

    def _go_on(self) -> None:
        self._busy = False
        self._start_group()

    def _run_between(self) -> None:
        # What comes meanwhile waits for its turn, so that reads cannot starve the writes.
        actions = [self._between.popleft() for _ in range(len(self._between))]
        for between in actions:
            between.run(self._db)
        self._loop.call_soon_threadsafe(self._end_between, actions)

    def _end_between(self, actions: list[_Between[Any]]) -> None:
        for between in actions:
            between.finish()
            error = between.error
            if error is not None and sqlite.fault_of(error) is sqlite.Fault.BROKEN:
                self._note(error)
        self._busy = False
        self._start_group(writes_first=True)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def _member_error(error: Exception) -> Exception:
    return sqlite.journal_error(error) if isinstance(error, sqlite.LibraryErrors) else error
