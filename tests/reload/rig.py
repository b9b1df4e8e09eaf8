"""A running daemon whose configuration and plugins a test changes under it."""

import asyncio
import contextlib
import json
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from tests.faults.daemon import DaemonProcess

from integrationd.journal import sqlite

WITHIN_S = 15.0
# Most looks are calls, which the machine is to have time for besides.
POLL_S = 0.06

_Found = TypeVar("_Found")

ECHO = '''\
import anyio

from integrationd.sdk import *


class Note(Request, frozen=True):
    """What to send."""

    takes_s: float = 0.0


class Echoed(Result, frozen=True):
    """Which version has sent it."""

    colour: str = ""


class Echo(Provider):
    """Says which version of it has served a call."""

    code = "CODE"

    class Config(ProviderConfig):
        key: str = ""

    @operation(
        "CODE.send",
        repeat_safe=False,
        contract=Contract(operation="CODE.send", request=Note, result=Echoed),
    )
    async def send(self, request, ctx):
        await anyio.sleep(request.takes_s)
        return Delivered(result={"colour": "COLOUR"})
'''


def echo(colour: str, code: str = "echo") -> str:
    """Return a plugin whose results say its colour."""
    return ECHO.replace("CODE", code).replace("COLOUR", colour)


def put(path: Path, content: str | bytes) -> Path:
    """Write a file in one step, so that nobody sees half of it."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return beside.replace(path)


class Rig:
    """A daemon in a directory of its own, with a directory of plugins.

    Args:
        directory: Of a short path.
        tables: What its configuration has besides ``[api]``, ``[journal]`` and ``[plugins]``.
        plugins: Whether ``[plugins]`` names the directory from the start.
        anew: Whether the daemon has an interpreter of its own.
    """

    def __init__(
        self, directory: Path, tables: str = "", *, plugins: bool = True, anew: bool = False
    ) -> None:
        self.directory = directory
        self.plugins = directory / "plugins"
        self.plugins.mkdir()
        self._named = '[plugins]\npaths = ["plugins"]\n' if plugins else ""
        self.daemon = DaemonProcess(directory, "", anew=anew)
        self.config = directory / "integrationd.toml"
        self._places = self.config.read_text()
        self.configure(tables)
        self.client: httpx2.AsyncClient

    def configure(self, tables: str) -> None:
        """Put another configuration in place."""
        put(self.config, self.text(tables))

    def text(self, tables: str) -> str:
        """Return a whole configuration."""
        return f"{self._places}{self._named}{tables}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        process = self.daemon._process
        assert process is not None
        process.send_signal(number)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        process = self.daemon._process
        assert process is not None
        return process.pid

    def log(self) -> str:
        """Return everything that the daemon has written."""
        return self.daemon.log_file.read_text("utf-8", "replace")

    async def get(self, path: str) -> Any:
        """Return what a path says."""
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def config_state(self) -> str:
        """Return ``applied`` or ``rejected``."""
        return str((await self.get("/v1/config"))["state"])

    async def problems(self) -> str:
        """Return why the configuration was refused, as one text."""
        found = (await self.get("/v1/config"))["problems"]
        return "\n".join(f"{one['where']}: {one['reason']}" for one in found)

    async def faults(self) -> dict[str, str]:
        """Return the plugin files of the directory at fault, by their names."""
        listed = (await self.get("/v1/providers"))["faults"]
        return {
            Path(one["path"]).name: f"{one['line'] or ''}: {one['reason']}"
            for one in listed
            if Path(one["path"]).is_relative_to(self.plugins)
        }

    async def loaded_from(self) -> str:
        """Return the name of the file that the echo plugin is loaded from."""
        listed = (await self.get("/v1/providers"))["items"]
        return next((Path(one["path"]).name for one in listed if one["code"] == "echo"), "")

    async def codes(self) -> set[str]:
        """Return the codes of what is loaded."""
        return {one["code"] for one in (await self.get("/v1/providers"))["items"]}

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of the events of a type, the oldest first."""
        db = sqlite.connect(self.daemon.journal, read_only=True)
        try:
            rows = db.execute("SELECT data FROM event WHERE type = ? ORDER BY seq", (kind,))
            return [json.loads(data) for (data,) in rows.fetchall()]
        finally:
            db.close()

    async def metric(self, start: str) -> float:
        """Return the sum of the metrics whose lines begin so."""
        text = (await self.client.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(start)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def reload(self) -> dict[str, Any]:
        """Ask for a reload and return the report, or the problem."""
        told: dict[str, Any] = (await self.client.post("/v1/config/reload")).json()
        return told

    async def send(
        self,
        operation: str = "echo.send",
        *,
        connection: str | None = None,
        wait_s: int = 10,
        **payload: Any,
    ) -> Any:
        """Have a call made and return it as it is then."""
        answer = await self.client.post(
            "/v1/calls",
            json={"operation": operation, "payload": payload, "connection": connection},
            headers={"Prefer": f"wait={wait_s}"},
        )
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    async def colour(self) -> str:
        """Return the colour of the version that serves."""
        call = await self.send()
        assert call["state"] == "completed", call
        return str(call["result"]["colour"])

    async def until(
        self, look: Callable[[], Awaitable[_Found]], wanted: Any, within_s: float = WITHIN_S
    ) -> _Found:
        """Look again and again until what is seen is, or fulfils, what is wanted.

        Raises:
            AssertionError: It does not come to that in time.
        """
        end = time.monotonic() + within_s
        while True:
            seen = await look()
            if wanted(seen) if callable(wanted) else seen == wanted:
                return seen
            if time.monotonic() > end:
                raise AssertionError(f"{seen!r} after {within_s} s\n{self.daemon.output()}")
            await asyncio.sleep(POLL_S)


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Make a directory whose path leaves room for a socket's name."""
    path = Path(tempfile.mkdtemp(prefix="idrl"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """Start the daemon, and see at the end that it stops as it should."""
    with rig.daemon:
        rig.daemon.start()
        await asyncio.to_thread(rig.daemon.wait_ready)
        async with rig.daemon.client() as rig.client:
            yield rig
        assert await asyncio.to_thread(rig.daemon.stop) == 0, rig.daemon.output()
        assert "Traceback" not in rig.log(), rig.log()[-4000:]


class Flow:
    """Calls that are made without pause while things change.

    Args:
        rig: The running daemon.
        operation: What is asked for.
        connection: Through which connection.

    Attributes:
        made: How many have been accepted.
        colours: Which versions have served them.
        wrong: Answers and ends that a change must not cause.
    """

    def __init__(self, rig: Rig, operation: str = "echo.send", connection: str = "echo") -> None:
        self._rig = rig
        self._operation = operation
        self._connection = connection
        self._stopping = False
        self.made = 0
        self.colours: set[str] = set()
        self.wrong: list[str] = []

    @contextlib.asynccontextmanager
    async def flowing(self, clients: int = 2, pause_s: float = 0.01) -> AsyncIterator["Flow"]:
        """Have clients call until the end of the context."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._call(pause_s))
            try:
                yield self
            finally:
                self._stopping = True

    async def _call(self, pause_s: float) -> None:
        while not self._stopping:
            try:
                call = await self._rig.send(self._operation, connection=self._connection)
            except (AssertionError, httpx2.HTTPError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}"[:500])
            else:
                self.made += 1
                if call["state"] == "completed":
                    self.colours.add(call["result"].get("colour", ""))
                else:
                    self.wrong.append(str(call)[:500])
            await asyncio.sleep(pause_s)
