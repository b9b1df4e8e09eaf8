"""Back a journal up while it is in use, and restore it without sending anything twice."""

import os
import shutil
from pathlib import Path

import msgspec

from integrationd.call import Call, CallState, EventRecord
from integrationd.clock import Clock
from integrationd.errors import ConflictError, DamagedError, JournalError
from integrationd.journal import database, rows, sqlite
from integrationd.journal.chain import Chain, read_position
from integrationd.journal.mark import Mark, MarkFile
from integrationd.journal.verify import reading, verify
from integrationd.settlement.record import call_event, move

STEP = 500
_LEASE_MS = 60_000


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """To which point a backup goes.

    Attributes:
        target: The file.
        commit: The last commit that it holds.
        event: The last event that it holds.
        calls: How many calls it holds.
    """

    target: str
    commit: int
    event: int
    calls: int


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What restoring did.

    Attributes:
        moved_aside: Where the files that stood there before are now.
        doubtful: How many calls became unknown, since they may have been delivered meanwhile.
        calls: How many calls the journal holds.
    """

    moved_aside: list[str]
    doubtful: int
    calls: int


def back_up_to(path: Path, target: Path, *, overwrite: bool = False) -> BackupReport:
    """Copy a journal as it stands at one commit, also while a daemon writes to it.

    Raises:
        ConflictError: There is a file at ``target`` already.
        NotFoundError: There is no journal at ``path``.
        JournalUnavailableError: It cannot be read beside the daemon that owns it.
        DamagedError: The copy is not sound; it is removed.
    """
    if target.exists() and not overwrite:
        raise ConflictError(f"{target} exists already", hint="Name another file, or --overwrite.")
    draft = target.with_name(f".{target.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        with reading(path) as db:
            db.execute("PRAGMA query_only = OFF")
            db.execute("VACUUM INTO ?", (str(draft),))
        draft.chmod(0o600)
        report = _look_at(draft, target)
        _sync(draft)
        draft.replace(target)
    except sqlite.SqliteError as error:
        raise sqlite.journal_error(error) from error
    finally:
        draft.unlink(missing_ok=True)
    _sync(target.parent)
    return report


def _look_at(draft: Path, target: Path) -> BackupReport:
    with reading(draft) as db:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedError(f"the copy is not sound: {verdict}")
        return BackupReport(
            target=str(target),
            commit=db.execute("SELECT seq FROM commit_mark").fetchone()[0],
            event=read_position(db)[0],
            calls=db.execute("SELECT count(*) FROM call").fetchone()[0],
        )


def restore(
    backup: Path, path: Path, key: bytes, clock: Clock, *, assume_undelivered: bool = False
) -> RestoreReport:
    """Put a backup in the place of a journal; what stood there is moved aside, not deleted.

    A call that was still to be delivered when the backup was made may have been delivered since.
    It becomes ``unknown``, so that it is looked into rather than sent twice.

    Args:
        backup: A file that :func:`back_up_to` made.
        path: Where the journal is to be.
        key: The instance key under which the backup's events are chained.
        clock: Where time is read.
        assume_undelivered: Leave such calls pending; right only where the daemon had stopped
            before the backup was made.

    Raises:
        JournalLockedError: A daemon owns the journal.
        DamagedError: The backup is not sound.
    """
    report = verify(backup, key)
    if not report.is_sound:
        raise DamagedError(
            f"{backup} is not sound: {report.findings[0]}",
            hint="Take another backup, or save what can be saved with 'integrationd salvage'.",
        )
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = database.FileLock(path.with_name(path.name + ".lock"))
    try:
        aside = _move_aside(path, clock.now_ms())
        shutil.copyfile(backup, path)
        path.chmod(0o600)
        _sync(path)
        doubtful = _settle_doubtful(path, key, clock.now_ms(), keep=assume_undelivered)
    finally:
        lock.release()
    return RestoreReport(moved_aside=aside, doubtful=doubtful, calls=report.calls)


def _move_aside(path: Path, now_ms: int) -> list[str]:
    moved = []
    for ending in ("", "-wal", "-shm", ".mark", ".alarm"):
        old = path.with_name(path.name + ending)
        if old.exists():
            new = path.with_name(f"{path.name}{ending}.before-{now_ms}")
            old.rename(new)
            moved.append(str(new))
    return moved


def _settle_doubtful(path: Path, key: bytes, now_ms: int, *, keep: bool) -> int:
    """Make unknown what may have been delivered, in one commit, and write the new mark."""
    db, _ = database.open_writer(path)
    try:
        chain = Chain(key, read_position(db))
        db.execute("BEGIN IMMEDIATE")
        count = 0 if keep else _doubt_all(db, chain, now_ms)
        told = EventRecord(type="journal.restored", data={"doubtful": count})
        chain.append(db, told, now_ms)
        db.execute("UPDATE commit_mark SET seq = seq + 1")
        db.execute("COMMIT")
        commit: int = db.execute("SELECT seq FROM commit_mark").fetchone()[0]
        _write_mark(path, Mark(commit=commit, event=chain.position[0], head=chain.position[1]))
    except sqlite.SqliteError as error:
        raise sqlite.journal_error(error) from error
    finally:
        db.close()
    return count


def _doubt_all(db: sqlite.Connection, chain: Chain, now_ms: int) -> int:
    count, last = 0, 0
    while True:
        found = db.execute(
            "SELECT * FROM call_record WHERE seq > ? AND state IN ('pending', 'processing')"
            " AND damaged_at_ms IS NULL ORDER BY seq LIMIT ?",
            (last, STEP),
        ).fetchall()
        if not found:
            return count
        for row in found:
            _doubt(db, chain, rows.call_of(row), now_ms)
        count, last = count + len(found), found[-1][0]


def _doubt(db: sqlite.Connection, chain: Chain, call: Call, now_ms: int) -> None:
    leased = call
    if call.state is CallState.PENDING:
        leased = call.replace(
            state=CallState.PROCESSING,
            revision=call.revision + 1,
            connection=call.connection or "restored",
            due_at_ms=None,
            lease_id=0,
            lease_until_ms=now_ms + _LEASE_MS,
        )
        _store(db, leased, call.revision)
    unknown = move(
        leased,
        CallState.UNKNOWN,
        now_ms,
        "restored",
        "It was still to be delivered when the backup was made, and may have been since.",
        doubt=1,
        connection=call.connection,
    )
    _store(db, unknown, leased.revision)
    chain.append(db, call_event(unknown, "unknown"), now_ms)


def _store(db: sqlite.Connection, call: Call, before_revision: int) -> None:
    stored = db.execute(rows.STORE_CALL, rows.store_values(call, before_revision))
    if stored.rowcount != 1:
        raise JournalError(f"call {call.id} could not be written")


def _write_mark(path: Path, mark: Mark) -> None:
    file = MarkFile(path.with_name(path.name + ".mark"))
    try:
        file.write(mark)
    finally:
        file.close()


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
