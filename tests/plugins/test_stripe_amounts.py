"""Stripe: amounts as it counts them, which is not always as ISO 4217 does."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, ClassVar

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.stripe_events import receiver
from tests.plugins.stripe_provider import CONFIG, STRIPE, Call, Running, stripe

from integrationd.sdk import CATALOGUE, Accepted, Money
from integrationd.sdk.testing import PluginContract

INTENT = {"amount": "2500.00", "currency": "KES", "channel": "intent"}


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


class _Sends(PluginContract):
    __test__ = False
    plugin = STRIPE
    config = CONFIG
    operation = "payment.initiate"
    payload: ClassVar[dict[str, Any]] = INTENT


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("2500.00", "KES", 250000),
        ("2500", "KES", 250000),
        ("0.01", "USD", 1),
        ("500", "JPY", 500),
        ("500", "RWF", 500),
        ("500", "MGA", 500),
        ("500.00", "XOF", 500),
        ("5.12", "KWD", 5120),
        ("5", "UGX", 500),
        ("40", "ISK", 4000),
        ("7.50", "IQD", 750),
    ],
)
async def test_amount_is_a_whole_number_as_stripe_counts_it(
    at: Running, amount: str, currency: str, minor: int
) -> None:
    payload = INTENT | {"amount": amount, "currency": currency}

    outcome = await Call(at, "payment.initiate", payload).send()

    [intent] = at.fake.payments.values()
    assert (intent["amount"], intent["currency"]) == (minor, currency.lower())
    assert isinstance(outcome, Accepted)
    told = Money.of(outcome.result["amount"], outcome.result["currency"])
    assert told == Money.of(amount, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "why"),
    [
        ("1.5", "JPY", "JPY has 0 decimals"),
        ("10.50", "XAF", "XAF has 0 decimals"),
        ("1.005", "KES", "KES has 2 decimals"),
        ("5.124", "KWD", "KWD in steps of 0.01"),
        ("5.50", "UGX", "UGX in steps of 1"),
        ("40.10", "ISK", "ISK in steps of 1"),
    ],
)
@pytest.mark.parametrize("operation", ["payment.initiate", "payment.refund"])
def test_amount_that_stripe_cannot_express_is_refused_before_it_is_accepted(
    operation: str, amount: str, currency: str, why: str
) -> None:
    money = {"amount": amount, "currency": currency}
    whole: dict[str, Any] = {
        "payment.initiate": INTENT | money,
        "payment.refund": {"payment": "pi_1", **money},
    }

    request = msgspec.convert(whole[operation], CATALOGUE[operation].request)

    said = receiver().unsupported(operation, request)

    assert why in str(said)


@given(st.integers(1, 10**9), st.sampled_from(["KES", "JPY", "KWD", "UGX", "ISK", "MGA", "USD"]))
def test_amount_that_is_taken_comes_back_the_same(amount: int, currency: str) -> None:
    asked = Money(Decimal(amount).scaleb(-2), currency)
    payload = INTENT | {"amount": f"{asked.amount:f}", "currency": currency}
    request = msgspec.convert(payload, CATALOGUE["payment.initiate"].request)
    if receiver().unsupported("payment.initiate", request) is not None:
        return
    sends: _Sends = type("_One", (_Sends,), {"payload": payload})()

    def answer(request: httpx2.Request) -> httpx2.Response:
        fields = dict(httpx2.QueryParams(request.content.decode()))
        back = {"amount": int(fields["amount"]), "currency": fields["currency"]}
        made = {"id": "pi_1", "object": "payment_intent", "status": "requires_action"}
        return httpx2.Response(200, json=made | back)

    outcome = sends.send(answer).outcome

    assert isinstance(outcome, Accepted)
    assert Money.of(outcome.result["amount"], outcome.result["currency"]) == asked
