"""What Stripe's events tell, as notices about calls or as events of their own.

A call is found by our reference, which stands in the metadata of everything that we make. What
carries none was made by somebody else on the same account: of that only money that came in or went
back, and what concerns subscriptions, is of interest.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from integrationd.sdk import Done, Finding, Notice, Payment, Pending, Refused, UnreadableError

from .amounts import of_minor
from .objects import (
    Object,
    id_of,
    read_intent,
    read_refund,
    read_session,
    reference_of,
    time_of,
)

Reader: TypeAlias = Callable[["Event"], Notice | None]


class Event:
    """An event of Stripe's that has the shape of one.

    Args:
        body: The webhook's body.

    Attributes:
        id: Its id; the same for every delivery.
        type: What happened.
        account: The connected account that it happened in, if it was in one.
        livemode: Whether it is about real money; None where it does not say.
        created: When, Unix seconds.
        thing: What it happened to, as it was then.

    Raises:
        UnreadableError: It is none.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        if str(body.get("object")).startswith("v2."):
            raise UnreadableError(
                "it is a thin event; give the endpoint in Stripe the payload style 'snapshot'"
            )
        data = body.get("data")
        thing = data.get("object") if isinstance(data, dict) else None
        event_id, kind = body.get("id"), body.get("type")
        if not isinstance(event_id, str) or not isinstance(kind, str) or not event_id:
            raise UnreadableError("the body is no event: it has no id or no type")
        if not isinstance(thing, dict):
            raise UnreadableError(f"{kind} has no data.object")
        self.id, self.type, self.thing = event_id, kind, thing
        self.account = id_of(body.get("account"))
        self.livemode = body.get("livemode")
        self.created = body.get("created")

    def notice(self, finding: Finding) -> Notice | None:
        """Return what it means for the call that made the object; None where none of ours did."""
        ours = reference_of(self.thing)
        if ours is None:
            return None
        return Notice(
            event_id=self.id,
            type=self.type,
            our_reference=ours,
            provider_reference=id_of(self.thing),
            finding=finding,
        )

    def tell(self, event: str, data: Mapping[str, Any]) -> Notice:
        """Return an event of its own, whoever caused it."""
        told = {name: value for name, value in data.items() if isinstance(value, str | bool | dict)}
        return Notice(event_id=self.id, type=self.type, event=event, data=told)


def notices_of(event: Event) -> Sequence[Notice]:
    """Say what an event tells; nothing where it does not concern us."""
    reader = _READERS.get(event.type)
    notice = reader(event) if reader is not None else None
    return [] if notice is None else [notice]


def _session(event: Event) -> Notice | None:
    return event.notice(_dated(event, read_session(event.thing).finding))


def _session_failed(event: Event) -> Notice | None:
    # The session itself looks like one whose payment is still on its way.
    detail = "The bank did not pay what the customer had agreed to on the payment page."
    return event.notice(Refused(reason="async_payment_failed", detail=detail))


def _intent_succeeded(event: Event) -> Notice | None:
    reading = read_intent(event.thing)
    finding = _dated(event, reading.finding)
    if not isinstance(finding, Done):
        return event.notice(finding)
    # The call may know its payment by the id of a checkout session, and keeps that.
    told = {name: value for name, value in finding.result.items() if name != "provider_reference"}
    noticed = event.notice(Done(result=told, paid=finding.paid))
    if noticed is not None or finding.paid is None:
        return noticed
    payment = Payment(
        receipt=reading.id,
        money=finding.paid,
        payer=reading.result.get("payer", ""),
        paid_at=time_of(event.created) or "",
        more={
            "description": event.thing.get("description"),
            "customer_id": id_of(event.thing.get("customer")),
            "metadata": _metadata(event.thing),
        },
    )
    return event.tell("payment.received", payment.as_data())


def _intent_failed(event: Event) -> Notice | None:
    # The customer may try another card, so that it is not over; the daemon asks how it stands.
    return event.notice(Pending(result={}))


def _intent_canceled(event: Event) -> Notice | None:
    return event.notice(read_intent(event.thing).finding)


def _refund(event: Event) -> Notice | None:
    reading = read_refund(event.thing)
    noticed = event.notice(reading.finding)
    if noticed is not None or reading.state != "refused":
        return noticed
    return event.tell("payment.refund_failed", reading.result | {"reason": reading.reason})


def _charge_refunded(event: Event) -> Notice | None:
    charge = event.thing
    back = of_minor(charge.get("amount_refunded"), charge.get("currency"))
    if back is None:
        return None
    return event.tell(
        "payment.refunded",
        {
            "receipt": id_of(charge.get("payment_intent")) or id_of(charge),
            "reference": reference_of(charge),
            "refunded": back.text,
            "currency": back.currency,
            "is_whole": charge.get("refunded") is True,
        },
    )


def _invoice(event: Event) -> Notice | None:
    invoice = event.thing
    is_paid = event.type == "invoice.paid"
    amount = invoice.get("amount_paid" if is_paid else "amount_due")
    money = of_minor(amount, invoice.get("currency"))
    return event.tell(
        "billing.invoice_paid" if is_paid else "billing.invoice_failed",
        {
            "invoice": id_of(invoice),
            "number": invoice.get("number"),
            "subscription": _subscription_of(invoice),
            "customer_id": id_of(invoice.get("customer")),
            "email": invoice.get("customer_email"),
            "amount": money.text if money else None,
            "currency": money.currency if money else None,
            "url": invoice.get("hosted_invoice_url"),
            "next_attempt_at": time_of(invoice.get("next_payment_attempt")),
        },
    )


def _subscription(event: Event) -> Notice | None:
    subscription = event.thing
    is_over = event.type == "customer.subscription.deleted"
    return event.tell(
        "billing.subscription_ended" if is_over else "billing.subscription_changed",
        {
            "subscription": id_of(subscription),
            "customer_id": id_of(subscription.get("customer")),
            "status": subscription.get("status"),
            "ends_at": ends_at(subscription),
            "metadata": _metadata(subscription),
        },
    )


def ends_at(subscription: Object) -> str | None:
    """Return when a subscription ended or will, RFC 3339; None where it goes on."""
    return time_of(subscription.get("ended_at")) or time_of(subscription.get("cancel_at"))


def _dated(event: Event, finding: Finding) -> Finding:
    """Add when it was paid, which the object itself does not tell."""
    at = time_of(event.created)
    if not isinstance(finding, Done) or at is None:
        return finding
    return Done(
        result={"paid_at": at, **finding.result}, reference=finding.reference, paid=finding.paid
    )


def _metadata(thing: Object) -> dict[str, str] | None:
    told = thing.get("metadata")
    if not isinstance(told, dict):
        return None
    return {name: value for name, value in told.items() if isinstance(value, str)} or None


def _subscription_of(invoice: Object) -> str | None:
    """Return an invoice's subscription, which newer API versions tell further down."""
    parent = invoice.get("parent")
    details = parent.get("subscription_details") if isinstance(parent, dict) else None
    newer = details.get("subscription") if isinstance(details, dict) else None
    return id_of(newer) or id_of(invoice.get("subscription"))


_READERS: Mapping[str, Reader] = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "checkout.session.async_payment_failed": _session_failed,
    "checkout.session.expired": _session,
    "payment_intent.succeeded": _intent_succeeded,
    "payment_intent.payment_failed": _intent_failed,
    "payment_intent.canceled": _intent_canceled,
    "charge.refunded": _charge_refunded,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "invoice.paid": _invoice,
    "invoice.payment_failed": _invoice,
    "customer.subscription.created": _subscription,
    "customer.subscription.updated": _subscription,
    "customer.subscription.deleted": _subscription,
}
