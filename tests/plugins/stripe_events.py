"""Events as Stripe writes them, and one connection that takes them in."""

import json
from typing import Any

from tests.plugins.stripe_account import REFERENCE, Object
from tests.plugins.stripe_provider import CONFIG, Stripe

from integrationd.sdk import Notice, WebhookRequest
from integrationd.sdk.testing import FakeConnection

NOON_S = 1_768_478_400

SESSION = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "status": "complete",
    "payment_status": "paid",
    "payment_intent": "pi_1",
    "amount_total": 250000,
    "currency": "kes",
    "client_reference_id": "ord-7781",
    "customer_details": {"email": "ann@example.com", "name": "Ann", "phone": None},
    "metadata": {REFERENCE: "ord-7781"},
}
INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "status": "succeeded",
    "amount": 250000,
    "amount_received": 250000,
    "currency": "kes",
    "latest_charge": "ch_1",
    "receipt_email": "ann@example.com",
    "metadata": {REFERENCE: "ord-7781"},
}
UNASKED = INTENT | {"metadata": {"order": "7"}, "description": "Shop", "customer": "cus_1"}
REFUND = {
    "id": "re_1",
    "object": "refund",
    "status": "succeeded",
    "amount": 10050,
    "currency": "kes",
    "payment_intent": "pi_1",
    "charge": "ch_1",
    "metadata": {REFERENCE: "rf-1"},
}
CHARGE = {
    "id": "ch_1",
    "object": "charge",
    "payment_intent": "pi_1",
    "amount": 250000,
    "amount_refunded": 10050,
    "refunded": False,
    "currency": "kes",
    "metadata": {REFERENCE: "ord-7781"},
}
INVOICE = {
    "id": "in_1",
    "object": "invoice",
    "number": "A-0001",
    "customer": "cus_1",
    "customer_email": "ann@example.com",
    "amount_due": 90000,
    "amount_paid": 90000,
    "currency": "kes",
    "hosted_invoice_url": "https://invoice.stripe.com/i/1",
    "attempt_count": 1,
    "next_payment_attempt": None,
    "parent": {"subscription_details": {"subscription": "sub_1"}},
}
SUBSCRIPTION = {
    "id": "sub_1",
    "object": "subscription",
    "customer": "cus_1",
    "status": "active",
    "cancel_at": NOON_S,
    "metadata": {"class": "4B"},
}


def event(kind: str, thing: Object, **members: Any) -> bytes:
    """Return the body of an event."""
    told = {"id": "evt_1", "object": "event", "type": kind, "created": NOON_S, "livemode": False}
    return json.dumps(told | {"data": {"object": thing}} | members).encode()


def receiver(**config: Any) -> Any:
    """Return the provider of a connection."""
    return Stripe(Stripe.Config.model_validate({**CONFIG, **config}), FakeConnection())


def request(body: bytes, header: str | None, at_s: float = NOON_S) -> WebhookRequest:
    """Return a webhook as the daemon hands it over."""
    return WebhookRequest(
        method="POST",
        path="",
        query={},
        headers=[] if header is None else [("stripe-signature", header)],
        body=body,
        source="203.0.113.7",
        received_at_ms=round(at_s * 1000),
    )


def told(body: bytes, **config: Any) -> list[Notice]:
    """Return what a body tells."""
    return list(receiver(**config).read_webhook(request(body, None)))


def only(body: bytes) -> Notice:
    """Return the one thing that a body tells."""
    [notice] = told(body)
    return notice
