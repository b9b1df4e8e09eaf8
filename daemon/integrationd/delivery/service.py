"""Delivery as one service: built from settings, started once the journal is ready, drained."""

import dataclasses
from collections.abc import Mapping

import anyio

from integrationd.clock import Clock
from integrationd.delivery.attempt import Attempts
from integrationd.delivery.dispatcher import Dispatcher
from integrationd.delivery.gate import Gate, gate_for
from integrationd.delivery.line import Line
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

DRAIN_MARGIN_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What delivery works with.

    Attributes:
        journal: Where calls are.
        retention: What is pruned when.
        registry: The live connections.
        settings: The configuration in force.
        bus: Where facts are told.
        clock: Where time is read.
        maskers: Mask what is kept of exchanges, by connection.
        jitter: Randomness for backoff.
    """

    journal: Journal
    retention: Retention
    registry: Registry
    settings: Settings
    bus: Bus
    clock: Clock
    maskers: Mapping[str, Masker]
    jitter: Jitter


class Delivery:
    """Everything between the journal and the plugins.

    Attributes:
        grace_s: How long attempts under way may still take when draining.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        settings = around.settings
        self._terms = {
            name: Terms.of(one, settings.delivery) for name, one in settings.connections.items()
        }
        self._gates: dict[str, Gate] = {
            name: gate_for(name, terms, around.clock, None) for name, terms in self._terms.items()
        }
        self._routing = Routing(around.registry, settings.routes)
        longest = max((one.limits.timeout_s for one in self._terms.values()), default=0.0)
        self.grace_s = longest + DRAIN_MARGIN_S
        self._dispatcher: Dispatcher | None = None
        self._draining = False

    async def run(self) -> None:
        """Deliver until drained. The journal must be ready.

        What an earlier run of the daemon was doing when it ended is settled first.
        """
        around = self._around
        await self._restore_breakers()
        reclaimer = Reclaimer(
            around.journal, self._routing, self._terms, around.clock, around.jitter
        )
        await reclaimer.reclaim_all()
        expirer = Expirer(around.journal, reclaimer, around.bus, around.clock, around.jitter)
        self._dispatcher = self._new_dispatcher()
        if self._draining:
            return
        async with anyio.create_task_group() as services:
            services.start_soon(reclaimer.run, name="reclaimer")
            services.start_soon(expirer.run, name="expirer")
            services.start_soon(Pruner(around.retention, around.clock).run, name="pruner")
            await self._dispatcher.run(grace_s=self.grace_s)
            services.cancel_scope.cancel()

    def drain(self) -> None:
        """Start nothing more; ``run`` ends when the attempts under way have ended."""
        self._draining = True
        if self._dispatcher is not None:
            self._dispatcher.drain()

    async def _restore_breakers(self) -> None:
        for stored in await self._around.journal.breakers.all():
            if stored.connection in self._terms:
                self._gates[stored.connection] = gate_for(
                    stored.connection, self._terms[stored.connection], self._around.clock, stored
                )

    def _new_dispatcher(self) -> Dispatcher:
        around, lines = self._around, dict[str, Line]()
        slots = Slots(around.settings.delivery.concurrency, lambda: _wake_all(lines))
        attempts = Attempts(
            around.journal.leases, around.bus, around.clock, around.jitter, around.maskers
        )
        for connection in around.registry.connections():
            if connection.enabled:
                lines[connection.name] = Line(
                    connection,
                    self._terms[connection.name],
                    self._gates[connection.name],
                    slots,
                    around.journal.leases,
                    attempts,
                    around.clock,
                )
        return Dispatcher(around.journal, self._routing, lines, around.bus)

    def gate(self, connection: str) -> Gate:
        """Return the gate of a connection.

        Raises:
            NotFoundError: There is no such connection.
        """
        if connection not in self._gates:
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
        if self._dispatcher is not None:
            self._dispatcher.wake(connection)

    @property
    def routing(self) -> Routing:
        """Which connection serves what."""
        return self._routing

    def give_up_after_s(self, connection: Connection | None) -> float:
        """Return how long a call through the connection is tried, in seconds."""
        if connection is None or connection.name not in self._terms:
            return self._around.settings.delivery.give_up_after
        return self._terms[connection.name].limits.give_up_after_s


def _wake_all(lines: Mapping[str, Line]) -> None:
    for line in lines.values():
        line.wake()
