"""A clock that stands still until a test moves it.

Whoever sleeps or waits wakes when time has been moved past them: the earliest first, and those of
the same moment in the order in which they lay down. Between two wake-ups everybody has a turn, so
that what the first one does is seen by the second.
"""

import heapq
from collections.abc import Callable

import anyio
import anyio.lowlevel

START_MS = 1_800_000_000_000
_TURNS = 25


class _Sleeper:
    """One who waits for a moment.

    Attributes:
        at_us: The moment, in microseconds since the clock was made.
        number: Its place among those of the same moment.
        wake: Called when the moment has come; None once it is over.
    """

    def __init__(self, at_us: int, number: int, wake: Callable[[], None]) -> None:
        self.at_us = at_us
        self.number = number
        self.wake: Callable[[], None] | None = wake

    def __lt__(self, other: "_Sleeper") -> bool:
        return (self.at_us, self.number) < (other.at_us, other.number)


class FakeClock:
    """Implements :class:`integrationd.clock.Clock`.

    Args:
        start_ms: What the wall clock shows at first, UTC milliseconds.

    Attributes:
        start_ms: Settable, to set the wall clock apart from the monotonic one.
    """

    def __init__(self, start_ms: int = START_MS) -> None:
        self.start_ms = start_ms
        self._now_us = 0
        self._laid_down = 0
        self._sleepers: list[_Sleeper] = []

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return self.start_ms + self._now_us // 1000

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return self._now_us / 1_000_000

    @property
    def sleeping(self) -> int:
        """How many wait for time to be moved."""
        return sum(sleeper.wake is not None for sleeper in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until time has been moved by ``seconds``."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        sleeper = self._lay_down(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            sleeper.wake = None

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Wait until the event is set, or time has been moved by ``seconds``."""
        if seconds is None:
            await event.wait()
            return
        with anyio.CancelScope() as scope:
            if seconds <= 0:
                scope.cancel()
            sleeper = self._lay_down(seconds, scope.cancel)
            try:
                await event.wait()
            finally:
                sleeper.wake = None

    def _lay_down(self, seconds: float, wake: Callable[[], None]) -> _Sleeper:
        self._laid_down += 1
        sleeper = _Sleeper(self._now_us + round(seconds * 1_000_000), self._laid_down, wake)
        heapq.heappush(self._sleepers, sleeper)
        return sleeper

    async def advance(self, seconds: float) -> None:
        """Move time on, waking everybody whose moment comes on the way."""
        await self._give_turns()
        target_us = self._now_us + round(seconds * 1_000_000)
        while self._sleepers and self._sleepers[0].at_us <= target_us:
            sleeper = heapq.heappop(self._sleepers)
            if sleeper.wake is None:
                continue
            self._now_us = max(self._now_us, sleeper.at_us)
            sleeper.wake()
            await self._give_turns()
        self._now_us = target_us

    async def _give_turns(self) -> None:
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
