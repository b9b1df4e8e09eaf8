"""For how long a receiver has been failing, as far as that is known to be its own doing.

Time in which the machine itself may have been offline, or was switched off, is nobody's failure.
So a failure counts only where the request got to somebody, or where others could be reached at the
same time; and between two failures no more than a day counts, however long nothing was tried.
"""

import dataclasses

from integrationd.sdk import outcome as said
from integrationd.settlement import LINK_DOWN

# Whoever failed for so long without any success in between is switched off.
PATIENCE_MS = 5 * 24 * 3600 * 1000
# What never left the machine is the receiver's failure only if others were reached so lately.
REACHED_LATELY_MS = 10 * 60 * 1000
LONGEST_GAP_MS = 24 * 3600 * 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Failing:
    """A row of failures without a success in between.

    Attributes:
        since_ms: When it began, moved on by the time that does not count; UTC milliseconds.
        looked_ms: When the last delivery failed, whoever's failure it was.
    """

    since_ms: int
    looked_ms: int

    def after(self, now_ms: int, *, is_theirs: bool) -> "Failing":
        """Return the row with one more failure."""
        # A clock that was set back says nothing about the time in between.
        gap_ms = max(0, now_ms - self.looked_ms)
        counted_ms = min(gap_ms, LONGEST_GAP_MS) if is_theirs else 0
        passed_ms = self.looked_ms - self.since_ms
        return Failing(now_ms - passed_ms - counted_ms, now_ms)

    @property
    def is_over(self) -> bool:
        """Whether it has lasted for so long that the receiver is given up."""
        return self.looked_ms - self.since_ms >= PATIENCE_MS


def is_theirs(answer: said.Retryable | said.Uncertain, now_ms: int, reached_ms: int) -> bool:
    """Say whether a failed delivery was the receiver's failure.

    Args:
        answer: What came of it.
        now_ms: The time.
        reached_ms: When anybody beyond the machine's own networks was last reached.
    """
    if isinstance(answer, said.Uncertain) or answer.sent:
        return answer.reason not in _OUR_OWN
    return answer.reason not in _OUR_OWN and 0 <= now_ms - reached_ms < REACHED_LATELY_MS


# The daemon stopped, a plugin could not do its part, or this machine reaches nobody.
_OUR_OWN = frozenset({"interrupted", "plugin_error", "not_offered", LINK_DOWN})
