"""Webhooks out are signed as the two schemes say, whatever attempt it is."""

import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx2
import msgspec
import pydantic
import pytest
import standardwebhooks
import svix.webhooks
from tests.plugins.webhook_vectors import (
    BODY,
    NEW,
    NEW_SIGNATURE,
    OLD,
    OLD_SIGNATURE,
    PRIVATE,
    PRIVATE_SIGNATURE,
    SENT_S,
    SIMPLE_BODY,
    SIMPLE_SECRET,
    SIMPLE_SIGNATURE,
    WEBHOOK,
    WEBHOOK_ID,
)

from integrationd.sdk import (
    Delivered,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    WebhookSend,
)
from integrationd.sdk.testing import FakeClock, Handler, PluginContract, make_context
from integrationd.sdk.testing.fakes import FakeConnection, answered_by, class_in, fake_client

CONFIG = {"url": "https://shop.example/hooks?from=us", "secrets": [{"secret": NEW}]}
PAYLOAD = {"type": "reward.issued", "body": BODY, "id": WEBHOOK_ID}


def accepted(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, text="thanks")


def refused(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(410)


class TestWebhook(PluginContract):
    plugin = WEBHOOK
    config = CONFIG
    operation = "webhook.send"
    payload = PAYLOAD
    accepted: ClassVar[Handler] = staticmethod(accepted)
    refused: ClassVar[Handler] = staticmethod(refused)

    def fingerprint(self, request: httpx2.Request) -> object:
        """Return what is the same on every attempt: all but the time and the signature over it."""
        signed = {"webhook-timestamp", "webhook-signature"}
        headers = {name: value for name, value in request.headers.items() if name not in signed}
        return request.method, str(request.url), headers, request.content


async def exchange(
    config: Mapping[str, Any],
    payload: Mapping[str, Any],
    response: httpx2.Response | None = None,
    *,
    at_s: float = SENT_S,
) -> tuple[Outcome, httpx2.Request]:
    """Send once and return the outcome with the request that was made."""
    cls = class_in(WEBHOOK)
    provider = cls(cls.Config.model_validate(config), FakeConnection())
    declared = cls.operations()["webhook.send"]
    ctx = make_context("webhook.send", clock=FakeClock(round(at_s * 1000)))
    made: list[httpx2.Request] = []
    answer = response or httpx2.Response(204)
    request = msgspec.convert(dict(payload), WebhookSend)
    async with fake_client(provider.config, answered_by(lambda _: answer, ctx, made)) as client:
        ctx.client = client
        outcome = await declared.method(provider, request, ctx)
    await provider.aclose()
    return outcome, made[0]


def _typed(payload: Mapping[str, Any]) -> Any:
    import msgspec  # noqa: PLC0415 - beside its one use

    from integrationd.sdk import WebhookSend  # noqa: PLC0415 - beside its one use

    return msgspec.convert(dict(payload), WebhookSend)


@pytest.mark.parametrize(
    ("secrets", "signature"),
    [
        ([OLD], OLD_SIGNATURE),
        ([NEW], NEW_SIGNATURE),
        ([NEW, OLD], f"{NEW_SIGNATURE} {OLD_SIGNATURE}"),
        ([PRIVATE], PRIVATE_SIGNATURE),
    ],
)
async def test_standard_signature_is_that_of_the_vectors(
    secrets: list[str], signature: str
) -> None:
    config = {**CONFIG, "secrets": [{"secret": one} for one in secrets]}

    _, request = await exchange(config, PAYLOAD)

    assert request.headers["webhook-id"] == WEBHOOK_ID
    assert request.headers["webhook-timestamp"] == str(SENT_S)
    assert request.headers["webhook-signature"] == signature
    assert request.content == BODY.encode()
    assert str(request.url) == CONFIG["url"]


async def test_simple_signature_is_that_of_the_vector() -> None:
    config = {"url": CONFIG["url"], "scheme": "simple", "secret": SIMPLE_SECRET}
    payload = {"type": "customer.enrolled", "body": SIMPLE_BODY, "id": "evt_1"}

    _, request = await exchange(config, payload)

    assert request.headers["x-signature"] == SIMPLE_SIGNATURE
    assert request.headers["x-event"] == "customer.enrolled"
    assert request.headers["webhook-id"] == "evt_1"
    assert "webhook-signature" not in request.headers
    assert request.content == SIMPLE_BODY.encode()


async def test_old_secret_signs_until_its_time_and_the_new_one_from_its_own() -> None:
    switch_ms = SENT_S * 1000
    secrets = [{"secret": NEW, "from_ms": switch_ms}, {"secret": OLD, "until_ms": switch_ms}]

    _, before = await exchange({**CONFIG, "secrets": secrets}, PAYLOAD, at_s=SENT_S - 0.001)
    _, after = await exchange({**CONFIG, "secrets": secrets}, PAYLOAD)

    assert len(before.headers["webhook-signature"].split(" ")) == 1
    assert after.headers["webhook-signature"] == NEW_SIGNATURE


async def test_static_headers_are_sent() -> None:
    config = {**CONFIG, "headers": {"Authorization": "Bearer t0ken"}}

    _, request = await exchange(config, PAYLOAD)

    assert request.headers["authorization"] == "Bearer t0ken"


@pytest.mark.parametrize("status", [300, 302, 308, 400, 401, 403, 404, 422, 500, 503])
async def test_anything_but_success_is_tried_again(status: int) -> None:
    headers = {"Location": "http://169.254.169.254/"}

    outcome, _ = await exchange(CONFIG, PAYLOAD, httpx2.Response(status, headers=headers))

    assert isinstance(outcome, Retryable)
    assert outcome.sent
    assert outcome.reason == f"http_{status}"
    assert "169.254" not in outcome.detail


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (502, Retryable), (504, Retryable)])
async def test_overloaded_receiver_is_given_time(status: int, kind: type) -> None:
    told = httpx2.Response(status, headers={"Retry-After": "9"})
    asked, _ = await exchange(CONFIG, PAYLOAD, told)
    unasked, _ = await exchange(CONFIG, PAYLOAD, httpx2.Response(status))

    assert isinstance(asked, Throttled | Retryable)
    assert isinstance(unasked, Throttled | Retryable)
    assert isinstance(asked, kind)
    assert (asked.wait_s, unasked.wait_s) == (9.0, 5.0)


async def test_gone_and_aborted_end_it_unless_the_receiver_is_persistent() -> None:
    abort = {"webhook-delivery": "abort-message"}
    steady = {**CONFIG, "persistent": True}

    gone, _ = await exchange(CONFIG, PAYLOAD, httpx2.Response(410))
    aborted, _ = await exchange(CONFIG, PAYLOAD, httpx2.Response(500, headers=abort))
    insisted, _ = await exchange(steady, PAYLOAD, httpx2.Response(410, headers=abort))

    assert isinstance(gone, Rejected)
    assert gone.reason == "gone"
    assert isinstance(aborted, Rejected)
    assert isinstance(insisted, Retryable)


async def test_first_kilobyte_of_the_reply_is_kept() -> None:
    outcome, _ = await exchange(CONFIG, PAYLOAD, httpx2.Response(200, text="x" * 5000))

    assert isinstance(outcome, Delivered)
    assert outcome.result == {"status": 200, "body": "x" * 1024}


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "http://shop.example/"},
        {"url": "https://shop.example:22/"},
        {"url": "https://user:pass@shop.example/"},
        {"url": "https://shop.example/#x"},
        {"url": "ftp://shop.example/"},
        {"url": "unix:/run/app.sock"},
        {"url": "https:\\\\shop.example/"},
        {"url": "https://"},
        {"secrets": []},
        {"secrets": [{"secret": "plain text"}]},
        {"secrets": [{"secret": "whsec_c2hvcnQ="}]},
        {"headers": {"webhook-id": "mine"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"X-Signature": "00"}},
        {"headers": {"X-Own": "a\r\nb: c"}},
    ],
)
def test_config_that_cannot_work_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        class_in(WEBHOOK).Config.model_validate({**CONFIG, **changed})


@pytest.mark.parametrize("url", ["http://10.0.0.7:3000/x", "unix:/run/app.sock"])
def test_own_network_allows_plain_http_and_sockets(url: str) -> None:
    config = class_in(WEBHOOK).Config.model_validate({**CONFIG, "url": url, "allow_private": True})

    assert config.model_dump()["url"] == url


def test_body_of_the_vector_is_json() -> None:
    assert json.loads(BODY)["type"] == "reward.issued"


def _verify(kind: type, secret: str, request: httpx2.Request) -> Any:
    return kind(secret).verify(request.content, dict(request.headers))


@pytest.mark.parametrize("kind", [standardwebhooks.Webhook, svix.webhooks.Webhook])
@pytest.mark.parametrize("receiver_has", [NEW, OLD])
async def test_libraries_of_receivers_accept_both_secrets_during_a_rotation(
    kind: type, receiver_has: str
) -> None:
    now_s = time.time()
    config = {**CONFIG, "secrets": [{"secret": NEW}, {"secret": OLD, "until_ms": 1 << 60}]}

    _, request = await exchange(config, PAYLOAD, at_s=now_s)

    # It raises if there is anything wrong.
    kind(receiver_has).verify(request.content, dict(request.headers))


async def test_libraries_of_receivers_refuse_a_changed_body() -> None:
    _, request = await exchange(CONFIG, PAYLOAD, at_s=time.time())
    headers = dict(request.headers)

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(NEW).verify(request.content + b" ", headers)
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.webhooks.Webhook(NEW).verify(request.content + b" ", headers)
