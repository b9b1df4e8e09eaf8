"""The composition root: builds the parts, starts them in order, drains them in reverse."""

import contextlib
import gc
import secrets
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from integrationd import __version__
from integrationd.api.accept import Acceptor
from integrationd.api.app import Api
from integrationd.api.auth import Access
from integrationd.api.held_keys import HeldKeys
from integrationd.api.parts import Parts
from integrationd.api.server import ApiServer
from integrationd.api.submit import Submitter
from integrationd.api.waiting import Waiters
from integrationd.clock import Clock
from integrationd.delivery.service import Delivery, Surroundings
from integrationd.errors import JournalError
from integrationd.events import Bus, JournalMoved
from integrationd.journal import (
    Condition,
    Journal,
    Retention,
    load_or_make_key,
    read_secret,
    write_secret,
)
from integrationd.masking import Masker
from integrationd.registry import Connection, Registry, Shelf, builtin_plugins
from integrationd.registry.trial import Trial
from integrationd.settings import Settings
from integrationd.supervisor.chronicle import Chronicle
from integrationd.supervisor.greeting import greet
from integrationd.supervisor.heartbeat import Heartbeat
from integrationd.supervisor.hooks import HookParts, Hooks
from integrationd.supervisor.listeners import bind
from integrationd.supervisor.live import Live, kept_by, limits_by, roles_by
from integrationd.supervisor.live_vault import LiveVault
from integrationd.supervisor.place import Place
from integrationd.supervisor.reload import Around, Reloader
from integrationd.supervisor.report import Matters, Report
from integrationd.supervisor.secrets import Vault, master_source
from integrationd.supervisor.snapshot import Snapshot, Source
from integrationd.supervisor.systemd import Notifier, Start
from integrationd.supervisor.watch import Watcher
from integrationd.telemetry import LogOutput, Metrics, log_facts
from integrationd.webhooks.addresses import Addresses

REQUEST_GRACE_S = 5.0
# What stopping takes besides the grace: requests, closing plugins and the journal.
STOP_MARGIN_S = 30.0
# No setting allows more; the server keeps to the one that is in force.
BODY_LIMIT_BYTES = 1024 * 1024


class Daemon:
    """One running daemon.

    Args:
        source: Where the configuration is read.
        snapshot: The configuration to begin with.
        clock: The time source.
        start: How systemd has started the process.
    """

    def __init__(self, source: Source, snapshot: Snapshot, clock: Clock, start: Start) -> None:
        self._source = source
        self._start = start
        self._notifier = Notifier(start.address)
        self._snapshot = snapshot
        self._settings = snapshot.settings
        self._clock = clock
        self._bus = Bus()
        self._stopping = anyio.Event()
        self._ready = anyio.Event()
        self._masker = Masker(snapshot.secrets())
        log = self._settings.log
        self._output = LogOutput(log.format, log.level, self._masker)
        self._log = structlog.get_logger("integrationd")
        log_facts(self._bus)
        # Before the journal is opened, so that it hears of that.
        self._metrics = Metrics(self._bus)
        self._bus.subscribe(JournalMoved, self._on_journal)
        self._reloader: Reloader | None = None
        self._vault: LiveVault | None = None

    def stop(self) -> None:
        """Begin to stop: accept nothing more, let attempts finish, settle the rest."""
        self._stopping.set()

    async def reload(self, cause: str) -> None:
        """Take over what has changed; while the daemon is only starting there is nothing to do."""
        if self._reloader is None:
            return
        self._notifier.reloading(self._clock.monotonic())
        await self._reloader.reload(cause)
        self._notifier.reloaded()

    def _on_journal(self, event: JournalMoved) -> None:
        if event.condition == Condition.READY:
            self._ready.set()

    async def run(self) -> None:
        """Serve until told to stop."""
        key = load_or_make_key(self._settings.instance_key_file)
        api_key = _load_or_make_api_key(self._settings.api_key_file)
        trial = Trial(self._clock)
        shelf, registry = await self._load_plugins(trial)
        await registry.replace(self._snapshot.specs())
        journal = Journal(self._settings.journal.path, key, self._bus, self._clock)
        retention = Retention(journal, self._clock, kept_by(self._settings), key)
        try:
            await journal.open()
            addresses = Addresses(key)
            delivery = self._delivery(journal, retention, registry, addresses)
            hooks = self._hooks(journal, registry, delivery, addresses)
            access = await self._access(journal, api_key)
            live = Live(delivery, retention, access, self._masker, self._output, hooks)
            self._reloader = self._reloading(journal, registry, shelf, trial, live)
            await self._serve(journal, registry, delivery, access, live, hooks)
        finally:
            await registry.aclose()
            await journal.close()
            self._log.info("stopped")

    async def _load_plugins(self, trial: Trial) -> tuple[Shelf, Registry]:
        # The built-in plugins come with the program, so nothing is to be found out about them.
        shelf = await Shelf().read(
            self._snapshot.plugin_files(), self._clock, trial.sparing(builtin_plugins())
        )
        registry = Registry(shelf.collated({}))
        for fault in registry.faults:
            self._log.error("plugin_rejected", fault=str(fault))
        return shelf, registry

    async def _access(self, journal: Journal, bootstrap: str) -> Access:
        held_keys = HeldKeys(bootstrap, journal.api_keys, self._bus, self._clock)
        # With a full or failing disk they are read when the journal comes back.
        with contextlib.suppress(JournalError):
            await held_keys.load()
        key_file = str(self._settings.api_key_file)
        return Access(held_keys, roles_by(self._settings), key_file, self._clock)

    def _delivery(
        self,
        journal: Journal,
        retention: Retention,
        registry: Registry,
        addresses: Addresses,
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
                bus=self._bus,
                clock=self._clock,
                maskers=self._snapshot.maskers(),
                jitter=secrets.SystemRandom(),
                renew=self._renewed,
                callback_base=callback_base,
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
            masker=self._masker,
            bus=self._bus,
            clock=self._clock,
        )
        return Hooks(self._settings, parts)

    @property
    def _in_force(self) -> Settings:
        return self._reloader.settings if self._reloader is not None else self._settings

    async def _renewed(self, connection: Connection) -> bool:
        return self._reloader is not None and await self._reloader.renewed(connection)

    def _reloading(
        self, journal: Journal, registry: Registry, shelf: Shelf, trial: Trial, live: Live
    ) -> Reloader:
        async def waiting() -> dict[str, int]:
            return await journal.ledger.open_calls()

        vault = Vault(
            journal.secrets,
            master_source(self._settings, self._source.environ),
            self._masker.learn,
            lambda notice: self._log.warning("master_key_made", notice=notice),
        )
        around = Around(
            source=self._source,
            registry=registry,
            clock=self._clock,
            bus=self._bus,
            examine=trial.examine,
            take_over=live.use,
            waiting=waiting,
            vault=vault.reader,
        )
        reloader = Reloader(around, self._snapshot, shelf)
        self._vault = LiveVault(vault, reloader)
        return reloader

    async def _serve(
        self,
        journal: Journal,
        registry: Registry,
        delivery: Delivery,
        access: Access,
        live: Live,
        hooks: Hooks,
    ) -> None:
        waiters = Waiters(self._bus, self._clock)
        api = self._api(journal, registry, delivery, waiters, access, hooks)
        async with anyio.create_task_group() as group:
            listeners = bind(self._settings.api, self._start.passed)
            server = ApiServer(api, listeners, limits_by(self._settings))
            live.server = server
            group.start_soon(journal.run, name="journal keeper")
            group.start_soon(server.serve, name="api")
            await server.started()
            await hooks.start(group)
            self._log.info("started", version=__version__, journal=str(self._settings.journal.path))
            greet(self._settings)
            # What is there now stays for the daemon's life.
            gc.collect()
            gc.freeze()
            self._begin_keeping_up(group, journal, registry, access)
            self._notifier.ready()
            delivered = anyio.Event()
            group.start_soon(self._deliver, delivery, delivered, name="delivery")
            await self._stopping.wait()
            self._log.info("stopping", grace_s=delivery.grace_s)
            self._notifier.stopping(delivery.grace_s + STOP_MARGIN_S)
            server.stop_accepting()
            hooks.stop_accepting()
            waiters.close()
            delivery.drain()
            self._ready.set()
            await delivered.wait()
            await server.close(REQUEST_GRACE_S)
            await hooks.close(REQUEST_GRACE_S)
            group.cancel_scope.cancel()

    def _begin_keeping_up(
        self, group: TaskGroup, journal: Journal, registry: Registry, access: Access
    ) -> None:
        """Start what keeps the daemon up to date with its files, and an eye on itself."""
        reloader = self._reloader
        if reloader is None:
            return
        watcher = Watcher(
            self._clock,
            reloader.watched_files,
            reloader.watched_trees,
            lambda: reloader.reload("a file has changed", again=False),
        )
        chronicle = Chronicle(journal, self._bus, self._clock)
        matters = Matters(journal.ledger.lines, journal.status, reloader.status)
        report = Report(self._notifier, matters, self._clock, self._start.watchdog_s)
        group.start_soon(reloader.run, name="reloader")
        group.start_soon(watcher.run, name="watcher")
        group.start_soon(chronicle.run, name="chronicle")
        group.start_soon(access.held_keys.run, name="API keys")
        group.start_soon(report.run, name="report")
        group.start_soon(Heartbeat(registry, self._clock, self._bus).run, name="heartbeat")

    async def _deliver(self, delivery: Delivery, delivered: anyio.Event) -> None:
        """Deliver once the journal is ready; with a full disk that may be long after the start."""
        try:
            await self._ready.wait()
            if not self._stopping.is_set():
                await delivery.run()
        finally:
            delivered.set()

    def _api(
        self,
        journal: Journal,
        registry: Registry,
        delivery: Delivery,
        waiters: Waiters,
        access: Access,
        hooks: Hooks,
    ) -> Api:
        place = Place(delivery)
        if self._reloader is None or self._vault is None:
            raise RuntimeError("the API shows the configuration, so that comes first")
        parts = Parts(
            journal=journal,
            registry=registry,
            placement=place,
            lines=place,
            configuration=self._reloader,
            hooks=hooks,
            vault=self._vault,
            submitter=Submitter(Acceptor(journal, place, self._clock), journal, waiters),
            held_keys=access.held_keys,
            masker=self._masker,
            metrics=self._metrics,
            clock=self._clock,
            started_at_ms=self._clock.now_ms(),
        )
        return Api(parts, access, BODY_LIMIT_BYTES)


def _load_or_make_api_key(path: Path) -> str:
    """Return the key that TCP clients show; the first start makes it.

    Raises:
        ConfigError: The file is open to others, or holds no key.
    """
    try:
        return read_secret(path)
    except FileNotFoundError:
        key = f"idk_{secrets.token_urlsafe(32)}"
        write_secret(path, key + "\n")
        return key
