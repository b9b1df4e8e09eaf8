"""The Stripe provider, made and used as a connection does, and a Stripe on loopback for it."""

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import anyio
import httpx2
import msgspec
from starlette.types import Message, Receive, Scope, Send
from tests.plugins.stripe_account import SECRET
from tests.plugins.stripe_server import KEY, DroppedError, FakeStripe
from tests.sdk.scripted_server import Peer, Received, serving

from integrationd.registry import builtin_plugins
from integrationd.sdk import CATALOGUE, Asked, Context, Finding, Outcome, Provider
from integrationd.sdk.classify import of_error
from integrationd.sdk.exchange import recording
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import FakeClock, FakeConnection, make_context
from integrationd.sdk.testing.fakes import class_in

STRIPE = builtin_plugins() / "payment" / "stripe"
Stripe = class_in(STRIPE)
CONFIG: Mapping[str, Any] = {"secret_key": KEY, "webhook_secret": SECRET}


@dataclasses.dataclass(slots=True)
class Running:
    """Stripe behind a real socket.

    Attributes:
        fake: The account and its API.
        clock: What both sides read the time from.
        url: The address.
        requests: What was read from the socket.
    """

    fake: FakeStripe
    clock: FakeClock
    url: str
    requests: list[Received]


@contextlib.asynccontextmanager
async def stripe() -> AsyncIterator[Running]:
    """Run Stripe on a socket of its own; a :class:`DroppedError` breaks the connection."""
    clock = FakeClock()
    fake = FakeStripe(lambda: clock.now_ms() / 1000)

    async def talk(peer: Peer) -> None:
        while True:
            received = await peer.request()
            try:
                reply = await _through(fake.app, received)
            except DroppedError:
                return
            await peer.send(reply)

    async with serving(talk) as server:
        yield Running(fake, clock, server.url, server.requests)


async def _through(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], received: Received
) -> bytes:
    """Ask an ASGI app, and return its whole response as bytes."""
    path, _, query = received.target.partition("?")
    headers = [(name.encode(), value.encode()) for name, value in received.headers.items()]
    scope = {"type": "http", "method": received.method, "path": path, "headers": headers}
    told: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": received.body}

    async def send(message: Message) -> None:
        await asyncio.sleep(0)
        told.append(message)

    await app(scope | {"query_string": query.encode()}, receive, send)
    lines = [b"HTTP/1.1 %d Status" % told[0]["status"]]
    lines += [name + b": " + value for name, value in told[0]["headers"]]
    return b"\r\n".join([*lines, b"", b""]) + b"".join(one.get("body", b"") for one in told[1:])


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A call as the plugin meets it, attempt after attempt.

    Attributes:
        at: Where Stripe is.
        operation: ``category.verb``.
        payload: What an app gave.
        config: What is different about the connection.
    """

    at: Running
    operation: str
    payload: Mapping[str, Any]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def request(self) -> Any:
        """The typed request."""
        encoded = msgspec.json.encode(self.payload)
        return msgspec.json.decode(encoded, type=CATALOGUE[self.operation].request)

    @property
    def call_id(self) -> str:
        """Its id, from which its key follows; another payload is another call."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.operation} {self.payload!r}"))

    @contextlib.asynccontextmanager
    async def met(self) -> AsyncIterator[tuple[Provider, Context]]:
        """Give the provider and the context of one attempt."""
        config = Stripe.Config.model_validate({**CONFIG, "base_url": self.at.url, **self.config})
        url = self.at.url
        async with prepare_client(base_url=url, timeout_s=5, allow_private=True) as client:
            ctx = make_context(
                self.operation, client=client, clock=self.at.clock, call_id=self.call_id
            )
            own = self.payload.get("reference")
            ctx.reference = str(own) if own else ctx.reference
            yield Stripe(config, FakeConnection()), ctx

    async def send(self) -> Outcome:
        """Send it once, as the daemon does."""
        async with self.met() as (provider, ctx):
            with recording(ctx.mark_sent), anyio.fail_after(5):
                try:
                    method = Stripe.operations()[self.operation].method
                    return await method(provider, self.request, ctx)
                except httpx2.HTTPError as error:
                    return of_error(error)

    async def ask(self, reference: str | None, sent_at_ms: int | None = None) -> Finding:
        """Ask what became of it; it was sent just now unless said otherwise."""
        async with self.met() as (provider, ctx):
            asked = Asked(
                operation=self.operation,
                request=self.request,
                provider_reference=reference,
                sent_at_ms=ctx.clock.now_ms() if sent_at_ms is None else sent_at_ms,
            )
            return await Stripe.queries()[self.operation].method(provider, asked, ctx)
