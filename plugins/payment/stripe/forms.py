"""What Stripe is asked for, as the parameters of its forms."""

import re
from collections.abc import Mapping
from typing import Any

from integrationd.sdk import BillingCustomer, Money, PaymentInitiate, PaymentRefund

from .amounts import to_minor
from .objects import REFERENCE

CHANNELS = ("checkout", "intent")
REFUND_REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer"})

# An id is part of an address, so that it may hold nothing that leads elsewhere.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")


def session_form(
    request: PaymentInitiate, reference: str, success_url: str | None, cancel_url: str | None
) -> dict[str, Any]:
    """Return what a payment page is made from.

    It is the same on every attempt, or else Stripe would refuse the key: so it holds no time at
    which the page closes.
    """
    metadata = _metadata(request, reference)
    customer = request.customer
    return {
        "mode": "payment",
        "success_url": request.return_url or success_url,
        "cancel_url": request.cancel_url or cancel_url,
        "client_reference_id": reference,
        "customer": customer.id,
        "customer_email": None if customer.id else customer.email,
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.currency.lower(),
                    "unit_amount": to_minor(Money.of(request.amount, request.currency)),
                    "product_data": {
                        "name": request.description or f"Payment {reference}",
                        "description": request.account,
                    },
                },
            }
        ],
        "metadata": metadata,
        # What is known of the page does not flow to its payment by itself.
        "payment_intent_data": {"description": request.description, "metadata": metadata},
    }


def intent_form(request: PaymentInitiate, reference: str) -> dict[str, Any]:
    """Return what a payment intent is made from."""
    return {
        "amount": to_minor(Money.of(request.amount, request.currency)),
        "currency": request.currency.lower(),
        "automatic_payment_methods": {"enabled": True},
        "customer": request.customer.id,
        "receipt_email": request.customer.email,
        "description": request.description,
        "metadata": _metadata(request, reference),
    }


def refund_form(
    request: PaymentRefund, payment: Mapping[str, str], reference: str
) -> dict[str, Any]:
    """Return what a refund is made from.

    Args:
        request: What was asked for.
        payment: What is refunded: ``payment_intent`` or ``charge`` with its id.
        reference: Ours.
    """
    is_known = request.reason in REFUND_REASONS
    money = _refunded(request)
    return {
        **payment,
        "amount": None if money is None else to_minor(money),
        "reason": request.reason if is_known else None,
        "metadata": {REFERENCE: reference, "reason": None if is_known else request.reason},
    }


def customer_form(request: BillingCustomer, reference: str) -> dict[str, Any]:
    """Return what a customer is made from."""
    return {
        "email": request.email,
        "name": request.name,
        "phone": request.phone,
        "description": request.description,
        "metadata": {**request.metadata, REFERENCE: reference},
    }


def why_not_initiate(request: PaymentInitiate, success_url: str | None) -> str | None:
    """Say why a payment cannot be asked for."""
    if request.channel not in (None, *CHANNELS):
        return f"channel must be {' or '.join(CHANNELS)}, not {request.channel!r}"
    if request.channel != "intent" and (request.return_url or success_url) is None:
        return "a payment page needs return_url, or success_url in the connection's config"
    return _inexpressible(Money.of(request.amount, request.currency))


def why_not_refund(request: PaymentRefund) -> str | None:
    """Say why a payment cannot be refunded."""
    if not is_id(request.payment, "pi_", "ch_", "py_", "cs_"):
        return (
            f"payment {request.payment!r} is none of Stripe's; give the receipt (pi_...) or the "
            "provider_reference of its result"
        )
    money = _refunded(request)
    return None if money is None else _inexpressible(money)


def is_id(text: str, *prefixes: str) -> bool:
    """Say whether a text is an id of Stripe's, of one of the kinds if any are given."""
    return ID.fullmatch(text) is not None and (not prefixes or text.startswith(prefixes))


def _refunded(request: PaymentRefund) -> Money | None:
    if request.amount is None or request.currency is None:
        return None
    return Money.of(request.amount, request.currency)


def _inexpressible(money: Money) -> str | None:
    try:
        to_minor(money)
    except ValueError as error:
        return str(error)
    return None


def _metadata(request: PaymentInitiate, reference: str) -> dict[str, str]:
    account = {} if request.account is None else {"account": request.account}
    return {**account, **request.metadata, REFERENCE: reference}
