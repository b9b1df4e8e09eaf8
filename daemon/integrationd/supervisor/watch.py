"""Watching files: whatever the configuration is made of, a change of it asks for a reload.

Directories are watched rather than files, since editors and deployments put a new file in the place
of the old one. A storm of edits is one reload: it begins when nothing has changed for a moment, and
what changes during it is seen by the next.
"""

import contextlib
import dataclasses
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import anyio
import structlog
import watchfiles

from integrationd.clock import Clock

QUIET_S = 0.15
LONGEST_STORM_S = 1.0
RETRY_S = 5.0
_STEP_MS = 50
# As many as the system follows.
_MOST_LINKS = 40
# The library gives up when it meets a name that is not UTF-8.
_UNREADABLE_NAME = "Unable to decode path"

_Failure = TypeVar("_Failure", bound=Exception)


class Watcher:
    """Asks for a reload when a watched file has changed.

    Args:
        clock: Measures how long nothing has changed.
        files: Returns the single files to watch; they need not exist.
        trees: Returns the directories to watch with everything below them.
        on_change: Called once for each storm of changes; whatever it raises ends the watching.
    """

    def __init__(
        self,
        clock: Clock,
        files: Callable[[], Iterable[Path]],
        trees: Callable[[], Iterable[Path]],
        on_change: Callable[[], Awaitable[object]],
    ) -> None:
        self._clock = clock
        self._files = files
        self._trees = trees
        self._on_change = on_change
        self._failed_at = -math.inf
        self._log = structlog.get_logger("integrationd.watch")

    async def run(self) -> None:
        """Watch for the daemon's life."""
        while True:
            await self._watch(self._watched())

    def _watched(self) -> "_Watched":
        trees = list(self._trees())
        # A directory that is not there yet, or is replaced, is seen from the one above it.
        files = _with_targets([*self._files(), *trees])
        parents = frozenset(file.parent for file in files if file.parent.is_dir())
        present = frozenset(tree for tree in trees if tree.is_dir())
        return _Watched(
            files=files,
            parents=parents,
            trees=present,
            identities=frozenset(_identity(place) for place in parents | present),
        )

    async def _watch(self, watched: "_Watched") -> None:
        """Watch until a change has led to other files or directories."""
        stop, storm = anyio.Event(), _Storm()
        # Whatever has changed while nobody was looking.
        storm.stir()
        async with anyio.create_task_group() as group:
            for places, recursive in ((watched.parents, False), (watched.trees, True)):
                if places:
                    group.start_soon(self._listen, places, recursive, watched, storm, stop)
            try:
                while self._watched() == watched:
                    await storm.begins()
                    await self._settle(storm)
                    await self._on_change()
            finally:
                # The library does not hear of a cancellation before its next look at the clock.
                stop.set()
                group.cancel_scope.cancel()

    async def _settle(self, storm: "_Storm") -> None:
        """Wait until nothing has changed for a moment, but not for ever."""
        until = self._clock.monotonic() + LONGEST_STORM_S
        while storm.goes_on() and self._clock.monotonic() < until:
            await self._clock.sleep(QUIET_S)

    async def _listen(
        self,
        places: Iterable[Path],
        recursive: bool,
        watched: "_Watched",
        storm: "_Storm",
        stop: anyio.Event,
    ) -> None:
        while not stop.is_set():
            try:
                async for _found in watchfiles.awatch(
                    *places,
                    watch_filter=lambda _change, path: watched.concerns(Path(path)),
                    debounce=_STEP_MS,
                    step=_STEP_MS,
                    stop_event=stop,
                    recursive=recursive,
                    ignore_permission_denied=True,
                ):
                    storm.stir()
            except* (OSError, RuntimeError) as failed:
                await self._clock.sleep(self._pause_s(failed))
            # Whatever has changed meanwhile.
            storm.stir()

    def _pause_s(self, failed: BaseExceptionGroup[OSError | RuntimeError]) -> float:
        """Say why watching has failed and return the seconds after which it is tried again."""
        reason = "; ".join(map(str, _leaves(failed)))
        before, self._failed_at = self._failed_at, self._clock.monotonic()
        if _UNREADABLE_NAME in reason and self._failed_at - before > RETRY_S:
            # Seldom, and only what was told together with that name is lost.
            return QUIET_S
        # For one, the system has no more watches to give; a signal still reloads.
        self._log.warning("cannot_watch", reason=reason, retry_s=RETRY_S)
        return RETRY_S


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """What is watched: single files, and directories with all plugin files below them.

    Attributes:
        files: The files; they need not exist.
        parents: The directories of the files that do.
        trees: The directories.
        identities: Which directories those are; another in the place of one is not watched yet.
    """

    files: frozenset[Path]
    parents: frozenset[Path]
    trees: frozenset[Path]
    identities: frozenset[tuple[Path, int, int]]

    def concerns(self, path: Path) -> bool:
        if path in self.files:
            return True
        # A directory that comes or goes may have taken plugin files with it.
        is_code = path.suffix in ("", ".py") and path.name != "__pycache__"
        return is_code and any(path.is_relative_to(tree) for tree in self.trees)


class _Storm:
    """Changes that nobody has looked at yet."""

    def __init__(self) -> None:
        self._stirred = anyio.Event()

    def stir(self) -> None:
        self._stirred.set()

    async def begins(self) -> None:
        await self._stirred.wait()

    def goes_on(self) -> bool:
        """Say whether anything has changed since this was last asked."""
        stirred, self._stirred = self._stirred.is_set(), anyio.Event()
        return stirred


def _leaves(failed: BaseExceptionGroup[_Failure]) -> Iterator[_Failure]:
    for error in failed.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _identity(place: Path) -> tuple[Path, int, int]:
    try:
        found = place.stat()
    except OSError:
        return place, 0, 0
    return place, found.st_dev, found.st_ino


def _with_targets(files: Iterable[Path]) -> frozenset[Path]:
    """Return files together with every link on the way to them, since any may be replaced."""
    found: set[Path] = set()
    for file in files:
        with contextlib.suppress(OSError, RuntimeError):
            found.update(_on_the_way(file.absolute()))
    return frozenset(found)


def _on_the_way(path: Path) -> Iterator[Path]:
    """Yield a path, the first link in it, and the same of where that leads to."""
    yield path
    for _ in range(_MOST_LINKS):
        link = next((one for one in (*reversed(path.parents), path) if one.is_symlink()), None)
        if link is None:
            return
        path = link.parent / link.readlink() / path.relative_to(link)
        yield from (link, path)
