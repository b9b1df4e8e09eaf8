"""Delivery as one service: built from settings, started once the journal is ready, drained."""

import dataclasses
from collections.abc import Callable, Mapping

import anyio

from integrationd.call import Call
from integrationd.clock import Clock
from integrationd.delivery.attempt import Attempts, Renew, never_renewed, no_callbacks
from integrationd.delivery.dispatcher import Dispatcher
from integrationd.delivery.gate import Gate, gate_for
from integrationd.delivery.line import Common, Line
from integrationd.delivery.maintenance import Expirer, Pruner, Reclaimer
from integrationd.delivery.routing import Routing
from integrationd.delivery.slots import Slots
from integrationd.delivery.terms import Terms
from integrationd.errors import NotFoundError
from integrationd.events import Bus
from integrationd.journal import Journal, Retention
from integrationd.masking import Masker
from integrationd.registry import Connection, Registry
from integrationd.retry import Jitter
from integrationd.settings import Settings
from integrationd.settlement import Policy

DRAIN_MARGIN_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What delivery works with.

    Attributes:
        journal: Where calls are.
        retention: What is pruned when.
        registry: The live connections.
        settings: The configuration to begin with.
        bus: Where facts are told.
        clock: Where time is read.
        maskers: Mask what is kept of exchanges, by connection; to begin with.
        jitter: Randomness for backoff.
        renew: Asked when a provider did not know a connection's credentials: whether those in
            force have changed since that connection was made.
        callback_base: Returns the address that a call's provider sends its webhooks to, by the
            call's id; empty where nothing can arrive.
    """

    journal: Journal
    retention: Retention
    registry: Registry
    settings: Settings
    bus: Bus
    clock: Clock
    maskers: Mapping[str, Masker]
    jitter: Jitter
    renew: Renew = never_renewed
    callback_base: Callable[[str], str] = no_callbacks


class Delivery:
    """Everything between the journal and the plugins."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._settings = around.settings
        # What waits for it may outlive a reload, so these are changed and never replaced.
        self._terms: dict[str, Terms] = {}
        self._gates: dict[str, Gate] = {}
        self._maskers = dict(around.maskers)
        self._routing = Routing(around.registry, around.settings.routes)
        self._dispatcher = Dispatcher(around.journal, self._routing, around.bus, around.clock)
        self._slots = Slots(around.settings.delivery.concurrency, self._wake_all)
        self._common = Common(
            slots=self._slots,
            leases=around.journal.leases,
            attempts=Attempts(
                around.journal.leases,
                around.bus,
                around.clock,
                around.jitter,
                self._maskers,
                around.renew,
                around.callback_base,
            ),
            clock=around.clock,
            tell_due=self._dispatcher.note_due,
            tell_room=self._dispatcher.wake,
        )
        self._take_terms(around.settings)
        self._reclaimer = Reclaimer(
            around.journal, self._routing, self._terms, around.clock, around.jitter
        )
        # Before that there are no lines: their gates are only known with the stored breakers.
        self._has_begun = False

    @property
    def grace_s(self) -> float:
        """How long attempts under way may still take when draining, in seconds."""
        longest = max((one.limits.timeout_s for one in self._terms.values()), default=0.0)
        return longest + DRAIN_MARGIN_S

    async def run(self) -> None:
        """Deliver until drained. The journal must be ready.

        What an earlier run of the daemon was doing when it ended is settled first.
        """
        around = self._around
        await self._restore_breakers()
        reclaimer = self._reclaimer
        await reclaimer.reclaim_all()
        expirer = Expirer(around.journal, reclaimer, around.bus, around.clock, around.jitter)
        self._arrange_lines()
        self._has_begun = True
        async with anyio.create_task_group() as services:
            services.start_soon(reclaimer.run, name="reclaimer")
            services.start_soon(expirer.run, name="expirer")
            services.start_soon(Pruner(around.retention, around.clock).run, name="pruner")
            await self._dispatcher.run(grace_s=lambda: self.grace_s)
            services.cancel_scope.cancel()

    def drain(self) -> None:
        """Start nothing more; ``run`` ends when the attempts under way have ended."""
        self._dispatcher.drain()

    def use(self, settings: Settings, maskers: Mapping[str, Masker]) -> None:
        """Go on under another configuration, with the connections that the registry has now.

        Attempts under way end on the connection and the terms that they began with.

        Args:
            settings: The configuration now in force.
            maskers: Mask what is kept of exchanges, by connection.
        """
        self._settings = settings
        self._take_maskers(maskers)
        self._routing.use(settings.routes)
        self._slots.resize(settings.delivery.concurrency)
        self._take_terms(settings)
        if self._has_begun:
            self._arrange_lines()

    def _take_maskers(self, maskers: Mapping[str, Masker]) -> None:
        """Mask new secrets, and those of before: attempts under way may still show them."""
        for name, masker in maskers.items():
            if name in self._maskers:
                self._maskers[name].learn(masker.values)
            else:
                self._maskers[name] = masker

    def _take_terms(self, settings: Settings) -> None:
        self._terms.clear()
        for name, one in settings.connections.items():
            terms = self._terms[name] = Terms.of(one, settings.delivery)
            if name in self._gates:
                self._gates[name].use(terms)
            else:
                # A gate outlives its connection: attempts of it may be under way for long.
                self._gates[name] = gate_for(name, terms, self._around.clock, None)

    def _arrange_lines(self) -> None:
        """Have one line for each connection that is enabled, and tell the lines their lanes."""
        wanted = {one.name: one for one in self._around.registry.connections() if one.enabled}
        for name in self._dispatcher.lines.keys() - wanted.keys():
            self._dispatcher.remove(name)
        for name, connection in wanted.items():
            line = self._dispatcher.lines.get(name)
            if line is None:
                self._dispatcher.add(name, self._new_line(connection))
            else:
                line.use(connection, self._terms[name])
        self._dispatcher.lanes_moved()

    def _new_line(self, connection: Connection) -> Line:
        name = connection.name
        return Line(connection, self._terms[name], self._gates[name], self._common)

    def _wake_all(self) -> None:
        for line in self._dispatcher.lines.values():
            line.wake()

    async def _restore_breakers(self) -> None:
        for stored in await self._around.journal.breakers.all():
            if stored.connection in self._terms:
                self._gates[stored.connection] = gate_for(
                    stored.connection, self._terms[stored.connection], self._around.clock, stored
                )

    def gate(self, connection: str) -> Gate:
        """Return the gate of a connection.

        Raises:
            NotFoundError: There is no such connection.
        """
        if connection not in self._terms:
            raise NotFoundError(
                f"there is no connection {connection!r}", hint="See 'integrationd connections'."
            )
        return self._gates[connection]

    async def reset_breaker(self, connection: str, by: str) -> None:
        """Close a connection's breaker by hand.

        Raises:
            NotFoundError: There is no such connection.
        """
        stored, moved = self.gate(connection).reset(by, self._around.clock.now_ms())
        await self._around.journal.breakers.store(stored, moved)
        self._dispatcher.wake(connection)

    def policy_of(self, call: Call, payload: bytes) -> Policy:
        """Return the rules for a call by its payload; nothing repeats if they are not known."""
        return self._reclaimer.policy_of(call, payload)

    @property
    def routing(self) -> Routing:
        """Which connection serves what."""
        return self._routing

    def give_up_after_s(self, connection: Connection | None) -> float:
        """Return how long a call through the connection is tried, in seconds."""
        if connection is None or connection.name not in self._terms:
            return self._settings.delivery.give_up_after
        return self._terms[connection.name].limits.give_up_after_s
