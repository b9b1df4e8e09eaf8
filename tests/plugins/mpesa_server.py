"""Daraja as its sheet says, in memory: tokens, prompts, payouts, reversals, and what customers do.

:class:`FakeDaraja` opens nothing. ``FakeDaraja().app`` is an ASGI app, :func:`daraja` serves one on
loopback. Callbacks are not sent but put into ``callbacks``; whoever drives it delivers, repeats,
reorders or drops them. It is the judge as well: ``effects`` and ``charged`` tell what truly
happened to each phone.
"""

import base64
import contextlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from tests.plugins.mpesa_callbacks import (
    PAYS,
    SHORTCODE,
    Callback,
    Fields,
    Prompt,
    Transaction,
    customer_body,
    ids_of,
    prompt_body,
    result_body,
    status_details,
)
from tests.sdk.scripted_server import Peer, Received, ScriptedServer, serving

Said: TypeAlias = tuple[int, Any]

KEY, SECRET = "demoKey", "demoSecret"
PASSKEY = "demo-passkey-0001"
INITIATOR, CREDENTIAL = "shule-api", "made-up-credential=="
JSON = "application/json"
FORBIDDEN = ("mpesa", "safaricom", "exe", "cmd", "sql", "query", "ngrok")
STATUS = "/mpesa/transactionstatus/v1/query"
PUSH, PUSH_QUERY = "/mpesa/stkpush/v1/processrequest", "/mpesa/stkpushquery/v1/query"
PAYOUT, REVERSAL = "/mpesa/b2c/v3/paymentrequest", "/mpesa/reversal/v1/request"
REGISTER, SIMULATE = "/mpesa/c2b/v2/registerurl", "/mpesa/c2b/v2/simulate"


class Dropped(Exception):  # noqa: N818 - it is what happens, not a fault
    """Raised by ``before_reply``: the request has taken effect, its reply is lost."""


def error(status: int, code: str, message: str) -> Said:
    """Return the body that every rejected request gets."""
    return status, {"requestId": "req-1", "errorCode": code, "errorMessage": message}


async def _nothing(_request: Received) -> None:
    """Let every reply through."""


class FakeDaraja:
    """The provider.

    Attributes:
        behaviour: What each phone does with a prompt, or what comes of paying out to it.
        default: What every other phone does.
        at_once: Whether customers answer at once; else :meth:`answer` has them answer.
        queries_before: How often a query finds the customer still at it, whatever the truth.
        payments: The prompts, by CheckoutRequestID.
        transactions: All that was moved, by receipt; ``by_id`` by OriginatorConversationID.
        effects: How often each phone truly paid; ``charged`` how much in all.
        prompted: How often each phone was prompted.
        paid_out: How much each phone was sent; ``payouts`` how often.
        callbacks: Webhooks on their way.
        replies: What the next requests to a path are answered instead, without any effect.
        before_reply: Awaited after the effect; may raise :class:`Dropped`.
        requests: All requests, in order.
    """

    def __init__(self, default: str | None = PAYS, *, at_once: bool = True) -> None:
        self.behaviour: dict[str, str | None] = {}
        self.default = default
        self.at_once = at_once
        self.queries_before = 0
        self.payments: dict[str, Prompt] = {}
        self.transactions: dict[str, Transaction] = {}
        self.by_id: dict[str, Transaction] = {}
        self.effects: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        self.prompted: Counter[str] = Counter()
        self.payouts: Counter[str] = Counter()
        self.paid_out: Counter[str] = Counter()
        self.callbacks: deque[Callback] = deque()
        self.replies: dict[str, deque[Said]] = {}
        self.before_reply: Callable[[Received], Awaitable[None]] = _nothing
        self.requests: list[Received] = []
        self.registered: Fields | None = None
        self.token = ""
        self.tokens_issued = 0
        self._asked: Counter[str] = Counter()
        self._serial = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI request; :class:`Dropped` passes, for the server to act on."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = scope["query_string"].decode()
        target = scope["path"] + (f"?{query}" if query else "")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, content = await self.reply(Received(scope["method"], target, headers, body))
        kind = [(b"content-type", JSON.encode())]
        await send({"type": "http.response.start", "status": status, "headers": kind})
        await send({"type": "http.response.body", "body": content})

    async def reply(self, request: Received) -> tuple[int, bytes]:
        """Do what a request asks for; return the status and the body."""
        self.requests.append(request)
        status, said = self._handle(request)
        await self.before_reply(request)
        return status, said if isinstance(said, bytes) else json.dumps(said).encode()

    def answer(self, checkout_id: str) -> None:
        """Have the customer answer a prompt, and the callback go on its way."""
        prompt = self.payments[checkout_id]
        code = self.behaviour.get(prompt.phone, self.default)
        if prompt.code is not None or code is None:
            return
        prompt.code = code
        if code == PAYS:
            self.effects[prompt.phone] += 1
            self.charged[prompt.phone] += prompt.amount
            prompt.receipt = self._moved("", prompt.phone, prompt.amount).receipt
        self.callbacks.append(Callback(url=prompt.callback, body=prompt_body(prompt)))

    def _handle(self, request: Received) -> Said:
        path = urlsplit(request.target).path
        if self.replies.get(path):
            return self.replies[path].popleft()
        if path == "/oauth/v1/generate":
            return self._new_token(request)
        if request.headers.get("authorization") != f"Bearer {self.token}" or not self.token:
            return error(404, "404.001.03", "Invalid Access Token")
        doing = self._paths.get(path)
        if doing is None:
            return error(404, "404.001.01", "Resource not found")
        if request.headers.get("content-type") != JSON:
            return error(400, "400.002.05", "Invalid Request Payload")
        return doing(self, json.loads(request.body))

    def _new_token(self, request: Received) -> Said:
        basic = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        grant = parse_qs(urlsplit(request.target).query).get("grant_type")
        if grant != ["client_credentials"]:
            return error(400, "400.008.02", "Invalid grant type passed")
        if request.headers.get("authorization") != f"Basic {basic}":
            return 400, b""
        self.tokens_issued += 1
        self.token = f"token-{self.tokens_issued}-made-up"
        return 200, {"access_token": self.token, "expires_in": "3599"}

    def _push(self, fields: Fields) -> Said:
        wrong = self._signature_fault(fields) or _prompt_fault(fields)
        if wrong is not None:
            return wrong
        checkout_id = f"ws_CO_{self._next()}"
        phone = fields["PhoneNumber"]
        self.payments[checkout_id] = Prompt(
            checkout_id=checkout_id,
            phone=phone,
            amount=fields["Amount"],
            account=fields["AccountReference"],
            callback=fields["CallBackURL"],
        )
        self.prompted[phone] += 1
        if self.at_once:
            self.answer(checkout_id)
        return 200, _ack("0") | {
            "MerchantRequestID": f"mr-{checkout_id}",
            "CheckoutRequestID": checkout_id,
            "CustomerMessage": "Success. Request accepted for processing",
        }

    def _push_query(self, fields: Fields) -> Said:
        wrong = self._signature_fault(fields)
        prompt = self.payments.get(fields["CheckoutRequestID"])
        if wrong or prompt is None:
            return wrong or error(400, "400.002.02", "Bad Request - Invalid CheckoutRequestID")
        self._asked[prompt.checkout_id] += 1
        if prompt.code is None or self._asked[prompt.checkout_id] <= self.queries_before:
            return error(500, "500.001.1001", "The transaction is being processed")
        return 200, _ack("0") | {
            "MerchantRequestID": f"mr-{prompt.checkout_id}",
            "CheckoutRequestID": prompt.checkout_id,
            "ResultCode": prompt.code,
            "ResultDesc": "The service request is processed.",
        }

    def _pay_out(self, fields: Fields) -> Said:
        wrong = _initiator_fault(fields, "InitiatorName", "Occassion")  # codespell:ignore occassion
        if wrong is not None:
            return wrong
        ours, phone = fields["OriginatorConversationID"], fields["PartyB"]
        if ours in self.by_id:
            return error(500, "500.002.1001", "Duplicate OriginatorConversationID.")
        code = self.behaviour.get(phone, PAYS) or PAYS
        moved = self._moved(ours, phone, fields["Amount"])
        if code == PAYS:
            self.payouts[phone] += 1
            self.paid_out[phone] += moved.amount
        else:
            moved.status = "Failed"
        self._result(fields["ResultURL"], moved, code, {"TransactionReceipt": moved.receipt})
        return 200, _ack("0") | ids_of(moved)

    def _reverse(self, fields: Fields) -> Said:
        wrong = _initiator_fault(fields, "Initiator", "RecieverIdentifierType")
        if wrong is not None:
            return wrong
        original, ours = self.transactions.get(fields["TransactionID"]), f"reversal-{self._next()}"
        code = "R000002" if original is None else "0"
        if original is not None and original.status == "Reversed":
            code = "R000001"
        moved = Transaction(
            originator_id=ours, conversation_id=f"AG_{ours}", phone="", amount=fields["Amount"]
        )
        if original is not None and code == "0":
            original.status = "Reversed"
            self.charged[original.phone] -= original.amount
            moved = self._moved(ours, original.phone, original.amount)
        self._result(fields["ResultURL"], moved, code, {})
        return 200, _ack("0") | ids_of(moved)

    def _status(self, fields: Fields) -> Said:
        wrong = _initiator_fault(fields, "Initiator", "QueueTimeOutURL")
        if wrong is not None:
            return wrong
        about = self.transactions.get(fields.get("TransactionID", "")) or self.by_id.get(
            fields.get("OriginalConversationID", "")
        )
        asked = Transaction(
            originator_id=f"status-{self._next()}", conversation_id="AG_status", phone="", amount=0
        )
        told, code = ({}, "2032") if about is None else (status_details(about), "0")
        self._result(fields["ResultURL"], asked, code, told)
        return 200, _ack("0") | ids_of(asked)

    def _register(self, fields: Fields) -> Said:
        if self.registered is not None:
            return error(500, "500.003.1001", "Urls are already registered")
        if any(_is_forbidden(fields[name]) for name in ("ConfirmationURL", "ValidationURL")):
            return error(400, "400.003.02", "Bad Request - Invalid URL")
        self.registered = fields
        return 200, {"OriginatorCoversationID": "reg-1", **_ack("0")}

    def _simulate(self, fields: Fields) -> Said:
        moved = self._moved("", fields["Msisdn"], fields["Amount"])
        self.effects[moved.phone] += 1
        self.charged[moved.phone] += moved.amount
        if self.registered is not None:
            body = customer_body(moved.receipt, moved.amount, fields["BillRefNumber"])
            self.callbacks.append(Callback(url=self.registered["ConfirmationURL"], body=body))
        return 200, {"OriginatorCoversationID": f"sim-{moved.receipt}", **_ack("0")}

    def _signature_fault(self, fields: Fields) -> Said | None:
        stamp = str(fields.get("Timestamp"))
        expected = base64.b64encode(f"{SHORTCODE}{PASSKEY}{stamp}".encode()).decode()
        if fields.get("BusinessShortCode") != SHORTCODE:
            return error(500, "500.001.1001", "Merchant does not exist")
        if fields.get("Password") != expected or len(stamp) != 14:
            return error(500, "500.001.1001", "Wrong credentials")
        return None

    def _moved(self, ours: str, phone: str, amount: int) -> Transaction:
        number = self._next()
        moved = Transaction(
            originator_id=ours or f"c2b-{number}",
            conversation_id=f"AG_{number}",
            phone=phone,
            amount=amount,
            receipt=f"SAB{number:07d}",
        )
        self.transactions[moved.receipt] = self.by_id[moved.originator_id] = moved
        return moved

    def _result(self, url: str, about: Transaction, code: str, details: Fields) -> None:
        self.callbacks.append(Callback(url=url, body=result_body(about, code, details)))

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    _paths: Mapping[str, Callable[["FakeDaraja", Fields], Said]] = {
        PUSH: _push,
        PUSH_QUERY: _push_query,
        PAYOUT: _pay_out,
        REVERSAL: _reverse,
        STATUS: _status,
        REGISTER: _register,
        SIMULATE: _simulate,
    }


def _ack(code: str) -> Fields:
    return {"ResponseCode": code, "ResponseDescription": "Accept the service request successfully."}


def _is_forbidden(url: str) -> bool:
    return any(word in url.lower() for word in FORBIDDEN)


def _prompt_fault(fields: Fields) -> Said | None:
    phone, amount, account = fields["PhoneNumber"], fields["Amount"], fields["AccountReference"]
    if len(str(phone)) != 12 or not str(phone).startswith("254") or fields["PartyA"] != phone:
        return error(400, "400.002.02", "Bad Request - Invalid PhoneNumber")
    if not isinstance(amount, int) or not 1 <= amount <= 250_000:
        return error(400, "400.002.02", "Bad Request - Invalid Amount")
    if not account.isalnum() or len(account) > 12 or len(fields["TransactionDesc"]) > 13:
        return error(400, "400.002.02", "Bad Request - Invalid AccountReference")
    if _is_forbidden(fields["CallBackURL"]):
        return error(400, "400.002.02", "Bad Request - Invalid CallBackURL")
    return None


def _initiator_fault(fields: Fields, name: str, needed: str) -> Said | None:
    if fields.get(name) != INITIATOR or not fields.get("SecurityCredential"):
        return error(400, "400.002.02", f"Bad Request - Invalid {name}")
    if needed not in fields or _is_forbidden(fields["ResultURL"]):
        return error(400, "400.002.02", f"Bad Request - Invalid {needed}")
    return None


@contextlib.asynccontextmanager
async def daraja(fake: FakeDaraja) -> AsyncIterator[ScriptedServer]:
    """Serve one on loopback; a dropped reply closes the connection."""

    async def talk(peer: Peer) -> None:
        while True:
            request = await peer.request()
            try:
                status, body = await fake.reply(request)
            except Dropped:
                return
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {JSON}"
            await peer.send(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async with serving(talk) as server:
        yield server
