"""Africa's Talking: what is sent, what the account holds, and which config can work."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx2
import msgspec
import pydantic
import pytest
from tests.plugins.africastalking_server import (
    AFRICASTALKING,
    ANN,
    BEN,
    CONFIG,
    KEY,
    AfricasTalking,
    Gateway,
    answer,
    attempt,
    entry,
    form_of,
    gateway,
)

from integrationd.sdk import (
    CATALOGUE,
    Delivered,
    SmsBalanceResult,
    Uncertain,
)
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import FakeConnection, Handler, PluginContract, make_context

SMS = {"to": ANN, "message": "Fees are due & payable, Wanjikũ + 1"}


@pytest.fixture
async def at() -> AsyncIterator[Gateway]:
    async with gateway() as running:
        yield running


def accepted(request: httpx2.Request) -> httpx2.Response:
    if request.method == "GET":
        return httpx2.Response(200, json={"UserData": {"balance": "KES 1785.50"}})
    numbers = dict(httpx2.QueryParams(request.content.decode()))["to"].split(",")
    return httpx2.Response(201, text=answer([entry(number) for number in numbers]))


def refused(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(401, text="The supplied authentication is invalid")


class AfricasTalkingContract(PluginContract):
    plugin = AFRICASTALKING
    config = CONFIG
    accepted: ClassVar[Handler] = staticmethod(accepted)
    refused: ClassVar[Handler] = staticmethod(refused)


class TestAfricasTalkingSend(AfricasTalkingContract):
    operation = "sms.send"
    payload = SMS


class TestAfricasTalkingSendBulk(AfricasTalkingContract):
    operation = "sms.send_bulk"
    payload = {"recipients": [ANN, BEN], "message": "Hi"}  # noqa: RUF012 - never changed


class TestAfricasTalkingBalance(AfricasTalkingContract):
    operation = "sms.balance"
    payload: ClassVar[dict[str, Any]] = {}


# The request


async def test_message_is_a_form_with_the_key_in_a_header(at: Gateway) -> None:
    await attempt(at.url, "sms.send", SMS)

    [request] = at.requests
    assert (request.method, request.target) == ("POST", "/version1/messaging")
    assert (request.headers["apikey"], request.headers["accept"]) == (KEY, "application/json")
    assert form_of(request) == {
        "username": "sandbox",
        "to": ANN,
        "message": SMS["message"],
        "bulkSMSMode": "1",
    }


async def test_plus_of_a_number_is_escaped(at: Gateway) -> None:
    await attempt(at.url, "sms.send", SMS)

    assert b"to=%2B254711000111&" in at.requests[0].body


SENDERS = pytest.mark.parametrize(
    ("payload", "config", "sender"),
    [
        ({}, {}, None),
        ({}, {"sender_id": "SHULE"}, "SHULE"),
        ({"sender": "22334"}, {"sender_id": "SHULE"}, "22334"),
    ],
)


@SENDERS
async def test_sender_of_the_tenant_is_taken_where_nothing_else_says_one(
    at: Gateway, payload: dict[str, str], config: dict[str, Any], sender: str | None
) -> None:
    await attempt(at.url, "sms.send", SMS | payload, defaults={"sms_sender": "CHUO"}, **config)

    assert at.forms[0].get("from") == (sender or "CHUO")


@SENDERS
async def test_sender_is_the_messages_own_or_the_connections_or_left_out(
    at: Gateway, payload: dict[str, str], config: dict[str, Any], sender: str | None
) -> None:
    await attempt(at.url, "sms.send", SMS | payload, **config)

    assert at.forms[0].get("from") == sender


@pytest.mark.parametrize(
    ("config", "enqueue"), [({}, None), ({"enqueue": True}, "1"), ({"enqueue": False}, "0")]
)
async def test_enqueue_is_sent_only_when_it_is_set(
    at: Gateway, config: dict[str, Any], enqueue: str | None
) -> None:
    await attempt(at.url, "sms.send", SMS, **config)

    assert at.forms[0].get("enqueue") == enqueue


@pytest.mark.parametrize(
    "number", ["254711000111", "+254000", "+0711000111", "+2547110001112345", "+254 711", "+2547x"]
)
@pytest.mark.parametrize("operation", ["sms.send", "sms.send_bulk"])
def test_number_that_is_not_e164_is_refused_before_it_is_accepted(
    operation: str, number: str
) -> None:
    payload = {"to": number} if operation == "sms.send" else {"recipients": [number]}

    with pytest.raises(msgspec.ValidationError, match=r"E\.164|pattern|regex"):
        msgspec.convert(payload | {"message": "Hi"}, CATALOGUE[operation].request)


def test_request_waits_as_long_as_the_connection_allows() -> None:
    waits: list[dict[str, float]] = []

    def answering(request: httpx2.Request) -> httpx2.Response:
        waits.append(request.extensions["timeout"])
        return accepted(request)

    TestAfricasTalkingSend().send(answering)

    assert waits[0]["read"] == 10.0


# The balance


@pytest.mark.parametrize(
    ("told", "result"),
    [
        ("KES 1785.50", {"currency": "KES", "balance": "1785.50"}),
        ("KES 1785.5000", {"currency": "KES", "balance": "1785.5000"}),
        ("UGX -3", {"currency": "UGX", "balance": "-3"}),
        (" NGN  12345678901234567.10 ", {"currency": "NGN", "balance": "12345678901234567.10"}),
    ],
)
async def test_balance_is_a_currency_and_an_exact_decimal(
    at: Gateway, told: str, result: dict[str, str]
) -> None:
    at.balance = told

    made = await attempt(at.url, "sms.balance", {})

    assert made.outcome == Delivered(result=result)
    msgspec.convert(result, SmsBalanceResult)
    [request] = at.requests
    assert (request.method, request.target) == ("GET", "/version1/user?username=sandbox")


@pytest.mark.parametrize("told", ["", "1785.50", "KES", "KES 1,785.50", "KES 1e3", "kes 1", "KES "])
async def test_balance_that_is_no_amount_is_not_guessed_at(at: Gateway, told: str) -> None:
    at.balance = told

    made = await attempt(at.url, "sms.balance", {})

    assert isinstance(made.outcome, Uncertain)
    assert made.outcome.reason == "unreadable_reply"


def test_balance_may_be_asked_again_and_a_message_may_not() -> None:
    operations = AfricasTalking.operations()

    assert {name: found.repeat_safe for name, found in operations.items()} == {
        "sms.send": False,
        "sms.send_bulk": False,
        "sms.balance": True,
    }
    assert not CATALOGUE["sms.balance"].effect


async def tested(at: Gateway, **config: str) -> str:
    made = AfricasTalking.Config.model_validate(CONFIG | {"base_url": at.url} | config)
    async with prepare_client(base_url=at.url, timeout_s=5, allow_private=True) as client:
        ctx = make_context("sms.balance", client=client)
        return await AfricasTalking(made, FakeConnection()).test_connection(ctx)


async def test_connection_test_says_what_the_account_holds(at: Gateway) -> None:
    assert await tested(at) == "the account holds KES 1785.50"
    assert at.sent == []


async def test_connection_test_says_that_the_credentials_were_refused(at: Gateway) -> None:
    with pytest.raises(PermissionError, match="authentication is invalid"):
        await tested(at, api_key="stale")


async def test_connection_test_says_that_there_was_no_usable_answer(at: Gateway) -> None:
    at.balance = "?"

    with pytest.raises(ConnectionError, match="cannot be read"):
        await tested(at)


# The config


@pytest.mark.parametrize(
    ("config", "host"),
    [
        ({"username": "sandbox"}, "https://api.sandbox.africastalking.com"),
        ({"username": "shule"}, "https://api.africastalking.com"),
        ({"username": "sandbox-shule"}, "https://api.africastalking.com"),
        ({"username": "sandbox", "base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
        ({"username": "shule", "base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_host_follows_from_the_username_unless_it_is_set(config: dict[str, str], host: str) -> None:
    made: Any = AfricasTalking.Config.model_validate({"api_key": KEY} | config)

    assert made.base_url == host


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"username": "Sandbox"}, "must be exactly 'sandbox'"),
        ({"username": ""}, "username"),
        ({"username": "my app"}, "username"),
        ({"api_key": ""}, "is empty"),
        ({"api_key": "line\nbreak"}, "no key has"),
        ({"api_key": "ké"}, "no key has"),
        ({"sender_id": "a name that is too long"}, "sender_id"),
        ({"sender_id": ""}, "sender_id"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1001}, "batch_size"),
        ({"base_url": ""}, "base_url"),
        ({"environment": "sandbox"}, "environment"),
    ],
)
def test_config_that_cannot_work_is_refused_in_words(
    config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(pydantic.ValidationError, match=complaint):
        AfricasTalking.Config.model_validate(CONFIG | config)


def test_config_without_a_username_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="username"):
        AfricasTalking.Config.model_validate({"api_key": KEY})
