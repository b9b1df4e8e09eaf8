"""Delivery as one service: built from settings, started once the journal is ready, drained."""

import dataclasses
from collections.abc import Callable, Mapping

import anyio

from integrationd.call import Call
from integrationd.clock import Clock
from integrationd.delivery.attempt import (
    Attempts,
    Means,
    Renew,
    never_renewed,
    no_callbacks,
    no_defaults,
)
from integrationd.delivery.dispatcher import Dispatcher
from integrationd.delivery.feeds import Feeds
from integrationd.delivery.gate import Gate, gate_for
from integrationd.delivery.line import Common, Line
from integrationd.delivery.link import STORED_AS, Blind, Link, LinkStatus, Sight
from integrationd.delivery.maintenance import Expirer, Pruner, Reclaimer
from integrationd.delivery.routing import UNTOUCHED, ByHand, Routing
from integrationd.delivery.slots import Slots
from integrationd.delivery.terms import Terms
from integrationd.errors import NotFoundError
from integrationd.events import Bus
from integrationd.journal import Journal, Retention
from integrationd.masking import Masker
from integrationd.personal import PersonalData
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
        defaults_of: Returns what a tenant's calls take that do not say it themselves.
        by_hand: What was done to connections besides configuring them.
        sight: What looks for the world when nobody answers.
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
    defaults_of: Callable[[str], Mapping[str, str]] = no_defaults
    by_hand: ByHand = UNTOUCHED
    personal: PersonalData = dataclasses.field(default_factory=PersonalData)
    sight: Sight = dataclasses.field(default_factory=Blind)


class Delivery:
    """Everything between the journal and the plugins."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._settings = around.settings
        # What waits for it may outlive a reload, so these are changed and never replaced.
        self._terms: dict[str, Terms] = {}
        self._gates: dict[str, Gate] = {}
        self._maskers = dict(around.maskers)
        self._learn_typed()
        self._routing = Routing(around.registry, around.settings, around.by_hand)
        self._link = Link(around.sight, around.journal.breakers.keep, around.bus, around.clock)
        self._link.use(is_watched=around.settings.link.watch)
        self._dispatcher = Dispatcher(
            around.journal, self._routing, around.bus, around.clock, self._link.reached_ms
        )
        self._slots = Slots(around.settings.delivery.concurrency)
        self._common = Common(
            link=self._link,
            slots=self._slots,
            leases=around.journal.leases,
            attempts=self._attempts_of(around),
            feeds=self._dispatcher.feeds,
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

    def _attempts_of(self, around: Surroundings) -> Attempts:
        means = Means(
            link=self._link,
            renew=around.renew,
            callback_base=around.callback_base,
            defaults_of=around.defaults_of,
            personal=around.personal,
        )
        return Attempts(
            around.journal.leases, around.bus, around.clock, around.jitter, self._maskers, means
        )

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
        await self._dispatcher.feeds.recall()
        reclaimer = self._reclaimer
        await reclaimer.reclaim_all()
        expirer = Expirer(
            around.journal, reclaimer, self._link, around.bus, around.clock, around.jitter
        )
        self._arrange_lines()
        self._has_begun = True
        async with anyio.create_task_group() as services:
            services.start_soon(reclaimer.run, name="reclaimer")
            services.start_soon(expirer.run, name="expirer")
            services.start_soon(self._dispatcher.feeds.run, name="feeds")
            services.start_soon(self._link.run, name="link")
            services.start_soon(Pruner(around.retention, around.clock).run, name="pruner")
            await self._dispatcher.run(grace_s=lambda: self.grace_s)
            services.cancel_scope.cancel()

    def drain(self) -> None:
        """Start nothing more; ``run`` ends when the attempts under way have ended."""
        self._dispatcher.drain()

    def use(
        self,
        settings: Settings,
        maskers: Mapping[str, Masker],
        by_hand: ByHand = UNTOUCHED,
    ) -> None:
        """Go on under another configuration, with the connections that the registry has now.

        Attempts under way end on the connection and the terms that they began with.

        Args:
            settings: The configuration now in force.
            maskers: Mask what is kept of exchanges, by connection.
            by_hand: What was done to connections besides.
        """
        self._settings = settings
        self._take_maskers(maskers)
        self._routing.use(settings, by_hand)
        self._slots.resize(settings.delivery.concurrency)
        self._link.use(is_watched=settings.link.watch)
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
        self._learn_typed()

    def _learn_typed(self) -> None:
        """Mask what connections' configs type as a secret, also where no reference leads there."""
        for connection in self._around.registry.connections():
            self._maskers.setdefault(connection.name, Masker()).learn(connection.secrets)

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
        """Have one line for each connection that takes work, and tell the lines their lanes."""
        self._dispatcher.feeds.use(self._settings.connections)
        wanted = {
            one.name: one
            for one in self._around.registry.connections()
            if one.enabled and not self._routing.is_paused(one.name)
        }
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

    async def _restore_breakers(self) -> None:
        for stored in await self._around.journal.breakers.all():
            if stored.connection == STORED_AS:
                self._link.recall(stored)
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
    def link(self) -> LinkStatus:
        """How this machine's own link is."""
        return self._link.status

    def waits_for_the_link(self, connection: str) -> bool:
        """Say whether a connection is held until the link is back."""
        return self._link.holds(connection)

    @property
    def feeds(self) -> Feeds:
        """What subscriptions are told of."""
        return self._dispatcher.feeds

    @property
    def routing(self) -> Routing:
        """Which connection serves what."""
        return self._routing

    def attempts(self, connection: Connection | None) -> int:
        """Return how many sends of a call through the connection may arrive at most."""
        if connection is None or connection.name not in self._terms:
            return self._settings.delivery.attempts
        return self._terms[connection.name].limits.attempts

    def give_up_after_s(self, connection: Connection | None) -> float:
        """Return how long a call through the connection is tried, in seconds."""
        if connection is None or connection.name not in self._terms:
            return self._settings.delivery.give_up_after
        return self._terms[connection.name].limits.give_up_after_s
