"""Stripe: what we send and what we take is what the official client sends and signs.

Source: stripe-python 16.1.0, https://github.com/stripe/stripe-python.
"""

import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import anyio.to_thread
import pytest
import stripe as official
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.stripe_account import REFERENCE, signature
from tests.plugins.stripe_events import receiver, request
from tests.plugins.stripe_provider import Call, Running, stripe
from tests.plugins.stripe_server import KEY
from tests.sdk.scripted_server import Received

from integrationd.sdk import Accepted, Refusal, Verified

Ask: TypeAlias = Callable[[official.StripeClient, Any], object]

ACCOUNT = {"stripe_account": "acct_1A"}
# The rest tells who is asking, or follows from what is compared.
COMPARED = (
    "authorization",
    "content-type",
    "idempotency-key",
    "stripe-account",
    "stripe-version",
)
PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "customer": {"email": "ann+1@example.com"},
    "reference": "ord-7781",
    "description": "Term fee & <Wanjikũ's> 100% [a]",
    "account": "P-17",
    "return_url": "https://ex.test/ok?s={CHECKOUT_SESSION_ID}",
    "cancel_url": "https://ex.test/no?a=1&b=2",
    "metadata": {"class": "4 B"},
}
METADATA = {"account": "P-17", "class": "4 B", REFERENCE: "ord-7781"}


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


@pytest.fixture
def http() -> Iterator[official.RequestsClient]:
    client: Any = official.RequestsClient()
    yield client
    client.close()


def make_session(client: official.StripeClient, options: Any) -> object:
    price: Any = {
        "currency": "kes",
        "unit_amount": 250000,
        "product_data": {"name": PAYMENT["description"], "description": "P-17"},
    }
    return client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": str(PAYMENT["return_url"]),
            "cancel_url": str(PAYMENT["cancel_url"]),
            "client_reference_id": "ord-7781",
            "customer_email": "ann+1@example.com",
            "line_items": [{"price_data": price, "quantity": 1}],
            "metadata": METADATA,
            "payment_intent_data": {
                "description": str(PAYMENT["description"]),
                "metadata": METADATA,
            },
        },
        options,
    )


def make_intent(client: official.StripeClient, options: Any) -> object:
    return client.v1.payment_intents.create(
        {
            "amount": 250000,
            "currency": "kes",
            "automatic_payment_methods": {"enabled": True},
            "receipt_email": "ann+1@example.com",
            "description": str(PAYMENT["description"]),
            "metadata": METADATA,
        },
        options,
    )


def make_customer(client: official.StripeClient, options: Any) -> object:
    return client.v1.customers.create(
        {
            "email": "ann@example.com",
            "name": "Ann Wanjikũ",
            "phone": "+254711000111",
            "metadata": {"id": "7", REFERENCE: "CALL"},
        },
        options,
    )


def make_portal(client: official.StripeClient, options: Any) -> object:
    return client.v1.billing_portal.sessions.create(
        {"customer": "cus_1", "return_url": "https://ex.test/me"}, options
    )


def refund_part(client: official.StripeClient, options: Any) -> object:
    return client.v1.refunds.create(
        {
            "payment_intent": "pi_1",
            "amount": 10050,
            "reason": "duplicate",
            "metadata": {REFERENCE: "rf-1"},
        },
        options,
    )


def cancel_now(client: official.StripeClient, options: Any) -> object:
    details: Any = {"comment": "moved away"}
    return client.v1.subscriptions.cancel("sub_1", {"cancellation_details": details}, options)


def cancel_later(client: official.StripeClient, options: Any) -> object:
    details: Any = {"comment": "moved away"}
    return client.v1.subscriptions.update(
        "sub_1", {"cancel_at_period_end": True, "cancellation_details": details}, options
    )


def read_session(client: official.StripeClient, options: Any) -> object:
    expand = ["payment_intent.latest_charge.balance_transaction"]
    return client.v1.checkout.sessions.retrieve("cs_1", {"expand": expand}, options)


def read_refund(client: official.StripeClient, options: Any) -> object:
    return client.v1.refunds.retrieve("re_1", {}, options)


def search(client: official.StripeClient, options: Any) -> object:
    query = f"metadata['{REFERENCE}']:'ord-7781'"
    return client.v1.payment_intents.search({"query": query, "limit": 100}, options)


CUSTOMER = {
    "email": "ann@example.com",
    "name": "Ann Wanjikũ",
    "phone": "+254711000111",
    "metadata": {"id": "7"},
}
REFUND = {"payment": "pi_1", "amount": "100.50", "currency": "KES", "reason": "duplicate"}
CANCEL = {"subscription_id": "sub_1", "reason": "moved away"}
CASES: Mapping[str, tuple[str, Mapping[str, Any], Ask]] = {
    "page": ("payment.initiate", PAYMENT, make_session),
    "intent": ("payment.initiate", PAYMENT | {"channel": "intent"}, make_intent),
    "customer": ("billing.customer", CUSTOMER, make_customer),
    "portal": (
        "billing.portal",
        {"customer_id": "cus_1", "return_url": "https://ex.test/me"},
        make_portal,
    ),
    "refund": ("payment.refund", REFUND | {"reference": "rf-1"}, refund_part),
    "cancel now": ("billing.cancel", CANCEL | {"when": "now"}, cancel_now),
    "cancel later": ("billing.cancel", CANCEL | {"when": "period_end"}, cancel_later),
    "read session": ("payment.verify", {"provider_reference": "cs_1"}, read_session),
    "read refund": ("payment.verify", {"provider_reference": "re_1"}, read_refund),
    "search": ("payment.verify", {"reference": "ord-7781"}, search),
}


def stocked(at: Running) -> None:
    """Put what the cases name into the account."""
    fake = at.fake
    money = {"amount": 250000, "currency": "kes"}
    intent = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "created": 0}
    charge = {"id": "ch_1", "object": "charge", "amount": 250000}
    paid = {"amount_received": 250000, "latest_charge": charge, "metadata": {}}
    fake.payments["pi_1"] = intent | money | paid
    session = {"id": "cs_1", "object": "checkout.session", "status": "open", "created": 0}
    fake.payments["cs_1"] = session | {"metadata": {}}
    fake.customers["cus_1"] = {"id": "cus_1", "object": "customer"}
    fake.refunds["re_1"] = {"id": "re_1", "object": "refund", "status": "pending"} | money
    subscription = {"id": "sub_1", "object": "subscription", "status": "active"}
    fake.subscriptions["sub_1"] = subscription | {"current_period_end": 0}


def headers_of(request: Received) -> dict[str, str]:
    return {name: request.headers[name] for name in COMPARED if name in request.headers}


def pairs_of(request: Received) -> list[tuple[str, str]]:
    form = request.body.decode() or request.target.partition("?")[2]
    return sorted(parse_qsl(form, strict_parsing=bool(form)))


def encoded_pairs(request: Received) -> list[bytes]:
    return sorted(request.body.split(b"&"))


async def ask_officially(
    at: Running, http: official.RequestsClient, call: Call, ask: Ask
) -> list[Received]:
    client = official.StripeClient(
        KEY,
        base_addresses={"api": at.url},
        max_network_retries=0,
        http_client=http,
        **call.config,
    )
    before = len(at.requests)
    options = {"idempotency_key": f"integrationd-{call.call_id}"}
    is_post = ask not in (cancel_now, read_session, read_refund, search)
    await anyio.to_thread.run_sync(functools.partial(ask, client, options if is_post else {}))
    return at.requests[before:]


@pytest.mark.parametrize("config", [{}, ACCOUNT], ids=["own", "connected"])
@pytest.mark.parametrize("case", CASES)
async def test_request_is_what_the_official_client_sends(
    at: Running, http: official.RequestsClient, case: str, config: Mapping[str, str]
) -> None:
    operation, payload, ask = CASES[case]
    call = Call(at, operation, payload, config)
    stocked(at)
    [theirs] = await ask_officially(at, http, call, ask)
    stocked(at)
    at.fake.forget()
    already = len(at.requests)

    await call.send()

    path = theirs.target.partition("?")[0]
    same = [
        one
        for one in at.requests[already:]
        if (one.method, one.target.partition("?")[0]) == (theirs.method, path)
    ]
    assert len(same) == 1
    [ours] = same
    told = [(name, value.replace("CALL", call.call_id)) for name, value in pairs_of(theirs)]
    assert pairs_of(ours) == sorted(told)
    assert headers_of(ours) == headers_of(theirs)
    if case != "customer":
        assert encoded_pairs(ours) == encoded_pairs(theirs)


async def test_official_client_understands_what_the_fake_answers(
    at: Running, http: official.RequestsClient
) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()
    assert isinstance(outcome, Accepted)
    client = official.StripeClient(
        KEY, base_addresses={"api": at.url}, max_network_retries=0, http_client=http
    )

    session = await anyio.to_thread.run_sync(
        client.v1.checkout.sessions.retrieve, str(outcome.reference)
    )

    assert session.url == outcome.result["redirect_url"]


# Webhooks


BODIES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
SECRETS = st.from_regex(r"\Awhsec_[A-Za-z0-9]{1,40}\Z")
TIMES = st.integers(1, 4_000_000_000)


@given(BODIES, SECRETS, TIMES)
def test_what_the_official_client_signs_is_proved(body: str, secret: str, at_s: int) -> None:
    header = official.WebhookSignature.generate_signature_header(body, secret, at_s)

    assert (
        receiver(webhook_secret=secret).verify_webhook(request(body.encode(), header, at_s))
        == Verified()
    )


@given(BODIES, SECRETS, TIMES, st.data())
def test_one_flipped_bit_of_the_body_is_refused(
    body: str, secret: str, at_s: int, data: st.DataObject
) -> None:
    header = official.WebhookSignature.generate_signature_header(body, secret, at_s)
    changed = bytearray(body.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    proof = receiver(webhook_secret=secret).verify_webhook(request(bytes(changed), header, at_s))

    assert isinstance(proof, Refusal)


@given(BODIES, SECRETS, TIMES, st.integers(0, 63), st.integers(1, 15))
def test_one_other_digit_of_the_signature_is_refused(
    body: str, secret: str, at_s: int, place: int, by: int
) -> None:
    header = official.WebhookSignature.generate_signature_header(body, secret, at_s)
    head, _, mac = header.partition("v1=")
    digit = f"{(int(mac[place], 16) + by) % 16:x}"

    changed = f"{head}v1={mac[:place]}{digit}{mac[place + 1 :]}"

    proof = receiver(webhook_secret=secret).verify_webhook(request(body.encode(), changed, at_s))
    assert isinstance(proof, Refusal)


async def test_what_the_fake_signs_is_taken_by_the_official_client(at: Running) -> None:
    at.clock.advance(time.time() - at.clock.now_ms() / 1000)
    outcome = await Call(at, "payment.initiate", PAYMENT).send()
    assert isinstance(outcome, Accepted)
    at.fake.pay(str(outcome.reference))

    for callback in at.fake.callbacks:
        told = official.Webhook.construct_event(
            callback.body, callback.headers["Stripe-Signature"], "whsec_made_up", api_key=KEY
        )
        assert told.type in ("payment_intent.succeeded", "checkout.session.completed")


@given(BODIES, SECRETS, TIMES)
def test_signature_of_the_fake_is_the_official_one(body: str, secret: str, at_s: int) -> None:
    theirs = official.WebhookSignature.generate_signature_header(body, secret, at_s)

    assert signature(body.encode(), secret, at_s) == theirs
