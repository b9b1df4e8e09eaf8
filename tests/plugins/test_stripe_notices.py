"""Stripe: what its events mean for our calls, and which are events of their own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.plugins.stripe_account import Callback, Object
from tests.plugins.stripe_events import (
    CHARGE,
    INTENT,
    INVOICE,
    REFUND,
    SESSION,
    SUBSCRIPTION,
    UNASKED,
    event,
    only,
    receiver,
    request,
    told,
)
from tests.plugins.stripe_provider import Call, Running, stripe
from tests.plugins.stripe_server import FakeStripe

from integrationd.sdk import Accepted, Done, Money, Notice, Pending, Refused, Verified

PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "customer": {"email": "ann@example.com"},
    "reference": "ord-7781",
    "return_url": "https://ex.test/ok",
}
ASKED = Money.of("2500", "KES")


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


def test_paid_session_is_done_by_our_reference() -> None:
    assert only(event("checkout.session.completed", SESSION)) == Notice(
        event_id="evt_1",
        type="checkout.session.completed",
        our_reference="ord-7781",
        provider_reference="cs_test_1",
        finding=Done(
            reference="cs_test_1",
            paid=ASKED,
            result={
                "paid_at": "2026-01-15T12:00:00.000Z",
                "provider_reference": "cs_test_1",
                "reference": "ord-7781",
                "receipt": "pi_1",
                "amount": "2500.00",
                "currency": "KES",
                "status": "paid",
                "payer": "ann@example.com",
            },
        ),
    )


def test_completed_session_that_is_not_paid_yet_is_pending() -> None:
    notice = only(event("checkout.session.completed", SESSION | {"payment_status": "unpaid"}))

    assert isinstance(notice.finding, Pending)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("checkout.session.async_payment_failed", {}, "async_payment_failed"),
        ("checkout.session.expired", {"status": "expired"}, "expired"),
    ],
)
def test_session_that_came_to_nothing_is_refused(
    kind: str, changes: dict[str, str], reason: str
) -> None:
    notice = only(event(kind, SESSION | {"payment_status": "unpaid"} | changes))

    assert isinstance(notice.finding, Refused)
    assert notice.finding.reason == reason
    assert notice.our_reference == "ord-7781"


def test_payment_of_a_page_is_done_and_keeps_the_pages_id() -> None:
    notice = only(event("payment_intent.succeeded", INTENT))

    assert isinstance(notice.finding, Done)
    assert notice.finding.reference is None
    assert "provider_reference" not in notice.finding.result
    assert notice.finding.result["receipt"] == "pi_1"
    assert notice.finding.paid == ASKED


def test_amount_received_is_what_counts() -> None:
    notice = only(event("payment_intent.succeeded", INTENT | {"amount_received": 100}))

    assert isinstance(notice.finding, Done)
    assert notice.finding.paid == Money.of("1", "KES")


def test_failed_try_is_not_the_end_and_is_asked_about() -> None:
    failed = INTENT | {"status": "requires_payment_method", "client_secret": "pi_1_secret_x"}

    notice = only(event("payment_intent.payment_failed", failed))

    assert notice.finding == Pending(result={})


def test_canceled_intent_is_refused_with_the_reason() -> None:
    canceled = INTENT | {"status": "canceled", "cancellation_reason": "fraudulent"}

    notice = only(event("payment_intent.canceled", canceled))

    assert notice.finding == Refused(
        reason="canceled", detail="The payment was canceled at Stripe: fraudulent."
    )


def test_payment_that_nobody_of_us_asked_for_is_an_event_of_its_own() -> None:
    notice = only(event("payment_intent.succeeded", UNASKED))

    assert (notice.our_reference, notice.provider_reference, notice.finding) == (None, None, None)
    assert notice.event == "payment.received"
    assert notice.data == {
        "receipt": "pi_1",
        "amount": "2500.00",
        "currency": "KES",
        "account": "",
        "payer": "ann@example.com",
        "paid_at": "2026-01-15T12:00:00.000Z",
        "description": "Shop",
        "customer_id": "cus_1",
        "metadata": {"order": "7"},
    }


@pytest.mark.parametrize(
    ("kind", "thing"),
    [
        ("checkout.session.completed", SESSION | {"metadata": {}}),
        ("checkout.session.expired", SESSION | {"metadata": None, "status": "expired"}),
        ("payment_intent.payment_failed", UNASKED),
        ("payment_intent.canceled", UNASKED),
        ("refund.updated", REFUND | {"metadata": {}}),
    ],
)
def test_what_somebody_else_made_on_the_account_tells_nothing(kind: str, thing: Object) -> None:
    assert told(event(kind, thing)) == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("succeeded", Done),
        ("pending", Pending),
        ("requires_action", Pending),
        ("failed", Refused),
        ("canceled", Refused),
    ],
)
@pytest.mark.parametrize("name", ["refund.created", "refund.updated", "charge.refund.updated"])
def test_refund_is_what_its_status_says(name: str, status: str, kind: type) -> None:
    notice = only(event(name, REFUND | {"status": status}))

    assert notice.our_reference == "rf-1"
    assert notice.provider_reference == "re_1"
    assert isinstance(notice.finding, kind)


def test_failed_refund_says_why() -> None:
    failed = REFUND | {"status": "failed", "failure_reason": "lost_or_stolen_card"}

    ours = only(event("refund.failed", failed))
    foreign = only(event("refund.failed", failed | {"metadata": {}}))

    assert isinstance(ours.finding, Refused)
    assert ours.finding.reason == "lost_or_stolen_card"
    assert foreign.event == "payment.refund_failed"
    assert foreign.data["reason"] == "lost_or_stolen_card"


def test_money_that_went_back_is_an_event_of_its_own() -> None:
    notice = only(event("charge.refunded", CHARGE))

    assert (notice.our_reference, notice.provider_reference) == (None, None)
    assert notice.event == "payment.refunded"
    assert notice.data == {
        "receipt": "pi_1",
        "reference": "ord-7781",
        "refunded": "100.50",
        "currency": "KES",
        "is_whole": False,
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("invoice.paid", "billing.invoice_paid"),
        ("invoice.payment_failed", "billing.invoice_failed"),
    ],
)
@pytest.mark.parametrize("where", [{}, {"parent": None, "subscription": "sub_1"}])
def test_invoice_is_an_event_of_its_own(kind: str, name: str, where: Object) -> None:
    notice = only(event(kind, INVOICE | where))

    assert notice.event == name
    assert notice.data == {
        "invoice": "in_1",
        "number": "A-0001",
        "subscription": "sub_1",
        "customer_id": "cus_1",
        "email": "ann@example.com",
        "amount": "900.00",
        "currency": "KES",
        "url": "https://invoice.stripe.com/i/1",
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("customer.subscription.created", "billing.subscription_changed"),
        ("customer.subscription.updated", "billing.subscription_changed"),
        ("customer.subscription.deleted", "billing.subscription_ended"),
    ],
)
def test_subscription_is_an_event_of_its_own(kind: str, name: str) -> None:
    notice = only(event(kind, SUBSCRIPTION))

    assert notice.event == name
    assert notice.data == {
        "subscription": "sub_1",
        "customer_id": "cus_1",
        "status": "active",
        "ends_at": "2026-01-15T12:00:00.000Z",
        "metadata": {"class": "4B"},
    }


# From the asking to the webhook


def heard(fake: FakeStripe) -> list[tuple[str, Any]]:
    """Take in all webhooks that are on their way; return the type and finding of each."""

    def take(callback: Callback) -> tuple[str, Any]:
        came = request(callback.body, callback.headers["Stripe-Signature"])
        assert receiver().verify_webhook(came) == Verified()
        [notice] = receiver().read_webhook(came)
        assert notice.our_reference == "ord-7781"
        return notice.type, notice.finding

    return [take(fake.callbacks.popleft()) for _ in range(len(fake.callbacks))]


async def test_page_that_is_paid_by_card_is_told_twice_as_paid(at: Running) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()
    assert isinstance(outcome, Accepted)

    at.fake.pay(str(outcome.reference))

    findings = heard(at.fake)
    assert [kind for kind, _ in findings] == [
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    assert all(isinstance(one, Done) and one.paid == ASKED for _, one in findings)


async def test_page_that_a_bank_pays_later_is_told_when_it_has(at: Running) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()
    assert isinstance(outcome, Accepted)

    at.fake.pay(str(outcome.reference), later=True)
    [(_, first)] = heard(at.fake)
    at.fake.settle(str(outcome.reference))
    then = heard(at.fake)

    assert isinstance(first, Pending)
    assert [kind for kind, finding in then if isinstance(finding, Done)] == [
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]


async def test_page_that_a_bank_does_not_pay_is_told_as_refused(at: Running) -> None:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()
    assert isinstance(outcome, Accepted)
    at.fake.pay(str(outcome.reference), later=True)
    heard(at.fake)

    at.fake.settle(str(outcome.reference), succeeds=False)

    [(_, tried), (_, ended)] = heard(at.fake)
    assert isinstance(tried, Pending)
    assert isinstance(ended, Refused)
    assert at.fake.charged == {}
