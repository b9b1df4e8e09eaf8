"""The prepared client keeps httpx's API, stays with its host and never repeats a request."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.sdk.scripted_server import OK, Peer, ScriptedServer, always, answering, serving

from integrationd import __version__
from integrationd.sdk.classify import of_error
from integrationd.sdk.exchange import recording
from integrationd.sdk.http import PreparedClient, prepare_client
from integrationd.sdk.outcome import Rejected
from integrationd.sdk.target import TargetRefusedError

ESCAPES = [
    "https://evil.example/",
    "http://evil.example/",
    "HTTP://evil.example",
    "//evil.example/",
    "///evil.example/",
    "https:/evil.example",
    "https:evil.example",
    "ftp://evil.example/",
    "user@evil.example:80/x://",
    "/../admin",
    "/a/../../admin",
    "/a/./b",
    "/%2e%2e/admin",
    "/%2E%2e%2fadmin",
    "/%252e%252e/admin",
    "/..;/admin",
    "/a\\..\\b",
    "/a\r\nX-Evil: 1",
    "/a%0d%0ab",
    "/a\tb",
    "/a#b",
    "/a%zz",
]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with serving(always) as running:
        yield running


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[PreparedClient]:
    async with client_of(f"{server.url}/api") as made:
        yield made


def client_of(base_url: str, **options: Any) -> PreparedClient:
    return prepare_client(**{"timeout_s": 5.0, "allow_private": True} | options, base_url=base_url)


async def test_json_goes_out_as_httpx_encodes_it(
    client: PreparedClient, server: ScriptedServer
) -> None:
    value = {"name": "Wanjikũ", "amount": 1.5, "tags": [1, None, True]}

    response = await client.post("/things", json=value, headers={"X-Key": "k"})

    assert (response.status_code, response.text) == (200, "ok")
    [received] = server.requests
    assert (received.method, received.target) == ("POST", "/api/things")
    assert received.body == httpx2.Request("POST", "http://a/", json=value).content
    assert received.headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-length": str(len(received.body)),
        "content-type": "application/json",
        "user-agent": f"integrationd/{__version__}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "x-key": "k",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"json": {"a": [1, "é"]}},
        {"json": "text"},
        {"content": b"raw"},
        {"content": "text"},
        {"data": {"a": "1", "b": ["2", "3 4"]}},
        {
            "files": {"f": ("n.txt", b"data", "text/plain")},
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        {"params": {"q": "a b", "r": ["1", "2"]}},
        {"headers": {"User-Agent": "mine", "accept": "text/plain"}},
        {"headers": [("X-A", "1"), ("X-A", "2")]},
        {"cookies": {"session": "1"}, "json": {}},
        {"headers": {"Content-Type": "application/vnd.x+json"}, "json": {}},
        {},
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_request_is_built_as_httpx_builds_it(
    client: PreparedClient, method: str, options: dict[str, Any]
) -> None:
    async with httpx2.AsyncClient(base_url=client.base_url, headers=client.headers) as stock:
        expected = stock.build_request(method, "/x", **options)

    built = client.build_request(method, "/x", **options)

    assert built.url == expected.url
    assert sorted(built.headers.multi_items()) == sorted(
        pair for pair in expected.headers.multi_items() if pair[0] != "connection"
    )
    assert await built.aread() == await expected.aread()


async def test_timeouts_are_the_connections_unless_given(client: PreparedClient) -> None:
    own = client.build_request("GET", "/x")
    given = client.build_request("GET", "/x", timeout=1.5)

    assert own.extensions["timeout"] == {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0}
    assert set(given.extensions["timeout"].values()) == {1.5}


async def test_request_made_by_hand_gets_the_connections_timeouts(
    client: PreparedClient, server: ScriptedServer
) -> None:
    by_hand = httpx2.Request("GET", f"{server.url}/by-hand")

    response = await client.send(by_hand)

    assert response.text == "ok"
    assert by_hand.extensions["timeout"]["read"] == 5.0


async def test_connecting_never_takes_longer_than_ten_seconds() -> None:
    async with client_of("https://a.example", timeout_s=60.0) as client:
        assert (client.timeout.connect, client.timeout.read) == (10.0, 60.0)


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("", "/x", "/x"),
        ("", "x", "/x"),
        ("", "", "/"),
        ("/", "/x", "/x"),
        ("/api", "/x", "/api/x"),
        ("/api/", "x/y/", "/api/x/y/"),
        ("/api", "", "/api"),
        ("/api", "?a=1", "/api?a=1"),
        ("/api", "/x?a=//b/../c", "/api/x?a=//b/../c"),
        ("/api", "/a b/ü", "/api/a%20b/%C3%BC"),
        ("/api", "/a%2Fb", "/api/a%2Fb"),
        ("/api", "/@evil.example", "/api/@evil.example"),
        ("/api", "@evil.example", "/api/@evil.example"),
        ("/api", "/x:y", "/api/x:y"),
    ],
)
async def test_path_is_appended_to_the_base_url(
    server: ScriptedServer, base: str, path: str, target: str
) -> None:
    async with client_of(f"{server.url}{base}") as client:
        await client.get(path)

    assert server.requests[0].target == target


@pytest.mark.parametrize("path", ESCAPES)
async def test_path_that_leads_elsewhere_is_refused(
    client: PreparedClient, server: ScriptedServer, path: str
) -> None:
    with pytest.raises(httpx2.InvalidURL) as caught:
        await client.get(path)

    assert isinstance(of_error(caught.value), Rejected)
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.2:{port}/", "https://127.0.0.1:{port}/", "http://u@127.0.0.1:{port}/"],
)
async def test_request_made_for_another_host_is_refused(
    client: PreparedClient, server: ScriptedServer, url: str
) -> None:
    with pytest.raises(httpx2.InvalidURL, match="not the host of this connection"):
        await client.send(httpx2.Request("GET", url.format(port=server.port)))

    assert server.connections == 0


async def test_changed_base_url_does_not_change_the_host(
    client: PreparedClient, server: ScriptedServer
) -> None:
    client.base_url = httpx2.URL("https://evil.example")

    await client.get("/x")

    assert server.requests[0].target == "/api/x"


async def test_redirect_is_returned_and_not_followed() -> None:
    reply = b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(reply)) as server, client_of(server.url) as client:
        response = await client.post("/x", content=b"a")
        with pytest.raises(ValueError, match="redirects are not followed"):
            await client.get("/x", follow_redirects=True)

    assert response.status_code == 307
    assert len(server.requests) == 1


async def test_cookies_are_not_kept() -> None:
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1\r\nContent-Length: 0\r\n\r\n"

    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(reply)

    async with serving(script) as server, client_of(server.url) as client:
        await client.get("/x")
        await client.get("/x")

    assert "cookie" not in server.requests[1].headers


async def test_environment_is_not_read(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async with client_of(server.url) as client:
        response = await client.get("/x")

    assert response.status_code == 200


async def test_private_host_is_refused_unless_allowed(server: ScriptedServer) -> None:
    async with client_of(server.url, allow_private=False) as client:
        with pytest.raises(TargetRefusedError, match="allow_private = true"):
            await client.get("/x")

    assert server.connections == 0


async def test_auth_and_hooks_still_work(client: PreparedClient, server: ScriptedServer) -> None:
    seen: list[int] = []

    async def hook(response: httpx2.Response) -> None:
        seen.append(response.status_code)

    await client.get("/x", auth=("ann", "pass"))
    client.event_hooks = {"response": [hook]}
    await client.get("/y", auth=None)

    assert server.requests[0].headers["authorization"] == "Basic YW5uOnBhc3M="
    assert seen == [200]


async def test_streamed_upload_and_streamed_response(
    client: PreparedClient, server: ScriptedServer
) -> None:
    async def upload() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    async with client.stream("POST", "/x", content=upload()) as response:
        chunks = [chunk async for chunk in response.aiter_bytes()]

    assert chunks == [b"ok"]
    assert server.requests[0].body == b"abc"


async def test_response_json_nested_too_deeply_is_a_value_error() -> None:
    deep = b"[" * 100_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(deep)
    async with serving(answering(head + deep)) as server, client_of(server.url) as client:
        response = await client.get("/x")

    with pytest.raises(ValueError, match="nested too deeply"):
        response.json()


async def test_url_with_its_secrets_is_not_logged(
    client: PreparedClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    await client.get("/x?key=s3cret")
    await client.get("/x?key=s3cret", auth=("ann", "pass"))

    assert "s3cret" not in caplog.text


async def test_nothing_is_sent_twice() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
    for reply in (b"", busy, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"):
        async with serving(answering(reply)) as server, client_of(server.url) as client:
            with recording(lambda: None) as recorder:
                await asyncio.gather(client.post("/x", json={}), return_exceptions=True)

        assert len(server.requests) == 1
        assert server.connections == 1
        assert len(recorder.exchanges) == 1


async def test_connection_closed_behind_the_loops_back_is_replaced() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_answer_and_close, args=(listener, 2))
    thread.start()
    try:
        port = listener.getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/x")).text == "ok"
            # The loop stands still, so that only a look at the socket can tell.
            time.sleep(0.1)  # noqa: ASYNC251 - see above
            assert (await client.post("/x")).text == "ok"
    finally:
        thread.join()
        listener.close()


def _answer_and_close(listener: socket.socket, times: int) -> None:
    for _ in range(times):
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(65536)
            accepted.sendall(OK)


async def test_recordings_of_concurrent_attempts_do_not_mix(
    client: PreparedClient, server: ScriptedServer
) -> None:
    async def attempt(number: int) -> list[str]:
        with recording(lambda: None) as recorder:
            await client.post("/x", json=number)
            await client.post("/y", json=number)
        return [
            f"{exchange.url.rpartition('/')[2]}{json.loads(exchange.request_body)}"
            for exchange in recorder.exchanges
        ]

    recorded = await asyncio.gather(*(attempt(number) for number in range(20)))

    assert recorded == [[f"x{number}", f"y{number}"] for number in range(20)]


async def test_closed_client_refuses_to_send(server: ScriptedServer) -> None:
    client = client_of(server.url)
    await client.aclose()

    with pytest.raises(RuntimeError, match="closed"):
        await client.get("/x")


async def test_mock_transport_stands_in_for_the_network() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"path": request.url.path})

    transport = httpx2.MockTransport(handler)
    async with client_of("https://api.example/v1", transport=transport) as client:
        response = await client.post("/x", json={})

    assert response.json() == {"path": "/v1/x"}


def test_base_url_that_is_none_is_refused() -> None:
    for base_url in ("http://", "ftp://a.example", "/x", "http://u:p@a.example", "http://a/?b=c"):
        with pytest.raises(httpx2.InvalidURL):
            client_of(base_url)
