"""The event chain and the seals of attempts: nobody without the instance key can make either.

``mac(n) = HMAC-SHA256(key, mac(n-1) || MessagePack(seq, at_ms, type, tenant, call_id, connection,
data))`` with 32 zero bytes before the first. An attempt's digest is an HMAC over its number and all
it says. Both are numbered without gaps, but for what a ``journal.pruned`` event or an anchor tells
of, so someone who has the files but not the key can neither change, drop nor add a row without
being found out; cutting the end off is seen at the high-water mark.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from integrationd.call import Actor, EventRecord
from integrationd.journal import sqlite

FIRST_HEAD = bytes(32)
PRUNED = "journal.pruned"
_pack = msgspec.msgpack.Encoder().encode
# An actor is text, which the encoder does not see by itself.
_json = msgspec.json.Encoder(order="deterministic", enc_hook=str).encode


class Position(NamedTuple):
    """Where the log ends.

    Attributes:
        event: The number of the last event.
        head: The MAC of the last event.
        attempt: The number of the last attempt.
    """

    event: int = 0
    head: bytes = FIRST_HEAD
    attempt: int = 0


def link(key: bytes, head: bytes, *fields: Any) -> bytes:
    """Return the MAC that binds an event's fields to the head before it."""
    return hmac.digest(key, head + _pack(fields), "sha256")


def sign_anchor(key: bytes, seq: int, head: bytes) -> bytes:
    """Return the signature of the place where the chain begins after pruning."""
    return hmac.digest(key, b"anchor" + _pack((seq, head)), "sha256")


def seal_attempt(key: bytes, seq: int, *fields: Any) -> bytes:
    """Return an attempt's digest.

    Args:
        key: The instance key.
        seq: Its number.
        fields: ``call_seq``, ``call_id``, ``tenant`` and ``operation``, then what
            :func:`integrationd.journal.settled.attempt_fields` returns, then the rule.
    """
    return hmac.digest(key, b"attempt" + _pack((seq, *fields)), "sha256")


def seal_erased(key: bytes, digest: bytes, event_seq: int, *fields: Any) -> bytes:
    """Return the seal of an attempt or an event of which something was erased.

    Args:
        key: The instance key.
        digest: An attempt's digest from before; an event's MAC, after that of the one before it.
        event_seq: The ``privacy.erased`` event that tells of it.
        fields: Its number, then what a digest or MAC is over, as they are now.
    """
    return hmac.digest(key, b"erased" + _pack((digest, event_seq, *fields)), "sha256")


def sign_attempts(key: bytes, gone: int, plain: int) -> bytes:
    """Return the signature of what is no longer vouched for of the attempts.

    Args:
        key: The instance key.
        gone: The number up to which attempts may be missing.
        plain: The number up to which digests were made without the key, by an earlier version.
    """
    return hmac.digest(key, b"attempts" + _pack((gone, plain)), "sha256")


class Chain:
    """Appends events, and numbers and seals attempts, inside the writer's transaction.

    Attributes:
        position: Where the log ends, including what is not yet committed.
    """

    def __init__(self, key: bytes, position: Position) -> None:
        self._key = key
        self.position = position
        self._committed = position

    def append(self, db: sqlite.Connection, event: EventRecord, at_ms: int) -> int:
        """Insert an event and return its number."""
        last, head, attempt = self.position
        seq, data = last + 1, _json(_told(event)).decode()
        fields = (seq, at_ms, event.type, event.tenant, event.call_id, event.connection, data)
        mac = link(self._key, head, *fields)
        db.execute(
            "INSERT INTO event (seq, at_ms, type, tenant, call_id, connection, data, mac)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, mac),
        )
        self.position = Position(seq, mac, attempt)
        return seq

    def seal_next(self, *fields: Any) -> tuple[int, bytes]:
        """Return number and digest of the next attempt; fields as for :func:`seal_attempt`."""
        event, head, last = self.position
        self.position = Position(event, head, last + 1)
        return last + 1, seal_attempt(self._key, last + 1, *fields)

    def seal_erased(self, digest: bytes, event_seq: int, *fields: Any) -> bytes:
        """Return the seal of an erased row; arguments as for :func:`seal_erased`."""
        return seal_erased(self._key, digest, event_seq, *fields)

    def tag(self, *fields: str) -> str:
        """Return what stands for a text that may not be stored, and is the same every time."""
        return hmac.digest(self._key, b"tag" + _pack(fields), "sha256").hex()

    def commit(self) -> None:
        """Note that everything appended is durable."""
        self._committed = self.position

    def roll_back(self) -> None:
        """Forget what was appended since the last commit."""
        self.position = self._committed


def _told(event: EventRecord) -> Mapping[str, Any]:
    by = event.data.get("by")
    return {**event.data, "from": by.where} if isinstance(by, Actor) else event.data


def pruned_event(attempts: Sequence[int]) -> EventRecord:
    """Return the event that tells which attempts were pruned, by their numbers in order."""
    return ranges_event(ranges_of(attempts))


def ranges_event(ranges: Sequence[tuple[int, int]]) -> EventRecord:
    """Return the event that tells which attempts were pruned, by ranges, both ends included."""
    return EventRecord(type=PRUNED, data={"attempts_pruned": ranges})


def ranges_of(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def read_position(db: sqlite.Connection) -> Position:
    """Return where the log ends in the journal: at its last event and attempt, or an anchor."""
    row = db.execute("SELECT seq, mac FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    if row is None:
        row = db.execute("SELECT seq, mac FROM event_anchor").fetchone()
    seq, mac = row or (0, FIRST_HEAD)
    (attempt,) = db.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM attempt), 0),"
        " coalesce((SELECT gone FROM attempt_anchor), 0))"
    ).fetchone()
    # From a damaged head the chain goes on, but it no longer verifies.
    is_head = isinstance(mac, bytes) and len(mac) == len(FIRST_HEAD)
    return Position(seq, mac if is_head else FIRST_HEAD, attempt)


def read_commit(db: sqlite.Connection) -> int:
    """Return the number of the last commit in the journal; 0 if its record is damaged."""
    row = db.execute("SELECT seq FROM commit_mark").fetchone()
    return row[0] if row and isinstance(row[0], int) else 0


def plain_digest(*fields: Any) -> bytes:
    """Return the digest that versions before the eighth schema gave an attempt."""
    return hashlib.sha256(_pack(fields)).digest()
