"""Prove the event log to an auditor: verified against the mark and an export, and exported.

An export is JSON Lines: a line that says what it is, the events, the attempts' digests, and an end
that is sealed over all before it. Whoever keeps one elsewhere can tell later that the journal has
not been put back to an older state as a whole, which nothing beside the journal can show.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from integrationd.errors import DamagedError, NotFoundError
from integrationd.journal import evidence, sqlite
from integrationd.journal.chain import Position
from integrationd.journal.mark import Trust
from integrationd.journal.verify import FINDINGS_LIMIT, reading

FORMAT = "integrationd-audit-1"
_LOSS = "journal.lost"
_ATTEMPTS = (
    "SELECT seq, call_id, tenant, connection, started_at_ms, outcome, digest, event_seq,"
    " erased_event FROM attempt ORDER BY seq"
)
_encode = msgspec.json.Encoder().encode


class ExportedEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="event"):
    """An event as it stands in an export; MACs are in hex."""

    seq: int
    at_ms: int
    type: str
    tenant: str | None
    call_id: str | None
    connection: str | None
    data: str
    mac: str
    erased_event: int | None = None
    erased_seal: str | None = None


class ExportedAttempt(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="attempt"):
    """What an export tells of an attempt; the digest, in hex, is over all of it."""

    seq: int
    call_id: str
    tenant: str
    connection: str
    started_at_ms: int
    outcome: str
    digest: str
    event_seq: int | None
    erased_event: int | None


class ExportHead(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="head"):
    """How an export begins: its format, and the event before its first."""

    format: str
    after: int
    mac: str


class ExportEnd(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="end"):
    """How an export ends.

    Attributes:
        event: The number of the last event.
        mac: Its MAC.
        attempt: The number of the last attempt.
        events: How many events there are.
        attempts: How many attempts there are.
        seal: An HMAC over everything before this line, and over this line without it.
    """

    event: int
    mac: str
    attempt: int
    events: int
    attempts: int
    seal: str = ""


Line = ExportHead | ExportedEvent | ExportedAttempt | ExportEnd
_decode = msgspec.json.Decoder(Line).decode


class AuditReport(msgspec.Struct, kw_only=True):
    """What an audit has found.

    Attributes:
        events: Events read.
        attempts: Attempts read.
        first: The number of the first event that is kept.
        last: The number of the last event.
        findings: What is wrong, in words; the first thousand.
        remarks: What an auditor should know although nothing is wrong by it.
    """

    events: int = 0
    attempts: int = 0
    first: int = 0
    last: int = 0
    findings: list[str] = msgspec.field(default_factory=list)
    remarks: list[str] = msgspec.field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def note(self, finding: str) -> None:
        """Add a finding."""
        if len(self.findings) < FINDINGS_LIMIT:
            self.findings.append(finding)


def audit(
    path: Path, key: bytes, *, is_backup: bool = False, against: Path | None = None
) -> AuditReport:
    """Verify events, attempts and the high-water mark; a running daemon may go on.

    Args:
        path: The journal.
        key: The instance key.
        is_backup: There is no mark beside it, so it is not missed.
        against: An export that was made earlier and kept elsewhere.

    Raises:
        NotFoundError: There is no journal, or no export.
        JournalUnavailableError: The journal cannot be read beside the daemon that owns it.
        DamagedError: The export is not one of this instance, or was changed.
    """
    report = AuditReport()
    # Before the journal is read, since a daemon at work goes on writing both.
    stored = evidence.mark_beside(path)
    with reading(path) as db:
        db.execute("BEGIN")
        try:
            judge(db, key, stored, report, is_backup=is_backup)
            if against is not None:
                _compare(db, key, against, report)
        except sqlite.SqliteError as error:
            report.note(f"the file cannot be read any further: {error}")
    return report


def judge(
    db: sqlite.Connection, key: bytes, stored: bytes, report: AuditReport, *, is_backup: bool
) -> None:
    """Verify the log of an open journal against the bytes of its mark."""
    proven = evidence.check_log(db, key, report.note)
    report.events, report.attempts = proven.events, proven.attempts
    report.first, report.last = proven.first + 1, proven.end.event
    row = db.execute("SELECT seq FROM commit_mark").fetchone()
    trust = evidence.check_mark(stored, key, row[0] if row else 0, proven.end, report.note)
    if trust is Trust.PLAIN:
        report.note("the high-water mark is of an earlier version and proves nothing")
    elif trust is Trust.MISSING and not is_backup:
        report.note("the high-water mark is missing, so the end may have been cut off")
    for seq, data in db.execute("SELECT seq, data FROM event WHERE type = ?", (_LOSS,)):
        report.remarks.append(f"event {seq} tells of a loss: {data}")


def export_to(path: Path, key: bytes, file: BinaryIO) -> ExportEnd:
    """Write an export of a journal as it stands at one commit; return its last line.

    Raises:
        NotFoundError: There is no journal at ``path``.
        JournalUnavailableError: It cannot be read beside the daemon that owns it.
        DamagedError: The log does not verify, so there is nothing to be sealed.
    """
    report = AuditReport()
    with reading(path) as db:
        db.execute("BEGIN")
        proven = evidence.check_log(db, key, report.note)
        if not report.is_sound:
            raise DamagedError(
                f"the log does not verify: {report.findings[0]}",
                hint="'integrationd audit verify' tells of everything that is wrong.",
            )
        _, before = evidence.read_anchor(db, key, report.note)
        head = ExportHead(format=FORMAT, after=proven.first, mac=before.hex())
        digest = hashlib.sha256()
        for line in (head, *_kept(db)):
            text = _encode(line) + b"\n"
            digest.update(text)
            file.write(text)
        end = _sealed(
            key,
            digest.digest(),
            ExportEnd(
                event=proven.end.event,
                mac=proven.end.head.hex(),
                attempt=proven.end.attempt,
                events=proven.events,
                attempts=proven.attempts,
            ),
        )
        file.write(_encode(end) + b"\n")
    return end


def _kept(db: sqlite.Connection) -> Iterator[ExportedEvent | ExportedAttempt]:
    for *fields, mac, erased, seal in db.execute(evidence.EVENTS):
        names = ExportedEvent.__struct_fields__
        values = (*fields, mac.hex(), erased, seal.hex() if seal else None)
        yield ExportedEvent(**dict(zip(names, values, strict=True)))
    for row in db.execute(_ATTEMPTS):
        fields = dict(zip(ExportedAttempt.__struct_fields__, row, strict=True))
        yield ExportedAttempt(**{**fields, "digest": fields["digest"].hex()})


def _sealed(key: bytes, before: bytes, end: ExportEnd) -> ExportEnd:
    bare = _encode(msgspec.structs.replace(end, seal=""))
    seal = hmac.digest(key, b"export" + before + bare, "sha256").hex()
    return msgspec.structs.replace(end, seal=seal)


def check_export(path: Path, key: bytes, seen: Callable[[Line], None] | None = None) -> ExportEnd:
    """Verify an export by itself and return its last line.

    Args:
        path: The export.
        key: The instance key.
        seen: Called with each of its lines.

    Raises:
        NotFoundError: There is none at ``path``.
        DamagedError: It is not one of this instance, or was changed.
    """
    try:
        with path.open("rb") as file:
            return _checked(_lines(file), path, key, seen or (lambda _: None))
    except FileNotFoundError:
        raise NotFoundError(f"there is no export at {path}", hint="Name another file.") from None


def _lines(file: BinaryIO) -> Iterator[tuple[Line, bytes]]:
    for text in file:
        try:
            yield _decode(text), text
        except msgspec.DecodeError as error:
            raise DamagedError(f"a line of the export cannot be read: {error}") from error


def _checked(
    lines: Iterable[tuple[Line, bytes]], path: Path, key: bytes, seen: Callable[[Line], None]
) -> ExportEnd:
    digest, end, last = hashlib.sha256(), None, Position()
    for line, text in lines:
        if end is not None:
            raise DamagedError(f"{path} goes on after its end")
        if isinstance(line, ExportEnd):
            end = line
            if not hmac.compare_digest(_sealed(key, digest.digest(), end).seal, end.seal):
                raise DamagedError(f"{path} was changed, or is an export of another instance")
        elif isinstance(line, ExportHead):
            last = Position(line.after, bytes.fromhex(line.mac))
        elif isinstance(line, ExportedEvent):
            last = _next(line, last, path, key)
        digest.update(text)
        seen(line)
    if end is None:
        raise DamagedError(f"{path} is cut off: it has no end")
    return end


def _next(event: ExportedEvent, last: Position, path: Path, key: bytes) -> Position:
    *fields, mac, erased, seal = msgspec.structs.astuple(event)
    row = (*fields, bytes.fromhex(mac), erased, bytes.fromhex(seal or ""))
    if event.seq != last.event + 1 or not evidence.follows(key, last.head, row):
        raise DamagedError(f"{path} was changed at event {event.seq}, or is of another instance")
    return Position(event.seq, bytes.fromhex(mac))


def _compare(db: sqlite.Connection, key: bytes, against: Path, report: AuditReport) -> None:
    """Find what an export knows and the journal does not; what was pruned since is in order."""
    first, head = evidence.read_anchor(db, key, lambda _: None)
    is_gone = evidence.told_gone(db, key)

    def look(what: str, line: ExportedEvent | ExportedAttempt, statement: str, told: str) -> None:
        row = db.execute(statement, (line.seq,)).fetchone()
        if row is None:
            report.note(f"the export has {what} {line.seq}, the journal does not")
        elif row[0].hex() != told:
            report.note(f"{what} {line.seq} is another one in the export")

    def seen(line: Line) -> None:
        if isinstance(line, ExportedEvent) and line.seq > first:
            look("event", line, "SELECT mac FROM event WHERE seq = ?", line.mac)
        elif isinstance(line, ExportedAttempt) and not is_gone(line.seq):
            look("attempt", line, "SELECT digest FROM attempt WHERE seq = ?", line.digest)

    end = check_export(against, key, seen)
    if end.event == first and end.mac != head.hex():
        report.note(f"event {end.event} is another one in the export")
