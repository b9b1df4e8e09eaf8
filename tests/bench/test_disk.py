"""Commits against what the disk gives."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from tests.bench import figures
from tests.bench.children import measured
from tests.bench.disk import OneSubmitter, SqlLayer, on_a_loop, sync_rate
from tests.bench.figures import SCALE, Table, interleaved, ratios, spread

pytestmark = pytest.mark.bench

SECONDS = 1.0 * SCALE
SLOW_SECONDS = 1.2 * SCALE
SYNC_MS = 5
SHIM = Path(__file__).with_name("slow_sync.c")


def test_one_row_a_commit_against_the_disk(tmp_path: Path, table: Table) -> None:
    with on_a_loop() as runner:
        sql = SqlLayer(tmp_path / "sql.db")
        one = OneSubmitter(tmp_path / "writer.db", runner)
        subjects = {
            "disk": partial(sync_rate, tmp_path / "append", SECONDS),
            "sql": partial(sql.measure, SECONDS),
            "writer": partial(one.measure, SECONDS),
        }
        interleaved(subjects, rounds=1)
        found = interleaved(subjects)
        one.close()
        sql.close()
    table.add(figures.COMMIT_SQL, ratios(found["sql"], found["disk"]))
    table.add(figures.COMMIT_WRITER, ratios(found["writer"], found["disk"]))
    table.note(
        f"fdatasync {spread(found['disk'])}/s, 1 row a commit {spread(found['sql'])}/s,"
        f" through the writer {spread(found['writer'])}/s"
    )


def test_group_commit_with_slow_syncs(tmp_path: Path, table: Table) -> None:
    if shutil.which("gcc") is None:
        table.note("slow syncs: not measured, since gcc is missing")
        pytest.skip("slow syncs are emulated by a preload that gcc makes, and gcc is missing")
    shim = tmp_path / "slow_sync.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, SHIM, "-ldl"], check=True)
    slow = {"LD_PRELOAD": str(shim), "BENCH_SYNC_MS": str(SYNC_MS)}
    order = {"concurrency": 64, "seconds": SLOW_SECONDS, "directory": str(tmp_path)}
    found: dict[str, list[float]] = interleaved(
        {
            how: partial(measured, "submitters", slow, how=how, **order)
            for how in ("in groups", "one by one")
        }
    )
    assert max(found["one by one"]) <= 1000 / SYNC_MS, "the preload did not slow the syncs"
    table.add(figures.GROUP, ratios(found["in groups"], found["one by one"]))
    table.note(
        f"calls accepted with {SYNC_MS} ms syncs, c=64: in groups {spread(found['in groups'])}/s,"
        f" a commit per call {spread(found['one by one'])}/s"
    )
