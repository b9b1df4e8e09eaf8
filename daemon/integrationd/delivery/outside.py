"""Who is outside: the connections that lead beyond the machine's own networks, as witnesses."""

from collections.abc import Callable

from integrationd.clock import Clock
from integrationd.registry import Connection, Registry
from integrationd.sdk.http import PreparedClient
from integrationd.sdk.reach import View, look_at, look_for_any, look_from_here

TRIED_AT_MOST = 4


class Outside:
    """Looks for the world through the hosts of connections, or where the configuration says.

    Args:
        registry: The live connections.
        probe: Returns the address that is asked in their place, if one is configured.
        clock: Where time is read.
    """

    def __init__(self, registry: Registry, probe: Callable[[], str | None], clock: Clock) -> None:
        self._registry = registry
        self._probe = probe
        self._clock = clock
        self._reached: dict[str, int] = {}

    def leads_outside(self, connection: str) -> bool:
        """Say whether a connection leads beyond the machine's own networks."""
        found = self._registry.find(connection)
        return found is not None and found.is_outside

    def note_reached(self, connection: str) -> None:
        """Take note that somebody has answered through a connection."""
        self._reached[connection] = self._clock.now_ms()

    async def look(self, but: str | None) -> View:
        """Say whether anybody outside can be reached, besides the host of one connection."""
        probe = self._probe()
        if probe is not None:
            return await look_at(probe)
        failing = self._registry.find(but) if but is not None else None
        witnesses = self._witnesses(_host(failing))
        if witnesses:
            return await look_for_any(witnesses)
        if failing is None or failing.client is None:
            return View(None)
        return await look_from_here(failing.client)

    def _witnesses(self, but_host: str) -> list[PreparedClient]:
        """Return clients of different hosts; who answered last comes first.

        Whoever has never answered may be gone for good, and is asked only while nobody has.
        """
        outside = [one for one in self._registry.connections() if one.is_outside and one.enabled]
        known = {one.name: self._reached.get(one.name, 0) for one in outside}
        self._reached = known
        if any(known.values()):
            outside = [one for one in outside if known[one.name]]
        outside.sort(key=lambda one: known[one.name], reverse=True)
        by_host: dict[str, PreparedClient] = {}
        for one in outside:
            if one.client is not None and _host(one) != but_host:
                by_host.setdefault(_host(one), one.client)
        return list(by_host.values())[:TRIED_AT_MOST]


def _host(connection: Connection | None) -> str:
    return "" if connection is None or connection.client is None else connection.client.host
