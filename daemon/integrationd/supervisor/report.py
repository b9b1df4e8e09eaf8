"""What systemd hears of a running daemon: that it lives, and in one line how things stand.

The watchdog is put off from the event loop itself, and only after the journal has answered: a loop
that stands still, or a journal that says nothing, ends in a restart. A full disk does not, since
there the journal does answer, and a restart would mend nothing.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Iterable

import anyio

from integrationd.api.ports import ConfigStatus
from integrationd.clock import Clock
from integrationd.errors import JournalError
from integrationd.journal import Condition, JournalStatus, LedgerLine
from integrationd.supervisor.systemd import Notifier

LONGEST_PAUSE_S = 5.0
BEATS = 4
"""How often the watchdog is put off within its time, so that no single delay trips it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Matters:
    """What is reported on.

    Attributes:
        ledger: Reads the balance of the calls from the journal, which so proves that it answers.
        journal: Returns how the journal is.
        config: Returns which configuration is in force.
        link_is_up: Says whether the world can be reached.
    """

    ledger: Callable[[], Awaitable[list[LedgerLine]]]
    journal: Callable[[], JournalStatus]
    config: Callable[[], ConfigStatus]
    link_is_up: Callable[[], bool]


class Report:
    """Tells systemd how the daemon is, for as long as it lives.

    Args:
        notifier: Who passes it on.
        matters: What it is about.
        clock: Where time is read.
        watchdog_s: Seconds of silence that systemd bears, or None for any.
    """

    def __init__(
        self, notifier: Notifier, matters: Matters, clock: Clock, watchdog_s: float | None
    ) -> None:
        self._notifier = notifier
        self._matters = matters
        self._clock = clock
        self._pause_s = min(LONGEST_PAUSE_S, (watchdog_s or LONGEST_PAUSE_S) / BEATS)
        self._last = ""

    async def run(self) -> None:
        """Report for the daemon's life."""
        while True:
            with anyio.move_on_after(self._pause_s * (BEATS - 1)):
                lines = await self._ledger()
                self._notifier.alive()
                self._tell(self._in_words(lines))
            await self._clock.sleep(self._pause_s)

    async def _ledger(self) -> list[LedgerLine]:
        """Return the balance; nothing where the journal says that it cannot be read now."""
        try:
            return await self._matters.ledger()
        except JournalError:
            return []

    def _in_words(self, lines: list[LedgerLine]) -> str:
        matters = self._matters
        link_is_up = matters.link_is_up()
        return in_words(matters.journal(), lines, matters.config(), link_is_up=link_is_up)

    def _tell(self, text: str) -> None:
        if text != self._last:
            self._notifier.status(text)
            self._last = text


def in_words(
    journal: JournalStatus,
    lines: Iterable[LedgerLine],
    config: ConfigStatus,
    *,
    link_is_up: bool = True,
) -> str:
    """Say in one line how things stand: the journal, the link, the calls, the configuration.

    Args:
        journal: How the journal is.
        lines: The balance of the calls.
        config: Which configuration is in force.
        link_is_up: Whether the world can be reached.
    """
    ledger = list(lines)
    waiting = sum(one.pending + one.processing for one in ledger)
    unknown = sum(one.unknown for one in ledger)
    is_ready = journal.condition == Condition.READY
    told = [] if is_ready else [f"journal {journal.condition}: {journal.reason}"]
    if is_ready and journal.reason:
        told.append(journal.reason.rstrip("."))
    if not link_is_up:
        told.append("link down")
    told.append(f"{waiting} {'call' if waiting == 1 else 'calls'} waiting")
    if unknown:
        told.append(f"{unknown} of unknown outcome")
    if config.state == "rejected":
        told.append(f"config rejected: {_first(config)}")
    return "; ".join(told)


def _first(config: ConfigStatus) -> str:
    if not config.problems:
        return config.file
    first, *others = config.problems
    more = f" (and {len(others)} more)" if others else ""
    return f"{first.where}: {first.reason}{more}"
