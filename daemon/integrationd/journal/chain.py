"""The event chain: numbers without gaps, each row bound to the one before by an HMAC.

``mac(n) = HMAC-SHA256(key, mac(n-1) || MessagePack(seq, at_ms, type, tenant, call_id, connection,
data))`` with 32 zero bytes before the first. Someone who has the files but not the key can neither
change, drop nor add a row without being found out.
"""

import hashlib
import hmac
from typing import Any

import msgspec

from integrationd.call import EventRecord
from integrationd.journal import sqlite

FIRST_HEAD = bytes(32)
_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder(order="deterministic").encode


def link(key: bytes, head: bytes, *fields: Any) -> bytes:
    """Return the MAC that binds an event's fields to the head before it."""
    return hmac.digest(key, head + _pack(fields), "sha256")


def sign_anchor(key: bytes, seq: int, head: bytes) -> bytes:
    """Return the signature of the place where the chain begins after pruning."""
    return hmac.digest(key, b"anchor" + _pack((seq, head)), "sha256")


class Chain:
    """Appends events inside the writer's transaction.

    Attributes:
        position: Number and MAC of the last event, including those not yet committed.
    """

    def __init__(self, key: bytes, position: tuple[int, bytes]) -> None:
        self._key = key
        self.position = position
        self._committed = position

    def append(self, db: sqlite.Connection, event: EventRecord, at_ms: int) -> int:
        """Insert an event and return its number."""
        seq, head = self.position[0] + 1, self.position[1]
        data = _json(event.data).decode()
        fields = (seq, at_ms, event.type, event.tenant, event.call_id, event.connection, data)
        mac = link(self._key, head, *fields)
        db.execute(
            "INSERT INTO event (seq, at_ms, type, tenant, call_id, connection, data, mac)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, mac),
        )
        self.position = (seq, mac)
        return seq

    def commit(self) -> None:
        """Note that everything appended is durable."""
        self._committed = self.position

    def roll_back(self) -> None:
        """Forget what was appended since the last commit."""
        self.position = self._committed


def read_position(db: sqlite.Connection) -> tuple[int, bytes]:
    """Return number and MAC of the last event in the journal, or of the anchor."""
    row = db.execute("SELECT seq, mac FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    if row is None:
        row = db.execute("SELECT seq, mac FROM event_anchor").fetchone()
    if row is None:
        return 0, FIRST_HEAD
    seq, mac = row
    # From a damaged head the chain goes on, but it no longer verifies.
    return seq, mac if isinstance(mac, bytes) and len(mac) == len(FIRST_HEAD) else FIRST_HEAD


def read_commit(db: sqlite.Connection) -> int:
    """Return the number of the last commit in the journal; 0 if its record is damaged."""
    row = db.execute("SELECT seq FROM commit_mark").fetchone()
    return row[0] if row and isinstance(row[0], int) else 0


def digest_of(*fields: Any) -> bytes:
    """Return the SHA-256 by which an attempt is bound into its call's next event."""
    return hashlib.sha256(_pack(fields)).digest()
