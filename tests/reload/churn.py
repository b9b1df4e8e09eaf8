"""A daemon whose plugins and configuration change all the time while half of its providers fail."""

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.reload.rig import Rig, put

GOOD = ("echo", "ping")
FAILING = {
    "refuser": "return Retryable(reason='out_of_order')",
    "hanger": "await anyio.sleep(3600)",
}
CODES = (*GOOD, *FAILING)
EVERY_NTH_IS_BROKEN = 3
SUBMIT_PAUSE_S = 0.1
BATCH = 250
# So large that versions which are not let go of would show; a mapping, since that is given back at
# once, while the allocator may keep for itself what was free between two other things.
BALLAST_BYTES = 2 << 20

_PLUGIN = '''\
import mmap
from pathlib import Path

import anyio

from integrationd.sdk import *

BALLAST = mmap.mmap(-1, BYTES)
while BALLAST.tell() < BYTES:
    BALLAST.write(b"x" * mmap.PAGESIZE)


class Note(Request, frozen=True):
    """What to send."""


class Echoed(Result, frozen=True):
    """Which version has sent it, under which configuration."""

    colour: str = ""


class Changing(Provider):
    """Says which version of it has served a call, and what it was configured with."""

    code = "CODE"

    class Config(ProviderConfig):
        mark: str = ""

    @operation(
        "CODE.send",
        repeat_safe=True,
        contract=Contract(operation="CODE.send", request=Note, result=Echoed),
    )
    async def send(self, request, ctx):
        if Path("OUTAGE").exists():
            MISHAP
        await anyio.sleep(0.01)
        return Delivered(result={"colour": f"COLOUR {self.config.mark}"})
'''
_DELIVERY = """\
[delivery]
attempts = 1000
backoff_first = "100ms"
backoff_cap = "2s"
[delivery.breaker]
open_for = "1s"
"""
_BROKEN_CONFIGS = (
    "[connections.broken",
    '[connections.broken]\nprovider = "nobody"\n',
    "[nonsense]\n",
    '[connections.broken]\nprovider = "echo"\nconfig = { colour = 1 }\n',
    '[connections.broken]\nprovider = "echo"\nconfig = { mark = "env:NOT_SET_ANYWHERE" }\n',
    '[connections.broken]\nprovider = "echo"\nconcurrency = 0\n',
)


@dataclasses.dataclass(slots=True)
class Counts:
    """What was done and seen.

    Attributes:
        swaps: Plugin files that were replaced.
        edits: Configurations that were replaced.
        broken: How many of both could not be used, and were refused in words.
        failing: Calls that were accepted for the providers that fail.
        others: Calls that were accepted besides, but for those that flow.
    """

    swaps: int = 0
    edits: int = 0
    broken: int = 0
    failing: int = 0
    others: int = 0


class Churn:
    """Changes a daemon without pause and watches that each change comes to what it must.

    Args:
        directory: Of a short path.
    """

    def __init__(self, directory: Path) -> None:
        self._outage = directory / "outage"
        self._numbers = itertools.count()
        self._colours: dict[str, str] = {}
        self._mark = "first"
        # Its memory is measured, and is not to be another process's.
        self.rig = Rig(directory, self._tables(self._mark), anew=True)
        self.counts = Counts()
        for code in CODES:
            self._colours[code] = "start"
            put(self._file(code), self._plugin(code, "start"))
        self._outage.touch()

    def mend_providers(self) -> None:
        """Let the failing half of the providers work from now on."""
        self._outage.unlink()

    async def swap(self, times: int) -> None:
        """Replace plugin files one after the other, every third one by a broken one."""
        for number, code in zip(range(times), itertools.cycle(CODES), strict=False):
            colour = f"v{next(self._numbers)}"
            good = self._plugin(code, colour)
            if number % EVERY_NTH_IS_BROKEN == EVERY_NTH_IS_BROKEN - 1:
                broken = _broken_plugins(good)
                await self._break(code, broken[number // EVERY_NTH_IS_BROKEN % len(broken)])
            else:
                await self._replace(code, good)
                self._colours[code] = colour
            self.counts.swaps += 1
            await self._check_rule()

    async def _break(self, code: str, text: str) -> None:
        path = self._file(code)

        async def told() -> list[str]:
            events = await self.rig.events("plugin.rejected")
            return [one["told"] for one in events if one["path"] == str(path)]

        before = len(await told())
        put(path, text)
        found = await self.rig.until(told, lambda found: len(found) > before)
        assert found[-1]
        self.counts.broken += 1

    async def _replace(self, code: str, text: str) -> None:
        async def loaded() -> str:
            events = await self.rig.events("plugin.loaded")
            return next((one["told"] for one in events[::-1] if one["plugin"] == code), "")

        put(self._file(code), text)
        await self.rig.until(loaded, _digest(text))

    async def edit(self, times: int) -> None:
        """Replace the configuration again and again, every third time by a broken one."""
        broken = itertools.cycle(_BROKEN_CONFIGS)
        for number in range(times):
            mark = f"m{next(self._numbers)}"
            if number % EVERY_NTH_IS_BROKEN == EVERY_NTH_IS_BROKEN - 1:
                self.rig.configure(self._tables(mark) + next(broken))
                await self.rig.until(self.rig.config_state, "rejected")
                assert await self.rig.problems()
                self.counts.broken += 1
            else:
                self.rig.configure(self._tables(mark))
                self._mark = mark
                await self.rig.until(self._served_mark, mark)
            self.counts.edits += 1

    @contextlib.asynccontextmanager
    async def submitting(self) -> AsyncIterator[None]:
        """Have calls accepted for the providers that fail, until the end of the context."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit(over))
            try:
                yield
            finally:
                over.set()

    async def warm_up(self, calls: int) -> None:
        """Have many calls made, so that the caches of the journal are as full as they get."""
        batch = [{"operation": "ping.send", "payload": {}, "connection": "ping"}] * BATCH
        for _ in range(0, calls, BATCH):
            answer = await self.rig.client.post("/v1/calls/batch", json={"calls": batch})
            assert answer.status_code == 202, answer.text
            self.counts.others += BATCH

    async def _submit(self, over: asyncio.Event) -> None:
        for code in itertools.cycle(FAILING):
            if over.is_set():
                return
            body = {"operation": f"{code}.send", "payload": {}, "connection": code}
            answer = await self.rig.client.post("/v1/calls", json=body)
            assert answer.status_code == 202, answer.text
            self.counts.failing += 1
            await asyncio.sleep(SUBMIT_PAUSE_S)

    async def _check_rule(self) -> None:
        """See that the last good version of each good provider serves."""
        for code in GOOD:
            colour = (await self.served(code)).partition(" ")[0]
            assert colour == self._colours[code], code

    async def served(self, code: str) -> str:
        """Return the version and the configuration that a call was served by."""
        call = await self.rig.send(f"{code}.send", connection=code)
        self.counts.others += 1
        assert call["state"] == "completed", call
        return str(call["result"]["colour"])

    def ruling(self, code: str) -> str:
        """Return the version and the configuration that a call must be served by."""
        return f"{self._colours[code]} {self._mark}"

    async def _served_mark(self) -> str:
        return (await self.served("echo")).partition(" ")[2]

    def _file(self, code: str) -> Path:
        return self.rig.plugins / f"{code}.py"

    def _plugin(self, code: str, colour: str) -> str:
        text = _PLUGIN.replace("CODE", code).replace("COLOUR", colour)
        text = text.replace("MISHAP", FAILING.get(code, "pass"))
        return text.replace("OUTAGE", str(self._outage)).replace("BYTES", str(BALLAST_BYTES))

    def _tables(self, mark: str) -> str:
        return _DELIVERY + "".join(_connections(mark))


def _connections(mark: str) -> Iterator[str]:
    for code in CODES:
        yield f'[connections.{code}]\nprovider = "{code}"\ntimeout = "1s"\n'
        yield f'config = {{ mark = "{mark}" }}\n'
    # Every other configuration has one more, so that one comes or goes as well.
    if sum(mark.encode()) % 2:
        yield '[connections.more]\nprovider = "echo"\n'


def _broken_plugins(good: str) -> tuple[str, ...]:
    """Return what a good plugin may be spoiled to."""
    return (
        f"x = (\n{good}",
        f"raise RuntimeError('not today')\n{good}",
        f"import os\nos._exit(3)\n{good}",
        f"import json\njson.loads = None\n{good}",
        good[: len(good) // 2],
        good.replace("async def send(self, request, ctx)", "async def send(self)"),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def settled_rss_bytes(pid: int, at_most: int, within_s: float) -> int:
    """Return the memory that a process holds once it is at most so much, or when time is up."""
    end = time.monotonic() + within_s
    while (held := rss_bytes(pid)) > at_most and time.monotonic() < end:
        await asyncio.sleep(0.5)
    return held


def rss_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
