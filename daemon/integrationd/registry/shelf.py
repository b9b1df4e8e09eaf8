"""The plugin files as they were last read: what is good is kept until something better is read.

A shelf never changes; reading the files again makes another one, so that a configuration that is
rejected takes nothing with it.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import anyio.to_thread

from integrationd.clock import Clock
from integrationd.registry.loader import LoadedPlugins, PluginVersion, collated, load_plugin
from integrationd.sdk.plugin_file import PluginFault, PluginFileError, forget
from integrationd.sdk.plugin_source import read_plugin

Examine: TypeAlias = Callable[[Sequence[Path]], Awaitable[Mapping[Path, PluginFault]]]
"""Runs plugin files where they can do no harm and returns what is wrong with which."""

# A file may be replaced while it is tried; what has been tried must be what is run.
_READINGS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A file as it was last read.

    Attributes:
        digest: SHA-256 of its bytes, in hex; empty where it could not be read.
        version: The last good version of it, if there ever was one.
        fault: Why the file as it stands cannot be used.
    """

    digest: str
    version: PluginVersion | None
    fault: PluginFault | None


def is_plain(path: Path) -> bool:
    """Say whether a path is text; the name of a file may be any bytes."""
    return plain_text(str(path)) == str(path)


def plain(fault: PluginFault) -> PluginFault:
    """Return a fault that can be stored and sent, whatever the plugin has put into it."""
    path = Path(plain_text(str(fault.path)))
    return dataclasses.replace(fault, path=path, reason=plain_text(fault.reason))


def plain_text(text: str) -> str:
    """Return a text without halves of surrogate pairs, which can be in a str but in no file."""
    return text.encode(errors="backslashreplace").decode()


class Shelf:
    """The plugin files as they were read at one moment."""

    def __init__(self, entries: Mapping[Path, _Entry] = MappingProxyType({})) -> None:
        self._entries = entries

    @property
    def versions(self) -> tuple[PluginVersion, ...]:
        """The last good version of each file that has one."""
        return tuple(one.version for one in self._entries.values() if one.version is not None)

    def changed(self, paths: Iterable[Path]) -> tuple[Path, ...]:
        """Return the files that are new, are gone, or hold something else than when read."""
        paths = list(paths)
        gone = [path for path in self._entries if path not in paths]
        return (*(path for path in paths if not self._is_unchanged(path)), *gone)

    def _is_unchanged(self, path: Path) -> bool:
        known = self._entries.get(path)
        return known is not None and known.digest == _digest(path)

    async def read(
        self, paths: Sequence[Path], clock: Clock, examine: Examine, *, again: bool = False
    ) -> "Shelf":
        """Read the files that have changed, and return the shelf as it is then.

        Args:
            paths: All plugin files that there are now.
            clock: For when they were read.
            examine: Asked about the files that have changed, before they are run here.
            again: Read those at fault again too; what they need may have been mended elsewhere.
        """
        entries = {path: known for path, known in self._entries.items() if path in paths}
        left = [
            path
            for path in paths
            if not self._is_unchanged(path) or (again and self._entries[path].fault)
        ]
        for _ in range(_READINGS):
            digests = {path: _digest(path) for path in left}
            faults = await examine(left) if left else {}
            for path, digest in digests.items():
                self._drop(entries.get(path), path)
                entries[path] = await self._read_one(path, digest, clock, faults.get(path))
            left = [path for path in left if entries[path].digest != _digest(path)]
        return Shelf(MappingProxyType({path: entries[path] for path in paths}))

    def _drop(self, read: _Entry | None, path: Path) -> None:
        """Let go of what was read of a file that has been replaced since."""
        known = self._entries.get(path)
        version = read.version if read else None
        if version is not None and (known is None or version is not known.version):
            forget(version.provider)

    async def _read_one(
        self, path: Path, digest: str, clock: Clock, fault: PluginFault | None
    ) -> _Entry:
        known = self._entries.get(path)
        before = known.version if known else None
        if fault is not None:
            return _Entry(digest=digest, version=before, fault=fault)
        try:
            # In a thread, since what a plugin imports may take a while to load.
            version = await anyio.to_thread.run_sync(load_plugin, path, clock, digest)
        except PluginFileError as error:
            return _Entry(digest=digest, version=before, fault=plain(error.fault))
        return _Entry(digest=digest, version=version, fault=None)

    def collated(self, serving: Mapping[str, PluginVersion]) -> LoadedPlugins:
        """Choose one version for each code; of two files the one that serves already."""
        faults = [one.fault for one in self._entries.values() if one.fault is not None]
        return collated(self.versions, faults, serving)


def _digest(path: Path) -> str:
    # What has no name that can be told is not opened either: whoever watches would hear of that.
    if not is_plain(path):
        return ""
    try:
        return read_plugin(path).digest
    except PluginFileError:
        return ""
