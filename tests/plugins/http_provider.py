"""The generic HTTP provider, made and used as a connection does."""

from typing import Any

import httpx2
import msgspec
from tests.sdk.scripted_server import ScriptedServer

from integrationd.registry import builtin_plugins
from integrationd.sdk import (
    Delivered,
    HttpRequest,
    Outcome,
    Provider,
)
from integrationd.sdk.classify import of_error
from integrationd.sdk.exchange import recording
from integrationd.sdk.http import prepare_client
from integrationd.sdk.testing import FakeConnection, make_context
from integrationd.sdk.testing.fakes import class_in

HTTP = builtin_plugins() / "http" / "http.py"
Http = class_in(HTTP)
BASE = {"base_url": "https://partner.example/api"}


def provider(**config: Any) -> Any:
    return Http(Http.Config.model_validate(BASE | config), FakeConnection())


def payload(**members: Any) -> HttpRequest:
    return msgspec.json.decode(
        msgspec.json.encode({"method": "GET", "path": "/"} | members), type=HttpRequest
    )


async def send(
    url: str, request: HttpRequest, *, attempt: int = 1, **config: Any
) -> tuple[Outcome, bool]:
    """Send over a real client; return the outcome and whether the request had left."""
    made: Provider = provider(base_url=url, allow_private=True, **config)
    method = Http.operations()["http.request"].method
    async with prepare_client(base_url=url, timeout_s=5.0, allow_private=True) as client:
        ctx = make_context("http.request", client=client, attempt=attempt)
        with recording(ctx.mark_sent):
            return await _outcome(method(made, request, ctx)), bool(ctx.sent)


async def _outcome(sending: Any) -> Outcome:
    try:
        outcome: Outcome = await sending
    except httpx2.HTTPError as error:
        return of_error(error)
    return outcome


async def delivered(server: ScriptedServer, request: HttpRequest, **config: Any) -> dict[str, Any]:
    outcome, sent = await send(f"{server.url}/api", request, **config)
    assert isinstance(outcome, Delivered), outcome
    assert sent
    return dict(outcome.result)
