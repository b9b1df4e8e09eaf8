"""The journal as a whole: opened, written in groups, kept alive through disk faults.

Its condition is one of ``ready``, ``full`` (the disk has no room but what is kept for settling:
nothing new is accepted, what is there is served and delivered), ``recovering`` (the disk failed:
closed, reopened, re-checked) and ``closed``. While it is ready, but its disk low on room, calls of
low priority are refused. Nothing here ever deletes or re-creates a journal.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio

from integrationd.call import EventRecord
from integrationd.clock import Clock
from integrationd.errors import (
    JournalError,
    JournalFullError,
    JournalHighWaterError,
    JournalUnavailableError,
)
from integrationd.events import Bus, Committed, JournalMoved
from integrationd.journal import database, sqlite
from integrationd.journal.api_keys import ApiKeys
from integrationd.journal.attempts import Attempts
from integrationd.journal.breakers import Breakers
from integrationd.journal.calls import Calls
from integrationd.journal.chain import Chain, Position, read_commit, read_position
from integrationd.journal.condition import Condition, JournalStatus
from integrationd.journal.directory import DirectoryTables
from integrationd.journal.erasure import Erasures
from integrationd.journal.event_log import EventLog
from integrationd.journal.inbox import Inbox
from integrationd.journal.leases import Leases
from integrationd.journal.ledger import Ledger
from integrationd.journal.logbook import Logbook
from integrationd.journal.mark import Mark, MarkFile, Trust
from integrationd.journal.oauth_states import OAuthStates
from integrationd.journal.oauth_tokens import OAuthTokens
from integrationd.journal.room import UNWATCHED, Level, ReadRoom, RoomWatch, Watermarks, read_room
from integrationd.journal.secrets import Secrets
from integrationd.journal.standing import (
    AlarmFile,
    first_lease_id,
    last_call_seq,
    loss_at_opening,
    sign_upgrade,
)
from integrationd.journal.subscriptions import Subscriptions
from integrationd.journal.writer import Transaction, Writer

PROBE_S = 1.0

_Result = TypeVar("_Result")


class Journal:
    """One daemon's journal.

    Args:
        path: Its file.
        key: Chains the event log.
        bus: Where commits and conditions are told.
        clock: The time source.
        marks: Where the room of its disk becomes too little; nowhere unless given.
        read_room: Asks the system for that room.

    Attributes:
        calls: Accepting, looking at and moving calls.
        leases: Claiming, settling and reclaiming calls.
        attempts: The log of exchanges.
        ledger: The balance.
        breakers: Breakers across restarts.
        events: The event log.
        inbox: What providers sent to us.
        logbook: Attempts and the inbox read as one log.
        api_keys: Who may use the API.
        secrets: The vault's rows.
        erasures: What a data subject may ask for.
        subscriptions: Who is told of which events.
        oauth_tokens: The tokens of connections, sealed.
        oauth_states: Authorisations that were begun.
        directory: Tenants and connections made over the API.
    """

    def __init__(
        self,
        path: Path,
        key: bytes,
        bus: Bus,
        clock: Clock,
        marks: Watermarks = UNWATCHED,
        read_room: ReadRoom = read_room,
    ) -> None:
        self._path, self._key = path, key
        self._alarm = AlarmFile(path.with_name(path.name + ".alarm"))
        self._room = RoomWatch(path.parent, marks, clock, read_room)
        self._bus = bus
        self._clock = clock
        self._condition, self._reason = Condition.CLOSED, "not opened yet"
        self._is_low = False
        self._changed, self._handling = asyncio.Event(), anyio.Lock()
        self._exclusive = self._checkpointing = False
        self._lock: database.FileLock | None = None
        self._mark: MarkFile | None = None
        self._db: sqlite.Connection | None = None
        self._writer: Writer | None = None
        self._quick: database.ReadConnection | None = None
        self._slow: database.ReadConnection | None = None
        self.calls = Calls(self, clock)
        self.leases = Leases(self, clock)
        self.attempts = Attempts(self)
        self.ledger = Ledger(self)
        self.breakers = Breakers(self)
        self.events = EventLog(self)
        self.inbox = Inbox(self)
        self.logbook = Logbook(self)
        self.api_keys = ApiKeys(self)
        self.secrets = Secrets(self, clock)
        self.erasures = Erasures(self, clock)
        self.subscriptions = Subscriptions(self, self.calls, clock)
        self.oauth_tokens, self.oauth_states = OAuthTokens(self, clock), OAuthStates(self)
        self.directory = DirectoryTables(self, clock)
        bus.subscribe(Committed, self._after_commit)

    @property
    def condition(self) -> Condition:
        """What the journal can do now."""
        return self._condition

    @property
    def is_busy(self) -> bool:
        """Whether a write or a read is under way."""
        reads = sum(one.outstanding for one in (self._quick, self._slow) if one)
        return reads > 0 or (self._writer is not None and self._writer.is_busy)

    def status(self) -> JournalStatus:
        """Return what a person may want to know, as of now."""
        self._look_if_due()
        room = self._room.room
        return JournalStatus(
            condition=self._condition,
            reason=self._reason,
            alarm=self._alarm.read(),
            sqlite_version=".".join(map(str, sqlite.VERSION)),
            exclusive=self._exclusive,
            wal_bytes=database.wal_bytes(self._path),
            level=self._room.level,
            free_bytes=room and room.free_bytes,
            disk_bytes=room and room.total_bytes,
        )

    async def open(self) -> None:
        """Take the journal and open it; with a full or failing disk, stay ready to try again.

        Raises:
            JournalLockedError: Another daemon owns it.
            JournalVersionError: It is newer than this program.
            OSError: Its directory cannot be used at all.
        """
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock = database.FileLock(self._path.with_name(self._path.name + ".lock"))
        self._mark = MarkFile(self._path.with_name(self._path.name + ".mark"), self._key)
        try:
            await self._open_database()
        except sqlite.LibraryErrors as error:
            if sqlite.fault_of(error) in (sqlite.Fault.CONSTRAINT, sqlite.Fault.OTHER):
                raise JournalError(f"{self._path} cannot serve as the journal: {error}") from error
            self._note_fault(error)

    async def _open_database(self, *, recheck: bool = False) -> None:
        db, self._exclusive = await asyncio.to_thread(database.open_writer, self._path)
        self._db = db
        self._checkpointing = False
        position = read_position(db)
        loss = self._compare_with_mark(db, position)
        # Reading everything once and emptying the WAL shows whether the disk can be trusted again.
        wrong = await asyncio.to_thread(database.recheck, db) if recheck else None
        if wrong:
            self._move(Condition.RECOVERING, wrong)
            return
        self.calls.begin_after(last_call_seq(db))
        self.leases.begin_after(first_lease_id(db))
        mark = self._mark
        if mark is None:
            raise JournalUnavailableError("the journal is closed")
        chain = Chain(self._key, position)
        self._writer = Writer(db, chain, mark, self._bus, self._clock, self._note_fault)
        if loss:
            await self._tell_loss(self._writer, loss)
        if not self._exclusive:
            self._quick = await database.ReadConnection.open(self._path)
            self._slow = await database.ReadConnection.open(self._path)
        self._room.look()
        # What is there is served and delivered from now on, also if there is no room for more.
        self._move(Condition.READY, self._room.told())
        self._heed_room()

    def _compare_with_mark(self, db: sqlite.Connection, position: Position) -> str:
        """Raise the alarm if the journal stands below its high-water mark; return its text."""
        mark = self._mark
        if mark is None:
            return ""
        is_upgraded = sign_upgrade(db, self._key)
        loss = loss_at_opening(db, mark, position, is_upgraded=is_upgraded)
        if loss and not self._alarm.read():
            self._alarm.write(loss)
        if mark.read()[1] is not Trust.SEALED:
            with contextlib.suppress(OSError):
                mark.write(Mark(read_commit(db), *position))
                mark.sync()
        return loss

    async def _tell_loss(self, writer: Writer, loss: str) -> None:
        """Have the log itself tell of a loss, since the alarm's file can be taken away."""
        told = EventRecord(type="journal.lost", data={"found": loss})
        now_ms = self._clock.now_ms()
        with contextlib.suppress(JournalError):
            await writer.run(lambda writing: writing.chain.append(writing.db, told, now_ms))

    async def acknowledge_alarm(self, by: str) -> bool:
        """Take note of a loss, so that it is no longer shown; return whether there was one."""
        text = self._alarm.read()
        if not text:
            return False
        event = EventRecord(type="journal.acknowledged", data={"by": by, "found": text})
        now_ms = self._clock.now_ms()
        await self.write(lambda writing: writing.chain.append(writing.db, event, now_ms))
        self._alarm.remove()
        return True

    async def run(self) -> None:
        """Bring the journal back whenever a fault or want of room stops it, all its life long."""
        while self._condition is not Condition.CLOSED:
            if self._condition is Condition.READY and self._room.level is Level.AMPLE:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._clock.sleep(PROBE_S)
            with contextlib.suppress(sqlite.SqliteError, JournalError):
                await self._try_again()

    async def _try_again(self) -> None:
        if self._writer is None or self._condition is Condition.RECOVERING:
            await self._reopen()
            return
        self._room.look()
        self._heed_room()
        if self._may_resume():
            await self._writer.run(_probe)
        if self._may_resume():
            self._move(Condition.READY, self._room.told())

    def _may_resume(self) -> bool:
        return self._condition is Condition.FULL and self._room.level is not Level.CRITICAL

    async def _reopen(self) -> None:
        # Never left half done: a thread that still has the connection would use it beside the next.
        with anyio.CancelScope(shield=True):
            async with self._handling:
                if self._condition is Condition.CLOSED:
                    return
                await self._close_database()
                try:
                    await self._open_database(recheck=True)
                except sqlite.LibraryErrors as error:
                    self._note_fault(error)

    def _note_fault(self, error: Exception) -> None:
        fault = sqlite.fault_of(error)
        is_broken = fault is sqlite.Fault.BROKEN
        if fault is sqlite.Fault.FULL or (is_broken and database.disk_is_full(self._path)):
            self._move(Condition.FULL, "The disk has no room for the journal.")
        elif fault in (sqlite.Fault.BROKEN, sqlite.Fault.BUSY):
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            self._move(Condition.RECOVERING, f"The journal's disk failed: {name}: {error}")

    def _look_if_due(self) -> None:
        """Look at the room, at most once a second while there is enough of it."""
        if self._room.is_due and self._condition is not Condition.CLOSED:
            self._room.look()
            self._heed_room()

    def _heed_room(self) -> None:
        """Move as the room asks for; a fault is mended elsewhere."""
        is_critical = self._room.level is Level.CRITICAL
        if self._condition is Condition.READY or (
            self._condition is Condition.FULL and is_critical
        ):
            self._move(Condition.FULL if is_critical else Condition.READY, self._room.told())

    def _move(self, condition: Condition, reason: str) -> None:
        is_low = condition is Condition.READY and self._room.level is Level.HIGH
        moved = (condition, is_low) != (self._condition, self._is_low)
        self._condition, self._reason, self._is_low = condition, reason, is_low
        if moved:
            self._changed.set()
            self._bus.publish(JournalMoved(condition.value, reason, is_low))

    def refuse_new_work(self, *, is_low: bool = False) -> None:
        """Do nothing while the journal can take new calls.

        Args:
            is_low: The work is of low priority.

        Raises:
            JournalHighWaterError: The disk is low on room, and the work can wait.
            JournalFullError: The disk is full, or has only what is kept for settling.
            JournalUnavailableError: The journal is recovering or closed.
        """
        if self._condition is Condition.READY:
            if is_low and self._is_low:
                raise JournalHighWaterError
            return
        if self._condition is Condition.FULL:
            raise JournalFullError(self._reason)
        raise JournalUnavailableError(
            f"the journal is not ready: {self._reason}", hint="Repeat the request in a moment."
        )

    async def write(self, job: Callable[[Transaction], _Result], *, heavy: bool = False) -> _Result:
        """Run a write in the next group and return its result once that is durable.

        Raises:
            JournalFullError: The disk is full; nothing was kept.
            JournalUnavailableError: The journal is not open, or the disk failed and it is not
                known whether the write was kept.
        """
        if self._writer is None or self._condition is Condition.RECOVERING:
            self.refuse_new_work()
            raise JournalUnavailableError("the journal is not open")
        return await self._writer.run(job, heavy=heavy)

    async def write_surely(self, job: Callable[[Transaction], _Result]) -> _Result:
        """Run a write, again after each time the disk failed or was full, until it is durable.

        Raises:
            JournalUnavailableError: The journal was closed meanwhile.
        """
        while True:
            try:
                return await self.write(job)
            except (JournalFullError, JournalUnavailableError):
                if self._condition is Condition.CLOSED:
                    raise
                await self._clock.sleep(PROBE_S)

    async def rows(self, sql: str, parameters: sqlite.Parameters = ()) -> list[sqlite.Row]:
        """Return all rows of a quick SELECT, read at the last commit."""
        return await self._read(self._quick, sql, parameters)

    async def rows_slowly(self, sql: str, parameters: sqlite.Parameters = ()) -> list[sqlite.Row]:
        """Return all rows of a SELECT that may take long."""
        return await self._read(self._slow, sql, parameters)

    async def _read(
        self, reader: database.ReadConnection | None, sql: str, parameters: sqlite.Parameters
    ) -> list[sqlite.Row]:
        if reader is not None:
            return await reader.rows(sql, parameters)
        if self._writer is None:
            self.refuse_new_work()
            raise JournalUnavailableError("the journal is not open")
        return await self._writer.between_groups(lambda db: sqlite.fetch_all(db, sql, parameters))

    def _after_commit(self, _event: Committed) -> None:
        """See what room is left; checkpoint outside the commit path once the WAL has grown."""
        self._look_if_due()
        writer = self._writer
        if self._checkpointing or writer is None:
            return
        if not database.wal_is_long(self._path):
            return
        self._checkpointing = True
        if self._slow is None:
            writer.between_groups(self._checkpoint_between)
        else:
            self._checkpoint = asyncio.ensure_future(self._checkpoint_beside(self._slow, writer))

    async def _checkpoint_beside(self, reader: database.ReadConnection, writer: Writer) -> None:
        """Move most of the WAL in another thread, the rest between two groups."""
        try:
            await reader.rows("PRAGMA wal_checkpoint(PASSIVE)")
        except JournalError:
            self._checkpointing = False
            return
        writer.between_groups(self._checkpoint_between)

    def _checkpoint_between(self, db: sqlite.Connection) -> None:
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            self._checkpointing = False

    async def close(self) -> None:
        """Finish the writes that wait, bring the WAL into the file and release the journal."""
        self._shut()
        with anyio.CancelScope(shield=True):
            async with self._handling:
                # Again, since what was being opened meanwhile has said that it is ready.
                self._shut()
                await self._close_database()
        if self._mark is not None:
            self._mark.close()
            self._mark = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _shut(self) -> None:
        self._condition, self._reason = Condition.CLOSED, "the daemon is stopping"
        self._changed.set()

    async def _close_database(self) -> None:
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        readers, self._quick, self._slow = (self._quick, self._slow), None, None
        for reader in readers:
            if reader is not None:
                await reader.close()
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite.SqliteError):
                # Closing the last connection checkpoints, which waits for the disk.
                await asyncio.to_thread(db.close)


def _probe(transaction: Transaction) -> None:
    """Write nothing of its own; the group's own number takes the room that is asked about."""
