"""The composition root: builds the parts, starts them in order, drains them in reverse."""

import contextlib
import gc
import io
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import structlog
import uvloop

from integrationd import __version__
from integrationd.api.accept import Acceptor
from integrationd.api.admission import Limits
from integrationd.api.app import Api
from integrationd.api.auth import Access
from integrationd.api.listeners import bind_tcp, bind_unix
from integrationd.api.parts import Parts
from integrationd.api.ports import LineStatus
from integrationd.api.server import ApiServer
from integrationd.api.submit import Submitter
from integrationd.api.waiting import Waiters
from integrationd.call import Call
from integrationd.clock import Clock, SystemClock
from integrationd.delivery.service import Delivery, Surroundings
from integrationd.events import Bus, JournalMoved
from integrationd.journal import (
    Condition,
    Journal,
    Kept,
    Retention,
    load_or_make_key,
    read_secret,
    write_secret,
)
from integrationd.masking import Masker
from integrationd.registry import (
    Connection,
    ConnectionSpec,
    Registry,
    builtin_plugins,
    load_plugins,
    plugin_files,
)
from integrationd.settings import ResolvedConfig, Settings, load, resolve_all
from integrationd.telemetry import Metrics, configure_logging, log_facts

EXIT_OK = 0
REQUEST_GRACE_S = 5.0
SWITCH_INTERVAL_S = 0.0005


def run(config: Path, environ: Mapping[str, str]) -> int:
    """Run the daemon in the foreground until it is told to stop; return the exit code.

    Raises:
        IntegrationdError: It cannot start; the message says why and what to do.
        OSError: Its files or addresses cannot be used.
    """
    _open_standard_streams()
    settings = load(config, environ)
    resolved = resolve_all(settings, config, environ)
    # The commit thread must get its turn soon after the disk has answered.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Long-lived objects are kept out of the collector's way: its pauses are the latency's tail.
    gc.set_threshold(50_000, 20, 100)
    with (
        contextlib.redirect_stdout(_Unfailing(1)),
        contextlib.redirect_stderr(_Unfailing(2)),
    ):
        return uvloop.run(_main(settings, resolved))


class _Unfailing(io.TextIOBase):
    """A standard stream whose disk may be full, and whose reader may leave, without harm."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def _open_standard_streams() -> None:
    """Let no file of ours take the place of a standard stream that was closed for us."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)


async def _main(settings: Settings, resolved: Mapping[str, ResolvedConfig]) -> int:
    daemon = Daemon(settings, resolved, SystemClock())
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:

            async def stop_on_signal() -> None:
                async for _signal in signals:
                    daemon.stop()

            group.start_soon(stop_on_signal, name="signals")
            await daemon.run()
            group.cancel_scope.cancel()
    return EXIT_OK


class Daemon:
    """One running daemon.

    Args:
        settings: The configuration.
        resolved: Each connection's config with its references resolved.
        clock: The time source.
    """

    def __init__(
        self, settings: Settings, resolved: Mapping[str, ResolvedConfig], clock: Clock
    ) -> None:
        self._settings = settings
        self._resolved = resolved
        self._clock = clock
        self._bus = Bus()
        self._stopping = anyio.Event()
        self._ready = anyio.Event()
        secret_values = {value for one in resolved.values() for value in one.secrets}
        self._masker = Masker(secret_values)
        configure_logging(settings.log.format, settings.log.level, self._masker)
        self._log = structlog.get_logger("integrationd")
        log_facts(self._bus)
        # Before the journal is opened, so that it hears of that.
        self._metrics = Metrics(self._bus)
        self._bus.subscribe(JournalMoved, self._on_journal)

    def stop(self) -> None:
        """Begin to stop: accept nothing more, let attempts finish, settle the rest."""
        self._stopping.set()

    def _on_journal(self, event: JournalMoved) -> None:
        if event.condition == Condition.READY:
            self._ready.set()

    async def run(self) -> None:
        """Serve until told to stop."""
        settings = self._settings
        key = load_or_make_key(settings.instance_key_file)
        api_key = _load_or_make_api_key(settings.api_key_file)
        registry = self._load_registry()
        await registry.replace(_specs(settings, self._resolved))
        journal = Journal(settings.journal.path, key, self._bus, self._clock)
        try:
            await journal.open()
            await self._serve(journal, registry, key, api_key)
        finally:
            await registry.aclose()
            await journal.close()
            self._log.info("stopped")

    def _load_registry(self) -> Registry:
        places = [builtin_plugins(), *self._settings.plugins.paths]
        plugins = load_plugins(plugin_files(places), self._clock)
        for fault in plugins.faults:
            self._log.error("plugin_rejected", fault=str(fault))
        return Registry(plugins)

    async def _serve(self, journal: Journal, registry: Registry, key: bytes, api_key: str) -> None:
        delivery = Delivery(
            Surroundings(
                journal=journal,
                retention=self._retention(journal, key),
                registry=registry,
                settings=self._settings,
                bus=self._bus,
                clock=self._clock,
                maskers={name: Masker(one.secrets) for name, one in self._resolved.items()},
                jitter=secrets.SystemRandom(),
            )
        )
        waiters = Waiters(self._bus, self._clock)
        api = self._api(journal, registry, delivery, waiters, api_key)
        async with anyio.create_task_group() as group:
            listeners = self._listeners()
            server = ApiServer(api, listeners, self._limits())
            group.start_soon(journal.run, name="journal keeper")
            group.start_soon(server.serve, name="api")
            await server.started()
            self._announce()
            # What is there now stays for the daemon's life.
            gc.collect()
            gc.freeze()
            delivered = anyio.Event()
            group.start_soon(self._deliver, delivery, delivered, name="delivery")
            await self._stopping.wait()
            self._log.info("stopping", grace_s=delivery.grace_s)
            server.stop_accepting()
            waiters.close()
            delivery.drain()
            self._ready.set()
            await delivered.wait()
            await server.close(REQUEST_GRACE_S)
            group.cancel_scope.cancel()

    def _retention(self, journal: Journal, key: bytes) -> Retention:
        kept = self._settings.retention
        milliseconds = Kept(
            calls_ms=round(kept.calls * 1000),
            attempts_ms=round(kept.attempts * 1000),
            events_ms=round(kept.events * 1000),
        )
        return Retention(journal, self._clock, milliseconds, key)

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
        api_key: str,
    ) -> Api:
        place = _Place(delivery)
        settings = self._settings.api
        parts = Parts(
            journal=journal,
            registry=registry,
            placement=place,
            lines=place,
            submitter=Submitter(Acceptor(journal, place, self._clock), journal, waiters),
            masker=self._masker,
            metrics=self._metrics,
            clock=self._clock,
            started_at_ms=self._clock.now_ms(),
        )
        key_file = str(self._settings.api_key_file)
        return Api(parts, Access(api_key, settings.allowed_uids, key_file), settings.max_body)

    def _listeners(self) -> list[socket.socket]:
        settings = self._settings.api
        listeners = []
        if settings.address is not None:
            listeners.append(bind_tcp(settings.listen))
        if settings.socket is not None:
            listeners.append(
                bind_unix(settings.socket, settings.socket_permissions, settings.socket_group)
            )
        return listeners

    def _limits(self) -> Limits:
        settings = self._settings.api
        return Limits(
            first_byte_s=settings.header_timeout,
            header_s=settings.header_timeout,
            body_s=settings.body_timeout,
            max_connections=settings.max_connections,
            max_body_bytes=settings.max_body,
        )

    def _announce(self) -> None:
        """Say where the daemon listens, with a line to try."""
        settings = self._settings.api
        self._log.info("started", version=__version__, journal=str(self._settings.journal.path))
        told = [f"integrationd {__version__}"]
        if settings.socket is not None:
            told.append(f"listening on the Unix socket {settings.socket}")
        if settings.address is not None:
            key_file = self._settings.api_key_file
            told.append(f"listening on http://{settings.listen} (key in {key_file})")
        told += ["try:", f"  {self._curl_line()}"]
        sys.stdout.write("\n".join(told) + "\n")

    def _curl_line(self) -> str:
        settings = self._settings.api
        if settings.socket is not None:
            target = f"--unix-socket {settings.socket} http://localhost/v1/sms/send"
        else:
            header = f'"Authorization: Bearer $(cat {self._settings.api_key_file})"'
            target = f"-H {header} http://{settings.listen}/v1/sms/send"
        payload = '{"to": "+254711000111", "message": "Hello from integrationd"}'
        return f"curl -s {target} -d '{payload}'"


class _Place:
    """Delivery as the API sees it."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def for_new_call(self, operation: str, requested: str | None) -> Connection | None:
        return self._delivery.routing.for_new_call(operation, requested)

    def of_lane(self, lane: str) -> Connection | None:
        return self._delivery.routing.of_lane(lane)

    def why_none(self, call: Call) -> str | None:
        return self._delivery.routing.why_none(call)

    def give_up_after_s(self, connection: Connection | None) -> float:
        return self._delivery.give_up_after_s(connection)

    def line_status(self, connection: str) -> LineStatus:
        gate = self._delivery.gate(connection).status()
        return LineStatus(
            breaker=gate.breaker,
            breaker_until_ms=gate.breaker_until_ms,
            running=gate.running,
            concurrency=gate.concurrency,
            rate_limit=gate.rate_limit,
            next_ms=gate.next_ms,
        )

    async def reset_breaker(self, connection: str, by: str) -> None:
        await self._delivery.reset_breaker(connection, by)


def _specs(settings: Settings, resolved: Mapping[str, ResolvedConfig]) -> Sequence[ConnectionSpec]:
    return [
        ConnectionSpec(
            name=name,
            provider=one.provider,
            environment=one.environment,
            config=resolved[name].values,
            timeout_s=one.limits(settings.delivery).timeout_s,
            enabled=one.enabled,
        )
        for name, one in settings.connections.items()
    ]


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
