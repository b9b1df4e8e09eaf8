"""M-Pesa: what is verified for a person, who may move money, and with which credential."""

import base64
import datetime as dt
from collections import deque
from typing import Any

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from tests.plugins.mpesa_callbacks import Transaction, result_body, status_details
from tests.plugins.mpesa_provider import (
    CONFIG,
    MODULE,
    MSISDN,
    PAYMENT,
    PAYOUT,
    line,
    provider,
    unsupported,
    webhook,
)
from tests.plugins.mpesa_server import PUSH_QUERY, STATUS, error

from integrationd.sdk import Accepted, Done, Finding, Pending, Refused, Rejected, Uncertain

SEAL = MODULE.notices.seal("demoSecret")


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


# Verification


async def test_receipt_is_verified_by_an_answer_that_comes_later() -> None:
    async with line() as mpesa:
        await mpesa.send("payment.initiate", PAYMENT)
        mpesa.told()
        [receipt] = mpesa.fake.transactions

        made = await mpesa.send("payment.verify", {"provider_reference": receipt})
        told = mpesa.told()

    assert made.outcome == Accepted()
    assert isinstance(told.finding, Done)
    assert (told.finding.result["status"], told.finding.result["receipt"]) == ("paid", receipt)


@pytest.mark.parametrize("payload", [{"reference": "pay-1"}, {"provider_reference": "pay-1"}])
async def test_payout_is_verified_by_its_reference(payload: dict[str, str]) -> None:
    async with line() as mpesa:
        await mpesa.send("payment.payout", PAYOUT | {"reference": "pay-1"})
        mpesa.told()

        await mpesa.send("payment.verify", payload)

        assert isinstance(mpesa.told().finding, Done)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("Completed", "paid"),
        ("Failed", "failed"),
        ("Declined", "failed"),
        ("Reversed", "refunded"),
        ("Authorized", "pending"),
    ],
)
def test_verified_status_is_told_in_the_contracts_words(status: str, word: str) -> None:
    found = answer("verified", details(TransactionStatus=status))

    assert isinstance(found, Done)
    assert found.result["status"] == word


def test_what_cannot_be_verified_is_refused() -> None:
    found = answer("verified", {}, "R000002")

    assert isinstance(found, Refused)
    assert found.reason == "unknown_payment"


async def test_lost_answer_is_asked_for_again() -> None:
    async with line() as mpesa:
        found = await mpesa.ask("payment.verify", {"provider_reference": "SAB12CD345"}, None)

        assert found == Pending()
        assert len(mpesa.sent_to(STATUS)) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(400, "400.002.02", "Bad Request - Invalid CheckoutRequestID"), Rejected),
        ((200, {"ResponseCode": "0", "ResultCode": "26"}), Uncertain),
        ((503, b""), Uncertain),
    ],
)
async def test_prompt_that_cannot_be_verified_is_not_guessed_at(reply: Any, kind: type) -> None:
    async with line() as mpesa:
        mpesa.fake.replies[PUSH_QUERY] = deque([reply])

        made = await mpesa.send("payment.verify", {"provider_reference": "ws_CO_1"})

    assert isinstance(made.outcome, kind)


# What is refused before it is accepted, and the credential


@pytest.mark.parametrize(
    ("operation", "payload", "complaint"),
    [
        ("payment.payout", PAYOUT | {"amount": "9"}, "10 to 250000"),
        ("payment.payout", PAYOUT | {"amount": "250001"}, "10 to 250000"),
        ("payment.payout", PAYOUT | {"amount": "10.5"}, "whole"),
        ("payment.payout", PAYOUT | {"currency": "NGN"}, "KES only"),
        ("payment.payout", PAYOUT | {"phone": "+2348030000222"}, "Kenyan"),
        ("payment.refund", {"payment": "SAB12CD345"}, "how much"),
        ("payment.refund", {"payment": "ws_CO_1"}, "receipt number"),
    ],
)
def test_transfer_that_cannot_be_made_is_refused_in_words(
    operation: str, payload: dict[str, Any], complaint: str
) -> None:
    assert complaint in (unsupported(operation, payload) or "")


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("payment.payout", PAYOUT),
        ("payment.refund", {"payment": "SAB12CD345", "amount": "1", "currency": "KES"}),
        ("payment.verify", {"provider_reference": "SAB12CD345"}),
    ],
)
def test_connection_without_an_initiator_moves_no_money(
    operation: str, payload: dict[str, Any]
) -> None:
    assert unsupported(operation, payload) is None
    assert "initiator_name" in (unsupported(operation, payload, initiator_name=None) or "")


def test_bank_account_is_no_way_to_be_paid() -> None:
    account = {"number": "12345678", "bank_code": "01", "name": "Ann"}
    payload = {"amount": "100", "currency": "KES", "account": account}

    assert "phones only" in (unsupported("payment.payout", payload) or "")


def certificate_of(key: Any) -> str:
    """Return a self-signed certificate as PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "daraja.example")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def with_password(**changes: Any) -> dict[str, Any]:
    config = {name: value for name, value in CONFIG.items() if name != "security_credential"}
    return config | {"initiator_password": "Safaricom999!"} | changes


def test_credential_is_the_password_encrypted_for_the_certificate() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = MODULE.MpesaConfig.model_validate(with_password(certificate=certificate_of(key)))

    one, two = made.credential(), made.credential()

    assert made.may_move_money
    assert len(one) == 344
    assert one != two
    for credential in (one, two):
        plain = key.decrypt(base64.b64decode(credential), padding.PKCS1v15())
        assert plain == b"Safaricom999!"


def test_certificate_must_hold_an_rsa_key() -> None:
    pem = certificate_of(ec.generate_private_key(ec.SECP256R1()))

    with pytest.raises(pydantic.ValidationError, match="RSA"):
        MODULE.MpesaConfig.model_validate(with_password(certificate=pem))


def test_ready_made_credential_leaves_no_room_for_a_password() -> None:
    pem = certificate_of(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    with pytest.raises(pydantic.ValidationError, match="give security_credential, or"):
        MODULE.MpesaConfig.model_validate(
            with_password(certificate=pem, security_credential="ready-made")
        )


def test_nothing_can_be_made_of_nothing() -> None:
    made = MODULE.MpesaConfig.model_validate(CONFIG | {"security_credential": None})

    assert not made.may_move_money
    with pytest.raises(ValueError, match="neither"):
        made.credential()
