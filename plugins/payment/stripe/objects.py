"""What Stripe's objects say about a payment: checkout sessions, payment intents and refunds.

Their schema follows the API version of whoever sends them, so nothing in them is relied on to be
there, or to be of one type.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from integrationd.sdk import Done, Finding, Money, Pending, Refused, to_rfc3339

from .amounts import of_minor

Object: TypeAlias = Mapping[str, Any]
State: TypeAlias = Literal["open", "paid", "refused"]

# Where our reference stands in the metadata of everything that we make.
REFERENCE = "integrationd_reference"

# Asked for with a payment, so that one answer tells all of it.
INTENT_WITH = {"expand": ["latest_charge.balance_transaction"]}
SESSION_WITH = {"expand": ["payment_intent.latest_charge.balance_transaction"]}

_UNTRIED = ("requires_payment_method", "requires_confirmation", "requires_action")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an object says.

    Attributes:
        id: Its id.
        state: What became of it.
        result: Its part of the result.
        money: How much it is about.
        reason: Why it was refused, as a machine word.
        detail: Why it was refused, in a sentence.
        closable_since_s: When it was made, Unix seconds, by Stripe's clock; only while nobody has
            paid, so that it can still be closed.
    """

    id: str
    state: State
    result: dict[str, str]
    money: Money | None = None
    reason: str = "refused"
    detail: str = ""
    closable_since_s: int | None = None

    @property
    def finding(self) -> Finding:
        """The reading as the answer to what became of the call."""
        match self.state:
            case "paid":
                return Done(result=self.result, reference=self.id or None, paid=self.money)
            case "refused":
                return Refused(reason=self.reason, detail=self.detail)
            case _:
                return Pending(result=self.result)


def read(thing: Object) -> Reading | None:
    """Read whatever object was asked for; None where it is none of a payment."""
    match thing.get("object"):
        case "checkout.session":
            return read_session(thing)
        case "payment_intent":
            return read_intent(thing)
        case "refund":
            return read_refund(thing)
        case _:
            return None


def read_session(session: Object) -> Reading:
    """Read a checkout session; it is paid when its payment is, not when the customer is done."""
    money = of_minor(session.get("amount_total"), session.get("currency"))
    intent = session.get("payment_intent")
    details = intent if isinstance(intent, dict) else {}
    result = _told(
        provider_reference=session.get("id"),
        reference=reference_of(session) or session.get("client_reference_id"),
        receipt=id_of(intent),
        **_amount(money),
    )
    status, payment = session.get("status"), session.get("payment_status")
    if payment in ("paid", "no_payment_required"):
        payer = _payer(session.get("customer_details"))
        paid = result | _told(status="paid", payer=payer) | _of_charge(details, money)
        return Reading(id=_id(session), state="paid", result=paid, money=money)
    if status == "expired":
        return _refused(session, result, "expired", "The payment page was closed unpaid.")
    if status == "complete" and details.get("status") in ("requires_payment_method", "canceled"):
        return _refused(session, result, *_why(details))
    return Reading(
        id=_id(session),
        state="open",
        result=result | _told(status="pending", redirect_url=session.get("url")),
        money=money,
        closable_since_s=_made_at(session) if status == "open" else None,
    )


def read_intent(intent: Object) -> Reading:
    """Read a payment intent; one whose payment failed can be tried again, so it is open."""
    status = intent.get("status")
    received = intent.get("amount_received") if status == "succeeded" else intent.get("amount")
    money = of_minor(received, intent.get("currency"))
    result = _told(
        provider_reference=intent.get("id"), reference=reference_of(intent), **_amount(money)
    )
    if status == "succeeded":
        payer = intent.get("receipt_email")
        paid = result | _told(status="paid", receipt=intent.get("id"), payer=payer)
        paid |= _of_charge(intent, money)
        return Reading(id=_id(intent), state="paid", result=paid, money=money)
    if status == "canceled":
        return _refused(intent, result, *_why(intent))
    return Reading(
        id=_id(intent),
        state="open",
        result=result | _told(status="pending", client_secret=intent.get("client_secret")),
        money=money,
        closable_since_s=_made_at(intent) if status in _UNTRIED else None,
    )


def read_refund(refund: Object) -> Reading:
    """Read a refund."""
    money = of_minor(refund.get("amount"), refund.get("currency"))
    status = refund.get("status")
    result = _told(
        provider_reference=refund.get("id"),
        reference=reference_of(refund),
        receipt=id_of(refund.get("payment_intent")) or id_of(refund.get("charge")),
        **_amount(money),
    )
    if status == "succeeded":
        done = result | {"status": "refunded"}
        return Reading(id=_id(refund), state="paid", result=done, money=money)
    if status in ("failed", "canceled"):
        reason = refund.get("failure_reason") or status
        detail = f"Stripe says that the refund was {status}: {reason}."
        return _refused(refund, result, str(reason), detail)
    pending = result | {"status": "pending"}
    return Reading(id=_id(refund), state="open", result=pending, money=money)


def reference_of(thing: Object) -> str | None:
    """Return our reference, which stands in the metadata of everything that we made."""
    metadata = thing.get("metadata")
    ours = metadata.get(REFERENCE) if isinstance(metadata, dict) else None
    return ours if isinstance(ours, str) and ours else None


def id_of(value: object) -> str | None:
    """Return the id of something that is told as its id or, expanded, as the whole of it."""
    told = value.get("id") if isinstance(value, dict) else value
    return told if isinstance(told, str) and told else None


def time_of(seconds: object) -> str | None:
    """Return Unix seconds as RFC 3339."""
    try:
        return to_rfc3339(seconds * 1000) if isinstance(seconds, int) else None
    except (OverflowError, ValueError):
        return None


def _made_at(thing: Object) -> int | None:
    created = thing.get("created")
    return created if isinstance(created, int) else None


def _id(thing: Object) -> str:
    return id_of(thing.get("id")) or ""


def _refused(thing: Object, result: dict[str, str], reason: str, detail: str) -> Reading:
    told = result | {"status": "failed"}
    return Reading(id=_id(thing), state="refused", result=told, reason=reason, detail=detail)


def _why(intent: Object) -> tuple[str, str]:
    """Say why a payment intent will not be paid."""
    error = intent.get("last_payment_error")
    told = error if isinstance(error, dict) else {}
    if intent.get("status") == "canceled":
        reason = intent.get("cancellation_reason") or "no reason given"
        return "canceled", f"The payment was canceled at Stripe: {reason}."
    word = told.get("decline_code") or told.get("code") or "payment_failed"
    return str(word), f"The payment failed: {told.get('message') or word}"


def _of_charge(intent: Object, money: Money | None) -> dict[str, str]:
    """Return what only the charge knows, where it was told whole: when, whose, and the fees."""
    charge = intent.get("latest_charge")
    if not isinstance(charge, dict):
        return {}
    told = _told(
        status="refunded" if charge.get("refunded") is True else None,
        paid_at=time_of(charge.get("created")),
        payer=_payer(charge.get("billing_details")),
    )
    entry = charge.get("balance_transaction")
    entry = entry if isinstance(entry, dict) else {}
    fees = of_minor(entry.get("fee"), entry.get("currency"))
    # In another currency they would be taken for one of the payment's.
    if fees is not None and money is not None and fees.currency == money.currency:
        told["fees"] = fees.text
    return told


def _payer(details: object) -> str | None:
    if not isinstance(details, dict):
        return None
    known = (details.get(name) for name in ("email", "name", "phone"))
    return next((value for value in known if isinstance(value, str) and value), None)


def _amount(money: Money | None) -> dict[str, Any]:
    return {} if money is None else {"amount": money.text, "currency": money.currency}


def _told(**members: Any) -> dict[str, str]:
    return {name: value for name, value in members.items() if isinstance(value, str) and value}
