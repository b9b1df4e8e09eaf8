"""What reads a stream of events under load, and what makes the load."""

import contextlib
from collections.abc import AsyncIterator

import anyio
import httpx2
from tests.faults.daemon import DaemonProcess
from tests.sse import streaming

SMS = {"to": "+254711000111", "message": "Ready"}
PAUSE_S = 0.05
_LOST = (httpx2.HTTPError, ValueError, AssertionError)


class Reader:
    """A reader that is killed again and again, and remembers only the last number that it saw.

    Args:
        daemon: Whose events.
        cursor: Where it begins.

    Attributes:
        seen: The numbers, in the order in which they came.
        connections: How often it connected.
    """

    def __init__(self, daemon: DaemonProcess, cursor: str) -> None:
        self._daemon = daemon
        self._cursor = cursor
        self.seen: list[int] = []
        self.connections = 0

    async def take(self, count: int) -> None:
        """Read so many events more, over as many connections as it takes; then hang up."""
        wanted = len(self.seen) + count
        while len(self.seen) < wanted:
            with contextlib.suppress(httpx2.HTTPError):
                await self._read(wanted)
            await anyio.sleep(PAUSE_S)

    async def take_to(self, number: int) -> None:
        """Read up to a number."""
        while not self.seen or self.seen[-1] < number:
            await self.take(1)

    async def _read(self, wanted: int) -> None:
        headers = {"Last-Event-ID": self._cursor}
        async with self._daemon.client() as client, streaming(client, "", headers) as stream:
            if stream.response.status_code != 200:
                return
            self.connections += 1
            async for event in stream.events():
                self.seen.append(event["seq"])
                self._cursor = str(event["seq"])
                if len(self.seen) >= wanted:
                    return


class Loader:
    """Submits calls and publishes events, whether the daemon is there or not.

    Attributes:
        published: How many events were acknowledged, by number.
    """

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self.published: list[int] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Loader"]:
        """Work beside a test."""
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(self._work)
            yield self
            group.cancel_scope.cancel()

    async def end(self) -> int:
        """Return the last number of the log."""
        async with self._daemon.client() as client:
            page = (await client.get("/v1/events", params={"last": "0"})).json()
        return int(page["next"])

    async def _work(self) -> None:
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                async with self._daemon.client() as client:
                    await self._submit(client)
            await anyio.sleep(PAUSE_S)

    async def _submit(self, client: httpx2.AsyncClient) -> None:
        while True:
            await client.post("/v1/sms/send", json=SMS)
            answer = await client.post("/v1/events", json={"type": "load.made"})
            if answer.status_code == 201:
                self.published.append(answer.json()["seq"])
