"""Errors have one shape everywhere, and what a later version offers is named as such."""

from typing import Any

import httpx2
import pytest
from starlette.responses import Response
from tests.api.world import KEY, ApiWorld, code_of

from integrationd.api.replies import Reply


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/blobs"),
        ("POST", "/v1/blobs"),
        ("PUT", "/v1/blobs/x"),
        ("DELETE", "/v1/blobs/x/y"),
    ],
)
async def test_what_comes_later_is_not_available(idle: ApiWorld, method: str, path: str) -> None:
    answer = await idle.client.request(method, path)

    assert code_of(answer, 501) == "not_available"
    assert path in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/calls/", "/v1/nothing", "/v1/a/b/c", "/v1/tenantsfoo", "/v2/calls"],
)
async def test_unknown_path_is_a_404(idle: ApiWorld, path: str) -> None:
    for method in ("GET", "DELETE", "POST"):
        answer = await idle.client.request(method, path)
        assert code_of(answer, 404) == "no_such_path"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/calls", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/calls", "GET, HEAD, POST"),
        ("POST", "/v1/calls/some-id", "DELETE, GET, HEAD"),
        ("GET", "/v1/calls/some-id/retry", "POST"),
        ("PATCH", "/v1/calls/batch", "POST"),
        ("POST", "/v1/ledger", "GET, HEAD"),
        ("POST", "/v1/attempts/5", "GET, HEAD"),
        ("POST", "/v1/providers/sms", "GET, HEAD"),
        ("DELETE", "/v1/connections", "GET, HEAD, POST"),
        ("GET", "/v1/sms/send", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
async def test_wrong_method_is_a_405_that_names_the_right_ones(
    idle: ApiWorld, method: str, path: str, allowed: str
) -> None:
    answer = await idle.client.request(method, path)

    assert code_of(answer, 405) == "method_not_allowed"
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/v1/ledger", "/v1/status", "/v1/providers", "/v1/connections", "/v1/calls/some-id"]
)
async def test_option_that_would_be_ignored_is_refused(idle: ApiWorld, path: str) -> None:
    answer = await idle.client.get(f"{path}?tenant=school")

    assert code_of(answer, 400) == "unknown_option"


async def test_detail_does_not_repeat_an_endless_request(idle: ApiWorld) -> None:
    endless = "x" * 500_000
    for body in (
        {"operation": endless},
        {"operation": "rehearsal.hold", "connection": endless},
        {"operation": "rehearsal.hold", endless: 1},
    ):
        answer = await idle.client.post("/v1/calls", json=body)
        assert answer.status_code == 422
        assert len(answer.content) < 3000


async def test_host_header_is_never_interpreted(idle: ApiWorld) -> None:
    for host in ("[", "[::1", "a b", "http://evil.example", "", "x" * 5000, "a:b:c"):
        for path in ("/v1/ledger", "/v1/none", "/v1/tenants", "/v1/calls/none"):
            answer = await idle.client.get(path, headers={"Host": host})
            assert answer.json()["code"] in ("host_not_allowed", "host_missing")


async def test_fault_of_our_own_is_told_without_its_cause(
    idle: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: Any, **_more: Any) -> Any:
        raise RuntimeError("secret detail")

    submitter = idle.app._submitter
    monkeypatch.setattr(submitter, "one", fail)
    monkeypatch.setattr(submitter, "batch", fail)
    transport = httpx2.ASGITransport(app=idle.app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://daemon", headers=headers
    ) as client:
        for path in ("/v1/calls", "/v1/calls/batch"):
            answer = await client.post(path, json={})
            assert code_of(answer, 500) == "internal"
            assert "secret detail" not in answer.text


async def test_reply_and_response_are_the_same() -> None:
    reply = Reply(202, b"{}", ((b"content-type", b"application/json"), (b"content-length", b"2")))

    response: Response = reply.as_response()

    assert (response.status_code, response.body) == (202, b"{}")
    assert response.raw_headers == list(reply.headers)
