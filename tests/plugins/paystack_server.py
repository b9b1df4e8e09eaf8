"""Paystack on loopback: a reference is taken once, a refund as often as it is asked for.

What customers and banks do, and the books, are the account's: ``tests.plugins.paystack_account``.
"""

import dataclasses
import itertools
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from tests.plugins.paystack_account import KEY, PAGES, Account, Object

HOLDERS = {("0123456789", "058"): "ADA NGOZI OBI", ("0551112223", "030100"): "Kofi Mensah"}

_PAYMENT_REFERENCE = re.compile(r"[A-Za-z0-9.=-]+")
_TRANSFER_REFERENCE = re.compile(r"[a-z0-9_-]+")
_KINDS = {"nuban", "ghipss", "kepss", "basa", "mobile_money", "mobile_money_business"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong with one request that does something.

    Attributes:
        status: What it is answered with.
        body: The answer; nothing of Paystack's own when None.
        acts: Whether it is done all the same.
        headers: Of the answer.
    """

    status: int
    body: Object | None = None
    acts: bool = False
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class RefusedError(Exception):
    """Paystack refuses a request."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"status": False, "message": message, **more}


async def undisturbed(_request: Request) -> None:
    """Let every reply through."""


class FakePaystack(Account):
    """Paystack's API for one account, as an ASGI app.

    Attributes:
        troubles: What goes wrong with the next requests that do something.
        before_reply: Called after the effect and before the reply; what it raises is passed on.
        seen: Method, path and body or query of every request.
        asks_for_otp: Whether transfers wait for an OTP.
        known_after_s: Seconds after which a transfer can be asked about.
    """

    def __init__(self, now: Callable[[], float] = time.time, webhook_url: str = "") -> None:
        super().__init__(now, webhook_url)
        self.troubles: deque[Trouble] = deque()
        self.before_reply: Callable[[Request], Awaitable[None]] = undisturbed
        self.seen: list[tuple[str, str, Object]] = []
        self.asks_for_otp = False
        self.known_after_s = 0.0
        # Ids of transactions are over 2 to the 31st by now.
        self._serial = itertools.count(3_000_000_001)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        raw = await request.body()
        response = self._answer(request, raw)
        await self.before_reply(request)
        await response(scope, receive, send)

    def _answer(self, request: Request, raw: bytes) -> Response:
        path = request.url.path
        given = json.loads(raw) if raw else dict(request.query_params)
        self.seen.append((request.method, path, given))
        is_post = request.method == "POST"
        trouble = self.troubles.popleft() if is_post and self.troubles else None
        try:
            _check(request)
            if trouble is not None and not trouble.acts:
                return _troubled(trouble)
            status, message, data = self._act(path, given) if is_post else self._read(path, given)
        except RefusedError as refused:
            return JSONResponse(refused.body, refused.status)
        if trouble is not None:
            return _troubled(trouble)
        return JSONResponse({"status": True, "message": message, "data": data}, status)

    # What can be asked

    def _read(self, path: str, given: Object) -> tuple[int, str, Any]:
        place, _, name = path.rpartition("/")
        if path == "/bank/resolve":
            return 200, "Account number resolved", _resolved(given)
        if path == "/refund":
            return 200, "Refunds retrieved", self._refunds_of(given["transaction"])
        if path == "/balance":
            held = [{"currency": one, "balance": sum_} for one, sum_ in self.balance.items()]
            return 200, "Balances retrieved", held
        finders: dict[str, Callable[[str], Object]] = {
            "/transaction/verify": self._payment,
            "/transaction": self._payment_by_id,
            "/transfer/verify": self._transfer,
            "/refund": self._refund,
        }
        if place not in finders:
            raise RefusedError(404, "Route not found")
        return 200, "Retrieved", finders[place](name)

    def _payment(self, reference: str) -> Object:
        if reference in self.payments:
            return self.payments[reference]
        raise RefusedError(
            400,
            "Transaction reference not found.",
            meta={"nextStep": "Ensure that you pass the reference of a transaction that exists"},
            type="validation_error",
            code="transaction_not_found",
        )

    def _payment_by_id(self, number: str) -> Object:
        for one in self.payments.values():
            if str(one["id"]) == number:
                return one
        raise RefusedError(404, "Transaction ID or reference not found")

    def _transfer(self, reference: str) -> Object:
        transfer = self.transfers.get(reference)
        if transfer is None or self.now() < transfer["made_at"] + self.known_after_s:
            raise RefusedError(404, "Transfer not found")
        return transfer

    def _refund(self, refund_id: str) -> Object:
        if refund_id not in self.refunds:
            raise RefusedError(404, "Refund not found")
        return self.refunds[refund_id]

    def _refunds_of(self, transaction_id: str) -> list[Object]:
        refunds = reversed(self.refunds.values())
        return [one for one in refunds if str(one["transaction"]["id"]) == transaction_id]

    # What can be done

    def _act(self, path: str, given: Object) -> tuple[int, str, Object]:
        match path:
            case "/transaction/initialize":
                return 200, "Authorization URL created", self._initialize(given)
            case "/transferrecipient":
                return 201, "Transfer recipient created successfully", self._recipient(given)
            case "/transfer":
                message = "Transfer requires OTP to continue" if self.asks_for_otp else "Queued"
                return 200, message, self._send(given)
            case "/refund":
                return 200, "Refund has been queued for processing", self._give_back(given)
            case _:
                raise RefusedError(404, "Route not found")

    def _initialize(self, given: Object) -> Object:
        reference = given["reference"]
        _require(re.fullmatch(r"[^@\s]+@[^@\s]+", given.get("email", "")), "Invalid Email Address")
        _require(_PAYMENT_REFERENCE.fullmatch(reference), "Invalid transaction reference")
        _require(isinstance(given["amount"], int) and given["amount"] > 0, "Invalid Amount Sent")
        if reference in self.payments:
            raise RefusedError(
                400,
                "Duplicate Transaction Reference",
                meta={"nextStep": "Provide a unique reference"},
                type="validation_error",
                code="duplicate_reference",
            )
        number = next(self._serial)
        self.payments[reference] = {
            "id": number,
            "domain": "test",
            "status": "abandoned",
            "reference": reference,
            "amount": given["amount"],
            "requested_amount": given["amount"],
            "currency": given["currency"],
            "channel": (given.get("channels") or ["card"])[0],
            "fees": None,
            "paid_at": None,
            "gateway_response": "The transaction was not completed",
            "metadata": given.get("metadata", ""),
            "customer": {"email": given["email"], "customer_code": f"CUS_{number}"},
            "access_code": f"ac{number}",
        }
        return {
            "authorization_url": f"{PAGES}ac{number}",
            "access_code": f"ac{number}",
            "reference": reference,
        }

    def _recipient(self, given: Object) -> Object:
        _require(given["type"] in _KINDS, "Invalid recipient type")
        place = (given["account_number"], given["bank_code"], given["currency"])
        details = {name: given[name] for name in ("account_number", "bank_code")}
        code = f"RCP_{len(self.recipients) + 1}"
        made = {**given, "recipient_code": code, "details": details}
        return self.recipients.setdefault(place, made)

    def _send(self, given: Object) -> Object:
        reference, currency = given["reference"], given["currency"]
        _require(_TRANSFER_REFERENCE.fullmatch(reference), "Invalid reference")
        recipients = {one["recipient_code"]: one for one in self.recipients.values()}
        if given["recipient"] not in recipients:
            raise RefusedError(400, "Recipient specified is invalid", code="invalid_recipient")
        _require(
            reference not in self.transfers,
            "Please provide a unique reference. Reference already exists on a transfer",
        )
        _require(
            self.balance[currency] >= given["amount"],
            "Your balance is not enough to fulfil this request",
        )
        number = next(self._serial)
        self.transfers[reference] = {
            **given,
            "id": number,
            "transfer_code": f"TRF_{number}",
            "status": "otp" if self.asks_for_otp else "pending",
            "recipient": recipients[given["recipient"]],
            "made_at": self.now(),
        }
        return self.transfers[reference] | {"recipient": number}

    def _give_back(self, given: Object) -> Object:
        named = str(given["transaction"])
        payment = self.payments.get(named) or self._payment_by_id(named)
        _require(payment["status"] == "success", "Transaction has not been paid")
        amount = given.get("amount", payment["amount"])
        gone = sum(one["amount"] for one in self._refunds_of(str(payment["id"])))
        _require(gone + amount <= payment["amount"], "Refund amount cannot be more than the rest")
        number = next(self._serial)
        self.refunds[str(number)] = {
            "id": number,
            "transaction": {"id": payment["id"], "reference": payment["reference"]},
            "amount": amount,
            "currency": payment["currency"],
            "merchant_note": given.get("merchant_note"),
            "customer_note": given.get("customer_note"),
            "status": "pending",
            "createdAt": self.now_text(),
        }
        self.effects["refund", payment["reference"]] += 1
        return self.refunds[str(number)]


def _check(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise RefusedError(401, "Invalid key", type="validation_error", code="invalid_Key")
    if request.method == "POST" and request.headers.get("content-type") != "application/json":
        raise RefusedError(400, "Invalid content type")


def _require(is_so: object, otherwise: str) -> None:
    if not is_so:
        raise RefusedError(400, otherwise, type="validation_error")


def _troubled(trouble: Trouble) -> Response:
    if trouble.body is None:
        return Response("<html>Bad Gateway</html>", trouble.status, trouble.headers)
    return JSONResponse(trouble.body, trouble.status, trouble.headers)


def _resolved(given: Object) -> Object:
    held_by = HOLDERS.get((given["account_number"], given["bank_code"]))
    if held_by is None:
        raise RefusedError(422, "Could not resolve account name. Check parameters or try again.")
    return {"account_number": given["account_number"], "account_name": held_by}
