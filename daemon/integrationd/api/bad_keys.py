"""How often wrong keys may come from one source."""

import math
from collections import OrderedDict

import structlog

from integrationd.clock import Clock

BURST = 20
INTERVAL_S = 3.0
MOST_SOURCES = 10_000
_SAY_EVERY_S = 60.0

log = structlog.get_logger("integrationd.api")


class BadKeys:
    """Counts wrong keys by source.

    A right key is let in however many wrong ones came beside it: on this machine all callers share
    one address, and one app with an old key must not shut out the others. Keys are too long to be
    guessed at any speed.

    Args:
        clock: Where time is read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()
        self._refused = 0
        self._say_at = -math.inf

    def __len__(self) -> int:
        return len(self._due)

    def count(self, source: str) -> int:
        """Count a wrong key.

        Returns:
            Seconds after which the source may try again; 0 while it has not tried too often.
        """
        now = self._clock.monotonic()
        due = max(self._due.get(source, now), now)
        over_s = due - now - (BURST - 1) * INTERVAL_S
        if over_s > 0:
            self._tell(source, now)
            return math.ceil(over_s)
        self._due[source] = due + INTERVAL_S
        self._due.move_to_end(source)
        while len(self._due) > MOST_SOURCES:
            self._due.popitem(last=False)
        return 0

    def _tell(self, source: str, now: float) -> None:
        self._refused += 1
        if now < self._say_at:
            return
        log.warning(
            "wrong_api_keys",
            source=source,
            count=self._refused,
            hint="Something keeps showing a wrong API key; 'integrationd keys' lists the right.",
        )
        self._refused, self._say_at = 0, now + _SAY_EVERY_S
