"""Paystack's refunds, which have no key: each is made once, and found again by its mark."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.plugins.paystack_provider import PAYMENT, Line, line
from tests.plugins.paystack_server import Trouble

from integrationd.sdk import (
    Accepted,
    CannotTell,
    Delivered,
    Done,
    Money,
    NeverHappened,
    PaymentResult,
    Pending,
    Refused,
    Rejected,
    Uncertain,
)
from integrationd.sdk.testing import CALL_ID

PART = {"payment": "ord-7781", "amount": "500", "currency": "KES", "reason": "Sold out"}
WHOLE = {"payment": "ord-7781"}
LATER_S = 3600.0


@pytest.fixture
async def at() -> AsyncIterator[Line]:
    async with line() as running:
        made = await running.send("payment.initiate", {**PAYMENT, "reference": "ord-7781"})
        assert isinstance(made.outcome, Accepted)
        running.fake.pay(made.outcome.result["redirect_url"])
        running.fake.effects.clear()
        yield running


async def test_refund_is_accepted_under_its_id(at: Line) -> None:
    made = await at.send("payment.refund", {**PART, "reference": "back-1"})

    [refund_id] = at.fake.refunds
    assert made.sent
    assert made.outcome == Accepted(
        reference=refund_id,
        result={
            "status": "pending",
            "provider_reference": refund_id,
            "amount": "500.00",
            "currency": "KES",
        },
    )
    assert at.posted("/refund") == [
        {
            "transaction": "3000000001",
            "amount": 50000,
            "currency": "KES",
            "customer_note": "Sold out",
            "merchant_note": f"Sold out back-1 [integrationd {CALL_ID}]",
        }
    ]
    msgspec.convert(dict(made.outcome.result), PaymentResult)


@pytest.mark.parametrize("payment", ["ord-7781", "3000000001"])
async def test_whole_payment_is_refunded_by_reference_or_id(at: Line, payment: str) -> None:
    made = await at.send("payment.refund", {"payment": payment})

    assert isinstance(made.outcome, Accepted)
    assert made.outcome.result["amount"] == "2500.00"
    assert "amount" not in at.posted("/refund")[0]


async def test_refund_in_another_currency_is_not_made(at: Line) -> None:
    made = await at.send("payment.refund", PART | {"currency": "NGN"})

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "currency_differs"
    assert not made.sent
    assert at.fake.refunds == {}


async def test_refund_of_an_unknown_payment_is_rejected(at: Line) -> None:
    made = await at.send("payment.refund", {"payment": "ord-1"})

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "not_found"


async def test_refund_of_more_than_is_left_is_rejected(at: Line) -> None:
    await at.send("payment.refund", PART, call_id="another-call")

    made = await at.send("payment.refund", WHOLE)

    assert isinstance(made.outcome, Rejected)
    assert len(at.fake.refunds) == 1


async def test_look_up_that_breaks_off_has_moved_no_money(at: Line) -> None:
    at.drop_replies()

    made = await at.send("payment.refund", PART)

    assert not made.sent
    assert at.fake.refunds == {}


# What became of it


async def in_doubt(at: Line, payload: dict[str, Any] = PART) -> None:
    at.fake.troubles.append(Trouble(status=502, acts=True))
    made = await at.send("payment.refund", payload)
    assert isinstance(made.outcome, Uncertain)
    assert made.sent


async def test_refund_without_an_answer_is_found_by_its_mark(at: Line) -> None:
    await at.send("payment.refund", PART, call_id="another-call")
    await in_doubt(at)
    mine = list(at.fake.refunds)[-1]
    at.fake.end_refund(mine, "processed")

    finding = await at.ask("payment.refund", PART, age_s=LATER_S)

    assert isinstance(finding, Done)
    assert (finding.reference, finding.paid) == (mine, Money(Decimal(500), "KES"))
    assert at.fake.effects == {("refund", "ord-7781"): 2}


async def test_refund_that_never_arrived_may_be_sent_again(at: Line) -> None:
    await at.send("payment.refund", PART, call_id="another-call")

    early = await at.ask("payment.refund", PART, age_s=30)
    late = await at.ask("payment.refund", PART, age_s=120)

    assert early == Pending(ask_after_s=90.0)
    assert isinstance(late, NeverHappened)


@pytest.mark.parametrize("note", [None, "", "Refund for transaction by ann@example.com", 7])
@pytest.mark.parametrize("payload", [PART, WHOLE])
async def test_like_refund_without_a_mark_is_for_a_person(
    at: Line, note: object, payload: dict[str, Any]
) -> None:
    """Were the note lost, the refund could be ours: repeating it might pay twice."""
    await in_doubt(at, payload)
    for refund in at.fake.refunds.values():
        refund["merchant_note"] = note

    finding = await at.ask("payment.refund", payload, age_s=0)

    assert isinstance(finding, CannotTell)
    assert finding.reason == "refund_not_told_apart"


@pytest.mark.parametrize(
    "changes", [{"amount": 40000}, {"amount": "40000"}, {"createdAt": "2026-01-14T12:00:00.000Z"}]
)
async def test_other_refund_without_a_mark_is_not_ours(at: Line, changes: dict[str, Any]) -> None:
    await in_doubt(at)
    for refund in at.fake.refunds.values():
        refund |= {"merchant_note": None, **changes}

    finding = await at.ask("payment.refund", PART, age_s=LATER_S)

    assert isinstance(finding, NeverHappened)


async def test_refund_whose_time_is_not_told_is_for_a_person(at: Line) -> None:
    await in_doubt(at)
    for refund in at.fake.refunds.values():
        refund |= {"merchant_note": None, "createdAt": None}

    assert isinstance(await at.ask("payment.refund", PART, age_s=LATER_S), CannotTell)


@pytest.mark.parametrize("status", ["pending", "processing", "novel"])
async def test_status_that_is_not_final_is_pending(at: Line, status: str) -> None:
    await at.send("payment.refund", PART)
    [refund_id] = at.fake.refunds
    at.fake.end_refund(refund_id, status)

    assert isinstance(await at.ask("payment.refund", PART, refund_id), Pending)


async def test_refund_that_needs_a_bank_account_says_what_to_do(at: Line) -> None:
    await at.send("payment.refund", PART)
    [refund_id] = at.fake.refunds
    at.fake.end_refund(refund_id, "needs-attention")

    finding = await at.ask("payment.refund", PART, refund_id)

    assert isinstance(finding, Pending)
    assert "bank account" in finding.result["instructions"]


async def test_failed_refund_is_refused(at: Line) -> None:
    await at.send("payment.refund", PART)
    [refund_id] = at.fake.refunds
    at.fake.end_refund(refund_id, "failed")

    finding = await at.ask("payment.refund", PART, refund_id)

    assert isinstance(finding, Refused)
    assert finding.reason == "failed"


async def test_refund_that_is_done_at_once_is_delivered(at: Line) -> None:
    data = {"id": 7, "status": "processed", "amount": "50000", "currency": "KES"}
    told = {"status": True, "message": "x", "data": data}
    at.fake.troubles.append(Trouble(status=200, body=told))

    made = await at.send("payment.refund", PART)

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result["status"] == "refunded"
    assert made.outcome.result["amount"] == "500.00"
