"""What M-Pesa is sent, and what it cannot be asked for."""

import base64
import datetime as dt
import re
from typing import Any, TypeAlias

from integrationd.sdk import Money, PaymentInitiate, PaymentPayout, PaymentRefund, PaymentVerify

from .config import SANDBOX, SANDBOX_SHORTCODE, MpesaConfig
from .wire import CURRENCY, EAST_AFRICA

Fields: TypeAlias = dict[str, Any]

MOST = 250_000
LEAST_PAYOUT = 10
CHECKOUT_PREFIX = "ws_CO_"

_MOBILE = re.compile(r"(?:\+?254|0)([17][0-9]{8})")
_ACCOUNT = re.compile(r"[A-Za-z0-9]{1,12}")
_RECEIPT = re.compile(r"[A-Z0-9]{8,12}")
_PROMPT_TEXT = 13
_REMARKS = 100
_COMMANDS = {
    "business": "BusinessPayment",
    "salary": "SalaryPayment",
    "promotion": "PromotionPayment",
}
_NO_INITIATOR = (
    "this connection may not move money: set initiator_name, and security_credential or "
    "initiator_password with certificate"
)


def msisdn(phone: str) -> str | None:
    """Return a Kenyan mobile number as M-Pesa wants it, 12 digits; None where it is none."""
    found = _MOBILE.fullmatch(phone)
    return f"254{found[1]}" if found else None


def is_receipt(text: str) -> bool:
    """Say whether a text is a receipt number."""
    return bool(_RECEIPT.fullmatch(text))


def timestamp(now_ms: int) -> str:
    """Return a time as in Nairobi, ``YYYYMMDDHHmmss``."""
    return dt.datetime.fromtimestamp(now_ms / 1000, EAST_AFRICA).strftime("%Y%m%d%H%M%S")


def password(shortcode: str, passkey: str, at: str) -> str:
    """Return the password of a prompt or of its query, which goes with the same timestamp."""
    return base64.b64encode(f"{shortcode}{passkey}{at}".encode()).decode()


def signed(config: MpesaConfig, now_ms: int) -> Fields:
    """Return the fields by which a shortcode shows that it is itself."""
    at = timestamp(now_ms)
    passkey = config.passkey.get_secret_value() if config.passkey else ""
    return {
        "BusinessShortCode": config.shortcode,
        "Password": password(config.shortcode, passkey, at),
        "Timestamp": at,
    }


def account_of(request: PaymentInitiate, reference: str) -> str:
    """Return what the customer sees as the account: the app's own, else from our reference."""
    return request.account or re.sub(r"[^A-Za-z0-9]", "", reference)[-12:]


def prompt(
    request: PaymentInitiate, config: MpesaConfig, reference: str, callback: str, now_ms: int
) -> Fields:
    """Return the fields that ask a customer to pay."""
    phone = msisdn(request.customer.phone or "")
    return signed(config, now_ms) | {
        "TransactionType": transaction_type(config),
        "Amount": whole(request.amount),
        "PartyA": phone,
        "PartyB": config.till or config.shortcode,
        "PhoneNumber": phone,
        "CallBackURL": callback,
        "AccountReference": account_of(request, reference),
        "TransactionDesc": (request.description or "Payment")[:_PROMPT_TEXT],
    }


def transaction_type(config: MpesaConfig) -> str:
    """Return what M-Pesa calls a payment to the paybill, or to the till."""
    return "CustomerBuyGoodsOnline" if config.till else "CustomerPayBillOnline"


def payout(
    request: PaymentPayout, config: MpesaConfig, reference: str, result: str, timeout: str
) -> Fields:
    """Return the fields of a payout, but for its credential; ``reference`` is its key."""
    return {
        "OriginatorConversationID": reference,
        "InitiatorName": config.initiator_name,
        "CommandID": _COMMANDS[request.purpose],
        "Amount": whole(request.amount),
        "PartyA": config.payout_shortcode or config.shortcode,
        "PartyB": msisdn(request.phone or ""),
        "Remarks": _remarks(request.description, "Payment"),
        "QueueTimeOutURL": timeout,
        "ResultURL": result,
        "Occassion": "",  # codespell:ignore occassion - the provider's spelling here
    }


def reversal(request: PaymentRefund, config: MpesaConfig, result: str, timeout: str) -> Fields:
    """Return the fields of a reversal, but for its credential."""
    return {
        "Initiator": config.initiator_name,
        "CommandID": "TransactionReversal",
        "TransactionID": request.payment,
        "Amount": whole(request.amount or "0"),
        "ReceiverParty": config.shortcode,
        # The provider's spelling; the right one is refused.
        "RecieverIdentifierType": "11",
        "ResultURL": result,
        "QueueTimeOutURL": timeout,
        "Remarks": _remarks(request.reason, "Refund"),
        "Occasion": "",
    }


def status(
    config: MpesaConfig, about: dict[str, str], party: str, result: str, timeout: str
) -> Fields:
    """Return the fields that ask for a transaction's status, but for its credential.

    Args:
        config: The connection's.
        about: ``TransactionID``, or ``OriginalConversationID``.
        party: The shortcode that took part in it.
        result: Where the answer is to come.
        timeout: Where to say that there is none.
    """
    return about | {
        "Initiator": config.initiator_name,
        "CommandID": "TransactionStatusQuery",
        "PartyA": party,
        "IdentifierType": "4",
        "ResultURL": result,
        "QueueTimeOutURL": timeout,
        "Remarks": "Status",
        "Occasion": "",
    }


def refusal_of_prompt(request: PaymentInitiate, config: MpesaConfig) -> str | None:
    """Say why a customer cannot be asked for this, or None."""
    if config.passkey is None:
        return "this connection may not ask customers: set the passkey of its shortcode"
    if config.base_url == SANDBOX and config.shortcode != SANDBOX_SHORTCODE:
        return f"the sandbox prompts for the shortcode {SANDBOX_SHORTCODE} only"
    if request.channel is not None:
        return "M-Pesa has one way to pay: leave channel out"
    if request.account is not None and not _ACCOUNT.fullmatch(request.account):
        return "account must be 1 to 12 letters and digits: the customer sees it in the prompt"
    return phone_refused(request.customer.phone, "customer.phone") or amount_refused(
        request.amount, request.currency, 1
    )


def refusal_of_payout(request: PaymentPayout, config: MpesaConfig) -> str | None:
    """Say why this cannot be paid out, or None."""
    if not config.may_move_money:
        return _NO_INITIATOR
    if request.account is not None:
        return "M-Pesa pays out to phones only: give phone instead of account"
    return phone_refused(request.phone, "phone") or amount_refused(
        request.amount, request.currency, LEAST_PAYOUT
    )


def refusal_of_refund(request: PaymentRefund, config: MpesaConfig) -> str | None:
    """Say why this cannot be given back, or None."""
    if not config.may_move_money:
        return _NO_INITIATOR
    if not is_receipt(request.payment):
        return "payment must be the receipt number of the payment, such as SAB12CD345"
    if request.amount is None or request.currency is None:
        return "M-Pesa must be told how much to reverse: give amount and currency"
    return amount_refused(request.amount, request.currency, 1)


def refusal_of_verify(request: PaymentVerify, config: MpesaConfig) -> str | None:
    """Say why this cannot be asked about, or None."""
    if (request.provider_reference or "").startswith(CHECKOUT_PREFIX):
        return None if config.passkey else "set the passkey of the shortcode to ask about a prompt"
    return None if config.may_move_money else _NO_INITIATOR


def phone_refused(phone: str | None, name: str) -> str | None:
    """Say why a phone cannot pay or be paid, or None."""
    if phone is None:
        return f"M-Pesa needs a phone: give {name}"
    if msisdn(phone) is None:
        return f"{name} must be a Kenyan mobile number: +2547 or +2541 and eight more digits"
    return None


def amount_refused(amount: str, currency: str, least: int) -> str | None:
    """Say why an amount cannot be moved, or None."""
    if currency != CURRENCY:
        return f"M-Pesa moves {CURRENCY} only, not {currency}"
    money = Money.of(amount, currency).amount
    if money != money.to_integral_value():
        return "M-Pesa moves whole shillings only: round the amount"
    if not least <= money <= MOST:
        return f"M-Pesa moves {least} to {MOST} shillings at once"
    return None


def whole(amount: str) -> int:
    """Return an amount of whole shillings."""
    return int(Money.of(amount, CURRENCY).amount)


def _remarks(text: str | None, default: str) -> str:
    return (text if text and len(text) > 1 else default)[:_REMARKS]
