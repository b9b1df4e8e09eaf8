"""A daemon whose machine loses its link, inside a network namespace of its own; run by the test.

Every address there is of this machine (``local 0.0.0.0/0 dev lo``) until that route is taken away;
then the kernel knows no way to anybody, as it is without a link. Prints what was seen as JSON.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
from tests.faults.daemon import DaemonProcess

ROUTE = "local 0.0.0.0/0 dev lo"
PROVIDERS = {"one": "93.184.216.34", "two": "93.184.216.35"}
CALLS = 60
SOON_S = 30.0
TABLES = """
[delivery]
backoff_first = "100ms"
give_up_after = "1h"

[connections.one]
provider = "http"
concurrency = 32
config = { base_url = "http://93.184.216.34", idempotency = "none" }

[connections.two]
provider = "http"
config = { base_url = "http://93.184.216.35" }
"""


class Providers:
    """Answers on every address and counts what each was asked, by its body."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.first_at: float | None = None

    async def start(self) -> None:
        """Listen."""
        await asyncio.start_server(self._serve, "0.0.0.0", 80)  # noqa: S104 - in a namespace

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            length = next(int(one[15:]) for one in lines if one.startswith("content-length:"))
            self.asked[(await reader.readexactly(length)).decode()] += 1
            self.first_at = self.first_at or time.monotonic()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # Somebody only looked whether this can be reached.
        finally:
            writer.close()


class Story:
    """What happens to the daemon, and what it says of it."""

    def __init__(self, daemon: DaemonProcess, providers: Providers) -> None:
        self._daemon = daemon
        self._providers = providers
        self._seen: dict[str, Any] = {}

    async def tell(self) -> dict[str, Any]:
        """Take the link away, kill the daemon meanwhile, and bring the link back."""
        await self._start()
        self._seen["before"] = await self._link()
        ip(f"route del {ROUTE}")
        await self._send("during", CALLS)
        await self._until_down()
        await asyncio.sleep(3)
        self._seen["outage"] = await self._look()
        self._daemon.kill()
        await self._start()
        await asyncio.sleep(3)
        self._seen["after_kill"] = await self._look()
        ip(f"route add {ROUTE}")
        back_at = time.monotonic()
        await self._until_done()
        self._seen["first_s"] = (self._providers.first_at or 0) - back_at
        self._seen["end"] = await self._look()
        self._seen["asked"] = self._providers.asked
        self._seen["events"] = await self._events()
        return self._seen

    async def _start(self) -> None:
        self._daemon.start()
        await asyncio.to_thread(self._daemon.wait_ready)

    async def _get(self, path: str, **query: str) -> Any:
        async with self._daemon.client() as client:
            answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def _send(self, name: str, count: int) -> None:
        calls = [
            {
                "operation": "http.request",
                "connection": tuple(PROVIDERS)[number % 2],
                "payload": {"method": "POST", "path": "/", "text": f"{name}-{number}"},
            }
            for number in range(count)
        ]
        async with self._daemon.client() as client:
            answer = await client.post("/v1/calls/batch", json={"calls": calls})
        assert answer.status_code == 202, answer.text

    async def _link(self) -> str:
        state: str = (await self._get("/v1/status"))["link"]["state"]
        return state

    async def _look(self) -> dict[str, Any]:
        status = await self._get("/v1/status")
        calls = (await self._get("/v1/calls", limit="100"))["items"]
        (any_call,) = (await self._get("/v1/calls", limit="1"))["items"]
        return {
            "link": status["link"]["state"],
            "why": status["link"]["why"],
            "problems": status["problems"],
            "breakers": sorted({one["breaker"] for one in status["connections"]}),
            "states": Counter(one["state"] for one in calls),
            "spent": sum(one["attempts"] for one in calls),
            "told": (await self._get(f"/v1/calls/{any_call['id']}")).get("why"),
        }

    async def _until_down(self) -> None:
        async with asyncio.timeout(SOON_S):
            while await self._link() != "down":
                await asyncio.sleep(0.1)

    async def _until_done(self) -> None:
        async with asyncio.timeout(SOON_S):
            while (await self._get("/v1/ledger"))["total"]["completed"] < CALLS:
                await asyncio.sleep(0.1)

    async def _events(self) -> list[str]:
        page = await self._get("/v1/events", limit="500")
        kinds = ("link.", "breaker.", "call.failed", "call.unknown", "call.expired")
        return [one["type"] for one in page["items"] if one["type"].startswith(kinds)]


def ip(command: str) -> None:
    """Change the namespace."""
    subprocess.run(["ip", *command.split()], check=True)


async def main(directory: Path) -> dict[str, Any]:
    """Play the story and return what was seen."""
    providers = Providers()
    await providers.start()
    with DaemonProcess(directory, TABLES) as daemon:
        try:
            seen = await Story(daemon, providers).tell()
        except (httpx2.HTTPError, TimeoutError, AssertionError) as error:
            raise AssertionError(f"{error!r}: {daemon.output()}") from error
        seen["stopped"] = await asyncio.to_thread(daemon.stop)
    return seen


if __name__ == "__main__":
    ip("link set lo up")
    ip(f"route add {ROUTE}")
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
