"""What the API needs from parts that it does not import; the supervisor passes it in."""

from typing import Protocol

import msgspec

from integrationd.call import Call
from integrationd.journal import StoredWebhook
from integrationd.registry import Connection


class LineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection's line stands.

    Attributes:
        breaker: ``closed``, ``open`` or ``half_open``.
        breaker_until_ms: When an open breaker lets a probe through.
        running: Attempts under way.
        concurrency: How many may be under way at a time.
        rate_limit: The rate limit in words, or None.
        next_ms: When the next attempt may start; None while only an event can tell.
    """

    breaker: str
    breaker_until_ms: int | None
    running: int
    concurrency: int
    rate_limit: str | None
    next_ms: int | None


class ConfigProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong, or not as it should be.

    Attributes:
        where: ``line N, column M``, ``table.key``, a plugin file, or an environment variable.
        reason: What is wrong and what would be right.
    """

    where: str
    reason: str


class ConfigStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration is in force, and what became of the file since.

    Attributes:
        file: The configuration file.
        state: ``applied``, or ``rejected`` while the file cannot be used and the one from before
            goes on.
        applied_at_ms: When the one in force was taken over, UTC milliseconds.
        rejected_at_ms: When the file was first refused as it is, or None.
        problems: Why it was.
        warnings: What goes on although it could not be read again, such as a secret.
    """

    file: str
    state: str
    applied_at_ms: int
    rejected_at_ms: int | None = None
    problems: tuple[ConfigProblem, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did, or would do.

    Attributes:
        outcome: ``applied``, ``unchanged`` or ``rejected``.
        changes: What is another than before, in words.
        problems: Why the configuration was refused.
        warnings: What to look at all the same: plugin files that cannot be used, secrets that
            could not be read again, connections that go away with calls waiting.
    """

    outcome: str
    changes: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()


class WebhookSide(Protocol):
    """What takes webhooks in."""

    def replay(self, webhook: StoredWebhook) -> None:
        """Have a webhook of the inbox worked on again."""
        ...

    def address(self, connection: str) -> str | None:
        """Return the unguessable address of a connection; None where none can be given."""
        ...


class Configuration(Protocol):
    """The configuration of the running daemon."""

    def status(self) -> ConfigStatus:
        """Return which configuration is in force."""
        ...

    async def reload(self, cause: str) -> ReloadReport:
        """Read configuration, secrets and plugins anew and take them over, or nothing of it."""
        ...

    async def preview(self) -> ReloadReport:
        """Say what a reload would do; changes nothing."""
        ...


class Placement(Protocol):
    """Which connection serves what, and on which terms."""

    def for_new_call(self, operation: str, requested: str | None) -> Connection | None:
        """Return the connection that a new call would go through; None where its route holds."""
        ...

    def of_lane(self, lane: str) -> Connection | None:
        """Return the connection that serves a lane now."""
        ...

    def why_none(self, call: Call) -> str | None:
        """Say why a pending call has no connection, or None if it has one."""
        ...

    def give_up_after_s(self, connection: Connection | None) -> float:
        """Return how long a call through the connection is tried, in seconds."""
        ...


class Lines(Protocol):
    """The connections at work."""

    def line_status(self, connection: str) -> LineStatus:
        """Return how a connection's line stands.

        Raises:
            NotFoundError: There is no such connection.
        """
        ...

    async def reset_breaker(self, connection: str, by: str) -> None:
        """Close a connection's breaker by hand.

        Raises:
            NotFoundError: There is no such connection.
        """
        ...
