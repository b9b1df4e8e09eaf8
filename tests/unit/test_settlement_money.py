"""What is told of money when a call about it has ended."""

from typing import Any

import pytest

from integrationd.call import Call, CallState
from integrationd.settlement import money_event, tells_of_money

ASKED = {"amount": "2500.00", "currency": "KES", "reference": "INV-7", "customer": {"phone": "1"}}
PAID = {"amount": "2500.00", "currency": "KES", "receipt": "R-1", "payer": "254711000111"}


def a_call(state: CallState = CallState.COMPLETED, **changes: Any) -> Call:
    given = {
        "id": "0190b5f0-7c1a-7000-8000-0123456789ab",
        "tenant": "school",
        "operation": "payment.initiate",
        "lane": "@till/school",
        "connection": "till",
        "created_at_ms": 1,
        "give_up_at_ms": 2,
        "state": state,
        "reason": "refused",
        "detail": "No funds.",
        "provider_reference": "ws-1",
        "reference_type": "invoice",
        "reference_id": "7",
    }
    return Call(**{**given, **changes})


@pytest.mark.parametrize(
    ("operation", "state", "told"),
    [
        ("payment.initiate", CallState.COMPLETED, "payment.succeeded"),
        ("payment.initiate", CallState.FAILED, "payment.failed"),
        ("payment.initiate", CallState.EXPIRED, "payment.failed"),
        ("payment.refund", CallState.COMPLETED, "payment.refunded"),
        ("payment.refund", CallState.FAILED, "payment.refund_failed"),
        ("payment.payout", CallState.COMPLETED, "payment.paid_out"),
        ("payment.payout", CallState.EXPIRED, "payment.payout_failed"),
    ],
)
def test_end_of_a_call_about_money_is_told_by_its_operation(
    operation: str, state: CallState, told: str
) -> None:
    call = a_call(state, operation=operation)

    assert tells_of_money(CallState.PENDING, call)
    assert money_event(call, ASKED, PAID).type == told


@pytest.mark.parametrize(
    ("before", "call"),
    [
        (CallState.COMPLETED, a_call()),
        (CallState.PENDING, a_call(CallState.CANCELLED)),
        (CallState.PROCESSING, a_call(CallState.WAITING)),
        (CallState.PROCESSING, a_call(CallState.UNKNOWN)),
        (CallState.PROCESSING, a_call(operation="payment.verify")),
        (CallState.PROCESSING, a_call(operation="sms.send")),
    ],
)
def test_nothing_is_told_of_what_has_not_just_ended_or_is_no_money(
    before: CallState, call: Call
) -> None:
    assert not tells_of_money(before, call)


def test_payment_is_told_with_all_that_books_need_and_nobody_is_named() -> None:
    event = money_event(a_call(), ASKED, PAID)

    assert (event.tenant, event.connection) == ("school", "till")
    assert event.data == {
        "operation": "payment.initiate",
        "amount": "2500.00",
        "currency": "KES",
        "reference": "INV-7",
        "provider_reference": "ws-1",
        "receipt": "R-1",
        "fees": None,
        "paid_at": None,
        "reason": None,
        "detail": None,
        "reference_type": "invoice",
        "reference_id": "7",
    }


def test_what_was_paid_counts_for_more_than_what_was_asked_for() -> None:
    event = money_event(a_call(), ASKED, {**PAID, "amount": "2499.00"})

    assert event.data["amount"] == "2499.00"


def test_failure_says_why_and_a_refund_which_payment_it_was_of() -> None:
    call = a_call(CallState.FAILED, operation="payment.refund")

    event = money_event(call, {"payment": "R-1"}, {})

    assert event.data["amount"] is None
    assert (event.data["reason"], event.data["detail"]) == ("refused", "No funds.")
    assert event.data["payment"] == "R-1"
