"""A real HTTP provider on loopback that counts its effects.

``/effects/ID`` counts one effect for ID as soon as the whole request has come, and answers a little
later: a daemon that dies in between has caused an effect of which it never hears.
"""

import asyncio
import random
from collections import Counter
from types import TracebackType
from typing import cast

_PREFIX = "/effects/"
_REPLY = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
)


class Sink:
    """The provider; a context manager that listens while it is entered.

    Args:
        seed: Fixes how long each answer takes.
        slowest_s: The longest that an answer takes.

    Attributes:
        effects: How often each id was seen.
        cut: Requests whose sender was gone before it could be answered.
        port: Where it listens.
    """

    def __init__(self, seed: int, *, slowest_s: float = 0.04) -> None:
        self.effects: Counter[str] = Counter()
        self.cut = 0
        self.port = 0
        self._jitter = random.Random(seed)
        self._slowest_s = slowest_s
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Sink":
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Exchange(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening. Connections end with their senders."""
        if self._server is not None:
            self._server.close()

    def take(self, path: str) -> float:
        """Count the effect of a request; return the seconds after which it is answered."""
        if path.startswith(_PREFIX):
            self.effects[path.removeprefix(_PREFIX)] += 1
        return self._jitter.uniform(0, self._slowest_s)


class _Exchange(asyncio.Protocol):
    """One connection; requests on it are not pipelined."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._received = b""
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._received = body[_length(head) :]
        self._is_busy = True
        delay_s = self._sink.take(head.split(b" ", 2)[1].decode())
        asyncio.get_running_loop().call_later(delay_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._is_busy = False
            self._transport.write(_REPLY)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_busy:
            self._sink.cut += 1


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
