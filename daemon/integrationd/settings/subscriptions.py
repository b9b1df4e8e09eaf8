"""What a subscription is to delivery: a connection of its own, which nobody configures by hand."""

from typing import Any

from pydantic import ConfigDict

from integrationd.settings.model import BreakerOverride, ConnectionSettings
from integrationd.settings.table import Table
from integrationd.settings.units import DAY_S, HOUR_S, MINUTE_S

STANDARD_SCHEDULE_S = (
    *(0.0, 5.0, 5 * MINUTE_S, 30 * MINUTE_S, 2 * HOUR_S, 5 * HOUR_S),
    *(10 * HOUR_S, 14 * HOUR_S, 20 * HOUR_S, 24 * HOUR_S),
)
SIMPLE_SCHEDULE_S = (0.0, 1.0, 2.0)
SCHEDULES_S = {"standard": STANDARD_SCHEDULE_S, "simple": SIMPLE_SCHEDULE_S}
# The app is on this machine, and is waited for as long as it takes.
APP_SCHEDULE_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
ENDLESS_ATTEMPTS = 1 << 60
ENDLESS_S = 3650 * DAY_S
LEAST_LIFE_S = 3 * DAY_S


class FeedSettings(Table):
    """What a subscription is told, and how.

    Attributes:
        subscription: Its id.
        tenant: Whose events; everybody's when None.
        events: Names of events, prefixes such as ``payment.*``, or ``*``.
        scheme: ``standard`` or ``simple``.
        is_ordered: An event about a call waits until the one before it was taken.
        is_endless: It is tried until it succeeds.
        schedule_s: Seconds before each attempt, the first one's too.
    """

    subscription: str
    tenant: str | None = None
    events: tuple[str, ...] = ("*",)
    scheme: str = "standard"
    is_ordered: bool = False
    is_endless: bool = False
    schedule_s: tuple[float, ...] = STANDARD_SCHEDULE_S

    @property
    def waits_s(self) -> tuple[float, ...]:
        """The wait after each attempt."""
        return self.schedule_s[1:] or (0.0,)

    @property
    def attempts(self) -> int:
        """Sends that may have arrived, at most."""
        return ENDLESS_ATTEMPTS if self.is_endless else len(self.schedule_s)

    @property
    def lives_s(self) -> float:
        """How long a delivery is tried, with room for what never left the machine."""
        if self.is_endless:
            return ENDLESS_S
        return max(1.25 * sum(self.schedule_s) + DAY_S, LEAST_LIFE_S)


class FedConnection(ConnectionSettings):
    """The connection of one subscription.

    Attributes:
        feed: What goes through it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    feed: FeedSettings


def fed_connection(feed: FeedSettings, config: dict[str, Any], **more: Any) -> FedConnection:
    """Return the connection of a subscription, with limits of its own.

    Args:
        feed: What goes through it.
        config: What the provider ``webhook`` takes.
        more: What else differs from any connection.
    """
    usual: dict[str, Any] = {
        "provider": "webhook",
        "environment": "production",
        "concurrency": 4,
        "timeout": 20.0,
        "tenant": feed.tenant,
        "breaker": BreakerOverride(successes=1),
    }
    return FedConnection(feed=feed, config=config, **{**usual, **more})
