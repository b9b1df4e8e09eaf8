"""Africa's Talking: what reports, incoming messages and opt-outs tell, and what they cannot."""

import dataclasses
import hashlib
from typing import Any, ClassVar

import pytest
from tests.plugins.africastalking_server import (
    AFRICASTALKING,
    ANN,
    CONFIG,
    AfricasTalking,
    form,
    incoming,
    opt_out,
    report,
)

from integrationd.sdk import (
    Notice,
    Refusal,
    UnreadableError,
    Verified,
    WebhookReply,
    WebhookRequest,
)
from integrationd.sdk.testing import FakeConnection, WebhookContract
from integrationd.sdk.testing.context import NOON_MS

DAY_MS = 86_400_000


class AfricasTalkingWebhooks(WebhookContract):
    plugin = AFRICASTALKING
    config = CONFIG
    unknown_body: ClassVar[bytes | None] = report(ANN, "Handed over")


class TestDelivered(AfricasTalkingWebhooks):
    body = report(ANN)


class TestFailed(AfricasTalkingWebhooks):
    body = report(ANN, "Failed", failureReason="UserInBlackList")


class TestIncoming(AfricasTalkingWebhooks):
    body = incoming()


class TestIncomingAtItsOwnAddress(AfricasTalkingWebhooks):
    body = incoming()
    unknown_body = None
    path = "/incoming"


class TestOptOut(AfricasTalkingWebhooks):
    body = opt_out()


class TestOptOutAtItsOwnAddress(AfricasTalkingWebhooks):
    body = opt_out()
    unknown_body = None
    path = "/optout"


def request(body: bytes, path: str = "", at_ms: int = NOON_MS) -> WebhookRequest:
    return WebhookRequest(
        method="POST",
        path=path,
        query={},
        headers=[("content-type", "application/x-www-form-urlencoded")],
        body=body,
        source="203.0.113.7",
        received_at_ms=at_ms,
        token=True,
    )


def receiver() -> Any:
    return AfricasTalking(AfricasTalking.Config.model_validate(CONFIG), FakeConnection())


def told(body: bytes, path: str = "", at_ms: int = NOON_MS) -> Notice:
    [notice] = receiver().read_webhook(request(body, path, at_ms))
    assert isinstance(notice, Notice)
    return notice


# Reports


def test_report_is_known_by_the_id_of_the_message_and_its_recipient() -> None:
    notice = told(report(ANN))

    assert notice == Notice(
        event_id=f"ATXid_0111:Success:{ANN}",
        type="report.success",
        provider_reference="ATXid_0111",
        delivery="delivered",
        recipient=ANN,
        data={"status": "Success", "network_code": "63902"},
    )


@pytest.mark.parametrize(
    ("status", "delivery"),
    [
        ("Sent", None),
        ("Submitted", None),
        ("Buffered", None),
        ("Success", "delivered"),
        ("Rejected", "failed"),
        ("Failed", "failed"),
        ("AbsentSubscriber", "failed"),
        ("Expired", "failed"),
        ("success", "delivered"),
        ("FAILED", "failed"),
        ("Whatever", None),
    ],
)
def test_only_a_final_status_is_news_of_the_message(status: str, delivery: str | None) -> None:
    notice = told(report(ANN, status))

    assert (notice.delivery, notice.finding, notice.event) == (delivery, None, None)


@pytest.mark.parametrize(
    ("status", "why", "reason"),
    [
        ("Failed", "UserInBlackList", "opted_out"),
        ("Failed", "UserInBlacklist", "opted_out"),
        ("Failed", "NotNetworkSubscriber", "not_on_network"),
        ("Failed", "NotNetworkSubcriber", "not_on_network"),
        ("Rejected", "DoNotDisturbRejection", "do_not_disturb"),
        ("Rejected", "InsufficientCredit", "insufficient_balance"),
        ("Rejected", "InvalidLinkId", "invalid_link_id"),
        ("Failed", "UserIsInactive", "inactive"),
        ("Failed", "UserAccountSuspended", "suspended"),
        ("Failed", "UserNotSubscribedToProduct", "not_subscribed"),
        ("Failed", "UserDoesNotExist", "invalid_recipient"),
        ("Failed", "DeliveryFailure", "delivery_failure"),
        ("Failed", "HandsetMemoryFull", "handset_memory_full"),
        ("AbsentSubscriber", "", "absent"),
        ("Expired", "", "expired"),
        ("Rejected", "", "rejected"),
        ("Failed", "", "failed"),
    ],
)
def test_failed_report_says_why_in_our_words_and_in_the_providers(
    status: str, why: str, reason: str
) -> None:
    data = told(report(ANN, status, failureReason=why)).data

    assert (data["reason"], data.get("failure_reason", "")) == (reason, why)


def test_report_of_a_delivered_message_has_no_reason() -> None:
    assert "reason" not in told(report(ANN, failureReason="")).data


def test_repeat_of_a_report_has_its_id_and_another_status_another() -> None:
    first = told(report(ANN, "Failed", failureReason="DeliveryFailure"))

    repeat = told(report(ANN, "Failed", retryCount="2"), at_ms=NOON_MS + 3 * DAY_MS)
    other = told(report(ANN, "Success"))

    assert repeat.event_id == first.event_id
    assert other.event_id != first.event_id


def test_id_of_a_report_tells_apart_what_the_worked_check_does() -> None:
    body = b"id=ATXid_demo0001&status=Success&phoneNumber=%2B254711000111&networkCode=63902"

    whole = f"africastalking|{told(body).event_id.replace(':', '|')}"

    assert (
        hashlib.sha256(whole.encode()).hexdigest()
        == "cc850d87cfa44085347bbc7761441bd0fcc56e7916f68bc7186ecef69a339a39"
    )


@pytest.mark.parametrize("number", [b"%2B254711000111", b"+254711000111", b"254711000111"])
def test_plus_that_is_not_escaped_is_one_all_the_same(number: bytes) -> None:
    assert told(b"id=m-1&status=Success&phoneNumber=" + number).recipient == ANN


def test_report_without_a_number_is_still_of_its_message() -> None:
    notice = told(form({"id": "m-1", "status": "Success"}))

    assert (notice.provider_reference, notice.recipient) == ("m-1", None)


# What comes in


def test_incoming_message_is_an_event_of_its_own() -> None:
    notice = told(incoming("Lipa? & sema \N{LATIN SMALL LETTER U WITH TILDE}"))

    assert (notice.event, notice.provider_reference, notice.delivery) == (
        "sms.received",
        None,
        None,
    )
    assert notice.data == {
        "message_id": "7a1f",
        "from": ANN,
        "to": "22334",
        "text": "Lipa? & sema \N{LATIN SMALL LETTER U WITH TILDE}",
        "sent_at": "2026-11-21 09:30:00",
        "link_id": "SampleLinkId123",
        "cost": "None",
        "network_code": "63902",
    }


def test_empty_message_is_one_all_the_same() -> None:
    assert told(incoming("")).data["text"] == ""


def test_sender_that_is_no_phone_is_told_as_it_is() -> None:
    assert told(incoming(**{"from": "SAFARI1"})).data["from"] == "SAFARI1"


def test_same_text_twice_is_two_messages() -> None:
    assert told(incoming(id="1")).event_id != told(incoming(id="2")).event_id


def test_opt_out_is_an_event_of_its_own() -> None:
    notice = told(opt_out())

    assert notice.event == "sms.opted_out"
    assert notice.data == {"phone": ANN, "sender": "SHULE"}


def test_opt_out_counts_again_on_another_day_and_for_another_sender() -> None:
    first = told(opt_out())

    ids = {
        told(opt_out(), at_ms=NOON_MS + 60_000).event_id,
        told(opt_out(), at_ms=NOON_MS + DAY_MS).event_id,
        told(opt_out(sender="CHURCH")).event_id,
    }

    assert first.event_id in ids
    assert len(ids) == 3


def test_message_and_report_of_one_id_are_not_taken_for_copies() -> None:
    assert told(incoming(id="m-1")).event_id != told(report(ANN, id="m-1")).event_id


# What is refused


@pytest.mark.parametrize(
    ("path", "fields", "complaint"),
    [
        ("", {"hello": "1"}, "neither status"),
        ("", {"status": "Success", "phoneNumber": ANN}, "no id"),
        ("", {"status": "", "id": "m-1"}, "no status"),
        ("", {"text": "Hi", "id": "1"}, "no from"),
        ("", {"senderId": "SHULE"}, "no phoneNumber"),
        ("/incoming", {"text": "Hi", "from": ANN}, "no id"),
        ("/optout", {"phoneNumber": ANN}, "no senderId"),
        ("/elsewhere", {"id": "m-1", "status": "Success"}, "follows no address"),
    ],
)
def test_what_cannot_be_understood_says_what_is_missing(
    path: str, fields: dict[str, str], complaint: str
) -> None:
    with pytest.raises(UnreadableError, match=complaint):
        told(form(fields), path)


def test_address_proves_it_and_a_listed_source_does() -> None:
    proved = request(report(ANN))
    listed = dataclasses.replace(proved, token=False, listed=True)
    neither = dataclasses.replace(proved, token=False)

    assert receiver().verify_webhook(proved) == Verified("token")
    assert receiver().verify_webhook(listed) == Verified("address")
    assert isinstance(receiver().verify_webhook(neither), Refusal)


def test_reply_is_empty() -> None:
    assert receiver().webhook_reply(request(report(ANN))) == WebhookReply(status=200, body=b"")
