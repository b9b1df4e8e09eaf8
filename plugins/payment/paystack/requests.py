"""What Paystack is asked for: the bodies of its requests, and what it cannot do."""

import re
from collections.abc import Mapping
from typing import Any

from integrationd.sdk import Money, PaymentInitiate, PaymentPayout, PaymentRefund

from .readings import CALL, CURRENCIES
from .wire import Json

CHANNELS = ("card", "bank", "ussd", "qr", "eft", "mobile_money", "bank_transfer")

# A transaction's reference or id; it becomes part of a path.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*")
_TRANSACTION_REFERENCE = re.compile(r"[A-Za-z0-9.=-]+")
_TRANSFER_REFERENCE = re.compile(r"[a-z0-9_-]+")

_BANKS: Mapping[str, str] = {"NGN": "nuban", "GHS": "ghipss", "KES": "kepss", "ZAR": "basa"}
_WALLETS: Mapping[str, tuple[str, ...]] = {"GHS": ("MTN", "ATL", "VOD"), "KES": ("MPESA",)}
_TILL = "MPTILL"
_KENYA = re.compile(r"\+254([17][0-9]{8})")


def why_not_initiate(request: PaymentInitiate) -> str | None:
    """Say why Paystack cannot ask for a payment; None where it can."""
    if request.customer.email is None:
        return "Paystack asks by e-mail address: give customer.email"
    if request.channel is not None and request.channel not in CHANNELS:
        return f"channel must be one of {', '.join(CHANNELS)}, not {request.channel!r}"
    if request.reference is not None and not _TRANSACTION_REFERENCE.fullmatch(request.reference):
        return "Paystack takes letters, digits and '-.=' in the reference of a payment"
    return _why_not_money(request.amount, request.currency)


def why_not_refund(request: PaymentRefund) -> str | None:
    """Say why Paystack cannot give a payment back; None where it can."""
    if not NAME.fullmatch(request.payment):
        return f"{request.payment!r} is neither the reference nor the id of a payment"
    if request.amount is None or request.currency is None:
        return None
    return _why_not_money(request.amount, request.currency)


def why_not_payout(request: PaymentPayout) -> str | None:
    """Say why Paystack cannot send money there; None where it can."""
    if request.currency not in _BANKS:
        return f"Paystack sends {', '.join(_BANKS)}, not {request.currency}"
    if request.reference is not None and not _TRANSFER_REFERENCE.fullmatch(request.reference):
        return "Paystack takes lower-case letters, digits and '-_' in the reference of a payout"
    why_not = None if request.phone is None else _why_not_wallet(request, request.phone)
    return why_not or _why_not_money(request.amount, request.currency)


def _why_not_wallet(request: PaymentPayout, phone: str) -> str | None:
    if request.currency != "KES":
        networks = _WALLETS.get(request.currency)
        if networks is None:
            return f"Paystack sends {request.currency} to bank accounts only: give account"
        return (
            "Paystack needs the wallet's network: give account with the national number and "
            f"as its bank_code one of {', '.join(networks)}"
        )
    if not _KENYA.fullmatch(phone):
        return f"{phone} is no M-Pesa number: it must be +2547... or +2541..."
    return None if request.name else "Paystack needs the name of whose wallet it is: give name"


def _why_not_money(amount: str, currency: str) -> str | None:
    if currency not in CURRENCIES:
        return f"Paystack takes {', '.join(CURRENCIES)}, not {currency}"
    try:
        minor_of(amount, currency)
    except ValueError as error:
        return str(error)
    return None


def minor_of(amount: str, currency: str) -> int:
    """Return an amount in hundredths, which is what Paystack counts in.

    Raises:
        ValueError: It has more than two decimals.
    """
    return Money.of(amount, currency).minor(decimals=2)


def initialize_body(
    request: PaymentInitiate, reference: str, call_id: str, settings: Mapping[str, Any]
) -> Json:
    """Return the body that makes a payment page."""
    customer = request.customer
    shown = {
        "Description": request.description,
        "Account": request.account,
        "Name": customer.name,
        "Phone": customer.phone,
    }
    fields = [
        {"display_name": name, "variable_name": name.lower(), "value": value}
        for name, value in shown.items()
        if value is not None
    ]
    metadata: Json = {**request.metadata, CALL: call_id}
    if fields:
        metadata["custom_fields"] = fields
    if request.cancel_url is not None:
        metadata["cancel_action"] = request.cancel_url
    return {
        **settings,
        "email": customer.email,
        "amount": minor_of(request.amount, request.currency),
        "currency": request.currency,
        "reference": reference,
        "callback_url": request.return_url or settings.get("callback_url"),
        "channels": [request.channel] if request.channel else None,
        "metadata": metadata,
    }


def recipient_body(request: PaymentPayout) -> Json:
    """Return the body that makes, or finds, the recipient of a payout."""
    if request.account is None:
        # As in Paystack's own sample: an M-Pesa number is written as Kenyans dial it.
        return {
            "type": "mobile_money",
            "name": request.name,
            "account_number": _KENYA.sub(r"0\1", request.phone or ""),
            "bank_code": "MPESA",
            "currency": request.currency,
        }
    bank = request.account.bank_code
    kind = _BANKS[request.currency]
    if bank in _WALLETS.get(request.currency, ()):
        kind = "mobile_money"
    elif bank == _TILL:
        kind = "mobile_money_business"
    return {
        "type": kind,
        "name": request.account.name,
        "account_number": request.account.number,
        "bank_code": bank,
        "currency": request.currency,
    }


def transfer_body(request: PaymentPayout, recipient: str, reference: str) -> Json:
    """Return the body that sends money."""
    return {
        "source": "balance",
        "amount": minor_of(request.amount, request.currency),
        "currency": request.currency,
        "recipient": recipient,
        "reference": reference,
        "reason": request.description,
    }


def refund_body(request: PaymentRefund, transaction_id: str, mark: str) -> Json:
    """Return the body that gives money back; the mark tells our refund from others."""
    amount = None
    if request.amount is not None and request.currency is not None:
        amount = minor_of(request.amount, request.currency)
    return {
        "transaction": transaction_id,
        "amount": amount,
        "currency": request.currency if amount is not None else None,
        "customer_note": request.reason,
        "merchant_note": " ".join(one for one in (request.reason, request.reference, mark) if one),
    }
