"""Stripe: what its errors mean, and what a key is worth."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from tests.plugins.stripe_provider import CONFIG, STRIPE, Call, Running, Stripe, stripe
from tests.plugins.stripe_server import DroppedError, Trouble

from integrationd.sdk import (
    Accepted,
    Done,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.testing import FakeConnection, PluginContract, fake_client, make_context

PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "reference": "ord-7781",
    "return_url": "https://ex.test/ok",
}


@pytest.fixture
async def at() -> AsyncIterator[Running]:
    async with stripe() as running:
        yield running


class _Sends(PluginContract):
    __test__ = False
    plugin = STRIPE
    config = CONFIG
    operation = "payment.initiate"
    payload: ClassVar[dict[str, Any]] = PAYMENT


def answered(status: int, headers: Mapping[str, str] | None = None, **error: Any) -> Outcome:
    """Return what a send comes to that is answered so."""
    body = {"error": {"type": "invalid_request_error", "message": "Because."} | error}
    response = httpx2.Response(status, headers=headers, json=body)
    return _Sends().send(lambda _request: response).outcome


# Errors


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, {"code": "parameter_invalid_integer"}, "parameter_invalid_integer"),
        (400, {}, "http_400"),
        (401, {"code": "api_key_expired"}, "bad_credentials"),
        (402, {"type": "card_error", "code": "card_declined"}, "card_declined"),
        (402, {"code": "card_declined", "decline_code": "lost_card"}, "lost_card"),
        (403, {}, "permission_missing"),
        (404, {"code": "resource_missing"}, "resource_missing"),
    ],
)
def test_refusal_is_final_and_says_why(status: int, error: dict[str, str], reason: str) -> None:
    outcome = answered(status, None, **error)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert "Because." in outcome.detail


def test_unknown_key_says_what_to_do() -> None:
    outcome = answered(401)

    assert isinstance(outcome, Rejected)
    assert "secret_key" in outcome.detail


def test_detail_names_the_parameter_and_the_request() -> None:
    outcome = answered(400, {"Request-Id": "req_7"}, param="line_items[0]")

    assert isinstance(outcome, Rejected)
    assert (
        outcome.detail == "Stripe answered 400: Because. (parameter line_items[0], request req_7)"
    )


def test_rate_limit_waits_as_long_as_it_asks_and_says_which() -> None:
    headers = {"Retry-After": "3", "Stripe-Rate-Limited-Reason": "endpoint-concurrency"}

    outcome = answered(429, headers)

    assert isinstance(outcome, Throttled)
    assert outcome.wait_s == 3.0
    assert "endpoint-concurrency" in outcome.detail


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("advice", [{}, {"Stripe-Should-Retry": "false"}])
def test_server_error_of_a_send_proves_nothing(status: int, advice: dict[str, str]) -> None:
    outcome = answered(status, advice, type="api_error")

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == f"http_{status}"


@pytest.mark.parametrize(
    ("status", "advice", "kind"),
    [
        (409, None, Retryable),
        (409, "true", Retryable),
        (409, "false", Rejected),
        (400, "true", Retryable),
        (402, "true", Retryable),
        (400, "false", Rejected),
    ],
)
def test_advice_to_retry_is_taken_before_the_status(
    status: int, advice: str | None, kind: type
) -> None:
    headers = {} if advice is None else {"Stripe-Should-Retry": advice}

    assert isinstance(answered(status, headers, code="lock_timeout"), kind)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"object":1}',
        b'{"object":"checkout.session"}',
        b'{"object":"checkout.session","id":7}',
        b'{"object":"balance"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_success_that_cannot_be_read_proves_nothing(body: bytes) -> None:
    response = httpx2.Response(200, content=body)

    outcome = _Sends().send(lambda _request: response).outcome

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "unreadable_reply"


@given(
    st.integers(200, 599),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(
                    ["error", "object", "id", "status", "code", "type", "message", "url"]
                ),
                inner,
                max_size=4,
            )
            | st.lists(inner, max_size=3)
        ),
        max_leaves=12,
    ),
)
def test_no_answer_breaks_the_plugin(status: int, told: Any) -> None:
    response = httpx2.Response(status, json=told)

    outcome = _Sends().send(lambda _request: response).outcome

    assert isinstance(outcome, Outcome)
    assert isinstance(outcome, Accepted) <= (200 <= status < 300)


# Keys


async def test_key_with_other_parameters_proves_that_it_was_used(at: Running) -> None:
    call = Call(at, "payment.initiate", PAYMENT)
    await call.send()
    changed = Call(at, "payment.initiate", PAYMENT, {"cancel_url": "https://ex.test/no"})

    outcome = await changed.send()

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "idempotency_error"
    assert len(at.fake.payments) == 1


async def test_key_that_is_in_use_proves_that_a_request_has_arrived(at: Running) -> None:
    call = Call(at, "payment.initiate", PAYMENT)
    at.fake.hold(f"integrationd-{call.call_id}")

    outcome = await call.send()

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "idempotency_key_in_use"


async def test_stored_server_error_is_answered_again_and_the_truth_looked_for(at: Running) -> None:
    call = Call(at, "payment.initiate", PAYMENT)
    at.fake.troubles.append(Trouble(status=500, acts=True))

    first, again = await call.send(), await call.send()

    assert first.__class__ is again.__class__ is Uncertain
    [made] = at.fake.payments
    at.fake.pay(made)
    assert isinstance(await call.ask(None), Done)
    assert at.fake.effects == {"ord-7781": 1}


@pytest.mark.parametrize("status", [401, 409, 429])
async def test_key_of_a_request_that_was_turned_away_is_still_good(
    at: Running, status: int
) -> None:
    call = Call(at, "payment.initiate", PAYMENT)
    at.fake.troubles.append(Trouble(status=status))
    assert not isinstance(await call.send(), Accepted)

    assert isinstance(await call.send(), Accepted)


async def test_every_attempt_sends_the_same_bytes(at: Running) -> None:
    call = Call(at, "payment.initiate", PAYMENT)
    await call.send()
    at.clock.advance(3600)

    await call.send()

    one, two = at.requests
    assert (one.body, one.headers) == (two.body, two.headers)


async def test_dropped_connection_is_met_with_one_request_and_no_more(at: Running) -> None:
    async def drop(_request: Request) -> None:
        raise DroppedError

    at.fake.before_reply = drop

    outcome = await Call(at, "payment.initiate", PAYMENT).send()

    assert isinstance(outcome, Uncertain)
    assert len(at.requests) == 1


def test_provider_shows_no_key() -> None:
    provider = Stripe(Stripe.Config.model_validate(CONFIG), FakeConnection())

    assert CONFIG["secret_key"] not in f"{provider!r} {provider.config!r}"


# Answers to what is only read


class _Refunds(_Sends):
    __test__ = False
    operation = "payment.refund"
    payload: ClassVar[dict[str, Any]] = {"payment": "cs_test_1"}


class _Customers(_Sends):
    __test__ = False
    operation = "billing.customer"
    payload: ClassVar[dict[str, Any]] = {}


class _Verifies(_Sends):
    __test__ = False
    operation = "payment.verify"
    payload: ClassVar[dict[str, Any]] = {"reference": "ord-7781"}


@pytest.mark.parametrize(("status", "kind"), [(500, Retryable), (404, Rejected), (429, Throttled)])
def test_refund_does_nothing_while_its_payment_cannot_be_looked_at(status: int, kind: type) -> None:
    sent = _Refunds().send(lambda _request: httpx2.Response(status, json={}))

    assert isinstance(sent.outcome, kind)
    assert [request.method for request in sent.requests] == ["GET"]


def test_customer_without_an_id_proves_nothing() -> None:
    response = httpx2.Response(200, json={"object": "customer", "id": None})

    outcome = _Customers().send(lambda _request: response).outcome

    assert isinstance(outcome, Uncertain)
    assert outcome.detail == "Stripe answered with an unusable customer."


@pytest.mark.parametrize("data", [None, {}, [None], "cs_1"])
def test_list_that_is_none_proves_nothing(data: Any) -> None:
    response = httpx2.Response(200, json={"object": "list", "data": data})

    outcome = _Verifies().send(lambda _request: response).outcome

    assert isinstance(outcome, Uncertain)
    assert "list is none" in outcome.detail


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, "the key is known, in test mode, but may not read the balance"), (500, None)],
)
async def test_connection_test_tells_a_restricted_key_from_no_answer(
    status: int, said: str | None
) -> None:
    provider = Stripe(Stripe.Config.model_validate(CONFIG), FakeConnection())
    client = fake_client(provider.config, lambda _request: httpx2.Response(status, json={}))

    async with client:
        ctx = make_context("payment.verify", client=client)
        if said is not None:
            assert await provider.test_connection(ctx) == said
            return
        with pytest.raises(ConnectionError, match="500"):
            await provider.test_connection(ctx)
