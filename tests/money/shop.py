"""The app: asks for payments until each is acknowledged, whatever becomes of the daemon."""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import httpx2
from tests.faults.daemon import DaemonProcess
from tests.money.market import Till

CLIENTS = 6
RETRY_S = 0.05
SHOWN_AFTER_S = 0.5
PAGE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One payment that the app wants."""

    number: int
    till: Till

    @property
    def key(self) -> str:
        """The idempotency key that the app gives it."""
        return f"{self.till.connection}-{self.number}"


class Shop:
    """Asks for every order, again and again with the same key, until the daemon has it.

    Attributes:
        call_of: The daemon's id of each acknowledged order, by its key.
        answers: How often requests were answered how.
    """

    def __init__(self, daemon: DaemonProcess, orders: Sequence[Order]) -> None:
        self._daemon = daemon
        self._orders = orders
        self.call_of: dict[str, str] = {}
        self.answers: Counter[str] = Counter()

    async def sell(self) -> None:
        """Return when every order is acknowledged."""
        left = iter(self._orders)
        await asyncio.gather(*(self._clerk(left) for _ in range(CLIENTS)))

    async def _clerk(self, left: Iterator[Order]) -> None:
        async with self._daemon.client() as client:
            for order in left:
                while order.key not in self.call_of:
                    await self._ask(client, order)

    async def _ask(self, client: httpx2.AsyncClient, order: Order) -> None:
        try:
            reply = await client.post(
                "/v1/calls",
                json={
                    "operation": "payment.initiate",
                    "connection": order.till.connection,
                    "payload": order.till.payload(order.number),
                    "reference": {"type": "order", "id": order.key},
                },
                headers={"Idempotency-Key": order.key},
            )
        except httpx2.HTTPError as error:
            self.answers[type(error).__name__] += 1
            await asyncio.sleep(RETRY_S)
            return
        self.answers[str(reply.status_code)] += 1
        if reply.status_code != HTTPStatus.ACCEPTED:
            raise AssertionError(f"{reply.status_code}: {reply.text}")
        self.call_of[order.key] = reply.json()["id"]

    async def send_customers(self) -> None:
        """Send customers to the addresses that providers give, for as long as this runs."""
        tills = {order.till.connection: order.till for order in self._orders}
        visited = {name: till for name, till in tills.items() if till.is_visited}
        sent: set[str] = set()
        async with self._daemon.client() as client:
            while visited:
                await asyncio.sleep(SHOWN_AFTER_S)
                with contextlib.suppress(httpx2.HTTPError):
                    for name, till in visited.items():
                        await self._send_to(client, name, till, sent)

    async def _send_to(
        self, client: httpx2.AsyncClient, connection: str, till: Till, sent: set[str]
    ) -> None:
        waiting = await calls_of(client, state="waiting", connection=connection)
        for call_id in waiting.keys() - sent:
            view = (await client.get(f"/v1/calls/{call_id}")).raise_for_status().json()
            url = (view["result"] or {}).get("redirect_url")
            if url:
                till.visit(url)
                sent.add(call_id)


async def calls_of(client: httpx2.AsyncClient, **filters: Any) -> dict[str, dict[str, Any]]:
    """Return all calls that there are, with their results, by id."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        params = {"limit": PAGE, **filters} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/calls", params=params)).raise_for_status().json()
        found |= {one["id"]: one for one in page["items"]}
        cursor = page["next"]
        if not cursor:
            return found
