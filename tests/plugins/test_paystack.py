"""Paystack: the contract suite, what is refused at once, amounts, and which config can work."""

import json
from decimal import Decimal
from typing import Any, ClassVar

import anyio
import httpx2
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.paystack_account import KEY
from tests.plugins.paystack_provider import (
    CONFIG,
    PAYMENT,
    PAYOUT,
    PAYSTACK,
    Paystack,
    line,
    provider,
    request_of,
    unsupported,
)
from tests.plugins.paystack_server import Trouble

from integrationd.sdk import Rejected, Retryable, SecretStr, Uncertain
from integrationd.sdk.testing import CALL_ID, Handler, PluginContract, fake_client, make_context
from integrationd.sdk.testing.fakes import answering

PAID = {
    "id": 3_000_000_001,
    "status": "success",
    "reference": "ord-7781",
    "amount": 250000,
    "currency": "KES",
}


def replying(data: Any, status: int = 200) -> Handler:
    told = {"status": True, "message": "Done", "data": data}
    return staticmethod(lambda _request: httpx2.Response(status, json=told))


def refused(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(400, json={"status": False, "message": "Invalid Amount Sent"})


def in_turn(**by_path: Any) -> Handler:
    """Answer each path with data of its own."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        data = by_path[request.url.path.strip("/").split("/")[0]]
        return httpx2.Response(200, json={"status": True, "message": "Done", "data": data})

    return staticmethod(answer)


class PaystackContract(PluginContract):
    plugin = PAYSTACK
    config = CONFIG
    refused: ClassVar[Handler] = staticmethod(refused)


class TestPaystackInitiate(PaystackContract):
    operation = "payment.initiate"
    payload = PAYMENT
    accepted: ClassVar[Handler] = replying(
        {"authorization_url": "https://checkout.paystack.com/a", "reference": CALL_ID}
    )


class TestPaystackVerify(PaystackContract):
    operation = "payment.verify"
    payload: ClassVar[dict[str, Any]] = {"reference": "ord-7781"}
    accepted: ClassVar[Handler] = replying(PAID)


class PreparedContract(PaystackContract):
    """For a send that looks something up before it moves money; only the latter is in doubt."""

    money_path: ClassVar[str]

    def test_success_that_cannot_be_read_is_no_failure(self) -> None:
        def garbling(request: httpx2.Request) -> httpx2.Response:
            if request.url.path == self.money_path:
                return httpx2.Response(200, text="<html>not JSON</html>")
            return type(self).accepted(request)

        assert isinstance(self.send(garbling).outcome, Uncertain)

    def test_look_up_that_cannot_be_read_is_made_again(self) -> None:
        def garbling(_request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, text="<html>not JSON</html>")

        assert isinstance(self.send(garbling).outcome, Retryable)


class TestPaystackRefund(PreparedContract):
    operation = "payment.refund"
    payload: ClassVar[dict[str, Any]] = {"payment": "ord-7781"}
    money_path = "/refund"
    requests_per_send = 2
    accepted: ClassVar[Handler] = in_turn(
        transaction=PAID, refund={"id": 7, "status": "pending", "amount": 250000, "currency": "KES"}
    )


class TestPaystackPayout(PreparedContract):
    operation = "payment.payout"
    payload = PAYOUT
    money_path = "/transfer"
    requests_per_send = 3
    accepted: ClassVar[Handler] = in_turn(
        bank={"account_name": "OBI ADA"},
        transferrecipient={"recipient_code": "RCP_1"},
        transfer={"transfer_code": "TRF_1", "reference": CALL_ID, "status": "pending"},
    )


# What is refused before a call is accepted


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"customer": {"phone": "+254711000111"}}, "give customer.email"),
        ({"currency": "UGX", "amount": "2500"}, "Paystack takes NGN, GHS, KES, ZAR, USD, not UGX"),
        ({"currency": "XOF", "amount": "2500"}, "not XOF"),
        ({"amount": "2500.005"}, "KES has 2 decimals"),
        ({"channel": "paypal"}, "channel must be one of card, bank"),
        ({"reference": "ord_7781"}, "letters, digits and '-.='"),
    ],
)
def test_payment_that_paystack_cannot_ask_for_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    assert complaint in (unsupported("payment.initiate", PAYMENT | changes) or "")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"currency": "USD"}, "Paystack sends NGN, GHS, KES, ZAR, not USD"),
        ({"reference": "Pay-0091"}, "lower-case letters, digits"),
        ({"reference": "pay.0091"}, "lower-case letters, digits"),
        ({"amount": "0.001"}, "NGN has 2 decimals"),
        ({"account": None, "phone": "+2348030000222"}, "bank accounts only: give account"),
        ({"account": None, "phone": "+233551234987", "currency": "GHS"}, "MTN, ATL, VOD"),
        ({"account": None, "phone": "+233551234987", "currency": "KES"}, "no M-Pesa number"),
        ({"account": None, "phone": "+254711000111", "currency": "KES"}, "give name"),
    ],
)
def test_payout_that_paystack_cannot_make_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    assert complaint in (unsupported("payment.payout", PAYOUT | changes) or "")


@pytest.mark.parametrize("name", ["../refund", "a/b", "a b", ".", "?x=1", "é"])
def test_name_that_would_change_the_path_is_refused(name: str) -> None:
    assert unsupported("payment.verify", {"provider_reference": name})
    assert unsupported("payment.refund", {"payment": name})


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("payment.initiate", PAYMENT),
        ("payment.initiate", PAYMENT | {"reference": "ord-77.81=A", "channel": "mobile_money"}),
        ("payment.verify", {"provider_reference": "T685312322670591_a"}),
        ("payment.verify", {"reference": "ord-7781"}),
        ("payment.refund", {"payment": "3000000001"}),
        ("payment.refund", {"payment": "ord-7781", "amount": "1.50", "currency": "NGN"}),
        ("payment.payout", PAYOUT | {"reference": "pay_0091-a"}),
        (
            "payment.payout",
            {"amount": "1", "currency": "KES", "phone": "+254711000111", "name": "Ann"},
        ),
    ],
)
def test_what_paystack_can_do_is_not_refused(operation: str, payload: dict[str, Any]) -> None:
    assert unsupported(operation, payload) is None


# Amounts


@given(st.integers(1, 10**12), st.sampled_from(["NGN", "GHS", "KES", "ZAR", "USD"]))
def test_amount_is_sent_in_hundredths_and_exactly(minor: int, currency: str) -> None:
    amount = f"{Decimal(minor) / 100:f}"
    sent: list[Any] = []

    class Asking(TestPaystackInitiate):
        payload = PAYMENT | {"amount": amount, "currency": currency}

    def keeping(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content)["amount"])
        return Asking.accepted(request)

    Asking().send(keeping)

    assert sent == [minor]
    assert isinstance(sent[0], int)


# The connection


async def test_connection_test_says_mode_and_balance_and_moves_nothing() -> None:
    async with line() as at:
        at.fake.balance.clear()
        at.fake.balance["NGN"] = 178550

        assert await at.tested() == "the key is good, in test mode; the balance is NGN 1785.50"
        assert [(method, path) for method, path, _ in at.fake.seen] == [("GET", "/balance")]


async def test_connection_test_says_that_the_key_was_refused() -> None:
    async with line(secret_key="sk_live_other") as at:
        with pytest.raises(PermissionError, match="Check secret_key of the connection"):
            await at.tested()


async def test_key_goes_into_the_header_only() -> None:
    async with line() as at:
        await at.send("payment.initiate", PAYMENT)

        [request] = at.requests
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"
        assert KEY not in f"{request.target}{request.body!r}"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_address_that_is_not_on_the_list_is_told_so(status: int) -> None:
    message = "Your IP address is not allowed to make this call"
    async with line() as at:
        at.fake.troubles.append(Trouble(status=status, body={"status": False, "message": message}))

        made = await at.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "ip_not_allowed"
    assert "IP whitelist" in made.outcome.detail


async def test_refused_key_is_rejected_and_says_what_to_check() -> None:
    async with line(secret_key="sk_test_old") as at:
        made = await at.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "bad_credentials"
    assert "Invalid key" in made.outcome.detail


async def test_page_of_a_proxy_is_not_taken_for_paystacks_word() -> None:
    """A 404 without Paystack's envelope proves nothing about a payment."""
    async with line() as at:
        at.fake.troubles.append(Trouble(status=404))

        made = await at.send("payment.initiate", PAYMENT)

    assert isinstance(made.outcome, Rejected)
    assert made.outcome.reason == "http_404"


async def test_connection_test_says_that_there_was_no_usable_answer() -> None:
    made = provider()
    async with fake_client(made.config, answering(502)) as client:
        ctx = make_context("payment.verify", client=client)

        with pytest.raises(ConnectionError, match="502"):
            await made.test_connection(ctx)


@pytest.mark.parametrize(
    ("operation", "data", "kind"),
    [
        ("payment.verify", {"status": "success", "reference": "ord-7781"}, Uncertain),
        ("payment.verify", {}, Uncertain),
        ("payment.refund", PAID | {"id": None}, Rejected),
        ("payment.refund", PAID | {"id": {}}, Rejected),
    ],
)
def test_payment_that_is_told_without_what_matters_is_not_guessed_at(
    operation: str, data: dict[str, Any], kind: type
) -> None:
    case = TestPaystackVerify() if operation == "payment.verify" else TestPaystackRefund()

    assert isinstance(case.send(replying(data)).outcome, kind)


@pytest.mark.parametrize(
    ("bank", "recipient"),
    [({}, {"recipient_code": "RCP_1"}), ({"account_name": "Ada"}, {"recipient_code": None})],
)
def test_recipient_that_is_not_told_is_asked_for_again(
    bank: dict[str, Any], recipient: dict[str, Any]
) -> None:
    handler = in_turn(bank=bank, transferrecipient=recipient, transfer={})

    sent = TestPaystackPayout().send(handler)

    assert isinstance(sent.outcome, Retryable)
    assert not [one for one in sent.requests if one.url.path == "/transfer"]


def test_duplicate_that_cannot_be_looked_at_is_in_doubt() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(502)
        told = {"status": False, "message": "Duplicate Transaction Reference"}
        return httpx2.Response(400, json=told)

    outcome = TestPaystackInitiate().send(answer).outcome

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "duplicate_reference"


def test_recipients_are_not_remembered_without_end() -> None:
    recipients = provider()._recipients
    recipients._codes.update({(str(number),): "RCP_1" for number in range(1000)})

    async def one_more() -> None:
        client = fake_client(provider().config, TestPaystackPayout.accepted)
        async with client:
            ctx = make_context("payment.payout", client=client)
            await recipients.code_of(request_of("payment.payout", PAYOUT), ctx)

    anyio.run(one_more)

    assert len(recipients._codes) == 1000
    assert ("0",) not in recipients._codes


# The config


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"secret_key": "pk_test_a"}, "is the public key"),
        ({"secret_key": ""}, "must begin with sk_test_ or sk_live_"),
        ({"secret_key": "sk_test_"}, "must begin with"),
        ({"secret_key": "sk_test_a b"}, "must begin with"),
        ({"secret_key": "sk_test_a\n"}, "must begin with"),
        ({"previous_secret_key": "old"}, "must begin with"),
        ({"callback_url": "shop.example"}, "callback_url"),
        ({"subaccount": "x"}, "subaccount"),
        ({"split_code": "x"}, "split_code"),
        ({"open_for_s": 5}, "open_for_s"),
        ({"open_for_s": 10**6}, "open_for_s"),
        ({"environment": "test"}, "environment"),
    ],
)
def test_config_that_cannot_work_is_refused_in_words(
    config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(pydantic.ValidationError, match=complaint):
        Paystack.Config.model_validate({**CONFIG, **config})


def test_config_shows_no_key() -> None:
    config = provider(previous_secret_key="sk_test_before").config

    assert isinstance(config.secret_key, SecretStr)
    assert not {KEY, "sk_test_before"} & set(repr(config).split("'"))


def test_only_what_paystack_takes_once_may_be_repeated() -> None:
    repeated = {name: found.repeat_safe for name, found in Paystack.operations().items()}

    assert repeated == {
        "payment.initiate": True,
        "payment.verify": True,
        "payment.refund": False,
        "payment.payout": False,
    }
    assert set(Paystack.queries()) == {"payment.initiate", "payment.refund", "payment.payout"}
