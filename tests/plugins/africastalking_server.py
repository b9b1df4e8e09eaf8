"""Africa's Talking on loopback, and one send to it over the client that a connection has.

The gateway is as strict and as sloppy as the real one: it refuses a wrong key in plain text and a
wrong sender with a 201, answers in XML who did not ask for JSON, says ``charset`` in the content
type, and lists the recipients in an order of its own.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import anyio
import httpx2
import msgspec
from tests.sdk.scripted_server import Peer, Received, ScriptedServer, serving

from integrationd.registry import builtin_plugins
from integrationd.sdk import CATALOGUE, Outcome
from integrationd.sdk.classify import of_error
from integrationd.sdk.exchange import recording
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import CapturedLog, FakeConnection, make_context
from integrationd.sdk.testing.fakes import class_in

AFRICASTALKING = builtin_plugins() / "messaging" / "africastalking"
AfricasTalking = class_in(AFRICASTALKING)

KEY = "atsk_made-up-key"
CONFIG = {"username": "sandbox", "api_key": KEY}
ANN = "+254711000111"
BEN = "+2348030000222"
CAT = "+263771000333"

NAMES = {
    100: "Processed",
    101: "Success",
    102: "Queued",
    401: "RiskHold",
    402: "InvalidSenderId",
    403: "InvalidPhoneNumber",
    404: "UnsupportedNumberType",
    405: "InsufficientBalance",
    406: "UserInBlacklist",
    407: "CouldNotRoute",
    409: "DoNotDisturbRejection",
    500: "InternalServerError",
    501: "GatewayError",
    502: "RejectedByGateway",
}
TAKEN = (100, 101, 102, 401)
JSON_TYPE = "application/json; charset=utf-8"
PHRASES = {200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


def reply(
    status: int, body: str | bytes, content_type: str = JSON_TYPE, extra: Sequence[str] = ()
) -> bytes:
    """Return a whole response."""
    content = body.encode() if isinstance(body, str) else body
    head = [
        f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(content)}",
        *extra,
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


def entry(number: str, code: int = 101, **members: Any) -> dict[str, Any]:
    """Return what the gateway says about one recipient."""
    taken = code in TAKEN
    told = {
        "statusCode": code,
        "number": number,
        "status": NAMES[code],
        "cost": "KES 0.8000" if taken else "0",
        "messageId": f"ATXid_{number[-4:]}" if taken else "None",
    }
    return told | members


def answer(recipients: Sequence[Any], message: str = "Sent to some") -> str:
    """Return the body of an answer to a message."""
    return json.dumps({"SMSMessageData": {"Message": message, "Recipients": list(recipients)}})


def form(fields: Mapping[str, str]) -> bytes:
    """Return fields as the body of a webhook."""
    return urlencode(fields).encode()


def report(number: str, status: str = "Success", **fields: str) -> bytes:
    """Return the delivery report of the message to a number."""
    told = {"id": f"ATXid_{number[-4:]}", "status": status, "phoneNumber": number}
    return form(told | {"networkCode": "63902"} | fields)


def incoming(text: str = "Who owes fees?", **fields: str) -> bytes:
    """Return a message that came in."""
    told = {
        "date": "2026-11-21 09:30:00",
        "from": ANN,
        "to": "22334",
        "text": text,
        "id": "7a1f",
        "linkId": "SampleLinkId123",
        "cost": "None",
        "networkCode": "63902",
    }
    return form(told | fields)


def opt_out(number: str = ANN, sender: str = "SHULE") -> bytes:
    """Return word that somebody wants no more messages of a sender."""
    return form({"senderId": sender, "phoneNumber": number})


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one request for messages, after its body has been read.

    Attributes:
        after_s: Seconds until it is answered.
        answers: Whether it is answered at all; else the connection is closed.
        takes: Whether the messages are taken over.
        raw: The whole response, instead of the gateway's own.
    """

    after_s: float = 0.0
    answers: bool = True
    takes: bool = True
    raw: bytes | None = None


DROP = Trouble(answers=False)


class Gateway:
    """A running gateway.

    Attributes:
        url: Its address.
        codes: The status codes that a number gets, one after the other; the last one stays.
        troubles: What goes wrong with the next requests for messages, in their order.
        sent: The number and the text of every message that was taken over.
        senders: The senders that are registered.
        balance: What the account holds.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.url = server.url
        self.codes: dict[str, deque[int]] = {}
        self.troubles: deque[Trouble] = deque()
        self.sent: list[tuple[str, str]] = []
        self.senders = {"SHULE", "22334"}
        self.balance = "KES 1785.50"

    @property
    def requests(self) -> list[Received]:
        """The requests that were read, in their order."""
        return self._server.requests

    @property
    def forms(self) -> list[dict[str, str]]:
        """The fields of the requests for messages."""
        return [form_of(one) for one in self.requests if one.method == "POST"]

    async def talk(self, peer: Peer) -> None:
        """Serve one connection."""
        while True:
            request = await peer.request()
            if urlsplit(request.target).path == "/version1/user":
                await peer.send(self._account(request))
                continue
            trouble = self.troubles.popleft() if self.troubles else Trouble()
            response = self._messaging(request, takes=trouble.takes)
            await asyncio.sleep(trouble.after_s)
            if not trouble.answers:
                return
            await peer.send(trouble.raw or response)

    def _account(self, request: Received) -> bytes:
        username = parse_qs(urlsplit(request.target).query).get("username", [""])[0]
        if not self._is_allowed(request, username):
            return _unauthorised()
        return reply(200, json.dumps({"UserData": {"balance": self.balance}}))

    def _messaging(self, request: Received, *, takes: bool) -> bytes:
        if (request.method, request.target) != ("POST", "/version1/messaging"):
            return reply(404, "Not found", "text/plain")
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return reply(400, "Form expected", "text/plain")
        form = form_of(request)
        if not self._is_allowed(request, form.get("username", "")):
            return _unauthorised()
        if request.headers.get("accept") != "application/json":
            return reply(201, "<AfricasTalkingResponse/>", "application/xml")
        if form.get("from", "SHULE") not in self.senders:
            return reply(201, answer([], "InvalidSenderId"))
        entries = [self._entry(number, form, takes=takes) for number in form["to"].split(",")]
        return reply(201, answer(entries[::-1]))

    def _entry(self, number: str, form: Mapping[str, str], *, takes: bool) -> dict[str, Any]:
        codes = self.codes.get(number, deque([101]))
        code = codes.popleft() if len(codes) > 1 else codes[0]
        if code in TAKEN and takes:
            self.sent.append((number, form["message"]))
        return entry(number, code)

    def _is_allowed(self, request: Received, username: str) -> bool:
        return request.headers.get("apikey") == KEY and username == "sandbox"


def form_of(request: Received) -> dict[str, str]:
    """Return the fields of a form."""
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def _unauthorised() -> bytes:
    return reply(401, "The supplied authentication is invalid", "text/plain;charset=UTF-8")


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    """Run a gateway."""
    running: list[Gateway] = []

    async def talk(peer: Peer) -> None:
        await running[0].talk(peer)

    async with serving(talk) as server:
        running.append(Gateway(server))
        yield running[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt came to, whether anything had left, and what was logged."""

    outcome: Outcome
    sent: bool
    log: list[str]


async def attempt(
    url: str,
    operation: str,
    payload: Mapping[str, Any],
    *,
    open_recipients: Sequence[str] | None = None,
    timeout_s: float = 5.0,
    defaults: Mapping[str, str] | None = None,
    **config: Any,
) -> Attempt:
    """Make one attempt, as the daemon does, over a client as the connection has it."""
    cls, contract = AfricasTalking, CATALOGUE[operation]
    settings = cls.Config.model_validate(CONFIG | {"base_url": url} | config)
    request = msgspec.json.decode(msgspec.json.encode(payload), type=contract.request)
    named = contract.recipients(request) if open_recipients is None else open_recipients
    log = CapturedLog()
    async with prepare_client(base_url=url, timeout_s=timeout_s, allow_private=True) as client:
        ctx = make_context(operation, client=client, log=log, open_recipients=named)
        ctx.timeout_s = timeout_s
        ctx.defaults = defaults or {}
        with recording(ctx.mark_sent):
            try:
                method = cls.operations()[operation].method
                with anyio.fail_after(timeout_s):
                    outcome = await method(cls(settings, FakeConnection()), request, ctx)
            except (httpx2.HTTPError, TimeoutError) as error:
                outcome = of_error(error)
    return Attempt(outcome=outcome, sent=bool(ctx.sent), log=log.lines)
