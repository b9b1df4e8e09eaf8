"""An event loop whose time jumps to the next timer as soon as there is nothing else to do.

It jumps only when no socket is ready and the journal's threads are idle; jumping while SQLite
works would skip what depends on its answer.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

_Result = TypeVar("_Result")
_REAL_WAIT_S = 1.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop with a clock of its own.

    Attributes:
        now: Virtual seconds since the loop began.
        is_busy: Says whether a thread is at work whose answer must be waited for in real time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.is_busy: Callable[[], bool] = lambda: False
        super().__init__()
        selector: Any = vars(self)["_selector"]
        self._real_select = selector.select
        selector.select = self._select

    def time(self) -> float:
        """Return virtual seconds."""
        return self.now

    def _select(self, timeout: float | None) -> Any:
        ready = self._real_select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.is_busy():
            return self._real_select(_REAL_WAIT_S)
        self.now += timeout
        return []


class VirtualClock:
    """The daemon's clock on a virtual loop; the wall clock can be set apart from it."""

    def __init__(self, loop: VirtualLoop, start_ms: int = 1_800_000_000_000) -> None:
        self._loop = loop
        self.start_ms = start_ms

    def now_ms(self) -> int:
        """Return virtual wall-clock milliseconds."""
        return self.start_ms + round(self._loop.now * 1000)

    def monotonic(self) -> float:
        """Return virtual seconds."""
        return self._loop.now

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await anyio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Wait for the event, at most ``seconds`` of virtual time."""
        with anyio.move_on_after(seconds):
            await event.wait()


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run ``main`` to its end on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(main(loop))
