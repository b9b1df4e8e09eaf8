"""A provider on loopback whose paths name the trouble that they make."""

import asyncio
import contextlib
import email.utils
import json
from collections import Counter
from collections.abc import AsyncIterator

from tests.sdk.scripted_server import Peer, Received, ScriptedServer, serving

from integrationd.clock import SystemClock

STATUSES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


class Provider:
    """What a running provider saw; the first word of a path says what it does.

    ``/ok``, ``/400``, ``/404``, ``/500`` answer so; ``/429-seconds``, ``/429-date`` and
    ``/flaky`` (a 500) do it once for each path and are fine afterwards; ``/cut`` breaks its reply
    off, ``/silent`` gives none, ``/slow`` takes its time, ``/echo`` sends back what it got.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.url = server.url

    def requests(self, path: str) -> list[Received]:
        """Return the requests for a path, in their order."""
        return [one for one in self._server.requests if one.target == path]


def reply(status: int, body: bytes = b'{"ok":true}', **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {STATUSES[status]}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@contextlib.asynccontextmanager
async def providing(slow_s: float = 1.5) -> AsyncIterator[Provider]:
    """Run a provider."""
    seen: Counter[str] = Counter()

    async def talk(peer: Peer) -> None:
        while True:
            request = await peer.request()
            seen[request.target] += 1
            trouble = request.target.split("/")[1]
            if not await _answer(peer, request, trouble, seen[request.target], slow_s):
                return

    async with serving(talk) as server:
        yield Provider(server)


async def _answer(peer: Peer, request: Received, trouble: str, number: int, slow_s: float) -> bool:
    """Make the trouble; return whether the connection stays."""
    match trouble:
        case "cut":
            await peer.send(reply(200, b'{"ok":true}'.ljust(400))[:150])
            return False
        case "silent":
            await asyncio.sleep(60)
        case "slow":
            await asyncio.sleep(slow_s)
            await peer.send(reply(200))
        case "echo":
            await peer.send(reply(*_echo(request)))
        case _:
            await peer.send(_status(trouble, number))
    return True


def _echo(request: Received) -> tuple[int, bytes]:
    shown = json.dumps({"key": request.headers.get("x-api-key"), "body": request.body.decode()})
    return int(request.target.split("/")[2]), shown.encode()


def _status(trouble: str, number: int) -> bytes:
    if trouble == "429-seconds" and number == 1:
        return reply(429, Retry_After="1")
    if trouble == "429-date" and number == 1:
        at = SystemClock().now_ms() / 1000 + 2
        return reply(429, Retry_After=email.utils.formatdate(at, usegmt=True))
    if trouble == "flaky" and number == 1:
        return reply(500)
    return reply(int(trouble) if trouble.isdigit() else 200)
