"""Forward-only migrations: numbered SQL files, each applied in one transaction."""

import re
from collections.abc import Callable, Sequence
from importlib.resources import files

from integrationd.errors import JournalError, JournalVersionError
from integrationd.journal import sqlite
from integrationd.journal.rows import CALL_COLUMNS

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


def migrations() -> Sequence[tuple[int, str]]:
    """Return number and text of every migration, in order."""
    entries = (files("integrationd.journal") / "migrations").iterdir()
    return sorted(
        (int(name[1]), entry.read_text(encoding="utf-8"))
        for entry in entries
        if (name := _NAME.fullmatch(entry.name))
    )


def migrate(
    connection: sqlite.Connection,
    back_up: Callable[[int], None],
    steps: Sequence[tuple[int, str]] | None = None,
) -> None:
    """Bring the journal to the newest schema.

    Args:
        connection: The writing connection.
        back_up: Called with the old version before the first step, unless the journal is new.
        steps: Number and text of every migration, in order; those of this program when None.

    Raises:
        JournalVersionError: The journal is newer than this program.
        sqlite3.Error: As the library says; the step at fault leaves no trace.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    steps = migrations() if steps is None else steps
    newest = steps[-1][0]
    if version > newest:
        raise JournalVersionError(
            f"the journal has schema version {version}, this program knows {newest}"
        )
    pending = [step for step in steps if step[0] > version]
    if pending and version:
        back_up(version)
    for number, text in pending:
        _apply(connection, number, text)
    _check_columns(connection)


def _apply(connection: sqlite.Connection, number: int, text: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(text):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")
    except BaseException:
        sqlite.roll_back(connection)
        raise


def _statements(text: str) -> Sequence[str]:
    """Split a script; a statement ends where SQLite says that it is complete."""
    found, current = [], ""
    for line in text.splitlines(keepends=True):
        current += line
        if ";" in line and sqlite.is_complete(current):
            found.append(current)
            current = ""
    return found


def _check_columns(connection: sqlite.Connection) -> None:
    rows = connection.execute("PRAGMA table_info(call_record)").fetchall()
    if tuple(row[1] for row in rows) != (*CALL_COLUMNS, "sum", "damaged_at_ms"):
        raise JournalError("the view call_record does not match the Call record")
