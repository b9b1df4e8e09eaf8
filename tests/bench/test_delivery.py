"""Delivering: what a request costs, and the whole daemon against a library of today."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.bench import figures
from tests.bench.children import ROOT, environment, measured, serving
from tests.bench.figures import Table, interleaved, ratios, scaled, spread
from tests.bench.sink import told_by
from tests.bench.subject import Subject, running

pytestmark = pytest.mark.bench

JOBS = scaled(200) * 16
HUEY_THREADS = "8"
ENDS_WITHIN_S = 60.0


def test_request_through_the_prepared_client_against_stock_httpx(table: Table) -> None:
    with serving("sink") as port:
        order: dict[str, Any] = {"port": port, "concurrency": 64, "seconds": 0.8}
        found = interleaved(
            {
                name: partial(measured, "http_client", client=name, **order)
                for name in ("httpx", "prepared", "recorded")
            }
        )
    assert all(one["done"] >= 64 for costs in found.values() for one in costs)
    cpu_us = {name: [one["cpu_us"] for one in costs] for name, costs in found.items()}
    # In an attempt every exchange is recorded, so that is what counts.
    table.add(figures.CLIENT, ratios(cpu_us["httpx"], cpu_us["recorded"]))
    table.note(
        "CPU per request, c=64: "
        + "; ".join(
            f"{name} {spread(cpu_us[name])} us, {spread(one['rps'] for one in costs)} requests/s"
            for name, costs in found.items()
        )
    )


def test_whole_daemon_against_huey(tmp_path: Path, table: Table) -> None:
    with serving("sink") as sink, running(tmp_path / "d", sink) as daemon:
        peer = Huey(tmp_path / "huey.db", sink)
        subjects: dict[str, Callable[[], float]] = {
            "daemon": partial(_through_the_daemon, daemon, sink, 16),
            "huey": peer.measure,
            "daemon c=64": partial(_through_the_daemon, daemon, sink, 64),
        }
        found = interleaved(subjects)
        resident_mb = daemon.resident_mb()
    table.add(figures.DAEMON, ratios(found["daemon"], found["huey"]))
    table.note(
        f"accepted, delivered and settled: c=16 {spread(found['daemon'])} calls/s,"
        f" c=64 {spread(found['daemon c=64'])} calls/s; huey c=16 {spread(found['huey'])} jobs/s"
        f" (of {JOBS} each round); the daemon's memory after it {resident_mb:.0f} MB"
    )


def _through_the_daemon(daemon: Subject, sink: int, concurrency: int) -> float:
    """Return calls per second, from the first request to the last settlement."""
    before, settled = told_by(sink)["count"], daemon.ledger()["completed"]
    began_s: float = daemon.send_calls(JOBS, concurrency)["began_s"]
    _until(lambda: told_by(sink)["count"] >= before + JOBS)
    _until(lambda: daemon.ledger()["completed"] >= settled + JOBS)
    rate = JOBS / (time.monotonic() - began_s)
    assert told_by(sink)["count"] == before + JOBS
    return rate


class Huey:
    """A queue of the peer.

    Args:
        file: Its database.
        sink: The port of the provider.
    """

    def __init__(self, file: Path, sink: int) -> None:
        self._sink = sink
        self._where = {"BENCH_HUEY_FILE": str(file), "BENCH_SINK_PORT": str(sink)}

    def measure(self) -> float:
        """Return jobs per second, from the first enqueued to the last delivered."""
        with self._consumer():
            self._produce(16)
            began_s = self._produce(JOBS)
            last_s: float = told_by(self._sink)["last_s"]
        return JOBS / (last_s - began_s)

    def _produce(self, count: int) -> float:
        """Have jobs done and return when the first was put into the queue."""
        done = told_by(self._sink)["count"] + count
        found = measured("huey_producer", self._where, count=count, threads=16)
        _until(lambda: told_by(self._sink)["count"] >= done)
        began_s: float = found["began_s"]
        return began_s

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[None]:
        options = ["-k", "thread", "-w", HUEY_THREADS, "-d", "0.01", "-m", "0.05", "-q"]
        process = subprocess.Popen(
            [sys.executable, "-m", "huey.bin.huey_consumer", "tests.bench.huey_app.huey", *options],
            cwd=ROOT,
            env=environment(self._where),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(ENDS_WITHIN_S)


def _until(reached: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + ENDS_WITHIN_S
    while not reached():
        assert time.monotonic() < ends_s, "not everything was delivered in time"
        time.sleep(0.01)
