"""Africa's Talking answers, refuses, drops and garbles; each comes to the outcome that it means."""

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from tests.plugins.africastalking_server import (
    ANN,
    BEN,
    CONFIG,
    DROP,
    NAMES,
    AfricasTalking,
    Gateway,
    Trouble,
    answer,
    attempt,
    entry,
    gateway,
    reply,
)
from tests.sdk.scripted_server import unused_port

from integrationd.sdk import (
    CATALOGUE,
    Delivered,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import FakeConnection, make_context

SMS = {"to": ANN, "message": "Fees are due"}
REASONS = {
    402: "invalid_sender",
    403: "invalid_recipient",
    404: "unsupported_number",
    405: "insufficient_balance",
    406: "opted_out",
    407: "no_route",
    409: "do_not_disturb",
    502: "rejected_by_gateway",
}


@pytest.fixture
async def at() -> AsyncIterator[Gateway]:
    async with gateway() as running:
        yield running


# What the provider says of a message


@pytest.mark.parametrize("code", [100, 101, 102])
async def test_hand_over_is_delivered_with_the_id_for_delivery_reports(
    at: Gateway, code: int
) -> None:
    at.codes[ANN] = deque([code])

    made = await attempt(at.url, "sms.send", SMS)

    assert made.outcome == Delivered(
        reference="ATXid_0111",
        result={"message_id": "ATXid_0111", "currency": "KES", "cost": "0.8000"},
    )
    assert (made.sent, made.log, at.sent) == (True, [], [(ANN, SMS["message"])])


async def test_message_held_for_review_is_delivered_and_warned_of(at: Gateway) -> None:
    """It has been taken over and repeating it would send it twice; its report says the rest."""
    at.codes[ANN] = deque([401])

    made = await attempt(at.url, "sms.send", SMS)

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.reference == "ATXid_0111"
    [warning] = made.log
    assert warning.startswith("warning africastalking_held_for_review")
    assert "'connection': 'under-test'" in warning
    assert ANN not in warning


@pytest.mark.parametrize(("code", "reason"), REASONS.items())
async def test_recipient_refused_for_good_is_rejected(at: Gateway, code: int, reason: str) -> None:
    at.codes[ANN] = deque([code])

    made = await attempt(at.url, "sms.send", SMS)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == reason
    assert NAMES[code] in made.outcome.detail


async def test_used_up_balance_says_what_to_do_and_warns_the_operator(at: Gateway) -> None:
    at.codes[ANN] = deque([405])

    made = await attempt(at.url, "sms.send", SMS)

    assert isinstance(made.outcome, Rejected)
    assert "top up the account" in made.outcome.detail
    [warning] = made.log
    assert warning.startswith("warning africastalking_balance_used_up")


@pytest.mark.parametrize(
    ("code", "reason"), [(500, "internal_server_error"), (501, "gateway_error")]
)
async def test_passing_fault_is_retryable(at: Gateway, code: int, reason: str) -> None:
    at.codes[ANN] = deque([code])

    made = await attempt(at.url, "sms.send", SMS)

    assert isinstance(made.outcome, Retryable)
    assert (made.outcome.reason, made.outcome.sent) == (reason, True)


async def heard(at: Gateway, status: int, body: str | bytes, *rest: Any) -> Outcome:
    """Return what a send makes of a response."""
    at.troubles.append(Trouble(raw=reply(status, body, *rest)))
    return (await attempt(at.url, "sms.send", SMS)).outcome


@pytest.mark.parametrize(
    "members",
    [
        {"statusCode": "101"},
        {"statusCode": None},
        {"statusCode": None, "status": "QUEUED"},
        {"number": "254711000111"},
        {"number": " +254 711 000 111 "},
        {"number": 254711000111},
    ],
)
async def test_hand_over_is_read_leniently(at: Gateway, members: dict[str, Any]) -> None:
    outcome = await heard(at, 201, answer([entry(ANN) | members]))

    assert isinstance(outcome, Delivered), outcome


@pytest.mark.parametrize("name", ["UserInBlacklist", "UserInBlackList", "userinblacklist"])
async def test_names_are_compared_whatever_their_case(at: Gateway, name: str) -> None:
    outcome = await heard(at, 201, answer([entry(ANN, 406, statusCode=None, status=name)]))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "opted_out"


@pytest.mark.parametrize("message_id", ["None", "none", "", " ", "null", None, 7])
async def test_message_id_none_is_none(at: Gateway, message_id: Any) -> None:
    outcome = await heard(at, 201, answer([entry(ANN, messageId=message_id)]))

    assert isinstance(outcome, Delivered)
    assert outcome.reference is None
    assert "message_id" not in outcome.result


@pytest.mark.parametrize("cost", ["0", "", "KES", "0.8", "KES 0,80", "KES x", None, 0.8, 1])
async def test_cost_that_is_no_amount_is_left_out(at: Gateway, cost: Any) -> None:
    outcome = await heard(at, 201, answer([entry(ANN, cost=cost)]))

    assert outcome == Delivered(reference="ATXid_0111", result={"message_id": "ATXid_0111"})


@pytest.mark.parametrize(
    "told",
    [
        entry(ANN, statusCode=999, status="Strange"),
        entry(ANN, statusCode=408, status="Strange"),
        {"number": ANN},
        {"number": ANN, "statusCode": True, "status": ["?"]},
    ],
)
async def test_status_that_nobody_knows_is_uncertain(at: Gateway, told: dict[str, Any]) -> None:
    outcome = await heard(at, 201, answer([told]))

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "unknown_status"


async def test_answer_about_somebody_else_is_uncertain(at: Gateway) -> None:
    outcome = await heard(at, 201, answer([entry(BEN), {}]))

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "not_in_reply"


@pytest.mark.parametrize("codes", [(101, 500), (500, 101), (403, 102)])
async def test_recipient_named_twice_and_once_handed_over_has_it(
    at: Gateway, codes: tuple[int, int]
) -> None:
    outcome = await heard(at, 201, answer([entry(ANN, code) for code in codes]))

    assert isinstance(outcome, Delivered)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "text/html",
        "text/plain; charset=iso-8859-1",
    ],
)
async def test_json_is_read_whatever_type_it_came_under(at: Gateway, content_type: str) -> None:
    outcome = await heard(at, 201, answer([entry(ANN)]), content_type)

    assert isinstance(outcome, Delivered)


async def test_json_with_a_byte_order_mark_is_read(at: Gateway) -> None:
    outcome = await heard(at, 201, b"\xef\xbb\xbf" + answer([entry(ANN)]).encode())

    assert isinstance(outcome, Delivered)


# Whole requests that are refused, in doubt, or lost


@pytest.mark.parametrize(("code", "reason"), REASONS.items())
async def test_empty_list_of_recipients_is_a_failure_with_the_message_as_its_reason(
    at: Gateway, code: int, reason: str
) -> None:
    outcome = await heard(at, 201, answer([], NAMES[code]))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert NAMES[code] in outcome.detail


@pytest.mark.parametrize("code", [500, 501])
async def test_empty_list_with_a_passing_fault_is_retryable(at: Gateway, code: int) -> None:
    assert isinstance(await heard(at, 201, answer([], NAMES[code])), Retryable)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Sent to 0/1 Total Cost: 0", "Sent to 0/1 Total Cost: 0"),
        ("Invalid Sender ID", "Invalid Sender ID"),
        ("No luck.\x1b[2J", "No luck. [2J"),
        ("", "no reason"),
    ],
)
async def test_empty_list_is_a_failure_whatever_the_message(
    at: Gateway, message: str, shown: str
) -> None:
    outcome = await heard(at, 201, answer([], message))

    assert isinstance(outcome, Rejected)
    assert shown in outcome.detail


async def test_empty_list_that_claims_a_hand_over_is_uncertain(at: Gateway) -> None:
    outcome = await heard(at, 201, answer([], "Sent to 1/1 Total Cost: KES 0.8000"))

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "contradictory_reply"


async def test_sender_that_is_not_registered_is_rejected(at: Gateway) -> None:
    made = await attempt(at.url, "sms.send", SMS | {"sender": "NOBODY"})

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "invalid_sender"
    assert at.sent == []


@pytest.mark.parametrize("operation", ["sms.send", "sms.balance"])
@pytest.mark.parametrize("config", [{"api_key": "stale"}, {"username": "shule"}])
async def test_refused_credentials_are_rejected_with_the_plain_text_and_advice(
    at: Gateway, operation: str, config: dict[str, Any]
) -> None:
    payload = SMS if operation == "sms.send" else {}

    made = await attempt(at.url, operation, payload, **config)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "http_401"
    assert "The supplied authentication is invalid" in made.outcome.detail
    assert "Check username and api_key" in made.outcome.detail


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Rejected),
        (400, Rejected),
        (401, Rejected),
        (404, Rejected),
        (500, Uncertain),
        (502, Uncertain),
        (503, Uncertain),
        (504, Uncertain),
    ],
)
@pytest.mark.parametrize("body", ["", "Something is wrong", "<html>no</html>", '{"a":'])
async def test_status_decides_whatever_the_body(
    at: Gateway, status: int, kind: type[Outcome], body: str
) -> None:
    outcome = await heard(at, status, body, "text/plain")

    assert isinstance(outcome, kind)
    assert len(at.requests) == 1


async def test_too_many_requests_wait_as_long_as_asked(at: Gateway) -> None:
    outcome = await heard(at, 429, "Slow down", "text/plain", ["Retry-After: 9"])

    assert isinstance(outcome, Throttled)
    assert outcome.wait_s == 9.0


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<AfricasTalkingResponse/>",
        "null",
        "[]",
        "{}",
        '{"SMSMessageData": null}',
        '{"SMSMessageData": {"Message": "Sent"}}',
        '{"SMSMessageData": {"Message": "Sent", "Recipients": null}}',
        '{"SMSMessageData": {"Message": "Sent", "Recipients": ["' + ANN + '"]}}',
        answer([entry(ANN)])[:-5],
        "[" * 100_000,
        b"\xff\xfe{}",
    ],
)
@pytest.mark.parametrize("status", [200, 201])
async def test_success_that_cannot_be_read_is_uncertain(
    at: Gateway, status: int, body: str | bytes
) -> None:
    outcome = await heard(at, status, body)

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "unreadable_reply"


async def test_connection_dropped_after_the_body_is_one_request_and_uncertain(
    at: Gateway,
) -> None:
    at.troubles.extend([DROP] * 5)

    made = await attempt(at.url, "sms.send", SMS)

    assert isinstance(made.outcome, Uncertain)
    assert made.sent
    assert (len(at.requests), len(at.sent)) == (1, 1)


async def test_connection_kept_and_then_dropped_is_not_tried_again(at: Gateway) -> None:
    at.troubles.extend([Trouble(), DROP])
    config = AfricasTalking.Config.model_validate(CONFIG | {"base_url": at.url})
    provider: Any = AfricasTalking(config, FakeConnection())
    request = msgspec.convert(SMS, CATALOGUE["sms.send"].request)

    async with prepare_client(base_url=at.url, timeout_s=5, allow_private=True) as client:
        ctx = make_context("sms.send", client=client)
        await provider.send(request, ctx)
        with pytest.raises(httpx2.TransportError):
            await provider.send(request, ctx)

    assert len(at.requests) == 2


async def test_reply_after_the_deadline_is_uncertain_and_not_asked_for_again(at: Gateway) -> None:
    at.troubles.append(Trouble(after_s=1.0))

    made = await attempt(at.url, "sms.send", SMS, timeout_s=0.2)

    assert isinstance(made.outcome, Uncertain)
    assert made.outcome.reason == "timeout"
    assert len(at.requests) == 1


async def test_refused_connection_never_left() -> None:
    made = await attempt(f"http://127.0.0.1:{unused_port()}", "sms.send", SMS)

    assert isinstance(made.outcome, Retryable)
    assert (made.outcome.sent, made.sent) == (False, False)
