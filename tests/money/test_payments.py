"""Payments over a bad link end in their one true state, once; and who retries blindly is caught.

``INTEGRATIOND_PAYMENTS`` sets how many the long run makes, ``INTEGRATIOND_PAYMENT_KILLS`` how often
the daemon is killed on the way.
"""

import os
from pathlib import Path

import pytest
from tests.money.link import Weather
from tests.money.trial import BLIND, Plan, attempt

SEED = 20260131
PAYMENTS = int(os.environ.get("INTEGRATIOND_PAYMENTS", "10000"))
KILLS = int(os.environ.get("INTEGRATIOND_PAYMENT_KILLS", "20"))


async def test_payments_end_in_their_true_state_once(short_path: Path) -> None:
    seen = await attempt(Plan(seed=SEED, payments=200, kills=2), short_path)
    print(seen)

    assert not seen.verdict.faults
    assert seen.dropped > 40
    assert seen.callbacks["lost"] > 10


@pytest.mark.slow
async def test_payments_end_in_their_true_state_without_any_callback(short_path: Path) -> None:
    plan = Plan(seed=SEED, payments=100, kills=0, weather=Weather(lost=1.0))

    seen = await attempt(plan, short_path)
    print(seen)

    assert not seen.verdict.faults
    assert "answered" not in seen.callbacks


async def test_judge_catches_a_daemon_that_retries_blindly(short_path: Path) -> None:
    plan = Plan(seed=SEED, payments=100, kills=0, settle_s=20, program=BLIND)

    seen = await attempt(plan, short_path)
    print(seen)

    assert any("charged 2 times" in fault for fault in seen.verdict.faults)


@pytest.mark.slow
async def test_many_payments_end_in_their_true_state_once(short_path: Path) -> None:
    plan = Plan(seed=SEED + 1, payments=PAYMENTS, kills=KILLS, settle_s=300)

    seen = await attempt(plan, short_path)
    print(seen)

    assert not seen.verdict.faults
