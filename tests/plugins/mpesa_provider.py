"""The M-Pesa provider, made and used as a connection does."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import msgspec
from tests.plugins.mpesa_callbacks import SHORTCODE, Callback
from tests.plugins.mpesa_server import (
    CREDENTIAL,
    INITIATOR,
    KEY,
    PASSKEY,
    SECRET,
    FakeDaraja,
    daraja,
)

from integrationd.registry import builtin_plugins
from integrationd.sdk import Asked, Context, Finding, Notice, Outcome, OutcomeError, Provider
from integrationd.sdk.classify import finding_of_error, of_error
from integrationd.sdk.contracts import contract_of
from integrationd.sdk.exchange import recording
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import FakeClock, FakeConnection, make_context
from integrationd.sdk.testing.context import CALL_ID
from integrationd.sdk.testing.fakes import class_in
from integrationd.sdk.tokens import TokenSource
from integrationd.sdk.webhook import WebhookRequest

MPESA = builtin_plugins() / "payment" / "mpesa"

Mpesa: Any = class_in(MPESA)
MODULE: Any = sys.modules[Mpesa.__module__]

# 2026-01-01 12:00:00 in Nairobi.
NOON_EAT_MS = 1_767_258_000_000
HOOK = "https://hooks.school.example/hooks/6300"
CONFIG = {
    "consumer_key": KEY,
    "consumer_secret": SECRET,
    "shortcode": SHORTCODE,
    "passkey": PASSKEY,
    "initiator_name": INITIATOR,
    "security_credential": CREDENTIAL,
}
PHONE, MSISDN = "+254712345678", "254712345678"
PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "customer": {"phone": PHONE},
    "account": "ADM1042",
}
PAYOUT = {"amount": "1200", "currency": "KES", "phone": PHONE, "description": "Refund of fees"}


def provider(**config: Any) -> Any:
    """Make the provider as a connection would."""
    return Mpesa(Mpesa.Config.model_validate(CONFIG | config), FakeConnection())


def request_of(operation: str, payload: Mapping[str, Any]) -> Any:
    """Return a payload as the contract's typed request."""
    contract = contract_of(operation, Mpesa.operations()[operation].contract)
    return msgspec.json.decode(msgspec.json.encode(payload), type=contract.request)


def unsupported(operation: str, payload: Mapping[str, Any], **config: Any) -> str | None:
    """Return why a call would be refused before it is accepted."""
    said: str | None = provider(**config).unsupported(operation, request_of(operation, payload))
    return said


def with_callbacks(ctx: Context, made: Provider, tokens: TokenSource | None = None) -> Context:
    """Give a context what the daemon gives it besides: tokens, and an address for callbacks."""
    ctx.tokens = tokens or TokenSource(ctx.clock)
    ctx.fetch_token = made.fetch_token
    ctx.callback_base = HOOK
    return ctx


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt came to, and whether anything of it had left."""

    outcome: Outcome
    sent: bool


class Line:
    """One connection to a running fake.

    Attributes:
        fake: The fake.
        provider: The provider.
        clock: Where the provider reads time.
        address: What callback addresses begin with.
    """

    def __init__(self, fake: FakeDaraja, client: httpx2.AsyncClient, made: Provider) -> None:
        self.fake = fake
        self.provider = made
        self.clock = FakeClock(NOON_EAT_MS)
        self.address = HOOK
        self._client = client
        self._tokens = TokenSource(self.clock)

    async def send(
        self, operation: str, payload: Mapping[str, Any], *, call_id: str = CALL_ID
    ) -> Attempt:
        """Make one send, as the daemon does."""
        ctx, request = self._context(operation, call_id), request_of(operation, payload)
        ctx.reference = getattr(request, "reference", None) or call_id
        method = type(self.provider).operations()[operation].method
        with recording(ctx.mark_sent):
            try:
                outcome = await method(self.provider, request, ctx)
            except OutcomeError as error:
                outcome = error.outcome
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                outcome = of_error(error)
        return Attempt(outcome, bool(ctx.sent))

    async def ask(
        self, operation: str, payload: Mapping[str, Any], reference: str | None
    ) -> Finding:
        """Make one query, as the daemon does."""
        ctx = self._context(operation, CALL_ID)
        asked = Asked(
            operation=operation,
            request=request_of(operation, payload),
            provider_reference=reference,
            sent_at_ms=NOON_EAT_MS,
        )
        method = type(self.provider).queries()[operation].method
        with recording(ctx.mark_sent):
            try:
                return await method(self.provider, asked, ctx)
            except OutcomeError as error:
                raise AssertionError(error) from error
            except httpx2.HTTPError as error:
                return finding_of_error(error)

    async def tested(self) -> str:
        """Test the connection."""
        return await self.provider.test_connection(self._context("payment.initiate", CALL_ID))

    def sent_to(self, path: str) -> list[dict[str, Any]]:
        """Return the bodies that a path was sent."""
        return [json.loads(one.body) for one in self.fake.requests if one.target == path]

    def told(self) -> Notice:
        """Take the next callback off the fake and return what it tells."""
        return notice(self.provider, self.fake.callbacks.popleft(), self.address)

    def _context(self, operation: str, call_id: str) -> Context:
        ctx = make_context(operation, client=self._client, clock=self.clock, call_id=call_id)
        with_callbacks(ctx, self.provider, self._tokens)
        ctx.callback_base = self.address
        return ctx


@contextlib.asynccontextmanager
async def line(fake: FakeDaraja | None = None, **config: Any) -> AsyncIterator[Line]:
    """Serve a fake on loopback and connect to it."""
    serving = fake or FakeDaraja()
    async with daraja(serving) as server:
        made = provider(base_url=server.url, allow_private=True, **config)
        async with prepare_client(base_url=server.url, timeout_s=5, allow_private=True) as client:
            try:
                yield Line(serving, client, made)
            finally:
                await made.aclose()


def webhook(body: bytes, path: str = "", *, token: bool = True) -> WebhookRequest:
    """Return a callback as the daemon hands it over."""
    return WebhookRequest(
        method="POST",
        path=path,
        query={},
        headers=[("content-type", "application/json")],
        body=body,
        source="196.201.214.200",
        received_at_ms=NOON_EAT_MS,
        token=token,
    )


def notice(made: Provider, callback: Callback, address: str = HOOK) -> Notice:
    """Return the one thing that a callback tells."""
    path = callback.url.removeprefix(address)
    [told] = made.read_webhook(webhook(callback.body, path))
    return told
