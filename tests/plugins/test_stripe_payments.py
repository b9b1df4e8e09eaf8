"""Stripe: what becomes of payments and refunds, as it is told when it is asked."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from tests.plugins.stripe_provider import Call, Running, stripe
from tests.plugins.stripe_server import DroppedError, Trouble, undisturbed

from integrationd.sdk import (
    Accepted,
    CannotTell,
    Delivered,
    Done,
    Money,
    NeverHappened,
    OutcomeError,
    Pending,
    Refused,
    Rejected,
    Uncertain,
)

DAY_S = 86400
PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "customer": {"email": "ann@example.com"},
    "reference": "ord-7781",
    "return_url": "https://ex.test/ok",
}
INTENT = {**PAYMENT, "channel": "intent"}
ASKED = Money.of("2500", "KES")


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


async def drop(_request: Request) -> None:
    raise DroppedError


async def begun(at: Running, payload: dict[str, Any] | None = None) -> tuple[Call, str]:
    call = Call(at, "payment.initiate", payload or PAYMENT)
    outcome = await call.send()
    assert isinstance(outcome, Accepted)
    assert outcome.reference is not None
    return call, outcome.reference


# A payment page


async def test_open_page_is_pending_and_still_tells_where_to_pay(at: Running) -> None:
    call, made = await begun(at)

    finding = await call.ask(made)

    assert isinstance(finding, Pending)
    assert finding.result["redirect_url"] == at.fake.payments[made]["url"]


async def test_paid_page_is_done_with_all_that_is_known(at: Running) -> None:
    call, made = await begun(at)
    at.fake.pay(made)

    finding = await call.ask(made)

    assert finding == Done(
        reference=made,
        paid=ASKED,
        result={
            "status": "paid",
            "provider_reference": made,
            "reference": "ord-7781",
            "receipt": at.fake.payments[made]["payment_intent"],
            "amount": "2500.00",
            "currency": "KES",
            "fees": "0.40",
            "paid_at": "2026-01-15T12:00:00.000Z",
            "payer": "ann@example.com",
        },
    )


async def test_completed_page_is_not_paid_before_the_bank_has(at: Running) -> None:
    call, made = await begun(at)
    at.fake.pay(made, later=True)

    assert isinstance(await call.ask(made), Pending)

    at.fake.settle(made)
    assert isinstance(await call.ask(made), Done)


async def test_page_whose_bank_refused_is_refused_with_the_reason(at: Running) -> None:
    call, made = await begun(at)
    at.fake.pay(made, later=True)
    at.fake.settle(made, succeeds=False)

    finding = await call.ask(made)

    assert finding == Refused(
        reason="card_declined", detail="The payment failed: The bank said no."
    )


@pytest.mark.parametrize("payload", [PAYMENT, INTENT])
async def test_what_nobody_pays_in_time_is_closed_by_the_query(
    at: Running, payload: dict[str, Any]
) -> None:
    call, made = await begun(at, payload)
    sent_at_ms = at.clock.now_ms()
    call = Call(at, "payment.initiate", payload, {"open_for_s": 1800})
    at.clock.advance(1799)
    assert isinstance(await call.ask(made, sent_at_ms), Pending)

    at.clock.advance(1)
    finding = await call.ask(made, sent_at_ms)

    assert isinstance(finding, Refused)
    assert finding.reason == ("expired" if payload is PAYMENT else "canceled")
    assert at.fake.payments[made]["status"] == finding.reason


async def test_what_a_bank_is_working_on_is_not_closed(at: Running) -> None:
    call, made = await begun(at)
    at.fake.pay(made, later=True)
    sent_at_ms = at.clock.now_ms()
    at.clock.advance(2 * DAY_S)

    assert isinstance(await call.ask(made, sent_at_ms), Pending)
    assert "POST" not in [method for method, _, _ in at.fake.seen[1:]]


async def test_page_that_cannot_be_closed_is_as_it_was(at: Running) -> None:
    call, made = await begun(at)
    sent_at_ms = at.clock.now_ms()
    at.clock.advance(DAY_S)
    at.fake.troubles.append(Trouble(status=400))

    assert isinstance(await call.ask(made, sent_at_ms), Pending)


# A payment intent


async def test_intent_is_open_until_it_is_paid(at: Running) -> None:
    call, made = await begun(at, INTENT)
    assert isinstance(await call.ask(made), Pending)

    at.fake.pay(made)
    finding = await call.ask(made)

    assert isinstance(finding, Done)
    assert finding.paid == ASKED
    assert finding.result["receipt"] == made
    assert finding.result["payer"] == "ann@example.com"


async def test_failed_try_of_an_intent_leaves_it_open(at: Running) -> None:
    call, made = await begun(at, INTENT)
    at.fake.settle(made, succeeds=False)

    assert isinstance(await call.ask(made), Pending)


@pytest.mark.parametrize("status", ["processing", "requires_capture", "requires_action", "new"])
async def test_intent_in_any_other_state_is_open(at: Running, status: str) -> None:
    call, made = await begun(at, INTENT)
    at.fake.payments[made]["status"] = status

    assert isinstance(await call.ask(made), Pending)


async def test_what_was_received_is_what_was_paid(at: Running) -> None:
    call, made = await begun(at, INTENT)
    at.fake.pay(made)
    at.fake.payments[made]["amount_received"] = 100

    finding = await call.ask(made)

    assert isinstance(finding, Done)
    assert finding.paid == Money.of("1", "KES")


async def test_fees_in_another_currency_are_not_told_as_ones_of_the_payment(at: Running) -> None:
    call, made = await begun(at, INTENT)
    at.fake.pay(made)
    entry = at.fake.payments[made]["latest_charge"]["balance_transaction"]
    entry["currency"] = "usd"

    finding = await call.ask(made)

    assert isinstance(finding, Done)
    assert "fees" not in finding.result


# Answers that were lost


@pytest.mark.parametrize("payload", [PAYMENT, INTENT])
async def test_lost_answer_is_found_again_by_our_reference(
    at: Running, payload: dict[str, Any]
) -> None:
    call = Call(at, "payment.initiate", payload)
    at.fake.before_reply = drop
    outcome = await call.send()
    at.fake.before_reply = undisturbed
    assert isinstance(outcome, Uncertain)
    [made] = at.fake.payments

    assert isinstance(await call.ask(None), Pending)
    at.fake.pay(made)
    finding = await call.ask(None)

    assert isinstance(finding, Done)
    assert finding.reference == made


async def test_repeat_after_a_lost_answer_makes_no_second_page(at: Running) -> None:
    call = Call(at, "payment.initiate", PAYMENT)
    at.fake.before_reply = drop
    await call.send()
    at.fake.before_reply = undisturbed

    outcome = await call.send()

    [made] = at.fake.payments
    assert isinstance(outcome, Accepted)
    assert outcome.reference == made


@pytest.mark.parametrize("payload", [PAYMENT, INTENT])
async def test_what_no_list_holds_never_happened(at: Running, payload: dict[str, Any]) -> None:
    for number in range(3):
        await begun(at, payload | {"reference": f"other-{number}"})

    finding = await Call(at, "payment.initiate", payload).ask(None)

    assert finding == NeverHappened(
        proof="Stripe lists nothing with the reference ord-7781 since 2026-01-15T12:00:00.000Z."
    )


async def test_list_is_read_to_its_end_and_only_about_the_time(at: Running) -> None:
    await begun(at, INTENT | {"reference": "long-before"})
    at.clock.advance(DAY_S)
    call, made = await begun(at, INTENT)
    sent_at_ms = at.clock.now_ms()
    for number in range(250):
        fields = {"amount": "1", "currency": "kes", "metadata": {"n": f"{number}"}}
        at.fake.make_intent(fields)

    finding = await call.ask(None, sent_at_ms)

    assert isinstance(finding, Pending)
    assert finding.result["provider_reference"] == made
    lists = [params for _, path, params in at.fake.seen if path == "/v1/payment_intents"][2:]
    assert len(lists) == 3
    since_s = sent_at_ms // 1000 - 3600
    assert {int(params["created"]["gte"]) for params in lists} == {since_s}


@pytest.mark.parametrize("wrong_by_s", [-10 * 365 * DAY_S, 5 * DAY_S])
async def test_clock_that_was_wrong_when_it_was_sent_hides_nothing(
    at: Running, wrong_by_s: int
) -> None:
    call, made = await begun(at)
    sent_at_ms = at.clock.now_ms() + wrong_by_s * 1000

    finding = await call.ask(None, sent_at_ms)

    assert isinstance(finding, Pending)
    assert finding.result["provider_reference"] == made


async def test_list_that_is_too_long_proves_nothing(at: Running) -> None:
    for number in range(2001):
        fields = {"amount": "1", "currency": "kes", "metadata": {"n": f"{number}"}}
        at.fake.make_intent(fields)

    with pytest.raises(OutcomeError, match="more than 2000"):
        await Call(at, "payment.initiate", INTENT).ask(None)


async def test_paid_one_of_two_pages_with_our_reference_counts(at: Running) -> None:
    call, first = await begun(at)
    sent_at_ms = at.clock.now_ms()
    at.clock.advance(DAY_S + 1)
    _, second = await begun(at)
    assert first != second
    at.fake.pay(first)

    finding = await call.ask(None, sent_at_ms)

    assert isinstance(finding, Done)
    assert finding.reference == first


async def test_query_that_is_refused_proves_nothing(at: Running) -> None:
    with pytest.raises(OutcomeError) as caught:
        await Call(at, "payment.initiate", PAYMENT).ask("cs_test_0")

    assert isinstance(caught.value.outcome, Rejected)
    assert caught.value.outcome.reason == "resource_missing"
    assert not isinstance(caught.value.outcome, CannotTell)


# Asking for a payment by name


async def verified(at: Running, **named: str) -> Any:
    outcome = await Call(at, "payment.verify", named).send()
    assert isinstance(outcome, Delivered), outcome
    return outcome.result


async def test_verify_tells_how_a_payment_stands(at: Running) -> None:
    _, made = await begun(at)
    assert (await verified(at, provider_reference=made))["status"] == "pending"

    at.fake.pay(made)
    receipt = at.fake.payments[made]["payment_intent"]

    assert (await verified(at, provider_reference=made))["status"] == "paid"
    assert (await verified(at, provider_reference=receipt))["status"] == "paid"


async def test_verify_tells_that_a_page_was_closed(at: Running) -> None:
    _, made = await begun(at)
    at.fake.payments[made]["status"] = "expired"

    assert (await verified(at, provider_reference=made))["status"] == "failed"


async def test_verify_tells_that_a_payment_was_given_back(at: Running) -> None:
    _, made = await begun(at)
    at.fake.pay(made)
    await Call(at, "payment.refund", {"payment": made}).send()

    assert (await verified(at, provider_reference=made))["status"] == "refunded"


async def test_verify_by_our_reference_does_not_trust_the_search_alone(at: Running) -> None:
    _, made = await begun(at)

    assert (await verified(at, reference="ord-7781"))["provider_reference"] == made

    at.fake.pay(made)
    at.clock.advance(at.fake.search_lag_s)
    assert (await verified(at, reference="ord-7781"))["status"] == "paid"


async def test_verify_of_what_is_not_there_is_refused(at: Running) -> None:
    outcome = await Call(at, "payment.verify", {"reference": "ord-0"}).send()

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "not_found"
