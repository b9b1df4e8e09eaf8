"""The journal's file: opened by one daemon, migrated, checked, and read beside its writer."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

import aiosqlite

from integrationd.errors import JournalLockedError, JournalUnavailableError
from integrationd.journal import sqlite
from integrationd.journal.migrate import migrate

CHECKPOINT_BYTES = 4 * 1024 * 1024
LEAST_ROOM_BYTES = 256 * 1024

# The write-ahead log's header and that of each frame: https://www.sqlite.org/fileformat2.html
_WAL_HEADER = struct.Struct(">8xL4x8s8x")
_FRAME_HEADER_BYTES = 24
_FRAME_SALT_OFFSET = 8


class FileLock:
    """Keeps a second daemon away from the journal for as long as it is held.

    Raises:
        JournalLockedError: Another daemon holds it.
        OSError: The lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise JournalLockedError(f"another daemon owns {path.name[: -len('.lock')]}") from error

    def release(self) -> None:
        """Let another daemon have the journal."""
        os.close(self._file)


class ReadConnection:
    """A reading connection of its own, in a thread of its own (through aiosqlite)."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._closed = False
        self.outstanding = 0

    @classmethod
    async def open(cls, path: Path) -> "ReadConnection":
        """Open the journal for reading.

        Raises:
            sqlite3.Error: As the library says.
        """

        def connect() -> sqlite.Connection:
            connection = sqlite.connect(path)
            sqlite.prepare_reader(connection)
            return connection

        # aiosqlite takes any connector, so the fixed SQLite serves here too.
        return cls(await aiosqlite.Connection(connect, iter_chunk_size=256))

    async def rows(self, sql: str, parameters: sqlite.Parameters = ()) -> list[sqlite.Row]:
        """Return all rows of one statement, read at the last commit.

        Raises:
            JournalError: The library fails, or the connection has been closed meanwhile.
        """
        if self._closed:
            raise JournalUnavailableError("the journal is closed")
        self.outstanding += 1
        try:
            return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type] # rows are tuples, no row factory is set
        except sqlite.LibraryErrors as error:
            raise sqlite.journal_error(error) from error
        finally:
            self.outstanding -= 1

    async def close(self) -> None:
        """Close the connection and end its thread, once what it is reading has been read."""
        self._closed = True
        await self._connection.close()


def open_writer(path: Path) -> tuple[sqlite.Connection, bool]:
    """Open and migrate the journal; return the writing connection and whether it is exclusive.

    Raises:
        JournalVersionError: The journal is newer than this program.
        JournalError: WAL mode is not to be had here.
        sqlite3.Error: As the library says; for one, the disk is full.
    """
    exclusive = sqlite.has_wal_reset_bug()
    _create_privately(path)
    connection = sqlite.connect(path)
    try:
        sqlite.prepare_writer(connection, exclusive=exclusive)
        migrate(connection, lambda version: back_up(connection, path, version))
    except BaseException:
        connection.close()
        raise
    return connection, exclusive


def _create_privately(path: Path) -> None:
    """Make the file with mode 0600; SQLite gives its companions the same mode."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def back_up(connection: sqlite.Connection, path: Path, version: int) -> None:
    """Copy the journal aside before its schema changes.

    Raises:
        sqlite3.Error: As the library says; the migration then does not begin.
    """
    target = path.with_name(f"{path.name}.v{version}.backup")
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    connection.execute("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)


def disk_is_full(path: Path) -> bool:
    """Say whether the journal's disk has no room left.

    With a full disk SQLite may fail with an I/O error that does not say so.
    """
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < LEAST_ROOM_BYTES


def wal_bytes(path: Path) -> int:
    """Return the size of the write-ahead log."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


def wal_is_long(path: Path) -> bool:
    """Say whether the log holds over :data:`CHECKPOINT_BYTES` since it last began anew.

    Its size does not tell, since a log that begins anew is overwritten, not cut. Each frame
    carries the salt of the log that it belongs to.
    """
    try:
        file = os.open(path.with_name(path.name + "-wal"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        page_bytes, salt = _WAL_HEADER.unpack(os.pread(file, _WAL_HEADER.size, 0))
        frame_bytes = page_bytes + _FRAME_HEADER_BYTES
        frame = _WAL_HEADER.size + CHECKPOINT_BYTES // frame_bytes * frame_bytes
        found: bytes = os.pread(file, len(salt), frame + _FRAME_SALT_OFFSET)
    except (OSError, struct.error):
        return False
    else:
        return found == bytes(salt)
    finally:
        os.close(file)


def recheck(connection: sqlite.Connection) -> str | None:
    """After a fault: check the file and bring everything into it; return what is wrong, if so.

    Raises:
        sqlite3.Error: As the library says.
    """
    verdict: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        return f"quick_check says: {verdict}"
    blocked = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return "the checkpoint is blocked by another process" if blocked else None
