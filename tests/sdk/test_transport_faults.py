"""The transport says exactly what went wrong and whether a byte of the request had left."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.sdk.exchanges import (
    GARBAGE,
    SHORT,
    TIMEOUT,
    answered,
    attempt,
    compressed,
    failed,
    request,
)
from tests.sdk.scripted_server import OK, Peer, always, answering, serving, unused_port

from integrationd.sdk.framing import BrokenReplyError, ReplyTooLargeError, serialised
from integrationd.sdk.target import TargetRefusedError
from integrationd.sdk.transport import Transport
from integrationd.sdk.wire import Connection

LARGE = b"x" * (16 * 1024 * 1024)


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


async def test_private_target_is_refused_unless_allowed() -> None:
    async with Transport() as transport, serving(always) as server:
        tried = await attempt(transport, request(server.url))

    failed(tried, TargetRefusedError, sent=False)
    assert server.connections == 0


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


async def test_synchronous_stream_never_left(transport: Transport) -> None:
    to_send = request("http://127.0.0.1/", content=iter([b"a"]))

    failed(await attempt(transport, to_send), httpx2.LocalProtocolError, sent=False)


async def test_request_without_host_or_with_a_broken_method_never_left(
    transport: Transport,
) -> None:
    no_host = httpx2.Request("GET", "http://127.0.0.1/", stream=httpx2.ByteStream(b""))
    broken = httpx2.Request("GET / HTTP/1.1\r\nX: y", "http://127.0.0.1/")

    for to_send in (no_host, broken):
        failed(await attempt(transport, to_send), httpx2.LocalProtocolError, sent=False)


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


async def test_new_connection_that_is_closed_before_the_request_never_left() -> None:
    async def script(peer: Peer) -> None:
        """Close at once."""

    sent: list[bool] = []
    async with serving(script) as server:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(1000), "127.0.0.1", server.port
        )
        await asyncio.sleep(0.05)
        outgoing = serialised(request(server.url))
        with pytest.raises(httpx2.ConnectError):
            await connection.exchange(
                outgoing, on_sent=lambda: sent.append(True), read_s=5.0, write_s=5.0
            )

    assert not sent


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


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


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


async def test_compressed_reply_that_grows_too_large_is_refused() -> None:
    bomb = compressed(gzip.compress(b"0" * 5_000_000, mtime=0))
    async with (
        Transport(allow_private=True, max_body_bytes=100_000) as transport,
        serving(answering(bomb)) as server,
    ):
        tried = await attempt(transport, request(server.url))

    assert type(tried.error) is ReplyTooLargeError
    assert tried.exchanges[0].sent


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"hello", mtime=0)[:-4]])
async def test_reply_that_cannot_be_decompressed(transport: Transport, body: bytes) -> None:
    async with serving(answering(compressed(body))) as server:
        tried = await attempt(transport, request(server.url))

    assert type(tried.error) is httpx2.DecodingError
    assert tried.sent


async def test_nothing_is_ever_sent_twice(transport: Transport) -> None:
    replies = [b"", b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", *GARBAGE]
    for reply in replies:
        async with serving(answering(reply)) as server:
            await attempt(transport, request(server.url))

        assert len(server.requests) == 1
        assert server.connections == 1
