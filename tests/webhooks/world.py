"""A daemon that takes webhooks in: a real journal, real delivery, a real listener, the till."""

import contextlib
import hashlib
import hmac
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
from tests.faults.daemon import free_port

from integrationd.api.accept import Acceptor
from integrationd.api.roles import Caller, Role
from integrationd.api.schemas import CallRequest
from integrationd.call import Call, CallState
from integrationd.clock import Clock, SystemClock
from integrationd.delivery.service import Delivery, Surroundings
from integrationd.events import Bus, Committed, WebhookRefused
from integrationd.journal import CallDetail, InboxFilter, Journal, Kept, Retention, StoredWebhook
from integrationd.masking import Masker
from integrationd.registry import ConnectionSpec, Registry, Tenants, load_plugins
from integrationd.settings import Settings
from integrationd.supervisor.hooks import HookParts, Hooks
from integrationd.supervisor.place import Place
from integrationd.webhooks.addresses import Addresses

TILL = Path(__file__).with_name("till.py")
KEY = b"k" * 32
SECRET = "secret-of-the-till"
OTHER_SECRET = "secret-of-the-other-till"
PUBLIC_URL = "https://hooks.school.example"
PATH = "/webhooks/till/till"
DAY_MS = 86_400_000
CALLER = Caller("uid:0", Role.ADMIN)
WITHIN_S = 10.0

CONNECTIONS: Mapping[str, Any] = {
    "till": {"provider": "till", "config": {"secret": SECRET}},
    "booth": {"provider": "till", "config": {"scheme": "address"}},
}


class HookWorld:
    """One daemon without its API.

    Args:
        directory: Where the journal is.
        connections: ``[connections]``.
        webhooks: More of ``[webhooks]``.
        clock: Where time is read.
        plugin_file: The till.

    Attributes:
        addresses: Makes the addresses that are handed out.
        bus: Where facts are told.
        client: Speaks to the listener.
        hooks: What is tested.
        journal: A real one.
        refused: What was refused, in order.
        tenants: Whose calls are taken.
        till: The provider class, with its books.
    """

    def __init__(
        self,
        directory: Path,
        connections: Mapping[str, Any] = CONNECTIONS,
        *,
        webhooks: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        plugin_file: Path = TILL,
    ) -> None:
        self.clock = clock or SystemClock()
        self.bus = Bus()
        self.refused: list[WebhookRefused] = []
        self.bus.subscribe(WebhookRefused, self.refused.append)
        self._committed = anyio.Event()
        self.bus.subscribe(Committed, self._on_committed)
        self.journal = Journal(directory / "journal.db", KEY, self.bus, self.clock)
        loaded = load_plugins([plugin_file], self.clock)
        assert not loaded.faults, loaded.faults
        (version,) = loaded.versions.values()
        self.till: Any = version.provider
        self.registry = Registry(loaded)
        port = free_port()
        where = {"listen": f"127.0.0.1:{port}", "public_url": PUBLIC_URL}
        self.settings = Settings.model_validate(
            {
                "connections": connections,
                "webhooks": {**where, **(webhooks or {})},
            }
        )
        self.addresses = Addresses(KEY)
        self.delivery = self._delivery()
        self.hooks = Hooks(self.settings, self._parts())
        self.client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S)
        self.tenants = Tenants()
        self._acceptor = Acceptor(self.journal, Place(self.delivery), self.tenants, self.clock)

    def _delivery(self) -> Delivery:
        kept = Kept(calls_ms=30 * DAY_MS, attempts_ms=30 * DAY_MS, events_ms=30 * DAY_MS)
        return Delivery(
            Surroundings(
                journal=self.journal,
                retention=Retention(self.journal, self.clock, kept, KEY),
                registry=self.registry,
                settings=self.settings,
                bus=self.bus,
                clock=self.clock,
                maskers={},
                jitter=random.Random(7),
            )
        )

    def _parts(self) -> HookParts:
        return HookParts(
            addresses=self.addresses,
            journal=self.journal,
            registry=self.registry,
            policy_of=self.delivery.policy_of,
            masker=Masker({SECRET}),
            bus=self.bus,
            clock=self.clock,
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the journal and make the connections; nothing runs."""
        specs = [
            ConnectionSpec(
                name=name,
                provider=one.provider,
                environment=one.environment,
                config=one.config,
                timeout_s=one.limits(self.settings.delivery).timeout_s,
                enabled=one.enabled,
            )
            for name, one in self.settings.connections.items()
        ]
        await self.registry.replace(specs)
        await self.journal.open()
        try:
            async with self.client:
                yield
        finally:
            await self.registry.aclose()
            await self.journal.close()

    @contextlib.asynccontextmanager
    async def running(self, *, delivers: bool = True) -> AsyncIterator[None]:
        """Open everything, take webhooks in, and deliver."""
        async with self.opened(), anyio.create_task_group() as group:
            if delivers:
                group.start_soon(self.delivery.run)
            await self.hooks.start(group)
            yield
            self.hooks.stop_accepting()
            await self.hooks.close(1.0)
            group.cancel_scope.cancel()

    async def accept(self, amount: str = "100.00", **options: Any) -> Call:
        """Accept a payment through the till; ``script`` says what its send comes to."""
        names = ("script", "theirs")
        metadata = {name: options.pop(name) for name in names if name in options}
        payload = {"amount": amount, "currency": "KES", "metadata": metadata}
        if "own" in options:
            payload["reference"] = options.pop("own")
        request = CallRequest(
            operation="payment.initiate",
            payload=msgspec.Raw(msgspec.json.encode(payload)),
            **{"connection": "till", **options},
        )
        (receipt,) = await self._acceptor.accept([request], CALLER)
        assert receipt.call is not None
        return receipt.call

    async def waiting(self, **options: Any) -> Call:
        """Accept a payment and let it get as far as ``waiting``."""
        call = await self.accept(**options)
        return (await self.until_call(call, CallState.WAITING)).call

    async def until(self, is_so: Callable[[], Awaitable[Any]]) -> Any:
        """Wait, after each commit, until something is so, and return it."""
        with anyio.fail_after(WITHIN_S):
            while True:
                committed = self._committed
                found = await is_so()
                if found:
                    return found
                await committed.wait()

    def _on_committed(self, _event: Committed) -> None:
        self._committed.set()
        self._committed = anyio.Event()

    async def until_call(self, call: Call, *states: CallState) -> CallDetail:
        """Wait until a call stands in one of the states."""

        async def look() -> CallDetail | None:
            detail = await self.journal.calls.detail(call.id)
            return detail if detail.call.state in states else None

        found: CallDetail = await self.until(look)
        return found

    async def until_webhook(self, *states: str) -> StoredWebhook:
        """Wait until the last webhook stands in one of the states."""

        async def look() -> StoredWebhook | None:
            found = await self.inbox()
            return found[0] if found and found[0].state in states else None

        found: StoredWebhook = await self.until(look)
        return found

    async def inbox(self) -> Sequence[StoredWebhook]:
        """Return the inbox, the latest webhook first."""
        return await self.journal.inbox.list(InboxFilter(), before=None, limit=500)

    async def events(self, prefix: str = "") -> list[str]:
        """Return the types of the events, the first one first."""
        return [one.type for one in await self._stored_events() if one.type.startswith(prefix)]

    async def data_of(self, event_type: str) -> list[dict[str, Any]]:
        """Return the data of the events of a type."""
        found = [one for one in await self._stored_events() if one.type == event_type]
        return [msgspec.json.decode(one.data) for one in found]

    async def _stored_events(self) -> list[Any]:
        return list(await self.journal.events.after(0, 10_000))

    async def tell(self, *tells: Mapping[str, Any], **options: Any) -> httpx2.Response:
        """Send a signed webhook that tells something."""
        return await self.send(told(*tells, **options))

    async def send(
        self, body: bytes, path: str = PATH, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send a webhook, signed unless other headers are given."""
        given = {"x-till-signature": sign(body)} if headers is None else headers
        return await self.client.post(path, content=body, headers=given)


def told(*tells: Mapping[str, Any], **options: Any) -> bytes:
    """Return a webhook of the till; its id is ``evt-1`` unless another is given."""
    whole = [{"type": "payment.paid", **tell} for tell in tells]
    return msgspec.json.encode({"id": "evt-1", **options, "tells": whole})


def sign(body: bytes, secret: str = SECRET) -> str:
    """Sign a webhook as the till does."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
