"""The high-water mark: the last committed numbers, kept in a small file beside the journal.

One flipped bit in the WAL makes SQLite drop every later commit without a word. The mark is written
after each commit, without a sync of its own, so a mark below the journal is normal and a mark
above it means that the journal has lost commits.
"""

import os
import struct
import zlib
from pathlib import Path

import msgspec

_FORM = struct.Struct("<4sQQ32s")
_MAGIC = b"idm1"
_EMPTY_HEAD = bytes(32)


class Mark(msgspec.Struct, frozen=True):
    """The last committed numbers.

    Attributes:
        commit: The number of the last commit.
        event: The number of the last event.
        head: The MAC of the last event.
    """

    commit: int = 0
    event: int = 0
    head: bytes = _EMPTY_HEAD


class MarkFile:
    """The file that keeps the mark.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> Mark:
        """Return the stored mark; the zero mark if there is none or it is torn."""
        stored = os.pread(self._file, _FORM.size + 4, 0)
        body, check = stored[: _FORM.size], stored[_FORM.size :]
        if len(check) != 4 or zlib.crc32(body) != int.from_bytes(check, "little"):
            return Mark()
        magic, commit, event, head = _FORM.unpack(body)
        return Mark(commit=commit, event=event, head=head) if magic == _MAGIC else Mark()

    def write(self, mark: Mark) -> None:
        """Store the mark in one write.

        Raises:
            OSError: The disk refuses; the mark then stays lower than the journal, which is safe.
        """
        body = _FORM.pack(_MAGIC, mark.commit, mark.event, mark.head)
        os.pwrite(self._file, body + zlib.crc32(body).to_bytes(4, "little"), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
