"""A message to many: one result for each recipient, and nobody is sent to who has it."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2
import msgspec
import pytest
from tests.plugins.africastalking_server import (
    ANN,
    BEN,
    CAT,
    CONFIG,
    DROP,
    AfricasTalking,
    Gateway,
    Trouble,
    answer,
    attempt,
    entry,
    gateway,
    reply,
)

from integrationd.sdk import (
    Delivered,
    Outcome,
    PartOutcome,
    Rejected,
    Retryable,
    SmsSendBulk,
    SmsSendBulkResult,
    Throttled,
    Uncertain,
)
from integrationd.sdk.testing import FakeClock, FakeConnection, fake_client, make_context

ALL = [ANN, BEN, CAT]
BULK = {"recipients": ALL, "message": "No school on Friday"}
MANY = [f"+25471100{n:04}" for n in range(1000)]
BUSY = reply(429, "Slow down", "text/plain", ["Retry-After: 9"])
REFUSED = reply(401, "The supplied authentication is invalid", "text/plain")
BROKEN = reply(500, "Oops", "text/plain")


@pytest.fixture
async def at() -> AsyncIterator[Gateway]:
    async with gateway() as running:
        yield running


def parts(outcome: Outcome) -> dict[str, PartOutcome]:
    assert isinstance(outcome, Delivered), outcome
    return {part.recipient: part.outcome for part in outcome.parts}


def reasons(outcome: Outcome) -> dict[str, str]:
    """Return for each part its reason, or its reference if it is done."""
    return {
        number: (said.reference or "done") if isinstance(said, Delivered) else said.reason
        for number, said in parts(outcome).items()
    }


async def test_bulk_is_one_request_with_a_part_for_each_recipient(at: Gateway) -> None:
    made = await attempt(at.url, "sms.send_bulk", BULK)

    assert [form["to"] for form in at.forms] == [",".join(ALL)]
    assert at.forms[0]["bulkSMSMode"] == "1"
    assert reasons(made.outcome) == {ANN: "ATXid_0111", BEN: "ATXid_0222", CAT: "ATXid_0333"}


async def test_results_are_matched_by_number_not_by_order(at: Gateway) -> None:
    at.codes |= {BEN: deque([403]), CAT: deque([500])}

    made = await attempt(at.url, "sms.send_bulk", BULK)

    found = parts(made.outcome)
    assert [type(found[number]) for number in ALL] == [Delivered, Rejected, Retryable]


async def test_after_a_partial_result_only_open_recipients_are_sent_to(at: Gateway) -> None:
    made = await attempt(at.url, "sms.send_bulk", BULK, open_recipients=[CAT])

    assert [form["to"] for form in at.forms] == [CAT]
    assert reasons(made.outcome) == {CAT: "ATXid_0333"}


async def test_bulk_to_one_tells_what_became_of_that_one(at: Gateway) -> None:
    bulk = BULK | {"recipients": [ANN]}

    taken = await attempt(at.url, "sms.send_bulk", bulk, open_recipients=[ANN])
    at.codes[ANN] = deque([403])
    refused = await attempt(at.url, "sms.send_bulk", bulk, open_recipients=[ANN])

    assert isinstance(taken.outcome, Delivered)
    assert taken.outcome.result == {"currency": "KES", "cost": "0.8000"}
    assert reasons(taken.outcome) == {ANN: "ATXid_0111"}
    assert reasons(refused.outcome) == {ANN: "invalid_recipient"}
    assert at.sent == [(ANN, BULK["message"])]


async def test_recipient_whom_the_answer_does_not_name_is_uncertain(at: Gateway) -> None:
    at.troubles.append(Trouble(raw=reply(201, answer([entry(CAT), entry(ANN)]))))

    made = await attempt(at.url, "sms.send_bulk", BULK)

    assert reasons(made.outcome) == {ANN: "ATXid_0111", BEN: "not_in_reply", CAT: "ATXid_0333"}
    assert isinstance(parts(made.outcome)[BEN], Uncertain)


async def test_cost_is_the_exact_sum(at: Gateway) -> None:
    costs = ["KES 0.1000", "KES 0.2", "KES 12345678901234567.0"]
    told = [entry(number, cost=cost) for number, cost in zip(ALL, costs, strict=True)]
    at.troubles.append(Trouble(raw=reply(201, answer(told))))

    made = await attempt(at.url, "sms.send_bulk", BULK)

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result == {"currency": "KES", "cost": "12345678901234567.3000"}
    msgspec.convert(made.outcome.result, SmsSendBulkResult)


@pytest.mark.parametrize("cost", ["UGX 1.00", "0", None])
async def test_cost_that_does_not_add_up_is_left_out(at: Gateway, cost: str | None) -> None:
    told = [entry(ANN), entry(BEN, cost=cost), entry(CAT)]
    at.troubles.append(Trouble(raw=reply(201, answer(told))))

    made = await attempt(at.url, "sms.send_bulk", BULK)

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result == {}


async def test_cost_of_a_later_attempt_alone_is_left_out(at: Gateway) -> None:
    made = await attempt(at.url, "sms.send_bulk", BULK, open_recipients=[ANN, CAT])

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result == {}


async def test_held_messages_and_a_used_up_balance_are_warned_of_once(at: Gateway) -> None:
    at.codes |= {ANN: deque([401]), BEN: deque([405]), CAT: deque([405])}

    made = await attempt(at.url, "sms.send_bulk", BULK)

    assert reasons(made.outcome)[ANN] == "ATXid_0111"
    assert reasons(made.outcome)[CAT] == "insufficient_balance"
    held, used_up = made.log
    assert "held_for_review" in held
    assert "'recipients': 1" in held
    assert "balance_used_up" in used_up
    assert "'recipients': 2" in used_up


async def test_passing_fault_for_all_is_retryable_as_a_whole(at: Gateway) -> None:
    at.codes |= {number: deque([501]) for number in ALL}

    made = await attempt(at.url, "sms.send_bulk", BULK)

    assert isinstance(made.outcome, Retryable)
    assert made.outcome.reason == "gateway_error"


@pytest.mark.parametrize("trouble", [DROP, Trouble(after_s=1.0), Trouble(raw=BROKEN)])
async def test_request_without_an_answer_is_in_doubt_as_a_whole(
    at: Gateway, trouble: Trouble
) -> None:
    at.troubles.append(trouble)

    made = await attempt(at.url, "sms.send_bulk", BULK, timeout_s=0.3)

    assert isinstance(made.outcome, Uncertain)
    assert len(at.requests) == 1


# Several requests


async def test_many_recipients_are_sent_to_in_batches_each_of_them_once(at: Gateway) -> None:
    made = await attempt(at.url, "sms.send_bulk", BULK | {"recipients": MANY})

    assert [len(form["to"].split(",")) for form in at.forms] == [200] * 5
    assert [number for number, _ in at.sent] == [
        number for n in range(0, 1000, 200) for number in MANY[n : n + 200]
    ]
    assert set(map(type, parts(made.outcome).values())) == {Delivered}
    assert list(parts(made.outcome)) == MANY
    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result == {"currency": "KES", "cost": "800.0000"}


BATCHES = BULK | {"recipients": MANY[:5]}
DONE = ["ATXid_0000", "ATXid_0001"]


@pytest.mark.parametrize(
    ("trouble", "failed"),
    [
        (DROP, ["connection_lost"] * 2 + ["not_sent_yet"]),
        (Trouble(raw=BROKEN), ["http_500"] * 2 + ["not_sent_yet"]),
        (Trouble(after_s=9), ["timeout"] * 2 + ["not_sent_yet"]),
        (Trouble(raw=reply(201, "?")), ["unreadable_reply"] * 2 + ["not_sent_yet"]),
        (Trouble(raw=BUSY), ["throttled"] * 2 + ["not_sent_yet"]),
        (
            Trouble(raw=reply(201, answer([], "GatewayError"))),
            ["gateway_error"] * 2 + ["not_sent_yet"],
        ),
        (Trouble(raw=REFUSED), ["http_401"] * 3),
        (Trouble(raw=reply(201, answer([], "InvalidSenderId"))), ["invalid_sender"] * 3),
    ],
)
async def test_batch_that_fails_ends_the_attempt_and_keeps_what_earlier_ones_came_to(
    at: Gateway, trouble: Trouble, failed: list[str]
) -> None:
    at.troubles.extend([Trouble(), trouble])

    made = await attempt(at.url, "sms.send_bulk", BATCHES, batch_size=2, timeout_s=1.5)

    assert list(reasons(made.outcome).values()) == DONE + failed
    assert len(at.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "kind"), [(Trouble(raw=BUSY), Throttled), (Trouble(raw=REFUSED), Rejected)]
)
async def test_first_batch_that_was_not_taken_speaks_for_all(
    at: Gateway, trouble: Trouble, kind: type[Outcome]
) -> None:
    at.troubles.append(trouble)

    made = await attempt(at.url, "sms.send_bulk", BATCHES, batch_size=2)

    assert isinstance(made.outcome, kind)
    assert len(at.requests) == 1


async def test_first_batch_in_doubt_speaks_for_its_own_recipients_only(at: Gateway) -> None:
    at.troubles.append(DROP)

    made = await attempt(at.url, "sms.send_bulk", BATCHES, batch_size=2)

    found = list(parts(made.outcome).values())
    assert [type(one) for one in found] == [Uncertain] * 2 + [Retryable] * 3
    assert [one.sent for one in found if isinstance(one, Retryable)] == [False] * 3


async def test_failed_recipients_of_a_batch_do_not_keep_the_next_from_being_sent(
    at: Gateway,
) -> None:
    at.codes |= {MANY[0]: deque([500]), MANY[1]: deque([406])}

    made = await attempt(at.url, "sms.send_bulk", BATCHES, batch_size=2)

    found = list(parts(made.outcome).values())
    assert [type(one) for one in found] == [Retryable, Rejected] + [Delivered] * 3
    assert len(at.requests) == 3


async def slowly(answer_in_s: float, timeout_s: float) -> Mapping[str, PartOutcome]:
    """Send three batches to a provider that takes its time, in virtual time."""
    clock = FakeClock()

    def respond(request: httpx2.Request) -> httpx2.Response:
        clock.advance(answer_in_s)
        numbers = dict(httpx2.QueryParams(request.content.decode()))["to"].split(",")
        return httpx2.Response(201, text=answer([entry(number) for number in numbers]))

    config: Any = AfricasTalking.Config.model_validate(CONFIG | {"batch_size": 2})
    provider: Any = AfricasTalking(config, FakeConnection())
    request = msgspec.convert(BATCHES, SmsSendBulk)
    async with fake_client(config, respond) as client:
        ctx = make_context(
            "sms.send_bulk", client=client, clock=clock, open_recipients=request.recipients
        )
        ctx.timeout_s = timeout_s
        return parts(await provider.send_bulk(request, ctx))


@pytest.mark.parametrize(
    ("answer_in_s", "kinds"),
    [
        (9.0, [Delivered] * 5),
        (12.0, [Delivered] * 4 + [Retryable]),
        (20.0, [Delivered] * 2 + [Retryable] * 3),
    ],
)
async def test_batch_is_not_begun_that_would_not_be_answered_in_time(
    answer_in_s: float, kinds: list[Callable[..., PartOutcome]]
) -> None:
    """A batch cut off by the deadline would be in doubt; one not begun is simply sent later."""
    found = await slowly(answer_in_s, timeout_s=30.0)

    assert [type(one) for one in found.values()] == kinds
