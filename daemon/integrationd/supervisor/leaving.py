"""Connections that were deleted while calls waited on them: each goes when its last call has ended.

A journal that was away comes back here too: what could not be read of the directory, or was written
without anybody knowing, is read again then.
"""

import anyio
import structlog

from integrationd.clock import Clock
from integrationd.errors import IntegrationdError
from integrationd.events import Bus, CallChanged, JournalMoved
from integrationd.journal import Condition
from integrationd.supervisor.live_directory import LiveDirectory
from integrationd.supervisor.reload import Reloader

PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class Leaving:
    """Removes connections that are leaving, for the daemon's life.

    Args:
        directory: Where they are removed.
        reloader: Reads the directory again when the journal is back.
        bus: Where the ends of calls are told.
        clock: Where time is read.
    """

    def __init__(
        self, directory: LiveDirectory, reloader: Reloader, bus: Bus, clock: Clock
    ) -> None:
        self._directory = directory
        self._reloader = reloader
        self._clock = clock
        self._stirred = anyio.Event()
        self._is_back = False
        self._log = structlog.get_logger("integrationd.directory")
        bus.subscribe(CallChanged, self._on_call)
        bus.subscribe(JournalMoved, self._on_journal)

    async def run(self) -> None:
        """Look whenever a call of theirs has ended."""
        while True:
            self._stirred = anyio.Event()
            await self.run_once()
            await self._clock.wait(self._stirred, LONGEST_PAUSE_S)
            # One look is enough for many calls that end together.
            await self._clock.sleep(PAUSE_S)

    async def run_once(self) -> None:
        """Remove those that have no calls any more."""
        if self._is_back:
            self._is_back = False
            await self._reloader.reload("the journal is back", again=False)
        for name, by in self._directory.leaving().items():
            try:
                await self._directory.remove_if_idle(name, by)
            except IntegrationdError as error:
                self._log.warning("connection_not_removed", connection=name, why=str(error))

    def _on_call(self, event: CallChanged) -> None:
        connection = event.call.connection
        if event.call.state.is_final and connection and self._directory.is_leaving(connection):
            self._stirred.set()

    def _on_journal(self, event: JournalMoved) -> None:
        if event.condition == Condition.READY:
            self._is_back = True
            self._stirred.set()
