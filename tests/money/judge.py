"""The judge: the daemon's books against the providers', payment by payment.

Each fault is a sentence; no sentence means that all is as it should be.
"""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import httpx2
from tests.money.market import Arrived, Truth
from tests.money.shop import Order, Shop, calls_of

AT_ONCE = 8
SHOWN = 8

View = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it all.

    Attributes:
        faults: What must not be, with examples.
        states: How many payments ended how.
        charged: What customers have paid.
        booked: What the daemon says that they have paid.
        in_doubt: What was paid and never told, to nobody: neither by reply nor by callback.
    """

    faults: Sequence[str]
    states: Counter[str]
    charged: Decimal
    booked: Decimal
    in_doubt: Decimal

    def __str__(self) -> str:
        lines = [
            f"states: {dict(self.states)}",
            f"charged {self.charged} = booked {self.booked} + in doubt {self.in_doubt}",
        ]
        return "\n".join([*lines, *self.faults[:SHOWN]])


async def judge(
    client: httpx2.AsyncClient, shop: Shop, orders: Sequence[Order], arrived: Arrived
) -> Verdict:
    """Compare every payment with the truth."""
    listed = await calls_of(client)
    views = await _views(client, [shop.call_of[order.key] for order in orders])
    faults = []
    if set(listed) != set(shop.call_of.values()):
        faults.append(f"{len(listed)} calls are kept, {len(shop.call_of)} were acknowledged")
    states: Counter[str] = Counter()
    charged = booked = in_doubt = Decimal(0)
    for order in orders:
        view = views[shop.call_of[order.key]]
        truth = order.till.truth(order.number, arrived)
        states[f"{order.till.connection}/{view['state']}"] += 1
        faults += [f"{order.key} ({view['id']}): {fault}" for fault in _faults(order, view, truth)]
        charged += truth.amount
        if view["state"] == "completed":
            booked += Decimal(view["result"].get("amount", "0"))
        elif view["state"] == "unknown":
            in_doubt += truth.amount
    if charged != booked + in_doubt:
        faults.append(f"charged {charged}, booked {booked}, in doubt {in_doubt}")
    ledger = (await client.get("/v1/ledger")).raise_for_status().json()
    if not ledger["balances"] or ledger["total"]["accepted"] != len(orders):
        faults.append(f"the ledger does not balance: {ledger['total']}")
    return Verdict(faults=faults, states=states, charged=charged, booked=booked, in_doubt=in_doubt)


def _faults(order: Order, view: View, truth: Truth) -> list[str]:
    """Return what is wrong with one payment."""
    state, why = view["state"], view["reason"]
    could_ask = order.till.can_always_ask or view["provider_reference"] or truth.told
    is_undecided = truth.is_open or not (truth.asked or order.till.is_visited)
    claims = {
        f"asked for {truth.asked} times": truth.asked > 1,
        f"charged {truth.paid} times": truth.paid > 1,
        f"still {state} ({why})": state not in ("completed", "failed", "unknown"),
        "completed, but never paid": state == "completed" and not truth.paid,
        "completed without saying so": state == "completed" and not _says_paid(view),
        f"failed ({why}), but paid": state == "failed" and truth.paid > 0,
        f"failed ({why}) before the customer decided": state == "failed" and is_undecided,
        f"unknown ({why}), but it could be asked about": state == "unknown" and could_ask,
        f"contradicted: {view['contradiction']}": view["contradiction"] is not None,
    }
    return [claim for claim, is_so in claims.items() if is_so]


def _says_paid(view: View) -> bool:
    return bool(view["result"]) and view["result"].get("status") == "paid"


async def _views(client: httpx2.AsyncClient, ids: Sequence[str]) -> dict[str, View]:
    """Return all calls with their results."""
    left, found = iter(ids), {}

    async def read() -> None:
        for call_id in left:
            reply = await client.get(f"/v1/calls/{call_id}")
            found[call_id] = reply.raise_for_status().json()

    await asyncio.gather(*(read() for _ in range(AT_ONCE)))
    return found
