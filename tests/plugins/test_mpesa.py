"""M-Pesa: what is sent to prompt a customer, and which config and which request can work."""

import base64
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx2
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.mpesa_provider import (
    CONFIG,
    HOOK,
    MODULE,
    MSISDN,
    PAYMENT,
    PAYOUT,
    PHONE,
    Line,
    Mpesa,
    line,
    provider,
    unsupported,
)
from tests.plugins.mpesa_server import KEY, PASSKEY, PUSH, SECRET, FakeDaraja

from integrationd.sdk import Accepted, PaymentResult
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import Handler, PluginContract

ACK = {"ResponseCode": "0", "ResponseDescription": "ok"}


@pytest.fixture
async def mpesa() -> AsyncIterator[Line]:
    async with line() as running:
        yield running


def accepted(_request: httpx2.Request) -> httpx2.Response:
    ids = {"CheckoutRequestID": "ws_CO_1", "OriginatorConversationID": "o-1"}
    return httpx2.Response(200, json=ACK | ids | {"OriginatorCoversationID": "c-1"})


def refused(_request: httpx2.Request) -> httpx2.Response:
    said = {"requestId": "r", "errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid"}
    return httpx2.Response(400, json=said)


class MpesaContract(PluginContract):
    plugin = Mpesa
    config: ClassVar[dict[str, Any]] = CONFIG | {
        "base_url": "https://sandbox.safaricom.co.ke",
        "callback_url": HOOK,
    }
    accepted: ClassVar[Handler] = staticmethod(accepted)
    refused: ClassVar[Handler] = staticmethod(refused)

    def fingerprint(self, request: httpx2.Request) -> object:
        """Return all but the time, and the password that goes with it."""
        made: Any = super().fingerprint(request)
        fields = msgspec.json.decode(made[-1])
        return *made[:-1], fields | {"Timestamp": "", "Password": ""}


class TestMpesaInitiate(MpesaContract):
    operation = "payment.initiate"
    payload: ClassVar[dict[str, Any]] = PAYMENT


class TestMpesaPayout(MpesaContract):
    operation = "payment.payout"
    payload: ClassVar[dict[str, Any]] = PAYOUT


class TestMpesaRefund(MpesaContract):
    operation = "payment.refund"
    payload: ClassVar[dict[str, Any]] = {
        "payment": "SAB12CD345",
        "amount": "2500",
        "currency": "KES",
    }


class TestMpesaVerify(MpesaContract):
    operation = "payment.verify"
    payload: ClassVar[dict[str, Any]] = {"provider_reference": "SAB12CD345"}


class TestMpesaRegisterUrls(MpesaContract):
    operation = "mpesa.register_urls"
    payload: ClassVar[dict[str, Any]] = {}


class TestMpesaSimulate(MpesaContract):
    operation = "mpesa.c2b_simulate"
    payload: ClassVar[dict[str, Any]] = {"amount": "5", "phone": PHONE, "account": "ADM1042"}


# The prompt


async def test_prompt_carries_what_the_sheet_says(mpesa: Line) -> None:
    made = await mpesa.send("payment.initiate", PAYMENT | {"description": "School fees, term 2"})

    [fields] = mpesa.sent_to(PUSH)
    assert fields == {
        "BusinessShortCode": "174379",
        "Password": "MTc0Mzc5ZGVtby1wYXNza2V5LTAwMDEyMDI2MDEwMTEyMDAwMA==",
        "Timestamp": "20260101120000",
        "TransactionType": "CustomerPayBillOnline",
        "Amount": 2500,
        "PartyA": MSISDN,
        "PartyB": "174379",
        "PhoneNumber": MSISDN,
        "CallBackURL": HOOK,
        "AccountReference": "ADM1042",
        "TransactionDesc": "School fees, ",
    }
    assert made.sent


async def test_prompt_that_was_accepted_is_pending_and_not_paid(mpesa: Line) -> None:
    made = await mpesa.send("payment.initiate", PAYMENT)

    assert made.outcome == Accepted(
        reference="ws_CO_1",
        result={
            "status": "pending",
            "provider_reference": "ws_CO_1",
            "amount": "2500.00",
            "currency": "KES",
            "reference": "ADM1042",
            "instructions": f"Enter the M-Pesa PIN on the phone {MSISDN}.",
        },
    )
    msgspec.convert(made.outcome.result, PaymentResult)


async def test_till_is_paid_to_under_the_number_of_its_store() -> None:
    async with line(till="5551234") as mpesa:
        await mpesa.send("payment.initiate", PAYMENT)

        [fields] = mpesa.sent_to(PUSH)
    assert (fields["BusinessShortCode"], fields["PartyB"]) == ("174379", "5551234")
    assert fields["TransactionType"] == "CustomerBuyGoodsOnline"


@pytest.mark.parametrize(
    ("payload", "account"),
    [
        ({"account": "ADM1042"}, "ADM1042"),
        ({"account": None}, "00000000c0de"),
        ({"account": None, "reference": "INV-2026-0042"}, "INV20260042"),
        ({"account": None, "reference": "fees.2026.term-2.ADM1042"}, "term2ADM1042"),
    ],
)
async def test_account_is_the_apps_or_the_end_of_our_reference(
    mpesa: Line, payload: dict[str, Any], account: str
) -> None:
    given = {name: value for name, value in (PAYMENT | payload).items() if value is not None}

    await mpesa.send("payment.initiate", given)

    assert mpesa.sent_to(PUSH)[0]["AccountReference"] == account


def test_password_is_that_of_the_published_example() -> None:
    made = MODULE.requests.password("174379", PASSKEY, "20260101120000")

    assert made == "MTc0Mzc5ZGVtby1wYXNza2V5LTAwMDEyMDI2MDEwMTEyMDAwMA=="


def test_timestamp_is_east_africa_time() -> None:
    assert MODULE.requests.timestamp(1_767_214_800_000) == "20260101000000"


@pytest.mark.parametrize("written", ["0712345678", "+254712345678", "254712345678"])
def test_phone_is_normalised(written: str) -> None:
    assert MODULE.requests.msisdn(written) == MSISDN


@given(st.text(alphabet="0123456789+ ", max_size=16))
def test_phone_is_twelve_digits_or_refused(written: str) -> None:
    made = MODULE.requests.msisdn(written)

    assert made is None or (len(made) == 12 and made.isdecimal() and made[:4] in {"2547", "2541"})


# What is refused before it is accepted


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"currency": "UGX"}, "KES only"),
        ({"amount": "10.50"}, "whole shillings"),
        ({"amount": "250001"}, "1 to 250000"),
        ({"customer": {}}, "customer.phone"),
        ({"customer": {"phone": "+256712345678"}}, "Kenyan mobile"),
        ({"customer": {"phone": "+254202345678"}}, "Kenyan mobile"),
        ({"account": "ADM-1042"}, "letters and digits"),
        ({"account": "ADM1042TERM22"}, "1 to 12"),
        ({"channel": "card"}, "leave channel out"),
    ],
)
def test_prompt_that_cannot_be_made_is_refused_in_words(
    change: dict[str, Any], complaint: str
) -> None:
    said = unsupported("payment.initiate", PAYMENT | change)

    assert said is not None
    assert complaint in said


@pytest.mark.parametrize("amount", ["1", "2500", "2500.00", "250000"])
@pytest.mark.parametrize("phone", ["+254712345678", "+254112345678"])
def test_prompt_that_can_be_made_is_not_refused(amount: str, phone: str) -> None:
    payload = PAYMENT | {"amount": amount, "customer": {"phone": phone}}

    assert unsupported("payment.initiate", payload) is None


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"passkey": None}, "passkey"),
        ({"shortcode": "600000", "base_url": "https://sandbox.safaricom.co.ke"}, "174379 only"),
    ],
)
def test_prompt_is_refused_where_the_connection_lacks_what_it_needs(
    config: dict[str, Any], complaint: str
) -> None:
    assert complaint in (unsupported("payment.initiate", PAYMENT, **config) or "")


def test_only_what_m_pesa_takes_once_is_repeated() -> None:
    assert {name: one.repeat_safe for name, one in Mpesa.operations().items()} == {
        "mpesa.c2b_simulate": False,
        "mpesa.register_urls": False,
        "payment.initiate": False,
        "payment.payout": True,
        "payment.refund": False,
        "payment.verify": True,
    }


# The config


@pytest.mark.parametrize(
    ("config", "host"),
    [
        ({"shortcode": "174379"}, "https://sandbox.safaricom.co.ke"),
        ({"shortcode": "600123"}, "https://api.safaricom.co.ke"),
        ({"shortcode": "174379", "base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_host_follows_from_the_shortcode_unless_it_is_set(
    config: dict[str, str], host: str
) -> None:
    made = Mpesa.Config.model_validate({"consumer_key": KEY, "consumer_secret": SECRET} | config)

    assert made.base_url == host


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"shortcode": "17437"}, None),
        ({"shortcode": "1743"}, "shortcode"),
        ({"consumer_key": ""}, "is empty"),
        ({"passkey": "with space"}, "none has"),
        ({"till": "x"}, "till"),
        ({"initiator_password": "Safe123"}, "go together"),
        ({"certificate": "-----BEGIN"}, "no X.509 certificate"),
        ({"callback_url": "https://mpesa.school.example/hooks/1"}, "holds 'mpesa'"),
        ({"callback_url": "https://hooks.school.example/"}, "callback_url"),
        ({"validation_url": "ftp://app"}, "validation_url"),
        ({"validation_timeout_s": 8}, "validation_timeout_s"),
        ({"validation_default": "maybe"}, "validation_default"),
    ],
)
def test_config_that_cannot_work_is_refused_in_words(
    config: dict[str, Any], complaint: str | None
) -> None:
    if complaint is None:
        Mpesa.Config.model_validate(CONFIG | config)
        return
    with pytest.raises(pydantic.ValidationError, match=complaint):
        Mpesa.Config.model_validate(CONFIG | config)


def test_basic_authorisation_is_that_of_the_published_example() -> None:
    assert base64.b64encode(f"{KEY}:{SECRET}".encode()) == b"ZGVtb0tleTpkZW1vU2VjcmV0"


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("", "set [webhooks] public_url"),
        ("https://mpesa.school.example/hooks/6300", "'mpesa'"),
        ("https://hooks.example/sql/hooks/6300", "'sql'"),
        ("https://abc.ngrok.app/hooks/6300", "'ngrok'"),
    ],
)
async def test_address_that_m_pesa_would_refuse_is_not_sent(
    mpesa: Line, address: str, complaint: str
) -> None:
    mpesa.address = address

    made = await mpesa.send("payment.initiate", PAYMENT)

    assert complaint in getattr(made.outcome, "detail", "")
    assert mpesa.fake.requests == []


async def test_address_must_be_https_in_production() -> None:
    made = provider(shortcode="600123")
    url = made.config.base_url
    async with prepare_client(base_url=url, timeout_s=5) as client:
        production = Line(FakeDaraja(), client, made)
        production.address = "http://hooks.school.example/hooks/6300"

        sent = await production.send("payment.initiate", PAYMENT)

    assert "https" in getattr(sent.outcome, "detail", "")
    assert not sent.sent
