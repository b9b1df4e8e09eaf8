"""What condition the journal is in, for its owner and for whoever asks."""

import enum

import msgspec

from integrationd.journal.room import Level


class Condition(enum.StrEnum):
    """What the journal can do now."""

    READY = "ready"
    FULL = "full"
    RECOVERING = "recovering"
    CLOSED = "closed"


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may want to know about the journal.

    Attributes:
        condition: See :class:`Condition`.
        reason: Why it is not ready, or what it refuses although it is; empty when all is well.
        alarm: A loss that was noticed and nobody has acknowledged; empty when there is none.
        sqlite_version: The library in use.
        exclusive: Reads go between commits, since the library is not safe with two connections.
        wal_bytes: The size of the write-ahead log.
        level: How the free room of its disk stands to the marks.
        free_bytes: That room; None where nobody can tell.
        disk_bytes: The size of its disk; None where nobody can tell.
    """

    condition: Condition
    reason: str
    alarm: str
    sqlite_version: str
    exclusive: bool
    wal_bytes: int
    level: Level = Level.AMPLE
    free_bytes: int | None = None
    disk_bytes: int | None = None
