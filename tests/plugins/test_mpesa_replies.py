"""M-Pesa: access tokens, and what each way to be refused or left without an answer means."""

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from tests.plugins.mpesa_provider import PAYMENT, PAYOUT, PHONE, Line, line, provider
from tests.plugins.mpesa_server import PAYOUT as PAYOUT_PATH
from tests.plugins.mpesa_server import (
    PUSH,
    PUSH_QUERY,
    Dropped,
    FakeDaraja,
    error,
)
from tests.sdk.scripted_server import Received, unused_port

from integrationd.sdk import (
    Accepted,
    CannotTell,
    OutcomeError,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.http import prepare_client

TOKEN = "/oauth/v1/generate"
HTML = b"<html>Service unavailable</html>"
SPIKE = {"fault": {"faultstring": "Spike arrest violation. Allowed rate : 5ps"}}


@pytest.fixture
async def mpesa() -> AsyncIterator[Line]:
    async with line() as running:
        yield running


def script(mpesa: Line, path: str, *replies: Any) -> None:
    mpesa.fake.replies[path] = deque(replies)


def count(mpesa: Line, path: str) -> int:
    return sum(one.target.partition("?")[0] == path for one in mpesa.fake.requests)


# The token


async def test_token_is_got_once_and_shared_by_all_calls(mpesa: Line) -> None:
    async with anyio.create_task_group() as group:
        for number in range(5):
            payment = PAYMENT | {"customer": {"phone": f"{PHONE[:-1]}{number}"}}
            group.start_soon(mpesa.send, "payment.initiate", payment)

    assert (count(mpesa, TOKEN), count(mpesa, PUSH)) == (1, 5)
    assert mpesa.fake.requests[0].headers["authorization"] == "Basic ZGVtb0tleTpkZW1vU2VjcmV0"
    assert mpesa.fake.requests[0].target == f"{TOKEN}?grant_type=client_credentials"


async def test_token_is_got_anew_a_minute_before_it_ends(mpesa: Line) -> None:
    await mpesa.send("payment.initiate", PAYMENT)
    mpesa.clock.advance(3599 - 61)
    await mpesa.send("payment.initiate", PAYMENT)
    assert count(mpesa, TOKEN) == 1

    mpesa.clock.advance(2)
    await mpesa.send("payment.initiate", PAYMENT)

    assert count(mpesa, TOKEN) == 2


@pytest.mark.parametrize("life", ["3599", 3599])
async def test_token_life_may_be_text_or_a_number(mpesa: Line, life: Any) -> None:
    mpesa.fake.token = "t-1"
    script(mpesa, TOKEN, (200, {"access_token": "t-1", "expires_in": life}))

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Accepted)


@pytest.mark.parametrize(("status", "code"), [(404, "404.001.03"), (400, "400.003.01")])
async def test_token_that_is_not_taken_is_replaced_and_the_request_sent_once_more(
    mpesa: Line, status: int, code: str
) -> None:
    await mpesa.send("payment.initiate", PAYMENT)
    script(mpesa, PUSH, error(status, code, "Invalid Access Token"))

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Accepted)
    assert (count(mpesa, TOKEN), count(mpesa, PUSH)) == (2, 3)
    first, second = mpesa.sent_to(PUSH)[1:]
    assert first == second


async def test_token_that_is_never_taken_is_replaced_only_once(mpesa: Line) -> None:
    stale = error(404, "404.001.03", "Invalid Access Token")
    script(mpesa, PUSH, stale, stale, stale)

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "bad_credentials"
    assert (count(mpesa, TOKEN), count(mpesa, PUSH)) == (2, 2)


async def test_token_that_cannot_be_replaced_leaves_the_call_unsent(mpesa: Line) -> None:
    await mpesa.send("payment.initiate", PAYMENT)
    script(mpesa, PUSH, error(404, "404.001.03", "Invalid Access Token"))
    script(mpesa, TOKEN, (503, HTML))

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Retryable)
    assert not made.outcome.sent
    assert not made.sent
    assert mpesa.fake.prompted.total() == 1


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        ((400, b""), Rejected, "bad_credentials"),
        (error(400, "400.008.01", "Invalid Authentication passed"), Rejected, "bad_credentials"),
        ((401, b""), Rejected, "bad_credentials"),
        ((500, HTML), Retryable, "no_token"),
        ((200, HTML), Retryable, "no_token"),
        ((200, {"access_token": ""}), Retryable, "no_token"),
        ((429, b""), Throttled, None),
        ((500, SPIKE), Throttled, None),
    ],
)
async def test_call_without_a_token_has_not_been_sent(
    mpesa: Line, reply: Any, kind: type, reason: str | None
) -> None:
    script(mpesa, TOKEN, reply)

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, kind)
    assert getattr(made.outcome, "reason", None) == reason
    assert (made.sent, count(mpesa, PUSH)) == (False, 0)


async def test_connection_test_gets_a_token_and_nothing_else(mpesa: Line) -> None:
    assert "174379" in await mpesa.tested()
    assert [one.method for one in mpesa.fake.requests] == ["GET"]


async def test_connection_test_says_that_the_credentials_are_wrong() -> None:
    async with line(consumer_secret="stale") as mpesa:
        with pytest.raises(OutcomeError, match="Check consumer_key, consumer_secret"):
            await mpesa.tested()


# What a refusal means

CASES = [
    (429, b"", Throttled, None),
    (500, error(0, "500.003.02", "Error Occurred: Spike Arrest Violation")[1], Throttled, None),
    (500, error(0, "500.003.02", "System is busy")[1], Throttled, None),
    (500, error(0, "500.003.03", "Quota Violation")[1], Throttled, None),
    (500, SPIKE, Throttled, None),
    (500, error(0, "500.001.1001", "Unable to lock subscriber")[1], Retryable, "subscriber_locked"),
    (500, error(0, "500.001.1001", "Merchant does not exist")[1], Rejected, "unknown_shortcode"),
    (500, error(0, "500.001.1001", "Wrong credentials")[1], Rejected, "bad_credentials"),
    (500, error(0, "500.001.1001", "Something new")[1], Uncertain, "http_500"),
    (400, error(0, "400.002.02", "Invalid PhoneNumber")[1], Rejected, "invalid_request"),
    (400, error(0, "400.002.05", "Invalid Request Payload")[1], Rejected, "invalid_request"),
    (404, error(0, "404.001.01", "Resource not found")[1], Rejected, "unknown_resource"),
    (405, error(0, "405.001", "Method not allowed")[1], Rejected, "wrong_method"),
    (401, b"", Rejected, "bad_credentials"),
    (403, b"", Rejected, "http_403"),
    (500, error(0, "500.003.1001", "Internal Server Error")[1], Uncertain, "http_500"),
    (400, error(0, "500.003.1001", "Internal Server Error")[1], Uncertain, "http_400"),
    (502, HTML, Uncertain, "http_502"),
    (503, HTML, Uncertain, "http_503"),
    (504, b"", Uncertain, "http_504"),
    (200, HTML, Uncertain, "unreadable_reply"),
    (200, {"ResponseCode": "0"}, Uncertain, "unreadable_reply"),
    (200, [1], Uncertain, "unreadable_reply"),
    (200, {"ResponseCode": "1", "ResponseDescription": "Rejected"}, Rejected, "refused"),
]


@pytest.mark.parametrize(("status", "body", "kind", "reason"), CASES)
async def test_refused_prompt_is_what_the_sheet_says(
    mpesa: Line, status: int, body: Any, kind: type, reason: str | None
) -> None:
    script(mpesa, PUSH, (status, body))

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, kind), made.outcome
    assert getattr(made.outcome, "reason", None) == reason
    assert count(mpesa, PUSH) == 1


async def test_locked_subscriber_is_left_alone_for_a_minute(mpesa: Line) -> None:
    script(mpesa, PUSH, error(500, "500.001.1001", "Unable to lock subscriber"))

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Retryable)
    assert made.outcome.wait_s == 60.0


async def test_not_found_token_is_not_taken_for_a_missing_resource(mpesa: Line) -> None:
    await mpesa.send("payment.initiate", PAYMENT)
    mpesa.fake.token = "replaced-by-somebody-else"

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Accepted)


# Nothing is known


@pytest.mark.parametrize(
    ("operation", "payload", "path"),
    [("payment.initiate", PAYMENT, PUSH), ("payment.payout", PAYOUT, PAYOUT_PATH)],
)
async def test_lost_reply_is_uncertain_and_nothing_is_sent_twice(
    operation: str, payload: dict[str, Any], path: str
) -> None:
    async def drop(request: Received) -> None:
        if request.target == path:
            raise Dropped

    fake = FakeDaraja()
    fake.before_reply = drop
    async with line(fake) as mpesa:
        made = await mpesa.send(operation, payload)

        assert isinstance(made.outcome, Uncertain)
        assert made.sent
        assert count(mpesa, path) == 1
        assert fake.prompted.total() + fake.payouts.total() == 1


async def test_refused_connection_never_left() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    async with prepare_client(base_url=url, timeout_s=5, allow_private=True) as client:
        mpesa = Line(FakeDaraja(), client, provider(base_url=url))

        made = await mpesa.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Retryable)
    assert (made.outcome.reason, made.sent) == ("connection_refused", False)


# Queries


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, HTML, "http_503"),
        (429, b"", "throttled"),
        (200, HTML, "unknown_code"),
        (200, {"ResponseCode": "0", "ResultCode": "26"}, "unknown_code"),
        (200, {"ResponseCode": "0", "ResultCode": "1001"}, "unknown_code"),
        (200, {"ResponseCode": "0", "ResultCode": "9999"}, "unknown_code"),
        (400, error(0, "400.002.02", "Invalid CheckoutRequestID")[1], "invalid_request"),
    ],
)
async def test_query_that_teaches_nothing_cannot_tell(
    mpesa: Line, status: int, body: Any, reason: str
) -> None:
    script(mpesa, PUSH_QUERY, (status, body))

    found = await mpesa.ask("payment.initiate", PAYMENT, "ws_CO_1")

    assert isinstance(found, CannotTell)
    assert found.reason == reason
