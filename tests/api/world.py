"""The API in one process: the real ASGI app, a real journal, real delivery, a scripted plugin."""

import contextlib
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
from tests.api.directory_at_hand import AtHand, live_directory

from integrationd.api.accept import Acceptor
from integrationd.api.app import Api
from integrationd.api.auth import Access
from integrationd.api.event_streams import EventStreams
from integrationd.api.held_keys import HeldKeys
from integrationd.api.parts import Parts
from integrationd.api.ports import ConfigStatus, ReloadReport, SecretChange
from integrationd.api.submit import Submitter
from integrationd.api.waiting import Waiters
from integrationd.clock import Clock, SystemClock
from integrationd.delivery.service import Delivery, Surroundings
from integrationd.events import Bus
from integrationd.journal import Journal, Kept, Retention, StoredWebhook, Watermarks
from integrationd.masking import Masker
from integrationd.registry import (
    ConnectionSpec,
    LoadedPlugins,
    Registry,
    Tenants,
    builtin_plugins,
    load_plugins,
)
from integrationd.registry import plugin_files as files_in
from integrationd.registry.tokens import Tokens
from integrationd.settings import Settings
from integrationd.supervisor.authorisations import Authorisations, Keeping
from integrationd.supervisor.live_vault import LiveVault
from integrationd.supervisor.place import Place
from integrationd.supervisor.secrets import Vault
from integrationd.supervisor.snapshot import Snapshot
from integrationd.supervisor.subscribers import subscribers_of
from integrationd.telemetry import Metrics
from integrationd.vault import MasterSource

REHEARSAL = Path(__file__).parent.parent / "plugin_files" / "rehearsal.py"
KEY = "idk_the-key-of-the-tests"
SECRET = "s3cret-of-the-shop"
INSTANCE_KEY = b"k" * 32
MAX_BODY = 1024 * 1024
DAY_MS = 86_400_000
FINAL = {"completed", "failed", "expired", "cancelled"}

SETTINGS: Mapping[str, Any] = {
    "delivery": {"backoff_first": "10ms", "backoff_cap": "20ms"},
    "connections": {
        "stage": {"provider": "rehearsal"},
        "console": {"provider": "console"},
        "off": {"provider": "rehearsal", "enabled": False},
        "shop": {
            "provider": "http",
            "config": {
                "base_url": "http://127.0.0.1:9/api",
                "allow_private": True,
                "allowed_methods": ["POST"],
                "auth": {"kind": "bearer", "token": SECRET},
            },
        },
    },
}


@functools.cache
def _builtin() -> LoadedPlugins:
    """Load the built-in plugins, which no world changes, once for all of them."""
    return load_plugins(files_in([builtin_plugins()]), SystemClock())


class Unchanging:
    """A configuration that nobody edits."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def status(self) -> ConfigStatus:
        return ConfigStatus(file="integrationd.toml", state="applied", applied_at_ms=0)

    async def reload(
        self, cause: str, *, again: bool = True, by: str | None = None
    ) -> ReloadReport:
        return ReloadReport(outcome="unchanged")

    async def reload_after(
        self, work: Callable[[], Awaitable[SecretChange]], cause: str
    ) -> tuple[SecretChange, ReloadReport]:
        return await work(), await self.reload(cause)

    async def preview(self) -> ReloadReport:
        return ReloadReport(outcome="unchanged")


class Unhooked:
    """No webhooks come in; replays are remembered."""

    def __init__(self) -> None:
        self.replayed: list[StoredWebhook] = []

    def replay(self, webhook: StoredWebhook) -> None:
        self.replayed.append(webhook)

    def address(self, connection: str) -> str | None:
        return f"https://hooks.x.test/hooks/{connection.encode().hex()}"


def marks_of(settings: Settings) -> Watermarks:
    """Return the marks of the journal's disk; off unless chosen, whatever disk this runs on."""
    return Watermarks(settings.journal.high_water or 0, settings.journal.critical or 0)


class ApiWorld:
    """A daemon without listeners; ``client`` speaks to its API as the holder of the key.

    Args:
        directory: Where the journal is.
        clock: The time source.
        settings: Tables of the configuration.

    Attributes:
        access: Who may call.
        authorisations: What people consent to.
        authorised: The connections that somebody has authorised.
        app: The ASGI app.
        client: A client of it.
        held_keys: The API keys in force.
        tenants: Those in force.
        tokens: The access tokens of connections.
        delivery: What sends; :meth:`running` runs it.
        directory: Tenants and connections, and what is done to them.
        journal: Where calls are.
        plugin: The rehearsal provider class, with its counters.
        streams: Streams of the event log.
        subscribers: Who is told of which events.
        waiters: Wakes requests that wait.
    """

    def __init__(
        self, directory: Path, clock: Clock, settings: Mapping[str, Any] = SETTINGS
    ) -> None:
        bus, masker = Bus(), Masker({SECRET})
        self.settings = Settings.model_validate(settings)
        self.metrics, marks = Metrics(bus), marks_of(self.settings)
        self.journal = Journal(directory / "journal.db", INSTANCE_KEY, bus, clock, marks)
        rehearsal = load_plugins([REHEARSAL], clock)
        loaded = LoadedPlugins(
            versions={**_builtin().versions, **rehearsal.versions},
            faults=(*_builtin().faults, *rehearsal.faults),
        )
        assert not loaded.faults, loaded.faults
        self.plugin: Any = loaded.versions["rehearsal"].provider
        self.tokens = Tokens(clock, random.Random(7), masker.exchange)
        self.registry = Registry(loaded, self.tokens)
        self.tokens.look_after(self.registry.connections)
        self.authorised: list[str] = []
        kept = Kept(calls_ms=30 * DAY_MS, attempts_ms=30 * DAY_MS, events_ms=30 * DAY_MS)
        self.tenants = Tenants(self.settings.tenants)
        self.delivery = Delivery(
            Surroundings(
                journal=self.journal,
                retention=Retention(self.journal, clock, kept, INSTANCE_KEY),
                registry=self.registry,
                settings=self.settings,
                bus=bus,
                clock=clock,
                maskers=dict.fromkeys(self.settings.connections, masker),
                jitter=random.Random(7),
                defaults_of=self.tenants.defaults,
            )
        )
        self.waiters = Waiters(bus, clock)
        self.streams = EventStreams(self.journal.events, bus, clock)
        place = Place(self.delivery)
        self.held_keys = HeldKeys(KEY, self.journal.api_keys, bus, clock)
        self.access = Access(self.held_keys, {}, "api.key", clock)
        configuration = Unchanging(self.settings)
        source = MasterSource(f"file:{directory / 'master.key'}", None, {})
        vault = Vault(self.journal.secrets, source, masker.learn, lambda _notice: None)
        self.authorisations = Authorisations(
            self.tokens,
            Keeping(self.journal, vault, self.registry, clock),
            INSTANCE_KEY,
            masker,
            self._on_authorised,
        )
        self.authorisations.settings = lambda: self.settings
        self.directory, reloader = live_directory(
            AtHand(
                place=directory,
                settings=self.settings,
                plugins=loaded,
                registry=self.registry,
                journal=self.journal,
                vault=vault,
                routing=self.delivery.routing,
                bus=bus,
                clock=clock,
            ),
            self._take_over,
        )
        self.subscribers = subscribers_of(
            self.journal, vault, reloader, self.delivery.feeds, bus, clock
        )
        parts = Parts(
            journal=self.journal,
            registry=self.registry,
            placement=place,
            lines=place,
            configuration=configuration,
            hooks=Unhooked(),
            vault=LiveVault(vault, configuration),
            directory=self.directory,
            authorisations=self.authorisations,
            submitter=Submitter(
                Acceptor(self.journal, place, self.tenants, clock), self.journal, self.waiters
            ),
            subscriptions=self.subscribers,
            streams=self.streams,
            tenants=self.tenants,
            held_keys=self.held_keys,
            masker=masker,
            metrics=self.metrics,
            clock=clock,
            started_at_ms=clock.now_ms(),
        )
        self.app = Api(parts, self.access, MAX_BODY)
        self.client = self.new_client({"Authorization": f"Bearer {KEY}"})

    def new_client(self, headers: Mapping[str, str] | None = None) -> httpx2.AsyncClient:
        """Return another client of the app."""
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app), base_url="http://daemon", headers=headers
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the journal and make the connections; nothing is delivered."""
        await self.registry.replace(self._specs())
        await self.journal.open()
        await self.held_keys.load()
        try:
            async with self.client:
                yield
        finally:
            await self.registry.aclose()
            await self.journal.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything and deliver; drain at the end."""
        async with self.opened(), anyio.create_task_group() as beside:
            beside.start_soon(self.held_keys.run)
            async with anyio.create_task_group() as group:
                group.start_soon(self.delivery.run)
                yield
                self.waiters.close()
                self.app.end_streams()
                self.delivery.drain()
            beside.cancel_scope.cancel()

    def _take_over(self, snapshot: Snapshot) -> None:
        self.tenants.use(snapshot.settings.tenants)
        self.delivery.use(snapshot.delivered, snapshot.maskers(), snapshot.by_hand)

    async def _on_authorised(self, connection: str, _by: str) -> None:
        self.authorised.append(connection)

    def _specs(self) -> list[ConnectionSpec]:
        return [
            ConnectionSpec(
                name=name,
                provider=one.provider,
                environment=one.environment,
                config=one.config,
                timeout_s=one.limits(self.settings.delivery).timeout_s,
                enabled=one.enabled,
                tenant=one.tenant,
            )
            for name, one in self.settings.connections.items()
        ]

    async def play(
        self, verb: str, payload: Mapping[str, Any] | None = None, wait_s: int = 5, **options: Any
    ) -> dict[str, Any]:
        """Submit a call of the rehearsal, wait until it is settled, and look at it."""
        body = {"operation": f"rehearsal.{verb}", "payload": payload or {}, **options}
        answer = await self.client.post(
            "/v1/calls", json=body, headers={"Prefer": f"wait={wait_s}"}
        )
        assert answer.status_code in (200, 202), answer.text
        return await self.look(answer.json()["id"])

    async def look(self, call_id: str) -> dict[str, Any]:
        """Return a call as the API shows it."""
        answer = await self.client.get(f"/v1/calls/{call_id}")
        assert answer.status_code == 200, answer.text
        call: dict[str, Any] = answer.json()
        return call


def code_of(answer: httpx2.Response, status: int | None = None) -> str:
    """Return the machine word of a problem, whose shape is checked on the way."""
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert told.keys() >= {"type", "title", "status", "code", "detail"}
    assert (told["type"], told["status"]) == ("about:blank", answer.status_code)
    assert told["detail"]
    if status is not None:
        assert answer.status_code == status, answer.text
    code: str = told["code"]
    return code


def pointer_of(answer: httpx2.Response) -> str:
    """Return the JSON pointer of a problem, empty if it has none."""
    pointer: str = answer.json().get("pointer", "")
    return pointer
