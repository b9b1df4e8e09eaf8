"""How much room the journal's disk has, and when that is too little.

There are two marks of free bytes. Under the high one calls of low priority are refused, under the
critical one all are: what is left then is for settling, cancelling and looking. One comes back
over a mark only with a tenth more than it free, so that nothing flaps.
"""

import dataclasses
import enum
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from integrationd.clock import Clock
from integrationd.settings.units import format_size

LOOK_S = 1.0
HIGH_BYTES, HIGH_SHARE = 256 * 1024**2, 10
CRITICAL_BYTES, CRITICAL_SHARE = 64 * 1024**2, 30


class Level(enum.StrEnum):
    """How the free room stands to the marks."""

    AMPLE = "ample"
    HIGH = "high"
    CRITICAL = "critical"


class Room(NamedTuple):
    """What a disk has.

    Attributes:
        free_bytes: What the daemon's user may still write.
        total_bytes: Its size.
    """

    free_bytes: int
    total_bytes: int


ReadRoom: TypeAlias = Callable[[Path], Room | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Watermarks:
    """The marks, in free bytes; 0 switches one off, None is the usual one.

    Usual are 256 MiB or a tenth of the disk for the high mark, and 64 MiB or a thirtieth for the
    critical one, whichever is less. A usual mark gives way to one that was chosen.

    Attributes:
        high_bytes: With less free calls of low priority are refused.
        critical_bytes: With less free all calls are refused.
    """

    high_bytes: int | None = None
    critical_bytes: int | None = None

    def on(self, total_bytes: int) -> tuple[int, int]:
        """Return the high and the critical mark on a disk of that size."""
        high, critical = self.high_bytes, self.critical_bytes
        if critical is None:
            critical = min(CRITICAL_BYTES, total_bytes // CRITICAL_SHARE)
            critical = min(critical, high) if high else critical
        if high is None:
            high = max(min(HIGH_BYTES, total_bytes // HIGH_SHARE), critical)
        return high, critical


UNWATCHED = Watermarks(0, 0)


def level(room: Room | None, marks: Watermarks, before: Level) -> Level:
    """Return how a room stands to the marks.

    Args:
        room: What the disk has; None where nobody can tell, which counts as ample.
        marks: The marks.
        before: How it stood when it was last looked at.
    """
    if room is None:
        return Level.AMPLE
    high, critical = marks.on(room.total_bytes)
    if _is_under(critical, room.free_bytes, was_under=before is Level.CRITICAL):
        return Level.CRITICAL
    if _is_under(high, room.free_bytes, was_under=before is not Level.AMPLE):
        return Level.HIGH
    return Level.AMPLE


def _is_under(mark_bytes: int, free_bytes: int, *, was_under: bool) -> bool:
    return free_bytes * 10 < mark_bytes * (11 if was_under else 10)


def read_room(directory: Path) -> Room | None:
    """Ask the system what the disk of a directory has; None if it cannot tell."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    return Room(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


class RoomWatch:
    """What was seen of the journal's disk when it was last looked at.

    Args:
        directory: Where the journal is.
        marks: The marks.
        clock: Keeps the looks a second apart while there is room.
        read: Asks the system.

    Attributes:
        room: What the disk has; None where nobody can tell.
        level: How that stands to the marks.
    """

    def __init__(
        self, directory: Path, marks: Watermarks, clock: Clock, read: ReadRoom = read_room
    ) -> None:
        self._directory = directory
        self._marks = marks
        self._clock = clock
        self._read = read
        self._next_s = 0.0
        self.room: Room | None = None
        self.level = Level.AMPLE

    @property
    def is_due(self) -> bool:
        """Whether the last look is a second old, or had found so little that much can happen."""
        return self.level is not Level.AMPLE or self._clock.monotonic() >= self._next_s

    def look(self) -> None:
        """Look now."""
        self._next_s = self._clock.monotonic() + LOOK_S
        self.room = self._read(self._directory)
        self.level = level(self.room, self._marks, self.level)

    def told(self) -> str:
        """Return what a person must know of the room; empty while there is enough."""
        if self.room is None or self.level is Level.AMPLE:
            return ""
        high, critical = self._marks.on(self.room.total_bytes)
        free, total = map(format_size, self.room)
        if self.level is Level.CRITICAL:
            return (
                f"The journal's disk has {free} of {total} free, and {format_size(critical)} are"
                " kept for what was accepted. All new calls are refused."
            )
        return (
            f"The journal's disk is low on room: {free} of {total} are free, under the mark of"
            f" {format_size(high)}. New calls of low priority are refused."
        )
