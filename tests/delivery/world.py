"""A small world for delivery: a real journal, the rehearsal plugin, virtual time."""

import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
from tests.virtual_time import VirtualClock, VirtualLoop

from integrationd.api.accept import Acceptor
from integrationd.api.roles import Caller, Role
from integrationd.api.schemas import CallRequest
from integrationd.call import Call, CallState
from integrationd.delivery.link import Blind, Sight
from integrationd.delivery.service import Delivery, Surroundings
from integrationd.events import Bus, CallChanged
from integrationd.journal import CallDetail, Journal, Kept, Retention
from integrationd.registry import ConnectionSpec, Registry, Tenants, load_plugins
from integrationd.settings import Settings

REHEARSAL = Path(__file__).parent.parent / "plugin_files" / "rehearsal.py"
KEY = b"k" * 32
DAY_MS = 86_400_000
CALLER = Caller("uid:0", Role.ADMIN)


class World:
    """One daemon without its HTTP side.

    Attributes:
        bus: Where facts are told.
        clock: Virtual time.
        journal: A real one.
        delivery: What is tested.
        plugin: The rehearsal provider class, with its counters.
        tenants: Whose calls are taken.

    Args:
        directory: Where the journal is.
        loop: What makes time pass.
        beside: Connections of the rehearsal beside ``stage``, with their settings.
        delivery: ``[delivery]``.
        sight: What looks for the world.
        connection: Settings of ``stage``.
    """

    def __init__(
        self,
        directory: Path,
        loop: VirtualLoop,
        *,
        beside: Mapping[str, Any] | None = None,
        delivery: Mapping[str, Any] | None = None,
        sight: Sight | None = None,
        **connection: Any,
    ) -> None:
        self.bus = Bus()
        self._changed = anyio.Event()
        self.bus.subscribe(CallChanged, lambda _event: self._changed.set())
        self.clock = VirtualClock(loop)
        self.journal = Journal(directory / "journal.db", KEY, self.bus, self.clock)
        loop.is_busy = lambda: self.journal.is_busy
        loaded = load_plugins([REHEARSAL], self.clock)
        assert not loaded.faults, loaded.faults
        self.plugin: Any = loaded.versions["rehearsal"].provider
        self.registry = Registry(loaded)
        self.settings = Settings.model_validate(
            {
                "delivery": delivery or {},
                "connections": {
                    name: {"provider": "rehearsal", **settings}
                    for name, settings in {"stage": connection, **(beside or {})}.items()
                },
            }
        )
        kept = Kept(calls_ms=30 * DAY_MS, attempts_ms=30 * DAY_MS, events_ms=30 * DAY_MS)
        self.delivery = Delivery(
            Surroundings(
                journal=self.journal,
                retention=Retention(self.journal, self.clock, kept, KEY),
                registry=self.registry,
                settings=self.settings,
                bus=self.bus,
                clock=self.clock,
                maskers={},
                jitter=random.Random(7),
                sight=sight or Blind(),
            )
        )
        self.tenants = Tenants()
        self._acceptor = Acceptor(self.journal, _Placement(self.delivery), self.tenants, self.clock)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the journal and make the connections, without delivering."""
        specs = [
            ConnectionSpec(
                name=name,
                provider=one.provider,
                environment=one.environment,
                config={},
                timeout_s=one.limits(self.settings.delivery).timeout_s,
            )
            for name, one in self.settings.connections.items()
        ]
        await self.registry.replace(specs)
        await self.journal.open()
        try:
            yield
        finally:
            await self.registry.aclose()
            await self.journal.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything and deliver; drain at the end."""
        async with self.opened(), anyio.create_task_group() as group:
            group.start_soon(self.delivery.run)
            yield
            self.delivery.drain()

    async def accept(
        self, verb: str, payload: Mapping[str, Any] | None = None, **options: Any
    ) -> Call:
        """Accept one call of the rehearsal."""
        (call,) = await self.accept_many(verb, [payload or {}], **options)
        return call

    async def accept_many(
        self, verb: str, payloads: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[Call]:
        """Accept several calls in one commit."""
        requests = [
            CallRequest(
                operation=f"rehearsal.{verb}",
                payload=msgspec.Raw(msgspec.json.encode(payload)),
                **options,
            )
            for payload in payloads
        ]
        receipts = await self._acceptor.accept(requests, CALLER)
        return [receipt.call for receipt in receipts if receipt.call is not None]

    async def until(self, call: Call, *states: CallState, within_s: float = 1e6) -> CallDetail:
        """Let time pass until the call stands in one of ``states``."""
        with anyio.fail_after(within_s):
            while True:
                self._changed = anyio.Event()
                detail = await self.journal.calls.detail(call.id)
                if detail.call.state in states:
                    return detail
                await self._changed.wait()

    async def settled(self, call: Call) -> CallDetail:
        """Let time pass until the call is final."""
        return await self.until(
            call, CallState.COMPLETED, CallState.FAILED, CallState.EXPIRED, CallState.CANCELLED
        )


class _Placement:
    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery.routing, name)

    def give_up_after_s(self, connection: Any) -> float:
        return self._delivery.give_up_after_s(connection)
