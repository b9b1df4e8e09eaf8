"""What the API needs from parts that it does not import; the supervisor passes it in."""

from typing import Protocol

import msgspec

from integrationd.call import Call
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
