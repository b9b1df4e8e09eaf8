"""Waiters: requests that want to know when a call has left ``pending`` and ``processing``."""

from collections import defaultdict
from collections.abc import Awaitable, Callable

import anyio

from integrationd.call import Call, CallState
from integrationd.clock import Clock
from integrationd.events import Bus, CallChanged

OPEN_STATES = frozenset({CallState.PENDING, CallState.PROCESSING})


class Waiters:
    """Wakes waiting requests from the bus.

    Args:
        bus: Where changes of calls are told.
        clock: For measuring the wait.
    """

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, set[anyio.Event]] = defaultdict(set)
        self._closed = False
        bus.subscribe(CallChanged, self._on_changed)

    async def until_settled(
        self, call_id: str, seconds: float, look: Callable[[], Awaitable[Call]]
    ) -> None:
        """Wait until the call has left the open states, the time is up, or the daemon stops.

        Args:
            call_id: The call.
            seconds: How long at most.
            look: Reads the call. It is read once after listening has begun, so that a change in
                between is not missed.
        """
        event = anyio.Event()
        listening = self._waiting[call_id]
        listening.add(event)
        try:
            if not self._closed and not is_settled(await look()):
                await self._clock.wait(event, seconds)
        finally:
            listening.discard(event)
            if not listening:
                self._waiting.pop(call_id, None)

    def close(self) -> None:
        """Answer everybody who waits, now and from now on."""
        self._closed = True
        for waiting in self._waiting.values():
            for event in waiting:
                event.set()

    def _on_changed(self, event: CallChanged) -> None:
        waiting = self._waiting.get(event.call.id)
        if waiting and is_settled(event.call):
            for one in waiting:
                one.set()


def is_settled(call: Call) -> bool:
    """Say whether a waiting request would be answered now."""
    return call.state not in OPEN_STATES
