"""The trial of plugin files: before the daemon runs a file it is run where it can do no harm."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread

from integrationd.clock import Clock
from integrationd.registry.examination import LIMIT_S, Examination, examine
from integrationd.registry.plugin_reading import Remark
from integrationd.registry.shelf import Examine, is_plain, plain
from integrationd.sdk.plugin_file import PluginFault

# Enough for a quick start with many files, and no more than a small machine can bear.
AT_ONCE = 2


class Trial:
    """Examines plugin files for a shelf.

    Args:
        clock: Measures how long a file takes.
        limit_s: Seconds that a file may take to be imported.
    """

    def __init__(self, clock: Clock, limit_s: float = LIMIT_S) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._at_once = anyio.Semaphore(AT_ONCE)

    async def examine(self, paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
        """Run files, each in a process of its own, and return what is wrong with which.

        The event loop goes on meanwhile. Cancelling it ends the processes that are under way.
        """
        problems: dict[Path, Remark] = {}
        async with anyio.create_task_group() as group:
            for path in paths:
                group.start_soon(self._try, path, problems)
        return {
            path: plain(PluginFault(path=path, line=one.line, reason=one.reason))
            for path, one in problems.items()
        }

    async def _try(self, path: Path, problems: dict[Path, Remark]) -> None:
        if not is_plain(path):
            problems[path] = Remark(None, "its name is not UTF-8; rename it")
            return
        async with self._at_once:
            found = await anyio.to_thread.run_sync(self._examine, path)
        if found.problems:
            problems[path] = found.problems[0]

    def _examine(self, path: Path) -> Examination:
        return examine(
            path,
            self._clock,
            limit_s=self._limit_s,
            go_on=anyio.from_thread.check_cancelled,
        )

    def sparing(self, place: Path) -> Examine:
        """Return an examination that trusts what lies in a directory."""

        async def examine_others(paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
            return await self.examine([path for path in paths if not path.is_relative_to(place)])

        return examine_others
