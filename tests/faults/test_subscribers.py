"""Events reach every live subscriber, whatever the others do and however often the daemon dies.

``INTEGRATIOND_FAULT_EVENTS``, ``INTEGRATIOND_FAULT_SUBSCRIBERS`` and ``INTEGRATIOND_FAULT_KILLS``
set the size of the long run: 50000, 20 and 30 are what is promised.
"""

import asyncio
import json
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.faults.daemon import DaemonProcess, free_port
from tests.faults.receivers import DEAD, LIVE, Receiver, Receivers

PLUGINS = Path(__file__).parents[1] / "plugin_files"
EVENTS = int(os.environ.get("INTEGRATIOND_FAULT_EVENTS", "50000"))
SUBSCRIBERS = int(os.environ.get("INTEGRATIOND_FAULT_SUBSCRIBERS", "20"))
KILLS = int(os.environ.get("INTEGRATIOND_FAULT_KILLS", "30"))
BATCH = 50
EVENTS_A_CALL = 2
RETRY_S = 0.1
POLL_S = 0.2
# Failures in a row open the breaker; a shorter rest than usual keeps the test short.
TABLES = """
[delivery.breaker]
open_for = "1s"
successes = 1

[log]
level = "error"

[plugins]
paths = [{plugins}]

[connections.stage]
provider = "rehearsal"
concurrency = 64

[connections.stage.query]
first = "100ms"
cap = "1s"
"""
SCHEDULE = [0, 0.2, 0.2, 0.5, *[1.0] * 26]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run has to reach.

    Attributes:
        events: So many events are made, at least.
        subscribers: To so many subscribers.
        kills: How often the daemon is killed.
        seconds: After this time it has failed.
    """

    events: int
    subscribers: int
    kills: int
    seconds: float


class Run:
    """One daemon, its subscribers, and a client that has calls made."""

    def __init__(self, plan: Plan, daemon: DaemonProcess, receivers: Receivers) -> None:
        self.plan = plan
        self.faults: list[str] = []
        self.subscriptions: dict[str, str] = {}
        self.slow_when_good_had_all: int | None = None
        self._daemon = daemon
        self._receivers = receivers
        self._random = random.Random(20260131)

    async def go(self) -> None:
        """Subscribe, publish under kills, wait for the live ones, and judge."""
        await self._start()
        await self._subscribe()
        publishing = asyncio.create_task(self._publish())
        for _ in range(self.plan.kills):
            await asyncio.sleep(self._random.uniform(0.3, 1.5))
            self._daemon.kill()
            await self._start()
        await publishing
        events = await self._events()
        async with asyncio.timeout(self.plan.seconds):
            await self._until_told({one["seq"] for one in events})
        await self._judge(events)

    async def _start(self) -> None:
        self._daemon.start()
        await asyncio.to_thread(self._daemon.wait_ready)

    async def _subscribe(self) -> None:
        kinds = (*LIVE, *DEAD)
        unused = free_port()
        async with self._daemon.client() as client:
            for number in range(self.plan.subscribers):
                kind = kinds[number % len(kinds)]
                name = f"{kind}{number}"
                path = self._receivers.add(name, kind)
                port = unused if kind == "dead" else self._receivers.port
                wish = {
                    "name": name,
                    "url": f"http://127.0.0.1:{port}{path}",
                    "allow_private": True,
                    "events": ["call.*"],
                    "schedule": SCHEDULE,
                    "scheme": "simple" if kind == "simple" else "standard",
                }
                made = await client.post("/v1/subscriptions", json=wish)
                assert made.status_code == 201, made.text
                self.subscriptions[name] = made.json()["id"]
                self._receivers.all[name].secret = made.json()["secret"]

    async def _publish(self) -> None:
        calls = -(-self.plan.events // EVENTS_A_CALL)
        for first in range(0, calls, BATCH):
            items = [_call(number) for number in range(first, min(first + BATCH, calls))]
            await self._post({"calls": items})

    async def _post(self, body: dict[str, Any]) -> None:
        """Have a batch accepted, across any number of kills; its keys make it happen once."""
        while True:
            try:
                async with self._daemon.client() as client:
                    answer = await client.post("/v1/calls/batch", json=body)
            except httpx2.TransportError:
                await asyncio.sleep(RETRY_S)
                continue
            if answer.status_code == 202:
                return
            assert answer.status_code >= 500, answer.text
            await asyncio.sleep(RETRY_S)

    async def _events(self) -> list[dict[str, Any]]:
        """Return every event about a call, once there are as many as were to be."""
        while True:
            found: list[dict[str, Any]] = []
            async with self._daemon.client() as client:
                cursor = "0"
                while True:
                    query = {"after": cursor, "type": "call.*", "limit": "500"}
                    page = (await client.get("/v1/events", params=query)).json()
                    found += page["items"]
                    if not page["items"]:
                        break
                    cursor = str(page["items"][-1]["seq"])
            if len(found) >= self.plan.events:
                return found
            await asyncio.sleep(POLL_S)

    def _live(self) -> dict[str, Receiver]:
        return {name: one for name, one in self._receivers.all.items() if one.kind in LIVE}

    async def _until_told(self, wanted: set[int]) -> None:
        while True:
            missing = {name: len(wanted - one.taken) for name, one in self._live().items()}
            by_kind: defaultdict[str, int] = defaultdict(int)
            for name, count in missing.items():
                by_kind[self._receivers.all[name].kind] += count
            if not by_kind["good"] and self.slow_when_good_had_all is None:
                self.slow_when_good_had_all = by_kind["slow"]
            if not any(missing.values()):
                return
            await asyncio.sleep(POLL_S)

    async def _judge(self, events: list[dict[str, Any]]) -> None:
        ids: dict[int, set[str]] = defaultdict(set)
        for name, one in self._receivers.all.items():
            self.faults += [f"{name} got a forged one: {told}" for told in one.forged[:3]]
            for webhook_id in one.seen:
                ids[int(webhook_id.split("_")[1])].add(webhook_id)
        self.faults += [
            f"event {seq} has the ids {found}" for seq, found in ids.items() if len(found) > 1
        ]
        known = {one["seq"] for one in events}
        self.faults += [f"event {seq} is in no log" for seq in ids.keys() - known]
        for name, one in self._live().items():
            self.faults += [
                f"{name} first got the events of {call} as {order}"
                for call, order in one.firsts().items()
                if order != sorted(order)
            ]
        if self._receivers.trapped:
            self.faults.append(f"{self._receivers.trapped} redirects were followed")
        await self._judge_the_dead()

    async def _judge_the_dead(self) -> None:
        async with self._daemon.client() as client:
            for name, subscription in self.subscriptions.items():
                view = (await client.get(f"/v1/subscriptions/{subscription}")).json()
                kind = self._receivers.all[name].kind
                wanted = "stopped" if kind == "gone" else "active"
                if view["state"] != wanted:
                    self.faults.append(f"{name} is {view['state']}, not {wanted}")
                # What cannot be told stays in the log, but for a few.
                if kind in DEAD and view["open"] > WINDOW:
                    self.faults.append(f"{name} has {view['open']} open deliveries")


WINDOW = 256


def _call(number: int) -> dict[str, Any]:
    """Return a call that makes two events: one when it is waiting, one when it is over."""
    return {
        "operation": "rehearsal.ask",
        "payload": {"script": ["accepted"], "findings": ["done"]},
        "idempotency_key": f"call-{number}",
    }


async def endure(plan: Plan, directory: Path) -> Run:
    """Carry out a plan in a directory of its own."""
    tables = TABLES.format(plugins=json.dumps(str(PLUGINS)))
    began = time.monotonic()
    async with Receivers() as receivers:
        with DaemonProcess(directory, tables) as daemon:
            run = Run(plan, daemon, receivers)
            await run.go()
            code = await asyncio.to_thread(daemon.stop)
            run.faults += [f"the daemon ended with {code}"] if code else []
    print(f"{plan}: {time.monotonic() - began:.0f} s")
    return run


@pytest.mark.timeout(200)
async def test_every_live_subscriber_has_every_event_in_order(tmp_path: Path) -> None:
    run = await endure(Plan(events=300, subscribers=8, kills=2, seconds=120), tmp_path)

    assert not run.faults
    # By counts: while the slow one was still being told, the good one had heard everything.
    assert run.slow_when_good_had_all


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_every_live_subscriber_has_every_event_of_many(tmp_path: Path) -> None:
    plan = Plan(events=EVENTS, subscribers=SUBSCRIBERS, kills=KILLS, seconds=6600)

    run = await endure(plan, tmp_path)

    assert not run.faults
