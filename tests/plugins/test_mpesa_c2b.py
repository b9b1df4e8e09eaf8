"""M-Pesa: customers who pay unasked, and the app that is asked before they may."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.plugins.mpesa_callbacks import SHORTCODE, customer_body
from tests.plugins.mpesa_provider import HOOK, MODULE, MSISDN, PHONE, line, provider, webhook
from tests.plugins.mpesa_provider import unsupported as refusal
from tests.plugins.mpesa_server import REGISTER, SIMULATE
from tests.sdk.scripted_server import Peer, ScriptedServer, serving, unused_port

from integrationd.sdk import Delivered, Money, Rejected, Uncertain, UnreadableError

ACCEPTED = {"ResultCode": "0", "ResultDesc": "Accepted"}
REGISTERED = {"confirmation_url": f"{HOOK}/confirmation", "validation_url": f"{HOOK}/validation"}
SIMULATED = {"amount": "150", "phone": PHONE, "account": "ADM1042"}


def turned_down(code: str) -> dict[str, str]:
    return {"ResultCode": code, "ResultDesc": "Rejected"}


@contextlib.asynccontextmanager
async def app(body: bytes, status: str = "200 OK", after_s: float = 0.0) -> AsyncIterator[Any]:
    """Run an app that answers every validation with ``body``."""

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(after_s)
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
            await peer.send(head.encode() + body)

    async with serving(talk) as server:
        yield server


async def decided(server: ScriptedServer | None, **config: Any) -> dict[str, str]:
    """Have a payment validated; return what M-Pesa is told."""
    if server is not None:
        config = {"validation_url": f"{server.url}/mpesa/validate"} | config
    made = provider(**config)
    try:
        reply = await made.decide_webhook(webhook(customer_body("SAB1", 150), "/validation"))
    finally:
        await made.aclose()
    said: dict[str, str] = json.loads(reply.body)
    return said


# Registration


async def test_addresses_are_registered_below_the_connections_own() -> None:
    async with line(callback_url=HOOK) as mpesa:
        made = await mpesa.send("mpesa.register_urls", {"response_type": "Cancelled"})

        [fields] = mpesa.sent_to(REGISTER)
    assert made.outcome == Delivered(result=REGISTERED)
    assert fields == {
        "ShortCode": SHORTCODE,
        "ResponseType": "Cancelled",
        "ConfirmationURL": f"{HOOK}/confirmation",
        "ValidationURL": f"{HOOK}/validation",
    }


async def test_second_registration_is_refused_and_not_in_doubt() -> None:
    async with line(callback_url=HOOK) as mpesa:
        await mpesa.send("mpesa.register_urls", {})

        made = await mpesa.send("mpesa.register_urls", {})

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "already_registered"


async def test_other_fault_of_that_code_leaves_the_registration_in_doubt() -> None:
    async with line(callback_url=HOOK) as mpesa:
        said = {"errorCode": "500.003.1001", "errorMessage": "Internal Server Error"}
        mpesa.fake.replies[REGISTER] = deque([(500, said)])

        made = await mpesa.send("mpesa.register_urls", {})

    assert isinstance(made.outcome, Uncertain)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "set callback_url"),
        (
            {"callback_url": "http://hooks.example/hooks/6e", "shortcode": "600123"},
            "https:// in production",
        ),
    ],
)
def test_registration_without_an_address_is_refused(config: Any, complaint: str) -> None:
    assert complaint in (refusal("mpesa.register_urls", {}, **config) or "")
    assert refusal("mpesa.register_urls", {}, callback_url=HOOK) is None


async def test_simulated_payment_comes_back_as_a_payment_received() -> None:
    async with line(callback_url=HOOK) as mpesa:
        await mpesa.send("mpesa.register_urls", {})

        made = await mpesa.send("mpesa.c2b_simulate", SIMULATED)
        told = mpesa.told()

        [fields] = mpesa.sent_to(SIMULATE)
    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result["conversation_id"] == made.outcome.reference
    assert fields == {
        "ShortCode": SHORTCODE,
        "CommandID": "CustomerPayBillOnline",
        "Amount": 150,
        "Msisdn": MSISDN,
        "BillRefNumber": "ADM1042",
    }
    assert told.event == "payment.received"


@pytest.mark.parametrize(
    ("payload", "config", "complaint"),
    [
        ({}, {"shortcode": "600123"}, "sandbox only"),
        ({"amount": "1.5"}, {}, "whole"),
        ({"phone": "+2348030000222"}, {}, "Kenyan"),
    ],
)
def test_simulation_that_cannot_be_made_is_refused(
    payload: Any, config: Any, complaint: str
) -> None:
    assert complaint in (refusal("mpesa.c2b_simulate", SIMULATED | payload, **config) or "")


# Confirmation


def test_confirmation_is_an_event_with_all_that_an_app_needs() -> None:
    [told] = provider().read_webhook(webhook(customer_body("SAB1", 150), "/confirmation"))

    assert (told.event, told.event_id) == ("payment.received", "confirmation:SAB1")
    assert told.finding is None
    assert told.data == {
        "receipt": "SAB1",
        "amount": "150.00",
        "currency": "KES",
        "account": "ADM1042",
        "payer": "2547 ***** 678",
        "paid_at": "2026-01-01T09:01:03Z",
        "name": "WANJIKU KAMAU",
        "shortcode": SHORTCODE,
        "kind": "Pay Bill",
    }


def test_confirmation_is_thanked_for() -> None:
    reply = provider().webhook_reply(webhook(customer_body("SAB1", 150), "/confirmation"))

    assert json.loads(reply.body) == {"ResultCode": 0, "ResultDesc": "Accepted"}


@pytest.mark.parametrize(
    "members", [{"TransAmount": "much"}, {"TransID": None}, {"TransAmount": None}]
)
@pytest.mark.parametrize("path", ["/confirmation", "/validation"])
def test_payment_without_receipt_or_amount_is_unreadable(path: str, members: Any) -> None:
    with pytest.raises(UnreadableError):
        provider().read_webhook(webhook(customer_body("SAB1", 1, **members), path))


# Validation


async def test_app_is_asked_with_the_payment_as_json() -> None:
    async with app(b'{"accept": true}') as server:
        assert await decided(server) == ACCEPTED

    [asked] = server.requests
    assert (asked.method, asked.target) == ("POST", "/mpesa/validate")
    told = json.loads(asked.body)
    assert (told["receipt"], told["account"], told["amount"]) == ("SAB1", "ADM1042", "150.00")
    assert Money.of(told["amount"], told["currency"]) == Money.of(150, "KES")


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("phone", "C2B00011"),
        ("account", "C2B00012"),
        ("amount", "C2B00013"),
        ("kyc", "C2B00014"),
        ("shortcode", "C2B00015"),
        ("other", "C2B00016"),
        ("something else", "C2B00016"),
        (None, "C2B00016"),
    ],
)
async def test_app_turns_a_payment_down(reason: str | None, code: str) -> None:
    verdict = {"accept": False} | ({"reason": reason} if reason else {})

    async with app(json.dumps(verdict).encode()) as server:
        assert await decided(server) == turned_down(code)


@pytest.mark.parametrize(
    ("default", "said"), [("accept", ACCEPTED), ("reject", turned_down("C2B00016"))]
)
async def test_default_stands_in_for_an_app_that_does_not_answer(
    default: str, said: dict[str, str]
) -> None:
    assert await decided(None, validation_default=default) == said
    away = f"http://127.0.0.1:{unused_port()}"
    assert await decided(None, validation_default=default, validation_url=away) == said
    async with app(b'{"accept": true}', after_s=5) as slow:
        assert await decided(slow, validation_default=default, validation_timeout_s=0.05) == said
    for body, status in ((b"yes", "200 OK"), (b"{}", "200 OK"), (b'{"accept":1}', "200 OK")):
        async with app(body, status) as odd:
            assert await decided(odd, validation_default=default) == said
    async with app(b'{"accept": true}', "500 Oops") as broken:
        assert await decided(broken, validation_default=default) == said


async def test_app_has_six_seconds_of_m_pesas_eight() -> None:
    assert provider().config.validation_timeout_s == 6.0


@pytest.mark.parametrize(
    ("default", "said"), [("accept", ACCEPTED), ("reject", turned_down("C2B00016"))]
)
def test_validation_is_kept_with_the_default_as_its_reply(
    default: str, said: dict[str, str]
) -> None:
    request = webhook(customer_body("SAB1", 150), "/validation")

    reply = provider(validation_default=default).webhook_reply(request)

    assert json.loads(reply.body) == said


def test_validation_is_told_but_is_no_payment() -> None:
    [told] = provider().read_webhook(webhook(customer_body("SAB1", 150), "/validation"))

    assert (told.event, told.finding) == (None, None)
    assert told.event_id != "confirmation:SAB1"


@pytest.mark.parametrize("path", ["", "/confirmation", "/result"])
async def test_only_a_validation_is_decided(path: str) -> None:
    made = provider(validation_url="http://127.0.0.1:9")

    assert await made.decide_webhook(webhook(customer_body("SAB1", 150), path)) is None


def test_rejections_are_the_codes_that_m_pesa_knows() -> None:
    assert sorted(MODULE.c2b.REJECTIONS.values()) == [f"C2B0001{n}" for n in range(1, 7)]
