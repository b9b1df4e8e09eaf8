"""The fake Daraja as a judge: it counts what truly happened to each phone."""

import json
from typing import Any

import httpx2
import pytest
from tests.plugins.mpesa_callbacks import CANCELS, NO_FUNDS
from tests.plugins.mpesa_provider import PAYMENT, PAYOUT, line
from tests.plugins.mpesa_server import PUSH, Dropped, FakeDaraja
from tests.sdk.scripted_server import Received

from integrationd.sdk import Accepted, Uncertain

PHONES = [f"+2547{number:08d}" for number in range(6)]


def payment(phone: str, amount: int = 100) -> dict[str, Any]:
    return PAYMENT | {"amount": str(amount), "customer": {"phone": phone}}


async def test_customers_do_what_their_phone_is_told_to() -> None:
    fake = FakeDaraja()
    fake.behaviour |= {PHONES[1][1:]: CANCELS, PHONES[2][1:]: NO_FUNDS, PHONES[3][1:]: None}
    async with line(fake) as mpesa:
        for phone in PHONES[:4]:
            await mpesa.send("payment.initiate", payment(phone))

    assert fake.prompted.total() == 4
    assert (fake.effects, fake.charged) == ({PHONES[0][1:]: 1}, {PHONES[0][1:]: 100})
    assert len(fake.callbacks) == 3


async def test_payment_that_is_sent_twice_is_charged_twice() -> None:
    async with line() as mpesa:
        for _ in range(2):
            await mpesa.send("payment.initiate", payment(PHONES[0]))

        assert mpesa.fake.effects == {PHONES[0][1:]: 2}


async def test_effect_outlives_a_reply_that_is_dropped() -> None:
    async def drop(request: Received) -> None:
        if request.target == PUSH:
            raise Dropped

    async with line() as mpesa:
        mpesa.fake.before_reply = drop
        made = await mpesa.send("payment.initiate", payment(PHONES[0]))

        assert isinstance(made.outcome, Uncertain)
        assert mpesa.fake.effects == {PHONES[0][1:]: 1}
        assert mpesa.told().provider_reference == "ws_CO_1"


async def test_customer_may_answer_later_and_only_once() -> None:
    async with line(FakeDaraja(at_once=False)) as mpesa:
        made = await mpesa.send("payment.initiate", payment(PHONES[0]))
        assert isinstance(made.outcome, Accepted)
        assert mpesa.fake.effects == {}

        for _ in range(2):
            mpesa.fake.answer(made.outcome.reference or "")

        assert mpesa.fake.effects == {PHONES[0][1:]: 1}
        assert len(mpesa.fake.callbacks) == 1


async def test_new_token_makes_the_one_before_invalid() -> None:
    async with line() as one, line(one.fake) as other:
        await one.send("payment.payout", PAYOUT)
        await other.send("payment.payout", PAYOUT)
        await one.send("payment.payout", PAYOUT)

        assert one.fake.tokens_issued == 3
        assert one.fake.payouts.total() == 1


async def test_fake_is_an_asgi_app() -> None:
    fake = FakeDaraja()
    transport = httpx2.ASGITransport(app=fake.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://daraja") as client:
        answer = await client.get(
            "/oauth/v1/generate?grant_type=client_credentials", auth=("demoKey", "demoSecret")
        )
        refused = await client.post(PUSH, content=json.dumps({}), headers={"authorization": "x"})

    assert answer.json() == {"access_token": fake.token, "expires_in": "3599"}
    assert (refused.status_code, refused.json()["errorCode"]) == (404, "404.001.03")


async def test_dropped_reply_passes_through_the_asgi_app() -> None:
    async def drop(_request: Received) -> None:
        raise Dropped

    fake = FakeDaraja()
    fake.before_reply = drop
    transport = httpx2.ASGITransport(app=fake.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://daraja") as client:
        with pytest.raises(Dropped):
            await client.get("/oauth/v1/generate")
