"""Stripe: which webhooks are its own, and whom they are about."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from tests.plugins.stripe_account import SECRET, signature
from tests.plugins.stripe_events import (
    CHARGE,
    INVOICE,
    NOON_S,
    REFUND,
    SESSION,
    SUBSCRIPTION,
    UNASKED,
    event,
    receiver,
    request,
    told,
)
from tests.plugins.stripe_provider import CONFIG, STRIPE

from integrationd.sdk import Refusal, UnreadableError, Verified
from integrationd.sdk.testing import WebhookContract

# The worked example of the signature, reproduced with the official client.
VECTOR_SECRET = "whsec_demo_7f3c"
VECTOR_AT_S = 1767225600
VECTOR_HEADER = "t=1767225600,v1=480959ad8f1f2a7aa76452aa6527154e1d77207e46e4d42c60bc3935e281ad3d"
VECTOR_BODY = (
    b'{"id":"evt_demo_001","object":"event","type":"payment_intent.succeeded","data":{"object":'
    b'{"id":"pi_demo_001","object":"payment_intent","amount":250000,"currency":"kes",'
    b'"status":"succeeded"}}}'
)


class StripeWebhooks(WebhookContract):
    plugin = STRIPE
    config = CONFIG
    stranger: ClassVar[Mapping[str, Any]] = {"webhook_secret": "whsec_another"}
    unknown_body = event("radar.early_fraud_warning.created", {"id": "issfr_1"})

    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        return {"Stripe-Signature": signature(body, SECRET, at_s)}


class TestSession(StripeWebhooks):
    body = event("checkout.session.completed", SESSION)


class TestIntent(StripeWebhooks):
    body = event("payment_intent.succeeded", UNASKED)


class TestRefund(StripeWebhooks):
    body = event("refund.updated", REFUND)


class TestCharge(StripeWebhooks):
    body = event("charge.refunded", CHARGE)


class TestInvoice(StripeWebhooks):
    body = event("invoice.paid", INVOICE)


class TestSubscription(StripeWebhooks):
    body = event("customer.subscription.updated", SUBSCRIPTION)


# The proof


def test_worked_example_is_proved() -> None:
    one = receiver(webhook_secret=VECTOR_SECRET)

    assert one.verify_webhook(request(VECTOR_BODY, VECTOR_HEADER, VECTOR_AT_S)) == Verified()
    assert signature(VECTOR_BODY, VECTOR_SECRET, VECTOR_AT_S) == VECTOR_HEADER


@pytest.mark.parametrize(
    ("off_s", "reason"), [(0, None), (300, None), (301, "stale"), (-300, None), (-301, "early")]
)
def test_example_is_good_for_five_minutes_on_either_side(off_s: int, reason: str | None) -> None:
    one = receiver(webhook_secret=VECTOR_SECRET)

    proof = one.verify_webhook(request(VECTOR_BODY, VECTOR_HEADER, VECTOR_AT_S + off_s))

    assert (proof.reason if isinstance(proof, Refusal) else None) == reason


def test_secret_without_its_prefix_signs_something_else() -> None:
    body = event("checkout.session.completed", SESSION)
    header = signature(body, SECRET.removeprefix("whsec_"), NOON_S)

    assert isinstance(receiver().verify_webhook(request(body, header)), Refusal)


@pytest.mark.parametrize("signed_with", ["whsec_old", "whsec_new"])
def test_either_secret_is_good_while_one_is_being_replaced(signed_with: str) -> None:
    body = event("checkout.session.completed", SESSION)
    one = receiver(webhook_secret=["whsec_old", "whsec_new"])

    header = signature(body, signed_with, NOON_S)

    assert one.verify_webhook(request(body, header)) == Verified()


def test_any_of_several_signatures_may_fit_and_other_schemes_count_for_nothing() -> None:
    body = event("checkout.session.completed", SESSION)
    good = signature(body, SECRET, NOON_S).partition("v1=")[2]
    zeros = "0" * 64

    both = request(body, f"t={NOON_S},v1={zeros},v1={good},v0={zeros}")
    other = request(body, f"t={NOON_S},v1={zeros},v0={good}")

    assert receiver().verify_webhook(both) == Verified()
    assert isinstance(receiver().verify_webhook(other), Refusal)


def test_connection_without_a_secret_says_that_it_is_missing() -> None:
    body = event("checkout.session.completed", SESSION)
    header = signature(body, SECRET, NOON_S)

    proof = receiver(webhook_secret=[]).verify_webhook(request(body, header))

    assert isinstance(proof, Refusal)
    assert proof.reason == "secret_missing"
    assert "webhook_secret" in proof.detail


# Whom it is about


def test_event_of_the_other_mode_is_not_understood() -> None:
    body = event("checkout.session.completed", SESSION, livemode=True)

    with pytest.raises(UnreadableError, match="live event, but the connection's key is test"):
        told(body)


def test_event_of_the_keys_mode_is_understood() -> None:
    body = event("checkout.session.completed", SESSION, livemode=True)

    assert told(body, secret_key="sk_live_1")


@pytest.mark.parametrize(
    ("account", "config", "is_ours"),
    [
        (None, {}, True),
        ("acct_1", {}, False),
        ("acct_1", {"stripe_account": "acct_1"}, True),
        ("acct_2", {"stripe_account": "acct_1"}, False),
    ],
)
def test_event_of_another_account_tells_nothing(
    account: str | None, config: dict[str, str], is_ours: bool
) -> None:
    body = event("checkout.session.completed", SESSION, account=account)

    assert bool(told(body, **config)) is is_ours


def test_thin_event_is_not_understood_and_says_what_to_choose() -> None:
    body = json.dumps({"id": "evt_1", "object": "v2.core.event", "type": "v1.x"}).encode()

    with pytest.raises(UnreadableError, match="snapshot"):
        told(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"evt_1","object":"event","type":"invoice.paid"}',
        b'{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":"in_1"}}',
        b'{"object":"event","type":"invoice.paid","data":{"object":{}}}',
        b'{"id":"evt_1","object":"event","data":{"object":{}}}',
    ],
)
def test_body_that_is_no_event_is_not_understood(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        told(body)
