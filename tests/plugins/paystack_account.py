"""A Paystack account in memory: what was charged, paid out and given back, and who is told."""

import dataclasses
import hashlib
import hmac
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]

KEY = "sk_test_made_up_1"
PAGES = "https://checkout.paystack.com/"


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """A webhook as it goes out.

    Attributes:
        url: Where to.
        headers: The signature among them.
        body: The raw bytes that are signed.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes


class Account:
    """A Paystack account, its customers, and the banks behind it.

    Customers pay on a page, so that only somebody who was told its address can pay.

    Attributes:
        payments: The transactions, by reference.
        transfers: The transfers, by reference.
        refunds: The refunds, by id.
        recipients: To whom transfers go, by number, bank and currency.
        effects: How often money moved: by ``charge``, ``transfer`` or ``refund`` and the reference
            of the payment or transfer.
        charged: What customers were charged in minor units, by e-mail address.
        balance: What the account holds in minor units, by currency.
        callbacks: Webhooks that somebody has to deliver.
    """

    def __init__(self, now: Callable[[], float] = time.time, webhook_url: str = "") -> None:
        self.now = now
        self.webhook_url = webhook_url
        self.payments: dict[str, Object] = {}
        self.transfers: dict[str, Object] = {}
        self.refunds: dict[str, Object] = {}
        self.recipients: dict[tuple[str, str, str], Object] = {}
        self.effects: Counter[tuple[str, str]] = Counter()
        self.charged: Counter[str] = Counter()
        self.balance: Counter[str] = Counter({"NGN": 10**9, "GHS": 10**9, "KES": 10**9})
        self.callbacks: deque[Callback] = deque()

    def pay(self, url: str, amount: int | None = None) -> Object:
        """Pay on a page, by its address; an amount other than the asked one is a partial debit."""
        code = url.removeprefix(PAGES)
        payment = next(one for one in self.payments.values() if one["access_code"] == code)
        if payment["status"] == "success":
            return payment
        paid = payment["amount"] if amount is None else amount
        payment |= {"status": "success", "amount": paid, "fees": paid // 50}
        payment |= {"paid_at": self.now_text(), "gateway_response": "Approved"}
        self.effects["charge", payment["reference"]] += 1
        self.charged[payment["customer"]["email"]] += paid
        self.balance[payment["currency"]] += paid
        self.tell("charge.success", payment)
        return payment

    def end_payment(self, reference: str, status: str, why: str = "Declined") -> None:
        """Let a payment end otherwise: ``failed`` or ``reversed``. No webhook tells of it."""
        self.payments[reference] |= {"status": status, "gateway_response": why}

    def end_transfer(self, reference: str, status: str) -> None:
        """Let a transfer end; the first success moves money, a reversal moves it back."""
        transfer = self.transfers[reference]
        if status == "success" and transfer["status"] != "success":
            self.effects["transfer", reference] += 1
            self.balance[transfer["currency"]] -= transfer["amount"]
        if status == "reversed" and transfer["status"] == "success":
            self.balance[transfer["currency"]] += transfer["amount"]
        transfer["status"] = status
        if status in ("success", "failed", "reversed"):
            self.tell(f"transfer.{status}", transfer)

    def end_refund(self, refund_id: str, status: str) -> None:
        """Let a refund go on; its webhook names the payment only, its amount is a text."""
        refund = self.refunds[refund_id]
        refund["status"] = status
        told = {
            "status": status,
            "transaction_reference": refund["transaction"]["reference"],
            "refund_reference": f"REF-{refund_id}" if status == "processed" else None,
            "amount": str(refund["amount"]),
            "currency": refund["currency"],
        }
        self.tell(f"refund.{status}", told)

    def tell(self, event: str, data: Object) -> None:
        """Put a signed webhook among the callbacks; slashes are escaped, as PHP does."""
        told = json.dumps({"event": event, "data": data}, separators=(",", ":"))
        body = told.replace("/", "\\/").encode()
        headers = {"content-type": "application/json", "x-paystack-signature": signature(body)}
        self.callbacks.append(Callback(self.webhook_url, headers, body))

    def now_text(self) -> str:
        """Return the time as Paystack writes it."""
        at = datetime.fromtimestamp(self.now(), UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def signature(body: bytes, key: str = KEY) -> str:
    """Return what Paystack signs a body with, computed apart from the daemon."""
    return hmac.new(key.encode(), body, hashlib.sha512).hexdigest()
