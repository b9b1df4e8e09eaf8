"""Raw sockets against the server: whatever a client does, it is told in time, at nobody's cost."""

import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from integrationd.api.admission import Limits, Peer
from integrationd.api.body import ClientGoneError, read_body
from integrationd.api.listeners import bind_tcp, bind_unix
from integrationd.api.protocol import peer_of
from integrationd.api.server import ApiServer

MIB = 1024 * 1024
SOON_S = 3.0
QUICK = Limits(
    first_byte_s=0.2,
    header_s=0.2,
    body_s=0.2,
    keep_alive_s=0.2,
    write_s=0.2,
    linger_s=0.2,
    max_connections=8,
    max_body_bytes=64 * 1024,
)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
WAIT = GET.replace(b"/", b"/wait", 1)
LENGTHS = (
    b"content-length: 1\r\ntransfer-encoding: chunked",
    b"transfer-encoding: chunked\r\ncontent-length: 1",
    b"content-length: 1\r\ncontent-length: 2",
    b"content-length: 1\r\ncontent-length: 1",
    *(b"content-length: " + value for value in (b"-1", b"+5", b"9" * 20, b"1, 1", b"0x1", b"")),
)
TARGETS = (b"*", b"/\xff", b"http://x", b"http://x:99999/")
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The machine word of a problem, whose shape is checked on the way."""
        told = json.loads(self.body)
        assert self.headers["content-type"] == "application/problem+json"
        assert told.keys() >= {"type", "title", "status", "code", "detail"}
        assert (told["type"], told["status"]) == ("about:blank", self.status)
        return str(told["code"])


class App:
    """Answers with what it saw of the request, or misbehaves as its path says."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.peers: list[Peer | None] = []
        self.client_gone = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.seen.append(path)
        self.peers.append(peer_of(scope))
        try:
            body = b"" if path in ("/unread", "/wait") else await read_body(receive, 10 * MIB)
        except ClientGoneError:
            self.client_gone.set()
            raise
        if path == "/wait":
            await self.released.wait()
        elif path == "/broken":
            raise ZeroDivisionError
        elif path == "/silent":
            return
        names = [name.decode() for name, _ in scope["headers"]]
        told = json.dumps({"size": len(body), "names": names}).encode()
        told = bytes(8 * MIB) if path == "/large" else told
        headers = [(b"content-length", str(len(told)).encode())]
        status = 401 if path == "/unread" else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if path != "/half":
            await send({"type": "http.response.body", "body": told})
        if path == "/large":
            self.client_gone.set()


class Wire:
    """One raw connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._read = b""

    async def send(self, data: bytes) -> None:
        with anyio.fail_after(SOON_S):
            await self._loop.sock_sendall(self.sock, data)

    async def answer(self) -> Answer:
        while b"\r\n\r\n" not in self._read:
            self._read += await self._some()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers.get("content-length", 0))
        while len(self._read) < size:
            self._read += await self._some()
        body, self._read = self._read[:size], self._read[size:]
        return Answer(int(first.split(" ")[1]), headers, body)

    async def ended(self) -> bytes:
        """Wait until the server has closed, and return what it had still said."""
        with contextlib.suppress(ConnectionResetError, EOFError):
            while True:
                self._read += await self._some()
        return self._read

    async def refused(self, status: int, code: str) -> None:
        """Expect a problem as the last thing that the server says."""
        answer = await self.answer()
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["connection"] == "close"
        assert await self.ended() == b""

    async def _some(self) -> bytes:
        with anyio.fail_after(SOON_S):
            data = await self._loop.sock_recv(self.sock, 65536)
        if not data:
            raise EOFError
        return data


class Served:
    """A running server with its app, and connections to it."""

    def __init__(self, listener: socket.socket, limits: Limits) -> None:
        self.family, self._address = listener.family, listener.getsockname()
        self.app = App()
        self.server = ApiServer(self.app, [listener], limits)
        self._wires: list[Wire] = []

    async def connect(self, data: bytes = b"") -> Wire:
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        wire = Wire(sock)
        self._wires.append(wire)
        await asyncio.get_running_loop().sock_connect(sock, self._address)
        await wire.send(data)
        return wire

    def disconnect(self) -> None:
        while self._wires:
            self._wires.pop().sock.close()


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The server must hold on both loops."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged; a test takes out what it expects."""
    with capture_logs() as lines:
        yield lines
    assert lines == []
    assert caplog.records == []


@pytest.fixture(params=["tcp", "unix"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """A server on a socket of either kind; at the end it must still serve an honest client."""
    is_tcp = request.param == "tcp"
    listener = bind_tcp("127.0.0.1:0") if is_tcp else bind_unix(tmp_path / "api.sock", 0o600)
    served = Served(listener, QUICK)
    async with anyio.create_task_group() as group:
        group.start_soon(served.server.serve)
        await served.server.started()
        yield served
        served.disconnect()
        honest = await served.connect(POST + b"content-length: 2\r\nconnection: close\r\n\r\n{}")
        assert (await honest.answer()).status == 200
        served.disconnect()
        await served.server.close(grace_s=1)


def shown(value: object) -> str | None:
    """Name a parameter set after the bytes that it sends."""
    return repr(value[:60])[2:-1] if isinstance(value, bytes) else None


# Time


async def test_silent_connection_is_closed_without_a_word(served: Served) -> None:
    wire = await served.connect()

    assert await wire.ended() == b""


@pytest.mark.parametrize("sent", [GET[:1], b"\r\n" + GET[:-2]], ids=shown)
async def test_half_a_header_is_refused_in_time(served: Served, sent: bytes) -> None:
    wire = await served.connect(sent)

    await wire.refused(408, "request_timeout")
    assert served.app.seen == []


async def test_header_sent_byte_by_byte_gets_no_more_time(served: Served) -> None:
    wire = await served.connect()

    async def trickle() -> None:
        for byte in POST + b"x" * 1000:
            await wire.send(bytes([byte]))
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(trickle)
        with anyio.fail_after(1):
            assert (await wire.answer()).code == "request_timeout"
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "sent", [CHUNKED + b"4\r\nhalf", POST + b"content-length: 9\r\n\r\nhalf"], ids=shown
)
async def test_half_a_body_is_refused_in_time(served: Served, sent: bytes) -> None:
    wire = await served.connect(sent)

    await wire.refused(408, "request_timeout")
    await asyncio.wait_for(served.app.client_gone.wait(), SOON_S)


async def test_idle_connection_is_closed_after_its_answer(served: Served) -> None:
    wire = await served.connect()
    for _ in range(3):
        await anyio.sleep(0.08)
        await wire.send(GET)
        assert (await wire.answer()).status == 200

    assert await wire.ended() == b""


async def test_slow_app_is_not_the_clients_fault(served: Served) -> None:
    wire = await served.connect(WAIT + GET + GET[:-4])
    await anyio.sleep(0.25)
    served.app.released.set()

    assert (await wire.answer()).status == 200
    assert (await wire.answer()).status == 200
    await wire.send(GET[-4:])
    assert (await wire.answer()).status == 200


async def test_untaken_answer_is_cut_off(served: Served) -> None:
    await served.connect(GET.replace(b"/", b"/large", 1))

    await asyncio.wait_for(served.app.client_gone.wait(), SOON_S)


# Size


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (GET[:-2] + b"a: " + b"x" * 32 * 1024 + b"\r\n\r\n", 431, "request_too_long"),
        (GET[:-2] + b"a: " + b"x" * 300 * 1024, 431, "request_too_long"),
        (GET[:-2] + b"a: b\r\n" * 100 + b"\r\n", 431, "request_too_long"),
        (GET[:-2] + b"a: b\r\n" * 3000, 431, "request_too_long"),
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\n\r\n", 414, "request_too_long"),
        (b"GET /" + b"x" * 64 * 1024, 414, "request_too_long"),
        (POST + b"content-length: %d\r\n\r\n" % (200 * MIB), 413, "too_large"),
        (POST + b"content-length: %d\r\n\r\n" % (10 * 1024 * MIB), 413, "too_large"),
        (POST + b"content-length: 65537\r\nexpect: 100-continue\r\n\r\n", 413, "too_large"),
        (CHUNKED + b"ffffffff\r\n" + b"x" * 65537, 413, "too_large"),
        (CHUNKED + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 65, 413, "too_large"),
        (CHUNKED + b"1;" + b"x" * 64 * 1024, 431, "request_too_long"),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 10_000, 431, "request_too_long"),
    ],
    ids=shown,
)
async def test_request_over_a_limit_is_refused(
    served: Served, sent: bytes, status: int, code: str
) -> None:
    wire = await served.connect(sent)

    await wire.refused(status, code)


async def test_request_at_every_limit_is_served(served: Served) -> None:
    wire = await served.connect(b"POST /" + b"x" * 8191 + b" HTTP/1.1\r\ncontent-length: 65536\r\n")
    await wire.send(b"a: " + b"x" * 20_000 + b"\r\n" + b"a: b\r\n" * 98 + b"\r\n" + b"x" * 65536)

    assert json.loads((await wire.answer()).body)["size"] == 65536


async def test_flood_is_refused_in_little_memory(served: Served) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    wire = await served.connect(CHUNKED)
    tracemalloc.start()

    with contextlib.suppress(OSError):
        for _ in range(3200):
            await wire.send(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (await wire.answer()).code == "too_large"
    assert peak < 4 * MIB


async def test_pipeline_is_bounded_and_answered_in_order(served: Served) -> None:
    wire = await served.connect(GET * 1000)

    answers = [await wire.answer()]
    while answers[-1].status == 200:
        answers.append(await wire.answer())
    assert QUICK.max_pipelined < len(answers) < 1000
    assert (answers[-1].code, len(served.app.seen)) == ("pipeline_full", len(answers) - 1)
    assert await wire.ended() == b""


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (POST + b"content-length: 99999\r\n\r\n", 413),
        (CHUNKED + b"fffff\r\n" + b"x" * 65537, 413),
    ],
    ids=shown,
)
async def test_refusal_waits_for_the_answers_before_it(
    served: Served, second: bytes, status: int
) -> None:
    wire = await served.connect(WAIT + second)
    await anyio.sleep(0.05)
    served.app.released.set()

    assert (await wire.answer()).status == 200
    assert (await wire.answer()).status == status
    assert served.app.seen == ["/wait"]


async def test_connections_beyond_the_limit_are_turned_away(
    served: Served, log_lines: list[MutableMapping[str, Any]]
) -> None:
    inside = [await served.connect(WAIT) for _ in range(QUICK.max_connections)]
    for _ in range(100):
        stranger = await served.connect()
        answer = await stranger.answer()
        assert (answer.status, answer.code) == (503, "too_many_connections")
        assert answer.headers["retry-after"] == "1"

    served.app.released.set()
    assert [(await wire.answer()).status for wire in inside] == [200] * QUICK.max_connections
    line = log_lines.pop()
    assert (line["event"], line["max_connections"]) == ("connections_turned_away", 8)


# Form, coming and going


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        *[(POST + lines + b"\r\n\r\n", "malformed_request") for lines in LENGTHS],
        *[(CHUNKED + size + b"\r\n", "malformed_request") for size in (b"f" * 18, b"zz", b"-1")],
        (POST + b"transfer-encoding: gzip, chunked\r\n\r\n", "transfer_encoding"),
        (POST + b"transfer-encoding: gzip\r\n\r\n", "transfer_encoding"),
        (b"GET / HTTP/1.1\nhost: x\n\n", "malformed_request"),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", "malformed_request"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n", "malformed_request"),
        (b"GET / HTTP/1.1\r\na: \x00\r\n\r\n", "malformed_request"),
        (b"GET /\r\n\r\n", "http_version"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "malformed_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "malformed_request"),
        (b"TRACE / HTTP/1.1\r\n\r\n", "method_not_allowed"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", "method_not_allowed"),
        (b"NONSENSE / HTTP/1.1\r\n\r\n", "malformed_request"),
        *[(b"GET %s HTTP/1.1\r\n\r\n" % target, "malformed_request") for target in TARGETS],
        (GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n", "no_upgrade"),
    ],
    ids=shown,
)
async def test_malformed_request_is_refused(served: Served, sent: bytes, code: str) -> None:
    wire = await served.connect(sent)

    await wire.refused(405 if code == "method_not_allowed" else 400, code)


async def test_trailers_do_not_become_headers(served: Served) -> None:
    wire = await served.connect(CHUNKED + b"2\r\n{}\r\n0\r\nexpect: forged\r\n\r\n")

    told = json.loads((await wire.answer()).body)
    assert told == {"size": 2, "names": ["host", "transfer-encoding"]}


async def test_expected_continue_is_sent_once_the_body_is_wanted(served: Served) -> None:
    wire = await served.connect(POST + b"content-length: 2\r\nexpect: 100-continue\r\n\r\n")

    assert (await wire.answer()).status == 100
    await wire.send(b"{}")
    assert (await wire.answer()).status == 200


async def test_half_closed_client_still_gets_its_answer(served: Served) -> None:
    wire = await served.connect(WAIT)
    wire.sock.shutdown(socket.SHUT_WR)
    await anyio.sleep(0.05)
    served.app.released.set()

    assert (await wire.answer()).status == 200
    assert await wire.ended() == b""


@pytest.mark.parametrize("sent", [GET, WAIT, GET[:-2], CHUNKED], ids=shown)
async def test_reset_leaves_no_trace(served: Served, sent: bytes) -> None:
    for _ in range(5):
        wire = await served.connect(sent)
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        served.disconnect()
    served.app.released.set()


async def test_answer_before_the_body_keeps_the_connection_usable(served: Served) -> None:
    wire = await served.connect(b"POST /unread HTTP/1.1\r\ncontent-length: 60000\r\n\r\n")
    assert (await wire.answer()).status == 401
    await wire.send(b"x" * 60000 + GET)

    assert (await wire.answer()).status == 200
