"""Live connections: each a provider object, made from a plugin version and a config.

A set of connections is built beside the one that serves, and put in its place in one step. What
was replaced goes on serving the attempts that hold it and is closed when the last has let go.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import anyio
import pydantic

from integrationd.errors import NotFoundError
from integrationd.registry.loader import LoadedPlugins, PluginVersion
from integrationd.sdk.http import PreparedClient, prepare_client
from integrationd.sdk.plugin_file import PluginFault, PluginFileError, blaming
from integrationd.sdk.provider import HttpProviderConfig, Provider, ProviderConfig
from integrationd.settings.model import Problem, RejectedConfigError

_SOURCE = "the configuration"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSpec:
    """What a connection is made from.

    Attributes:
        name: The connection's id.
        provider: The provider's code.
        environment: ``sandbox`` or ``production``.
        config: The provider's config with every reference resolved; never shown.
        timeout_s: Seconds that one attempt may take in all.
        enabled: Whether it serves; one that does not is checked all the same.
        tenant: Whose it is; everybody's when None.
    """

    name: str
    provider: str
    environment: str
    config: Mapping[str, Any] = dataclasses.field(repr=False)
    timeout_s: float
    enabled: bool = True
    tenant: str | None = None


class Connection:
    """A connection that serves, made from one plugin version.

    Attributes:
        name: The connection's id.
        environment: ``sandbox`` or ``production``.
        timeout_s: Seconds that one attempt may take in all.
        enabled: Whether it serves.
        tenant: Whose it is; everybody's when None.
        plugin: The plugin version that it was made from.
        provider: The provider object; it serves this connection only.
        client: The prepared HTTP client, where the provider's config asks for one.
    """

    def __init__(self, spec: ConnectionSpec, plugin: PluginVersion, config: ProviderConfig) -> None:
        self.name = spec.name
        self.environment = spec.environment
        self.timeout_s = spec.timeout_s
        self.enabled = spec.enabled
        self.tenant = spec.tenant
        self.plugin = plugin
        self.provider: Provider = plugin.provider(config, self)
        self.client = _client(config, spec.timeout_s)
        self._holders = 0
        self._let_go: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.name} of {self.code}>"

    @property
    def code(self) -> str:
        """The provider's code."""
        return self.plugin.code

    def serves(self, operation: str) -> bool:
        """Say whether calls of the operation can go through it."""
        return self.enabled and operation in self.plugin.operations

    @contextlib.contextmanager
    def held(self) -> Iterator[Self]:
        """Keep it open while an attempt uses it."""
        self._holders += 1
        try:
            yield self
        finally:
            self._holders -= 1
            if self._holders == 0 and self._let_go is not None:
                self._let_go.set()

    async def retire(self) -> None:
        """Wait until no attempt holds it, then close it.

        Raises:
            Exception: Whatever the plugin raised.
        """
        if self._holders:
            self._let_go = anyio.Event()
            await self._let_go.wait()
        await self.aclose()

    async def aclose(self) -> None:
        """Close the provider and its HTTP client.

        Raises:
            Exception: Whatever the plugin raised; the client is closed all the same.
        """
        try:
            await self.provider.aclose()
        finally:
            if self.client is not None:
                await self.client.aclose()


class Registry:
    """What is loaded, and the connections that serve now.

    Args:
        plugins: The plugin versions, and the files that could not be used.
    """

    def __init__(self, plugins: LoadedPlugins) -> None:
        self._plugins = plugins
        self._connections: Mapping[str, Connection] = MappingProxyType({})

    @property
    def faults(self) -> tuple[PluginFault, ...]:
        """The plugin files that cannot be used."""
        return self._plugins.faults

    def providers(self) -> tuple[PluginVersion, ...]:
        """Return the loaded plugin versions, by code."""
        return tuple(self._plugins.versions[code] for code in sorted(self._plugins.versions))

    def connections(self) -> tuple[Connection, ...]:
        """Return all connections, in the order of the configuration."""
        return tuple(self._connections.values())

    def connection(self, name: str) -> Connection:
        """Return the connection of that name as it is now.

        Raises:
            NotFoundError: There is none.
        """
        found = self._connections.get(name)
        if found is None:
            raise NotFoundError(
                f"there is no connection {name!r}", hint="See 'integrationd connections'."
            )
        return found

    def serving(self, operation: str) -> list[Connection]:
        """Return the connections that can carry the operation, in the order of the config."""
        return [found for found in self._connections.values() if found.serves(operation)]

    def route(self, operation: str, order: Sequence[str]) -> list[Connection]:
        """Return those of the named connections that can carry the operation, in that order."""
        named = (self._connections.get(name) for name in order)
        return [found for found in named if found is not None and found.serves(operation)]

    async def replace(self, specs: Iterable[ConnectionSpec]) -> tuple[Connection, ...]:
        """Build a new set of connections and let it serve; nothing changes if one is wrong.

        Returns:
            The connections that served before; retire them.

        Raises:
            RejectedConfigError: It lists all that is wrong with all of them.
        """
        problems: list[Problem] = []
        built: dict[str, Connection] = {}
        for spec in specs:
            try:
                built[spec.name] = self._build(spec)
            except RejectedConfigError as error:
                problems.extend(error.problems)
        if problems:
            await _close(built.values())
            raise RejectedConfigError(_SOURCE, problems)
        before = self.connections()
        self._connections = MappingProxyType(built)
        return before

    async def aclose(self) -> None:
        """Close all connections; no attempt may be under way any more.

        Raises:
            Exception: Whatever a plugin raised; the others are closed all the same.
        """
        closing = self._connections.values()
        self._connections = MappingProxyType({})
        await _close(closing)

    def _build(self, spec: ConnectionSpec) -> Connection:
        where = f"connections.{spec.name}"
        plugin = self._plugins.versions.get(spec.provider)
        if plugin is None:
            raise _rejected(f"{where}.provider", self._why_missing(spec.provider))
        try:
            with blaming(plugin.path, RejectedConfigError):
                return Connection(spec, plugin, _validated(spec, plugin))
        except PluginFileError as error:
            raise _rejected(where, f"the plugin failed to make it: {error}") from error

    def _why_missing(self, code: str) -> str:
        near = [fault for fault in self.faults if fault.path.stem == code]
        if near:
            return f"the plugin {code!r} cannot be used: {near[0]}"
        loaded = ", ".join(sorted(self._plugins.versions)) or "none"
        return f"no plugin has the code {code!r}; loaded are: {loaded}"


def _validated(spec: ConnectionSpec, plugin: PluginVersion) -> ProviderConfig:
    try:
        return plugin.provider.Config.model_validate(dict(spec.config))
    except pydantic.ValidationError as error:
        known = ", ".join(plugin.provider.Config.model_fields) or "none"
        problems = [
            Problem(
                ".".join(("connections", spec.name, "config", *map(str, one["loc"]))),
                _reason(one["type"], one["msg"], known if len(one["loc"]) == 1 else ""),
            )
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise RejectedConfigError(_SOURCE, problems) from None


def _reason(kind: str, message: str, known: str) -> str:
    match kind:
        case "missing":
            return "is missing"
        case "extra_forbidden" if known:
            return f"is not known to this provider; its fields are: {known}"
        case _:
            return message.removeprefix("Value error, ")


def _client(config: ProviderConfig, timeout_s: float) -> PreparedClient | None:
    if not isinstance(config, HttpProviderConfig):
        return None
    return prepare_client(
        base_url=config.base_url, timeout_s=timeout_s, allow_private=config.allow_private
    )


def _rejected(where: str, reason: str) -> RejectedConfigError:
    return RejectedConfigError(_SOURCE, [Problem(where, reason)])


async def _close(connections: Iterable[Connection]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for connection in connections:
            stack.push_async_callback(connection.aclose)
