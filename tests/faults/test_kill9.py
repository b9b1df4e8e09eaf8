"""kill -9 at random moments under load: what was acknowledged is kept, and done at most once.

``INTEGRATIOND_FAULT_KILLS`` sets the kills of the long run, ``INTEGRATIOND_FAULT_SECONDS`` the time
that it may take for them; if that is not enough it fails, since it would prove too little.
"""

import os
import sys
from pathlib import Path

import pytest
from tests.faults.harness import Plan, endure

SEED = 20260131
KILLS = int(os.environ.get("INTEGRATIOND_FAULT_KILLS", "100"))
SECONDS = float(os.environ.get("INTEGRATIOND_FAULT_SECONDS", "240"))
ACKS_A_KILL = 200
EARLY = (sys.executable, str(Path(__file__).with_name("early_ack.py")))


@pytest.mark.timeout(240)
async def test_kill9_loses_nothing_in_a_few_kills(tmp_path: Path) -> None:
    report = await endure(Plan(seed=SEED, kills=5, acks=300, cut=3, seconds=90), tmp_path)
    print(report)

    assert not report.faults
    assert not report.vacuous


@pytest.mark.timeout(240)
async def test_kill9_harness_catches_a_daemon_that_acknowledges_before_the_commit(
    tmp_path: Path,
) -> None:
    plan = Plan(seed=SEED, kills=3, acks=50, cut=0, seconds=90, program=EARLY)

    report = await endure(plan, tmp_path)
    print(report)

    assert report.lost
    assert any("acknowledged, but lost" in fault for fault in report.faults)
    assert not report.vacuous


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
async def test_kill9_loses_nothing_in_many_kills(tmp_path: Path) -> None:
    plan = Plan(
        seed=SEED + 1,
        kills=KILLS,
        acks=KILLS * ACKS_A_KILL,
        cut=KILLS,
        seconds=SECONDS,
        anew=True,
    )

    report = await endure(plan, tmp_path)
    print(report)

    assert not report.faults
    assert not report.vacuous
