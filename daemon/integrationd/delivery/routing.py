"""Which connection serves a lane or an operation, and why none does."""

import difflib
from collections.abc import Mapping

from integrationd.call import Call, pinned_to
from integrationd.errors import UnprocessableError
from integrationd.registry import Connection, Registry
from integrationd.sdk.contracts import CATALOGUE
from integrationd.settings import RouteSettings


class Routing:
    """Chooses connections by the configuration in force.

    Args:
        registry: The live connections.
        routes: ``[routes]`` of the configuration.
    """

    def __init__(self, registry: Registry, routes: Mapping[str, RouteSettings]) -> None:
        self._registry = registry
        self._routes = routes

    def use(self, routes: Mapping[str, RouteSettings]) -> None:
        """Choose by other routes from now on."""
        self._routes = routes

    def of_lane(self, lane: str) -> Connection | None:
        """Return the connection that serves a lane now, or None if there is none."""
        pinned = pinned_to(lane)
        if pinned is not None:
            return self.named(pinned)
        return self._of_operation(lane.partition("/")[2])

    def for_new_call(self, operation: str, requested: str | None) -> Connection | None:
        """Return the connection that a new call would go through; None where its route holds.

        Raises:
            UnprocessableError: There is none, more than one would do, or it cannot do that.
        """
        if requested is not None:
            return self._requested(operation, requested)
        chosen = self._of_operation(operation)
        if chosen is not None:
            return chosen
        route = self._routes.get(operation)
        if route is not None and route.when_missing == "hold":
            return None
        raise self._refusal(operation, route)

    def why_none(self, call: Call) -> str | None:
        """Say why a pending call has no connection, or return None if it has one."""
        if self.of_lane(call.lane) is not None:
            return None
        pinned = pinned_to(call.lane)
        if pinned is not None:
            return f"Its connection {pinned!r} is not configured or is switched off."
        return f"No connection is configured for {call.operation}."

    def named(self, name: str) -> Connection | None:
        """Return the connection of that name if it serves, else None."""
        found = self._registry.find(name)
        return found if found is not None and found.enabled else None

    def _of_operation(self, operation: str) -> Connection | None:
        route = self._routes.get(operation)
        if route is not None:
            found = self._registry.route(operation, route.order)
            return found[0] if found else None
        serving = self._registry.serving(operation)
        return serving[0] if len(serving) == 1 else None

    def _requested(self, operation: str, name: str) -> Connection:
        connection = self.named(name)
        if connection is None:
            raise UnprocessableError(
                f"there is no connection {name!r}, or it is switched off",
                code="not_configured",
                pointer="/connection",
                hint="See 'integrationd connections'.",
            )
        if not connection.serves(operation):
            raise UnprocessableError(
                f"connection {name!r} ({connection.code}) cannot do {operation}",
                code="unsupported",
                pointer="/connection",
                hint="See GET /v1/providers for what each provider can do.",
            )
        return connection

    def _refusal(self, operation: str, route: RouteSettings | None) -> UnprocessableError:
        serving = [connection.name for connection in self._registry.serving(operation)]
        if route is None and len(serving) > 1:
            return UnprocessableError(
                f"{len(serving)} connections can do {operation}: {', '.join(serving)}",
                code="ambiguous_route",
                pointer="/operation",
                hint=f'Name one as "connection", or add [routes."{operation}"] to the config.',
            )
        if operation not in CATALOGUE and operation not in self._declared():
            return self._unknown(operation)
        return UnprocessableError(
            f"no connection is configured for {operation}",
            code="not_configured",
            pointer="/operation",
            hint="Add a [connections.NAME] whose provider can do it to the config.",
        )

    def _declared(self) -> set[str]:
        """Return every operation that a loaded plugin can do."""
        return {name for one in self._registry.providers() for name in one.operations}

    def _unknown(self, operation: str) -> UnprocessableError:
        near = difflib.get_close_matches(operation, {*CATALOGUE, *self._declared()}, n=1)
        return UnprocessableError(
            f"there is no operation {operation[:80]!r}",
            code="unknown_operation",
            pointer="/operation",
            hint=f"Did you mean {near[0]!r}?" if near else "See GET /v1/providers.",
        )
