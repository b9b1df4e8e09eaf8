"""The trial of plugin files: before the daemon runs a file it is run where it can do no harm."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.from_thread
import anyio.to_thread

from integrationd.clock import Clock
from integrationd.registry.examination import LIMIT_S, Examination, examine
from integrationd.registry.shelf import Examine
from integrationd.sdk.plugin_file import PluginFault


class Trial:
    """Examines plugin files for a shelf.

    Args:
        clock: Measures how long a file takes.
        limit_s: Seconds that a file may take to be imported.
    """

    def __init__(self, clock: Clock, limit_s: float = LIMIT_S) -> None:
        self._clock = clock
        self._limit_s = limit_s

    async def examine(self, paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
        """Run files one by one, each in a process of its own, and return what is wrong with which.

        The event loop goes on meanwhile. Cancelling it ends the process that is under way.
        """
        faults: dict[Path, PluginFault] = {}
        for path in paths:
            found = await anyio.to_thread.run_sync(self._examine, path)
            if found.problems:
                first = found.problems[0]
                faults[path] = PluginFault(path=path, line=first.line, reason=first.reason)
        return faults

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
