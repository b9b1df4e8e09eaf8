"""A world whose configuration and plugins change while calls flow."""

import contextlib
import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup
from tests.delivery.world import CALLER, World
from tests.journal.cases import a_call
from tests.virtual_time import VirtualLoop, run_virtually

from integrationd.api.schemas import CallRequest
from integrationd.call import Attempt, AttemptKind, Call
from integrationd.delivery.link import Sight
from integrationd.events import AttemptEnded
from integrationd.journal import AttemptFilter
from integrationd.masking import Masker
from integrationd.registry import (
    Connection,
    ConnectionSpec,
    LoadedPlugins,
    PluginVersion,
    load_plugin,
)
from integrationd.settings import Settings

DESK_ONE = {"desk": {"provider": "desk"}}
DESK = '''
from typing import ClassVar

import anyio
import msgspec

from integrationd.sdk import *


class Note(Request, frozen=True):
    """What to send."""

    takes_s: float = 0.0


class Sent(Result, frozen=True):
    """What was sent."""


class Desk(Provider):
    """Sends notes for those whose key it knows."""

    code = "desk"
    valid: ClassVar[set[str]] = {"old", "new"}
    sends: ClassVar[list[tuple[str, str]]] = []
    closed: ClassVar[list[str]] = []

    class Config(ProviderConfig):
        key: str = "old"

    async def aclose(self):
        self.closed.append(self.config.key)

    @operation(
        "desk.OPERATION",
        repeat_safe=False,
        contract=Contract(operation="desk.OPERATION", request=Note, result=Sent),
    )
    async def send(self, request, ctx):
        self.sends.append((self.connection.name, self.config.key))
        ctx.mark_sent()
        await anyio.sleep(request.takes_s)
        if self.config.key not in self.valid:
            return Rejected(reason="bad_credentials", detail=f"Who is {self.config.key}?")
        return Delivered()
'''


Story: TypeAlias = Callable[["LiveWorld"], Coroutine[Any, Any, None]]
Live: TypeAlias = Callable[[Story], None]


class LiveWorld(World):
    """One daemon without its HTTP side, as it is reconfigured.

    Attributes:
        desk: The provider class of the desk plugin, with its books.
    """

    def __init__(
        self, directory: Path, loop: VirtualLoop, group: TaskGroup, sight: Sight | None = None
    ) -> None:
        super().__init__(directory, loop, sight=sight)
        self._directory = directory
        self._group = group
        self._tables: dict[str, Any] = {}
        self._versions = dict(self.registry.versions)
        self.desk: Any = self.load(DESK.replace("OPERATION", "send")).provider

    def load(self, source: str, name: str = "desk.py") -> PluginVersion:
        """Have a plugin file serve from the next change on."""
        path = self._directory / name
        path.write_text(source)
        version = load_plugin(path, self.clock)
        self._versions[version.code] = version
        return version

    async def use(self, connections: Mapping[str, Any], **tables: Any) -> None:
        """Go on under another configuration; what is no longer needed is retired."""
        settings = Settings.model_validate({"connections": connections, **tables})
        specs = [
            ConnectionSpec(
                name=name,
                provider=one.provider,
                environment=one.environment,
                config=one.config,
                timeout_s=one.limits(settings.delivery).timeout_s,
                enabled=one.enabled,
            )
            for name, one in settings.connections.items()
        ]
        loaded = LoadedPlugins(versions=dict(self._versions), faults=())
        over = self.registry.commit(await self.registry.plan(loaded, specs))
        maskers = {
            name: Masker(secrets_of(one.config)) for name, one in settings.connections.items()
        }
        self.delivery.use(settings, maskers)
        for connection in over:
            self._group.start_soon(self._retire, connection)

    async def _retire(self, connection: Connection) -> None:
        with contextlib.suppress(Exception):
            await connection.retire()

    def renew_by(self, renew: Any) -> None:
        """Ask ``renew`` whether newer credentials are in force."""
        attempts = self.delivery._common.attempts
        attempts._means = dataclasses.replace(attempts._means, renew=renew)

    async def submit(
        self, count: int = 1, operation: str = "desk.send", takes_s: float = 0.0, **options: Any
    ) -> list[Call]:
        """Accept calls of the desk."""
        payload = msgspec.Raw(msgspec.json.encode({"takes_s": takes_s}))
        requests = [
            CallRequest(operation=operation, payload=payload, **options) for _ in range(count)
        ]
        receipts = await self._acceptor.accept(requests, CALLER)
        return [receipt.call for receipt in receipts if receipt.call is not None]

    async def states(self, calls: list[Call]) -> set[str]:
        """Return the states that calls stand in now."""
        return {(await self.journal.calls.detail(call.id)).call.state.value for call in calls}

    async def finish(self, calls: list[Call]) -> None:
        """Let time pass until all of them are final."""
        for call in calls:
            await self.settled(call)

    async def log(self, call: Call) -> list[Any]:
        """Return the attempts of a call, the first one first."""
        wanted = AttemptFilter(call_id=call.id)
        return (await self.journal.attempts.list(wanted, before=None, limit=100))[::-1]

    async def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        await anyio.sleep(seconds)

    def find(self, name: str) -> Connection:
        """Return a connection as it is now."""
        return self.registry.connection(name)


def secrets_of(config: Mapping[str, Any]) -> list[str]:
    """Return the values of a config, all of which count as secrets here."""
    return [value for value in config.values() if isinstance(value, str)]


def lived(directory: Path, sight: Sight | None = None) -> Live:
    """Return what runs a story in a fresh world."""

    def run(story: Story) -> None:
        async def main(loop: VirtualLoop) -> None:
            async with anyio.create_task_group() as group:
                world = LiveWorld(directory, loop, group, sight)
                async with world.running():
                    await story(world)

        run_virtually(main)

    return run


def answered(connection: str, now_ms: int) -> AttemptEnded:
    """Return the end of an attempt that was answered."""
    attempt = Attempt(
        kind=AttemptKind.SEND,
        number=1,
        connection=connection,
        provider="rehearsal",
        plugin_digest="0123456789ab",
        started_at_ms=now_ms,
        duration_ms=1,
        outcome="delivered",
        reason=None,
        detail=None,
        sent=True,
        status_code=200,
        request=None,
        response=None,
    )
    return AttemptEnded(a_call(now_ms), attempt)
