"""Rows to records and back, each sealed with a checksum.

SQLite notices only a small share of damaged bytes by itself, so every record that matters carries
a CRC-32 over its MessagePack form and is not served when it does not fit.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from integrationd.call import Call, Part
from integrationd.errors import DamagedError

_pack = msgspec.msgpack.Encoder().encode

CALL_COLUMNS = Call.__struct_fields__
CALL_WIDTH = len(CALL_COLUMNS)
PART_COLUMNS = Part.__struct_fields__

_NEVER_CHANGE = frozenset(
    {
        "seq",
        "id",
        "tenant",
        "operation",
        "requested_connection",
        "priority",
        "ordering_key",
        "parts",
        "created_at_ms",
        "own_reference",
        "reference_scope",
        "reference_type",
        "reference_id",
        "on_uncertain",
    }
)
_CLAIMED = (
    "state",
    "revision",
    "connection",
    "tries",
    "due_at_ms",
    "lease_id",
    "last_lease_id",
    "lease_until_ms",
)
_CHANGING = tuple(name for name in CALL_COLUMNS if name not in _NEVER_CHANGE)


def seal(*values: Any) -> int:
    """Return the checksum over the values in their order."""
    return zlib.crc32(_pack(values))


def seal_call(call: Call) -> int:
    """Return the checksum over a call."""
    return zlib.crc32(_pack(call))


def call_of(row: Sequence[Any]) -> Call:
    """Return the call of a row that begins with the columns of ``call_record``.

    Raises:
        DamagedError: The checksum does not fit, or the row is no call.
    """
    fields = tuple(row[:CALL_WIDTH])
    if zlib.crc32(_pack(fields)) != row[CALL_WIDTH]:
        raise DamagedError(f"call {row[1]} fails its checksum")
    try:
        return msgspec.convert(fields, Call)
    except msgspec.ValidationError as error:
        raise DamagedError(f"call {row[1]} cannot be read: {error}") from error


def part_of(call_seq: int, row: Sequence[Any]) -> Part:
    """Return the part of a row with the columns of :data:`PART_COLUMNS` and the sum.

    Raises:
        DamagedError: The checksum does not fit.
    """
    fields = tuple(row[:-1])
    if seal(call_seq, *fields) != row[-1]:
        raise DamagedError(f"part {row[0]} of call number {call_seq} fails its checksum")
    return msgspec.convert(dict(zip(PART_COLUMNS, fields, strict=True)), Part)


def parts_of(call: Call, found: Sequence[Sequence[Any]]) -> tuple[Part, ...]:
    """Return the parts of a call from their rows, in the order of their positions.

    Raises:
        DamagedError: The checksum of one does not fit, or one is missing.
    """
    if len(found) != call.parts:
        raise DamagedError(f"call {call.id} has {len(found)} of its {call.parts} parts")
    return tuple(part_of(call.seq, row) for row in found)


def part_values(call_seq: int, part: Part) -> tuple[Any, ...]:
    """Return the column values of a part: the call's number first, its checksum last."""
    fields = msgspec.structs.astuple(part)
    return (call_seq, *fields, seal(call_seq, *fields))


def check(what: str, expected: int, *values: Any) -> None:
    """Compare the checksum over ``values`` with the stored one.

    Raises:
        DamagedError: It does not fit.
    """
    if seal(*values) != expected:
        raise DamagedError(f"{what} fails its checksum")


def insert_values(call: Call) -> tuple[Any, ...]:
    """Return the parameters of :data:`INSERT_CALL`."""
    return (*msgspec.structs.astuple(call), seal_call(call))


def store_values(after: Call, before_revision: int) -> tuple[Any, ...]:
    """Return the parameters of :data:`STORE_CALL`."""
    changing = tuple([getattr(after, name) for name in _CHANGING])
    return (*changing, seal_call(after), after.seq, before_revision)


def claim_values(leased: Call, before_revision: int) -> tuple[Any, ...]:
    """Return the parameters of :data:`CLAIM_CALL`."""
    claimed = tuple([getattr(leased, name) for name in _CLAIMED])
    return (*claimed, seal_call(leased), leased.seq, before_revision)


INSERT_BODY = "INSERT INTO call_body (seq, payload, metadata, sum) VALUES (?, ?, ?, ?)"

# The statements list the columns of the record, so they are put together here, once, from the
# record itself; nothing that comes from outside is ever part of them.
INSERT_CALL = " ".join(
    [
        "INSERT INTO call (",
        ", ".join((*CALL_COLUMNS, "sum")),
        ") VALUES (",
        ", ".join("?" * (CALL_WIDTH + 1)),
        ")",
    ]
)


def _update(columns: Sequence[str]) -> str:
    assignments = ", ".join(f"{name} = ?" for name in (*columns, "sum"))
    guard = "WHERE seq = ? AND revision = ? AND damaged_at_ms IS NULL"
    return " ".join(["UPDATE call SET", assignments, guard])


STORE_CALL = _update(_CHANGING)
CLAIM_CALL = _update(_CLAIMED)
