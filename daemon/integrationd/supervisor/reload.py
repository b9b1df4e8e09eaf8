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
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskGroup

from integrationd.api.ports import ConfigProblem, ConfigStatus, ReloadReport
from integrationd.clock import Clock
from integrationd.errors import JournalError
from integrationd.events import Bus, ConfigMoved
from integrationd.registry import (
    Connection,
    Plan,
    Registry,
    Shelf,
    builtin_plugins,
)
from integrationd.registry.shelf import Examine, plain
from integrationd.sdk.plugin_file import forget
from integrationd.settings import Change as KeyChange
from integrationd.settings import (
    Problem,
    RejectedConfigError,
    SecretReader,
    Settings,
    changes,
    needing_restart,
)
from integrationd.supervisor.change import Change
from integrationd.supervisor.fed import Fed, place_of
from integrationd.supervisor.reload_words import (
    as_warning,
    in_words,
    moved_plugins,
    refused_plugin,
    renewed_secrets,
    shown_path,
    told_plainly,
)
from integrationd.supervisor.snapshot import Snapshot, Source, orphaned, told
from integrationd.supervisor.stored import Problems, Stored, plan_sparing

REREAD_PAUSE_S = 5.0

_Result = TypeVar("_Result")


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
        stored: Reads what was made over the API.
    """

    source: Source
    registry: Registry
    clock: Clock
    bus: Bus
    examine: Examine
    take_over: Callable[[Snapshot], None]
    waiting: Callable[[], Awaitable[Mapping[str, int]]]
    vault: Callable[[Settings], Awaitable[SecretReader]]
    stored: Callable[[], Awaitable[Stored]]


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
        self._tried = snapshot.own
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
            warnings=told(snapshot.warnings),
        )

    def watched_files(self) -> frozenset[Path]:
        """Return the files whose change may make a difference, also to what was refused last."""
        source = self._around.source
        return frozenset(
            {
                source.file,
                *source.secret_files(self._snapshot.own),
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

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        return self._snapshot

    def status(self) -> ConfigStatus:
        """Return which configuration is in force."""
        return self._status

    async def run(self) -> None:
        """Close what has been replaced, once its attempts have ended; for the daemon's life."""
        async with anyio.create_task_group() as group:
            self._retiring = group
            await anyio.sleep_forever()

    async def reload(
        self, cause: str, *, again: bool = True, by: str | None = None
    ) -> ReloadReport:
        """Read everything anew and take it over, or nothing of it.

        Args:
            cause: Why, for the log.
            again: Read plugin files at fault again too, although they have not changed.
            by: Who asked for it; None where nobody did.
        """
        async with self._lock:
            return await self._reload_surely(cause, by, again=again)

    async def reload_after(
        self, work: Callable[[], Awaitable[_Result]], cause: str
    ) -> tuple[_Result, ReloadReport]:
        """Have something done and take it over, before any other reload can.

        Raises:
            Exception: What the work raised; nothing is read then.
        """
        async with self._lock:
            done = await work()
            return done, await self._reload_surely(cause, None, again=False)

    async def _reload_surely(self, cause: str, by: str | None, *, again: bool) -> ReloadReport:
        try:
            return await self._reload(cause, by, again=again)
        except Exception as error:  # noqa: BLE001 - whatever it is, what serves goes on
            self._log.exception("reload_failed", cause=cause)
            reason = f"the reload failed unexpectedly: {type(error).__name__}; see the log"
            return self._reject([Problem(str(self._around.source.file), reason)], cause, by)

    async def _reload(self, cause: str, by: str | None, *, again: bool) -> ReloadReport:
        try:
            snapshot, found = await self._read()
            plugins = await self._take(snapshot, again=again)
        except RejectedConfigError as error:
            # Plugins change all the same, under the configuration in force.
            await self._take(self._snapshot, again=again)
            return self._reject(error.problems, cause, by)
        return self._applied([*map(str, found), *plugins], cause, by)

    async def preview(self) -> ReloadReport:
        """Say what a reload would do; nothing is changed."""
        async with self._lock:
            try:
                snapshot, found = await self._read()
                plan, left_out = await self._plan(snapshot, self._shelf)
            except RejectedConfigError as error:
                return ReloadReport(outcome="rejected", problems=told_plainly(error.problems))
            await plan.discard()
            snapshot = snapshot.without(left_out)
            paths = self._shelf.changed(snapshot.plugin_files())
            faults = await self._around.examine([path for path in paths if path.exists()])
        lines = [
            *map(str, found),
            *(f"plugin file {shown_path(path)} has changed" for path in paths),
        ]
        known = [one for one in self._around.registry.faults if one.path not in paths]
        warnings = [*told(snapshot.warnings), *map(as_warning, [*known, *faults.values()])]
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

    async def _read(self) -> tuple[Snapshot, tuple[KeyChange, ...]]:
        """Read the configuration, off the event loop.

        Raises:
            RejectedConfigError: It cannot be used, or not without a restart.
        """
        source, stored = self._around.source, await self._stored()
        self._tried = await anyio.to_thread.run_sync(source.load, stored)
        vault = await self._around.vault(source.joined(self._tried, stored))
        snapshot = await anyio.to_thread.run_sync(
            source.resolve, self._tried, stored, self._snapshot.resolved, vault
        )
        snapshot = dataclasses.replace(snapshot, fed=self._snapshot.fed)
        found = changes(self._snapshot.settings, snapshot.settings)
        problems = [*needing_restart(found), *orphaned(self._snapshot, snapshot)]
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
            plan, left_out = await self._plan(snapshot, shelf)
        except RejectedConfigError:
            self._sweep()
            raise
        renewed = renewed_secrets(self._snapshot, snapshot)
        self._shelf = shelf
        self._serve(snapshot.without(left_out), plan)
        moved = moved_plugins(before, around.registry.versions)
        moved += [refused_plugin(one) for one in around.registry.faults if one not in faults]
        for event in moved:
            around.bus.publish(event)
        return [*(in_words(event) for event in moved), *renewed]

    async def change(self, change: Change) -> None:
        """Take over what is made over the API, under the file as it is in force.

        Raises:
            RejectedConfigError: The connection that it is about cannot be made, or an id is in
                the file too; nothing has changed.
            IntegrationdError: It cannot be kept; nothing has changed.
        """
        async with self._lock:
            before = self._snapshot
            stored = Stored.of(change.directory(before.stored.directory))
            source = self._around.source
            reader = await self._around.vault(source.joined(before.own, stored))
            snapshot = await anyio.to_thread.run_sync(
                source.resolve, before.own, stored, before.resolved, change.reader(reader)
            )
            snapshot = dataclasses.replace(snapshot, fed=before.fed)
            plan, left_out = await self._plan(snapshot, self._shelf)
            snapshot = snapshot.without(left_out)
            # Whoever asked may have gone; what is kept is taken over all the same.
            with anyio.CancelScope(shield=True):
                try:
                    change.refuse_unmade(snapshot.left_out)
                    await change.keep()
                except BaseException:
                    await plan.discard()
                    raise
                self._serve(snapshot, plan)
            warnings = told(snapshot.warnings)
            self._status = msgspec.structs.replace(self._status, warnings=warnings)

    async def feed(self, fed: Mapping[str, Fed]) -> Problems:
        """Take over subscriptions; return what is wrong with those that cannot be told."""
        async with self._lock:
            snapshot = self._snapshot.feeding(fed)
            plan, left_out = await self._plan(snapshot, self._shelf)
            self._serve(snapshot.without(left_out), plan)
            return {name: told for name, told in left_out.items() if name in fed}

    async def _stored(self) -> Stored:
        """Read what was made over the API; while the journal cannot be read, what is in force."""
        try:
            return await self._around.stored()
        except JournalError:
            return self._snapshot.stored

    async def _plan(self, snapshot: Snapshot, shelf: Shelf) -> tuple[Plan, Problems]:
        registry = self._around.registry
        spared = {*snapshot.stored.made.connections, *snapshot.fed}
        return await plan_sparing(
            registry, shelf.collated(registry.versions), snapshot.specs(), spared
        )

    def _serve(self, snapshot: Snapshot, plan: Plan) -> None:
        """Let a configuration serve.

        Nothing in it may wait: an attempt sees all of it or nothing.
        """
        self._snapshot = snapshot
        plan = dataclasses.replace(plan, faults=tuple(map(plain, plan.faults)))
        over = self._around.registry.commit(plan)
        self._around.take_over(snapshot)
        self._retire(over)

    def _applied(self, lines: Sequence[str], cause: str, by: str | None) -> ReloadReport:
        was_rejected = self._status.state == "rejected"
        warnings = (
            *told(self._snapshot.warnings),
            *map(as_warning, self._around.registry.faults),
        )
        if not lines and not was_rejected:
            told_now = told(self._snapshot.warnings)
            self._status = msgspec.structs.replace(self._status, warnings=told_now)
            return ReloadReport(outcome="unchanged", warnings=warnings)
        self._status = ConfigStatus(
            file=self._status.file,
            state="applied",
            applied_at_ms=self._around.clock.now_ms(),
            warnings=told(self._snapshot.warnings),
        )
        self._around.bus.publish(ConfigMoved("applied", cause, tuple(lines), by))
        return ReloadReport(outcome="applied", changes=tuple(lines), warnings=warnings)

    def _reject(self, found: Sequence[Problem], cause: str, by: str | None) -> ReloadReport:
        problems = told_plainly(found)
        if problems != self._status.problems:
            self._status = msgspec.structs.replace(
                self._status,
                state="rejected",
                rejected_at_ms=self._around.clock.now_ms(),
                problems=problems,
            )
            words = tuple(f"{one.where}: {one.reason}" for one in problems)
            self._around.bus.publish(ConfigMoved("rejected", cause, words, by))
        return ReloadReport(outcome="rejected", problems=problems)

    async def _left_waiting(self, snapshot: Snapshot) -> list[ConfigProblem]:
        """Warn of connections that go away, or are switched off, while calls wait on them."""
        waiting = await self._around.waiting()
        serving = {name for name, one in snapshot.delivered.connections.items() if one.enabled}
        return [
            ConfigProblem(
                place_of(one.name),
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
