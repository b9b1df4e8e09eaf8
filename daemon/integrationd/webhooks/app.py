"""The webhook listener as an ASGI app: which connection an address belongs to, nothing else."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from integrationd.clock import Clock
from integrationd.registry import Connection, Registry
from integrationd.sdk.webhook import WebhookReply, WebhookRequest
from integrationd.webhooks.addresses import Addresses
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
_METHODS = frozenset({"POST", "GET"})
_MOST_HEADERS = 100


# A connection, what follows its address, the call it was for, whether the address proves it.
Found: TypeAlias = tuple[Connection, str, str | None, bool]


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
        source = self._source(scope)
        if not self._pace.admits(source):
            # Before anything else is done, so that a flood costs next to nothing.
            await _send(send, WebhookReply(status=429))
            return
        if scope["method"] not in _METHODS:
            await _send(send, WebhookReply(status=405))
            return
        found = await self._found(scope["path"])
        if found is None:
            await _send(send, WebhookReply(status=404))
            return
        connection, path, call_id, by_token = found
        try:
            body = await _body(receive, self._max_body)
        except BodyTooLargeError:
            await _send(send, WebhookReply(status=413))
            return
        except BodyCutError:
            return
        query = scope["query_string"].decode("latin-1")
        request = WebhookRequest(
            method=scope["method"],
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=[
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in scope["headers"][:_MOST_HEADERS]
            ],
            body=body,
            source=source,
            received_at_ms=self._clock.now_ms(),
            token=by_token,
        )
        incoming = Incoming(
            connection=connection, request=request, raw_query=query, call_id=call_id
        )
        await _send(send, await self._receiver.receive(incoming))

    def _source(self, scope: Scope) -> str:
        peer = scope.get("client")
        forwarded = [
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ]
        return source_of(peer[0] if peer else "", forwarded, self._trusted)

    async def _found(self, path: str) -> Found | None:
        """Return the connection of a path, what follows its address, its call, and the proof."""
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

    async def _handed_out(self, token: str, rest: str) -> Found | None:
        purpose = self._addresses.read(token)
        if purpose is None:
            return None
        name = purpose.connection
        if purpose.call_id is not None:
            name = await self._connection_of_call(purpose.call_id)
        connection = self._registry.find(name) if name else None
        if connection is None or not connection.plugin.provider.receives_webhooks():
            return None
        return connection, rest, purpose.call_id, True

    def _by_provider(self, provider: str, rest: str) -> Found | None:
        """Return the one connection of a provider; secrets of several are never tried in turn."""
        found = [
            one for one in self._registry.connections() if one.code == provider and one.enabled
        ]
        return self._if_it_receives(found[0], rest) if len(found) == 1 else None

    def _if_it_receives(self, connection: Connection, rest: str) -> Found | None:
        if not connection.plugin.provider.receives_webhooks():
            return None
        return connection, rest, None, False


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
