"""Which connection serves a lane or an operation of a tenant, and why none does.

Another tenant's connection is never used, nor named in an error.
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator, Mapping

from integrationd.call import Call, is_subscription, pinned_to, tenant_of
from integrationd.delivery.choice import UNPLACED, Candidate, Choice, Place, choose
from integrationd.errors import UnprocessableError
from integrationd.registry import Connection, Registry
from integrationd.sdk.contracts import CATALOGUE
from integrationd.settings import ConnectionSettings, RouteSettings, Settings

# Operations come from requests, and what never serves is asked for too.
MOST_REMEMBERED = 10_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """What was done to connections besides configuring them.

    Attributes:
        paused: Those that take no work for now, and who paused them.
        leaving: Those that take no new calls and go when they have none any more.
        unmade: Those that cannot be made, and why.
    """

    paused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    unmade: Mapping[str, str] = dataclasses.field(default_factory=dict)


UNTOUCHED = ByHand()


class Routing:
    """Chooses connections by the configuration in force.

    Args:
        registry: The live connections.
        settings: The configuration to begin with.
        by_hand: What was done to connections besides.
    """

    def __init__(self, registry: Registry, settings: Settings, by_hand: ByHand = UNTOUCHED) -> None:
        self._registry = registry
        self._settings = settings
        self._by_hand = by_hand
        self._closed: set[str] = set()
        self._chosen: dict[tuple[str, str, bool], Choice] = {}
        self._chosen_of = registry.generation

    def use(self, settings: Settings, by_hand: ByHand = UNTOUCHED) -> None:
        """Choose by another configuration from now on."""
        self._settings, self._by_hand = settings, by_hand
        self._chosen.clear()

    @contextlib.contextmanager
    def closed_to_new_calls(self, connection: str) -> Iterator[None]:
        """Choose a connection for no new call meanwhile."""
        self._closed.add(connection)
        self._chosen.clear()
        try:
            yield
        finally:
            self._closed.discard(connection)
            self._chosen.clear()

    def is_paused(self, connection: str) -> bool:
        """Say whether a connection takes no work for now."""
        return connection in self._by_hand.paused

    def of_lane(self, lane: str) -> Connection | None:
        """Return the connection that serves a lane now, or None if there is none."""
        tenant = tenant_of(lane)
        if self._is_suspended(tenant):
            return None
        pinned = pinned_to(lane)
        if pinned is not None:
            return None if self.is_paused(pinned) else self._usable(pinned, tenant)
        serving = self._choice(lane.partition("/")[2], tenant).serving
        return self._registry.find(serving) if serving is not None else None

    def awaited_by(self, lane: str) -> tuple[str, ...]:
        """Return the connections that a lane's calls go through, or wait for."""
        pinned = pinned_to(lane)
        if pinned is not None:
            return (pinned,)
        choice = self._choice(lane.partition("/")[2], tenant_of(lane))
        return choice.awaited if choice.serving is None else (choice.serving,)

    def for_new_call(self, operation: str, requested: str | None, tenant: str) -> Connection | None:
        """Return the connection that a new call would go through; None where its route holds.

        Args:
            operation: ``category.verb``.
            requested: The connection that the call names, if it does.
            tenant: Whose call it is.

        Raises:
            UnprocessableError: There is none, more than one would do, or it cannot do that.
        """
        if requested is not None:
            return self._requested(operation, requested, tenant)
        choice = self._choice(operation, tenant, for_new_call=True)
        if choice.for_new_call is not None:
            return self._registry.find(choice.for_new_call)
        route = self._settings.routes.get(operation)
        if route is not None and route.when_missing == "hold":
            return None
        raise self._refusal(operation, choice)

    def why_none(self, call: Call) -> str | None:
        """Say why a pending call has no connection, or return None if it has one."""
        if self._is_suspended(call.tenant):
            return f"Its tenant {call.tenant!r} is suspended. It goes on once that is active again."
        if self.of_lane(call.lane) is not None:
            return None
        pinned = pinned_to(call.lane)
        if pinned is not None:
            return self._why_not(pinned, call.tenant)
        choice = self._choice(call.operation, call.tenant)
        paused = [name for name in choice.awaited if self.is_paused(name)]
        if paused:
            return self._why_not(paused[0], call.tenant)
        if choice.awaited:
            return (
                f"Several connections can do {call.operation}, and none goes first:"
                f" {', '.join(choice.awaited)}. It goes as soon as one of them does."
            )
        return f"No connection is configured for {call.operation}. It goes as soon as there is one."

    def named(self, name: str) -> Connection | None:
        """Return the connection of that name if it serves, whomever, else None."""
        found = self._registry.find(name)
        return found if found is not None and found.enabled else None

    def _is_leaving(self, name: str) -> bool:
        return name in self._by_hand.leaving or name in self._closed

    def _usable(self, name: str, tenant: str) -> Connection | None:
        found = self.named(name)
        return found if found is not None and _may_use(found, tenant) else None

    def _is_suspended(self, tenant: str) -> bool:
        found = self._settings.tenants.get(tenant)
        return found is not None and found.status == "suspended"

    def _why_not(self, name: str, tenant: str) -> str:
        settings = self._settings.connections.get(name)
        is_theirs = settings is not None and settings.tenant in (None, tenant)
        if is_theirs and name in self._by_hand.unmade:
            unmade = self._by_hand.unmade[name].rstrip(".")
            return f"Its connection {name!r} cannot be made: {unmade}. It goes once that is mended."
        if is_theirs and name in self._by_hand.paused:
            by = self._by_hand.paused[name]
            return f"Connection {name!r} is paused by {by}. It goes on once that is resumed."
        return (
            f"Its connection {name!r} is not configured or is switched off. It goes as soon as that"
            " is there again."
        )

    def _choice(self, operation: str, tenant: str, *, for_new_call: bool = False) -> Choice:
        """Choose, once for each set of connections and configuration: every call asks."""
        if self._chosen_of != self._registry.generation or len(self._chosen) > MOST_REMEMBERED:
            self._chosen.clear()
            self._chosen_of = self._registry.generation
        asked = (operation, tenant, for_new_call)
        found = self._chosen.get(asked)
        if found is None:
            candidates = self._candidates(operation, tenant)
            found = self._chosen[asked] = choose(candidates, for_new_call=for_new_call)
        return found

    def _candidates(self, operation: str, tenant: str) -> Iterator[Candidate]:
        """Yield what may serve; a route says which of the shared connections do."""
        route = self._settings.routes.get(operation)
        for found in self._registry.serving(operation):
            # Those of subscriptions deliver events and nothing else.
            if is_subscription(found.name):
                continue
            is_named = route is None or found.name in route.order
            if not _may_use(found, tenant) or (found.tenant is None and not is_named):
                continue
            settings = self._settings.connections.get(found.name)
            yield Candidate(
                name=found.name,
                is_own=found.tenant is not None,
                place=_place(found.name, operation, route, settings),
                is_primary=settings is not None and settings.primary,
                is_paused=self.is_paused(found.name),
                is_leaving=self._is_leaving(found.name),
            )

    def _requested(self, operation: str, name: str, tenant: str) -> Connection:
        # Those of subscriptions deliver events and nothing else.
        connection = None if is_subscription(name) else self._usable(name, tenant)
        if connection is None:
            raise UnprocessableError(
                f"there is no connection {name!r}, or it is switched off",
                code="not_configured",
                pointer="/connection",
                hint="See 'integrationd connections'.",
            )
        if self._is_leaving(name):
            raise UnprocessableError(
                f"connection {name!r} is being removed and takes no new calls",
                code="not_configured",
                pointer="/connection",
                hint="Name another one, or none.",
            )
        if not connection.serves(operation):
            raise UnprocessableError(
                f"connection {name!r} ({connection.code}) cannot do {operation}",
                code="unsupported",
                pointer="/connection",
                hint="See GET /v1/providers for what each provider can do.",
            )
        return connection

    def _refusal(self, operation: str, choice: Choice) -> UnprocessableError:
        if choice.awaited:
            return UnprocessableError(
                f"{len(choice.awaited)} connections can do {operation}: "
                f"{', '.join(choice.awaited)}",
                code="ambiguous_route",
                pointer="/operation",
                hint=f'Name one as "connection", make one of them primary, or add '
                f'[routes."{operation}"] to the config.',
            )
        if operation not in CATALOGUE and operation not in self._declared():
            return self._unknown(operation)
        return UnprocessableError(
            f"no connection is configured for {operation}",
            code="not_configured",
            pointer="/operation",
            hint="Add a connection whose provider can do it: 'integrationd connections add', or a"
            " [connections.NAME] of the config.",
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


def _may_use(connection: Connection, tenant: str) -> bool:
    return connection.tenant in (None, tenant)


def _place(
    name: str,
    operation: str,
    route: RouteSettings | None,
    settings: ConnectionSettings | None,
) -> Place:
    if route is not None and name in route.order:
        return 0, route.order.index(name)
    if settings is not None and operation in settings.order:
        return 1, settings.order[operation]
    return UNPLACED
