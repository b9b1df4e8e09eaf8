"""The generic HTTP provider goes where it may, once, and says what came of it."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx2
import pydantic
import pytest
from tests.plugins.http_provider import BASE, HTTP, Http, delivered, payload, provider, send
from tests.sdk.scripted_server import Peer, ScriptedServer, always, answering, serving, unused_port

from integrationd.sdk import (
    Context,
    HttpRequest,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import Handler, PluginContract, make_context

SECRET = "s3cret-value"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with serving(always) as running:
        yield running


def accepted(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"ok": True})


def refused(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(400, json={"error": "no"})


class HttpContract(PluginContract):
    plugin = HTTP
    operation = "http.request"
    accepted: ClassVar[Handler] = staticmethod(accepted)
    refused: ClassVar[Handler] = staticmethod(refused)


class TestHttpPost(HttpContract):
    config = BASE | {"auth": {"kind": "bearer", "token": SECRET}}
    payload = {"method": "POST", "path": "/orders", "json": {"a": 1}}  # noqa: RUF012 - never changed


class TestHttpGet(HttpContract):
    config = BASE | {"auth": {"kind": "query", "name": "key", "value": SECRET}}
    payload = {"method": "GET", "path": "/orders", "query": {"q": "a"}}  # noqa: RUF012 - never changed


class TestHttpPostWithKey(HttpContract):
    config = BASE | {
        "idempotency": "server",
        "auth": [
            {"kind": "header", "name": "X-API-Key", "value": SECRET},
            {"kind": "hmac", "secret": f"{SECRET}-2", "over": "method_path_body"},
        ],
    }
    payload = {"method": "POST", "path": "/orders", "form": {"a": "1"}}  # noqa: RUF012 - never changed


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad", Rejected),
        ("401 Who", Rejected),
        ("404 None", Rejected),
        ("302 Found", Rejected),
        ("408 Late", Retryable),
        ("429 Slow", Throttled),
        ("500 Oops", Uncertain),
        ("503 Busy", Retryable),
    ],
)
async def test_status_decides_the_outcome(status: str, kind: type[Outcome]) -> None:
    reply = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serving(answering(reply)) as server:
        outcome, sent = await send(server.url, payload(method="POST"))

    assert isinstance(outcome, kind)
    assert sent
    assert len(server.requests) == 1


async def test_configured_status_is_a_success() -> None:
    reply = b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(reply)) as server:
        result = await delivered(server, payload(method="DELETE"), success=[404])

    assert result["status"] == 404


async def test_configured_status_is_retried() -> None:
    reply = b"HTTP/1.1 500 Oops\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(reply)) as server:
        outcome, _ = await send(server.url, payload(method="POST"), retry_on=[500])

    assert isinstance(outcome, Retryable)
    assert (outcome.reason, outcome.wait_s, outcome.sent) == ("http_500", 9.0, True)


@pytest.mark.parametrize(
    ("attempt", "config", "kind"),
    [
        (1, {"idempotency": "server"}, Rejected),
        (2, {"idempotency": "server"}, Uncertain),
        (2, {}, Rejected),
    ],
)
async def test_conflict_on_a_repeat_with_a_key_may_be_the_first_attempt_still_running(
    attempt: int, config: dict[str, Any], kind: type[Outcome]
) -> None:
    reply = b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(reply)) as server:
        outcome, _ = await send(server.url, payload(method="POST"), attempt=attempt, **config)

    assert isinstance(outcome, kind)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\nhalf",
        b"garbage",
    ],
)
async def test_reply_that_cannot_be_read_is_uncertain(reply: bytes) -> None:
    async with serving(answering(reply)) as server:
        outcome, sent = await send(server.url, payload(method="POST"))

    assert isinstance(outcome, Uncertain)
    assert sent
    assert len(server.requests) == 1


async def test_refused_connection_never_left() -> None:
    outcome, sent = await send(f"http://127.0.0.1:{unused_port()}", payload(method="POST"))

    assert isinstance(outcome, Retryable)
    assert (outcome.reason, outcome.sent, sent) == ("connection_refused", False, False)


async def test_calls_own_timeout_is_obeyed() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.reader.read()

    async with serving(script) as server:
        outcome, sent = await send(server.url, payload(method="POST", timeout_s=0.1))

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "timeout"
    assert sent


@pytest.mark.parametrize(
    ("request_members", "config", "reason"),
    [
        ({"method": "OPTIONS"}, {}, "allows GET, HEAD, POST, PUT, PATCH, DELETE, not OPTIONS"),
        ({"method": "POST"}, {"allowed_methods": ["GET"]}, "allows GET, not POST"),
        ({"path": "/v2/x"}, {"path_prefixes": ["/v1", "/health"]}, "below /v1, /health only"),
        ({"path": "/v1-admin"}, {"path_prefixes": ["/v1"]}, "below /v1 only"),
        ({"path": "/v1-admin"}, {"path_prefixes": ["/v1/"]}, "below /v1/ only"),
        (
            {"headers": {"authorization": "x"}},
            {"auth": {"kind": "bearer", "token": SECRET}},
            "sets authorization itself",
        ),
        (
            {"headers": {"X-Signature": "x"}},
            {"auth": {"kind": "hmac", "secret": SECRET}},
            "sets X-Signature itself",
        ),
        (
            {"headers": {"x-time": "1"}},
            {"auth": {"kind": "hmac", "secret": SECRET, "timestamp_header": "X-Time"}},
            "sets x-time itself",
        ),
        (
            {"method": "POST", "headers": {"idempotency-key": "x"}},
            {"idempotency": "server"},
            "sets idempotency-key itself",
        ),
    ],
)
def test_what_the_connection_does_not_allow_is_refused_before_acceptance(
    request_members: dict[str, Any], config: dict[str, Any], reason: str
) -> None:
    said = provider(**config).unsupported("http.request", payload(**request_members))

    assert said is not None
    assert reason in said


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/", "/"), ("/a", "/"), ("/v1", "/v1"), ("/v1/", "/v1"), ("/v1/a", "/v1/"), ("/v1", "/v1/")],
)
def test_path_below_a_prefix_is_allowed(path: str, prefix: str) -> None:
    assert provider(path_prefixes=[prefix]).unsupported("http.request", payload(path=path)) is None


@pytest.mark.parametrize(
    ("method", "idempotency", "is_safe", "only_reads"),
    [
        ("GET", "none", True, True),
        ("HEAD", "none", True, True),
        ("OPTIONS", "none", True, True),
        ("PUT", "none", True, False),
        ("DELETE", "none", True, False),
        ("POST", "none", False, False),
        ("PATCH", "none", False, False),
        ("POST", "server", True, False),
        ("PATCH", "server", True, False),
    ],
)
def test_repeating_is_safe_by_method_or_by_key(
    method: str, idempotency: str, is_safe: bool, only_reads: bool
) -> None:
    declared = Http.operations()["http.request"]
    made, request = provider(idempotency=idempotency), payload(method=method)

    assert callable(declared.repeat_safe)
    assert callable(declared.reads_only)
    assert declared.repeat_safe(made, request) is is_safe
    assert declared.reads_only(made, request) is only_reads


@pytest.mark.parametrize(
    ("config", "method", "lifetime_s"),
    [
        ({}, "POST", None),
        ({"idempotency": "server"}, "POST", 86_400.0),
        ({"idempotency": "server", "idempotency_lifetime_s": 60}, "POST", 60.0),
        ({"idempotency": "server"}, "PUT", None),
    ],
)
def test_key_is_honoured_for_as_long_as_the_connection_says(
    config: dict[str, Any], method: str, lifetime_s: float | None
) -> None:
    rule = Http.operations()["http.request"].key_lifetime_s

    assert callable(rule)
    assert rule(provider(**config), HttpRequest(method=method, path="/x")) == lifetime_s


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"auth": {"kind": "oauth2"}}, "auth"),
        ({"auth": {"kind": "header", "name": "X A", "value": "v"}}, "name"),
        ({"auth": {"kind": "header", "name": "Host", "value": "v"}}, "name"),
        ({"auth": {"kind": "bearer", "token": f"{SECRET}\n"}}, "line break"),
        ({"auth": {"kind": "basic", "username": "a:b", "password": "p"}}, "username"),
        ({"auth": {"kind": "hmac", "secret": "s", "over": "timestamp_body"}}, "timestamp_header"),
        ({"headers": {"Content-Length": "1"}}, "content-length"),
        ({"headers": {"X-A": "b\r\nc"}}, "line breaks"),
        ({"path_prefixes": []}, "path_prefixes"),
        ({"path_prefixes": ["v1"]}, "slash"),
        ({"allowed_methods": ["TRACE"]}, "allowed_methods"),
        ({"success": [200]}, "success"),
        ({"idempotency": "client"}, "idempotency"),
        ({"base_url": "ftp://a.example"}, "http://"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_config_that_cannot_work_is_refused_without_its_secrets(
    config: dict[str, Any], where: str
) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        provider(**config)

    assert where in str(caught.value)
    assert SECRET not in str(caught.value)


async def connection_test(url: str, **config: Any) -> str:
    made = provider(base_url=url, allow_private=True, **config)
    async with prepare_client(base_url=url, timeout_s=5.0, allow_private=True) as client:
        ctx: Context = make_context("http.request", client=client)
        said: str = await made.test_connection(ctx)
    return said


async def test_connection_test_reads_and_says_what_it_found(server: ScriptedServer) -> None:
    said = await connection_test(
        server.url, test_path="/me", auth={"kind": "bearer", "token": SECRET}
    )

    assert said == "GET /me was answered with 200"
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_connection_test_fails_when_the_server_is_at_fault() -> None:
    async with serving(answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")) as server:
        with pytest.raises(ConnectionError, match="answered with 503"):
            await connection_test(server.url)


async def test_connection_test_fails_when_the_credentials_are_refused() -> None:
    async with serving(answering(b"HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n")) as server:
        with pytest.raises(PermissionError, match="credentials were refused"):
            await connection_test(server.url)
