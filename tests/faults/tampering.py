"""Somebody who has a journal's files, knows the format and the code, but not the instance key.

``tampered`` makes one change at random in a copy in memory; nothing of it can be made undone by the
key, since every MAC that the attacker computes is under a key of his own.
"""

import hashlib
import hmac
import random
import sqlite3
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from tests.journal.cases import joined

WRONG_KEY = b"w" * 32
EVENT_COLUMNS = ("at_ms", "type", "tenant", "call_id", "connection", "data", "mac")
ATTEMPT_COLUMNS = (
    *("call_seq", "call_id", "tenant", "operation", "number", "connection", "provider"),
    *("plugin_digest", "started_at_ms", "duration_ms", "outcome", "reason", "detail", "sent"),
    *("status_code", "request", "response", "rule", "digest"),
)
_INTEGERS = frozenset(
    ("at_ms", "call_seq", "number", "started_at_ms", "duration_ms", "sent", "status_code")
)
_OF_ATTEMPT = "FROM attempt WHERE seq = ?"
_MARK = struct.Struct("<4sQQ32sQ")


class Files(NamedTuple):
    """A journal and the mark beside it, as an attacker leaves them."""

    db: sqlite3.Connection
    mark: bytes


class Attack:
    """One tampering with a copy of the files.

    Args:
        db: The copy.
        mark: What the mark's file holds.
        rng: What decides.
    """

    def __init__(self, db: sqlite3.Connection, mark: bytes, rng: random.Random) -> None:
        self.db = db
        self.mark = mark
        self.rng = rng

    def one(self, what: str, *parameters: Any) -> Any:
        return self.db.execute(what, parameters).fetchone()

    def pick(self, table: str) -> int:
        return self.rng.choice(self._all(table))

    def edit_event(self) -> None:
        self._edit("event", self.rng.choice(EVENT_COLUMNS), self.pick("event"))

    def edit_attempt(self) -> None:
        self._edit("attempt", self.rng.choice(ATTEMPT_COLUMNS), self.pick("attempt"))

    def edit_attempt_and_digest(self) -> None:
        """Edit an attempt and make its digest as an earlier version did, or under a wrong key."""
        seq = self.pick("attempt")
        column = self.rng.choice([name for name in ATTEMPT_COLUMNS if name != "digest"])
        self._edit("attempt", column, seq)
        self._seal_attempt(seq)

    def edit_event_and_chain(self) -> None:
        """Edit an event and make all MACs from there on under a wrong key."""
        seq = self.pick("event")
        self._edit("event", self.rng.choice(EVENT_COLUMNS[:-1]), seq)
        self._chain_from(seq)

    def replace_by_same_length(self) -> None:
        seq = self.pick("event")
        (data,) = self.one("SELECT data FROM event WHERE seq = ?", seq)
        at = self.rng.randrange(len(data))
        letter = chr((ord(data[at]) - 32 + self.rng.randrange(1, 94)) % 95 + 32)
        data = data[:at] + letter + data[at + 1 :]
        self.db.execute("UPDATE event SET data = ? WHERE seq = ?", (data, seq))

    def delete_events(self) -> None:
        first = self.pick("event")
        last = first + self.rng.randrange(3)
        self.db.execute("DELETE FROM event WHERE seq BETWEEN ? AND ?", (first, last))
        if self.rng.random() < 0.5:
            gone = last - first + 1
            self._shift("event", last, -gone)

    def delete_attempts(self) -> None:
        first = self.pick("attempt")
        last = first + self.rng.randrange(3)
        self.db.execute("DELETE FROM attempt WHERE seq BETWEEN ? AND ?", (first, last))
        if self.rng.random() < 0.5:
            self._shift("attempt", last, first - last - 1)

    def insert_event(self) -> None:
        at = self.pick("event")
        self._shift("event", at, 1)
        self.db.execute(
            "INSERT INTO event SELECT seq + 1, at_ms, type, tenant, call_id, connection, data, mac,"
            " erased_event, erased_seal FROM event WHERE seq = ?",
            (at,),
        )
        if self.rng.random() < 0.5:
            self._chain_from(at + 1)

    def insert_attempt(self) -> None:
        names = ", ".join((*ATTEMPT_COLUMNS, "kind"))
        (last,) = self.one("SELECT max(seq) FROM attempt")
        seq = self.rng.choice([last + 1, last + 1, 1, self._free_number() or last + 2])
        if self.one("SELECT 1 FROM attempt WHERE seq = ?", seq):
            seq = last + 1
        self.db.execute(
            joined("INSERT INTO attempt (seq,", names, ") SELECT ?,", names, _OF_ATTEMPT),
            (seq, self.pick("attempt")),
        )
        if self.rng.random() < 0.5:
            self._seal_attempt(seq)

    def swap_events(self) -> None:
        self._swap("event", EVENT_COLUMNS)

    def swap_attempts(self) -> None:
        self._swap("attempt", (*ATTEMPT_COLUMNS, "event_seq"))

    def point_elsewhere(self) -> None:
        """Have an attempt name another event, or none."""
        seq = self.pick("attempt")
        (now,) = self.one("SELECT event_seq FROM attempt WHERE seq = ?", seq)
        other = self.rng.choice([None, self.pick("event"), 1])
        if other == now or (now is None and other is None) or not self._carried(seq):
            self.edit_attempt()
            return
        self.db.execute("UPDATE attempt SET event_seq = ? WHERE seq = ?", (other, seq))

    def cut_the_end_off(self) -> None:
        """Drop the last events and attempts, and mend the mark as far as he can."""
        (last,) = self.one("SELECT max(seq) FROM event")
        (first,) = self.one("SELECT min(seq) FROM event")
        keep = self.rng.randrange(first - 1, last)
        self.db.execute("DELETE FROM event WHERE seq > ?", (keep,))
        self.db.execute("DELETE FROM attempt WHERE event_seq > ?", (keep,))
        self.db.execute("UPDATE commit_mark SET seq = ?", (self.rng.randrange(1, 9),))
        head = self.one("SELECT mac FROM event ORDER BY seq DESC LIMIT 1") or (bytes(32),)
        self._forge_mark(keep, head[0])

    def cut_attempts_off(self) -> None:
        (last,) = self.one("SELECT max(seq) FROM attempt")
        self.db.execute("DELETE FROM attempt WHERE seq > ?", (last - self.rng.randrange(1, 4),))

    def spoil_mark(self) -> None:
        self._forge_mark(*self.one("SELECT seq, mac FROM event ORDER BY seq DESC LIMIT 1"))

    def forge_event_anchor(self) -> None:
        """Drop the first events and say that the chain begins behind them."""
        (first,) = self.one("SELECT min(seq) FROM event")
        upto = first + self.rng.randrange(3)
        seq, mac = self.one("SELECT seq, mac FROM event WHERE seq = ?", upto)
        self.db.execute("DELETE FROM event WHERE seq <= ?", (seq,))
        match self.rng.randrange(4):
            case 0:
                self.db.execute("DELETE FROM event_anchor")
            case 1:
                self.db.execute("UPDATE event_anchor SET seq = ?, mac = ?", (seq, mac))
            case 2:
                signature = _mac(b"anchor" + msgspec.msgpack.encode((seq, mac)))
                anchor = (seq, mac, signature)
                self.db.execute("UPDATE event_anchor SET seq = ?, mac = ?, signature = ?", anchor)
            case _:
                pass

    def forge_attempt_anchor(self) -> None:
        """Drop attempts and say that they were pruned, or allow digests without the key."""
        (first,) = self.one("SELECT min(seq) FROM attempt")
        upto = first + self.rng.randrange(4)
        if self.rng.random() < 0.5:
            self.db.execute("DELETE FROM attempt WHERE seq <= ?", (upto,))
            gone, plain = upto, 0
        else:
            self.edit_attempt_and_digest()
            gone, plain = 0, 1000
        signature = _mac(b"attempts" + msgspec.msgpack.encode((gone, plain)))
        old = self.one("SELECT signature FROM attempt_anchor")
        chosen = self.rng.choice([signature, b"", bytes(32), old[0] if old else bytes(32)])
        self.db.execute("REPLACE INTO attempt_anchor VALUES (1, ?, ?, ?)", (gone, plain, chosen))

    def tell_of_pruning(self) -> None:
        """Drop an attempt, and add an event at the end that says that it was pruned."""
        seq = self.pick("attempt")
        self.db.execute("DELETE FROM attempt WHERE seq = ?", (seq,))
        last, head = self.one("SELECT seq, mac FROM event ORDER BY seq DESC LIMIT 1")
        data = f'{{"attempts_pruned":[[{seq},{seq}]]}}'
        fields = (last + 1, 1, "journal.pruned", None, None, None, data)
        mac = _mac(head + msgspec.msgpack.encode(fields))
        self.db.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", (*fields, mac)
        )

    def fake_erasure(self) -> None:
        """Blank an attempt and say that it was erased on request."""
        seq = self.pick("attempt")
        seal = self.rng.choice([None, bytes(32), _mac(b"erased")])
        self.db.execute(
            "UPDATE attempt SET request = NULL, response = NULL, detail = NULL, erased_event = ?,"
            " erased_seal = ? WHERE seq = ?",
            (self.pick("event"), seal, seq),
        )

    def fake_erasure_of_an_event(self) -> None:
        """Blank an event and say that it was erased on request."""
        seal = self.rng.choice([None, bytes(32), _mac(b"erased")])
        self.db.execute(
            "UPDATE event SET data = ?, erased_event = ?, erased_seal = ? WHERE seq = ?",
            ('{"erased":true}', self.pick("event"), seal, self.pick("event")),
        )

    def undo_erasure(self) -> None:
        """Say of something erased that it was always so."""
        table = self.rng.choice(["event", "attempt"])
        undo = "SET erased_event = NULL, erased_seal = NULL WHERE erased_event IS NOT NULL"
        self.db.execute(joined("UPDATE", table, undo))

    def _edit(self, table: str, column: str, seq: int) -> None:
        (value,) = self.one(joined("SELECT", column, "FROM", table, "WHERE seq = ?"), seq)
        edit = joined("UPDATE", table, "SET", column, "= ? WHERE seq = ?")
        self.db.execute(edit, (self._other(column, value), seq))

    def _other(self, column: str, value: Any) -> Any:
        if isinstance(value, bytes):
            at = self.rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << self.rng.randrange(8)]) + value[at + 1 :]
        if column == "sent":
            return 1 - value
        if column in _INTEGERS:
            return (value or 0) + self.rng.randrange(1, 1000)
        if value and self.rng.random() < 0.3:
            return value[:-1]
        return f"{value or ''}{self.rng.choice('abc')}"

    def _swap(self, table: str, columns: tuple[str, ...]) -> None:
        one, two = self.rng.sample(self._all(table), 2)
        read = joined("SELECT", ", ".join(columns), "FROM", table, "WHERE seq = ?")
        write = joined("UPDATE", table, "SET", " = ?, ".join(columns), "= ? WHERE seq = ?")
        first, second = self.one(read, one), self.one(read, two)
        self.db.execute(write, (*second, one))
        self.db.execute(write, (*first, two))

    def _all(self, table: str) -> list[int]:
        found = self.db.execute(joined("SELECT seq FROM", table, "ORDER BY seq"))
        return [seq for (seq,) in found]

    def _shift(self, table: str, after: int, by: int) -> None:
        """Number all rows behind one anew, so that none is in the way of another."""
        seqs = [seq for seq in self._all(table) if seq > after]
        move = joined("UPDATE", table, "SET seq = ? WHERE seq = ?")
        for seq in sorted(seqs, reverse=by > 0):
            self.db.execute(move, (seq + by, seq))

    def _free_number(self) -> int | None:
        taken = {seq for (seq,) in self.db.execute("SELECT seq FROM attempt")}
        free = [seq for seq in range(1, max(taken)) if seq not in taken]
        return self.rng.choice(free) if free else None

    def _carried(self, seq: int) -> bool:
        (digest,) = self.one("SELECT digest FROM attempt WHERE seq = ?", seq)
        found = self.db.execute("SELECT data FROM event")
        return any(digest.hex() in data for (data,) in found)

    def _seal_attempt(self, seq: int) -> None:
        row = self.one(
            "SELECT seq, call_seq, call_id, tenant, operation, kind, number, connection, provider,"
            " plugin_digest, started_at_ms, duration_ms, outcome, reason, detail, sent,"
            " status_code, request, response, rule FROM attempt WHERE seq = ?",
            seq,
        )
        plain = hashlib.sha256(msgspec.msgpack.encode((row[2], *row[5:]))).digest()
        sealed = _mac(b"attempt" + msgspec.msgpack.encode(row))
        digest = self.rng.choice([plain, sealed])
        self.db.execute("UPDATE attempt SET digest = ? WHERE seq = ?", (digest, seq))

    def _chain_from(self, first: int) -> None:
        found = self.one("SELECT mac FROM event WHERE seq = ?", first - 1)
        head = found[0] if found else bytes(32)
        rows = self.db.execute(
            "SELECT seq, at_ms, type, tenant, call_id, connection, data FROM event"
            " WHERE seq >= ? ORDER BY seq",
            (first,),
        ).fetchall()
        for row in rows:
            head = _mac(head + msgspec.msgpack.encode(row))
            self.db.execute("UPDATE event SET mac = ? WHERE seq = ?", (head, row[0]))

    def _forge_mark(self, event: int, head: bytes) -> None:
        body = _MARK.pack(b"idm2", 1, event, head, 0)
        old = struct.pack("<4sQQ32s", b"idm1", 1, event, head)
        at = self.rng.randrange(len(self.mark))
        flipped = bytearray(self.mark)
        flipped[at] ^= 1 << self.rng.randrange(8)
        forged = (
            b"",
            body + _mac(b"mark" + body),
            body + self.mark[_MARK.size :],
            old + zlib.crc32(old).to_bytes(4, "little"),
            self.mark[:at],
            bytes(flipped),
        )
        self.mark = self.rng.choice(forged)


def _mac(message: bytes) -> bytes:
    return hmac.digest(WRONG_KEY, message, "sha256")


ATTACKS: tuple[Callable[[Attack], None], ...] = (
    Attack.edit_event,
    Attack.edit_attempt,
    Attack.edit_attempt_and_digest,
    Attack.edit_event_and_chain,
    Attack.replace_by_same_length,
    Attack.delete_events,
    Attack.delete_attempts,
    Attack.insert_event,
    Attack.insert_attempt,
    Attack.swap_events,
    Attack.swap_attempts,
    Attack.point_elsewhere,
    Attack.cut_the_end_off,
    Attack.cut_attempts_off,
    Attack.spoil_mark,
    Attack.forge_event_anchor,
    Attack.forge_attempt_anchor,
    Attack.tell_of_pruning,
    Attack.fake_erasure,
    Attack.fake_erasure_of_an_event,
    Attack.undo_erasure,
)


def tampered(original: bytes, mark: bytes, rng: random.Random) -> tuple[str, Files]:
    """Return the name of an attack, and a copy of the files after it; the caller closes it."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(original)
    attack = Attack(db, mark, rng)
    chosen = rng.choice(ATTACKS)
    chosen(attack)
    return chosen.__name__, Files(db, attack.mark)
