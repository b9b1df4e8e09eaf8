"""The one source of time: wall clock for what is stored, monotonic clock for what is measured."""

import datetime as dt
import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """What the daemon needs to know about time."""

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow, for measuring durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, at least until other tasks have had their turn."""
        ...

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Wait until the event is set, but no longer than ``seconds``; for ever when None."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await anyio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Wait until the event is set, but no longer than ``seconds``; for ever when None."""
        with anyio.move_on_after(seconds):
            await event.wait()


def to_datetime(at_ms: int) -> dt.datetime:
    """Turn stored milliseconds into an aware datetime in UTC."""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)


def to_rfc3339(at_ms: int) -> str:
    """Turn stored milliseconds into RFC 3339 text, UTC, with milliseconds."""
    return to_datetime(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_datetime(at: dt.datetime) -> int:
    """Turn an aware datetime into stored milliseconds.

    Raises:
        ValueError: The datetime has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("a time needs a zone, for example 2026-01-31T12:00:00Z")
    return round(at.timestamp() * 1000)
