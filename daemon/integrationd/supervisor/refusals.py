"""Refused webhooks, counted, so that no hostile request ever costs a row of the event log."""

import dataclasses
from collections import Counter
from collections.abc import Callable

import anyio

from integrationd.call import EventRecord
from integrationd.clock import Clock
from integrationd.events import Bus, WebhookRefused

WINDOW_S = 60.0
# More kinds than a plugin has words for are told as one.
_KINDS = 20
_OTHER = "other"


@dataclasses.dataclass(slots=True)
class _Window:
    """What was refused for a connection since it was last told.

    Attributes:
        tenant: Whose connection it is.
        ends_s: When it may be told again, by the monotonic clock.
        reasons: How often what was wrong.
    """

    tenant: str | None
    ends_s: float
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)


class Refusals:
    """Tells of refused webhooks: the first at once, then once a minute for each connection.

    Args:
        add: Called with each event to append.
        bus: Where refusals are told.
        clock: Where time is read.
    """

    def __init__(self, add: Callable[[EventRecord], None], bus: Bus, clock: Clock) -> None:
        self._add = add
        self._clock = clock
        # In the order in which they end.
        self._windows: dict[str, _Window] = {}
        self._stirred = anyio.Event()
        bus.subscribe(WebhookRefused, self._on_refused)

    async def run(self) -> None:
        """End the windows in their time, for the daemon's life."""
        while True:
            self._stirred = anyio.Event()
            if not self._windows:
                await self._stirred.wait()
            connection, window = next(iter(self._windows.items()))
            await self._clock.sleep(max(window.ends_s - self._clock.monotonic(), 0.0))
            self._end(connection)

    def _on_refused(self, refused: WebhookRefused) -> None:
        window = self._windows.get(refused.connection)
        if window is None:
            self._tell(refused.connection, refused.tenant, {refused.reason: 1})
            return
        is_known = refused.reason in window.reasons or len(window.reasons) < _KINDS
        window.reasons[refused.reason if is_known else _OTHER] += 1

    def _end(self, connection: str) -> None:
        window = self._windows.pop(connection)
        if window.reasons:
            self._tell(connection, window.tenant, dict(window.reasons))

    def _tell(self, connection: str, tenant: str | None, reasons: dict[str, int]) -> None:
        self._windows[connection] = _Window(tenant, self._clock.monotonic() + WINDOW_S)
        self._stirred.set()
        data = {"count": sum(reasons.values()), "reasons": reasons}
        self._add(
            EventRecord(type="webhook.refused", tenant=tenant, connection=connection, data=data)
        )
