"""What the event log and the attempts prove: every edit, gap, addition and cut is found.

Whoever has the files, but not the instance key, can make neither an event's MAC nor an attempt's
digest, an anchor or the mark. Memory grows with the gaps among the attempts, not with their number.
"""

import bisect
import contextlib
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from integrationd.journal import sqlite
from integrationd.journal.chain import (
    FIRST_HEAD,
    PRUNED,
    Position,
    link,
    plain_digest,
    seal_attempt,
    seal_erased,
    sign_anchor,
    sign_attempts,
)
from integrationd.journal.mark import Mark, Trust, decode

Note = Callable[[str], None]

_EVENT = "SELECT seq, at_ms, type, tenant, call_id, connection, data, mac"
EVENTS = _EVENT + ", erased_event, erased_seal FROM event ORDER BY seq"
_OLD_EVENTS = _EVENT + ", NULL, NULL FROM event ORDER BY seq"
ONE_EVENT = _EVENT + " FROM event WHERE seq = ?"
SEALED_COLUMNS = (
    "a.seq, a.call_seq, a.call_id, a.tenant, a.operation, a.kind, a.number, a.connection,"
    " a.provider, a.plugin_digest, a.started_at_ms, a.duration_ms, a.outcome, a.reason, a.detail,"
    " a.sent, a.status_code, a.request, a.response, a.rule"
)
_FROM = " FROM attempt AS a LEFT JOIN event AS e ON e.seq = a.event_seq ORDER BY a.seq"
ATTEMPTS = (
    f"SELECT {SEALED_COLUMNS}, a.digest, a.event_seq, a.erased_event, a.erased_seal, e.data{_FROM}"
)
_OLD_ATTEMPTS = f"SELECT {SEALED_COLUMNS}, a.digest, a.event_seq, NULL, NULL, e.data{_FROM}"
_SEALED_WIDTH = 20
# Where, of these, the detail, the request and the response stand.
ERASABLE = (14, 17, 18)
_MAC = 7
# What an earlier version's digest covered: the call's id, and all from `kind` on.
_CALL_ID, _KIND = 2, 5


class Proven(NamedTuple):
    """How far the log goes.

    Attributes:
        events: Events read.
        attempts: Attempts read.
        first: The number of the event before the first one that is kept.
        end: Where it ends.
    """

    events: int
    attempts: int
    first: int
    end: Position


class Floor(NamedTuple):
    """What is not vouched for of the attempts; see ``attempt_anchor`` in the schema."""

    gone: int = 0
    plain: int = 0


class _Told(msgspec.Struct, frozen=True):
    """What a ``journal.pruned`` event tells."""

    attempts_pruned: list[tuple[int, int]] = []


class _Gaps:
    """Numbers of attempts that are missing, and those that events say were pruned."""

    def __init__(self) -> None:
        self.missing: list[tuple[int, int]] = []
        self.pruned: list[tuple[int, int]] = []

    def unexplained(self) -> Iterator[tuple[int, int]]:
        """Yield what is missing and was not pruned."""
        pruned = merged(self.pruned)
        starts = [first for first, _ in pruned]
        for first, last in self.missing:
            left = first
            at = max(bisect.bisect_right(starts, first) - 1, 0)
            for begin, end in pruned[at:]:
                if begin > last:
                    break
                if begin > left:
                    yield left, begin - 1
                left = max(left, end + 1)
            if left <= last:
                yield left, last


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def check_log(db: sqlite.Connection, key: bytes, note: Note) -> Proven:
    """Read all events and attempts and tell what is wrong with them.

    Args:
        db: A journal, inside a transaction, of this version or an earlier one.
        key: The instance key.
        note: Called with what is wrong, in words.
    """
    floor, gaps = read_floor(db, key, note), _Gaps()
    gaps.missing.append((1, floor.gone))
    loose: dict[str, int] = {}
    attempts, last = _check_attempts(db, key, floor, gaps, loose, note)
    gaps.pruned.append((1, floor.gone))
    first, events, event, head = _check_events(db, key, gaps, loose, note)
    for begin, end in gaps.unexplained():
        note(f"attempts {begin} to {end} are missing, and nothing says that they were pruned")
    return Proven(events, attempts, first, Position(event, head, last))


def read_floor(db: sqlite.Connection, key: bytes, note: Note) -> Floor:
    """Return what is not vouched for of the attempts; nothing where the anchor is forged."""
    if not _has_table(db, "attempt_anchor"):
        (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM attempt").fetchone()
        return Floor(last, last)
    row = db.execute("SELECT gone, plain, signature FROM attempt_anchor").fetchone()
    if row is None:
        return Floor()
    if not hmac.compare_digest(sign_attempts(key, row[0], row[1]), row[2]):
        note("the anchor of the attempts is not signed with this instance key")
        return Floor()
    return Floor(row[0], row[1])


def mark_beside(path: Path) -> bytes:
    """Return what the high-water file of a journal holds; nothing if there is none.

    Raises:
        OSError: It is there but cannot be read.
    """
    try:
        return path.with_name(path.name + ".mark").read_bytes()
    except FileNotFoundError:
        return b""


def check_mark(stored: bytes, key: bytes, commit: int, end: Position, note: Note) -> Trust:
    """Compare the journal with the high-water mark beside it; return what that one proves.

    A mark that is missing or of an earlier version is not told of: a backup has none.
    """
    mark, trust = decode(stored, key)
    if trust is Trust.FORGED:
        note("the high-water mark was not made with this instance key, or is damaged")
    elif trust is not Trust.MISSING:
        _compare(mark, commit, end, note)
    return trust


def _compare(mark: Mark, commit: int, end: Position, note: Note) -> None:
    if mark.commit > commit or mark.event > end.event:
        note(
            f"commits are lost: the journal ends at commit {commit} and event {end.event},"
            f" commit {mark.commit} and event {mark.event} had been durable"
        )
    elif mark.event == end.event and mark.head != end.head:
        note(f"event {end.event} is not the one that the high-water mark knows")
    if mark.attempt > end.attempt:
        note(f"attempts {end.attempt + 1} to {mark.attempt} are lost")


def told_gone(db: sqlite.Connection, key: bytes) -> Callable[[int], bool]:
    """Return what says whether the log tells that an attempt was pruned."""
    ranges = [(1, read_floor(db, key, lambda _: None).gone)]
    for kind, data in db.execute("SELECT type, data FROM event WHERE type = ?", (PRUNED,)):
        ranges += pruned_ranges(kind, data)
    pruned = merged(ranges)
    starts = [first for first, _ in pruned]

    def is_gone(seq: int) -> bool:
        at = bisect.bisect_right(starts, seq) - 1
        return at >= 0 and seq <= pruned[at][1]

    return is_gone


def pruned_ranges(kind: str, data: str) -> list[tuple[int, int]]:
    """Return the numbers of the attempts that an event says were pruned."""
    if kind != PRUNED:
        return []
    try:
        return msgspec.json.decode(data, type=_Told).attempts_pruned
    except msgspec.DecodeError:
        # It was changed, which the chain shows.
        return []


def _check_attempts(
    db: sqlite.Connection,
    key: bytes,
    floor: Floor,
    gaps: _Gaps,
    loose: dict[str, int],
    note: Note,
) -> tuple[int, int]:
    """Check each attempt by itself, and return how many there are and the last number."""
    count, last = 0, floor.gone
    has_erased = _has_table(db, "attempt_anchor")
    for row in db.execute(ATTEMPTS if has_erased else _OLD_ATTEMPTS):
        count += 1
        seq = row[0]
        if seq > last + 1:
            gaps.missing.append((last + 1, seq - 1))
        elif seq <= floor.gone and seq > floor.plain:
            note(f"attempt {seq} had been pruned")
        last = max(last, seq)
        _check_attempt(row, key, floor, loose, note)
    return count, last


def _check_attempt(
    row: sqlite.Row, key: bytes, floor: Floor, loose: dict[str, int], note: Note
) -> None:
    sealed, (digest, event_seq, erased, seal, data) = row[:_SEALED_WIDTH], row[_SEALED_WIDTH:]
    seq = sealed[0]
    if erased is not None:
        is_whole = _same(seal_erased(key, digest, erased, *sealed), seal)
    else:
        is_whole = _same(seal_attempt(key, *sealed), digest) or (
            seq <= floor.plain and _same(plain_digest(sealed[_CALL_ID], *sealed[_KIND:]), digest)
        )
    if not is_whole:
        note(f"attempt {seq} of call {sealed[_CALL_ID]} was changed, or made by somebody else")
    elif data is None:
        loose[digest.hex()] = seq
    elif digest.hex() not in digests_in(data):
        note(f"event {event_seq} does not carry attempt {seq}")


def _check_events(
    db: sqlite.Connection, key: bytes, gaps: _Gaps, loose: dict[str, int], note: Note
) -> tuple[int, int, int, bytes]:
    """Walk the chain; return the number before it, how many, and number and MAC of the last."""
    seq, head = read_anchor(db, key, note)
    first, count = seq, 0
    has_erased = _has_table(db, "attempt_anchor")
    for row in db.execute(EVENTS if has_erased else _OLD_EVENTS):
        count += 1
        if row[0] != seq + 1:
            note(f"events {seq + 1} to {row[0] - 1} are missing")
        if not follows(key, head, row):
            note(f"event {row[0]} was changed, or what stood before it")
        seq, head = row[0], row[_MAC]
        gaps.pruned += pruned_ranges(row[2], row[6])
        if loose and '"attempts"' in row[6]:
            for digest in digests_in(row[6]):
                if digest in loose:
                    note(f"attempt {loose[digest]} does not name event {seq}, which carries it")
    return first, count, seq, head


def follows(key: bytes, head: bytes, row: sqlite.Row) -> bool:
    """Say whether an event, a row of :data:`EVENTS`, follows the one of that MAC."""
    mac, erased, seal = row[_MAC:]
    if erased is not None:
        return isinstance(mac, bytes) and _same(
            seal_erased(key, head + mac, erased, *row[:_MAC]), seal
        )
    return _same(link(key, head, *row[:_MAC]), mac)


def read_anchor(db: sqlite.Connection, key: bytes, note: Note) -> tuple[int, bytes]:
    """Return number and MAC of the event after which the chain begins."""
    anchor = db.execute("SELECT seq, mac, signature FROM event_anchor").fetchone()
    if anchor is None:
        return 0, FIRST_HEAD
    if not hmac.compare_digest(sign_anchor(key, anchor[0], anchor[1]), anchor[2]):
        note("the anchor of the event log is not signed with this instance key")
    return anchor[0], anchor[1]


def digests_in(data: str) -> list[Any]:
    """Return the digests of attempts that an event carries."""
    found = _decoded(data).get("attempts", [])
    return found if isinstance(found, list) else []


def _decoded(data: str) -> dict[str, Any]:
    with contextlib.suppress(msgspec.DecodeError):
        found = msgspec.json.decode(data)
        if isinstance(found, dict):
            return found
    return {}


def _same(expected: bytes, found: Any) -> bool:
    return isinstance(found, bytes) and hmac.compare_digest(expected, found)


def _has_table(db: sqlite.Connection, name: str) -> bool:
    statement = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return db.execute(statement, (name,)).fetchone() is not None
