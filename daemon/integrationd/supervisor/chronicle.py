"""The chronicle: what happens to the daemon itself, appended to the event log.

It happens outside the journal, so there is no commit to share; each fact is kept as soon as the
disk allows, with the time at which it happened.
"""

from collections import deque
from typing import Any

import anyio
import structlog

from integrationd.call import EventRecord
from integrationd.clock import Clock
from integrationd.errors import JournalError
from integrationd.events import Bus, ConfigMoved, JournalMoved, PluginMoved
from integrationd.journal import Condition, Journal, JournalStatus
from integrationd.supervisor.refusals import Refusals

PAUSE_S = 1.0
# Behind a journal that stays full the oldest facts go first.
LONGEST_QUEUE = 1000
_JOURNAL = {
    "full": "journal.full",
    "recovering": "journal.recovering",
    "ready": "journal.resumed",
}
_LOW = "journal.high_water"


class Chronicle:
    """Appends what happens to the daemon to the event log, however full the disk is meanwhile.

    That is reloads, changes of plugins, the journal's own condition and refused webhooks.

    Args:
        journal: Where the event log is.
        bus: Where facts are told.
        clock: Where time is read.
    """

    def __init__(self, journal: Journal, bus: Bus, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._waiting: deque[tuple[EventRecord, int]] = deque(maxlen=LONGEST_QUEUE)
        self._stirred = anyio.Event()
        self._log = structlog.get_logger("integrationd.chronicle")
        self._tell_beginning(journal.status())
        bus.subscribe(ConfigMoved, self._on_config)
        bus.subscribe(PluginMoved, self._on_plugin)
        bus.subscribe(JournalMoved, self._on_journal)
        self._refusals = Refusals(self._add, bus, clock)

    async def run(self) -> None:
        """Append what is told, for the daemon's life."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._refusals.run)
            group.start_soon(self._append_all)

    async def _append_all(self) -> None:
        while True:
            self._stirred = anyio.Event()
            if not self._waiting:
                await self._stirred.wait()
                continue
            event, at_ms = self._waiting[0]
            try:
                await self._journal.events.append(event, at_ms)
            except JournalError:
                await self._clock.sleep(PAUSE_S)
                continue
            except ValueError as error:
                # It cannot be written as JSON; the daemon does not end for that.
                self._log.error("fact_not_kept", type=event.type, why=str(error))
            if self._waiting and self._waiting[0][0] is event:
                self._waiting.popleft()

    def _on_config(self, moved: ConfigMoved) -> None:
        data: dict[str, Any] = {"cause": moved.cause, "told": list(moved.told)}
        if moved.by is not None:
            data["by"] = moved.by
        self._add(EventRecord(type=f"config.{moved.state}", data=data))

    def _on_plugin(self, moved: PluginMoved) -> None:
        data = {"path": moved.path, "plugin": moved.code, "told": moved.told}
        self._add(EventRecord(type=f"plugin.{moved.state}", data=data))

    def _on_journal(self, moved: JournalMoved) -> None:
        kind = _LOW if moved.is_low else _JOURNAL.get(moved.condition)
        if kind is not None:
            self._add(EventRecord(type=kind, data={"reason": moved.reason}))

    def _tell_beginning(self, status: JournalStatus) -> None:
        """Tell of a journal that was in want of room, or of a sound disk, from the start."""
        if status.reason:
            is_low = status.condition is Condition.READY
            self._on_journal(JournalMoved(status.condition.value, status.reason, is_low))

    def _add(self, event: EventRecord) -> None:
        self._waiting.append((event, self._clock.now_ms()))
        self._stirred.set()
