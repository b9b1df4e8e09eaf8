"""The Paystack provider, made and used as a connection does, with Paystack behind a real socket."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import msgspec
from starlette.requests import Request
from starlette.types import Message
from tests.plugins.paystack_account import KEY, signature
from tests.plugins.paystack_server import FakePaystack
from tests.sdk.scripted_server import Peer, Received, ScriptedServer, serving

from integrationd.registry import builtin_plugins
from integrationd.sdk import CATALOGUE, Asked, CannotTell, Context, Finding, Outcome, OutcomeError
from integrationd.sdk.classify import finding_of_error, of_error
from integrationd.sdk.exchange import recording
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import CALL_ID, CapturedLog, FakeClock, FakeConnection, make_context
from integrationd.sdk.testing.fakes import class_in
from integrationd.sdk.webhook import WebhookRequest

PAYSTACK = builtin_plugins() / "payment" / "paystack"
Paystack: Any = class_in(PAYSTACK)

CONFIG: Mapping[str, Any] = {"secret_key": KEY}
EMAIL = "ada@example.com"
PAYMENT = {"amount": "2500.00", "currency": "KES", "customer": {"email": EMAIL}}
ACCOUNT = {"number": "0123456789", "bank_code": "058", "name": "Ada Obi"}
PAYOUT = {"amount": "1500", "currency": "NGN", "account": ACCOUNT, "description": "Wages"}


class DroppedError(Exception):
    """The connection breaks before the reply."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt came to, whether anything of it had left, and what was logged."""

    outcome: Outcome
    sent: bool
    log: list[str]


class Line:
    """One connection to a running fake.

    Attributes:
        fake: The fake.
        clock: What both sides read the time from.
        provider: The provider.
        url: Where Paystack is.
        requests: What was read from the socket.
    """

    def __init__(
        self,
        fake: FakePaystack,
        clock: FakeClock,
        client: httpx2.AsyncClient,
        provider: Any,
        server: ScriptedServer,
    ) -> None:
        self.fake = fake
        self.clock = clock
        self.provider = provider
        self.url = server.url
        self.requests = server.requests
        self._client = client

    async def send(
        self, operation: str, payload: Mapping[str, Any], *, call_id: str = CALL_ID
    ) -> Attempt:
        """Make one send, as the daemon does."""
        ctx, log = self._context(operation, payload, call_id), CapturedLog()
        ctx.log = log
        method = type(self.provider).operations()[operation].method
        with recording(ctx.mark_sent), anyio.fail_after(5):
            try:
                outcome = await method(self.provider, request_of(operation, payload), ctx)
            except OutcomeError as error:
                outcome = error.outcome
            except httpx2.HTTPError as error:
                outcome = of_error(error)
        return Attempt(outcome, bool(ctx.sent), log.lines)

    async def ask(
        self,
        operation: str,
        payload: Mapping[str, Any],
        reference: str | None = None,
        *,
        age_s: float = 0,
        call_id: str = CALL_ID,
    ) -> Finding:
        """Ask what became of a send of ``age_s`` seconds ago, as the daemon does."""
        ctx = self._context(operation, payload, call_id)
        asked = Asked(
            operation=operation,
            request=request_of(operation, payload),
            provider_reference=reference,
            sent_at_ms=self.clock.now_ms() - round(age_s * 1000),
        )
        method = type(self.provider).queries()[operation].method
        try:
            finding: Finding = await method(self.provider, asked, ctx)
        except OutcomeError as error:
            told: Any = error.outcome
            return CannotTell(reason=getattr(told, "reason", "throttled"), detail=told.detail)
        except httpx2.HTTPError as error:
            return finding_of_error(error)
        return finding

    async def tested(self) -> str:
        """Test the connection."""
        said: str = await self.provider.test_connection(self._context("payment.verify", {}, ""))
        return said

    def posted(self, path: str) -> list[dict[str, Any]]:
        """Return the bodies that a path was sent."""
        return [body for method, asked, body in self.fake.seen if (method, asked) == ("POST", path)]

    def drop_replies(self) -> None:
        """Break every connection between the effect and the reply, from now on."""

        async def drop(_request: object) -> None:
            await anyio.lowlevel.checkpoint()
            raise DroppedError

        self.fake.before_reply = drop

    def drop_next_effect(self) -> None:
        """Break the next connection on which money is asked for or moved, before its reply."""

        async def drop(request: Request) -> None:
            await anyio.lowlevel.checkpoint()
            if request.url.path in ("/transaction/initialize", "/transfer", "/refund"):
                self.mend()
                raise DroppedError

        self.fake.before_reply = drop

    def mend(self) -> None:
        """Let replies through again."""

        async def let_through(_request: object) -> None:
            await anyio.lowlevel.checkpoint()

        self.fake.before_reply = let_through

    def _context(self, operation: str, payload: Mapping[str, Any], call_id: str) -> Context:
        ctx = make_context(operation, client=self._client, clock=self.clock, call_id=call_id)
        ctx.reference = str(payload.get("reference") or call_id)
        return ctx


@contextlib.asynccontextmanager
async def line(**config: Any) -> AsyncIterator[Line]:
    """Serve Paystack on loopback and connect to it; a :class:`DroppedError` breaks off."""
    clock = FakeClock()
    fake = FakePaystack(lambda: clock.now_ms() / 1000, "https://hooks.example/webhooks/paystack")

    async def talk(peer: Peer) -> None:
        while True:
            received = await peer.request()
            try:
                reply = await _through(fake, received)
            except DroppedError:
                return
            await peer.send(reply)

    async with serving(talk) as server:
        made = provider(base_url=server.url, allow_private=True, **config)
        async with prepare_client(base_url=server.url, timeout_s=5, allow_private=True) as client:
            yield Line(fake, clock, client, made, server)


async def _through(fake: FakePaystack, received: Received) -> bytes:
    """Ask the ASGI app, and return its whole response as bytes."""
    path, _, query = received.target.partition("?")
    scope = {
        "type": "http",
        "method": received.method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in received.headers.items()],
    }
    told: list[Message] = []

    async def receive() -> Message:
        await anyio.lowlevel.checkpoint()
        return {"type": "http.request", "body": received.body}

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(message)

    await fake.app(scope, receive, send)
    lines = [b"HTTP/1.1 %d Status" % told[0]["status"]]
    lines += [name + b": " + value for name, value in told[0]["headers"]]
    return b"\r\n".join([*lines, b"", b""]) + b"".join(one.get("body", b"") for one in told[1:])


def provider(**config: Any) -> Any:
    """Make the provider as a connection would."""
    return Paystack(Paystack.Config.model_validate({**CONFIG, **config}), FakeConnection())


def request_of(operation: str, payload: Mapping[str, Any]) -> Any:
    """Return a payload as the contract's typed request."""
    return msgspec.json.decode(msgspec.json.encode(payload), type=CATALOGUE[operation].request)


def unsupported(operation: str, payload: Mapping[str, Any]) -> str | None:
    """Return why a call would be refused before it is accepted."""
    said: str | None = provider().unsupported(operation, request_of(operation, payload))
    return said


def webhook(body: bytes, given: str | None = None) -> WebhookRequest:
    """Return a webhook as the daemon hands it over, signed unless a signature is given."""
    return WebhookRequest(
        method="POST",
        path="",
        query={},
        headers=[("x-paystack-signature", signature(body) if given is None else given)],
        body=body,
        source="52.31.139.75",
        received_at_ms=FakeClock().now_ms(),
    )
