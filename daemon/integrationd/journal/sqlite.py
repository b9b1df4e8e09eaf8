"""The SQLite library: which one is used, whether it is safe, and what its errors mean.

SQLite before 3.51.3 (but for 3.50.7 and 3.44.6 on their branches) can corrupt a WAL database that
two connections use at once ("WAL-reset bug", SQLite release notes of 3.51.3). Where only such a
library is to be had, the journal uses one exclusive connection and reads between its commits.
"""

import contextlib
import enum
import sqlite3 as stdlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

try:
    import pysqlite3 as driver
except ImportError:
    driver = stdlib

from integrationd.errors import (
    DamagedError,
    JournalError,
    JournalFullError,
    JournalUnavailableError,
)

Connection: TypeAlias = stdlib.Connection
Row: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
SqliteError: type[Exception] = driver.Error
IntegrityError: type[Exception] = driver.IntegrityError
# The driver cannot decode its own message where that quotes damaged text of the schema.
LibraryErrors: tuple[type[Exception], ...] = (driver.Error, UnicodeDecodeError)

# Without an adapter of its own each None that is bound costs a failed look-up, several times the
# cost of any other value; calls have many empty columns.
driver.register_adapter(type(None), lambda nothing: nothing)

VERSION: tuple[int, ...] = tuple(int(part) for part in driver.sqlite_version.split("."))
CACHE_KIB = 8192
STATEMENTS = 256


class Fault(enum.Enum):
    """What went wrong in the library, as far as the journal has to tell it apart."""

    FULL = "full"
    BUSY = "busy"
    BROKEN = "broken"
    CONSTRAINT = "constraint"
    OTHER = "other"


def has_wal_reset_bug(version: tuple[int, ...] = VERSION) -> bool:
    """Say whether this SQLite may corrupt a WAL database used by two connections."""
    if version >= (3, 51, 3):
        return False
    return not ((3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45))


def connect(path: Path, *, read_only: bool = False) -> Connection:
    """Open a connection in autocommit mode, usable from one thread at a time.

    Raises:
        sqlite3.Error: As the library says.
    """
    mode = "ro" if read_only else "rwc"
    connection: Connection = driver.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
        timeout=0.0,
    )
    return connection


def prepare_writer(connection: Connection, *, exclusive: bool) -> None:
    """Set the pragmas of the one writing connection.

    Checkpoints are made outside the commit path, so SQLite's own are switched off.

    Raises:
        sqlite3.Error: For one, the disk is full and WAL mode cannot be entered.
    """
    if exclusive:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise JournalError(
            f"SQLite could not enter WAL mode (it says {mode})",
            hint="Put the journal on a local disk; network file systems do not work.",
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def prepare_reader(connection: Connection) -> None:
    """Set the pragmas of a reading connection."""
    connection.text_factory = _readable
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -2048")


def fetch_all(connection: Connection, sql: str, parameters: Parameters = ()) -> list[Row]:
    """Return all rows of a SELECT on the writing connection, undecodable text made readable.

    The library fails the whole statement over one damaged byte of text. Read with its bytes
    escaped, the row at fault fails its own checksum and the others are served.

    Raises:
        sqlite3.Error: As the library says.
    """
    try:
        return connection.execute(sql, parameters).fetchall()
    except driver.OperationalError as error:
        if "decode" not in str(error):
            raise
    connection.text_factory = _readable
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.text_factory = str


def _readable(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def fault_of(error: BaseException) -> Fault:
    """Sort an error of the library."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return Fault.FULL
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Fault.BUSY
    if name.startswith("SQLITE_CONSTRAINT"):
        return Fault.CONSTRAINT
    broken = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CANTOPEN")
    if name.startswith((*broken, "SQLITE_READONLY")):
        return Fault.BROKEN
    return Fault.OTHER


def journal_error(error: BaseException) -> JournalError:
    """Turn an error of the library into one that a caller can act on."""
    if isinstance(error, JournalError):
        return error
    match fault_of(error):
        case Fault.FULL:
            return JournalFullError()
        case Fault.CONSTRAINT:
            return DamagedError(f"the journal refused an impossible record: {error}")
        case _:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            return JournalUnavailableError(f"the journal's disk failed: {name}: {error}")


def is_complete(statement: str) -> bool:
    """Say whether the text ends a statement, triggers with their bodies included."""
    complete: bool = driver.complete_statement(statement)
    return complete


def roll_back(connection: Connection) -> None:
    """End an open transaction without keeping it, whatever state the connection is in."""
    if connection.in_transaction:
        with contextlib.suppress(SqliteError):
            connection.execute("ROLLBACK")
