"""The provider's side: a server that answers at once and counts; a process of its own.

A POST is a delivery. ``GET`` tells how many came and when the last one did, by the monotonic
clock, which all processes of a machine share.
"""

import asyncio
import http.client
import json
import time
from typing import Any, cast

import uvloop

_REPLY = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 15 Jan 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b'Content-Length: 11\r\n\r\n{"ok":true}'
)


class Tally:
    """What has been delivered."""

    def __init__(self) -> None:
        self.count = 0
        self.last_s = 0.0


class _Answerer(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while (head_bytes := self._waiting.find(b"\r\n\r\n") + 4) >= 4:
            head = self._waiting[:head_bytes].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
            if len(self._waiting) < head_bytes + length:
                return
            self._waiting = self._waiting[head_bytes + length :]
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        if head.startswith(b"get"):
            told = json.dumps({"count": self._tally.count, "last_s": self._tally.last_s}).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told)
        self._tally.count += 1
        self._tally.last_s = time.monotonic()
        return _REPLY


async def _serve() -> None:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answerer(tally), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def told_by(port: int, path: str = "/", headers: dict[str, str] | None = None) -> Any:
    """Return what a server on loopback answers to GET, decoded."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        told = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, f"GET {path}: {answer.status} {told[:200]!r}"
    return json.loads(told)


if __name__ == "__main__":
    uvloop.run(_serve())
