"""What ``config check`` finds out: everything that a start would do short of the network."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import anyio

from integrationd.call import DEFAULT_TENANT, is_subscription
from integrationd.clock import Clock
from integrationd.delivery.routing import Routing
from integrationd.errors import UnprocessableError
from integrationd.registry import (
    Connection,
    ConnectionSpec,
    LoadedPlugins,
    Registry,
    builtin_plugins,
    load_plugins,
    plugin_files,
)
from integrationd.settings import (
    Problem,
    RejectedConfigError,
    Settings,
    resolve,
    vault_references,
)
from integrationd.supervisor.fed import of_app
from integrationd.supervisor.secrets import reader_here
from integrationd.supervisor.snapshot import Source
from integrationd.supervisor.stored import plan_sparing


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is to be said about a connection that can be made."""

    id: str
    provider: str
    environment: str
    enabled: bool
    operations: tuple[str, ...]


@dataclasses.dataclass(slots=True, kw_only=True)
class Report:
    """What a check has found.

    Attributes:
        file: The configuration.
        problems: What makes the daemon refuse it.
        warnings: What it would accept, although it may not be meant.
        connections: The connections that it makes, if there are no problems.
        providers: The codes of the plugins that can be used.
        routes: The connections of each route, by operation.
        unserved: The operations that plugins could do, but no connection does.
    """

    file: str
    problems: list[Problem] = dataclasses.field(default_factory=list)
    warnings: list[Problem] = dataclasses.field(default_factory=list)
    connections: list[Finding] = dataclasses.field(default_factory=list)
    providers: list[str] = dataclasses.field(default_factory=list)
    routes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    unserved: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether the daemon would start with it."""
        return not self.problems


def check(path: Path, environ: Mapping[str, str], clock: Clock) -> Report:
    """Load a configuration, its secrets and its plugins, and make every connection."""
    report = Report(file=str(path))
    source = Source(path, environ)
    stored = source.stored()
    if stored.unread:
        reason = f"what was made over the API is not known here: {stored.unread}"
        report.warnings.append(Problem("journal.path", reason))
    try:
        own = source.load(stored)
        settings = source.joined(own, stored)
        unusable = {**stored.unusable, **source.strangers(settings, own, stored)}
    except RejectedConfigError as error:
        report.problems += error.problems
        return report
    report.warnings += stored.warnings
    report.warnings += (problem for told in unusable.values() for problem in told)
    checking = _Checking(source, settings, stored.made.connections.keys(), report)
    specs = [one for one in checking.specs() if one.name not in unusable]
    plugins = load_plugins(plugin_files([builtin_plugins(), *settings.plugins.paths]), clock)
    report.warnings += [_plugin_warning(plugins, at) for at in range(len(plugins.faults))]
    report.providers = sorted(plugins.versions)
    report.routes = {name: route.order for name, route in settings.routes.items()}
    routing = functools.partial(Routing, settings=settings, by_hand=stored.by_hand(unusable))
    anyio.run(checking.make, specs, plugins, routing)
    return report


@dataclasses.dataclass(frozen=True, slots=True)
class _Checking:
    """One check.

    Attributes:
        source: Where the configuration is.
        settings: What it says, together with what was made over the API.
        spared: The connections made over the API, which stop no start.
        report: What was found.
    """

    source: Source
    settings: Settings
    spared: Collection[str]
    report: Report

    def specs(self) -> Iterator[ConnectionSpec]:
        """Yield the connections whose references can be resolved; note the others' problems."""
        base_dir = self.source.file.absolute().parent
        vault, unread = reader_here(self.settings, self.source.environ)
        sealed = {name for names in vault_references(self.settings).values() for name in names}
        for name, connection in self.settings.connections.items():
            try:
                config = resolve(
                    connection.config,
                    self.source.environ,
                    base_dir,
                    connection=name,
                    vault=vault,
                    tenant=connection.secrets_of,
                )
            except RejectedConfigError as error:
                self._note(name, error.problems)
                continue
            if unread and name in sealed:
                reason = f"its secrets in the vault were not opened, so it was not made: {unread}"
                self.report.warnings.append(of_app(Problem(f"connections.{name}", reason)))
                continue
            yield ConnectionSpec(
                name=name,
                provider=connection.provider,
                environment=connection.environment,
                config=config.values,
                timeout_s=connection.limits(self.settings.delivery).timeout_s,
                enabled=connection.enabled,
                tenant=connection.tenant,
            )

    def _note(self, connection: str, problems: Iterable[Problem]) -> None:
        noted = self.report.warnings if connection in self.spared else self.report.problems
        noted += map(of_app, problems)

    async def make(
        self,
        specs: Sequence[ConnectionSpec],
        plugins: LoadedPlugins,
        routing: Callable[[Registry], Routing],
    ) -> None:
        """Make the connections, and look what they can do."""
        registry = Registry(plugins)
        try:
            plan, left_out = await plan_sparing(registry, plugins, specs, self.spared)
            for name, problems in left_out.items():
                self._note(name, problems)
            registry.commit(plan)
        except RejectedConfigError as error:
            self.report.problems += map(of_app, error.problems)
        if self.report.is_ok:
            found = [one for one in registry.connections() if not is_subscription(one.name)]
            self.report.connections = [_finding(one) for one in found]
            _check_routes(registry, routing(registry), self.settings, self.report)
        await registry.aclose()


def _plugin_warning(plugins: LoadedPlugins, at: int) -> Problem:
    fault = plugins.faults[at]
    where = f"{fault.path}:{fault.line}" if fault.line else str(fault.path)
    return Problem(where, f"this plugin cannot be used: {fault.reason}")


def _finding(connection: Connection) -> Finding:
    return Finding(
        id=connection.name,
        provider=connection.code,
        environment=connection.environment,
        enabled=connection.enabled,
        operations=tuple(sorted(connection.plugin.operations)),
    )


def _check_routes(registry: Registry, routing: Routing, settings: Settings, report: Report) -> None:
    """Ask for each operation what a new call would be told."""
    offered = {name for plugin in registry.providers() for name in plugin.operations}
    for operation in sorted(offered | set(settings.routes)):
        where = f'routes."{operation}"'
        try:
            served = routing.for_new_call(operation, None, DEFAULT_TENANT)
        except UnprocessableError as error:
            able = [one for one in registry.serving(operation) if not is_subscription(one.name)]
            if operation in settings.routes or able:
                report.warnings.append(Problem(where, f"{error}. {error.hint}"))
            else:
                report.unserved.append(operation)
            continue
        if served is None:
            reason = "none of its connections can do it now; its calls are held"
            report.warnings.append(Problem(where, reason))
