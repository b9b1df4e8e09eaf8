"""One account at Stripe: what is in it, what its customers do, and the events that follow.

Paying, failing and refunding are methods here; how it is all spoken to is the server's.
"""

import dataclasses
import hashlib
import hmac
import itertools
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]

SECRET = "whsec_made_up"
REFERENCE = "integrationd_reference"


class RefusedError(Exception):
    """Stripe refuses a request."""

    def __init__(self, status: int, message: str, **error: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": "invalid_request_error", "message": message} | error}


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """A webhook that is on its way."""

    url: str
    headers: dict[str, str]
    body: bytes


class Account:
    """What one account holds.

    Args:
        now: Unix seconds.
        webhook_url: Where events go.

    Attributes:
        payments: Sessions and intents by id.
        refunds: By id.
        customers: By id.
        subscriptions: By id.
        effects: How often customers have paid, by our reference.
        charged: What customers have paid, in minor units, by our reference.
        given_back: What was refunded, in minor units, by the intent.
        callbacks: Webhooks on their way, for whoever delivers them.
        refund_status: What refunds come to at first.
    """

    def __init__(self, now: Callable[[], float] = time.time, webhook_url: str = "") -> None:
        self.now = now
        self.serial = itertools.count(1)
        self._webhook_url = webhook_url
        self.payments: dict[str, Object] = {}
        self.refunds: dict[str, Object] = {}
        self.customers: dict[str, Object] = {}
        self.subscriptions: dict[str, Object] = {}
        self.effects: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        self.given_back: Counter[str] = Counter()
        self.callbacks: deque[Callback] = deque()
        self.refund_status = "succeeded"

    def shelf(self, kind: str) -> dict[str, Object]:
        """Return the objects of a kind, as paths name it, by id."""
        if kind in ("checkout/sessions", "payment_intents"):
            prefix = "cs_" if kind == "checkout/sessions" else "pi_"
            return {name: one for name, one in self.payments.items() if name.startswith(prefix)}
        if kind == "charges":
            charges = (one.get("latest_charge") for one in self.payments.values())
            return {charge["id"]: charge for charge in charges if charge}
        shelf: dict[str, Object] = getattr(self, kind)
        return shelf

    def find(self, kind: str, thing_id: str) -> Object:
        """Return one object.

        Raises:
            RefusedError: There is none.
        """
        found = self.shelf(kind).get(thing_id)
        if found is None:
            raise RefusedError(404, f"No such {kind}: '{thing_id}'", code="resource_missing")
        return found

    def change(self, method: str, thing: Object, verb: str | None, params: Object) -> Object:
        """Expire, cancel or change an object.

        Raises:
            RefusedError: It is not in a state for that.
        """
        if thing["object"] == "subscription":
            return self._cancel(method, thing)
        if verb == "expire" and thing["status"] == "open":
            thing["status"] = "expired"
            self.tell("checkout.session.expired", thing)
        elif verb == "cancel" and thing["status"].startswith("requires"):
            thing |= {"status": "canceled", "cancellation_reason": params["cancellation_reason"]}
            self.tell("payment_intent.canceled", thing)
        else:
            raise RefusedError(400, f"It is {thing['status']}", code="unexpected_state")
        return thing

    def _cancel(self, method: str, subscription: Object) -> Object:
        if subscription["status"] == "canceled":
            raise RefusedError(404, "No such subscription", code="resource_missing")
        if method == "DELETE":
            subscription |= {"status": "canceled", "ended_at": int(self.now())}
            self.tell("customer.subscription.deleted", subscription)
        else:
            ends = subscription["current_period_end"]
            subscription |= {"cancel_at_period_end": True, "cancel_at": ends}
            self.tell("customer.subscription.updated", subscription)
        return subscription

    def _made(self, prefix: str, kind: str, **members: Any) -> Object:
        head = {"id": f"{prefix}_{next(self.serial)}", "object": kind}
        return head | {"created": int(self.now()), "livemode": False, "metadata": {}} | members

    def make_session(self, params: Object) -> Object:
        """Make a payment page."""
        if not {"mode", "line_items", "success_url"} <= set(params):
            raise RefusedError(400, "Missing required param", code="parameter_missing")
        if {"customer", "customer_email"} <= set(params):
            raise RefusedError(400, "You may only specify one of these parameters")
        prices = [line["price_data"] for line in params["line_items"].values()]
        amount = sum(_amount(price["unit_amount"], price["currency"]) for price in prices)
        session = self._made(
            "cs_test",
            "checkout.session",
            status="open",
            payment_status="unpaid",
            payment_intent=None,
            amount_total=amount,
            currency=prices[0]["currency"],
            client_reference_id=params.get("client_reference_id"),
            metadata=params.get("metadata", {}),
            customer_details={"email": params.get("customer_email")},
            intent_data=params.get("payment_intent_data", {}),
        )
        session["url"] = f"https://checkout.stripe.com/c/pay/{session['id']}"
        return self.payments.setdefault(session["id"], session)

    def make_intent(self, params: Object) -> Object:
        """Make a payment intent."""
        intent = self._made(
            "pi",
            "payment_intent",
            status="requires_payment_method",
            amount=_amount(params["amount"], params["currency"]),
            amount_received=0,
            currency=params["currency"],
            latest_charge=None,
            metadata=params.get("metadata", {}),
            receipt_email=params.get("receipt_email"),
        )
        intent["client_secret"] = f"{intent['id']}_secret_made_up"
        return self.payments.setdefault(intent["id"], intent)

    def make_refund(self, params: Object) -> Object:
        """Give money back."""
        intents = self.shelf("payment_intents").values()
        wanted = params.get("payment_intent"), params.get("charge")
        paid = [one for one in intents if one["latest_charge"]]
        found = [one for one in paid if one["id"] in wanted or one["latest_charge"]["id"] in wanted]
        if not found:
            raise RefusedError(404, f"No such payment_intent: {wanted}", code="resource_missing")
        intent = found[0]
        left = intent["amount_received"] - self.given_back[intent["id"]]
        amount = int(params.get("amount", left))
        if not left:
            raise RefusedError(400, "Already refunded", code="charge_already_refunded")
        if amount > left:
            raise RefusedError(400, "More than what is left", param="amount")
        self.given_back[intent["id"]] += amount
        charge = intent["latest_charge"]
        charge["amount_refunded"] = self.given_back[intent["id"]]
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        told = {"payment_intent": intent["id"], "charge": charge["id"]}
        told |= {"amount": amount, "currency": intent["currency"], "status": self.refund_status}
        refund = self._made("re", "refund", metadata=params.get("metadata", {}), **told)
        self.tell("charge.refunded", charge)
        return self.refunds.setdefault(refund["id"], refund)

    def make_customer(self, params: Object) -> Object:
        """Make a customer."""
        customer = self._made("cus", "customer", **params)
        return self.customers.setdefault(customer["id"], customer)

    def make_portal(self, params: Object) -> Object:
        """Make the address of a billing page."""
        self.find("customers", params["customer"])
        session = self._made("bps", "billing_portal.session")
        return session | {"url": f"https://billing.stripe.com/p/session/{session['id']}"}

    def subscribe(self, customer: str) -> str:
        """Let a customer subscribe; return the subscription's id."""
        ends = int(self.now()) + 30 * 86400
        told = {"customer": customer, "status": "active", "current_period_end": ends}
        subscription = self._made("sub", "subscription", **told)
        self.subscriptions[subscription["id"]] = subscription
        return str(subscription["id"])

    # What customers and their banks do

    def payment_of(self, reference: str) -> str:
        """Return the id of the newest page or intent with our reference."""
        ours = [
            name
            for name, one in self.payments.items()
            if one["metadata"].get(REFERENCE) == reference
        ]
        sessions = [name for name in ours if name.startswith("cs_")]
        return (sessions or ours)[-1]

    def pay(self, payment_id: str, *, later: bool = False) -> None:
        """Pay on a page or for an intent; ``later`` by a bank that takes its time."""
        payment = self.payments[payment_id]
        intent = payment
        if payment["object"] == "checkout.session":
            if payment["status"] != "open":
                raise RefusedError(400, "The page is closed")
            data = payment["intent_data"]
            made = {"amount": payment["amount_total"], "currency": payment["currency"]}
            intent = self.make_intent(made | {"metadata": data.get("metadata", {})})
            payment |= {"status": "complete", "payment_intent": intent["id"], "url": None}
        intent["status"] = "processing"
        if later:
            self._tell_session(payment, "completed")
        else:
            self.settle(payment_id, first=True)

    def settle(self, payment_id: str, *, first: bool = False, succeeds: bool = True) -> None:
        """Let the bank pay what is being processed, or not."""
        payment = self.payments[payment_id]
        intent = self.payments[payment.get("payment_intent") or payment_id]
        if not succeeds:
            error = {"code": "card_declined", "message": "The bank said no."}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            self.tell("payment_intent.payment_failed", intent)
            self._tell_session(payment, "async_payment_failed")
            return
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        entry = {"fee": 40, "currency": intent["currency"]}
        money = {"amount": intent["amount"], "currency": intent["currency"], "refunded": False}
        told = money | {"balance_transaction": entry, "payment_intent": intent["id"]}
        intent["latest_charge"] = self._made("ch", "charge", metadata=intent["metadata"], **told)
        reference = intent["metadata"].get(REFERENCE, intent["id"])
        self.effects[reference] += 1
        self.charged[reference] += intent["amount"]
        self.tell("payment_intent.succeeded", intent)
        if payment is not intent:
            payment["payment_status"] = "paid"
        self._tell_session(payment, "completed" if first else "async_payment_succeeded")

    def _tell_session(self, payment: Object, what: str) -> None:
        if payment["object"] == "checkout.session":
            self.tell(f"checkout.session.{what}", payment)

    def tell(self, kind: str, thing: Object, secret: str = SECRET, **members: Any) -> Callback:
        """Put a signed event on its way."""
        charge = thing.get("latest_charge")
        told = thing | {"latest_charge": charge["id"]} if charge else thing
        event = self._made("evt", "event", type=kind, data={"object": told}, **members)
        body = json.dumps(event, indent=2).encode()
        headers = {"Stripe-Signature": signature(body, secret, int(self.now()))}
        self.callbacks.append(Callback(self._webhook_url, headers, body))
        return self.callbacks[-1]


def signature(body: bytes, secret: str, at_s: int) -> str:
    """Return the header that proves a webhook."""
    mac = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256)
    return f"t={at_s},v1={mac.hexdigest()}"


def _amount(text: str | int, currency: str) -> int:
    if currency != currency.lower() or not re.fullmatch(r"[1-9]\d*", str(text)):
        raise RefusedError(400, "Invalid integer or currency", param="amount")
    return int(text)
