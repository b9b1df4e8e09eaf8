"""Everything besides calls: ledger, status, connections, providers, attempts, health, metrics."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.api.world import SETTINGS, ApiWorld, code_of

from integrationd.clock import SystemClock
from integrationd.errors import JournalUnavailableError


async def shown(world: ApiWorld, path: str) -> Any:
    answer = await world.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_ledger_balances_per_tenant_and_connection(world: ApiWorld) -> None:
    for script in (["delivered"], ["rejected"], ["uncertain"], ["accepted"]):
        await world.play("hold", {"script": script})
    late = {"operation": "rehearsal.hold", "not_before": "2035-01-01T00:00:00Z"}
    pending = [(await world.client.post("/v1/calls", json=late)).json()["id"] for _ in range(3)]
    await world.client.delete(f"/v1/calls/{pending[0]}")

    ledger = await shown(world, "/v1/ledger")

    lines = {line["connection"]: line for line in ledger["items"]}
    assert ledger["balances"]
    assert ledger["total"]["accepted"] == 7
    assert (lines[None]["pending"], lines[None]["cancelled"]) == (2, 1)
    stage = lines["stage"]
    assert [stage[state] for state in ("completed", "failed", "unknown", "waiting")] == [1, 1, 1, 1]


async def test_status_is_ok_while_nobody_is_needed(idle: ApiWorld) -> None:
    status = await shown(idle, "/v1/status")

    assert status["status"] == "ok"
    assert status["problems"] == []
    assert status["journal"]["condition"] == "ready"
    assert status["oldest_pending_at"] is None


async def test_status_says_what_needs_a_person(world: ApiWorld) -> None:
    await world.play("hold", {"script": ["uncertain"]})
    for _ in range(5):
        await world.play("hold", {"script": ["retryable:60"]}, wait_s=1)

    status = await shown(world, "/v1/status")

    assert status["status"] == "attention"
    assert any("1 calls are of unknown outcome" in one for one in status["problems"])
    assert any("Connection stage: its breaker is open" in one for one in status["problems"])
    assert status["oldest_pending_at"] is not None


async def test_breaker_is_closed_by_hand(tmp_path: Path) -> None:
    settings = {**SETTINGS, "delivery": {"breaker": {"failures": 1}}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.running():
        await made.play("hold", {"script": ["retryable:60"]}, wait_s=1)
        opened = await shown(made, "/v1/connections/stage")
        reset = await made.client.post("/v1/connections/stage/breaker/reset")

    assert opened["breaker"] == "open"
    assert opened["breaker_until"] is not None
    assert reset.json()["breaker"] == "closed"
    assert reset.json()["breaker_until"] is None


async def test_call_behind_an_open_breaker_says_so(tmp_path: Path) -> None:
    settings = {**SETTINGS, "delivery": {"breaker": {"failures": 1}}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.running():
        await made.play("hold", {"script": ["retryable:60"]}, wait_s=1)
        waiting = await made.play("hold", wait_s=1)

    assert waiting["state"] == "pending"
    assert "its breaker opened after repeated failures" in waiting["why"]
    assert waiting["until"] is not None


async def test_connections_are_shown_without_their_config(idle: ApiWorld) -> None:
    listed = await shown(idle, "/v1/connections")
    one = await shown(idle, "/v1/connections/shop")

    assert [item["id"] for item in listed["items"]] == ["stage", "console", "off", "shop"]
    (item,) = [item for item in listed["items"] if item["id"] == "shop"]
    assert {key: one[key] for key in item} == item
    assert one["operations"] == ["http.request"]
    assert "config" not in one
    assert {item["id"]: item["enabled"] for item in listed["items"]}["off"] is False


async def test_connection_that_is_not_there_is_a_404(idle: ApiWorld) -> None:
    looked = await idle.client.get("/v1/connections/nobody")
    reset = await idle.client.post("/v1/connections/nobody/breaker/reset")

    assert code_of(looked, 404) == code_of(reset, 404) == "not_found"


async def test_providers_are_shown_with_their_schemas(idle: ApiWorld) -> None:
    everything = await shown(idle, "/v1/providers")
    messaging = await shown(idle, "/v1/providers/sms")

    by_code = {one["code"]: one for one in everything["items"]}
    assert list(by_code) == sorted(by_code)
    assert [one["code"] for one in messaging["items"]] == ["africastalking", "console"]
    http = by_code["http"]
    assert "base_url" in http["config_schema"]["properties"]
    assert http["operations"][0]["request_schema"]["$ref"]
    by_name = {one["name"]: one for one in by_code["rehearsal"]["operations"]}
    assert by_name["rehearsal.ask"]["can_be_asked"]
    assert not by_name["rehearsal.read"]["effect"]


async def test_attempts_are_listed_and_filtered(world: ApiWorld) -> None:
    twice = await world.play("hold", {"script": ["retryable", "delivered"]})
    await world.play("hold", {"script": ["rejected"]})

    async def outcomes(query: str) -> list[str]:
        return [one["outcome"] for one in (await shown(world, f"/v1/attempts?{query}"))["items"]]

    assert await outcomes("limit=500") == ["rejected", "delivered", "retryable"]
    assert await outcomes(f"call_id={twice['id']}") == ["delivered", "retryable"]
    assert await outcomes("outcome=rejected&connection=stage") == ["rejected"]
    assert await outcomes("connection=nobody") == []
    first = await shown(world, "/v1/attempts?limit=1")
    rest = await shown(world, f"/v1/attempts?limit=2&cursor={first['next']}")
    assert [one["outcome"] for one in rest["items"]] == ["delivered", "retryable"]
    number = rest["items"][0]["id"]
    assert await shown(world, f"/v1/attempts/{number}") == rest["items"][0]


@pytest.mark.parametrize("number", ["0", "7", "-1", "abc", "9" * 18, "9" * 40, "1%20", "%D9%A3"])
async def test_attempt_that_is_not_there_is_a_404(idle: ApiWorld, number: str) -> None:
    answer = await idle.client.get(f"/v1/attempts/{number}")

    assert code_of(answer, 404) == "no_such_attempt"


async def test_metrics_tell_what_operators_watch(world: ApiWorld) -> None:
    await world.play("hold")
    await world.play("hold", {"script": ["uncertain"]})
    await world.client.post("/v1/rehearsal/hold?not_before=2035-01-01T00:00:00Z")

    answer = await world.client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-type"].count("charset") == 1
    sends = 'integrationd_attempts_total{connection="stage",kind="send",'
    for line in (
        f'{sends}outcome="delivered",tenant="default"}} 1.0',
        f'{sends}outcome="uncertain",tenant="default"}} 1.0',
        r'integrationd_attempt_seconds_count{connection="stage"} 2.0',
        r'integrationd_calls{connection="",state="pending",tenant="default"} 1.0',
        r'integrationd_calls{connection="stage",state="unknown",tenant="default"} 1.0',
        r'integrationd_breaker_state{connection="stage"} 0.0',
        r"integrationd_journal_ready 1.0",
    ):
        assert line in answer.text
    assert re.search(r'attempt_seconds_bucket{connection="stage",le="\+Inf"} 2\.0', answer.text)
    assert re.search(r"integrationd_oldest_pending_seconds \d", answer.text)
    assert re.search(r"integrationd_commit_seconds_count [1-9]", answer.text)


async def test_health_is_answered_while_the_journal_is_not_ready(
    idle: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rows(*_args: Any) -> Any:
        raise JournalUnavailableError("the journal is being recovered")

    assert await shown(idle, "/readyz") == {"status": "ready"}
    await idle.journal.close()
    monkeypatch.setattr(idle.journal, "rows", rows)

    assert await shown(idle, "/healthz") == {"status": "ok"}
    assert code_of(await idle.client.get("/readyz"), 503) == "not_ready"
    assert (await shown(idle, "/v1/status"))["status"] == "degraded"
    assert (await idle.client.get("/metrics")).status_code == 200
    refused = await idle.client.post("/v1/rehearsal/hold")
    assert code_of(refused, 503) == "journal_unavailable"
    assert int(refused.headers["retry-after"]) > 0
    for path in ("/v1/calls", "/v1/ledger", "/v1/connections"):
        assert code_of(await idle.client.get(path), 503) == "journal_unavailable"


async def test_lost_commits_are_acknowledged_when_there_are_any(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/journal/acknowledge")

    assert answer.json() == {"acknowledged": False}
