"""Reading a journal's file without opening the journal, also while a daemon owns it."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from integrationd.errors import JournalUnavailableError
from integrationd.journal import sqlite
from integrationd.journal.verify import reading

_Found = TypeVar("_Found")


def read_beside(
    path: Path, read: Callable[[sqlite.Connection], _Found], nothing: Callable[[], _Found]
) -> _Found:
    """Return what a journal's file holds.

    Args:
        path: The file.
        read: Reads it.
        nothing: Makes what is returned where there is no journal yet.

    Raises:
        JournalUnavailableError: The journal cannot be read.
    """
    try:
        if not path.is_file():
            return nothing()
    except OSError as error:
        raise JournalUnavailableError(f"{path} cannot be looked at: {error.strerror}") from error
    try:
        with reading(path) as db:
            return read(db)
    except sqlite.LibraryErrors as error:
        raise sqlite.journal_error(error) from error
    except JournalUnavailableError as error:
        try:
            return _read_alone(path, read)
        except sqlite.LibraryErrors:
            raise error from None


def _read_alone(path: Path, read: Callable[[sqlite.Connection], _Found]) -> _Found:
    """Read without the memory that is shared with other processes: a full disk has no room for it.

    Raises:
        sqlite3.Error: As the library says; for one, another process has the journal open.
    """
    with contextlib.closing(sqlite.connect(path)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        sqlite.prepare_reader(db)
        return read(db)
