"""A TCP server on loopback that does on each connection what a test tells it."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A request as the server read it; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: "ScriptedServer"
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._server = server

    async def request(self) -> Received:
        """Read one request; ends the connection's script if the client has closed."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (f.partition(": ") for f in fields)}
        received = Received(method, target, headers, await self._body(headers))
        self._server.requests.append(received)
        return received

    async def send(self, *pieces: bytes) -> None:
        """Write the pieces one by one."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self, *pieces: bytes) -> Received:
        """Read one request and answer it."""
        received = await self.request()
        await self.send(*pieces)
        return received

    def reset(self) -> None:
        """Close with a reset instead of an end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body


Script = Callable[[Peer], Awaitable[object]]


class ScriptedServer:
    """What a running server saw, and where it is.

    Attributes:
        url: Its address, without a slash at the end.
        port: Its port.
        connections: How many were made to it.
        requests: The requests that its scripts read.
        failures: What went wrong in a script, other than the client closing.
    """

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.connections = 0
        self.requests: list[Received] = []
        self.failures: list[Exception] = []


@contextlib.asynccontextmanager
async def serving(
    script: Script, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run a server whose connections each follow ``script`` and are closed at its end."""
    seen = ScriptedServer()
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.ensure_future(_follow(script, Peer(reader, writer, seen), seen.failures))
        running.add(task)
        await asyncio.wait({task})

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{seen.port}"
    try:
        yield seen
    finally:
        # What was accepted last reaches its script, so that there is something to cancel.
        await asyncio.sleep(0.01)
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)
    assert not seen.failures, seen.failures


async def _follow(script: Script, peer: Peer, failures: list[Exception]) -> None:
    try:
        await script(peer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    except Exception as error:  # noqa: BLE001 - shown at the end of the test
        failures.append(error)
    finally:
        peer.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await peer.writer.wait_closed()


def unused_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def always(peer: Peer) -> None:
    """Answer every request with 200 and keep the connection."""
    while True:
        await peer.answer(OK)


def answering(*pieces: bytes) -> Script:
    """Answer one request with the pieces, then close."""

    async def script(peer: Peer) -> None:
        await peer.answer(*pieces)

    return script
