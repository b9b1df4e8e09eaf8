"""Hostile bodies over both sockets: a clear 4xx, or kept as it came; and the server serves on."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.api.world import KEY, ApiWorld, code_of

from integrationd.api.listeners import bind_tcp, bind_unix
from integrationd.api.server import ApiServer

HEAD = b'{"operation":"rehearsal.hold",'
DEEP = 100_000

REFUSED = (400, 422)
CODES = {"not_json", "too_deep", "invalid", "unknown_operation", "not_configured"}
BODIES: dict[str, bytes] = {
    "empty": b"",
    "space": b" \n",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "zero": b"0",
    "minus zero": b"-0",
    "half": HEAD,
    "two": HEAD[:-1] + b"}{}",
    "trailing": HEAD + b'"priority":"low"} x',
    "trailing comma": HEAD + b'"priority":"low",}',
    "comment": HEAD + b'/* */"priority":"low"}',
    "single quotes": b"{'operation':'rehearsal.hold'}",
    "form": b"operation=rehearsal.hold",
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep payload": HEAD + b'"payload":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep metadata": HEAD + b'"metadata":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "deep and unclosed": b"[" * 1_000_000,
    "nan": HEAD + b'"expires_in":NaN}',
    "infinity": HEAD + b'"expires_in":-Infinity}',
    "1e400": HEAD + b'"expires_in":1e400}',
    "1e400 in metadata": HEAD + b'"metadata":{"a":1e400}}',
    "nan in metadata": HEAD + b'"metadata":{"a":NaN}}',
    "100,000 digits": HEAD + b'"expires_in":' + b"9" * 100_000 + b"}",
    "10,000 digits in metadata": HEAD + b'"metadata":{"a":' + b"9" * 10_000 + b"}}",
    "2^63": HEAD + b'"expires_in":9223372036854775808}',
    "2^64": HEAD + b'"expires_in":18446744073709551616}',
    "surrogate": HEAD + b'"connection":"\\ud800"}',
    "surrogate in a key": HEAD + b'"\\ud800":1}',
    "surrogate in the payload": HEAD + b'"payload":{"reference":"\\udfff"}}',
    "surrogate in a payload key": HEAD + b'"payload":{"\\udfff":1}}',
    "surrogate in metadata": HEAD + b'"metadata":{"\\ud800":"\\udfff"}}',
    "raw nul": b'{"operation":"rehearsal.hold\x00"}',
    "nul outside": b'\x00{"operation":"rehearsal.hold"}',
    "escaped nul": HEAD + b'"connection":"stage\\u0000"}',
    "escaped nul in a reference": HEAD + b'"reference":{"type":"a","id":"\\u0000"}}',
    "control in a reference": HEAD + b'"reference":{"type":"a\\n","id":"1"}}',
    "raw line break": b'{"operation":"rehearsal.\nhold"}',
    "utf-16": '{"operation":"rehearsal.hold"}'.encode("utf-16"),
    "utf-16 without bom": '{"operation":"rehearsal.hold"}'.encode("utf-16-le"),
    "utf-32": '{"operation":"rehearsal.hold"}'.encode("utf-32"),
    "bom": b'\xef\xbb\xbf{"operation":"rehearsal.hold"}',
    "latin-1": b'{"operation":"\xe9"}',
    "latin-1 in the payload": HEAD + b'"payload":{"reference":"\xe9"}}',
    "latin-1 in metadata": HEAD + b'"metadata":{"\xe9":1}}',
    "overlong": b'{"operation":"\xc0\xaf"}',
    "huge key": b'{"' + b"k" * 1_000_000 + b'":1}',
    "many keys": b"{" + b",".join(b'"k%d":1' % n for n in range(50_000)) + b"}",
    "huge operation": b'{"operation":"' + b"a" * 1_000_000 + b'"}',
    "operation of the internals": b'{"operation":"__class__.__init__"}',
    "random bytes": bytes(range(256)),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "zeros": b"\0" * 100_000,
}


@pytest.fixture(params=["unix", "tcp"])
async def client(
    idle: ApiWorld, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the whole server, over each of its sockets."""
    path = tmp_path / "s"
    sock = bind_unix(path, 0o600) if request.param == "unix" else bind_tcp("127.0.0.1:0")
    url = "http://daemon" if request.param == "unix" else "http://{}:{}".format(*sock.getsockname())
    headers = {} if request.param == "unix" else {"Authorization": f"Bearer {KEY}"}
    server = ApiServer(idle.app, [sock])
    transport = httpx2.AsyncHTTPTransport(uds=str(path) if request.param == "unix" else None)
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        await server.started()
        async with httpx2.AsyncClient(
            transport=transport, base_url=url, headers=headers, timeout=20
        ) as made:
            yield made
            alive = await made.post("/v1/rehearsal/hold")
            assert alive.status_code == 202
            assert (await made.get("/v1/calls")).status_code == 200
            assert (await made.get("/v1/ledger")).json()["balances"]
        await server.close(1.0)


def check_refused(name: str, answer: httpx2.Response) -> None:
    assert answer.status_code in REFUSED, f"{name}: {answer.status_code} {answer.text[:300]}"
    assert code_of(answer) in CODES, name
    assert len(answer.content) < 4000, name


async def test_hostile_bodies_are_refused_and_the_server_serves_on(
    client: httpx2.AsyncClient,
) -> None:
    for name, body in BODIES.items():
        check_refused(name, await client.post("/v1/calls", content=body))

    assert (await client.get("/v1/ledger")).json()["total"]["accepted"] == 0


async def test_hostile_payloads_of_the_short_form_are_refused(client: httpx2.AsyncClient) -> None:
    for name, body in BODIES.items():
        if name != "empty":
            check_refused(name, await client.post("/v1/rehearsal/hold", content=body))


async def test_hostile_batches_are_refused(client: httpx2.AsyncClient) -> None:
    for name, body in BODIES.items():
        if body.strip() and len(body) < 900_000:
            wrapped = b'{"calls":[%b]}' % body
            check_refused(name, await client.post("/v1/calls/batch", content=wrapped))


async def test_hostile_resolutions_are_refused(client: httpx2.AsyncClient) -> None:
    for name, body in BODIES.items():
        check_refused(name, await client.post("/v1/calls/none/resolve", content=body))


async def test_number_of_100_000_digits_is_as_good_as_its_first(client: httpx2.AsyncClient) -> None:
    body = HEAD + b'"expires_in":1.' + b"9" * 100_000 + b"}"

    assert (await client.post("/v1/calls", content=body)).status_code == 202


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "x",
    ],
)
async def test_body_counts_whatever_its_type_is_called(
    client: httpx2.AsyncClient, content_type: str
) -> None:
    headers = {"Content-Type": content_type}

    json_anyway = await client.post("/v1/calls", content=HEAD[:-1] + b"}", headers=headers)
    form = await client.post("/v1/calls", content=b"operation=rehearsal.hold", headers=headers)

    assert json_anyway.status_code == 202
    assert code_of(form, 400) == "not_json"


async def test_member_given_twice_counts_as_given_last(client: httpx2.AsyncClient) -> None:
    body = HEAD + b'"priority":"low","priority":"high","payload":{"script":["a"],"script":["b"]}}'

    call_id = (await client.post("/v1/calls", content=body)).json()["id"]
    shown = (await client.get(f"/v1/calls/{call_id}")).json()

    assert (shown["priority"], shown["payload"]) == ("high", {"script": ["b"]})


async def test_deep_but_allowed_metadata_is_shown_again(client: httpx2.AsyncClient) -> None:
    """What is just not too deep to be accepted is not too deep for anything that follows."""
    depth, accepted = 100, 0
    while depth < 5000:
        metadata = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        body = HEAD + b'"metadata":' + metadata + b"}"
        answer = await client.post(
            "/v1/calls", content=body, headers={"Idempotency-Key": f"deep-{depth}"}
        )
        if answer.status_code != 202:
            check_refused(f"{depth}", answer)
            break
        shown = await client.get(f"/v1/calls/{answer.json()['id']}")
        assert metadata in shown.content
        accepted, depth = accepted + 1, depth + 25

    assert accepted


async def test_deep_but_allowed_payload_is_shown_again(client: httpx2.AsyncClient) -> None:
    for depth in range(100, 2000, 50):
        nested = "[" * depth + '"token"' + "]" * depth
        body = (
            '{"operation":"http.request","payload":{"method":"POST","path":"/","json":'
            f'{{"api_key":"k-123456","a":{nested}}}}}}}'
        )
        answer = await client.post(
            "/v1/calls", content=body, headers={"Idempotency-Key": f"deep-{depth}"}
        )
        if answer.status_code != 202:
            check_refused(f"{depth}", answer)
            return
        shown = await client.get(f"/v1/calls/{answer.json()['id']}")
        assert shown.status_code == 200
        assert "k-123456" not in shown.text
        json.loads(shown.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": b"\x01"},
        {"Idempotency-Key": b"\xff\xfe"},
        {"Idempotency-Key": b"k" * 10_000},
        {"Idempotency-Key": b""},
        {"Prefer": b"wait=" + b"9" * 5000},
        {"Prefer": b"\xff\xfe; wait=\xc2\xb2"},
        {"Prefer": b"wait=1e1;" * 500},
        {"Accept": b"text/event-stream"},
        {"Range": b"bytes=0-"},
        {"X-Forwarded-For": b"127.0.0.1"},
    ],
    ids=str,
)
async def test_hostile_headers_are_refused_or_mean_nothing(
    client: httpx2.AsyncClient, headers: dict[str, Any]
) -> None:
    answer = await client.post(
        "/v1/calls", json={"operation": "sms.sned"}, headers=list(headers.items())
    )

    assert answer.status_code in REFUSED
    assert code_of(answer) in {"bad_idempotency_key", "malformed_request", "unknown_operation"}


@pytest.mark.parametrize(
    "target",
    [
        "/v1/calls/%2e%2e/%2e%2e/etc/passwd",
        "/v1/calls/..%2f..%2fkey",
        "/v1/calls/%00",
        "/v1/calls/%ff%fe",
        "/v1/calls/%",
        "/v1/%F0%9F%98%80/x",
        "//evil.example/v1/calls",
        "/v1//calls",
        "/v1/calls?state=%ff",
        "/v1/calls?&&=&",
        "/v1/calls?cursor=%00",
        "/v1/calls?limit=%2B5",
        "/v1/calls?limit=5%20",
    ],
)
async def test_hostile_targets_are_refused_or_find_nothing(
    client: httpx2.AsyncClient, target: str
) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await client.request(method, target)
        with contextlib.suppress(json.JSONDecodeError):
            assert answer.json().get("code") != "internal"
        assert 400 <= answer.status_code < 500 or answer.json().get("items") == []


async def test_head_sends_no_body(client: httpx2.AsyncClient) -> None:
    for path in ("/v1/calls", "/v1/ledger", "/healthz", "/metrics", "/v1/none"):
        head, get = await client.head(path), await client.get(path)
        assert head.content == b""
        assert head.status_code == get.status_code
