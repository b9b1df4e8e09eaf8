"""What ``config check`` finds out: everything that a start would do short of the network."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import anyio

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
    load,
    resolve,
    vault_references,
)
from integrationd.supervisor.secrets import reader_here


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
    try:
        settings = load(path, environ)
    except RejectedConfigError as error:
        report.problems += error.problems
        return report
    specs = list(_specs(settings, path, environ, report))
    plugins = load_plugins(plugin_files([builtin_plugins(), *settings.plugins.paths]), clock)
    report.warnings += [_plugin_warning(plugins, at) for at in range(len(plugins.faults))]
    report.providers = sorted(plugins.versions)
    report.routes = {name: route.order for name, route in settings.routes.items()}
    anyio.run(_make, specs, settings, plugins, report)
    return report


def _specs(
    settings: Settings, path: Path, environ: Mapping[str, str], report: Report
) -> Iterator[ConnectionSpec]:
    """Yield the connections whose references can be resolved; note the problems of the others."""
    base_dir = path.absolute().parent
    vault, unread = reader_here(settings, environ)
    sealed = {name for names in vault_references(settings).values() for name in names}
    for name, connection in settings.connections.items():
        try:
            config = resolve(
                connection.config,
                environ,
                base_dir,
                connection=name,
                vault=vault,
                tenant=connection.secrets_of,
            )
        except RejectedConfigError as error:
            report.problems += error.problems
            continue
        if unread and name in sealed:
            reason = f"its secrets in the vault were not opened, so it was not made: {unread}"
            report.warnings.append(Problem(f"connections.{name}", reason))
            continue
        yield ConnectionSpec(
            name=name,
            provider=connection.provider,
            environment=connection.environment,
            config=config.values,
            timeout_s=connection.limits(settings.delivery).timeout_s,
            enabled=connection.enabled,
        )


def _plugin_warning(plugins: LoadedPlugins, at: int) -> Problem:
    fault = plugins.faults[at]
    where = f"{fault.path}:{fault.line}" if fault.line else str(fault.path)
    return Problem(where, f"this plugin cannot be used: {fault.reason}")


async def _make(
    specs: Iterable[ConnectionSpec], settings: Settings, plugins: LoadedPlugins, report: Report
) -> None:
    registry = Registry(plugins)
    try:
        await registry.replace(specs)
    except RejectedConfigError as error:
        report.problems += error.problems
    if report.is_ok:
        report.connections = [_finding(one) for one in registry.connections()]
        _check_routes(registry, settings, report)
    await registry.aclose()


def _finding(connection: Connection) -> Finding:
    return Finding(
        id=connection.name,
        provider=connection.code,
        environment=connection.environment,
        enabled=connection.enabled,
        operations=tuple(sorted(connection.plugin.operations)),
    )


def _check_routes(registry: Registry, settings: Settings, report: Report) -> None:
    """Ask for each operation what a new call would be told."""
    routing = Routing(registry, settings.routes)
    offered = {name for plugin in registry.providers() for name in plugin.operations}
    for operation in sorted(offered | set(settings.routes)):
        where = f'routes."{operation}"'
        try:
            served = routing.for_new_call(operation, None)
        except UnprocessableError as error:
            if operation in settings.routes or registry.serving(operation):
                report.warnings.append(Problem(where, f"{error}. {error.hint}"))
            else:
                report.unserved.append(operation)
            continue
        if served is None:
            reason = "none of its connections can do it now; its calls are held"
            report.warnings.append(Problem(where, reason))
