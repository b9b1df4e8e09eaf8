"""The dispatcher: tells each line what is due, and keeps what no line can take.

It never polls: new calls, settlements and timers wake the line that they concern. Lines come and
go with the configuration; the lanes are then read anew, since each may have moved to another.
"""

from collections.abc import Callable, Mapping

import anyio
from anyio.abc import TaskGroup

from integrationd.call import Call, CallState
from integrationd.clock import Clock
from integrationd.delivery.feeds import Feeds
from integrationd.delivery.line import JOURNAL_PAUSE_S, Line
from integrationd.delivery.routing import Routing
from integrationd.errors import JournalError
from integrationd.events import Bus, CallAccepted, CallChanged, LinkMoved
from integrationd.journal import Journal


class Dispatcher:
    """Runs one line per connection.

    Args:
        journal: Where calls are.
        routing: Which line a lane belongs to.
        bus: Where work is told.
        clock: Where time is read.
        reached_ms: Returns when anybody beyond the machine's own networks was last reached.

    Attributes:
        feeds: What has work although no call waits for it yet.
    """

    def __init__(
        self,
        journal: Journal,
        routing: Routing,
        bus: Bus,
        clock: Clock,
        reached_ms: Callable[[], int],
    ) -> None:
        self.feeds = Feeds(journal, bus, clock, self.note_due, reached_ms)
        self._journal = journal
        self._clock = clock
        self._routing = routing
        self._lines: dict[str, Line] = {}
        self._running: TaskGroup | None = None
        self._attempts: TaskGroup | None = None
        self._drained = anyio.Event()
        self._moved = anyio.Event()
        bus.subscribe(CallAccepted, self._on_accepted)
        bus.subscribe(CallChanged, self._on_changed)
        bus.subscribe(LinkMoved, self._on_link)

    @property
    def lines(self) -> Mapping[str, Line]:
        """The lines, by the name of their connection."""
        return self._lines

    async def run(self, *, grace_s: Callable[[], float]) -> None:
        """Deliver until drained; then let attempts under way finish for ``grace_s`` seconds."""
        async with anyio.create_task_group() as attempts:
            self._attempts = attempts
            async with anyio.create_task_group() as running:
                self._running = running
                for name in self._lines:
                    self._start(name)
                running.start_soon(self._read_backlogs, name="backlog")
                await self._drained.wait()
                for line in self._lines.values():
                    line.drain()
                self._moved.set()
            self._running = None
            attempts.cancel_scope.deadline = anyio.current_time() + grace_s()

    def drain(self) -> None:
        """Claim nothing more; ``run`` then ends by itself."""
        self._drained.set()

    def add(self, name: str, line: Line) -> None:
        """Have one more line run."""
        self._lines[name] = line
        if self._running is not None and not self._drained.is_set():
            self._start(name)

    def remove(self, name: str) -> None:
        """Have a line claim nothing more; its attempts under way go on."""
        self._lines.pop(name).drain()

    def lanes_moved(self) -> None:
        """Take note that lanes may belong to other lines than before."""
        for line in self._lines.values():
            line.forget_lanes()
        self._moved.set()

    def wake(self, connection: str) -> None:
        """Have a connection's line look again."""
        if connection in self._lines:
            self._lines[connection].wake()

    def note_due(self, lane: str, due_ms: int) -> None:
        """Tell the line that a lane belongs to now that there is work at ``due_ms``."""
        connection = self._routing.of_lane(lane)
        if connection is not None and connection.name in self._lines:
            self._lines[connection.name].note_due(lane, due_ms)

    def _start(self, name: str) -> None:
        if self._running is not None and self._attempts is not None:
            self._running.start_soon(self._lines[name].run, self._attempts, name=f"line {name}")

    async def _read_backlogs(self) -> None:
        """Tell each line of the lanes that were waiting before the start, or before they moved."""
        while not self._drained.is_set():
            self._moved = anyio.Event()
            try:
                await self._read_backlog()
            except JournalError:
                # Full or recovering; nothing can be claimed meanwhile anyway.
                await self._clock.sleep(JOURNAL_PAUSE_S)
                continue
            await self._moved.wait()

    async def _read_backlog(self) -> None:
        for lane in await self._journal.leases.lanes():
            self.note_due(lane, 0)
        for lane in self.feeds.lanes():
            self.note_due(lane, 0)
        for connection, tenant in await self._journal.leases.to_ask():
            if connection in self._lines:
                self._lines[connection].note_ask(tenant, 0)

    def _on_accepted(self, event: CallAccepted) -> None:
        self._note(event.call)

    def _on_changed(self, event: CallChanged) -> None:
        self._note(event.call)

    def _on_link(self, _event: LinkMoved) -> None:
        for line in self._lines.values():
            line.wake()

    def _note(self, call: Call) -> None:
        if call.state is CallState.PENDING and call.due_at_ms is not None:
            self.note_due(call.lane, call.due_at_ms)
        elif call.ask_at_ms is not None and call.connection is not None:
            line = self._lines.get(call.connection)
            if line is not None:
                line.note_ask(call.tenant, call.ask_at_ms)
