"""One daemon from start to end: what was assembled is started in order and drained in reverse."""

import gc
import secrets
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from integrationd import __version__
from integrationd.api.app import Api
from integrationd.api.server import ApiServer
from integrationd.clock import Clock
from integrationd.events import Bus, JournalMoved
from integrationd.journal import (
    Condition,
    Journal,
    Watermarks,
    load_or_make_key,
    read_secret,
    write_secret,
)
from integrationd.masking import Masker
from integrationd.personal import PersonalData
from integrationd.registry import Tenants
from integrationd.registry.tokens import Tokens
from integrationd.supervisor.assembly import Assembly, Ground, Works
from integrationd.supervisor.chronicle import Chronicle
from integrationd.supervisor.greeting import greet
from integrationd.supervisor.heartbeat import Heartbeat
from integrationd.supervisor.leaving import Leaving
from integrationd.supervisor.listeners import bind
from integrationd.supervisor.live import limits_by
from integrationd.supervisor.report import Matters, Report
from integrationd.supervisor.snapshot import Snapshot, Source
from integrationd.supervisor.systemd import Notifier, Start
from integrationd.supervisor.watch import Watcher
from integrationd.telemetry import LogOutput, Metrics, log_facts

REQUEST_GRACE_S = 5.0
# What stopping takes besides the grace: requests, closing plugins and the journal.
STOP_MARGIN_S = 30.0


class Daemon:
    """One running daemon.

    Args:
        source: Where the configuration is read.
        snapshot: The configuration to begin with.
        clock: The time source.
        start: How systemd has started the process.
    """

    def __init__(self, source: Source, snapshot: Snapshot, clock: Clock, start: Start) -> None:
        self._start = start
        self._notifier = Notifier(start.address)
        self._snapshot = snapshot
        self._settings = snapshot.settings
        self._clock = clock
        self._stopping = anyio.Event()
        self._ready = anyio.Event()
        self._bus = Bus()
        masker, log = Masker(snapshot.secrets()), self._settings.log
        personal = PersonalData(self._settings.privacy.mask_personal)
        output = LogOutput(log.format, log.level, masker, personal)
        self._log = structlog.get_logger("integrationd")
        log_facts(self._bus)
        self._ground = Ground(
            source=source,
            clock=clock,
            bus=self._bus,
            masker=masker,
            personal=personal,
            output=output,
            # Before the journal is opened, so that it hears of that.
            metrics=Metrics(self._bus),
            tenants=Tenants(self._settings.tenants),
            tokens=Tokens(clock, secrets.SystemRandom(), masker.exchange),
        )
        self._bus.subscribe(JournalMoved, self._on_journal)
        self._works: Works | None = None

    @property
    def masker(self) -> Masker:
        """What masks all that is written."""
        return self._ground.masker

    def stop(self) -> None:
        """Begin to stop: accept nothing more, let attempts finish, settle the rest."""
        self._stopping.set()

    async def reload(self, cause: str) -> None:
        """Take over what has changed; while the daemon is only starting there is nothing to do."""
        if self._works is None:
            return
        self._notifier.reloading(self._clock.monotonic())
        await self._works.reloader.reload(cause)
        self._notifier.reloaded()

    def _on_journal(self, event: JournalMoved) -> None:
        if event.condition == Condition.READY:
            self._ready.set()

    async def run(self) -> None:
        """Serve until told to stop."""
        key = load_or_make_key(self._settings.instance_key_file)
        api_key = _load_or_make_api_key(self._settings.api_key_file)
        assembly = Assembly(self._ground, self._snapshot)
        shelf, registry = await assembly.connect()
        kept = self._settings.journal
        marks = Watermarks(kept.high_water, kept.critical)
        journal = Journal(kept.path, key, self._bus, self._clock, marks)
        try:
            await journal.open()
            works, api = await assembly.build(journal, shelf, registry, key, api_key)
            self._works = works
            await self._serve(works, api)
        finally:
            await registry.aclose()
            await journal.close()
            self._log.info("stopped")

    async def _serve(self, works: Works, api: Api) -> None:
        delivery, hooks = works.delivery, works.hooks
        async with anyio.create_task_group() as group:
            listeners = bind(self._settings.api, self._start.passed)
            server = ApiServer(api, listeners, limits_by(self._settings))
            works.live.server = server
            group.start_soon(works.journal.run, name="journal keeper")
            group.start_soon(server.serve, name="api")
            await server.started()
            await hooks.start(group)
            self._log.info("started", version=__version__, journal=str(self._settings.journal.path))
            greet(self._settings)
            # What is there now stays for the daemon's life.
            gc.collect()
            gc.freeze()
            self._begin_keeping_up(group, works)
            self._notifier.ready()
            delivered = anyio.Event()
            group.start_soon(self._deliver, works, delivered, name="delivery")
            await self._stopping.wait()
            self._log.info("stopping", grace_s=delivery.grace_s)
            self._notifier.stopping(delivery.grace_s + STOP_MARGIN_S)
            server.stop_accepting()
            hooks.stop_accepting()
            works.waiters.close()
            api.end_streams()
            delivery.drain()
            self._ready.set()
            await delivered.wait()
            await server.close(REQUEST_GRACE_S)
            await hooks.close(REQUEST_GRACE_S)
            group.cancel_scope.cancel()

    def _begin_keeping_up(self, group: TaskGroup, works: Works) -> None:
        """Start what keeps the daemon up to date with its files, and an eye on itself."""
        reloader, journal = works.reloader, works.journal
        watcher = Watcher(
            self._clock,
            reloader.watched_files,
            reloader.watched_trees,
            lambda: reloader.reload("a file has changed", again=False),
        )
        leaving = Leaving(works.directory, reloader, self._bus, self._clock)
        matters = Matters(
            journal.ledger.lines,
            journal.status,
            reloader.status,
            lambda: works.delivery.link.is_up,
        )
        report = Report(self._notifier, matters, self._clock, self._start.watchdog_s)
        heartbeat = Heartbeat(works.registry, self._clock, self._bus)
        group.start_soon(reloader.run, name="reloader")
        group.start_soon(watcher.run, name="watcher")
        group.start_soon(works.subscribers.run, name="subscribers")
        group.start_soon(leaving.run, name="leaving connections")
        group.start_soon(Chronicle(journal, self._bus, self._clock).run, name="chronicle")
        group.start_soon(works.access.held_keys.run, name="API keys")
        group.start_soon(self._ground.tokens.run, name="access tokens")
        group.start_soon(report.run, name="report")
        group.start_soon(heartbeat.run, name="heartbeat")
        group.start_soon(works.vault.learn_kept, name="secrets of the vault")

    async def _deliver(self, works: Works, delivered: anyio.Event) -> None:
        """Deliver once the journal is ready; with a full disk that may be long after the start."""
        try:
            await self._ready.wait()
            if not self._stopping.is_set():
                # First, so that it is known how to go on with their deliveries.
                await works.subscribers.begin()
                await works.delivery.run()
        finally:
            delivered.set()


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
