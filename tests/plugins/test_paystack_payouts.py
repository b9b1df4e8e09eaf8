"""Paystack's transfers: to whom, once, and what became of them."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.plugins.paystack_provider import ACCOUNT, PAYOUT, Line, line, provider, request_of
from tests.plugins.paystack_server import Trouble

from integrationd.sdk import (
    Accepted,
    Asked,
    Delivered,
    Done,
    Money,
    NeverHappened,
    OutcomeError,
    PaymentResult,
    Pending,
    Refused,
    Rejected,
    Retryable,
    Uncertain,
)
from integrationd.sdk.testing import CALL_ID, fake_client, make_context
from integrationd.sdk.testing.fakes import answering

WAGES = {**PAYOUT, "reference": "pay-0091"}
STRANGER = {**ACCOUNT, "name": "Musa Bello"}
WALLET = {"amount": "500", "currency": "KES", "phone": "+254711000111", "name": "Ann Wanjiru"}


@pytest.fixture
async def at() -> AsyncIterator[Line]:
    async with line() as running:
        yield running


def paths(at: Line) -> list[str]:
    return [path for _, path, _ in at.fake.seen]


# To whom


async def test_payout_resolves_the_name_makes_the_recipient_and_then_sends(at: Line) -> None:
    made = await at.send("payment.payout", WAGES)

    transfer = at.fake.transfers["pay-0091"]
    assert paths(at) == ["/bank/resolve", "/transferrecipient", "/transfer"]
    assert at.posted("/transfer") == [
        {
            "source": "balance",
            "amount": 150000,
            "currency": "NGN",
            "recipient": "RCP_1",
            "reference": "pay-0091",
            "reason": "Wages",
        }
    ]
    assert made.outcome == Accepted(
        reference=transfer["transfer_code"],
        result={
            "status": "pending",
            "provider_reference": transfer["transfer_code"],
            "reference": "pay-0091",
            "amount": "1500.00",
            "currency": "NGN",
        },
    )
    msgspec.convert(dict(made.outcome.result), PaymentResult)


async def test_recipient_is_made_once_for_each_account(at: Line) -> None:
    await at.send("payment.payout", WAGES)
    await at.send("payment.payout", WAGES | {"reference": "pay-0092"})

    assert len(at.posted("/transferrecipient")) == 1
    assert [body["recipient"] for body in at.posted("/transfer")] == ["RCP_1", "RCP_1"]


async def test_recipient_that_is_not_taken_any_more_is_made_anew(at: Line) -> None:
    await at.send("payment.payout", WAGES)
    at.fake.recipients.clear()

    refused = await at.send("payment.payout", WAGES | {"reference": "pay-0092"})
    retried = await at.send("payment.payout", WAGES | {"reference": "pay-0092"})

    assert isinstance(refused.outcome, Rejected)
    assert refused.outcome.reason == "invalid_recipient"
    assert isinstance(retried.outcome, Accepted)


@pytest.mark.parametrize(
    ("changes", "recipient"),
    [
        ({}, ("nuban", "Ada Obi", "0123456789", "058", "NGN")),
        (
            {"currency": "ZAR", "account": ACCOUNT | {"bank_code": "632005"}},
            ("basa", "Ada Obi", "0123456789", "632005", "ZAR"),
        ),
        (
            {"currency": "KES", "account": ACCOUNT | {"bank_code": "68"}},
            ("kepss", "Ada Obi", "0123456789", "68", "KES"),
        ),
        (
            {"currency": "KES", "account": ACCOUNT | {"number": "247247", "bank_code": "MPTILL"}},
            ("mobile_money_business", "Ada Obi", "247247", "MPTILL", "KES"),
        ),
        (
            {
                "currency": "GHS",
                "account": {"number": "0551112223", "bank_code": "030100", "name": "Mensah K"},
            },
            ("ghipss", "Mensah K", "0551112223", "030100", "GHS"),
        ),
        (
            {"currency": "GHS", "account": ACCOUNT | {"number": "0551234987", "bank_code": "MTN"}},
            ("mobile_money", "Ada Obi", "0551234987", "MTN", "GHS"),
        ),
        (
            {"account": None, **WALLET},
            ("mobile_money", "Ann Wanjiru", "0711000111", "MPESA", "KES"),
        ),
    ],
)
async def test_kind_of_recipient_follows_from_currency_and_bank(
    at: Line, changes: dict[str, Any], recipient: tuple[str, ...]
) -> None:
    at.fake.balance["ZAR"] = 10**9

    made = await at.send("payment.payout", WAGES | changes)

    [body] = at.posted("/transferrecipient")
    names = ("type", "name", "account_number", "bank_code", "currency")
    assert tuple(body[name] for name in names) == recipient
    assert isinstance(made.outcome, Accepted)


async def test_account_of_somebody_else_is_paid_nothing(at: Line) -> None:
    made = await at.send("payment.payout", WAGES | {"account": STRANGER})

    assert made.outcome == Rejected(
        reason="name_differs",
        detail="The account belongs to ADA NGOZI OBI, not to Musa Bello: nothing was sent. "
        "Correct the account or its name.",
    )
    assert not made.sent
    assert paths(at) == ["/bank/resolve"]


async def test_account_that_cannot_be_confirmed_is_paid_nothing(at: Line) -> None:
    made = await at.send("payment.payout", WAGES | {"account": ACCOUNT | {"number": "0000000000"}})

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "account_not_confirmed"
    assert "check_account_names = false" in made.outcome.detail
    assert at.fake.transfers == {}


async def test_names_are_not_compared_where_the_connection_says_so() -> None:
    async with line(check_account_names=False) as at:
        made = await at.send("payment.payout", WAGES | {"account": STRANGER})

        assert isinstance(made.outcome, Accepted)
        assert paths(at) == ["/transferrecipient", "/transfer"]


async def test_refused_key_is_not_blamed_on_the_account() -> None:
    async with line(secret_key="sk_test_old") as at:
        made = await at.send("payment.payout", WAGES)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "bad_credentials"


async def test_fault_while_the_recipient_is_made_has_moved_no_money(at: Line) -> None:
    at.fake.troubles.append(Trouble(status=502, acts=True))

    made = await at.send("payment.payout", WAGES)
    again = await at.send("payment.payout", WAGES)

    assert isinstance(made.outcome, Retryable)
    assert not made.sent
    assert isinstance(again.outcome, Accepted)
    assert [body["recipient"] for body in at.posted("/transfer")] == ["RCP_1"]


# Once


async def test_transfer_without_an_answer_is_found_by_its_reference(at: Line) -> None:
    await at.send("payment.payout", WAGES | {"reference": "pay-0090"})
    at.drop_replies()
    made = await at.send("payment.payout", WAGES)
    at.mend()
    at.fake.end_transfer("pay-0091", "success")

    finding = await at.ask("payment.payout", WAGES)

    assert isinstance(made.outcome, Uncertain)
    assert made.sent
    assert isinstance(finding, Done)
    assert finding.paid == Money(Decimal(1500), "NGN")
    assert at.fake.effects == {("transfer", "pay-0091"): 1}


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_transfer_that_failed_on_their_side_is_in_doubt(at: Line, status: int) -> None:
    at.fake.troubles.extend([Trouble(status=200, body=RECIPIENT), Trouble(status=status)])

    made = await at.send("payment.payout", WAGES)

    assert isinstance(made.outcome, Uncertain)


RECIPIENT = {"status": True, "message": "x", "data": {"recipient_code": "RCP_1"}}


async def test_transfer_that_is_not_known_yet_is_not_sent_again_too_early(at: Line) -> None:
    early = await at.ask("payment.payout", WAGES, age_s=20)
    late = await at.ask("payment.payout", WAGES, age_s=120)

    assert early == Pending(ask_after_s=100.0)
    assert isinstance(late, NeverHappened)


async def test_transfer_is_sent_again_under_the_same_reference(at: Line) -> None:
    at.fake.known_after_s = 3600
    await at.send("payment.payout", WAGES)
    assert isinstance(await at.ask("payment.payout", WAGES, age_s=300), NeverHappened)

    again = await at.send("payment.payout", WAGES)

    assert isinstance(again.outcome, Uncertain)
    assert again.outcome.reason == "duplicate_reference"
    assert [body["reference"] for body in at.posted("/transfer")] == ["pay-0091", "pay-0091"]
    assert len(at.fake.transfers) == 1


async def test_reference_follows_from_the_call(at: Line) -> None:
    await at.send("payment.payout", PAYOUT)

    assert list(at.fake.transfers) == [CALL_ID]


async def test_transfer_to_somebody_else_under_our_reference_is_not_ours(at: Line) -> None:
    await at.send("payment.payout", {**WALLET, "reference": "pay-0091"})

    finding = await at.ask("payment.payout", WAGES)

    assert isinstance(finding, Refused)
    assert finding.reason == "duplicate_reference"


async def test_404_of_a_proxy_is_no_proof() -> None:
    """A page that is not Paystack's must not make a payout be sent again."""
    made, request = provider(), request_of("payment.payout", WAGES)
    asked = Asked(
        operation="payment.payout", request=request, provider_reference=None, sent_at_ms=0
    )
    async with fake_client(made.config, answering(404)) as client:
        ctx = make_context("payment.payout", client=client)

        with pytest.raises(OutcomeError, match="404"):
            await made.became_of_payout(asked, ctx)


# What became of it


async def test_transfer_that_waits_for_an_otp_says_what_to_do(at: Line) -> None:
    at.fake.asks_for_otp = True

    made = await at.send("payment.payout", WAGES)
    finding = await at.ask("payment.payout", WAGES, "TRF_3000000001")

    assert isinstance(made.outcome, Accepted)
    assert "disable OTP" in made.outcome.result["instructions"]
    assert made.log[0].startswith("warning paystack_transfer_needs_otp")
    assert isinstance(finding, Pending)


@pytest.mark.parametrize("status", ["pending", "received", "queued", "processing", "novel"])
async def test_status_that_is_not_final_is_pending(at: Line, status: str) -> None:
    await at.send("payment.payout", WAGES)
    at.fake.end_transfer("pay-0091", status)

    assert isinstance(await at.ask("payment.payout", WAGES, "TRF_3000000001"), Pending)


@pytest.mark.parametrize("status", ["failed", "reversed", "blocked", "rejected", "abandoned"])
async def test_status_that_ends_without_payment_is_refused(at: Line, status: str) -> None:
    await at.send("payment.payout", WAGES)
    at.fake.end_transfer("pay-0091", status)

    finding = await at.ask("payment.payout", WAGES, "TRF_3000000001")

    assert isinstance(finding, Refused)
    assert finding.reason == status
    assert finding.detail.endswith(".")


async def test_transfer_may_be_done_or_refused_at_once(at: Line) -> None:
    data = {"transfer_code": "TRF_1", "reference": "pay-0091", "amount": 150000, "currency": "NGN"}
    for status, kind in (("success", Delivered), ("blocked", Rejected)):
        told = {"status": True, "message": "x", "data": {**data, "status": status}}
        at.fake.troubles.extend(
            [Trouble(status=200, body=RECIPIENT)] if status == "success" else []
        )
        at.fake.troubles.append(Trouble(status=200, body=told))

        made = await at.send("payment.payout", WAGES)

        assert isinstance(made.outcome, kind)


async def test_empty_balance_says_what_to_do(at: Line) -> None:
    at.fake.balance["NGN"] = 0

    made = await at.send("payment.payout", WAGES)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "insufficient_balance"
    assert "Top up" in made.outcome.detail
