"""The heartbeat of the event loop, and who holds it up.

Everything runs on one event loop, so a plugin that computes for long, or waits without ``await``,
holds up all calls and every request. A thread looks on: when the loop has not moved for a second it
says where it stands, by file and line. It also tells whether the loop lives, for a service manager.
"""

import sys
import threading
from pathlib import Path
from types import FrameType

import anyio
import structlog

from integrationd.clock import Clock
from integrationd.events import Bus, LoopHeldUp
from integrationd.registry import Registry

BEAT_S = 0.25
HELD_UP_S = 1.0


class Heartbeat:
    """Looks on while the event loop runs.

    Args:
        registry: Knows which files are plugins.
        clock: Measures how long the loop stands still.
        bus: Where it is told once the loop moves again.
    """

    def __init__(self, registry: Registry, clock: Clock, bus: Bus) -> None:
        self._registry = registry
        self._clock = clock
        self._bus = bus
        self._log = structlog.get_logger("integrationd.loop")
        self._last = clock.monotonic()
        self._held: LoopHeldUp | None = None
        self._over = threading.Event()

    async def run(self) -> None:
        """Beat for the daemon's life."""
        self._last = self._clock.monotonic()
        onlooker = threading.Thread(
            target=self._look_on,
            args=(threading.get_ident(),),
            name="heartbeat",
            daemon=True,
        )
        onlooker.start()
        try:
            while True:
                await anyio.sleep(BEAT_S)
                self._beat()
        finally:
            self._over.set()

    def _beat(self) -> None:
        now = self._clock.monotonic()
        held, stood_s = self._held, now - self._last
        self._held, self._last = None, now
        if held is not None:
            self._bus.publish(LoopHeldUp(held.plugin, held.path, held.line, stood_s))

    def _look_on(self, loop_thread: int) -> None:
        """Runs in the thread: say once for each standstill where the loop stands."""
        while not self._over.wait(BEAT_S):
            stands_s = self._clock.monotonic() - self._last
            if stands_s < HELD_UP_S or self._held is not None:
                continue
            frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 - the documented way
            held = self._place(frame, stands_s)
            self._held = held
            self._log.error(
                "event_loop_held_up",
                plugin=held.plugin or None,
                at=f"{held.path}:{held.line}",
                hint="Plugins must await whatever takes time; nothing else runs meanwhile.",
            )

    def _place(self, frame: FrameType | None, stands_s: float) -> LoopHeldUp:
        """Return the innermost plugin line on the stack, else the innermost line of all."""
        files = {str(one.path): one.code for one in self._registry.providers()}
        innermost = frame
        while frame is not None:
            path = frame.f_code.co_filename
            if path in files:
                return LoopHeldUp(files[path], path, frame.f_lineno, stands_s)
            frame = frame.f_back
        if innermost is None:
            return LoopHeldUp("", "", 0, stands_s)
        path = Path(innermost.f_code.co_filename).name
        return LoopHeldUp("", path, innermost.f_lineno, stands_s)
