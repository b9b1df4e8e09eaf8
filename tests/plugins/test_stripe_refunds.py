"""Stripe: giving money back, in whole or in part, once."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.requests import Request
from tests.plugins.stripe_provider import Call, Running, Stripe, stripe
from tests.plugins.stripe_server import DroppedError, Trouble

from integrationd.sdk import (
    Accepted,
    Delivered,
    Done,
    Money,
    NeverHappened,
    PaymentRefund,
    Pending,
    Refused,
    Rejected,
    Uncertain,
)
from integrationd.sdk.exchange import recording

DAY_S = 86400
PAYMENT = {"amount": "2500.00", "currency": "KES", "return_url": "https://ex.test/ok"}
ASKED = Money.of("2500", "KES")


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


async def drop(_request: Request) -> None:
    raise DroppedError


async def begun(at: Running) -> str:
    outcome = await Call(at, "payment.initiate", PAYMENT).send()
    assert isinstance(outcome, Accepted)
    return str(outcome.reference)


async def paid(at: Running) -> tuple[str, str]:
    """Return the ids of a page and of what was paid on it."""
    made = await begun(at)
    at.fake.pay(made)
    return made, str(at.fake.payments[made]["payment_intent"])


async def test_refund_gives_all_of_it_back_once(at: Running) -> None:
    _, receipt = await paid(at)
    call = Call(at, "payment.refund", {"payment": receipt, "reference": "rf-1"})

    first, again = await call.send(), await call.send()

    assert first == again
    assert isinstance(first, Delivered)
    assert first.reference in at.fake.refunds
    assert first.result["status"] == "refunded"
    assert (first.result["amount"], first.result["currency"]) == ("2500.00", "KES")
    assert at.fake.given_back == {receipt: 250000}


@pytest.mark.parametrize("by", ["page", "intent", "charge"])
async def test_refund_of_a_part_takes_any_name_of_the_payment(at: Running, by: str) -> None:
    made, receipt = await paid(at)
    charge = at.fake.payments[receipt]["latest_charge"]["id"]
    payment = {"page": made, "intent": receipt, "charge": charge}[by]
    part = {"payment": payment, "amount": "100.50", "currency": "KES"}

    outcome = await Call(at, "payment.refund", part).send()

    assert isinstance(outcome, Delivered)
    assert at.fake.given_back == {receipt: 10050}


async def test_refund_in_another_currency_is_refused_before_anything_is_done(at: Running) -> None:
    _, receipt = await paid(at)
    part = {"payment": receipt, "amount": "100", "currency": "JPY"}

    outcome = await Call(at, "payment.refund", part).send()

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "currency_differs"
    assert not at.fake.given_back


async def test_refund_of_an_unpaid_page_is_refused(at: Running) -> None:
    made = await begun(at)

    outcome = await Call(at, "payment.refund", {"payment": made}).send()

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "not_paid"


async def test_refund_of_more_than_is_left_is_refused_by_stripe(at: Running) -> None:
    _, receipt = await paid(at)
    await Call(at, "payment.refund", {"payment": receipt}).send()
    at.clock.advance(DAY_S + 1)

    outcome = await Call(at, "payment.refund", {"payment": receipt}).send()

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "charge_already_refunded"


@pytest.mark.parametrize(
    ("reason", "field", "metadata"),
    [
        ("duplicate", "duplicate", None),
        ("The pupil has left", None, "The pupil has left"),
        (None, None, None),
    ],
)
async def test_reason_of_a_refund_is_stripes_word_or_kept_beside_it(
    at: Running, reason: str | None, field: str | None, metadata: str | None
) -> None:
    _, receipt = await paid(at)

    await Call(at, "payment.refund", {"payment": receipt, "reason": reason}).send()

    params = at.fake.seen[-1][2]
    assert params.get("reason") == field
    assert params["metadata"].get("reason") == metadata


async def test_refund_that_takes_time_is_asked_about(at: Running) -> None:
    _, receipt = await paid(at)
    at.fake.refund_status = "pending"
    call = Call(at, "payment.refund", {"payment": receipt})
    outcome = await call.send()
    assert isinstance(outcome, Accepted)
    assert outcome.result["status"] == "pending"

    assert isinstance(await call.ask(outcome.reference), Pending)
    refund = at.fake.refunds[str(outcome.reference)]
    refund["status"] = "succeeded"
    finding = await call.ask(outcome.reference)

    assert isinstance(finding, Done)
    assert finding.paid == ASKED


async def test_refund_that_fails_says_why(at: Running) -> None:
    _, receipt = await paid(at)
    at.fake.refund_status = "failed"
    call = Call(at, "payment.refund", {"payment": receipt})
    outcome = await call.send()
    [refund] = at.fake.refunds.values()
    refund["failure_reason"] = "lost_or_stolen_card"

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "failed"
    finding = await call.ask(refund["id"])
    assert isinstance(finding, Refused)
    assert finding.reason == "lost_or_stolen_card"


@pytest.mark.parametrize("by_page", [True, False])
async def test_lost_refund_is_found_by_our_reference(at: Running, by_page: bool) -> None:
    made, receipt = await paid(at)
    payload = {"payment": made if by_page else receipt, "reference": "rf-1"}
    call = Call(at, "payment.refund", payload)
    assert isinstance(await call.ask(None), NeverHappened)
    at.fake.troubles.append(Trouble(status=500, acts=True))
    assert isinstance(await call.send(), Uncertain)

    finding = await call.ask(None)

    assert isinstance(finding, Done)
    assert finding.reference in at.fake.refunds
    assert at.fake.given_back == {receipt: 250000}


async def test_refund_whose_payment_cannot_be_looked_at_was_never_sent(at: Running) -> None:
    made, _ = await paid(at)
    at.fake.before_reply = drop

    async with Call(at, "payment.refund", {"payment": made}).met() as (provider, ctx):
        with recording(ctx.mark_sent), pytest.raises(httpx2.HTTPError):
            await Stripe.operations()["payment.refund"].method(
                provider, PaymentRefund(payment=made), ctx
            )

    assert ctx.sent is False
