"""What the daemon costs while there is nothing to do."""

import os
import time
from pathlib import Path

import pytest
from tests.bench import figures
from tests.bench.figures import SCALE, Table
from tests.bench.subject import Subject, running

pytestmark = pytest.mark.bench

WARM_S = 5.0
WATCHED_S = 30.0 * SCALE
LOOK_EVERY_S = 0.2
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def test_idle_daemon_costs_next_to_nothing(tmp_path: Path, table: Table) -> None:
    with running(tmp_path / "d", sink_port=9) as daemon:
        time.sleep(WARM_S)
        cpu_s, written, began_s = _cpu_s(daemon), _written(daemon), time.monotonic()
        writes = _writes(daemon, began_s + WATCHED_S)
        passed_s = time.monotonic() - began_s
        cpu_s, written = _cpu_s(daemon) - cpu_s, _written(daemon) - written
        resident_mb = daemon.resident_mb()
        assert daemon.told("/healthz") is not None
    table.add(figures.IDLE_MEMORY, [resident_mb])
    table.add(figures.IDLE_CPU, [cpu_s / passed_s * 100])
    table.add(figures.IDLE_WRITES, [writes * 60 / passed_s])
    table.note(
        f"idle for {passed_s:.0f} s: {resident_mb:.1f} MB, {cpu_s:.2f} s of CPU,"
        f" {written} bytes written in {writes} moments"
    )


def _writes(daemon: Subject, until_s: float) -> int:
    """Return at how many looks something had been written since the last."""
    count, before = 0, _written(daemon)
    while time.monotonic() < until_s:
        time.sleep(LOOK_EVERY_S)
        now = _written(daemon)
        count += now > before
        before = now
    return count


def _cpu_s(daemon: Subject) -> float:
    """Return the CPU time that the daemon has used, its threads included."""
    stat = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(stat[11]) + int(stat[12])) * TICK_S


def _written(daemon: Subject) -> int:
    """Return how many bytes the daemon has made to be written to disks."""
    for line in Path(f"/proc/{daemon.pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not count what is written")
