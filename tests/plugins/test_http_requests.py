"""The generic HTTP provider sends exactly what it was given and returns what came back."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.plugins.http_provider import delivered, payload
from tests.sdk.scripted_server import ScriptedServer, always, answering, serving

from integrationd.sdk import (
    HttpRequest,
    HttpResult,
)
from integrationd.sdk.testing.context import NOON_MS

SECRET = "s3cret-value"
EVENT = b'{"event":"price.updated"}'


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with serving(always) as running:
        yield running


async def test_json_body_is_sent_byte_for_byte(server: ScriptedServer) -> None:
    raw = b'{"amount": 1.10, "big":12345678901234567890123,  "name":"Wanjik\\u0169"}'
    request = msgspec.json.decode(
        b'{"method":"POST","path":"/pay","json":%b}' % raw, type=HttpRequest
    )

    await delivered(server, request)

    [received] = server.requests
    assert received.body == raw
    assert received.headers["content-type"] == "application/json"
    assert (received.method, received.target) == ("POST", "/api/pay")


@pytest.mark.parametrize(
    ("members", "body", "content_type"),
    [
        ({"json": None}, b"null", "application/json"),
        (
            {"form": {"a": "x y", "b": ["1", "2"], "c": True, "d": 1.5}},
            b"a=x+y&b=1&b=2&c=true&d=1.5",
            "application/x-www-form-urlencoded",
        ),
        ({"text": "héllo"}, "héllo".encode(), "text/plain; charset=utf-8"),
        (
            {"text": "<a/>", "headers": {"content-type": "application/xml"}},
            b"<a/>",
            "application/xml",
        ),
        ({}, b"", None),
    ],
)
async def test_body_is_encoded_by_its_member(
    server: ScriptedServer, members: dict[str, Any], body: bytes, content_type: str | None
) -> None:
    await delivered(server, payload(method="POST", **members))

    [received] = server.requests
    assert received.body == body
    assert received.headers.get("content-type") == content_type


async def test_query_and_headers_are_sent(server: ScriptedServer) -> None:
    request = payload(
        path="/a b/ü",
        query={"q": "x&y =z", "n": 3, "on": True, "ids": [1, 2]},
        headers={"X-App": "\xe9t\xe9"},
    )

    await delivered(server, request, headers={"x-app": "default", "X-Own": "1"})

    [received] = server.requests
    assert received.target == "/api/a%20b/%C3%BC?q=x%26y%20%3Dz&n=3&on=true&ids=1&ids=2"
    assert received.headers["x-app"] == "\xe9t\xe9"
    assert received.headers["x-own"] == "1"


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"kind": "none"}, {}),
        ({"kind": "header", "name": "X-API-Key", "value": SECRET}, {"x-api-key": SECRET}),
        ({"kind": "bearer", "token": SECRET}, {"authorization": f"Bearer {SECRET}"}),
        (
            {"kind": "basic", "username": "ann", "password": "päss"},
            {"authorization": f"Basic {base64.b64encode('ann:päss'.encode()).decode()}"},
        ),
    ],
)
async def test_credential_is_sent_as_a_header(
    server: ScriptedServer, auth: dict[str, str], headers: dict[str, str]
) -> None:
    await delivered(server, payload(), auth=auth)

    [received] = server.requests
    assert headers.items() <= received.headers.items()
    assert set(received.headers) - {"host", "accept", "accept-encoding", "user-agent"} == set(
        headers
    )


async def test_credential_is_sent_in_the_query(server: ScriptedServer) -> None:
    auth = {"kind": "query", "name": "api key", "value": "a&b"}

    await delivered(server, payload(query={"q": "1"}), auth=auth)

    assert server.requests[0].target == "/api/?q=1&api%20key=a%26b"


async def test_hmac_signs_the_bytes_that_are_sent(server: ScriptedServer) -> None:
    request = msgspec.json.decode(
        b'{"method":"POST","path":"/x","json":%b}' % EVENT, type=HttpRequest
    )

    await delivered(server, request, auth={"kind": "hmac", "secret": "webhook-secret"})

    assert server.requests[0].headers["x-signature"] == (
        "1b86e9b9234ff0dddcf588acf71e3dc8d21c593a043fa60c6fd88f848f619c01"
    )


async def test_hmac_covers_method_path_and_body(server: ScriptedServer) -> None:
    auth = {
        "kind": "hmac",
        "secret": SECRET,
        "header": "Signature",
        "algorithm": "sha512",
        "encoding": "base64",
        "over": "method_path_body",
        "prefix": "v1=",
    }

    await delivered(
        server, payload(method="PUT", path="/a b", query={"q": "1"}, text="t"), auth=auth
    )

    signed = hmac.new(SECRET.encode(), b"PUT\n/api/a%20b\nt", hashlib.sha512).digest()
    assert server.requests[0].headers["signature"] == f"v1={base64.b64encode(signed).decode()}"


async def test_hmac_covers_the_time_that_is_sent(server: ScriptedServer) -> None:
    auth = {
        "kind": "hmac",
        "secret": SECRET,
        "over": "timestamp_body",
        "timestamp_header": "X-Time",
    }

    await delivered(server, payload(method="POST", text="t"), auth=auth)

    seconds = str(NOON_MS // 1000)
    headers = server.requests[0].headers
    assert headers["x-time"] == seconds
    assert (
        headers["x-signature"]
        == hmac.new(SECRET.encode(), f"{seconds}.t".encode(), hashlib.sha256).hexdigest()
    )


async def test_several_credentials_are_sent_together(server: ScriptedServer) -> None:
    auth = [
        {"kind": "header", "name": "X-API-Key", "value": SECRET},
        {"kind": "hmac", "secret": "other"},
    ]

    await delivered(server, payload(), auth=auth)

    assert {"x-api-key", "x-signature"} <= set(server.requests[0].headers)


@pytest.mark.parametrize(
    ("method", "config", "key"),
    [
        ("POST", {"idempotency": "server"}, "integrationd-019bc19c-0c00-7000-8000-00000000c0de"),
        (
            "PATCH",
            {"idempotency": "server", "idempotency_quoted": True},
            '"integrationd-019bc19c-0c00-7000-8000-00000000c0de"',
        ),
        ("GET", {"idempotency": "server"}, None),
        ("POST", {}, None),
    ],
)
async def test_idempotency_key_is_sent_where_the_server_honours_it(
    server: ScriptedServer, method: str, config: dict[str, Any], key: str | None
) -> None:
    await delivered(server, payload(method=method), idempotency_header="X-Key", **config)

    assert server.requests[0].headers.get("x-key") == key


@pytest.mark.parametrize(
    ("head", "body", "result"),
    [
        ("Content-Type: application/json", b'{"a": [1.5]}', {"body": {"a": [1.5]}}),
        ("Content-Type: application/problem+json; charset=utf-8", b"\xef\xbb\xbf[]", {"body": []}),
        ("Content-Type: application/json", b"not json", {"body": "not json"}),
        ("Content-Type: application/json", b"[" * 100_000, {"body": "[" * 100_000}),
        ("Content-Type: text/plain", b"123", {"body": "123"}),
        ("Content-Type: text/html; charset=ISO-8859-1", b"\xe9t\xe9", {"body": "été"}),
        ("Content-Type: text/plain; charset=zlib", b"\xc3\xa9t\xc3\xa9", {"body": "été"}),
        ("Content-Type: image/png", b"\xff", {"body": "\N{REPLACEMENT CHARACTER}"}),
        ("X-Empty: yes", b"", {}),
        (
            "Content-Type: application/json",
            b'"%b"' % (b"x" * 300_000),
            {"body": '"' + "x" * (256 * 1024 - 1), "truncated": True},
        ),
    ],
)
async def test_result_has_the_body_as_a_value_or_as_text(
    head: str, body: bytes, result: dict[str, Any]
) -> None:
    reply = (
        f"HTTP/1.1 201 Created\r\n{head}\r\nSet-Cookie: a=b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with serving(answering(reply.encode() + body)) as server:
        found = await delivered(server, payload(method="POST"))

    name, _, value = head.partition(": ")
    assert found.pop("headers") == {name.lower(): value, "content-length": str(len(body))}
    assert found == {"status": 201} | result
    msgspec.json.encode(found)
    msgspec.convert(found | {"headers": {}}, HttpResult)
