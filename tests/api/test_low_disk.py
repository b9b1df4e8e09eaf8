"""A journal's disk that is low on room, as clients and operators are told of it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.world import SETTINGS, ApiWorld, code_of

from integrationd.clock import SystemClock

# Sizes that no disk has, so that any is low on room.
HIGH = {"high_water": 2**49, "critical": 0}
CRITICAL = {"high_water": 2**49, "critical": 2**49}


@contextlib.asynccontextmanager
async def on_a_disk(directory: Path, marks: dict[str, int]) -> AsyncIterator[ApiWorld]:
    made = ApiWorld(directory, SystemClock(), {**SETTINGS, "journal": marks})
    async with made.running():
        yield made


async def test_low_disk_refuses_calls_of_low_priority_in_every_form(tmp_path: Path) -> None:
    low: dict[str, Any] = {"operation": "rehearsal.hold", "priority": "low"}
    batch = {"calls": [{"operation": "rehearsal.hold"}, low]}
    async with on_a_disk(tmp_path, HIGH) as world:
        refused = [
            await world.client.post("/v1/calls", json=low),
            await world.client.post("/v1/calls/batch", json=batch),
            await world.client.post("/v1/rehearsal/hold?priority=low"),
        ]
        taken = await world.client.post("/v1/rehearsal/hold")
        total = (await world.client.get("/v1/ledger")).json()["total"]

    for answer in refused:
        assert code_of(answer, 507) == "journal_high_water"
        assert "calls of low priority are refused" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
    assert taken.status_code == 202
    assert total["accepted"] == 1


@pytest.mark.parametrize(
    ("marks", "status", "condition", "ready", "gauges"),
    [
        ({"high_water": 0, "critical": 0}, "ok", "ready", 200, (0, 1)),
        (HIGH, "attention", "ready", 200, (1, 1)),
        (CRITICAL, "degraded", "full", 503, (2, 0)),
    ],
)
async def test_room_is_told_by_status_readiness_and_metrics(
    tmp_path: Path,
    marks: dict[str, int],
    status: str,
    condition: str,
    ready: int,
    gauges: tuple[int, int],
) -> None:
    async with on_a_disk(tmp_path, marks) as world:
        told = (await world.client.get("/v1/status")).json()
        readiness = await world.client.get("/readyz")
        metrics = (await world.client.get("/metrics")).text

    level, is_ready = gauges
    journal = told["journal"]
    assert (told["status"], journal["condition"]) == (status, condition)
    assert journal["level"] == ("ample", "high", "critical")[level]
    assert 0 < journal["free_bytes"] < journal["disk_bytes"]
    assert any("refused" in problem for problem in told["problems"]) == (level > 0)
    assert readiness.status_code == ready
    assert f"integrationd_journal_room_level {level}.0" in metrics
    assert f"integrationd_journal_ready {is_ready}.0" in metrics
    assert "integrationd_journal_free_bytes " in metrics


async def test_disk_that_is_nearly_full_refuses_calls_and_says_what_is_free(
    tmp_path: Path,
) -> None:
    async with on_a_disk(tmp_path, CRITICAL) as world:
        refused = await world.client.post("/v1/rehearsal/hold?priority=high")

    assert code_of(refused, 507) == "journal_full"
    assert "are kept for what was accepted" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
