"""The dispatcher: tells each line what is due, and keeps what no line can take.

It never polls: new calls, settlements and timers wake the line that they concern.
"""

from collections.abc import Mapping

import anyio

from integrationd.call import Call, CallState
from integrationd.delivery.line import Line
from integrationd.delivery.routing import Routing
from integrationd.events import Bus, CallAccepted, CallChanged
from integrationd.journal import Journal


class Dispatcher:
    """Runs one line per connection.

    Args:
        journal: Where calls are.
        routing: Which line a lane belongs to.
        lines: The lines, by the name of their connection.
        bus: Where work is told.
    """

    def __init__(
        self, journal: Journal, routing: Routing, lines: Mapping[str, Line], bus: Bus
    ) -> None:
        self._journal = journal
        self._routing = routing
        self._lines = lines
        bus.subscribe(CallAccepted, self._on_accepted)
        bus.subscribe(CallChanged, self._on_changed)

    async def run(self, *, grace_s: float) -> None:
        """Deliver until drained; then let attempts under way finish for ``grace_s`` seconds."""
        async with anyio.create_task_group() as attempts:
            async with anyio.create_task_group() as lines:
                for name, line in self._lines.items():
                    lines.start_soon(line.run, attempts, name=f"line {name}")
                await self._read_backlog()
            attempts.cancel_scope.deadline = anyio.current_time() + grace_s

    def drain(self) -> None:
        """Claim nothing more; ``run`` then ends by itself."""
        for line in self._lines.values():
            line.drain()

    def wake(self, connection: str) -> None:
        """Have a connection's line look again."""
        if connection in self._lines:
            self._lines[connection].wake()

    async def _read_backlog(self) -> None:
        """Tell each line of the lanes that were waiting before the start."""
        for lane in await self._journal.leases.lanes():
            self._note_due(lane, 0)
        for connection in await self._journal.leases.connections_to_ask():
            if connection in self._lines:
                self._lines[connection].note_ask(0)

    def _on_accepted(self, event: CallAccepted) -> None:
        self._note(event.call)

    def _on_changed(self, event: CallChanged) -> None:
        self._note(event.call)

    def _note(self, call: Call) -> None:
        if call.state is CallState.PENDING and call.due_at_ms is not None:
            self._note_due(call.lane, call.due_at_ms)
        elif call.ask_at_ms is not None and call.connection is not None:
            line = self._lines.get(call.connection)
            if line is not None:
                line.note_ask(call.ask_at_ms)

    def _note_due(self, lane: str, due_ms: int) -> None:
        connection = self._routing.of_lane(lane)
        if connection is not None and connection.name in self._lines:
            self._lines[connection.name].note_due(lane, due_ms)
