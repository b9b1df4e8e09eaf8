"""Damaged calls: set aside and told of, so that the sound ones go on."""

import contextlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from integrationd.call import EventRecord
from integrationd.errors import DamagedError, JournalError
from integrationd.events import CallDamaged
from integrationd.journal import sqlite
from integrationd.journal.access import Access
from integrationd.journal.writer import Transaction

_Record = TypeVar("_Record")


async def sound(
    access: Access,
    now_ms: int,
    found: Iterable[sqlite.Row],
    read: Callable[[sqlite.Row], _Record],
) -> list[_Record]:
    """Return the records of those rows that can be read, and set the other calls aside.

    Args:
        access: The journal.
        now_ms: The time at which the damage is found.
        found: Rows that begin with the columns of ``call_record``.
        read: Turns a row into a record; raises :class:`DamagedError` if it cannot.
    """
    records, damaged = [], []
    for row in found:
        try:
            records.append(read(row))
        except DamagedError as error:
            damaged.append((row, str(error)))
    if damaged:
        # What is sound is served even while the disk takes no note of what is not.
        with contextlib.suppress(JournalError):
            await access.write(lambda transaction: _set_aside_all(transaction, damaged, now_ms))
    return records


def _set_aside_all(
    transaction: Transaction, damaged: Iterable[tuple[sqlite.Row, str]], now_ms: int
) -> None:
    for row, found in damaged:
        set_aside(transaction, row, found, now_ms)


def set_aside(transaction: Transaction, row: sqlite.Row, found: str, now_ms: int) -> None:
    """Keep a damaged call out of every claim; it stays where it is for salvage."""
    seq, call_id = row[0], str(row[1])
    marked = transaction.db.execute(
        "UPDATE call SET damaged_at_ms = ? WHERE seq = ? AND damaged_at_ms IS NULL", (now_ms, seq)
    )
    if marked.rowcount != 1:
        return
    event = EventRecord(type="journal.damaged", data={"found": found}, call_id=call_id)
    transaction.chain.append(transaction.db, event, now_ms)
    transaction.told.append(CallDamaged(call_id))
