"""One request over a transport, and what came of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import httpx2

from integrationd.sdk.exchange import Exchange, recording
from integrationd.sdk.transport import Transport

TIMEOUT = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0}
SHORT = {"connect": 5.0, "read": 0.1, "write": 0.1, "pool": 0.1}
GARBAGE = [
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
]


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


def compressed(body: bytes) -> bytes:
    """Return a reply that says that its body is compressed."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body
