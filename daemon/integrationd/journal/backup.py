"""Back a journal up while it is in use, and restore it without sending anything twice."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from integrationd.call import Actor, Call, CallState, EventRecord, is_subscription
from integrationd.clock import Clock
from integrationd.errors import ConflictError, DamagedError, JournalError
from integrationd.journal import database, rows, sqlite
from integrationd.journal.chain import Chain, read_position
from integrationd.journal.mark import Mark, write_mark
from integrationd.journal.verify import reading, verify
from integrationd.settlement.record import call_event, move

STEP = 500
_LEASE_MS = 60_000
COMMAND_LINE = Actor("somebody", "command line")


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
            event=read_position(db).event,
            calls=db.execute("SELECT count(*) FROM call").fetchone()[0],
        )


def restore(
    backup: Path,
    path: Path,
    key: bytes,
    clock: Clock,
    *,
    assume_undelivered: bool = False,
    by: str = COMMAND_LINE,
) -> RestoreReport:
    """Put a backup in the place of a journal; what stood there is moved aside, not deleted.

    A call that was still to be delivered when the backup was made may have been delivered since.
    It becomes ``unknown``, so that it is not sent twice; receivers of events drop copies.

    Args:
        backup: A file that :func:`back_up_to` made.
        path: Where the journal is to be.
        key: The instance key under which the backup's events are chained.
        clock: Where time is read.
        assume_undelivered: Leave such calls pending; right only where the daemon had stopped
            before the backup was made.
        by: Who asked for it.

    Raises:
        JournalLockedError: A daemon owns the journal.
        DamagedError: The backup is not sound.
    """
    calls = _count_sound(backup, key)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = database.FileLock(path.with_name(path.name + ".lock"))
    try:
        aside = _move_aside(path, clock.now_ms())
        shutil.copyfile(backup, path)
        path.chmod(0o600)
        _sync(path)
        told = {"by": by, "before": aside, "backup": str(backup)}
        doubtful = _settle_doubtful(path, key, clock.now_ms(), told, keep=assume_undelivered)
    finally:
        lock.release()
    return RestoreReport(moved_aside=aside, doubtful=doubtful, calls=calls)


def _count_sound(backup: Path, key: bytes) -> int:
    """Return how many calls a backup holds, once everything in it has been verified."""
    report = verify(backup, key)
    if report.is_sound:
        return report.calls
    raise DamagedError(
        f"{backup} is not sound: {report.findings[0]}",
        hint="Take another backup, or save what can be saved with 'integrationd salvage'.",
    )


def _move_aside(path: Path, now_ms: int) -> list[str]:
    moved = []
    for ending in ("", "-wal", "-shm", ".mark", ".alarm"):
        old = path.with_name(path.name + ending)
        if old.exists():
            new = path.with_name(f"{path.name}{ending}.before-{now_ms}")
            old.rename(new)
            moved.append(str(new))
    return moved


def _settle_doubtful(
    path: Path, key: bytes, now_ms: int, told: Mapping[str, Any], *, keep: bool
) -> int:
    """Make unknown what may have been delivered, in one commit, and write the new mark."""
    db, _ = database.open_writer(path)
    try:
        chain = Chain(key, read_position(db))
        db.execute("BEGIN IMMEDIATE")
        count = 0 if keep else _doubt_all(db, chain, now_ms)
        event = EventRecord(type="journal.restored", data={**told, "doubtful": count})
        chain.append(db, event, now_ms)
        db.execute("UPDATE commit_mark SET seq = seq + 1")
        db.execute("COMMIT")
        commit: int = db.execute("SELECT seq FROM commit_mark").fetchone()[0]
        write_mark(path.with_name(path.name + ".mark"), key, Mark(commit, *chain.position))
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
            call = rows.call_of(row)
            if not is_subscription(call.requested_connection):
                _doubt(db, chain, call, now_ms)
                count += 1
        last = found[-1][0]


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


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
