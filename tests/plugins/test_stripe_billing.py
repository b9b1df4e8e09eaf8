"""Stripe: customers, their billing page, and the end of a subscription."""

from collections.abc import AsyncIterator

import pytest
from tests.plugins.stripe_account import REFERENCE
from tests.plugins.stripe_provider import Call, Running, stripe
from tests.plugins.stripe_server import Trouble

from integrationd.sdk import Delivered, Done, NeverHappened, Rejected, Retryable, Uncertain


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


async def test_customer_is_made_once_and_named(at: Running) -> None:
    call = Call(at, "billing.customer", {"email": "ann@example.com", "metadata": {"id": "7"}})

    first, again = await call.send(), await call.send()

    [customer] = at.fake.customers.values()
    assert first == again
    assert first == Delivered(reference=customer["id"], result={"customer_id": customer["id"]})
    assert customer["metadata"] == {"id": "7", REFERENCE: call.call_id}


async def test_portal_address_is_made_for_a_customer(at: Running) -> None:
    customer = at.fake.make_customer({})["id"]
    payload = {"customer_id": customer, "return_url": "https://ex.test/me"}

    outcome = await Call(at, "billing.portal", payload).send()

    assert isinstance(outcome, Delivered)
    assert outcome.result["url"].startswith("https://billing.stripe.com/")


async def test_portal_for_nobody_is_refused_by_its_code(at: Running) -> None:
    outcome = await Call(at, "billing.portal", {"customer_id": "cus_0"}).send()

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "resource_missing"
    assert "cus_0" in outcome.detail


async def test_subscription_is_cancelled_at_once_by_delete_without_a_key(at: Running) -> None:
    subscription = at.fake.subscribe("cus_1")
    payload = {"subscription_id": subscription, "when": "now", "reason": "moved away"}

    outcome = await Call(at, "billing.cancel", payload).send()

    assert isinstance(outcome, Delivered)
    assert outcome.result == {"status": "canceled", "ends_at": "2026-01-15T12:00:00.000Z"}
    [request] = at.requests
    assert request.method == "DELETE"
    assert "idempotency-key" not in request.headers
    assert at.fake.seen[0][2] == {"cancellation_details": {"comment": "moved away"}}


async def test_subscription_is_cancelled_at_the_end_of_its_period(at: Running) -> None:
    subscription = at.fake.subscribe("cus_1")

    outcome = await Call(at, "billing.cancel", {"subscription_id": subscription}).send()

    assert isinstance(outcome, Delivered)
    assert outcome.result == {"status": "active", "ends_at": "2026-02-14T12:00:00.000Z"}
    assert at.fake.subscriptions[subscription]["cancel_at_period_end"] is True


async def test_subscription_that_has_ended_already_is_no_failure(at: Running) -> None:
    subscription = at.fake.subscribe("cus_1")
    call = Call(at, "billing.cancel", {"subscription_id": subscription, "when": "now"})
    await call.send()

    again = await call.send()

    assert isinstance(again, Delivered)
    assert again.result["status"] == "canceled"


async def test_subscription_that_never_was_is_refused(at: Running) -> None:
    payload = {"subscription_id": "sub_0", "when": "now"}

    outcome = await Call(at, "billing.cancel", payload).send()

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "resource_missing"


async def test_lost_cancellation_is_looked_for_at_the_subscription(at: Running) -> None:
    subscription = at.fake.subscribe("cus_1")
    call = Call(at, "billing.cancel", {"subscription_id": subscription})
    at.fake.troubles.append(Trouble(status=500))

    assert isinstance(await call.send(), Uncertain)
    assert await call.ask(None) == NeverHappened(proof="Stripe says that it is active and goes on.")

    at.fake.troubles.append(Trouble(status=500, acts=True))
    at.clock.advance(86400)
    assert isinstance(await call.send(), Uncertain)
    finding = await call.ask(None)
    assert isinstance(finding, Done)
    assert finding.result == {"status": "active", "ends_at": "2026-02-14T12:00:00.000Z"}


async def test_lost_customer_is_looked_for_by_our_reference(at: Running) -> None:
    call = Call(at, "billing.customer", {"email": "ann@example.com"})
    assert isinstance(await call.ask(None), NeverHappened)
    at.fake.troubles.append(Trouble(status=500, acts=True))
    assert isinstance(await call.send(), Uncertain)

    finding = await call.ask(None)

    [customer] = at.fake.customers
    assert finding == Done(result={"customer_id": customer}, reference=customer)


async def test_cancellation_that_has_to_wait_is_tried_again(at: Running) -> None:
    subscription = at.fake.subscribe("cus_1")
    at.fake.troubles.append(Trouble(status=409, error={"code": "lock_timeout"}))

    outcome = await Call(at, "billing.cancel", {"subscription_id": subscription}).send()

    assert isinstance(outcome, Retryable)
    assert outcome.sent
