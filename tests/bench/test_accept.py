"""Accepting over HTTP, durably and not."""

from pathlib import Path
from typing import Any

import pytest
from tests.bench import figures
from tests.bench.children import serving
from tests.bench.figures import Table, interleaved, ratios, scaled, spread
from tests.bench.load import LATER, send_calls
from tests.bench.subject import http_config, running

pytestmark = pytest.mark.bench

KEY = "idk_of-the-benchmark"
MANY = 64


def test_accepting_durably_against_keeping_nothing(tmp_path: Path, table: Table) -> None:
    # Nobody listens there; the calls are for later, so nobody asks.
    nowhere = 9
    with (
        running(tmp_path / "d", nowhere) as daemon,
        serving("plain_server", key=KEY, config=http_config(nowhere)) as port,
    ):
        subjects = {
            "durable": lambda: _both(daemon.port, daemon.key),
            "plain": lambda: _both(port, KEY),
        }
        interleaved(subjects, rounds=1)
        found = interleaved(subjects)
        assert daemon.ledger()["pending"] >= len(found["durable"]) * scaled(6000)
    _report(table, found["durable"], found["plain"])


def _both(port: int, key: str) -> tuple[Any, Any]:
    many = send_calls(port, key, scaled(6000), MANY, LATER)
    return many, send_calls(port, key, scaled(1000), 1, LATER)


def _report(table: Table, durable: list[tuple[Any, Any]], plain: list[tuple[Any, Any]]) -> None:
    for target, one, name in (
        (figures.ACCEPT, 0, "rps"),
        (figures.ACCEPT_P99, 0, "p99_ms"),
        (figures.ACCEPT_P50, 1, "p50_ms"),
    ):
        above = [pair[one][name] for pair in durable]
        table.add(target, ratios(above, [pair[one][name] for pair in plain]))
    for label, pairs in (("durably", durable), ("without a journal", plain)):
        many, single = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        table.note(
            f"accepting {label}: c=64 {spread(one['rps'] for one in many)} requests/s,"
            f" p50 {spread((one['p50_ms'] for one in many), '{:.2f}')} ms,"
            f" p99 {spread((one['p99_ms'] for one in many), '{:.2f}')} ms,"
            f" load client busy {spread(one['busy'] * 100 for one in many)} % of a CPU;"
            f" c=1 p50 {spread((one['p50_ms'] for one in single), '{:.3f}')} ms"
        )
