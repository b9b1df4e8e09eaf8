"""The directory of tenants and connections for a daemon in the tests' own process."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from integrationd.clock import Clock
from integrationd.delivery.routing import Routing
from integrationd.events import Bus
from integrationd.journal import Journal
from integrationd.registry import LoadedPlugins, PluginVersion, Registry, Shelf
from integrationd.sdk.plugin_file import PluginFault
from integrationd.settings import ResolvedConfig, Settings
from integrationd.supervisor.live_directory import LiveDirectory
from integrationd.supervisor.reload import Around, Reloader
from integrationd.supervisor.secrets import Vault
from integrationd.supervisor.snapshot import Snapshot, Source
from integrationd.supervisor.stored import Stored


class Loaded(Shelf):
    """A shelf whose files are never read again."""

    def __init__(self, plugins: LoadedPlugins) -> None:
        super().__init__()
        self._plugins = plugins

    def collated(self, serving: Mapping[str, PluginVersion]) -> LoadedPlugins:
        return self._plugins


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtHand:
    """What the directory works with."""

    place: Path
    settings: Settings
    plugins: LoadedPlugins
    registry: Registry
    journal: Journal
    vault: Vault
    routing: Routing
    bus: Bus
    clock: Clock


async def _unexamined(_paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
    return {}


def live_directory(
    parts: AtHand, take_over: Callable[[Snapshot], None]
) -> tuple[LiveDirectory, Reloader]:
    """Make the directory, and what plans its changes."""
    file = parts.place / "integrationd.toml"

    async def stored() -> Stored:
        return Stored.of(await parts.journal.directory.read())

    around = Around(
        source=Source(file, {}),
        registry=parts.registry,
        clock=parts.clock,
        bus=parts.bus,
        examine=_unexamined,
        take_over=take_over,
        waiting=parts.journal.ledger.open_calls,
        vault=parts.vault.reader,
        stored=stored,
    )
    snapshot = Snapshot(
        settings=parts.settings,
        resolved={
            name: ResolvedConfig(values=one.config, read={}, origins={})
            for name, one in parts.settings.connections.items()
        },
        own=parts.settings,
    )
    reloader = Reloader(around, snapshot, Loaded(parts.plugins))
    directory = LiveDirectory(
        parts.journal, reloader, parts.registry, parts.vault, parts.routing, parts.clock
    )
    return directory, reloader
