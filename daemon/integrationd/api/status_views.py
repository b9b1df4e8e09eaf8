"""How things stand, as it goes over the wire: journal, link, configuration, balance."""

from typing import Literal

import msgspec

from integrationd.api.directory_views import ConnectionView
from integrationd.api.ports import ConfigProblem, ConfigStatus, LinkStatus
from integrationd.clock import to_rfc3339
from integrationd.journal import JournalStatus, LedgerLine


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """The balance per tenant and connection, and in all."""

    items: list[LedgerLine]
    total: LedgerLine
    balances: bool


class JournalView(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's condition.

    Attributes:
        level: How the free room of its disk stands to the marks: ``ample``, ``high`` (calls of low
            priority are refused) or ``critical`` (all are).
        free_bytes: That room, or null where nobody can tell.
        disk_bytes: The size of that disk, or null where nobody can tell.
    """

    condition: str
    reason: str
    alarm: str
    sqlite_version: str
    exclusive: bool
    wal_bytes: int
    level: str
    free_bytes: int | None
    disk_bytes: int | None

    @classmethod
    def of(cls, status: JournalStatus) -> "JournalView":
        """Show a status."""
        return cls(
            condition=status.condition.value,
            reason=status.reason,
            alarm=status.alarm,
            sqlite_version=status.sqlite_version,
            exclusive=status.exclusive,
            wal_bytes=status.wal_bytes,
            level=status.level.value,
            free_bytes=status.free_bytes,
            disk_bytes=status.disk_bytes,
        )


class ConfigView(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration is in force, and what became of the file since.

    Attributes:
        file: The configuration file.
        state: ``applied``, or ``rejected`` while the file cannot be used and the one from before
            goes on.
        applied_at: When the one in force was taken over.
        rejected_at: When the file was first refused as it is, or null.
        problems: Why it was.
        warnings: What goes on although it could not be read again, such as a secret.
    """

    file: str
    state: str
    applied_at: str
    rejected_at: str | None
    problems: tuple[ConfigProblem, ...]
    warnings: tuple[ConfigProblem, ...]

    @classmethod
    def of(cls, status: ConfigStatus) -> "ConfigView":
        """Show a status."""
        at_ms = status.rejected_at_ms
        return cls(
            file=status.file,
            state=status.state,
            applied_at=to_rfc3339(status.applied_at_ms),
            rejected_at=to_rfc3339(at_ms) if at_ms is not None else None,
            problems=status.problems,
            warnings=status.warnings,
        )


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """How this machine's own link to the world is.

    Attributes:
        state: ``up`` or ``down``.
        since: When that began; null where it has been up ever since the first start.
        why: What was found when it went down; empty while it is up, and for keys of one tenant.
    """

    state: Literal["up", "down"]
    since: str | None
    why: str

    @classmethod
    def of(cls, link: LinkStatus, *, is_told_why: bool) -> "LinkView":
        """Return the view; whose hosts were tried is not for everybody."""
        since = None if link.since_ms is None else to_rfc3339(link.since_ms)
        why = link.why if is_told_why and not link.is_up else ""
        return cls(state="up" if link.is_up else "down", since=since, why=why)


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """What a person looks at first.

    Attributes:
        status: ``ok``, or the worst of what needs a person: ``attention``, ``degraded``.
        problems: What needs a person, in words.
    """

    status: str
    version: str
    started_at: str
    problems: list[str]
    journal: JournalView
    link: LinkView
    config: ConfigView
    ledger: LedgerLine
    oldest_pending_at: str | None
    connections: list[ConnectionView]
