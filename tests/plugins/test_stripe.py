"""Stripe: the contract suite, what is asked for, amounts, and which config can work."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx2
import msgspec
import pydantic
import pytest
from tests.plugins.stripe_account import REFERENCE
from tests.plugins.stripe_provider import CONFIG, STRIPE, Call, Running, Stripe, stripe
from tests.plugins.stripe_server import FORM, KEY

from integrationd.sdk import (
    CATALOGUE,
    Accepted,
    PaymentResult,
)
from integrationd.sdk.testing import FakeConnection, Handler, PluginContract

PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "customer": {"email": "ann@example.com"},
    "reference": "ord-7781",
    "description": "Term fee",
    "return_url": "https://ex.test/ok?s={CHECKOUT_SESSION_ID}",
}
INTENT = {**PAYMENT, "channel": "intent"}
SESSION = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "url": "https://checkout.stripe.com/c/pay/cs_test_1",
    "status": "open",
    "payment_status": "unpaid",
    "payment_intent": None,
    "amount_total": 250000,
    "currency": "kes",
    "metadata": {REFERENCE: "ord-7781"},
}


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


def refused(_request: httpx2.Request) -> httpx2.Response:
    error = {"type": "invalid_request_error", "message": "No such customer: 'cus_1'"}
    return httpx2.Response(400, json={"error": error | {"code": "resource_missing"}})


def replying(**told: Any) -> Handler:
    return staticmethod(lambda _request: httpx2.Response(200, json=told))


class StripeContract(PluginContract):
    plugin = STRIPE
    config = CONFIG
    refused: ClassVar[Handler] = staticmethod(refused)


class TestStripePage(StripeContract):
    operation = "payment.initiate"
    payload = PAYMENT
    accepted: ClassVar[Handler] = replying(**SESSION)


class TestStripeIntent(StripeContract):
    operation = "payment.initiate"
    payload = INTENT
    accepted: ClassVar[Handler] = replying(
        id="pi_1",
        object="payment_intent",
        status="requires_payment_method",
        amount=250000,
        currency="kes",
        client_secret="pi_1_secret_x",
    )


class TestStripeVerify(StripeContract):
    operation = "payment.verify"
    payload: ClassVar[dict[str, Any]] = {"provider_reference": "cs_test_1"}
    accepted: ClassVar[Handler] = replying(**SESSION)


class TestStripeRefund(StripeContract):
    operation = "payment.refund"
    payload: ClassVar[dict[str, Any]] = {"payment": "pi_1"}
    accepted: ClassVar[Handler] = replying(
        id="re_1", object="refund", status="succeeded", amount=250000, currency="kes"
    )


class TestStripeCustomer(StripeContract):
    operation = "billing.customer"
    payload: ClassVar[dict[str, Any]] = {"email": "ann@example.com", "name": "Ann"}
    accepted: ClassVar[Handler] = replying(id="cus_1", object="customer")


class TestStripePortal(StripeContract):
    operation = "billing.portal"
    payload: ClassVar[dict[str, Any]] = {"customer_id": "cus_1"}
    accepted: ClassVar[Handler] = replying(
        id="bps_1", object="billing_portal.session", url="https://billing.stripe.com/p/1"
    )


class TestStripeCancel(StripeContract):
    operation = "billing.cancel"
    payload: ClassVar[dict[str, Any]] = {"subscription_id": "sub_1", "when": "now"}
    accepted: ClassVar[Handler] = replying(
        id="sub_1", object="subscription", status="canceled", ended_at=1767225600
    )


# What is asked for


async def test_page_carries_our_reference_to_its_payment(at: Running) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()

    assert isinstance(outcome, Accepted)
    [session] = at.fake.payments.values()
    assert session["client_reference_id"] == session["metadata"][REFERENCE] == "ord-7781"
    assert session["intent_data"]["metadata"][REFERENCE] == "ord-7781"


async def test_page_tells_where_to_pay_and_what(at: Running) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()

    [session] = at.fake.payments.values()
    assert outcome == Accepted(
        reference=session["id"],
        result={
            "status": "pending",
            "provider_reference": session["id"],
            "reference": "ord-7781",
            "redirect_url": session["url"],
            "amount": "2500.00",
            "currency": "KES",
        },
    )
    msgspec.convert(dict(outcome.result), PaymentResult)


async def test_intent_tells_the_secret_for_the_browser(at: Running) -> None:
    outcome = await Call(at, "payment.initiate", INTENT).send()

    [intent] = at.fake.payments.values()
    assert isinstance(outcome, Accepted)
    assert outcome.reference == intent["id"]
    assert outcome.result["client_secret"] == intent["client_secret"]
    assert "redirect_url" not in outcome.result


async def test_request_is_a_form_with_version_and_key(at: Running) -> None:
    call = Call(at, "payment.initiate", PAYMENT)

    await call.send()

    [request] = at.requests
    assert (request.method, request.target) == ("POST", "/v1/checkout/sessions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == FORM
    assert request.headers["stripe-version"] == "2026-10-28.endive"
    assert request.headers["idempotency-key"] == f"integrationd-{call.call_id}"
    assert "stripe-account" not in request.headers


async def test_connected_account_and_version_are_the_configs(at: Running) -> None:
    config = {"stripe_account": "acct_1A", "stripe_version": "2025-09-30.clover"}

    await Call(at, "payment.initiate", PAYMENT, config).send()

    assert at.requests[0].headers["stripe-account"] == "acct_1A"
    assert at.requests[0].headers["stripe-version"] == "2025-09-30.clover"


@pytest.mark.parametrize(
    ("customer", "fields"),
    [
        ({"email": "ann@example.com"}, {"customer_email": "ann@example.com"}),
        ({"id": "cus_9", "email": "ann@example.com"}, {"customer": "cus_9"}),
        ({}, {}),
    ],
)
async def test_customer_is_named_once(
    at: Running, customer: dict[str, str], fields: dict[str, str]
) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT | {"customer": customer}).send()

    assert isinstance(outcome, Accepted)
    [(_, _, params)] = at.fake.seen
    assert {name: params[name] for name in ("customer", "customer_email") if name in params} == (
        fields
    )


async def test_pages_of_the_connection_are_used_where_the_payment_has_none(at: Running) -> None:
    config = {"success_url": "https://ex.test/paid", "cancel_url": "https://ex.test/not"}
    payload = {name: value for name, value in PAYMENT.items() if name != "return_url"}

    await Call(at, "payment.initiate", payload, config).send()

    [(_, _, params)] = at.fake.seen
    assert (params["success_url"], params["cancel_url"]) == tuple(config.values())


async def test_metadata_and_account_are_given_and_our_reference_stays_ours(at: Running) -> None:
    mine = {"class": "4B", REFERENCE: "stolen"}

    await Call(at, "payment.initiate", PAYMENT | {"account": "P-17", "metadata": mine}).send()

    [session] = at.fake.payments.values()
    wanted = {"account": "P-17", "class": "4B", REFERENCE: "ord-7781"}
    assert session["metadata"] == session["intent_data"]["metadata"] == wanted


# The worked example of a form, but for the name under which our reference goes into metadata.
VECTOR = (
    b"mode=payment&success_url=https%3A%2F%2Fex.test%2Fok%3Fs%3D%7BCHECKOUT_SESSION_ID%7D"
    b"&line_items[0][quantity]=1&line_items[0][price_data][currency]=kes"
    b"&line_items[0][price_data][unit_amount]=250000"
    b"&line_items[0][price_data][product_data][name]=Term+fee"
    b"&metadata[integrationd_reference]=ord-7781"
)


async def test_form_is_encoded_as_in_the_worked_example(at: Running) -> None:
    await Call(at, "payment.initiate", PAYMENT).send()

    assert set(VECTOR.split(b"&")) <= set(at.requests[0].body.split(b"&"))


async def test_text_of_every_alphabet_arrives_as_it_was(at: Running) -> None:
    text = "Wanjikũ & Söhne + 100% [a]=b 学费"

    await Call(at, "payment.initiate", INTENT | {"description": text}).send()

    assert at.fake.seen[0][2]["description"] == text


# What Stripe cannot do


def request_of(operation: str, payload: dict[str, Any]) -> Any:
    return msgspec.convert(payload, CATALOGUE[operation].request)


def provider(**config: Any) -> Any:
    return Stripe(Stripe.Config.model_validate({**CONFIG, **config}), FakeConnection())


@pytest.mark.parametrize(
    ("operation", "payload", "why"),
    [
        ("payment.initiate", PAYMENT | {"channel": "mpesa"}, "checkout or intent"),
        ("payment.initiate", {"amount": "1", "currency": "KES"}, "needs return_url"),
        ("payment.refund", {"payment": "QK12345"}, "none of Stripe's"),
        ("payment.refund", {"payment": "pi_1/../balance"}, "none of Stripe's"),
        ("payment.verify", {"provider_reference": "ch_1"}, "no session"),
        ("payment.verify", {"provider_reference": "cs_1?x=1"}, "no session"),
        ("billing.portal", {"customer_id": "../balance"}, "no id"),
        ("billing.cancel", {"subscription_id": "sub 1"}, "no id"),
    ],
)
def test_what_stripe_cannot_do_is_refused_before_it_is_accepted(
    operation: str, payload: dict[str, Any], why: str
) -> None:
    assert why in provider().unsupported(operation, request_of(operation, payload))


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("payment.initiate", PAYMENT),
        ("payment.initiate", PAYMENT | {"channel": "checkout"}),
        ("payment.initiate", {"amount": "1", "currency": "KES", "channel": "intent"}),
        ("payment.refund", {"payment": "cs_test_1", "amount": "1", "currency": "KES"}),
        ("payment.verify", {"reference": "ord-7781"}),
        ("payment.verify", {"provider_reference": "pi_1"}),
        ("billing.portal", {"customer_id": "cus_1"}),
        ("billing.customer", {}),
    ],
)
def test_what_stripe_can_do_is_accepted(operation: str, payload: dict[str, Any]) -> None:
    assert provider().unsupported(operation, request_of(operation, payload)) is None


def test_every_effect_may_be_repeated_for_as_long_as_its_key_is_kept() -> None:
    declared = Stripe.operations().values()

    assert {one.name for one in declared} == {
        *("payment.initiate", "payment.verify", "payment.refund"),
        *("billing.customer", "billing.portal", "billing.cancel"),
    }
    assert all(one.repeat_safe is True for one in declared)
    lifetimes = {one.key_lifetime_s for one in declared if one.name != "payment.verify"}
    assert lifetimes == {23 * 3600.0}
    assert set(Stripe.queries()) == {
        *("payment.initiate", "payment.refund", "billing.customer", "billing.cancel")
    }


# The config


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"secret_key": "pk_test_1"}, "publishable key"),
        ({"secret_key": "made-up"}, "begin with sk_ or rk_"),
        ({"secret_key": "sk_test_1\n"}, "one word"),
        ({"secret_key": ""}, "begin with sk_"),
        ({"webhook_secret": "made_up"}, "whsec_ included"),
        ({"webhook_secret": ["whsec_1", ""]}, "whsec_ included"),
        ({"stripe_version": "latest"}, "stripe_version"),
        ({"stripe_account": "1A"}, "stripe_account"),
        ({"success_url": "/ok"}, "success_url"),
        ({"open_for_s": 30}, "open_for_s"),
        ({"open_for_s": 100_000}, "open_for_s"),
        ({"api_key": "sk_test_1"}, "api_key"),
    ],
)
def test_config_that_cannot_work_is_refused_in_words(
    config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(pydantic.ValidationError, match=complaint):
        Stripe.Config.model_validate({**CONFIG, **config})


def test_config_goes_to_stripe_unless_told_otherwise() -> None:
    config: Any = Stripe.Config.model_validate({"secret_key": "rk_live_1"})

    assert config.base_url == "https://api.stripe.com"
    assert config.webhook_secret == ()
    assert config.is_live is True


@pytest.mark.parametrize(
    ("key", "is_live"),
    [("sk_test_1", False), ("rk_test_1", False), ("sk_live_1", True), ("sk_org_1", None)],
)
def test_key_tells_whether_money_is_real(key: str, is_live: bool | None) -> None:
    assert provider(secret_key=key).config.is_live is is_live


async def connection_test(at: Running, **config: str) -> str:
    async with Call(at, "payment.verify", {"reference": "a"}, config).met() as (one, ctx):
        return await one.test_connection(ctx)


async def test_connection_test_says_what_the_key_is_for(at: Running) -> None:
    assert await connection_test(at) == "the key is good, in test mode"
    assert [path for _, path, _ in at.fake.seen] == ["/v1/balance"]


async def test_connection_test_says_that_the_key_was_refused(at: Running) -> None:
    with pytest.raises(PermissionError, match="Invalid API Key"):
        await connection_test(at, secret_key="sk_test_stale")
