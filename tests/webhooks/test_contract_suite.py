"""The suite for webhooks passes good providers of every scheme and catches each kind of bad one."""

import base64
import hashlib
import hmac
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from tests.webhooks.till import Till

from integrationd.sdk import (
    Notice,
    Proof,
    Refusal,
    UnreadableError,
    Verified,
    WebhookReply,
    WebhookRequest,
)
from integrationd.sdk.testing import WebhookContract

SECRET = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(2, 34))).decode()
GOOD = {
    "id": "evt-1",
    "tells": [{"type": "payment.paid", "ours": "r-1", "what": "done", "amount": "100.00"}],
}


class TillContract(WebhookContract):
    plugin = Till
    config: ClassVar = {"secret": SECRET}
    stranger: ClassVar = {"secret": OTHER}
    body = json.dumps(GOOD, separators=(",", ":"), sort_keys=True).encode()
    unknown_body = b'{"id":"evt-2","tells":[]}'


class TestBody(TillContract):
    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        return {"X-Till-Signature": _mac(body)}


class TestTimed(TillContract):
    config: ClassVar = {"secret": SECRET, "scheme": "timed"}

    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        return {"Till-Signature": f"t={at_s},v1={_mac(b'%d.%s' % (at_s, body))}"}


class TestStandard(TillContract):
    config: ClassVar = {"secret": SECRET, "scheme": "standard"}

    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        mac = hmac.digest(bytes(range(1, 33)), b"evt-1.%d.%s" % (at_s, body), "sha256")
        return {
            "webhook-id": "evt-1",
            "webhook-timestamp": str(at_s),
            "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
        }


class TestShared(TillContract):
    config: ClassVar = {"secret": SECRET, "scheme": "shared"}

    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        return {"till-hash": SECRET}


class TestAddress(TillContract):
    config: ClassVar = {"scheme": "address"}
    stranger: ClassVar = {}


class TakesAll(Till):
    def verify_webhook(self, request: WebhookRequest) -> Proof:
        return Verified()


class RefusesAll(Till):
    def verify_webhook(self, request: WebhookRequest) -> Proof:
        return Refusal("signature_wrong", "no")


class ParsesFirst(Till):
    """Signs what it has parsed and written again, not what came."""

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        try:
            body = json.dumps(request.json(), separators=(",", ":"), sort_keys=True).encode()
        except (UnreadableError, ValueError):
            return Refusal("signature_wrong", "not JSON")
        given = request.header("x-till-signature")
        return Verified() if given == _mac(body) else Refusal("signature_wrong", "no")


class TakesAnyOfTwo(Till):
    def verify_webhook(self, request: WebhookRequest) -> Proof:
        given = [value for name, value in request.headers if name == "x-till-signature"]
        return Verified() if _mac(request.body) in given else Refusal("signature_wrong", "no")


class IgnoresTime(Till):
    def verify_webhook(self, request: WebhookRequest) -> Proof:
        given = request.header("till-signature") or ""
        at = given.partition(",")[0].removeprefix("t=")
        wanted = f"t={at},v1={_mac(at.encode() + b'.' + request.body)}"
        return Verified() if given == wanted else Refusal("signature_wrong", "no")


class TellsTheSignature(Till):
    def verify_webhook(self, request: WebhookRequest) -> Proof:
        given = request.header("x-till-signature")
        wanted = _mac(request.body)
        return Verified() if given == wanted else Refusal("signature_wrong", f"not {wanted}")


class TellsTheSecret(Till):
    def verify_webhook(self, request: WebhookRequest) -> Proof:
        proof = super().verify_webhook(request)
        return proof if isinstance(proof, Verified) else Refusal("signature_wrong", SECRET)


class Trips(Till):
    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        told = request.json()
        return [Notice(event_id=told["id"], type=told["tells"][0]["type"])]


class NamesNothing(Till):
    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        return [Notice(event_id="", type="x") for _ in super().read_webhook(request)]


class NamesByTime(Till):
    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        at = str(request.received_at_ms)
        return [Notice(event_id=at, type="x") for _ in super().read_webhook(request)]


class NamesByHeader(Till):
    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        given = request.header("x-till-signature") or ""
        return [Notice(event_id=given, type="x") for _ in super().read_webhook(request)]


class Guesses(Till):
    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        return super().read_webhook(request) or [Notice(event_id="e", type="x", event="x.y")]


class AnswersByTime(Till):
    def webhook_reply(self, request: WebhookRequest) -> WebhookReply:
        return WebhookReply.of_text(str(request.received_at_ms))


class AnswersBadly(Till):
    def webhook_reply(self, request: WebhookRequest) -> WebhookReply:
        return WebhookReply(status=302)


class Echoes(Till):
    def answer_challenge(self, request: WebhookRequest) -> WebhookReply | None:
        return WebhookReply.of_text(request.query.get("challenge", ""))


@pytest.mark.parametrize(
    ("plugin", "suite", "caught_by"),
    [
        (TakesAll, TestBody, "changed_body_is_refused"),
        (TakesAll, TestBody, "wrong_secret_is_refused"),
        (TakesAll, TestShared, "changed_header_is_refused"),
        (TakesAll, TestAddress, "address_alone_proves_only_where_nothing_is_signed"),
        (RefusesAll, TestBody, "good_webhook_is_proved_and_told"),
        (ParsesFirst, TestBody, "rewritten_body_is_refused"),
        (TakesAnyOfTwo, TestBody, "missing_empty_and_doubled_headers_are_refused"),
        (IgnoresTime, TestTimed, "untimely_signature_is_refused"),
        (TellsTheSignature, TestBody, "refusals_tell_no_secret"),
        (TellsTheSecret, TestBody, "refusals_tell_no_secret"),
        (Trips, TestBody, "misshapen_body_is_unreadable_at_worst"),
        (NamesNothing, TestBody, "good_webhook_is_proved_and_told"),
        (NamesByTime, TestBody, "copy_has_the_same_ids_and_the_same_reply"),
        (NamesByHeader, TestBody, "reading_needs_no_proof"),
        (Guesses, TestBody, "unknown_event_changes_nothing"),
        (AnswersByTime, TestBody, "copy_has_the_same_ids_and_the_same_reply"),
        (AnswersBadly, TestBody, "reply_is_good_and_fast"),
        (Echoes, TestBody, "handshake_without_its_secret_is_refused"),
    ],
)
def test_suite_catches_a_bad_provider(
    plugin: type[Till], suite: type[TillContract], caught_by: str
) -> None:
    under_test: Any = type("UnderTest", (suite,), {"plugin": plugin})()

    with pytest.raises(AssertionError):
        getattr(under_test, f"test_{caught_by}")()


def test_suite_tests_are_plain_functions_that_say_what_they_are_about() -> None:
    tests = inspect.getmembers(WebhookContract, inspect.isfunction)
    found: dict[str, Callable[..., Any]] = {n: f for n, f in tests if n.startswith("test_")}

    assert len(found) >= 14
    assert all(test.__doc__ for test in found.values())
    assert not any(inspect.iscoroutinefunction(test) for test in found.values())


def _mac(signed: bytes) -> str:
    return hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
