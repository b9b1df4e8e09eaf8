"""Plugins and configuration change without pause under load: no call suffers, memory comes back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.reload.churn import GOOD, Churn, rss_bytes, settled_rss_bytes
from tests.reload.rig import Flow, running

MEGABYTE = 1 << 20
SETTLE_S = 20.0
DRAIN_S = 60.0
PAUSE_S = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How much is done.

    Attributes:
        times: Plugin swaps, and configuration edits beside them, that are made under watch.
        before: Swaps and edits made before, until what is only ever made once has been made.
        calls: Calls made before.
        may_stay_bytes: How much memory may not come back.
    """

    times: int
    before: int
    calls: int
    may_stay_bytes: int


SHORT = Measure(times=20, before=1, calls=250, may_stay_bytes=20 * MEGABYTE)
LONG = Measure(times=200, before=20, calls=6000, may_stay_bytes=10 * MEGABYTE)


async def churned(directory: Path, measure: Measure) -> None:
    """Change everything again and again under load, and check what must hold."""
    churn = Churn(directory)
    rig, began = churn.rig, time.monotonic()
    flows = [Flow(rig, f"{code}.send", code) for code in GOOD]
    async with running(rig):
        await churn.warm_up(measure.calls)
        await rig.until(lambda: rig.get("/v1/ledger"), is_drained, DRAIN_S)
        async with churn.submitting(), flowing(flows):
            await asyncio.gather(churn.swap(measure.before), churn.edit(measure.before))
            before = rss_bytes(rig.pid)
            await asyncio.gather(churn.swap(measure.times), churn.edit(measure.times))
            assert [await churn.served(code) for code in GOOD] == [*map(churn.ruling, GOOD)]
        churn.mend_providers()
        ledger = await rig.until(lambda: rig.get("/v1/ledger"), is_drained, DRAIN_S)
        after = await settled_rss_bytes(rig.pid, before + measure.may_stay_bytes, SETTLE_S)

    grown, total = after - before, ledger["total"]
    print(f"{churn.counts}; {time.monotonic() - began:.0f} s; {total}")
    print(f"memory {before / MEGABYTE:.1f} MB -> {after / MEGABYTE:.1f} MB")
    assert [one for flow in flows for one in flow.wrong] == []
    assert churn.counts.swaps == churn.counts.edits == measure.before + measure.times
    assert churn.counts.broken >= 2 * (measure.times // 3)
    assert ledger["balances"]
    made = sum(flow.made for flow in flows)
    assert total["accepted"] == total["completed"]
    assert total["accepted"] == made + churn.counts.failing + churn.counts.others
    assert min(made, churn.counts.failing) > 2 * measure.times
    assert grown <= measure.may_stay_bytes


@contextlib.asynccontextmanager
async def flowing(flows: Sequence[Flow]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for flow in flows:
            await stack.enter_async_context(flow.flowing(pause_s=PAUSE_S))
        yield


def is_drained(ledger: dict[str, Any]) -> bool:
    total = ledger["total"]
    return all(not total[state] for state in ("pending", "processing", "waiting"))


@pytest.mark.timeout(120)
async def test_churn_of_plugins_and_configuration_harms_no_call(short_path: Path) -> None:
    await churned(short_path, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_long_churn_of_plugins_and_configuration_harms_no_call(short_path: Path) -> None:
    await churned(short_path, LONG)
