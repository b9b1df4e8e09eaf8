"""M-Pesa: what becomes of a prompt, by callback and by query, and what a forged callback can do."""

import json
from typing import Any

import msgspec
import pytest
from tests.plugins.mpesa_callbacks import CANCELS, NO_FUNDS, PAYS, UNREACHABLE, Callback
from tests.plugins.mpesa_provider import (
    HOOK,
    MODULE,
    MSISDN,
    PAYMENT,
    Line,
    Mpesa,
    line,
    notice,
    provider,
    webhook,
)
from tests.plugins.mpesa_server import PUSH_QUERY, FakeDaraja

from integrationd.sdk import (
    Accepted,
    CannotTell,
    Delivered,
    Done,
    Money,
    PaymentResult,
    Pending,
    Refused,
    UnreadableError,
    Verified,
)

FAILURES = MODULE.codes.PROMPT_FAILURES


def callback(code: Any, **details: Any) -> Callback:
    items = [{"Name": name, "Value": value} for name, value in details.items()]
    told = {"MerchantRequestID": "mr-1", "CheckoutRequestID": "ws_CO_1", "ResultCode": code}
    if items:
        told["CallbackMetadata"] = {"Item": items}
    return Callback(url=HOOK, body=json.dumps({"Body": {"stkCallback": told}}).encode())


async def prompted(mpesa: Line, code: str | None) -> str:
    mpesa.fake.default = code
    made = await mpesa.send("payment.initiate", PAYMENT)
    assert isinstance(made.outcome, Accepted)
    return made.outcome.reference or ""


# By query


async def test_payment_is_done_when_the_query_says_so() -> None:
    async with line() as mpesa:
        checkout_id = await prompted(mpesa, PAYS)

        found = await mpesa.ask("payment.initiate", PAYMENT, checkout_id)

    assert found == Done(
        result={"status": "paid", "provider_reference": checkout_id}, reference=checkout_id
    )


@pytest.mark.parametrize("code", list(FAILURES))
async def test_prompt_that_has_failed_for_good_is_refused(code: str) -> None:
    async with line() as mpesa:
        checkout_id = await prompted(mpesa, code)

        found = await mpesa.ask("payment.initiate", PAYMENT, checkout_id)

    assert isinstance(found, Refused)
    assert (found.reason, found.detail) == FAILURES[code]
    assert mpesa.fake.effects == {}


async def test_customer_who_is_still_at_it_is_pending_although_the_status_is_500() -> None:
    async with line(FakeDaraja(None)) as mpesa:
        checkout_id = await prompted(mpesa, None)

        found = await mpesa.ask("payment.initiate", PAYMENT, checkout_id)

    assert found == Pending()


async def test_prompt_without_its_id_cannot_be_asked_about() -> None:
    async with line() as mpesa:
        found = await mpesa.ask("payment.initiate", PAYMENT, None)

    assert isinstance(found, CannotTell)
    assert found.reason == "no_checkout_id"
    assert mpesa.fake.requests == []


async def test_query_is_signed_anew_with_the_time_of_asking() -> None:
    async with line() as mpesa:
        checkout_id = await prompted(mpesa, PAYS)
        mpesa.clock.advance(25)
        await mpesa.ask("payment.initiate", PAYMENT, checkout_id)

        [fields] = mpesa.sent_to(PUSH_QUERY)
    assert fields["Timestamp"] == "20260101120025"
    assert set(fields) == {"BusinessShortCode", "Password", "Timestamp", "CheckoutRequestID"}


def test_first_query_gives_the_customer_time_and_later_ones_grow() -> None:
    schedule = Mpesa.queries()["payment.initiate"].schedule

    assert 20 <= schedule.first_s <= 30
    assert schedule.factor > 1
    assert schedule.cap_s > schedule.first_s


# By callback


async def test_success_callback_tells_the_receipt_but_only_asks() -> None:
    async with line() as mpesa:
        checkout_id = await prompted(mpesa, PAYS)

        told = mpesa.told()

    assert told.provider_reference == checkout_id
    assert told.finding == Pending(
        ask_after_s=0,
        paid=Money.of("2500", "KES"),
        result={
            "receipt": "SAB0000002",
            "amount": "2500.00",
            "currency": "KES",
            "paid_at": "2026-01-01T09:01:03Z",
            "payer": MSISDN,
        },
    )
    msgspec.convert(told.finding.result, PaymentResult)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (NO_FUNDS, "insufficient_funds"),
        (CANCELS, "cancelled"),
        (UNREACHABLE, "unreachable"),
        ("SFC_IC0003", "unknown_operator"),
        ("26", "code_26"),
    ],
)
async def test_failure_callback_only_asks(code: str, word: str) -> None:
    async with line() as mpesa:
        await prompted(mpesa, code)

        told = mpesa.told()

    assert told.type == f"prompt.{word}"
    assert told.finding == Pending(ask_after_s=0)


def test_result_code_is_compared_as_text() -> None:
    for code in (0, "0"):
        assert notice(provider(), callback(code)).type == "prompt.paid"


@pytest.mark.parametrize(
    ("details", "paid"),
    [
        ({"Amount": 1.00}, "1.00"),
        ({"Amount": "2500"}, "2500.00"),
        ({"Amount": 2500.5}, "2500.50"),
        ({}, None),
        ({"Amount": None}, None),
        ({"Amount": "much"}, None),
        ({"Amount": "1e999999999"}, None),
        ({"Amount": 1e300}, None),
        ({"Amount": -2500}, None),
        ({"Amount": True}, None),
        ({"Amount": [1]}, None),
    ],
)
def test_amount_is_told_however_it_is_written(details: dict[str, Any], paid: str | None) -> None:
    finding = notice(provider(), callback(0, **details)).finding

    assert isinstance(finding, Pending)
    assert finding.paid == (Money.of(paid, "KES") if paid else None)


@pytest.mark.parametrize("metadata", [None, [], {}, {"Item": None}, {"Item": "x"}, {"Item": [1]}])
def test_missing_details_are_no_obstacle(metadata: Any) -> None:
    told = {"CheckoutRequestID": "ws_CO_1", "ResultCode": 0, "CallbackMetadata": metadata}
    body = json.dumps({"Body": {"stkCallback": told}}).encode()

    [only] = provider().read_webhook(webhook(body))

    assert only.finding == Pending(ask_after_s=0)


# The five controls


def test_address_that_was_not_handed_out_proves_nothing() -> None:
    made, body = provider(), callback(0).body

    assert made.verify_webhook(webhook(body)) == Verified("token")
    assert made.verify_webhook(webhook(body, token=False)).status == 401


def test_addresses_that_m_pesa_calls_from_are_told_to_the_operator() -> None:
    listed = Mpesa.__doc__ or ""

    for address in ("196.201.214.200", "196.201.213.114", "196.201.212.69"):
        assert f'"{address}"' in listed
    assert "allow_from" in listed


def test_callback_names_the_prompt_that_it_is_about() -> None:
    assert notice(provider(), callback(1032)).provider_reference == "ws_CO_1"


async def test_forged_success_is_undone_by_the_query() -> None:
    async with line() as mpesa:
        checkout_id = await prompted(mpesa, CANCELS)
        forged = callback(0, Amount=2500, MpesaReceiptNumber="SAB0FORGED")

        told = notice(mpesa.provider, forged)
        found = await mpesa.ask("payment.initiate", PAYMENT, checkout_id)

    assert isinstance(told.finding, Pending)
    assert isinstance(found, Refused)


async def test_forged_failure_is_undone_by_the_query() -> None:
    async with line() as mpesa:
        checkout_id = await prompted(mpesa, PAYS)

        told = notice(mpesa.provider, callback(1032))
        found = await mpesa.ask("payment.initiate", PAYMENT, checkout_id)

    assert isinstance(told.finding, Pending)
    assert isinstance(found, Done)


def test_forged_callback_does_not_pass_for_a_copy_of_the_real_one() -> None:
    made = provider()

    assert notice(made, callback(1032)).event_id != notice(made, callback(0)).event_id
    assert notice(made, callback(0)).event_id == notice(made, callback("0")).event_id


@pytest.mark.parametrize("path", ["/", "/other", "/status", "/payout", "/payout/00", "/result/x"])
def test_address_that_nobody_handed_out_is_unreadable(path: str) -> None:
    with pytest.raises(UnreadableError):
        provider().read_webhook(webhook(callback(0).body, path))


# A person asks


@pytest.mark.parametrize(
    ("code", "status"), [(PAYS, "paid"), (CANCELS, "failed"), (None, "pending")]
)
async def test_verify_of_a_prompt_answers_at_once(code: str | None, status: str) -> None:
    async with line(FakeDaraja(None)) as mpesa:
        checkout_id = await prompted(mpesa, code)

        made = await mpesa.send("payment.verify", {"provider_reference": checkout_id})

    assert isinstance(made.outcome, Delivered)
    assert made.outcome.result == {"status": status, "provider_reference": checkout_id}
