"""Putting the parts of a daemon together, in the order in which they need each other.

Nothing is started here; :mod:`integrationd.supervisor.daemon` does that.
"""

import contextlib
import dataclasses
import functools
import itertools
import secrets

import structlog

from integrationd.api.accept import Acceptor
from integrationd.api.app import Api
from integrationd.api.auth import Access
from integrationd.api.event_streams import EventStreams
from integrationd.api.held_keys import HeldKeys
from integrationd.api.parts import Parts
from integrationd.api.submit import Submitter
from integrationd.api.waiting import Waiters
from integrationd.clock import Clock
from integrationd.delivery.outside import Outside
from integrationd.delivery.service import Delivery, Surroundings
from integrationd.errors import JournalError
from integrationd.events import Bus
from integrationd.journal import Journal, Retention
from integrationd.masking import Masker
from integrationd.personal import PersonalData
from integrationd.registry import (
    Connection,
    LoadedPlugins,
    Registry,
    Shelf,
    Tenants,
    builtin_plugins,
)
from integrationd.registry.tokens import Tokens
from integrationd.registry.trial import Trial
from integrationd.settings import Settings
from integrationd.supervisor.authorisations import Authorisations, Keeping
from integrationd.supervisor.hooks import HookParts, Hooks
from integrationd.supervisor.live import Live, kept_by, roles_by
from integrationd.supervisor.live_directory import LiveDirectory
from integrationd.supervisor.live_vault import LiveVault
from integrationd.supervisor.place import Place
from integrationd.supervisor.reload import Around, Reloader
from integrationd.supervisor.secrets import Vault, master_source
from integrationd.supervisor.snapshot import Snapshot, Source
from integrationd.supervisor.stored import plan_sparing, read_stored
from integrationd.supervisor.subscribers import Subscribers, subscribers_of
from integrationd.telemetry import LogOutput, Metrics
from integrationd.webhooks.addresses import Addresses

# No setting allows more; the server keeps to the one that is in force.
BODY_LIMIT_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is there before the journal is opened.

    Attributes:
        source: Where the configuration is read.
        clock: Where time is read.
        bus: Where facts are told.
        masker: Masks what is shown.
        personal: Masks what tells who a person is, where the configuration asks for it.
        output: Where the log goes.
        metrics: What ``/metrics`` tells.
        tenants: Whose calls are taken.
        tokens: The access tokens of all connections.
    """

    source: Source
    clock: Clock
    bus: Bus
    masker: Masker
    personal: PersonalData
    output: LogOutput
    metrics: Metrics
    tenants: Tenants
    tokens: Tokens


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """The parts of a daemon that are started and stopped, or looked at.

    Attributes:
        journal: Where everything is kept.
        registry: What is loaded, and the connections.
        delivery: Everything between the journal and the plugins.
        hooks: What takes webhooks in.
        access: Who may use the API.
        live: What goes on under another configuration.
        reloader: Holds the configuration in force.
        directory: Tenants and connections made over the API.
        subscribers: Who is told of events.
        vault: What is sealed.
        waiters: Requests that wait for a result.
    """

    journal: Journal
    registry: Registry
    delivery: Delivery
    hooks: Hooks
    access: Access
    live: Live
    reloader: Reloader
    directory: LiveDirectory
    subscribers: Subscribers
    vault: Vault
    waiters: Waiters


class Assembly:
    """Builds one daemon.

    Args:
        ground: What is there before.
        snapshot: The configuration to begin with.
    """

    def __init__(self, ground: Ground, snapshot: Snapshot) -> None:
        self._ground = ground
        self._snapshot = snapshot
        self._settings = snapshot.settings
        self._trial = Trial(ground.clock)
        self._reloader: Reloader | None = None
        self._log = structlog.get_logger("integrationd")

    async def connect(self) -> tuple[Shelf, Registry]:
        """Load the plugins and make the connections; of the stored ones, those that can be made.

        Raises:
            RejectedConfigError: A connection of the file cannot be made.
        """
        ground = self._ground
        # The built-in plugins come with the program, so nothing is to be found out about them.
        shelf = await Shelf().read(
            self._snapshot.plugin_files(), ground.clock, self._trial.sparing(builtin_plugins())
        )
        registry = Registry(shelf.collated({}), ground.tokens)
        ground.tokens.look_after(registry.connections)
        for fault in registry.faults:
            self._log.error("plugin_rejected", fault=str(fault))
        plugins = LoadedPlugins(versions=registry.versions, faults=registry.faults)
        spared = self._snapshot.stored.made.connections.keys()
        plan, left_out = await plan_sparing(registry, plugins, self._snapshot.specs(), spared)
        registry.commit(plan)
        self._learn_typed(registry)
        self._snapshot = self._snapshot.without(left_out)
        for problem in self._snapshot.warnings:
            self._log.warning("left_out", where=problem.where, why=problem.reason)
        return shelf, registry

    async def build(
        self, journal: Journal, shelf: Shelf, registry: Registry, key: bytes, bootstrap: str
    ) -> tuple[Works, Api]:
        """Build everything around a journal, and the API that shows it.

        Args:
            journal: Opened, as far as its disk allows.
            shelf: The plugin files as :meth:`connect` has read them.
            registry: The connections that it made.
            key: The instance key.
            bootstrap: The API key of the key file.
        """
        ground = self._ground
        addresses = Addresses(key)
        retention = Retention(journal, ground.clock, kept_by(self._settings), key)
        delivery = self._delivery(journal, retention, registry, addresses)
        ground.tokens.hold_while(delivery.waits_for_the_link)
        hooks = self._hooks(journal, registry, delivery, addresses)
        access = await self._access(journal, bootstrap)
        live = self._live(delivery, retention, access, hooks)
        vault = self._vault(journal)
        reloader = self._reloader = self._reloading(journal, registry, shelf, live, vault)
        works = Works(
            journal=journal,
            registry=registry,
            delivery=delivery,
            hooks=hooks,
            access=access,
            live=live,
            reloader=reloader,
            directory=LiveDirectory(
                journal, reloader, registry, vault, delivery.routing, ground.clock
            ),
            subscribers=subscribers_of(
                journal, vault, reloader, delivery.feeds, ground.bus, ground.clock
            ),
            vault=vault,
            waiters=Waiters(ground.bus, ground.clock),
        )
        return works, self._api(works, self._consents(key, works))

    def _api(self, works: Works, consents: Authorisations) -> Api:
        ground, journal, place = self._ground, works.journal, Place(works.delivery)
        acceptor = Acceptor(journal, place, ground.tenants, ground.clock)
        parts = Parts(
            journal=journal,
            registry=works.registry,
            placement=place,
            lines=place,
            configuration=works.reloader,
            hooks=works.hooks,
            vault=LiveVault(works.vault, works.reloader),
            authorisations=consents,
            directory=works.directory,
            submitter=Submitter(acceptor, journal, works.waiters),
            subscriptions=works.subscribers,
            streams=EventStreams(journal.events, ground.bus, ground.clock, ground.personal),
            tenants=ground.tenants,
            held_keys=works.access.held_keys,
            masker=ground.masker,
            metrics=ground.metrics,
            clock=ground.clock,
            started_at_ms=ground.clock.now_ms(),
        )
        return Api(parts, works.access, BODY_LIMIT_BYTES)

    def _live(self, delivery: Delivery, retention: Retention, access: Access, hooks: Hooks) -> Live:
        ground = self._ground
        return Live(
            delivery, retention, access, ground.masker, ground.output, hooks, ground.tenants
        )

    def _learn_typed(self, registry: Registry) -> None:
        """Mask what configs type as a secret, also where it stands there itself."""
        connections = registry.connections()
        self._ground.masker.learn(itertools.chain.from_iterable(one.secrets for one in connections))

    async def _access(self, journal: Journal, bootstrap: str) -> Access:
        ground = self._ground
        held_keys = HeldKeys(bootstrap, journal.api_keys, ground.bus, ground.clock)
        # With a full or failing disk they are read when the journal comes back.
        with contextlib.suppress(JournalError):
            await held_keys.load()
        key_file = str(self._settings.api_key_file)
        return Access(held_keys, roles_by(self._settings), key_file, ground.clock)

    def _delivery(
        self, journal: Journal, retention: Retention, registry: Registry, addresses: Addresses
    ) -> Delivery:
        def callback_base(call_id: str) -> str:
            webhooks = self._in_force.webhooks
            if webhooks.public_url is None:
                return ""
            return f"{webhooks.public_url}/hooks/{addresses.of_call(call_id)}"

        return Delivery(
            Surroundings(
                journal=journal,
                retention=retention,
                registry=registry,
                settings=self._settings,
                bus=self._ground.bus,
                clock=self._ground.clock,
                maskers=self._snapshot.maskers(),
                jitter=secrets.SystemRandom(),
                renew=self._renewed,
                callback_base=callback_base,
                defaults_of=self._ground.tenants.defaults,
                by_hand=self._snapshot.by_hand,
                personal=self._ground.personal,
                sight=Outside(registry, lambda: self._in_force.link.probe, self._ground.clock),
            )
        )

    def _hooks(
        self, journal: Journal, registry: Registry, delivery: Delivery, addresses: Addresses
    ) -> Hooks:
        parts = HookParts(
            addresses=addresses,
            journal=journal,
            registry=registry,
            policy_of=delivery.policy_of,
            masker=self._ground.masker,
            bus=self._ground.bus,
            clock=self._ground.clock,
        )
        return Hooks(self._settings, parts)

    @property
    def _in_force(self) -> Settings:
        return self._reloader.settings if self._reloader is not None else self._settings

    async def _renewed(self, connection: Connection) -> bool:
        return self._reloader is not None and await self._reloader.renewed(connection)

    def _vault(self, journal: Journal) -> Vault:
        return Vault(
            journal.secrets,
            master_source(self._settings, self._ground.source.environ),
            self._ground.masker.learn,
            lambda notice: self._log.warning("master_key_made", notice=notice),
        )

    def _reloading(
        self, journal: Journal, registry: Registry, shelf: Shelf, live: Live, vault: Vault
    ) -> Reloader:
        def take_over(snapshot: Snapshot) -> None:
            self._learn_typed(registry)
            self._ground.personal.is_masked = snapshot.settings.privacy.mask_personal
            live.use(snapshot)

        around = Around(
            source=self._ground.source,
            registry=registry,
            clock=self._ground.clock,
            bus=self._ground.bus,
            examine=self._trial.examine,
            take_over=take_over,
            waiting=journal.ledger.open_calls,
            vault=vault.reader,
            stored=functools.partial(read_stored, journal.directory),
        )
        return Reloader(around, self._snapshot, shelf)

    def _consents(self, key: bytes, works: Works) -> Authorisations:
        """Keep tokens in the journal, and take people back who have authorised a connection."""
        ground, delivery, place = self._ground, works.delivery, Place(works.delivery)

        async def on_authorised(connection: str, by: str) -> None:
            # What it was open for is over.
            if place.line_status(connection).breaker != "closed":
                await delivery.reset_breaker(connection, by)

        keep = Keeping(works.journal, works.vault, works.registry, ground.clock)
        consents = Authorisations(ground.tokens, keep, key, ground.masker, on_authorised)
        consents.settings = lambda: self._in_force
        works.hooks.take_back(consents.finish)
        works.directory.give_up_tokens(consents.giving_up)
        return consents
