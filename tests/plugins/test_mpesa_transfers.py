"""M-Pesa: payouts, reversals and the status of transactions, whose answers all come by callback."""

from collections import deque
from typing import Any

import msgspec
import pytest
from tests.plugins.mpesa_callbacks import NO_FUNDS, Transaction, result_body, status_details
from tests.plugins.mpesa_provider import (
    HOOK,
    MODULE,
    MSISDN,
    PAYMENT,
    PAYOUT,
    Line,
    line,
    provider,
    webhook,
)
from tests.plugins.mpesa_server import CREDENTIAL, INITIATOR, REVERSAL, STATUS
from tests.plugins.mpesa_server import PAYOUT as PAYOUT_PATH

from integrationd.sdk import (
    Accepted,
    CannotTell,
    Done,
    Finding,
    Money,
    PaymentResult,
    Pending,
    Refused,
    Uncertain,
    UnreadableError,
)
from integrationd.sdk.testing.context import CALL_ID

SEAL = MODULE.notices.seal("demoSecret")
PAID_AT = "2026-01-01T09:01:03Z"


async def refunded(mpesa: Line) -> tuple[str, dict[str, Any]]:
    """Have a customer pay and give it back; return the reversal's id and the payload."""
    await mpesa.send("payment.initiate", PAYMENT)
    mpesa.told()
    receipt = list(mpesa.fake.transactions)[-1]
    payload = {"payment": receipt, "amount": "2500", "currency": "KES", "reason": "Left school"}
    made = await mpesa.send("payment.refund", payload)
    assert isinstance(made.outcome, Accepted)
    return made.outcome.reference or "", payload


def answer(kind: str, about: dict[str, Any], code: str = "0") -> Finding | None:
    asked = Transaction(originator_id="s-1", conversation_id="AG_s", phone="", amount=0)
    [told] = provider().read_webhook(webhook(result_body(asked, code, about), f"/{kind}/{SEAL}"))
    finding: Finding | None = told.finding
    return finding


def details(**changes: Any) -> dict[str, Any]:
    about = Transaction(
        originator_id="o-1",
        conversation_id="AG_1",
        phone=MSISDN,
        amount=1200,
        receipt="SAB12CD345",
    )
    return status_details(about) | changes


# Payouts


async def test_payout_carries_what_the_sheet_says() -> None:
    async with line() as mpesa:
        made = await mpesa.send("payment.payout", PAYOUT | {"purpose": "salary"})

        [fields] = mpesa.sent_to(PAYOUT_PATH)
    assert fields == {
        "OriginatorConversationID": CALL_ID,
        "InitiatorName": INITIATOR,
        "SecurityCredential": CREDENTIAL,
        "CommandID": "SalaryPayment",
        "Amount": 1200,
        "PartyA": "174379",
        "PartyB": MSISDN,
        "Remarks": "Refund of fees",
        "QueueTimeOutURL": f"{HOOK}/timeout",
        "ResultURL": f"{HOOK}/result",
        "Occassion": "",  # codespell:ignore occassion
    }
    assert isinstance(made.outcome, Accepted)
    assert made.outcome.reference == CALL_ID
    msgspec.convert(made.outcome.result, PaymentResult)


async def test_payout_that_arrived_before_is_accepted_and_paid_once() -> None:
    async with line() as mpesa:
        await mpesa.send("payment.payout", PAYOUT)

        again = await mpesa.send("payment.payout", PAYOUT)

        assert isinstance(again.outcome, Accepted)
        assert again.outcome.reference == CALL_ID
        assert mpesa.fake.payouts == {MSISDN: 1}


async def test_payout_is_known_by_the_apps_own_reference() -> None:
    async with line() as mpesa:
        await mpesa.send("payment.payout", PAYOUT | {"reference": "salary-2026-01-17"})

        assert list(mpesa.fake.by_id) == ["salary-2026-01-17"]


async def test_payout_comes_from_the_bulk_shortcode() -> None:
    async with line(payout_shortcode="600999") as mpesa:
        await mpesa.send("payment.payout", PAYOUT)
        await mpesa.ask("payment.payout", PAYOUT, CALL_ID)

        assert mpesa.sent_to(PAYOUT_PATH)[0]["PartyA"] == "600999"
        assert mpesa.sent_to(STATUS)[0]["PartyA"] == "600999"


@pytest.mark.parametrize("behaviour", ["0", NO_FUNDS])
async def test_result_of_a_payout_only_asks(behaviour: str) -> None:
    async with line() as mpesa:
        mpesa.fake.behaviour[MSISDN] = behaviour
        await mpesa.send("payment.payout", PAYOUT)

        told = mpesa.told()

    assert told.provider_reference == CALL_ID
    assert told.finding == Pending(ask_after_s=0)


async def test_timeout_of_the_queue_is_no_failure() -> None:
    [told] = provider().read_webhook(webhook(b"<not what one expects>", "/timeout"))

    assert isinstance(told.finding, Pending)
    assert told.finding.ask_after_s


async def test_payout_is_done_by_the_answer_to_our_question() -> None:
    async with line() as mpesa:
        await mpesa.send("payment.payout", PAYOUT)
        mpesa.told()

        asked = await mpesa.ask("payment.payout", PAYOUT, CALL_ID)
        told = mpesa.told()

        [fields] = mpesa.sent_to(STATUS)
    assert asked == Pending()
    assert fields["OriginalConversationID"] == CALL_ID
    assert fields["ResultURL"] == f"{HOOK}/payout/{SEAL}"
    assert told.finding == Done(
        paid=Money.of("1200", "KES"),
        result={
            "status": "paid",
            "receipt": "SAB0000001",
            "amount": "1200.00",
            "currency": "KES",
            "fees": "22.40",
            "paid_at": PAID_AT,
            "payer": "600310 - Shule",
        },
    )
    msgspec.convert(told.finding.result, PaymentResult)


async def test_payout_whose_reply_was_lost_is_asked_about_by_our_own_id() -> None:
    async with line() as mpesa:
        await mpesa.send("payment.payout", PAYOUT)
        mpesa.told()

        await mpesa.ask("payment.payout", PAYOUT, None)

        assert isinstance(mpesa.told().finding, Done)


async def test_payout_that_has_failed_is_refused_by_the_answer() -> None:
    async with line() as mpesa:
        mpesa.fake.behaviour[MSISDN] = NO_FUNDS
        await mpesa.send("payment.payout", PAYOUT)
        mpesa.told()

        await mpesa.ask("payment.payout", PAYOUT, CALL_ID)
        told = mpesa.told()

    assert isinstance(told.finding, Refused)
    assert mpesa.fake.payouts == {}


@pytest.mark.parametrize("kind", ["payout", "reversal", "original"])
def test_transaction_that_is_not_found_may_be_found_later(kind: str) -> None:
    assert answer(kind, {}, "2032") is None
    assert answer(kind, {}) is None
    assert answer(kind, details(TransactionStatus="Pending")) is None


def test_other_sum_is_told_so_that_it_is_not_called_paid() -> None:
    found = answer("payout", details(Amount=120))

    assert isinstance(found, Done)
    assert found.paid == Money.of("120", "KES")


def test_each_answer_has_an_id_of_its_own_and_its_copies_share_it() -> None:
    def event_id(number: str) -> str:
        asked = Transaction(originator_id=number, conversation_id="AG", phone="", amount=0)
        body = result_body(asked, "0", details())
        [told] = provider().read_webhook(webhook(body, f"/payout/{SEAL}"))
        return str(told.event_id)

    assert event_id("s-1") == event_id("s-1") != event_id("s-2")


@pytest.mark.parametrize("seal", ["", "0" * 32, SEAL[:-1], f"{SEAL}0", SEAL.upper(), "é"])
def test_answer_counts_only_at_the_sealed_address(seal: str) -> None:
    body = result_body(
        Transaction(originator_id="s-1", conversation_id="AG_s", phone="", amount=0), "0", details()
    )

    with pytest.raises(UnreadableError, match="no such address"):
        provider().read_webhook(webhook(body, f"/payout/{seal}"))


async def test_seal_leaves_in_the_status_query_only() -> None:
    async with line() as mpesa:
        await mpesa.send("payment.payout", PAYOUT)
        await refunded(mpesa)
        assert not any(SEAL.encode() in one.body for one in mpesa.fake.requests)

        await mpesa.ask("payment.payout", PAYOUT, CALL_ID)

        assert SEAL.encode() in mpesa.fake.requests[-1].body


async def test_query_that_m_pesa_does_not_take_cannot_tell() -> None:
    async with line(security_credential="x", initiator_name="stranger") as mpesa:
        found = await mpesa.ask("payment.payout", PAYOUT, CALL_ID)

    assert isinstance(found, CannotTell)
    assert found.reason == "invalid_request"


# Reversals


async def test_reversal_spells_its_fields_as_m_pesa_does() -> None:
    async with line() as mpesa:
        reversal_id, payload = await refunded(mpesa)

        [fields] = mpesa.sent_to(REVERSAL)
    assert fields == {
        "Initiator": INITIATOR,
        "SecurityCredential": CREDENTIAL,
        "CommandID": "TransactionReversal",
        "TransactionID": payload["payment"],
        "Amount": 2500,
        "ReceiverParty": "174379",
        "RecieverIdentifierType": "11",
        "ResultURL": f"{HOOK}/result",
        "QueueTimeOutURL": f"{HOOK}/timeout",
        "Remarks": "Left school",
        "Occasion": "",
    }
    assert reversal_id in mpesa.fake.by_id
    assert mpesa.fake.charged == {MSISDN: 0}


async def test_reversal_is_done_by_the_answer_to_our_question() -> None:
    async with line() as mpesa:
        reversal_id, payload = await refunded(mpesa)
        assert mpesa.told().finding == Pending(ask_after_s=0)

        assert await mpesa.ask("payment.refund", payload, reversal_id) == Pending()
        own, original = mpesa.told().finding, mpesa.told().finding

    assert isinstance(own, Done)
    assert (own.result["status"], own.paid) == ("refunded", Money.of("2500", "KES"))
    assert isinstance(original, Done)


async def test_reversal_whose_reply_was_lost_is_asked_about_at_the_payment() -> None:
    async with line() as mpesa:
        _, payload = await refunded(mpesa)
        mpesa.told()

        await mpesa.ask("payment.refund", payload, None)

        [fields] = mpesa.sent_to(STATUS)
        assert fields["TransactionID"] == payload["payment"]
        assert isinstance(mpesa.told().finding, Done)


async def test_payment_that_was_reversed_before_counts_after_a_query_only() -> None:
    async with line() as mpesa:
        _, payload = await refunded(mpesa)
        mpesa.told()
        made = await mpesa.send("payment.refund", payload)
        assert isinstance(made.outcome, Accepted)
        told = mpesa.told()
        assert (told.type, told.finding) == ("result.already_reversed", Pending(ask_after_s=0))

        await mpesa.ask("payment.refund", payload, made.outcome.reference)
        own, original = mpesa.told().finding, mpesa.told().finding

    assert own is None
    assert original == Done(result={"status": "refunded"}, paid=Money.of("2500", "KES"))


def test_completed_payment_does_not_say_that_it_was_reversed() -> None:
    assert answer("original", details(TransactionStatus="Completed")) is None


async def test_reversal_without_its_id_is_in_doubt() -> None:
    async with line() as mpesa:
        mpesa.fake.replies[REVERSAL] = deque([(200, {"ResponseCode": "0"})])

        payload = {"payment": "SAB12CD345", "amount": "1", "currency": "KES"}
        made = await mpesa.send("payment.refund", payload)

    assert isinstance(made.outcome, Uncertain)


async def test_reversal_that_cannot_be_asked_about_is_asked_about_once() -> None:
    async with line() as mpesa:
        reversal_id, payload = await refunded(mpesa)
        mpesa.fake.replies[STATUS] = deque([(503, b"")])

        found = await mpesa.ask("payment.refund", payload, reversal_id)

        assert isinstance(found, CannotTell)
        assert len(mpesa.sent_to(STATUS)) == 1
