"""Clients of the daemon, and their own book of what it has acknowledged.

A call counts as acknowledged when its 202 has come in whole, and in no other case: an answer that
breaks off, or does not come, leaves the call "not known". Some orders carry idempotency keys and
are repeated, across any number of crashes, until they are acknowledged.
"""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from tests.faults.daemon import DaemonProcess

# How often each kind of call is made.
KINDS = {"post": 4, "put": 4, "get": 2, "sms": 2, "ask": 1}
CLIENTS = 8
LARGEST_BATCH = 30
SHARE_OF_BATCHES = 0.4
SHARE_WITH_KEYS = 0.3
PAUSE_S = 0.04
RETRY_S = 0.02
FINISH_S = 60.0

CONNECTIONS = """
[delivery]
backoff_first = "100ms"
backoff_cap = "1s"

[log]
level = "warning"

[plugins]
paths = [{plugins}]

[connections.sink]
provider = "http"
concurrency = 24
config = {{ base_url = "http://127.0.0.1:{sink_port}", allow_private = true }}

[connections.console]
provider = "console"

[connections.stage]
provider = "rehearsal"

[connections.stage.query]
first = "100ms"
cap = "1s"
"""


@dataclass(frozen=True)
class Order:
    """One call that a client wants made.

    Attributes:
        id: Its own id: the call's reference, and part of its payload.
        kind: One of :data:`KINDS`.
        operation: What the daemon is asked for.
        payload: With what.
    """

    id: str
    kind: str
    operation: str
    payload: dict[str, Any]

    def request(self) -> dict[str, Any]:
        """Return the body that asks for it."""
        return {
            "operation": self.operation,
            "payload": self.payload,
            "reference": {"type": "order", "id": self.id},
        }


def make_order(order_id: str, kind: str) -> Order:
    """Return an order of a kind."""
    match kind:
        case "post" | "put":
            effect = {"method": kind.upper(), "path": f"/effects/{order_id}", "json": {"kg": 50}}
            return Order(order_id, kind, "http.request", effect)
        case "get":
            look = {"method": "GET", "path": f"/effects/{order_id}"}
            return Order(order_id, kind, "http.request", look)
        case "sms":
            message = {"to": "+254711000111", "message": f"order {order_id}."}
            return Order(order_id, kind, "sms.send", message)
        case _:
            script = {"script": ["accepted"], "findings": ["pending", "done"]}
            return Order(order_id, kind, "rehearsal.ask", {**script, "reference": order_id})


@dataclass
class Book:
    """What the clients know.

    Attributes:
        ordered: Every order that was ever sent.
        kept: The daemon's id of each acknowledged order.
        unanswered: Requests without a whole answer.
        replayed: Repeats of a request that had been kept before its answer was lost.
        refused: Answers other than a 202, which the daemon has no reason to give.
        on_ack: Told of each acknowledgement.
    """

    ordered: dict[str, Order] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0
    replayed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    on_ack: Callable[[], None] = lambda: None

    def acknowledge(self, orders: Sequence[Order], call_ids: Sequence[str], replay: bool) -> None:
        """Write down what a 202 says."""
        for order, call_id in zip(orders, call_ids, strict=True):
            self.kept[order.id] = call_id
        self.replayed += replay
        self.on_ack()


class Load:
    """Several clients that order without end, whether the daemon runs or not.

    Args:
        daemon: Whom they ask; it must have been started once.
        seed: Fixes what they ask for.
    """

    def __init__(self, daemon: DaemonProcess, seed: int) -> None:
        self.book = Book()
        self._daemon = daemon
        self._seed = seed
        self._stopping = False
        self._workers: list[asyncio.Task[None]] = []

    def start(self, group: asyncio.TaskGroup) -> None:
        """Let the clients begin, as tasks of the group."""
        self._workers = [group.create_task(self._work(number)) for number in range(CLIENTS)]

    async def stop(self) -> None:
        """Let the clients finish what they have begun; the daemon must run.

        Raises:
            TimeoutError: They cannot.
        """
        self._stopping = True
        async with asyncio.timeout(FINISH_S):
            await asyncio.wait(self._workers)

    async def _work(self, number: int) -> None:
        """Order as one client: over the socket or TCP, with short or lasting connections."""
        rng = random.Random(f"{self._seed}/{number}")
        over: Literal["unix", "tcp"] = "tcp" if number % 2 else "unix"
        async with self._daemon.client(over, keep_alive=number % 4 < 2) as client:
            for count in itertools.count():
                if self._stopping:
                    return
                orders = self._orders(rng, f"{number}-{count}")
                keys = rng.random() < SHARE_WITH_KEYS
                while not await self._ask(client, orders, keys=keys) and keys:
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(rng.uniform(0, PAUSE_S))

    def _orders(self, rng: random.Random, name: str) -> list[Order]:
        """Return what to ask for next: mostly one call, often a batch."""
        size = rng.randint(2, LARGEST_BATCH) if rng.random() < SHARE_OF_BATCHES else 1
        kinds = rng.choices(list(KINDS), weights=list(KINDS.values()), k=size)
        orders = [make_order(f"{name}-{place}", kind) for place, kind in enumerate(kinds)]
        self.book.ordered.update((order.id, order) for order in orders)
        return orders

    async def _ask(
        self, client: httpx2.AsyncClient, orders: Sequence[Order], *, keys: bool
    ) -> bool:
        """Send one request; return whether it was acknowledged."""
        path, body, headers = _request(orders, keys=keys)
        try:
            answer = await client.post(path, content=body, headers=headers)
        except httpx2.TransportError:
            self.book.unanswered += 1
            await asyncio.sleep(RETRY_S)
            return False
        told = answer.json()
        if answer.status_code != 202:
            self.book.refused[f"{answer.status_code} {told.get('code')}"] += 1
            await asyncio.sleep(RETRY_S)
            return False
        items = told.get("items", [told])
        replay = answer.headers.get("idempotency-replayed") == "true"
        self.book.acknowledge(orders, [item["id"] for item in items], replay)
        return True


def _request(orders: Sequence[Order], *, keys: bool) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers."""
    if len(orders) == 1:
        body = json.dumps(orders[0].request()).encode()
        return "/v1/calls", body, {"Idempotency-Key": orders[0].id} if keys else {}
    calls = [
        {**order.request(), "idempotency_key": order.id} if keys else order.request()
        for order in orders
    ]
    return "/v1/calls/batch", json.dumps({"calls": calls}).encode(), {}
