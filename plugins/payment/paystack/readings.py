"""What Paystack's transactions, transfers and refunds say, whether asked for or told.

Nothing in them is of a type to rely on: amounts come as numbers and as texts, ids as either, and
``metadata`` is an object, its JSON as a text, an empty text, 0 or null.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from integrationd.sdk import Done, Finding, Money, Pending, Refused, UnreadableError

from .wire import Json

State: TypeAlias = Literal["done", "open", "refused"]

# The metadata that says which call a transaction was made for.
CALL = "integrationd_call"

# All of them have hundredths at Paystack.
CURRENCIES = ("NGN", "GHS", "KES", "ZAR", "USD")

_MOST_MINOR = 10**15
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

_TRANSACTIONS: Mapping[str, tuple[State, str, str]] = {
    "success": ("done", "paid", ""),
    "failed": ("refused", "failed", "The payment failed"),
    "reversed": (
        "refused",
        "refunded",
        "The payment was reversed: the customer has the money back",
    ),
}
_TRANSFERS: Mapping[str, tuple[State, str, str]] = {
    "success": ("done", "paid", ""),
    "failed": ("refused", "failed", "The transfer failed"),
    "reversed": (
        "refused",
        "failed",
        "The transfer was reversed: the money is back in the balance",
    ),
    "blocked": ("refused", "failed", "Paystack blocked the transfer"),
    "rejected": ("refused", "failed", "The transfer was rejected"),
    "abandoned": ("refused", "failed", "The transfer was not confirmed with its OTP in time"),
}
_REFUNDS: Mapping[str, tuple[State, str, str]] = {
    "processed": ("done", "refunded", ""),
    "failed": ("refused", "failed", "The refund failed; the money is back in the balance"),
}
_OPEN: tuple[State, str, str] = ("open", "pending", "")
_INSTRUCTIONS: Mapping[str, str] = {
    "otp": (
        "Paystack waits for an OTP: confirm the transfer in its dashboard within 30 minutes. "
        "To send without, disable OTP under Settings, Preferences."
    ),
    "needs-attention": (
        "Paystack needs the customer's bank account to go on: give it in the dashboard, under "
        "Refunds."
    ),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a transaction, a transfer or a refund stands.

    Attributes:
        id: By what Paystack is asked about it: a reference, ``TRF_...``, or a refund's number.
        status: As Paystack names it.
        state: What that means.
        result: What the contract promises.
        money: How much it is about; known where it is done.
        why: Where it is refused, why.
    """

    id: str
    status: str
    state: State
    result: Mapping[str, str]
    money: Money | None
    why: str

    @property
    def finding(self) -> Finding:
        """What it means for the call that asked for it."""
        match self.state:
            case "done":
                return Done(result=self.result, reference=self.id, paid=self.money)
            case "refused":
                return Refused(reason=self.status, detail=self.why)
            case "open":
                return Pending(result=self.result)


def read_transaction(data: Json) -> Reading:
    """Read a payment.

    Raises:
        UnreadableError: It has no reference, or is said to be paid without saying how much.
    """
    reference = text_of(data.get("reference"))
    customer, currency = data.get("customer"), data.get("currency")
    fees = money_in(data.get("fees"), currency)
    return _reading(
        data,
        _TRANSACTIONS,
        reference,
        reference=reference,
        receipt=text_of(data.get("id")),
        fees=fees.text if fees else None,
        paid_at=time_of(data.get("paid_at")) or time_of(data.get("paidAt")),
        payer=text_of(customer.get("email")) if isinstance(customer, dict) else None,
    )


def read_transfer(data: Json) -> Reading:
    """Read a transfer.

    Raises:
        UnreadableError: It has no code, or is said to be paid without saying how much.
    """
    code = text_of(data.get("transfer_code"))
    fees = money_in(data.get("fee_charged"), data.get("currency"))
    return _reading(
        data,
        _TRANSFERS,
        code,
        reference=text_of(data.get("reference")),
        receipt=code,
        fees=fees.text if fees else None,
        paid_at=time_of(data.get("transferred_at")),
    )


def read_refund(data: Json) -> Reading:
    """Read a refund.

    Raises:
        UnreadableError: It has no id, or is said to be processed without saying how much.
    """
    return _reading(data, _REFUNDS, text_of(data.get("id")))


def _reading(
    data: Json,
    states: Mapping[str, tuple[State, str, str]],
    thing_id: str | None,
    **told: str | None,
) -> Reading:
    status = text_of(data.get("status")) or ""
    state, ours, why = states.get(status, _OPEN)
    money = money_in(data.get("amount"), data.get("currency"))
    if thing_id is None:
        raise UnreadableError("it does not say what it is about")
    if state == "done" and money is None:
        raise UnreadableError("it does not say how much money it is about")
    if state != "done":
        told = {name: told.get(name) for name in ("reference", "payer")}
    said = text_of(data.get("gateway_response"))
    found = {
        "status": ours,
        "provider_reference": thing_id,
        "instructions": _INSTRUCTIONS.get(status),
        "amount": money.text if money else None,
        "currency": money.currency if money else None,
        **told,
    }
    return Reading(
        id=thing_id,
        status=status,
        state=state,
        result={name: value for name, value in found.items() if value is not None},
        money=money,
        why=f"{why}: {said}." if said else f"{why}.",
    )


def money_in(amount: Any, currency: Any) -> Money | None:
    """Return an amount in minor units as money; None where it is none."""
    if isinstance(amount, float) and amount.is_integer():
        amount = int(amount)
    if isinstance(amount, str) and amount.isascii() and amount.isdigit() and len(amount) < 17:
        amount = int(amount)
    is_whole = isinstance(amount, int) and not isinstance(amount, bool)
    if not is_whole or not 0 <= amount <= _MOST_MINOR or currency not in CURRENCIES:
        return None
    return Money.of_minor(amount, currency, decimals=2)


def text_of(value: Any) -> str | None:
    """Return a text, or a whole number as one; None for anything else and for an empty text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def time_of(value: Any) -> str | None:
    """Return a time, RFC 3339; None where it is none."""
    return value if isinstance(value, str) and _TIME.fullmatch(value) else None


def metadata_of(data: Json) -> dict[str, str]:
    """Return the metadata that is text, whatever shape the rest has."""
    given = data.get("metadata")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(given, dict):
        return {}
    return {str(name): one for name, one in given.items() if isinstance(one, str)}
