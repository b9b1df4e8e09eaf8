"""Paystack's payment pages: what is asked for, paid, lost with a reply, abandoned or not ours."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.plugins.paystack_account import PAGES
from tests.plugins.paystack_provider import EMAIL, PAYMENT, Line, line
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
    Throttled,
    Uncertain,
)
from integrationd.sdk.testing import CALL_ID

ORDER = {**PAYMENT, "reference": "ord-7781"}
KES_2500 = Money(Decimal(2500), "KES")
DAY_S = 86_400


@pytest.fixture
async def at() -> AsyncIterator[Line]:
    async with line() as running:
        yield running


async def page_of(at: Line, payload: dict[str, Any] = ORDER) -> str:
    made = await at.send("payment.initiate", payload)
    assert isinstance(made.outcome, Accepted), made
    return str(made.outcome.result["redirect_url"])


# Asking


async def test_page_is_accepted_with_its_address_and_our_reference(at: Line) -> None:
    made = await at.send("payment.initiate", ORDER)

    [payment] = at.fake.payments.values()
    assert made.sent
    assert made.outcome == Accepted(
        reference="ord-7781",
        result={
            "status": "pending",
            "provider_reference": "ord-7781",
            "reference": "ord-7781",
            "redirect_url": f"{PAGES}{payment['access_code']}",
            "client_secret": payment["access_code"],
            "amount": "2500.00",
            "currency": "KES",
        },
    )
    msgspec.convert(dict(made.outcome.result), PaymentResult)


async def test_reference_follows_from_the_call_and_is_no_timestamp(at: Line) -> None:
    await at.send("payment.initiate", PAYMENT)

    assert list(at.fake.payments) == [CALL_ID]


async def test_request_says_how_whom_and_what_for(at: Line) -> None:
    await at.send(
        "payment.initiate",
        ORDER
        | {
            "customer": {"email": EMAIL, "name": "Ada Obi", "phone": "+2348030000222"},
            "description": "Term fee",
            "account": "ADM1042",
            "return_url": "https://shop.example/ok",
            "cancel_url": "https://shop.example/no",
            "channel": "mobile_money",
            "metadata": {"pupil": "1042"},
        },
    )

    assert at.posted("/transaction/initialize") == [
        {
            "email": EMAIL,
            "amount": 250000,
            "currency": "KES",
            "reference": "ord-7781",
            "callback_url": "https://shop.example/ok",
            "channels": ["mobile_money"],
            "metadata": {
                "pupil": "1042",
                "integrationd_call": CALL_ID,
                "custom_fields": [
                    {
                        "display_name": name,
                        "variable_name": name.lower(),
                        "value": value,
                    }
                    for name, value in {
                        "Description": "Term fee",
                        "Account": "ADM1042",
                        "Name": "Ada Obi",
                        "Phone": "+2348030000222",
                    }.items()
                ],
                "cancel_action": "https://shop.example/no",
            },
        }
    ]


async def test_request_leaves_out_what_nobody_set(at: Line) -> None:
    await at.send("payment.initiate", ORDER)

    [body] = at.posted("/transaction/initialize")
    assert set(body) == {"email", "amount", "currency", "reference", "metadata"}


async def test_connections_settings_go_with_every_page() -> None:
    settings = {
        "callback_url": "https://shop.example/back",
        "subaccount": "ACCT_8f4s1eq7ml6rlzj",
        "split_code": "SPL_98WF13Zu8w5",
        "bearer": "subaccount",
    }
    async with line(**settings) as at:
        await at.send("payment.initiate", ORDER)

        [body] = at.posted("/transaction/initialize")
    assert settings.items() <= body.items()


async def test_answer_about_another_reference_is_in_doubt(at: Line) -> None:
    told = {"status": True, "message": "x", "data": {"authorization_url": PAGES, "reference": "o"}}
    at.fake.troubles.append(Trouble(status=200, body=told))

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Uncertain)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_error_is_in_doubt(at: Line, status: int) -> None:
    at.fake.troubles.append(Trouble(status=status))

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Uncertain)
    assert made.outcome.reason == f"http_{status}"


async def test_retry_after_is_obeyed(at: Line) -> None:
    told = {"status": False, "message": "Too many requests"}
    at.fake.troubles.append(Trouble(status=429, body=told, headers={"Retry-After": "9"}))

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Throttled)
    assert made.outcome.wait_s == 9.0


async def test_refusal_passes_on_what_paystack_advises(at: Line) -> None:
    told = {
        "status": False,
        "message": "Currency not supported by merchant",
        "meta": {"nextStep": "Ask support to enable it"},
        "type": "validation_error",
        "code": "unsupported_currency",
    }
    at.fake.troubles.append(Trouble(status=403, body=told))

    made = await at.send("payment.initiate", ORDER)

    assert made.outcome == Rejected(
        reason="unsupported_currency",
        detail="Paystack answered 403: Currency not supported by merchant "
        "(Ask support to enable it)",
    )


async def test_status_false_is_a_refusal_whatever_the_http_status(at: Line) -> None:
    at.fake.troubles.append(Trouble(status=200, body={"status": False, "message": "No"}))

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Rejected)


# A reference that Paystack knows


async def test_request_that_never_arrived_is_repeated_and_charges_once(at: Line) -> None:
    at.fake.troubles.append(Trouble(status=502))
    assert isinstance((await at.send("payment.initiate", ORDER)).outcome, Uncertain)

    at.fake.pay(await page_of(at))

    assert at.fake.effects == {("charge", "ord-7781"): 1}


async def test_page_whose_address_was_lost_fails_since_nobody_can_pay_there(at: Line) -> None:
    at.drop_replies()
    first = await at.send("payment.initiate", ORDER)
    at.mend()

    second = await at.send("payment.initiate", ORDER)

    asked = await at.ask("payment.initiate", ORDER)

    assert isinstance(first.outcome, Uncertain)
    assert isinstance(second.outcome, Rejected)
    assert isinstance(asked, Refused)
    assert second.outcome.reason == asked.reason == "page_lost"
    assert "new reference" in second.outcome.detail
    assert len(at.fake.payments) == 1


async def test_duplicate_of_a_payment_under_way_is_waited_for(at: Line) -> None:
    url = await page_of(at)
    at.fake.pay(url)

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Accepted)
    assert made.outcome.reference == "ord-7781"
    assert made.outcome.ask_after_s is not None
    assert isinstance(await at.ask("payment.initiate", ORDER, "ord-7781"), Done)


async def test_duplicate_that_another_made_is_not_taken_for_ours(at: Line) -> None:
    await at.send("payment.initiate", ORDER, call_id="another-call")

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "duplicate_reference"
    assert "not by this call" in made.outcome.detail


@pytest.mark.parametrize("metadata", ["", 0, None, "{", [], '{"integrationd_call": 7}'])
async def test_duplicate_without_metadata_is_not_taken_for_ours(at: Line, metadata: Any) -> None:
    await page_of(at)
    at.fake.payments["ord-7781"]["metadata"] = metadata

    made = await at.send("payment.initiate", ORDER)
    asked = await at.ask("payment.initiate", ORDER)

    assert isinstance(made.outcome, Rejected)
    assert isinstance(asked, Refused)
    assert made.outcome.reason == asked.reason == "duplicate_reference"


async def test_duplicate_is_known_for_ours_by_metadata_that_is_a_text(at: Line) -> None:
    await page_of(at)
    at.fake.payments["ord-7781"]["metadata"] = f'{{"integrationd_call": "{CALL_ID}"}}'

    made = await at.send("payment.initiate", ORDER)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "page_lost"


# What became of it


async def test_paid_page_is_done_with_what_was_paid(at: Line) -> None:
    at.fake.pay(await page_of(at))

    finding = await at.ask("payment.initiate", ORDER, "ord-7781")

    assert isinstance(finding, Done)
    assert (finding.paid, finding.reference) == (KES_2500, "ord-7781")
    assert finding.result == {
        "status": "paid",
        "provider_reference": "ord-7781",
        "reference": "ord-7781",
        "receipt": "3000000001",
        "amount": "2500.00",
        "currency": "KES",
        "fees": "50.00",
        "paid_at": "2026-01-15T12:00:00.000Z",
        "payer": EMAIL,
    }
    msgspec.convert(dict(finding.result), PaymentResult)


async def test_partial_debit_is_told_as_what_was_paid(at: Line) -> None:
    at.fake.pay(await page_of(at), amount=100000)

    finding = await at.ask("payment.initiate", ORDER, "ord-7781")

    assert isinstance(finding, Done)
    assert finding.paid == Money(Decimal(1000), "KES")


@pytest.mark.parametrize("status", ["ongoing", "pending", "processing", "queued", "novel"])
async def test_status_that_is_not_final_is_pending(at: Line, status: str) -> None:
    await page_of(at)
    at.fake.end_payment("ord-7781", status)

    assert isinstance(await at.ask("payment.initiate", ORDER, "ord-7781", age_s=DAY_S), Pending)


async def test_abandoned_is_no_failure_before_our_own_deadline(at: Line) -> None:
    await page_of(at)

    early = await at.ask("payment.initiate", ORDER, "ord-7781", age_s=DAY_S - 1)
    late = await at.ask("payment.initiate", ORDER, "ord-7781", age_s=DAY_S)

    assert isinstance(early, Pending)
    assert isinstance(late, Refused)
    assert late.reason == "abandoned"


async def test_abandoned_page_may_still_be_paid_on(at: Line) -> None:
    url = await page_of(at)
    assert isinstance(await at.ask("payment.initiate", ORDER, "ord-7781"), Pending)

    at.fake.pay(url)

    assert isinstance(await at.ask("payment.initiate", ORDER, "ord-7781"), Done)


@pytest.mark.parametrize("status", ["failed", "reversed"])
async def test_failure_says_what_the_bank_said(at: Line, status: str) -> None:
    await page_of(at)
    at.fake.end_payment("ord-7781", status, "Insufficient Funds")

    finding = await at.ask("payment.initiate", ORDER, "ord-7781")

    assert isinstance(finding, Refused)
    assert finding.reason == status
    assert "Insufficient Funds" in finding.detail


async def test_unknown_reference_never_happened(at: Line) -> None:
    finding = await at.ask("payment.initiate", ORDER)

    assert isinstance(finding, NeverHappened)
    assert "ord-7781" in finding.proof


async def test_payment_of_another_call_under_our_reference_is_not_ours(at: Line) -> None:
    await at.send("payment.initiate", ORDER, call_id="another-call")

    finding = await at.ask("payment.initiate", ORDER)

    assert isinstance(finding, Refused)
    assert finding.reason == "duplicate_reference"


@pytest.mark.parametrize(
    "changes",
    [{"reference": "ord-7782"}, {"amount": None}, {"amount": "1e5"}, {"currency": "kes"}],
)
async def test_success_that_does_not_say_what_was_paid_settles_nothing(
    at: Line, changes: dict[str, Any]
) -> None:
    at.fake.pay(await page_of(at))
    at.fake.payments["ord-7781"] |= changes

    assert isinstance(await at.ask("payment.initiate", ORDER, "ord-7781"), CannotTell)


async def test_query_that_breaks_off_cannot_tell(at: Line) -> None:
    at.drop_replies()

    assert isinstance(await at.ask("payment.initiate", ORDER), CannotTell)


# Verify


async def test_verify_says_how_a_payment_stands(at: Line) -> None:
    at.fake.pay(await page_of(at))

    by_ours = await at.send("payment.verify", {"reference": "ord-7781"})
    by_id = await at.send("payment.verify", {"provider_reference": "3000000001"})

    assert isinstance(by_ours.outcome, Delivered)
    assert by_ours.outcome.result["status"] == "paid"
    assert by_id.outcome == by_ours.outcome


@pytest.mark.parametrize(
    ("status", "ours"),
    [("abandoned", "pending"), ("failed", "failed"), ("reversed", "refunded")],
)
async def test_verify_puts_the_status_into_the_contracts_words(
    at: Line, status: str, ours: str
) -> None:
    await page_of(at)
    at.fake.end_payment("ord-7781", status)

    made = await at.send("payment.verify", {"reference": "ord-7781"})

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result["status"] == ours


@pytest.mark.parametrize("name", ["ord-1", "123"])
async def test_verify_of_an_unknown_payment_is_rejected(at: Line, name: str) -> None:
    made = await at.send("payment.verify", {"provider_reference": name})

    assert isinstance(made.outcome, Rejected)
    assert (made.outcome.reason, made.outcome.detail) == (
        "not_found",
        f"Paystack knows no payment {name}.",
    )
