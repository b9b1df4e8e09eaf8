"""The webhook listener as an ASGI app: which connection an address belongs to, nothing else."""

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from integrationd.clock import Clock
from integrationd.registry import Connection, Registry
from integrationd.registry.containment import contained
from integrationd.sdk.webhook import WebhookReply, WebhookRequest
from integrationd.webhooks.addresses import Addresses
from integrationd.webhooks.consent import PATH as CONSENT_PATH
from integrationd.webhooks.consent import Ended, Finish, nothing_begun, page
from integrationd.webhooks.receiver import RETRY_AFTER_S, Incoming, Receiver
from integrationd.webhooks.sources import Networks, Pace, source_of

# What users' documents and dashboards call them: the provider, and what follows its address.
ALIASES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "/webhooks/mpesa/callback": ("mpesa", ""),
        "/webhooks/mpesa/validation": ("mpesa", "/validation"),
        "/webhooks/mpesa/confirmation": ("mpesa", "/confirmation"),
        "/webhooks/sms/delivery": ("africastalking", ""),
        "/api/v1/webhooks/paystack": ("paystack", ""),
    }
)
_NOT_FOUND = WebhookReply(status=404)
_METHODS = frozenset({"POST", "GET"})
_MOST_HEADERS = 100


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What a path leads to.

    Attributes:
        connections: The connection; several where the webhook itself has to say which.
        rest: What follows its address.
        call_id: The call that the address was handed out for, if it was for one.
        by_token: Whether the address proves that we handed it out.
    """

    connections: Sequence[Connection]
    rest: str
    call_id: str | None = None
    by_token: bool = False


class BodyTooLargeError(Exception):
    """The body is over the limit."""


class BodyCutError(Exception):
    """The sender went before the end of the body; what came of it may look like a whole one."""


class WebhookApp:
    """Finds the connection that a request is for, and hands it to the receiver.

    Args:
        receiver: Takes webhooks in.
        registry: The live connections.
        addresses: Reads the addresses that were handed out.
        connection_of_call: Returns the name of the connection that a call went through.
        clock: Where time is read.

    Attributes:
        finish: Takes people back who were asked for their consent.
    """

    def __init__(
        self,
        receiver: Receiver,
        registry: Registry,
        addresses: Addresses,
        connection_of_call: Callable[[str], Awaitable[str | None]],
        clock: Clock,
    ) -> None:
        self._receiver = receiver
        self._registry = registry
        self._addresses = addresses
        self._connection_of_call = connection_of_call
        self._clock = clock
        self.finish: Finish = nothing_begun
        self.use(Networks(()), Pace(clock, 50.0, 200), 256 * 1024)

    def use(self, trusted: Networks, pace: Pace, max_body: int) -> None:
        """Go on under other settings.

        Args:
            trusted: Proxies whose word is taken.
            pace: How often one source may come.
            max_body: The largest body, in bytes.
        """
        self._trusted, self._pace, self._max_body = trusted, pace, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == CONSENT_PATH and scope["method"] == "GET":
            await self._end_consent(scope, send)
            return
        with contextlib.suppress(BodyCutError):
            await _send(send, await self._reply(scope, receive))

    async def _end_consent(self, scope: Scope, send: Send) -> None:
        """Answer a person who comes back from a provider."""
        if self._pace.admits(self._source(scope)):
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            ended = await self.finish(query)
        else:
            ended = Ended(429, "Too often", "Wait a moment, and reload this page.")
        headers, body = page(ended)
        await send({"type": "http.response.start", "status": ended.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _reply(self, scope: Scope, receive: Receive) -> WebhookReply:
        """Return the reply to one request.

        Raises:
            BodyCutError: Nobody waits for one.
        """
        source = self._source(scope)
        if not self._pace.admits(source):
            # Before anything else is done, so that a flood costs next to nothing.
            return WebhookReply(status=429)
        if scope["method"] not in _METHODS:
            return WebhookReply(status=405)
        found = await self._found(scope["path"])
        if found is None:
            return _NOT_FOUND
        try:
            body = await _body(receive, self._max_body)
        except BodyTooLargeError:
            return WebhookReply(status=413)
        query = scope["query_string"].decode("latin-1")
        request = self._request(scope, found, source, query, body)
        connection = _whose(found.connections, request)
        if connection is None:
            return _NOT_FOUND
        return await self._receiver.receive(
            Incoming(connection=connection, request=request, raw_query=query, call_id=found.call_id)
        )

    def _request(
        self, scope: Scope, found: _Place, source: str, query: str, body: bytes
    ) -> WebhookRequest:
        return WebhookRequest(
            method=scope["method"],
            path=found.rest,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=[
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in scope["headers"][:_MOST_HEADERS]
            ],
            body=body,
            source=source,
            received_at_ms=self._clock.now_ms(),
            token=found.by_token,
        )

    def _source(self, scope: Scope) -> str:
        peer = scope.get("client")
        forwarded = [
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ]
        return source_of(peer[0] if peer else "", forwarded, self._trusted)

    async def _found(self, path: str) -> _Place | None:
        """Return what a path leads to; None where that is nothing."""
        parts = path.split("/")
        if len(parts) > 2 and parts[1] == "hooks":
            return await self._handed_out(parts[2], _rest(parts[3:]))
        if path in ALIASES:
            provider, rest = ALIASES[path]
            return self._by_provider(provider, rest)
        if len(parts) == 3 and parts[1] == "webhooks":
            return self._by_provider(parts[2], "")
        if len(parts) > 3 and parts[1] == "webhooks":
            connection = self._registry.find(parts[3])
            if connection is not None and connection.code == parts[2]:
                return self._if_it_receives(connection, _rest(parts[4:]))
        return None

    async def _handed_out(self, token: str, rest: str) -> _Place | None:
        purpose = self._addresses.read(token)
        if purpose is None:
            return None
        name = purpose.connection
        if purpose.call_id is not None:
            name = await self._connection_of_call(purpose.call_id)
        connection = self._registry.find(name) if name else None
        if connection is None or not connection.plugin.provider.receives_webhooks():
            return None
        return _Place(connections=[connection], rest=rest, call_id=purpose.call_id, by_token=True)

    def _by_provider(self, provider: str, rest: str) -> _Place | None:
        """Return the connections of a provider; secrets of several are never tried in turn."""
        found = [
            one
            for one in self._registry.connections()
            if one.code == provider and one.enabled and one.plugin.provider.receives_webhooks()
        ]
        return _Place(connections=found, rest=rest) if found else None

    def _if_it_receives(self, connection: Connection, rest: str) -> _Place | None:
        if not connection.plugin.provider.receives_webhooks():
            return None
        return _Place(connections=[connection], rest=rest)


def _whose(connections: Sequence[Connection], request: WebhookRequest) -> Connection | None:
    """Return the connection that a webhook is for; where there are several, the one it names."""
    if len(connections) == 1:
        return connections[0]
    claiming = [one for one in connections if _claims(one, request)]
    return claiming[0] if len(claiming) == 1 else None


def _claims(connection: Connection, request: WebhookRequest) -> bool:
    try:
        with contained():
            return connection.provider.claims_webhook(request)
    except Exception:  # noqa: BLE001 - a plugin may raise anything; who cannot read it has no claim
        return False


def _rest(parts: Sequence[str]) -> str:
    return "".join(f"/{part}" for part in parts)


async def _body(receive: Receive, limit: int) -> bytes:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyCutError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


async def _send(send: Send, reply: WebhookReply) -> None:
    body = reply.body
    if not body and reply.status >= HTTPStatus.BAD_REQUEST:
        body = HTTPStatus(reply.status).phrase.encode()
    kind = reply.content_type or ("text/plain; charset=utf-8" if body else "")
    headers = [(b"content-length", str(len(body)).encode())]
    if kind:
        headers.append((b"content-type", kind.encode()))
        headers.append((b"x-content-type-options", b"nosniff"))
    if reply.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
