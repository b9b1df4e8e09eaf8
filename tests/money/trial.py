"""One trial: a daemon, a market behind a bad link, an app that sells, and kills on the way."""

import asyncio
import dataclasses
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
from tests.faults.daemon import PROGRAM, DaemonProcess, free_port
from tests.money.judge import Verdict, judge
from tests.money.link import Weather
from tests.money.market import Links, Market, Pages, Phones, Till
from tests.money.shop import Order, Shop

BLIND = (sys.executable, str(Path(__file__).with_name("blind.py")))
POLL_S = 0.5

_TABLES = """
[delivery]
attempts = 12
backoff_first = "200ms"
backoff_cap = "2s"
timeout = "10s"

[delivery.breaker]
failures = 1000

[log]
level = "warning"

[webhooks]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
rate_limit = "1000/s"
burst = 10000
"""
_ASKING = """
[connections.{name}.query]
first = "1s"
factor = 1.5
cap = "5s"
window = "5m"
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is tried.

    Attributes:
        seed: Of all randomness here.
        payments: How many are made.
        kills: How often the daemon is killed on the way.
        weather: How bad the link is.
        settle_s: Seconds in which all must have settled once the last order is acknowledged.
        program: The daemon to run.
    """

    seed: int
    payments: int
    kills: int
    weather: Weather = dataclasses.field(default_factory=Weather)
    settle_s: float = 90.0
    program: Sequence[str] = PROGRAM


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen.

    Attributes:
        verdict: The judge's.
        kills: How often the daemon was killed.
        dropped: How many connections broke.
        callbacks: How many were lost, repeated, early, answered, not answered.
        seconds: How long it took.
    """

    verdict: Verdict
    kills: int
    dropped: int
    callbacks: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:.0f} s, {self.kills} kills, {self.dropped} connections dropped,"
            f" callbacks {self.callbacks}\n{self.verdict}"
        )


async def attempt(plan: Plan, directory: Path) -> Outcome:
    """Make the payments of a plan and return what was seen."""
    began, dice, port = time.monotonic(), random.Random(plan.seed), free_port()
    tills: list[Till] = [
        Phones(dice),
        Pages(dice, f"http://127.0.0.1:{port}/webhooks/stripe/pages"),
        Links(dice, f"http://127.0.0.1:{port}/webhooks/paystack/links"),
    ]
    orders = [Order(number, tills[number % len(tills)]) for number in range(plan.payments)]
    market = Market(tills, plan.weather, dice)
    async with market.open() as urls:
        tables = _TABLES.format(port=port) + "".join(
            till.table(urls[till.connection]) + _ASKING.format(name=till.connection)
            for till in tills
        )
        with DaemonProcess(directory, tables, program=plan.program) as daemon:
            await _start(daemon)
            shop = Shop(daemon, orders)
            killer = asyncio.create_task(_kill(daemon, shop, plan))
            customers = asyncio.create_task(shop.send_customers())
            await shop.sell()
            await killer
            async with daemon.client() as client:
                await _settled(client, plan.settle_s)
                customers.cancel()
                verdict = await judge(client, shop, orders, market.post.arrived)
            assert daemon.stop() == 0
    return Outcome(
        verdict=verdict,
        kills=plan.kills,
        dropped=market.dropped,
        callbacks=dict(market.post.told),
        seconds=time.monotonic() - began,
    )


async def _start(daemon: DaemonProcess) -> None:
    daemon.start()
    await asyncio.to_thread(daemon.wait_ready)


async def _kill(daemon: DaemonProcess, shop: Shop, plan: Plan) -> None:
    """Kill the daemon while it sells, and a few times while all settles."""
    for number in range(plan.kills):
        share = (number + 1) / plan.kills * 1.2
        while share < 1 and len(shop.call_of) < share * plan.payments:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(daemon.kill)
        await _start(daemon)
        if share >= 1:
            await asyncio.sleep(1.0)


async def _settled(client: httpx2.AsyncClient, within_s: float) -> None:
    """Wait until every call is final, or cannot be asked about any more."""
    until = time.monotonic() + within_s
    while time.monotonic() < until and await _is_open(client):
        await asyncio.sleep(POLL_S)


async def _is_open(client: httpx2.AsyncClient) -> bool:
    total = (await client.get("/v1/ledger")).raise_for_status().json()["total"]
    if any(total[state] for state in ("pending", "processing", "waiting")):
        return True
    listed = await client.get("/v1/calls", params={"state": "unknown", "limit": 500})
    unknown = listed.raise_for_status().json()["items"]
    return any(one["provider_reference"] or one["connection"] != "phones" for one in unknown)
