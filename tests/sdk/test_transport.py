"""The transport says exactly what went wrong and whether a byte of the request had left."""

import asyncio
import contextlib
import dataclasses
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.sdk.scripted_server import OK, Peer, always, answering, serving, unused_port

from integrationd.sdk.exchange import Exchange, recording
from integrationd.sdk.framing import BrokenReplyError, ReplyTooLargeError
from integrationd.sdk.target import TargetRefusedError
from integrationd.sdk.transport import Transport, default_tls

TIMEOUT = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0}
SHORT = {"connect": 5.0, "read": 0.1, "write": 0.1, "pool": 0.1}
LARGE = b"x" * (16 * 1024 * 1024)
GARBAGE = [
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(allow_private=True) as made:
        yield made


@dataclasses.dataclass
class Tried:
    """What came of one request: the response or the error, whether it was sent, the record."""

    response: httpx2.Response | None
    error: Exception | None
    sent: int
    exchanges: Sequence[Exchange]


def request(
    url: str, method: str = "POST", *, timeout: dict[str, float] | None = None, **options: Any
) -> httpx2.Request:
    return httpx2.Request(method, url, extensions={"timeout": timeout or TIMEOUT}, **options)


async def attempt(transport: Transport, to_send: httpx2.Request) -> Tried:
    sent: list[bool] = []
    with recording(lambda: sent.append(True)) as recorder:
        try:
            response = await transport.handle_async_request(to_send)
        except httpx2.RequestError as error:
            named = error.request is to_send
            return Tried(None, error if named else None, len(sent), recorder.exchanges)
    return Tried(response, None, len(sent), recorder.exchanges)


def failed(tried: Tried, kind: type[Exception], *, sent: bool) -> Exception:
    """Check that the request failed with exactly this kind of error, and was sent or not."""
    assert type(tried.error) is kind, repr(tried.error)
    assert tried.sent == sent
    assert [exchange.sent for exchange in tried.exchanges] == [sent]
    assert tried.exchanges[0].error == str(tried.error)
    assert tried.exchanges[0].status is None
    return tried.error


def answered(tried: Tried, status: int, content: bytes) -> httpx2.Response:
    assert tried.response is not None, repr(tried.error)
    assert tried.response.status_code == status
    assert tried.response.content == content
    assert tried.sent == 1
    return tried.response


async def test_success_is_returned_and_recorded(transport: Transport) -> None:
    reply = b"HTTP/1.1 201 Created\r\nContent-Length: 11\r\nX-Request-Id: r1\r\nA: b\r\n\r\n"
    async with serving(answering(reply, b'{"ok":true}')) as server:
        url = f"{server.url}/v1/things?a=1"

        tried = await attempt(transport, request(url, content=b"hello", headers={"X-Key": "k"}))

    response = answered(tried, 201, b'{"ok":true}')
    assert response.json() == {"ok": True}
    assert response.headers["A"] == "b"
    assert response.elapsed.total_seconds() >= 0
    [received] = server.requests
    assert (received.method, received.target, received.body) == ("POST", "/v1/things?a=1", b"hello")
    [exchange] = tried.exchanges
    assert (exchange.method, exchange.url) == ("POST", url)
    assert ("X-Key", "k") in exchange.request_headers
    assert (exchange.request_body, exchange.request_bytes) == (b"hello", 5)
    assert (exchange.status, exchange.response_body) == (201, b'{"ok":true}')
    assert exchange.response_headers == (("Content-Length", "11"), ("X-Request-Id", "r1"))
    assert (exchange.error, exchange.sent, exchange.response_bytes) == ("", True, 11)


async def test_recorded_bodies_are_cut_at_two_kib(transport: Transport) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"r" * 5000
    async with serving(answering(reply)) as server:
        tried = await attempt(transport, request(server.url, content=b"q" * 3000))

    [exchange] = tried.exchanges
    assert (len(exchange.request_body), exchange.request_bytes) == (2048, 3000)
    assert (len(exchange.response_body), exchange.response_bytes) == (2048, 5000)


@pytest.mark.parametrize(
    ("reply", "content"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: x\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nL: x\r\n\r\n" + OK, b"ok"),
    ],
    ids=["chunked", "trailer", "until-close", "http-1.0", "empty", "interim"],
)
async def test_body_is_read_however_it_is_framed(
    transport: Transport, reply: bytes, content: bytes
) -> None:
    whole, bytewise = answering(reply), answering(*(bytes([byte]) for byte in reply))
    for script in (whole, bytewise):
        async with serving(script) as server:
            tried = await attempt(transport, request(server.url))

        response = answered(tried, 200, content)
        assert "L" not in response.headers
        assert "T" not in response.headers


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"),
    ],
)
async def test_reply_without_a_body_leaves_the_connection_in_order(
    transport: Transport, method: str, reply: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(reply)
        await peer.answer(OK)

    async with serving(script) as server:
        first = await attempt(transport, request(server.url, method))
        second = await attempt(transport, request(server.url))

    assert first.response is not None
    assert first.response.content == b""
    answered(second, 200, b"ok")
    assert server.connections == 1


async def test_connection_is_kept_and_used_again(transport: Transport) -> None:
    async with serving(always) as server:
        for _ in range(20):
            answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 1
    assert len(server.requests) == 20


async def test_connections_never_exceed_the_cap() -> None:
    async with (
        Transport(allow_private=True, max_connections=3) as transport,
        serving(always) as server,
    ):
        tried = await asyncio.gather(*(attempt(transport, request(server.url)) for _ in range(50)))

    assert all(one.response is not None for one in tried)
    assert server.connections <= 3


async def test_waiting_for_a_connection_ends_in_a_pool_timeout() -> None:
    arrived, finish = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await finish.wait()
        await peer.send(OK)

    async with (
        Transport(allow_private=True, max_connections=1) as transport,
        serving(script) as server,
    ):
        first = asyncio.ensure_future(attempt(transport, request(server.url)))
        await arrived.wait()
        tried = await attempt(transport, request(server.url, timeout=SHORT))
        finish.set()

        failed(tried, httpx2.PoolTimeout, sent=False)
        answered(await first, 200, b"ok")
    assert len(server.requests) == 1


async def test_connection_that_the_server_closed_while_idle_is_replaced(
    transport: Transport,
) -> None:
    async with serving(answering(OK)) as server:
        answered(await attempt(transport, request(server.url)), 200, b"ok")
        await asyncio.sleep(0.02)
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 2
    assert len(server.requests) == 2


async def test_connection_with_unread_data_is_replaced(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.reader.read()

    async with serving(script) as server:
        answered(await attempt(transport, request(server.url)), 200, b"ok")
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 2


async def test_idle_connection_is_closed_after_its_time() -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(OK)
        await peer.reader.read()
        closed.set()

    async with Transport(allow_private=True, idle_s=0.05) as transport, serving(script) as server:
        answered(await attempt(transport, request(server.url)), 200, b"ok")
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.mark.parametrize(("hint", "connections"), [(b"timeout=1", 2), (b"timeout=5, max=9", 1)])
async def test_servers_keep_alive_hint_is_obeyed(
    transport: Transport, hint: bytes, connections: int
) -> None:
    reply = b"HTTP/1.1 200 OK\r\nKeep-Alive: %b\r\nContent-Length: 2\r\n\r\nok" % hint

    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(reply)

    async with serving(script) as server:
        await attempt(transport, request(server.url))
        await attempt(transport, request(server.url))

    assert server.connections == connections


async def test_connection_close_is_obeyed(transport: Transport) -> None:
    reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

    async def script(peer: Peer) -> None:
        await peer.answer(reply)
        await peer.reader.read()

    async with serving(script) as server:
        await attempt(transport, request(server.url))
        await attempt(transport, request(server.url))

    assert server.connections == 2


async def test_refused_connection_never_left(transport: Transport) -> None:
    tried = await attempt(transport, request(f"http://127.0.0.1:{unused_port()}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_name_without_an_address_never_left() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    async with Transport(resolve=resolve) as transport:
        tried = await attempt(transport, request("http://no-such-host.example/"))

    failed(tried, httpx2.ConnectError, sent=False)
    assert "no-such-host.example" in str(tried.error)


async def test_resolver_that_does_not_answer_is_a_connect_timeout() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(30)
        return []

    async with Transport(resolve=resolve) as transport:
        tried = await attempt(
            transport, request("http://slow.example/", timeout=TIMEOUT | {"connect": 0.05})
        )

    failed(tried, httpx2.ConnectTimeout, sent=False)


async def test_second_address_is_tried_when_the_first_refuses() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with (
        Transport(allow_private=True, resolve=resolve) as transport,
        serving(always) as server,
    ):
        tried = await attempt(transport, request(f"http://two.example:{server.port}/"))

    answered(tried, 200, b"ok")
    assert server.requests[0].headers["host"] == f"two.example:{server.port}"


async def test_private_target_is_refused_unless_allowed() -> None:
    async with Transport() as transport, serving(always) as server:
        tried = await attempt(transport, request(server.url))

    failed(tried, TargetRefusedError, sent=False)
    assert server.connections == 0


async def test_name_is_resolved_once_per_connection_and_the_judged_address_is_used() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.9"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    async with (
        Transport(allow_private=True, resolve=resolve) as transport,
        serving(always) as server,
    ):
        url = f"http://rebound.example:{server.port}/"
        answered(await attempt(transport, request(url)), 200, b"ok")
        answered(await attempt(transport, request(url)), 200, b"ok")

    assert next(answers) == ["127.0.0.9"]


async def test_other_schemes_never_left(transport: Transport) -> None:
    for url in ("ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:70/"):
        to_send = request(url, headers={"Host": "h"})

        failed(await attempt(transport, to_send), httpx2.UnsupportedProtocol, sent=False)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-A": "b\r\nX-Evil: 1"}},
        {"headers": {"X-A": "b\x00"}},
        {"headers": {"X A": "b"}},
        {"headers": {"Content-Length": "3"}, "content": b"four"},
        {"headers": {"Content-Length": "+4"}, "content": b"four"},
        {"headers": {"Transfer-Encoding": "chunked"}, "content": b"four"},
        {"headers": {"Transfer-Encoding": "chunked", "Content-Length": "4"}, "content": b"four"},
    ],
)
async def test_request_that_http_does_not_allow_never_left(
    transport: Transport, options: dict[str, Any]
) -> None:
    async with serving(always) as server:
        tried = await attempt(transport, request(server.url, **options))

    failed(tried, httpx2.LocalProtocolError, sent=False)
    assert server.connections == 0


async def test_request_without_host_or_with_a_broken_method_never_left(
    transport: Transport,
) -> None:
    no_host = httpx2.Request("GET", "http://127.0.0.1/", stream=httpx2.ByteStream(b""))
    broken = httpx2.Request("GET / HTTP/1.1\r\nX: y", "http://127.0.0.1/")

    for to_send in (no_host, broken):
        failed(await attempt(transport, to_send), httpx2.LocalProtocolError, sent=False)


async def test_connection_closed_without_a_reply(transport: Transport) -> None:
    async with serving(answering()) as server:
        tried = await attempt(transport, request(server.url))

    error = failed(tried, BrokenReplyError, sent=True)
    assert isinstance(error, BrokenReplyError)
    assert (error.reason, error.status) == ("connection_lost", None)
    assert isinstance(error, httpx2.RemoteProtocolError)
    assert len(server.requests) == 1


async def test_connection_reset_after_the_request(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url))

    failed(tried, httpx2.ReadError, sent=True)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 200),
        (b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", 404),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
    ],
)
async def test_reply_cut_in_the_middle(
    transport: Transport, reply: bytes, status: int | None
) -> None:
    async with serving(answering(reply)) as server:
        tried = await attempt(transport, request(server.url))

    error = failed(tried, BrokenReplyError, sent=True)
    assert isinstance(error, BrokenReplyError)
    assert (error.reason, error.status) == ("cut_reply", status)


@pytest.mark.parametrize("reply", GARBAGE)
async def test_reply_that_is_not_http(transport: Transport, reply: bytes) -> None:
    async with serving(answering(reply)) as server:
        tried = await attempt(transport, request(server.url))

    error = failed(tried, BrokenReplyError, sent=True)
    assert isinstance(error, BrokenReplyError)
    assert error.reason == "garbled_reply"


async def test_silence_after_the_request_is_a_read_timeout(transport: Transport) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.reader.read()
        closed.set()

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url, content=b"body", timeout=SHORT))
        async with asyncio.timeout(5):
            await closed.wait()

    failed(tried, httpx2.ReadTimeout, sent=True)
    assert server.requests[0].body == b"body"


async def test_reply_that_stops_coming_is_a_read_timeout(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"hal")
        await peer.reader.read()

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url, timeout=SHORT))

    failed(tried, httpx2.ReadTimeout, sent=True)


async def test_slow_but_steady_reply_is_read(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in OK:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.005)

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url, timeout=SHORT))

    answered(tried, 200, b"ok")


async def test_server_that_takes_no_more_is_a_write_timeout(transport: Transport) -> None:
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # of ReadTransport
        await done.wait()

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url, content=LARGE, timeout=SHORT))
        done.set()

    failed(tried, httpx2.WriteTimeout, sent=True)


async def test_reset_during_the_upload(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(100_000)
        peer.reset()

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url, content=LARGE))

    failed(tried, httpx2.WriteError, sent=True)


async def test_large_upload_arrives_whole(transport: Transport) -> None:
    async with serving(always) as server:
        answered(await attempt(transport, request(server.url, content=LARGE)), 200, b"ok")
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.requests[0].body == LARGE
    assert server.connections == 1


async def test_early_refusal_of_a_large_upload_is_delivered(transport: Transport) -> None:
    reply = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(reply)
        await asyncio.sleep(0.05)

    async with serving(script) as server:
        answered(await attempt(transport, request(server.url, content=LARGE)), 413, b"big")
        answered(await attempt(transport, request(server.url, content=LARGE)), 413, b"big")

    assert server.connections == 2


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_streamed_body_is_sent_in_chunks(transport: Transport) -> None:
    async with serving(always) as server:
        to_send = request(server.url, content=_stream(b"abc", b"", b"de"))
        tried = await attempt(transport, to_send)
        answered(tried, 200, b"ok")
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.requests[0].headers["transfer-encoding"] == "chunked"
    assert server.requests[0].body == b"abcde"
    assert server.connections == 1


async def test_streamed_body_of_known_length_is_sent_as_it_is(transport: Transport) -> None:
    async with serving(always) as server:
        headers = {"Content-Length": "5"}
        tried = await attempt(
            transport, request(server.url, content=_stream(b"abc", b"de"), headers=headers)
        )

    answered(tried, 200, b"ok")
    assert server.requests[0].body == b"abcde"


@pytest.mark.parametrize("chunks", [(b"ab",), (b"abc", b"defg")], ids=["shorter", "longer"])
async def test_streamed_body_of_another_length_is_a_write_error(
    transport: Transport, chunks: tuple[bytes, ...]
) -> None:
    async with serving(always) as server:
        headers = {"Content-Length": "5"}
        tried = await attempt(
            transport, request(server.url, content=_stream(*chunks), headers=headers)
        )

    failed(tried, httpx2.WriteError, sent=True)
    assert server.requests == []


async def test_body_that_fails_to_come_closes_the_connection(transport: Transport) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise LookupError("the file is gone")

    async with serving(always) as server:
        with pytest.raises(LookupError):
            await transport.handle_async_request(request(server.url, content=broken()))
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 2


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Flood: 0123456789\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nX-Flood: " + b"0" * 200_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
    ids=["many", "one", "interim"],
)
async def test_endless_headers_are_cut_off(transport: Transport, flood: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(flood)
        await peer.reader.read()

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url))

    error = failed(tried, ReplyTooLargeError, sent=True)
    assert isinstance(error, httpx2.ReadError)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"a\r\n0123456789\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n" * 1000),
    ],
    ids=["until-close", "chunked", "trailers"],
)
async def test_endless_body_is_cut_off(head: bytes, piece: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(head)
        while True:
            await peer.send(piece)

    async with (
        Transport(allow_private=True, max_body_bytes=100_000) as transport,
        serving(script) as server,
    ):
        tried = await attempt(transport, request(server.url))

    error = failed(tried, ReplyTooLargeError, sent=True)
    assert isinstance(error, ReplyTooLargeError)
    assert error.status == 200


def _compressed(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


async def test_compressed_reply_is_decompressed(transport: Transport) -> None:
    async with serving(answering(_compressed(gzip.compress(b"hello")))) as server:
        tried = await attempt(transport, request(server.url))

    answered(tried, 200, b"hello")


async def test_compressed_reply_that_grows_too_large_is_refused() -> None:
    bomb = _compressed(gzip.compress(b"0" * 5_000_000))
    async with (
        Transport(allow_private=True, max_body_bytes=100_000) as transport,
        serving(answering(bomb)) as server,
    ):
        tried = await attempt(transport, request(server.url))

    assert type(tried.error) is ReplyTooLargeError
    assert tried.exchanges[0].sent


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"hello")[:-4]])
async def test_reply_that_cannot_be_decompressed(transport: Transport, body: bytes) -> None:
    async with serving(answering(_compressed(body))) as server:
        tried = await attempt(transport, request(server.url))

    assert type(tried.error) is httpx2.DecodingError
    assert tried.sent


async def test_cancelled_request_closes_its_connection(transport: Transport) -> None:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await peer.reader.read()
        closed.set()

    async with serving(script) as server:
        with recording(lambda: None) as recorder:
            task = asyncio.ensure_future(transport.handle_async_request(request(server.url)))
            await arrived.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        async with asyncio.timeout(5):
            await closed.wait()

    assert task.cancelled()
    assert [exchange.sent for exchange in recorder.exchanges] == [True]


async def test_cancelled_requests_give_their_place_to_others() -> None:
    arrived: asyncio.Queue[None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        if (await peer.request()).target == "/hang":
            arrived.put_nowait(None)
            await peer.reader.read()
        else:
            await peer.send(OK)

    async with (
        Transport(allow_private=True, max_connections=2) as transport,
        serving(script) as server,
    ):
        url = f"{server.url}/hang"
        hanging = [asyncio.ensure_future(attempt(transport, request(url))) for _ in range(4)]
        await arrived.get()
        await arrived.get()
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

        tried = await asyncio.gather(*(attempt(transport, request(server.url)) for _ in range(4)))

    assert all(one.response is not None for one in tried)


async def test_nothing_is_ever_sent_twice(transport: Transport) -> None:
    replies = [b"", b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", *GARBAGE]
    for reply in replies:
        async with serving(answering(reply)) as server:
            await attempt(transport, request(server.url))

        assert len(server.requests) == 1
        assert server.connections == 1


async def test_closed_transport_leaves_no_connection_open() -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(OK)
        await peer.reader.read()
        closed.set()

    async with serving(script) as server:
        async with Transport(allow_private=True) as transport:
            await attempt(transport, request(server.url))
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for the name localhost, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return both


async def _loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def _trusting(certificate: Path) -> Transport:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(certificate)
    return Transport(allow_private=True, tls=tls, resolve=_loopback)


def _serving_tls(certificate: Path, names: list[str | None]) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _sock, name, _context: names.append(name)
    return tls


async def test_tls_names_the_host_and_keeps_the_connection(certificate: Path) -> None:
    names: list[str | None] = []
    async with (
        _trusting(certificate) as transport,
        serving(always, _serving_tls(certificate, names)) as server,
    ):
        url = f"https://localhost:{server.port}/"
        for _ in range(3):
            answered(await attempt(transport, request(url, content=b"a")), 200, b"ok")
            await asyncio.sleep(0.01)

    assert names == ["localhost"]
    assert server.connections == 1


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
async def test_tls_certificate_for_another_name_never_left(certificate: Path, host: str) -> None:
    async with (
        _trusting(certificate) as transport,
        serving(always, _serving_tls(certificate, [])) as server,
    ):
        tried = await attempt(transport, request(f"https://{host}:{server.port}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert server.requests == []


async def test_tls_certificate_of_an_unknown_authority_never_left(certificate: Path) -> None:
    async with (
        Transport(allow_private=True, resolve=_loopback) as transport,
        serving(always, _serving_tls(certificate, [])) as server,
    ):
        tried = await attempt(transport, request(f"https://localhost:{server.port}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


async def test_tls_to_a_server_without_it_never_left() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with (
        Transport(allow_private=True, resolve=_loopback) as transport,
        serving(script) as server,
    ):
        tried = await attempt(transport, request(f"https://localhost:{server.port}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ssl.SSLError)


async def test_tls_reply_cut_in_the_middle(certificate: Path) -> None:
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    async with (
        _trusting(certificate) as transport,
        serving(script, _serving_tls(certificate, [])) as server,
    ):
        tried = await attempt(transport, request(f"https://localhost:{server.port}/"))

    failed(tried, BrokenReplyError, sent=True)


def test_default_tls_verifies_and_logs_no_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    default_tls.cache_clear()

    tls = default_tls()

    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
    assert tls.keylog_filename is None
    assert not (tmp_path / "keys").exists()


async def test_transport_serves_a_stock_client() -> None:
    async with serving(always) as server:
        stock = httpx2.AsyncClient(transport=Transport(allow_private=True), base_url=server.url)
        async with stock as client:
            response = await client.post("/things", json={"a": 1})

    assert response.text == "ok"
    assert server.requests[0].body == b'{"a":1}'
