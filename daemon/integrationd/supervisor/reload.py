"""Reloading: configuration, secrets and plugins are replaced as one set, or not at all.

Whatever asks for it (a changed file, SIGHUP, ``integrationd reload``, a provider that does not know
our credentials) goes through :meth:`Reloader.reload`. Everything new is read, checked and made
beside what serves, without the network; then it takes its place in one step. While a configuration
is refused, plugins still change under the one in force.
"""

import dataclasses
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskGroup

from integrationd.api.ports import ConfigProblem, ConfigStatus, ReloadReport
from integrationd.clock import Clock
from integrationd.events import Bus, ConfigMoved, PluginMoved
from integrationd.registry import (
    Connection,
    PluginVersion,
    Registry,
    Shelf,
    builtin_plugins,
)
from integrationd.registry.shelf import Examine, plain, plain_text
from integrationd.sdk.plugin_file import PluginFault, forget
from integrationd.settings import (
    Change,
    Problem,
    RejectedConfigError,
    SecretReader,
    Settings,
    changes,
    needing_restart,
)
from integrationd.supervisor.snapshot import Snapshot, Source, told

REREAD_PAUSE_S = 5.0
DIGEST_SHOWN = 12


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a reloader works with.

    Attributes:
        source: Where the configuration is read.
        registry: What serves.
        clock: Where time is read.
        bus: Where it is told what became of a reload.
        examine: Runs plugin files where they can do no harm.
        take_over: Has the rest of the daemon go on under a configuration, without waiting.
        waiting: Returns how many calls wait on each connection.
        vault: Returns what reads the secrets of the vault that a configuration refers to.
    """

    source: Source
    registry: Registry
    clock: Clock
    bus: Bus
    examine: Examine
    take_over: Callable[[Snapshot], None]
    waiting: Callable[[], Awaitable[Mapping[str, int]]]
    vault: Callable[[Settings], Awaitable[SecretReader]]


class Reloader:
    """Holds the configuration in force and replaces it.

    Args:
        around: What it works with.
        snapshot: The configuration to begin with; its connections serve already.
        shelf: The plugin files as they were read for it.
    """

    def __init__(self, around: Around, snapshot: Snapshot, shelf: Shelf) -> None:
        self._around = around
        self._snapshot = snapshot
        self._tried = snapshot.settings
        self._shelf = shelf
        self._retiring: TaskGroup | None = None
        self._draining: set[Connection] = set()
        self._known = set(shelf.versions)
        self._lock = anyio.Lock()
        self._asked_ms: dict[str, int] = {}
        self._log = structlog.get_logger("integrationd.reload")
        self._status = ConfigStatus(
            file=str(around.source.file),
            state="applied",
            applied_at_ms=around.clock.now_ms(),
            warnings=told(snapshot.stale),
        )

    def watched_files(self) -> frozenset[Path]:
        """Return the files whose change may make a difference, also to what was refused last."""
        source = self._around.source
        return frozenset(
            {
                source.file,
                *source.secret_files(self._snapshot.settings),
                *source.secret_files(self._tried),
                *(path for path in self._tried.plugins.paths if path.suffix == ".py"),
            }
        )

    def watched_trees(self) -> frozenset[Path]:
        """Return the directories that plugin files are found in."""
        return frozenset(
            {builtin_plugins(), *self._snapshot.settings.plugins.paths, *self._tried.plugins.paths}
        )

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._snapshot.settings

    def status(self) -> ConfigStatus:
        """Return which configuration is in force."""
        return self._status

    async def run(self) -> None:
        """Close what has been replaced, once its attempts have ended; for the daemon's life."""
        async with anyio.create_task_group() as group:
            self._retiring = group
            await anyio.sleep_forever()

    async def reload(self, cause: str, *, again: bool = True) -> ReloadReport:
        """Read everything anew and take it over, or nothing of it.

        Args:
            cause: Why, for the log.
            again: Read plugin files at fault again too, although they have not changed.
        """
        async with self._lock:
            try:
                return await self._reload(cause, again=again)
            except Exception as error:  # noqa: BLE001 - whatever it is, what serves goes on
                self._log.exception("reload_failed", cause=cause)
                reason = f"the reload failed unexpectedly: {type(error).__name__}; see the log"
                return self._reject([Problem(str(self._around.source.file), reason)], cause)

    async def _reload(self, cause: str, *, again: bool) -> ReloadReport:
        try:
            snapshot, found = await self._read()
            plugins = await self._take(snapshot, again=again)
        except RejectedConfigError as error:
            # Plugins change all the same, under the configuration in force.
            await self._take(self._snapshot, again=again)
            return self._reject(error.problems, cause)
        return self._applied(snapshot, [*map(str, found), *plugins], cause)

    async def preview(self) -> ReloadReport:
        """Say what a reload would do; nothing is changed."""
        async with self._lock:
            try:
                snapshot, found = await self._read()
                plan = await self._around.registry.plan(
                    self._shelf.collated(self._around.registry.versions), snapshot.specs()
                )
            except RejectedConfigError as error:
                return ReloadReport(outcome="rejected", problems=_told(error.problems))
            await plan.discard()
            paths = self._shelf.changed(snapshot.plugin_files())
            faults = await self._around.examine([path for path in paths if path.exists()])
        lines = [*map(str, found), *(f"plugin file {_shown(path)} has changed" for path in paths)]
        known = [one for one in self._around.registry.faults if one.path not in paths]
        warnings = [*told(snapshot.stale), *map(_as_warning, [*known, *faults.values()])]
        warnings += await self._left_waiting(snapshot)
        outcome = "applied" if lines else "unchanged"
        return ReloadReport(outcome=outcome, changes=tuple(lines), warnings=tuple(warnings))

    async def renewed(self, connection: Connection) -> bool:
        """Say whether newer credentials than a connection's are in force, reading them anew.

        Args:
            connection: One whose credentials a provider did not know.
        """
        now_ms = self._around.clock.now_ms()
        asked_ms = self._asked_ms.get(connection.name)
        pause_ms = REREAD_PAUSE_S * 1000
        if not self._is_replaced(connection) and (
            asked_ms is None or not 0 <= now_ms - asked_ms < pause_ms
        ):
            self._asked_ms[connection.name] = now_ms
            await self.reload(f"the provider of {connection.name} did not know its credentials")
        return self._is_replaced(connection)

    def _is_replaced(self, connection: Connection) -> bool:
        current = self._around.registry.find(connection.name)
        return current is not None and current.spec.config != connection.spec.config

    async def _read(self) -> tuple[Snapshot, tuple[Change, ...]]:
        """Read the configuration, off the event loop.

        Raises:
            RejectedConfigError: It cannot be used, or not without a restart.
        """
        source = self._around.source
        self._tried = await anyio.to_thread.run_sync(source.load)
        vault = await self._around.vault(self._tried)
        snapshot = await anyio.to_thread.run_sync(
            source.resolve, self._tried, self._snapshot.resolved, vault
        )
        found = changes(self._snapshot.settings, snapshot.settings)
        problems = needing_restart(found)
        if problems:
            raise RejectedConfigError(str(source.file), problems)
        return snapshot, found

    async def _take(self, snapshot: Snapshot, *, again: bool) -> list[str]:
        """Let a configuration serve together with the plugin files as they are now.

        Returns:
            What plugins and secrets have changed, in words.

        Raises:
            RejectedConfigError: A connection cannot be made; nothing has changed.
        """
        around = self._around
        before, faults = around.registry.versions, around.registry.faults
        shelf = await self._shelf.read(
            snapshot.plugin_files(), around.clock, around.examine, again=again
        )
        self._known |= set(shelf.versions)
        try:
            plan = await around.registry.plan(shelf.collated(before), snapshot.specs())
        except RejectedConfigError:
            self._sweep()
            raise
        # From here to the end of the step nothing may wait: an attempt sees all of it or nothing.
        renewed = _renewed(self._snapshot, snapshot)
        self._shelf, self._snapshot = shelf, snapshot
        plan = dataclasses.replace(plan, faults=tuple(map(plain, plan.faults)))
        over = around.registry.commit(plan)
        around.take_over(snapshot)
        self._retire(over)
        moved = _moved(before, around.registry.versions)
        moved += [_refused(one) for one in around.registry.faults if one not in faults]
        for event in moved:
            around.bus.publish(event)
        return [*(_in_words(event) for event in moved), *renewed]

    def _applied(self, snapshot: Snapshot, lines: Sequence[str], cause: str) -> ReloadReport:
        was_rejected = self._status.state == "rejected"
        warnings = (
            *told(snapshot.stale),
            *map(_as_warning, self._around.registry.faults),
        )
        if not lines and not was_rejected:
            self._status = msgspec.structs.replace(self._status, warnings=told(snapshot.stale))
            return ReloadReport(outcome="unchanged", warnings=warnings)
        self._status = ConfigStatus(
            file=self._status.file,
            state="applied",
            applied_at_ms=self._around.clock.now_ms(),
            warnings=told(snapshot.stale),
        )
        self._around.bus.publish(ConfigMoved("applied", cause, tuple(lines)))
        return ReloadReport(outcome="applied", changes=tuple(lines), warnings=warnings)

    def _reject(self, found: Sequence[Problem], cause: str) -> ReloadReport:
        problems = _told(found)
        if problems != self._status.problems:
            self._status = msgspec.structs.replace(
                self._status,
                state="rejected",
                rejected_at_ms=self._around.clock.now_ms(),
                problems=problems,
            )
            words = tuple(f"{one.where}: {one.reason}" for one in problems)
            self._around.bus.publish(ConfigMoved("rejected", cause, words))
        return ReloadReport(outcome="rejected", problems=problems)

    async def _left_waiting(self, snapshot: Snapshot) -> list[ConfigProblem]:
        """Warn of connections that go away, or are switched off, while calls wait on them."""
        waiting = await self._around.waiting()
        serving = {name for name, one in snapshot.settings.connections.items() if one.enabled}
        return [
            ConfigProblem(
                f"connections.{one.name}",
                f"{waiting[one.name]} calls wait on it; they stay pending until it is back",
            )
            for one in self._around.registry.connections()
            if one.enabled and one.name not in serving and waiting.get(one.name)
        ]

    def _retire(self, connections: Sequence[Connection]) -> None:
        self._draining.update(connections)
        for connection in connections:
            if self._retiring is not None:
                self._retiring.start_soon(self._close, connection, name=f"retire {connection.name}")
        self._sweep()

    async def _close(self, connection: Connection) -> None:
        try:
            await connection.retire()
        except Exception:  # noqa: BLE001 - a plugin may raise anything; it is of no use any more
            self._log.warning("plugin_failed_to_close", connection=connection.name, exc_info=True)
        self._draining.discard(connection)
        self._sweep()

    def _sweep(self) -> None:
        """Let go of the plugin versions that nothing needs any more."""
        needed = {
            *self._shelf.versions,
            *self._around.registry.versions.values(),
            *(connection.plugin for connection in self._draining),
        }
        over = self._known - needed
        self._known &= needed
        for version in over:
            forget(version.provider)
        if over:
            # Classes refer to themselves, and by itself the collector would hardly ever come by.
            gc.collect()


def _renewed(before: Snapshot, after: Snapshot) -> list[str]:
    """Name the connections whose secrets have changed behind the same references."""
    return [
        f"connections.{name}: a secret was read anew"
        for name, one in after.resolved.items()
        if name in before.resolved
        and one.read.keys() <= before.resolved[name].read.keys()
        and any(before.resolved[name].read[text] != value for text, value in one.read.items())
    ]


def _moved(
    before: Mapping[str, PluginVersion], after: Mapping[str, PluginVersion]
) -> list[PluginMoved]:
    loaded = [
        PluginMoved("loaded", str(one.path), code, one.digest)
        for code, one in after.items()
        if before.get(code) is not one
    ]
    gone = [
        PluginMoved("gone", str(one.path), code, one.digest)
        for code, one in before.items()
        if code not in after
    ]
    return loaded + gone


def _refused(fault: PluginFault) -> PluginMoved:
    where = f"line {fault.line}: " if fault.line else ""
    return PluginMoved("rejected", str(fault.path), "", f"{where}{fault.reason}")


def _told(found: Sequence[Problem]) -> tuple[ConfigProblem, ...]:
    """Return problems that can be sent, whatever a plugin has put into them."""
    return told([Problem(plain_text(one.where), plain_text(one.reason)) for one in found])


def _shown(path: Path) -> str:
    return plain_text(str(path))


def _in_words(moved: PluginMoved) -> str:
    match moved.state:
        case "loaded":
            return f"plugin {moved.code}: {moved.path} loaded ({moved.told[:DIGEST_SHOWN]})"
        case "gone":
            return f"plugin {moved.code}: {moved.path} is gone"
        case _:
            return f"plugin file {moved.path} refused: {moved.told}"


def _as_warning(fault: PluginFault) -> ConfigProblem:
    where = f"{fault.path}:{fault.line}" if fault.line else str(fault.path)
    return ConfigProblem(where, fault.reason)
