"""Whether anybody can be reached is told by a connection, and by nothing that was sent."""

import errno
import socket
import ssl
from collections.abc import Sequence

import pytest
import trustme
from tests.sdk.scripted_server import Peer, answering, serving, unused_port

from integrationd.sdk.http import PreparedClient, prepare_client
from integrationd.sdk.reach import look_at, look_for_any, look_from_here
from integrationd.sdk.transport import Transport


async def loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def client_of(url: str, tls: ssl.SSLContext | None = None) -> PreparedClient:
    transport = Transport(allow_private=True, tls=tls, resolve=loopback)
    return prepare_client(base_url=url, timeout_s=1.0, transport=transport)


async def mute(peer: Peer) -> None:
    await peer.reader.read()


async def test_host_is_reached_without_a_request() -> None:
    async with serving(mute) as server, client_of(f"http://one.test:{server.port}") as client:
        view = await look_for_any([client])

    assert view.is_there is True
    assert view.told == "one.test can be reached."
    assert server.connections == 1
    assert server.requests == []


async def test_one_of_many_is_enough() -> None:
    async with (
        serving(mute) as server,
        client_of(f"http://dead.test:{unused_port()}") as dead,
        client_of(f"http://live.test:{server.port}") as live,
    ):
        assert (await look_for_any([dead, live])).is_there is True


async def test_who_was_tried_is_told_where_nobody_can_be_reached() -> None:
    async with (
        client_of(f"http://b.test:{unused_port()}") as one,
        client_of(f"http://a.test:{unused_port()}") as other,
    ):
        view = await look_for_any([one, other])

    assert view.is_there is False
    assert view.told.startswith("Nobody can be reached: a.test: no connection to a.test")
    assert "b.test: no connection to b.test" in view.told


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_handshake_needs_a_certificate_that_is_trusted(is_trusted: bool) -> None:
    authority, portal = trustme.CA(), trustme.CA()
    of_server, of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    (authority if is_trusted else portal).issue_cert("one.test").configure_cert(of_server)
    authority.configure_trust(of_client)
    async with (
        serving(mute, of_server) as server,
        client_of(f"https://one.test:{server.port}", of_client) as client,
    ):
        assert (await look_for_any([client])).is_there is is_trusted


@pytest.mark.parametrize(
    ("status", "is_there"), [("204 No Content", True), ("200 OK", False), ("302 Found", False)]
)
async def test_page_has_to_answer_204(status: str, is_there: bool) -> None:
    reply = f"HTTP/1.1 {status}\r\nLocation: http://portal.test/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(reply.encode())) as server:
        view = await look_at(f"{server.url}/generate_204?x=1")

    assert view.is_there is is_there
    assert server.requests[0].target == "/generate_204?x=1"
    if not is_there:
        assert "as a captive portal does" in view.told


async def test_page_that_cannot_be_had_is_nobody() -> None:
    view = await look_at(f"http://127.0.0.1:{unused_port()}/generate_204")

    assert view.is_there is False
    assert view.told.startswith("Nobody can be reached: 127.0.0.1: no connection")


@pytest.mark.parametrize(
    ("error", "is_there"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), False),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), None),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), False),
        (OSError(errno.EHOSTUNREACH, "No route to host"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), None),
    ],
)
async def test_one_host_alone_tells_only_of_what_this_machine_knows(
    error: OSError, is_there: bool | None
) -> None:
    async def failing(_host: str, _port: int) -> Sequence[str]:
        raise error

    transport = Transport(resolve=failing)
    async with prepare_client(
        base_url="https://one.test", timeout_s=1.0, transport=transport
    ) as client:
        view = await look_from_here(client)

    assert view.is_there is is_there
    assert "one.test" in view.told
