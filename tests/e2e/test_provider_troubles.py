"""The daemon against a real HTTP server: whatever goes wrong, it ends as the design says."""

import asyncio
import dataclasses
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.provider import Provider, providing
from tests.e2e.running import command, look, submit
from tests.faults.daemon import DaemonProcess, free_port

KEY = "sk-live-0815-4711"
ATTEMPTS = 2
TABLES = """\
[delivery]
attempts = {attempts}
backoff_first = "20ms"
backoff_cap = "50ms"
timeout = "600ms"
[delivery.breaker]
failures = 1000
"""
CONNECTION = """\
[connections.{name}]
provider = "http"
{more}
[connections.{name}.config]
base_url = "{url}"
allow_private = true
idempotency = "{idempotency}"
auth = {{ kind = "header", name = "X-Api-Key", value = "env:SHOP_KEY" }}
"""
# A way to send: the connection and the method.
WAYS = {"get": ("shop", "GET"), "post": ("shop", "POST"), "put": ("shop", "PUT")}
WAYS["keyed"] = ("keyed", "POST")


@dataclasses.dataclass
class Stage:
    """A daemon and its provider."""

    daemon: DaemonProcess
    client: httpx2.AsyncClient
    provider: Provider

    async def send(self, way: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request and return the call once it has left the open states."""
        connection, method = WAYS.get(way, (way, "POST"))
        payload: dict[str, Any] = {"method": method, "path": path}
        if method != "GET":
            payload["json"] = {"order": 7, "pin": "90210-x", "note": f"key {KEY}"}
        return await submit(
            self.client, "http.request", payload, **{"connection": connection, **options}
        )


def configured(url: str) -> str:
    nobody = f"http://127.0.0.1:{free_port()}"
    unnamed = "http://no-such-host.invalid"
    patient, hasty = "", 'give_up_after = "1s"'
    connections = [
        ("shop", url, "none", patient),
        ("keyed", url, "server", patient),
        ("closed", nobody, "none", patient),
        ("unnamed", unnamed, "none", patient),
        ("hasty", nobody, "none", hasty),
    ]
    return TABLES.format(attempts=ATTEMPTS) + "".join(
        CONNECTION.format(name=name, url=where, idempotency=keys, more=more)
        for name, where, keys, more in connections
    )


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="ide2e"))
    async with providing() as provider:
        daemon = DaemonProcess(directory, configured(provider.url), environ={"SHOP_KEY": KEY})
        with daemon:
            daemon.start()
            daemon.wait_ready()
            async with daemon.client() as client:
                yield Stage(daemon, client, provider)
            assert daemon.stop() == 0
    shutil.rmtree(directory)


def attempts_of(call: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(one["outcome"], one["reason"]) for one in call["attempt_log"]]


@pytest.mark.parametrize("way", WAYS)
async def test_success_completes_at_the_first_attempt(stage: Stage, way: str) -> None:
    call = await stage.send(way, f"/ok/{way}")

    assert (call["state"], call["attempts"]) == ("completed", 1)
    assert call["result"]["status"] == 200
    assert call["result"]["body"] == {"ok": True}
    assert len(stage.provider.requests(f"/ok/{way}")) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [400, 404])
async def test_refusal_fails_the_call_at_once(stage: Stage, way: str, status: int) -> None:
    call = await stage.send(way, f"/{status}/{way}")

    assert (call["state"], call["reason"]) == ("failed", f"http_{status}")
    assert f"The provider answered {status}" in call["detail"]
    assert len(stage.provider.requests(f"/{status}/{way}")) == call["attempts"] == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("form", "least_s"), [("seconds", 0.9), ("date", 0.9)])
async def test_retry_after_is_kept_and_costs_no_attempt(
    stage: Stage, way: str, form: str, least_s: float
) -> None:
    path = f"/429-{form}/{way}"
    sending = asyncio.ensure_future(stage.send(way, path))
    while not stage.provider.requests(path):
        await asyncio.sleep(0.01)
    await asyncio.sleep(least_s)
    early = len(stage.provider.requests(path))

    call = await sending

    assert early == 1
    assert (call["state"], call["attempts"], call["tries"]) == ("completed", 1, 2)
    assert [outcome for outcome, _ in attempts_of(call)] == ["throttled", "delivered"]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("500", "http_500"), ("cut", "cut_reply"), ("silent", "timeout")],
)
async def test_post_of_unknown_outcome_is_held_after_one_send(
    stage: Stage, trouble: str, reason: str
) -> None:
    path = f"/{trouble}/held"
    call = await stage.send("post", path)

    assert (call["state"], call["reason"], call["attempts"]) == ("unknown", reason, 1)
    assert "held for a person" in call["why"]
    assert f"integrationd resolve {call['id']}" in call["why"]
    assert call["attempt_log"][0]["rule"] == "held for a person"
    await asyncio.sleep(0.2)
    assert len(stage.provider.requests(path)) == 1


@pytest.mark.parametrize("trouble", ["500", "cut", "silent"])
@pytest.mark.parametrize(
    ("way", "state"), [("get", "failed"), ("put", "unknown"), ("keyed", "unknown")]
)
async def test_what_may_be_repeated_is_repeated_until_the_attempts_are_used_up(
    stage: Stage, trouble: str, way: str, state: str
) -> None:
    path = f"/{trouble}/{way}"
    call = await stage.send(way, path)

    assert (call["state"], call["attempts"]) == (state, ATTEMPTS)
    assert call["detail"]
    assert call["attempt_log"][0]["rule"] == "repeat-safe: sent again with the same key"
    keys = {one.headers.get("idempotency-key") for one in stage.provider.requests(path)}
    assert len(stage.provider.requests(path)) == ATTEMPTS
    assert keys == ({call["id"]} if way == "keyed" else {None})


@pytest.mark.parametrize("way", ["get", "put", "keyed"])
async def test_repeat_that_succeeds_completes_the_call(stage: Stage, way: str) -> None:
    call = await stage.send(way, f"/flaky/{way}")

    assert call["state"] == "completed"
    assert attempts_of(call) == [("uncertain", "http_500"), ("delivered", None)]


@pytest.mark.parametrize(
    ("connection", "reason"), [("closed", "connection_refused"), ("unnamed", "dns_failure")]
)
async def test_what_never_left_spends_no_attempt(
    stage: Stage, connection: str, reason: str
) -> None:
    call = await stage.send(connection, "/ok/never", wait_s=1)
    for _ in range(200):
        if call["tries"] > 2:
            break
        await asyncio.sleep(0.05)
        call = await look(stage.client, call["id"])

    assert call["state"] in ("pending", "processing")
    assert call["attempts"] == 0
    assert call["tries"] > 2
    assert attempts_of(call)[0] == ("retryable", reason)
    assert not any(one["sent"] for one in call["attempt_log"])
    assert call["why"]
    assert "Not sent" in call["attempt_log"][0]["detail"]


async def test_what_can_never_leave_is_given_up_in_time(stage: Stage) -> None:
    call = await stage.send("hasty", "/ok/never")

    assert (call["state"], call["attempts"]) in (("expired", 0), ("failed", 0))
    assert call["reason"] == "gave_up"
    assert "Not sent" in call["detail"]


async def test_attempts_are_logged_but_secrets_are_not(stage: Stage) -> None:
    await stage.send("post", "/echo/200/masked")
    await stage.send("post", "/echo/400/masked")

    received = stage.provider.requests("/echo/200/masked")[0]
    assert received.headers["x-api-key"] == KEY
    assert json.loads(received.body)["pin"] == "90210-x"
    log = (await stage.client.get("/v1/attempts?limit=500")).text
    assert "/echo/200/masked" in log
    assert '"X-Api-Key":"***"' in log or '"x-api-key":"***"' in log
    for secret in (KEY, "90210-x"):
        assert secret not in log
    assert KEY not in stage.daemon.output()


async def test_every_story_is_explained(stage: Stage) -> None:
    """Comes last: it tells what the tests before have left behind."""
    calls = (await stage.client.get("/v1/calls?limit=500")).json()["items"]
    stories = {(call["state"], call["reason"]): call["id"] for call in calls}

    for (state, reason), call_id in stories.items():
        story = await command(stage.daemon, "explain", call_id)
        assert call_id in story
        assert state in story or state in ("pending", "processing"), reason
        assert len(story.splitlines()) > 3
        assert KEY not in story
