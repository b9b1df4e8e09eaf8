"""Delivery as the API sees it."""

from integrationd.api.ports import LineStatus, LinkStatus
from integrationd.call import Call
from integrationd.delivery.service import Delivery
from integrationd.registry import Connection


class Place:
    """Delivery as the API sees it."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def for_new_call(self, operation: str, requested: str | None, tenant: str) -> Connection | None:
        """Return the connection that a tenant's new call would go through.

        None where its route holds. A connection of another tenant is none that exists.
        """
        return self._delivery.routing.for_new_call(operation, requested, tenant)

    def of_lane(self, lane: str) -> Connection | None:
        """Return the connection that serves a lane now."""
        return self._delivery.routing.of_lane(lane)

    def why_none(self, call: Call) -> str | None:
        """Say why a pending call has no connection, or None if it has one."""
        return self._delivery.routing.why_none(call)

    def attempts(self, connection: Connection | None) -> int:
        """Return how many sends of a call through the connection may arrive at most."""
        return self._delivery.attempts(connection)

    def give_up_after_s(self, connection: Connection | None) -> float:
        """Return how long a call through the connection is tried, in seconds."""
        return self._delivery.give_up_after_s(connection)

    def line_status(self, connection: str) -> LineStatus:
        """Return how a connection's line stands."""
        gate = self._delivery.gate(connection).status()
        return LineStatus(
            breaker=gate.breaker,
            breaker_until_ms=gate.breaker_until_ms,
            running=gate.running,
            concurrency=gate.concurrency,
            rate_limit=gate.rate_limit,
            next_ms=gate.next_ms,
            waits_for_link=self._delivery.waits_for_the_link(connection),
        )

    def link_status(self) -> LinkStatus:
        """Return how this machine's own link is."""
        link = self._delivery.link
        return LinkStatus(is_up=link.is_up, since_ms=link.since_ms, why=link.why)

    async def reset_breaker(self, connection: str, by: str) -> None:
        """Close a connection's breaker by hand."""
        await self._delivery.reset_breaker(connection, by)
