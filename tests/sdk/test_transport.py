"""The transport keeps connections, reads every kind of reply and records what it did."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

import httpx2
import pytest
from tests.sdk.exchanges import (
    SHORT,
    answered,
    attempt,
    compressed,
    request,
)
from tests.sdk.scripted_server import OK, Peer, always, answering, serving

from integrationd.sdk.exchange import recording
from integrationd.sdk.transport import Transport

LARGE = b"x" * (16 * 1024 * 1024)


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


async def test_connection_on_which_the_server_spoke_unasked_is_replaced(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK)
        await asyncio.sleep(0.01)
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.reader.read()

    async with serving(script) as server:
        answered(await attempt(transport, request(server.url)), 200, b"ok")
        await asyncio.sleep(0.05)
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 2


async def test_body_after_a_reply_to_head_spoils_the_connection(transport: Transport) -> None:
    async with serving(always) as server:
        await attempt(transport, request(server.url, "HEAD"))
        await asyncio.sleep(0.02)
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 2


async def test_connection_that_may_wait_longer_outlives_the_sweep() -> None:
    reply = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok"

    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(reply)

    async with (
        Transport(allow_private=True, idle_s=0.02) as transport,
        serving(script) as server,
    ):
        answered(await attempt(transport, request(server.url)), 200, b"ok")
        await asyncio.sleep(0.1)
        answered(await attempt(transport, request(server.url)), 200, b"ok")

    assert server.connections == 1


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


async def test_slow_but_steady_reply_is_read(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in OK:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.005)

    async with serving(script) as server:
        tried = await attempt(transport, request(server.url, timeout=SHORT))

    answered(tried, 200, b"ok")


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


async def test_compressed_reply_is_decompressed(transport: Transport) -> None:
    async with serving(answering(compressed(gzip.compress(b"hello")))) as server:
        tried = await attempt(transport, request(server.url))

    answered(tried, 200, b"hello")


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
            await always(peer)

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


async def test_transport_serves_a_stock_client() -> None:
    async with serving(always) as server:
        stock = httpx2.AsyncClient(transport=Transport(allow_private=True), base_url=server.url)
        async with stock as client:
            response = await client.post("/things", json={"a": 1})

    assert response.text == "ok"
    assert server.requests[0].body == b'{"a":1}'
