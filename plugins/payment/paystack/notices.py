"""What Paystack's webhooks tell, as notices about calls or as events of their own.

A charge or a transfer carries our reference. A refund carries only the reference of its payment, of
which there may be several, so it is an event of its own; our own refunds are asked about.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from integrationd.sdk import Money, Notice, Payment, Pending, UnreadableError

from .readings import (
    metadata_of,
    money_in,
    read_transaction,
    read_transfer,
    text_of,
    time_of,
)
from .wire import Json

Reader: TypeAlias = Callable[[str, Json], Notice | None]


def notices_of(body: Json) -> Sequence[Notice]:
    """Say what a webhook tells; nothing where it does not concern us.

    Raises:
        UnreadableError: It has not the shape of what it claims to be.
    """
    event, data = body.get("event"), body.get("data")
    if not isinstance(event, str) or not event:
        raise UnreadableError("the body names no event")
    reader = _READERS.get(event)
    if reader is None:
        return ()
    if not isinstance(data, dict):
        raise UnreadableError(f"{event} has no data")
    notice = reader(event, data)
    return () if notice is None else (notice,)


def _charge(event: str, data: Json) -> Notice:
    reading = read_transaction(data)
    paid = reading.money if reading.state == "done" else None
    return Notice(
        event_id=_id(event, data.get("id") or reading.id, reading.status),
        type=event,
        our_reference=reading.id,
        provider_reference=reading.id,
        # What is not called paid in so many words is asked about.
        finding=reading.finding if paid else Pending(),
        event="payment.received" if paid else None,
        data=_unasked(data, reading.id, paid) if paid else {},
    )


def _unasked(data: Json, reference: str, paid: Money) -> dict[str, Any]:
    """Return what an app needs to know of a payment that it did not ask for."""
    customer = _object(data.get("customer"))
    more = {
        "reference": reference,
        "channel": text_of(data.get("channel")),
        "customer_id": text_of(customer.get("customer_code")),
        "phone": text_of(customer.get("phone")),
        "plan": text_of(_object(data.get("plan")).get("plan_code")),
        "metadata": metadata_of(data) or None,
    }
    payment = Payment(
        receipt=text_of(data.get("id")) or reference,
        money=paid,
        payer=text_of(customer.get("email")) or "",
        paid_at=time_of(data.get("paid_at")) or time_of(data.get("paidAt")) or "",
        more=_known(more),
    )
    return payment.as_data()


def _transfer(event: str, data: Json) -> Notice:
    reading = read_transfer(data)
    reference = text_of(data.get("reference"))
    if reference is None:
        raise UnreadableError(f"{event} has no reference")
    is_said = reading.status == event.removeprefix("transfer.")
    return Notice(
        event_id=_id(event, reading.id, reading.status),
        type=event,
        our_reference=reference,
        provider_reference=reading.id,
        finding=reading.finding if is_said else Pending(),
    )


def _refund(event: str, data: Json) -> Notice:
    payment = text_of(data.get("transaction_reference"))
    if payment is None:
        raise UnreadableError(f"{event} has no transaction_reference")
    status = event.removeprefix("refund.")
    amount = data.get("amount")
    money = money_in(amount, data.get("currency"))
    refund = text_of(data.get("refund_reference"))
    told = {
        "reference": payment,
        "refund": refund,
        "refunded": money.text if money else None,
        "currency": money.currency if money else None,
        "payer": text_of(_object(data.get("customer")).get("email")),
    }
    return Notice(
        event_id=_id(event, payment, refund, text_of(amount)),
        type=event,
        event=_REFUNDS.get(status),
        data=_known(told),
    )


def _dispute(event: str, data: Json) -> Notice:
    transaction = _object(data.get("transaction"))
    money = money_in(data.get("refund_amount"), data.get("currency"))
    told = {
        "dispute": text_of(data.get("id")),
        "status": text_of(data.get("status")),
        "resolution": text_of(data.get("resolution")),
        "category": text_of(data.get("category")),
        "reference": text_of(transaction.get("reference")),
        "amount": money.text if money else None,
        "currency": money.currency if money else None,
        "due_at": time_of(data.get("dueAt")),
    }
    # A reminder has the status of the notice before it.
    return _own(event, told, ("dispute", "status", "due_at"))


def _subscription(event: str, data: Json) -> Notice:
    customer = _object(data.get("customer"))
    told = {
        "subscription": text_of(data.get("subscription_code")),
        "customer_id": text_of(customer.get("customer_code")),
        "email": text_of(customer.get("email")),
        "plan": text_of(_object(data.get("plan")).get("plan_code")),
        "status": text_of(data.get("status")),
        "next_payment_at": time_of(data.get("next_payment_date")),
    }
    return _own(event, told, ("subscription", "status", "next_payment_at"))


def _invoice(event: str, data: Json) -> Notice | None:
    is_paid = data.get("paid") is True or data.get("paid") == 1
    if not is_paid and event != "invoice.payment_failed":
        return None
    transaction = _object(data.get("transaction"))
    subscription, customer = _object(data.get("subscription")), _object(data.get("customer"))
    money = money_in(data.get("amount"), transaction.get("currency"))
    told = {
        "invoice": text_of(data.get("invoice_code")),
        "subscription": text_of(subscription.get("subscription_code")),
        "customer_id": text_of(customer.get("customer_code")),
        "email": text_of(customer.get("email")),
        "reference": text_of(transaction.get("reference")),
        "amount": money.text if money else None,
        "currency": money.currency if money else None,
        "paid_at": time_of(data.get("paid_at")),
        "next_attempt_at": None if is_paid else time_of(subscription.get("next_payment_date")),
    }
    # Being made and being brought up to date both tell that it is paid: once is enough.
    kind = "invoice.paid" if is_paid else event
    return _own(kind, told, ("invoice", "next_attempt_at"))


def _own(kind: str, told: Mapping[str, str | None], names: Sequence[str]) -> Notice:
    """Return an event of its own; those that agree in what is named are copies of one."""
    if told[names[0]] is None:
        raise UnreadableError(f"{kind} does not say which {names[0]} it is about")
    return Notice(
        event_id=_id(kind, *(told[name] for name in names)),
        type=kind,
        event=_OWN[kind],
        data=_known(told),
    )


def _id(event: str, *parts: object) -> str:
    """Return what copies of a webhook have in common; Paystack gives them no id."""
    return ":".join([event, *(text_of(part) or "" for part in parts)])


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _known(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


_REFUNDS: Mapping[str, str] = {
    "processed": "payment.refunded",
    "failed": "payment.refund_failed",
    "needs-attention": "payment.refund_needs_attention",
}
_OWN: Mapping[str, str] = {
    "charge.dispute.create": "payment.disputed",
    "charge.dispute.remind": "payment.dispute_due",
    "charge.dispute.resolve": "payment.dispute_resolved",
    "invoice.paid": "billing.invoice_paid",
    "invoice.payment_failed": "billing.invoice_failed",
    "subscription.create": "billing.subscription_changed",
    "subscription.not_renew": "billing.subscription_changed",
    "subscription.disable": "billing.subscription_ended",
}
_READERS: Mapping[str, Reader] = {
    "charge.success": _charge,
    "charge.dispute.create": _dispute,
    "charge.dispute.remind": _dispute,
    "charge.dispute.resolve": _dispute,
    "transfer.success": _transfer,
    "transfer.failed": _transfer,
    "transfer.reversed": _transfer,
    "refund.pending": _refund,
    "refund.processing": _refund,
    "refund.processed": _refund,
    "refund.failed": _refund,
    "refund.needs-attention": _refund,
    "subscription.create": _subscription,
    "subscription.not_renew": _subscription,
    "subscription.disable": _subscription,
    "invoice.create": _invoice,
    "invoice.update": _invoice,
    "invoice.payment_failed": _invoice,
}
