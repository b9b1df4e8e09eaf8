"""What is loaded and the connections that serve now, replaced as one set.

A set is planned beside the one that serves, without the network, and put in its place in one step.
What was replaced goes on serving the attempts that hold it and is closed when the last has let go.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import anyio
import pydantic
import structlog

from integrationd.call import is_subscription
from integrationd.errors import NotFoundError
from integrationd.registry.connection import Connection, ConnectionSpec, TokenDesk
from integrationd.registry.loader import LoadedPlugins, PluginVersion
from integrationd.sdk.plugin_file import PluginFault, PluginFileError, blaming
from integrationd.sdk.provider import ProviderConfig
from integrationd.settings.table import Problem, RejectedConfigError

_SOURCE = "the configuration"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A set that could serve.

    Attributes:
        versions: The plugin versions, by code.
        faults: The plugin files that cannot be used, and those that are not used for now.
        connections: The connections, by name, in the order of the configuration.
        made: Those of them that were made for this plan; the others serve already.
    """

    versions: Mapping[str, PluginVersion]
    faults: tuple[PluginFault, ...]
    connections: Mapping[str, Connection]
    made: tuple[Connection, ...]

    async def discard(self) -> None:
        """Close what was made for it, since it will not serve."""
        await _close(self.made)


class Registry:
    """What is loaded, and the connections that serve now.

    Args:
        plugins: The plugin versions, and the files that could not be used.
        desk: Where access tokens are kept; with each connection itself when None.

    Attributes:
        generation: Another number for each set that has served.
    """

    def __init__(self, plugins: LoadedPlugins, desk: TokenDesk | None = None) -> None:
        self._desk = desk
        self._versions = plugins.versions
        self._faults = plugins.faults
        self._connections: Mapping[str, Connection] = MappingProxyType({})
        self.generation = 0

    @property
    def faults(self) -> tuple[PluginFault, ...]:
        """The plugin files that cannot be used."""
        return self._faults

    @property
    def versions(self) -> Mapping[str, PluginVersion]:
        """The plugin versions that serve, by code."""
        return self._versions

    def providers(self) -> tuple[PluginVersion, ...]:
        """Return the loaded plugin versions, by code."""
        return tuple(self._versions[code] for code in sorted(self._versions))

    def connections(self) -> tuple[Connection, ...]:
        """Return all connections, in the order of the configuration."""
        return tuple(self._connections.values())

    def find(self, name: str) -> Connection | None:
        """Return the connection of that name as it is now, or None."""
        return self._connections.get(name)

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
        return [
            found
            for found in self._connections.values()
            if found.serves(operation) and not is_subscription(found.name)
        ]

    def route(self, operation: str, order: Sequence[str]) -> list[Connection]:
        """Return those of the named connections that can carry the operation, in that order."""
        named = (self._connections.get(name) for name in order)
        return [found for found in named if found is not None and found.serves(operation)]

    async def plan(self, plugins: LoadedPlugins, specs: Iterable[ConnectionSpec]) -> Plan:
        """Make what is new of a set; what serves now is not touched.

        A connection is made anew only if its plugin or anything that it is made from has changed.
        A plugin version that its connections cannot be made with does not take the place of the
        one that serves them, nor does a file that is gone.

        Raises:
            RejectedConfigError: It lists all that is wrong with all of the connections.
        """
        planning = _Planning(plugins, list(specs), self._versions, self._connections)
        planning.make()
        await _close(planning.unused())
        if planning.problems:
            raise RejectedConfigError(_SOURCE, planning.problems)
        return Plan(
            versions=MappingProxyType(planning.versions),
            faults=(*plugins.faults, *planning.faults),
            connections=MappingProxyType(planning.in_order()),
            made=tuple(planning.used()),
        )

    def commit(self, plan: Plan) -> tuple[Connection, ...]:
        """Let a plan serve, in one step.

        Returns:
            The connections that serve no more; retire them.
        """
        before = self._connections
        self._versions, self._faults = plan.versions, plan.faults
        self._connections = plan.connections
        self.generation += 1
        if self._desk is not None:
            for connection in plan.made:
                connection.keep_tokens_at(self._desk)
        staying = set(map(id, plan.connections.values()))
        return tuple(one for one in before.values() if id(one) not in staying)

    async def replace(self, specs: Iterable[ConnectionSpec]) -> tuple[Connection, ...]:
        """Plan with the plugins that are loaded, and let that serve.

        Returns:
            The connections that serve no more; retire them.

        Raises:
            RejectedConfigError: It lists all that is wrong with all of them; nothing has changed.
        """
        loaded = LoadedPlugins(versions=self._versions, faults=self._faults)
        return self.commit(await self.plan(loaded, specs))

    async def aclose(self) -> None:
        """Close all connections; no attempt may be under way any more."""
        closing = self._connections.values()
        self._connections = MappingProxyType({})
        self.generation += 1
        await _close(closing)


class _Planning:
    """One pass over a set, plugin by plugin; it collects what is wrong on its way."""

    def __init__(
        self,
        plugins: LoadedPlugins,
        specs: Sequence[ConnectionSpec],
        serving: Mapping[str, PluginVersion],
        connections: Mapping[str, Connection],
    ) -> None:
        self._plugins = plugins
        self._specs = specs
        self._serving = serving
        self._connections = connections
        self._found: dict[str, Connection] = {}
        self.versions = dict(plugins.versions)
        self.faults: list[PluginFault] = []
        self.made: list[Connection] = []
        self.problems: list[Problem] = []

    def make(self) -> None:
        for code in dict.fromkeys(spec.provider for spec in self._specs):
            specs = [spec for spec in self._specs if spec.provider == code]
            candidate, before = self.versions.get(code), self._serving.get(code)
            if candidate is None and before is not None:
                self._keep(code, before, _gone(before, specs))
                candidate = before
            if candidate is None:
                reason = self._why_missing(code)
                self.problems += [_missing(spec, reason) for spec in specs]
                continue
            self._make_all(specs, candidate, before)

    def used(self) -> list[Connection]:
        """Return what was made and is to serve; nothing of a set in which something is wrong."""
        return [] if self.problems else [one for one in self.made if self._serves(one)]

    def unused(self) -> list[Connection]:
        """Return the rest of what was made."""
        return [one for one in self.made if self.problems or not self._serves(one)]

    def _serves(self, connection: Connection) -> bool:
        return self._found.get(connection.name) is connection

    def in_order(self) -> dict[str, Connection]:
        return {spec.name: self._found[spec.name] for spec in self._specs}

    def _make_all(
        self,
        specs: Sequence[ConnectionSpec],
        candidate: PluginVersion,
        before: PluginVersion | None,
    ) -> None:
        """Make all connections of one plugin: with the version that was read, else with the old."""
        problems = self._try(specs, candidate)
        is_new = before is not None and before is not candidate
        if problems and before is not None and is_new and not self._try(specs, before):
            self._keep(candidate.code, before, _misfit(candidate, problems))
        else:
            self.problems += problems

    def _try(self, specs: Sequence[ConnectionSpec], plugin: PluginVersion) -> list[Problem]:
        problems: list[Problem] = []
        found: dict[str, Connection] = {}
        for spec in specs:
            serving = self._connections.get(spec.name)
            if serving is not None and serving.is_made_from(spec, plugin):
                found[spec.name] = serving
                continue
            try:
                found[spec.name] = _made(spec, plugin)
            except RejectedConfigError as error:
                problems += error.problems
            else:
                self.made.append(found[spec.name])
        if not problems:
            self._found |= found
        return problems

    def _keep(self, code: str, version: PluginVersion, fault: PluginFault) -> None:
        self.versions[code] = version
        self.faults.append(fault)

    def _why_missing(self, code: str) -> str:
        near = [fault for fault in self._plugins.faults if fault.path.stem == code]
        if near:
            return f"the plugin {code!r} cannot be used: {near[0]}"
        loaded = ", ".join(sorted(self._plugins.versions)) or "none"
        return f"no plugin has the code {code!r}; loaded are: {loaded}"


def _gone(before: PluginVersion, specs: Sequence[ConnectionSpec]) -> PluginFault:
    names = ", ".join(spec.name for spec in specs)
    reason = (
        f"holds no plugin {before.code!r} any more, and connections need it: {names}; they go on"
        " with the version that was read last, until the daemon is restarted"
    )
    return PluginFault(path=before.path, line=None, reason=reason)


def _misfit(candidate: PluginVersion, problems: Sequence[Problem]) -> PluginFault:
    told = "; ".join(map(str, problems))
    reason = f"its connections cannot be made with it and go on with the version before: {told}"
    return PluginFault(path=candidate.path, line=None, reason=reason)


def _missing(spec: ConnectionSpec, reason: str) -> Problem:
    return Problem(f"connections.{spec.name}.provider", reason)


def _made(spec: ConnectionSpec, plugin: PluginVersion) -> Connection:
    try:
        with blaming(plugin.path, RejectedConfigError):
            return Connection(spec, plugin, _validated(spec, plugin))
    except PluginFileError as error:
        problem = Problem(f"connections.{spec.name}", f"the plugin failed to make it: {error}")
        raise RejectedConfigError(_SOURCE, [problem]) from error


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


async def _close(connections: Iterable[Connection]) -> None:
    async with anyio.create_task_group() as group:
        for connection in connections:
            group.start_soon(_close_one, connection)


async def _close_one(connection: Connection) -> None:
    try:
        await connection.aclose()
    except Exception:
        log = structlog.get_logger("integrationd.plugin")
        log.warning("plugin_failed_to_close", connection=connection.name, exc_info=True)
