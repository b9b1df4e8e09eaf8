"""The high-water mark: the last committed numbers, kept in a small file beside the journal.

One flipped bit in the WAL makes SQLite drop every later commit without a word, and whoever has the
files can cut the end of the log off. The mark is written after each commit, without a sync of its
own, so a mark below the journal is normal and a mark above it means that the journal has lost
commits. It is sealed with an HMAC under the instance key, so nobody else can make a lower one.
"""

import enum
import hmac
import os
import struct
import zlib
from pathlib import Path

import msgspec

from integrationd.journal.chain import FIRST_HEAD

_FORM = struct.Struct("<4sQQ32sQ")
_MAGIC = b"idm2"
_MAC_BYTES = 32
# What versions before the eighth schema wrote, under a CRC-32 alone.
_OLD_FORM = struct.Struct("<4sQQ32s")
_OLD_MAGIC = b"idm1"


class Trust(enum.StrEnum):
    """What a stored mark proves."""

    SEALED = "sealed"
    PLAIN = "plain"
    MISSING = "missing"
    FORGED = "forged"


class Mark(msgspec.Struct, frozen=True):
    """The last committed numbers.

    Attributes:
        commit: The number of the last commit.
        event: The number of the last event.
        head: The MAC of the last event.
        attempt: The number of the last attempt.
    """

    commit: int = 0
    event: int = 0
    head: bytes = FIRST_HEAD
    attempt: int = 0


class MarkFile:
    """The file that keeps the mark.

    Args:
        path: The file; it is made if it is not there.
        key: The instance key.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._key = key
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> tuple[Mark, Trust]:
        """Return the stored mark, the zero mark if it proves nothing, and what it proves."""
        return decode(os.pread(self._file, _FORM.size + _MAC_BYTES + 1, 0), self._key)

    def write(self, mark: Mark) -> None:
        """Store the mark in one write.

        Raises:
            OSError: The disk refuses; the mark then stays lower than the journal, which is safe.
        """
        body = _FORM.pack(_MAGIC, mark.commit, mark.event, mark.head, mark.attempt)
        os.pwrite(self._file, body + _seal(self._key, body), 0)

    def sync(self) -> None:
        """Have what is stored, and that there is a file, survive a power cut.

        Raises:
            OSError: The disk refuses.
        """
        os.ftruncate(self._file, _FORM.size + _MAC_BYTES)
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def write_mark(path: Path, key: bytes, mark: Mark) -> None:
    """Store the mark of a journal that no daemon owns, and sync it.

    Raises:
        OSError: The disk refuses.
    """
    file = MarkFile(path, key)
    try:
        file.write(mark)
        file.sync()
    finally:
        file.close()


def read_mark(path: Path, key: bytes) -> tuple[Mark, Trust]:
    """Return the mark of a file, the zero mark if it proves nothing, and what it proves.

    Raises:
        OSError: It is there but cannot be read.
    """
    try:
        return decode(path.read_bytes(), key)
    except FileNotFoundError:
        return Mark(), Trust.MISSING


def decode(stored: bytes, key: bytes) -> tuple[Mark, Trust]:
    """Return the mark in a file's bytes and what it proves; see :func:`read_mark`."""
    if not stored:
        return Mark(), Trust.MISSING
    if stored[:4] == _OLD_MAGIC:
        return _decode_old(stored)
    body, mac = stored[: _FORM.size], stored[_FORM.size :]
    if stored[:4] != _MAGIC or not hmac.compare_digest(mac, _seal(key, body)):
        return Mark(), Trust.FORGED
    _, commit, event, head, attempt = _FORM.unpack(body)
    return Mark(commit, event, head, attempt), Trust.SEALED


def _decode_old(stored: bytes) -> tuple[Mark, Trust]:
    body, check = stored[: _OLD_FORM.size], stored[_OLD_FORM.size :]
    if len(check) != 4 or zlib.crc32(body) != int.from_bytes(check, "little"):
        return Mark(), Trust.FORGED
    _, commit, event, head = _OLD_FORM.unpack(body)
    return Mark(commit, event, head), Trust.PLAIN


def _seal(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"mark" + body, "sha256")
