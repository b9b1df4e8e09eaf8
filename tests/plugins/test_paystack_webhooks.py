"""Paystack's webhooks: its signing scheme, and what each event means for calls and apps."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import pytest
from tests.plugins.paystack_account import KEY, signature
from tests.plugins.paystack_provider import (
    CONFIG,
    EMAIL,
    PAYMENT,
    PAYOUT,
    PAYSTACK,
    line,
    provider,
    webhook,
)

from integrationd.sdk import (
    Accepted,
    Done,
    Money,
    Notice,
    PaymentResult,
    Pending,
    Refusal,
    Refused,
    UnreadableError,
    Verified,
)
from integrationd.sdk.testing import CALL_ID, WebhookContract

CHARGE = {
    "id": 900100,
    "domain": "test",
    "status": "success",
    "reference": "ord-7781",
    "amount": 250000,
    "currency": "KES",
    "channel": "mobile_money",
    "fees": 3750,
    "paid_at": "2026-01-01T12:00:00.000Z",
    "metadata": {"pupil": "1042"},
    "customer": {"email": "a@b.test", "customer_code": "CUS_1", "phone": "+254711000111"},
    "plan": {},
}
TRANSFER = {
    "id": 700200,
    "reference": "pay-0091",
    "transfer_code": "TRF_demo1",
    "status": "success",
    "amount": 150000,
    "currency": "NGN",
}
REFUND = {
    "status": "processed",
    "transaction_reference": "ord-7781",
    "refund_reference": "132013318360",
    "amount": "5000",
    "currency": "NGN",
    "customer": {"email": "a@b.test"},
}
SHEET_KEY = "sk_test_demo_paystack_0001"


def body_of(event: str, data: Any) -> bytes:
    return json.dumps({"event": event, "data": data}, separators=(",", ":")).encode()


def told(event: str, data: Mapping[str, Any]) -> list[Notice]:
    return list(provider().read_webhook(webhook(body_of(event, data))))


class PaystackWebhookContract(WebhookContract):
    plugin = PAYSTACK
    config = CONFIG
    stranger: ClassVar[Mapping[str, Any]] = {"secret_key": "sk_test_of_another"}
    unknown_body = body_of("charge.imagined", {"id": 1, "status": "success"})

    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        return {"x-paystack-signature": signature(body)}


class TestPaystackChargeWebhook(PaystackWebhookContract):
    body = body_of("charge.success", CHARGE)


class TestPaystackTransferWebhook(PaystackWebhookContract):
    body = body_of("transfer.success", TRANSFER)


class TestPaystackRefundWebhook(PaystackWebhookContract):
    body = body_of("refund.processed", REFUND)


class TestPaystackInvoiceWebhook(PaystackWebhookContract):
    body = body_of(
        "invoice.update",
        {
            "invoice_code": "INV_1",
            "paid": True,
            "amount": 50000,
            "subscription": {"subscription_code": "SUB_1"},
            "transaction": {"reference": "rdt", "currency": "NGN"},
            "customer": {"customer_code": "CUS_1"},
        },
    )


# The signature

VECTORS = {
    '{"event":"charge.success","data":{"id":900100,"reference":"ord-7781","status":"success",'
    '"amount":250000,"currency":"KES"}}': (
        "9eafa681d7729b1d7a38806083abf76cf210f2733bba7866b0a61d79b9ce6c9c"
        "81698130c5351558cd0755890bce7cc6eb77eecaa4d31e8f1abbed8f2f53b90b"
    ),
    '{"event":"transfer.success","data":{"id":700200,"reference":"pay-0091",'
    '"transfer_code":"TRF_demo1","status":"success","amount":150000,"currency":"NGN"}}': (
        "d512c2b2421dbb60a1531c0dd7b55432a76a2e4027517ead6dd23a946ec34228"
        "23e791ab2fbe7796a8aa45b84ad9ba110e7ad3b618058622d25be3f6076c9ce9"
    ),
}


@pytest.mark.parametrize(("body", "published"), VECTORS.items())
def test_published_scheme_is_accepted_and_one_flipped_byte_is_refused(
    body: str, published: str
) -> None:
    made, raw = provider(secret_key=SHEET_KEY), body.encode()

    assert hmac.new(SHEET_KEY.encode(), raw, hashlib.sha512).hexdigest() == published
    assert made.verify_webhook(webhook(raw, published)) == Verified()
    for place in range(len(raw)):
        flipped = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert isinstance(made.verify_webhook(webhook(flipped, published)), Refusal)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"event":"charge.success","data":{"url":"https:\\/\\/x","name":"\\u00e9"}}',
        '{"event":"charge.success","data":{"name":"Wanjikũ"}}'.encode(),
        b'{ "event" : "charge.success", "data": {"amount": 1.0, "fees": 1e2} }',
    ],
)
def test_raw_bytes_are_what_is_signed(raw: bytes) -> None:
    """Escaped slashes, other letters and odd numbers do not survive being written again."""
    rewritten = json.dumps(json.loads(raw), separators=(",", ":")).encode()

    assert provider().verify_webhook(webhook(raw)) == Verified()
    assert rewritten != raw
    assert isinstance(provider().verify_webhook(webhook(rewritten, signature(raw))), Refusal)


def test_key_before_is_taken_only_while_the_connection_names_it() -> None:
    raw = body_of("charge.success", CHARGE)
    old = webhook(raw, signature(raw, "sk_test_before"))

    assert isinstance(provider().verify_webhook(old), Refusal)
    assert provider(previous_secret_key="sk_test_before").verify_webhook(old) == Verified()
    assert provider(previous_secret_key="sk_test_before").verify_webhook(webhook(raw)) == Verified()


@pytest.mark.parametrize("algorithm", [hashlib.sha256, hashlib.sha1])
def test_other_hash_is_refused(algorithm: Any) -> None:
    raw = body_of("charge.success", CHARGE)
    given = hmac.new(KEY.encode(), raw, algorithm).hexdigest()

    assert isinstance(provider().verify_webhook(webhook(raw, given)), Refusal)


# Charges


def test_charge_settles_its_call_and_is_told_as_received_where_there_is_none() -> None:
    [notice] = told("charge.success", CHARGE)

    assert (notice.our_reference, notice.provider_reference) == ("ord-7781", "ord-7781")
    assert notice.finding == Done(
        reference="ord-7781",
        paid=Money(Decimal(2500), "KES"),
        result={
            "status": "paid",
            "provider_reference": "ord-7781",
            "reference": "ord-7781",
            "receipt": "900100",
            "amount": "2500.00",
            "currency": "KES",
            "fees": "37.50",
            "paid_at": "2026-01-01T12:00:00.000Z",
            "payer": "a@b.test",
        },
    )
    msgspec.convert(dict(notice.finding.result), PaymentResult)
    assert notice.event == "payment.received"
    assert notice.data == {
        "receipt": "900100",
        "amount": "2500.00",
        "currency": "KES",
        "account": "",
        "payer": "a@b.test",
        "paid_at": "2026-01-01T12:00:00.000Z",
        "reference": "ord-7781",
        "channel": "mobile_money",
        "customer_id": "CUS_1",
        "phone": "+254711000111",
        "metadata": {"pupil": "1042"},
    }


@pytest.mark.parametrize("metadata", ["", 0, None, [], "no json", {"a": {"b": 1}}])
def test_metadata_may_be_of_any_shape(metadata: Any) -> None:
    [notice] = told("charge.success", CHARGE | {"metadata": metadata})

    assert "metadata" not in notice.data


@pytest.mark.parametrize("changes", [{"status": "pending"}, {"status": None}])
def test_charge_that_is_not_called_paid_is_asked_about(changes: dict[str, Any]) -> None:
    [notice] = told("charge.success", CHARGE | changes)

    assert notice.finding == Pending()
    assert notice.event is None


@pytest.mark.parametrize(
    "changes",
    [{"amount": None}, {"amount": -1}, {"amount": 1.5}, {"currency": "XXX"}, {"reference": None}],
)
def test_charge_that_does_not_say_what_was_paid_is_unreadable(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError):
        told("charge.success", CHARGE | changes)


def test_copies_have_one_id_and_another_status_has_another() -> None:
    ids = [
        told(event, data)[0].event_id
        for event, data in (
            ("charge.success", CHARGE),
            ("charge.success", CHARGE | {"fees": None}),
            ("charge.success", CHARGE | {"id": 900101}),
            ("transfer.success", TRANSFER),
            ("transfer.reversed", TRANSFER | {"status": "reversed"}),
        )
    ]

    assert ids[0] == ids[1] == "charge.success:900100:success"
    assert len(set(ids)) == 4


async def test_payment_is_settled_by_the_webhook_that_its_page_causes() -> None:
    async with line() as at:
        made = await at.send("payment.initiate", PAYMENT)
        assert isinstance(made.outcome, Accepted)
        at.fake.pay(made.outcome.result["redirect_url"])
        [callback] = at.fake.callbacks

        request = webhook(callback.body, callback.headers["x-paystack-signature"])
        [notice] = at.provider.read_webhook(request)

        assert at.provider.verify_webhook(request) == Verified()
        assert notice.our_reference == CALL_ID
        assert notice.finding == await at.ask("payment.initiate", PAYMENT, CALL_ID)
        assert at.fake.charged == {EMAIL: 250000}


# Transfers


@pytest.mark.parametrize("status", ["failed", "reversed"])
def test_transfer_that_ends_without_payment_is_refused(status: str) -> None:
    [notice] = told(f"transfer.{status}", TRANSFER | {"status": status})

    assert (notice.our_reference, notice.provider_reference) == ("pay-0091", "TRF_demo1")
    assert isinstance(notice.finding, Refused)
    assert notice.finding.reason == status


def test_transfer_that_arrived_is_done_in_its_amount() -> None:
    [notice] = told("transfer.success", TRANSFER)

    assert isinstance(notice.finding, Done)
    assert notice.finding.paid == Money(Decimal(1500), "NGN")
    assert notice.event is None


def test_transfer_whose_status_disagrees_with_its_event_is_asked_about() -> None:
    [notice] = told("transfer.failed", TRANSFER)

    assert notice.finding == Pending()


async def test_payout_is_settled_by_its_webhook_and_contradicted_by_a_reversal() -> None:
    async with line() as at:
        await at.send("payment.payout", PAYOUT)
        at.fake.end_transfer(CALL_ID, "success")
        at.fake.end_transfer(CALL_ID, "reversed")

        notices = [at.provider.read_webhook(webhook(one.body))[0] for one in at.fake.callbacks]

    assert [type(notice.finding) for notice in notices] == [Done, Refused]
    assert {notice.our_reference for notice in notices} == {CALL_ID}


# Refunds name their payment only


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("processed", "payment.refunded"),
        ("failed", "payment.refund_failed"),
        ("needs-attention", "payment.refund_needs_attention"),
        ("pending", None),
        ("processing", None),
    ],
)
def test_refund_is_an_event_of_its_own(status: str, event: str | None) -> None:
    [notice] = told(f"refund.{status}", REFUND | {"status": status})

    assert notice.event == event
    assert (notice.our_reference, notice.provider_reference, notice.finding) == (None, None, None)
    assert notice.data == {
        "reference": "ord-7781",
        "refund": "132013318360",
        "refunded": "50.00",
        "currency": "NGN",
        "payer": "a@b.test",
    }


def test_refund_amount_may_be_a_number_and_its_reference_null() -> None:
    [notice] = told("refund.failed", REFUND | {"amount": 5000, "refund_reference": None})

    assert notice.data["refunded"] == "50.00"
    assert "refund" not in notice.data


# What subscriptions and disputes tell

SUBSCRIPTION = {
    "subscription_code": "SUB_1",
    "status": "active",
    "next_payment_date": "2026-02-01T07:00:00.000Z",
    "plan": {"plan_code": "PLN_1"},
    "customer": {"customer_code": "CUS_1", "email": "a@b.test"},
}
INVOICE = {
    "invoice_code": "INV_1",
    "paid": True,
    "paid_at": "2026-01-01T12:00:00.000Z",
    "amount": 50000,
    "subscription": {"subscription_code": "SUB_1", "next_payment_date": "2026-02-01T07:00:00.000Z"},
    "customer": {"customer_code": "CUS_1", "email": "a@b.test"},
    "transaction": {"reference": "rdt-1", "currency": "NGN"},
}
DISPUTE = {
    "id": 358950,
    "refund_amount": 5800,
    "currency": "NGN",
    "status": "awaiting-merchant-feedback",
    "category": "chargeback",
    "dueAt": "2026-01-25T18:00:00.000Z",
    "transaction": {"reference": "ord-7781"},
}


@pytest.mark.parametrize(
    ("event", "ours"),
    [
        ("subscription.create", "billing.subscription_changed"),
        ("subscription.not_renew", "billing.subscription_changed"),
        ("subscription.disable", "billing.subscription_ended"),
    ],
)
def test_subscription_is_an_event_of_its_own(event: str, ours: str) -> None:
    [notice] = told(event, SUBSCRIPTION)

    assert notice.event == ours
    assert notice.data == {
        "subscription": "SUB_1",
        "customer_id": "CUS_1",
        "email": "a@b.test",
        "plan": "PLN_1",
        "status": "active",
        "next_payment_at": "2026-02-01T07:00:00.000Z",
    }


def test_invoice_is_told_as_paid_once() -> None:
    [made], [updated] = told("invoice.create", INVOICE), told("invoice.update", INVOICE)

    assert made.event == "billing.invoice_paid"
    assert made == updated
    assert made.data["amount"] == "500.00"


def test_invoice_that_is_not_paid_yet_is_no_news_but_a_failed_one_is() -> None:
    unpaid = INVOICE | {"paid": False, "paid_at": None, "transaction": {}}

    [failed] = told("invoice.payment_failed", unpaid)

    assert told("invoice.create", unpaid) == []
    assert failed.event == "billing.invoice_failed"
    assert failed.data == {
        "invoice": "INV_1",
        "subscription": "SUB_1",
        "customer_id": "CUS_1",
        "email": "a@b.test",
        "next_attempt_at": "2026-02-01T07:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("event", "ours"),
    [
        ("charge.dispute.create", "payment.disputed"),
        ("charge.dispute.remind", "payment.dispute_due"),
        ("charge.dispute.resolve", "payment.dispute_resolved"),
    ],
)
def test_dispute_is_an_event_of_its_own(event: str, ours: str) -> None:
    [notice] = told(event, DISPUTE)

    assert notice.event == ours
    assert notice.data == {
        "dispute": "358950",
        "status": "awaiting-merchant-feedback",
        "category": "chargeback",
        "reference": "ord-7781",
        "amount": "58.00",
        "currency": "NGN",
        "due_at": "2026-01-25T18:00:00.000Z",
    }


def test_event_of_another_shape_that_nobody_reads_is_ignored() -> None:
    raw = body_of("subscription.expiring_cards", [{"expiry_date": "12/2026"}])

    assert list(provider().read_webhook(webhook(raw))) == []
