"""One webhook, as a straight line: whose is it, is it theirs, is it new; keep it, then answer.

What it means is worked out afterwards (:mod:`integrationd.webhooks.correlator`), so that the answer
is as fast as ever while the app, the delivery side or a call is not there.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import parse_qsl

import anyio
import msgspec
import structlog

from integrationd.call import DEFAULT_TENANT, new_call_id
from integrationd.clock import Clock
from integrationd.errors import JournalError
from integrationd.events import Bus, WebhookReceived, WebhookRefused
from integrationd.journal import Inbox, Received, StoredWebhook
from integrationd.masking import Masker
from integrationd.registry import Connection, Registry
from integrationd.registry.containment import contained
from integrationd.sdk.webhook import (
    Notice,
    Refusal,
    UnreadableError,
    Verified,
    WebhookReply,
    WebhookRequest,
)
from integrationd.settings import ConnectionWebhooks
from integrationd.webhooks.reading import notices_of
from integrationd.webhooks.sources import Networks

# As long as the most patient provider waits for a decision (M-Pesa validation: 8 s).
DECISION_LIMIT_S = 7.5
RETRY_AFTER_S = 5
# Nothing vouches for the content of what is taken for these.
_NO_PROOF = frozenset({"token", "address"})
_NOT_FOUND = WebhookReply(status=404)
_NO_ACCESS = WebhookReply(status=403)


class Rules(Protocol):
    """What the configuration says of one connection's webhooks."""

    def __call__(self, connection: str) -> ConnectionWebhooks:
        """Return the rules of a connection."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request, and which connection it came to.

    Attributes:
        connection: The connection.
        request: The request.
        raw_query: The query string.
        call_id: The call that its address was handed out for, if it was for one.
    """

    connection: Connection
    request: WebhookRequest
    raw_query: str
    call_id: str | None


class Receiver:
    """Takes webhooks in.

    Args:
        inbox: Where they are kept.
        registry: The live connections.
        rules: What the configuration says of a connection's webhooks.
        masker: Masks the headers that are kept.
        bus: Where it is told what came, and what was refused.
        clock: Where time is read.
        on_kept: Called when a new one is in the inbox.
    """

    def __init__(
        self,
        inbox: Inbox,
        registry: Registry,
        rules: Rules,
        masker: Masker,
        bus: Bus,
        clock: Clock,
        on_kept: Callable[[StoredWebhook], None],
    ) -> None:
        self._inbox = inbox
        self._registry = registry
        self._rules = rules
        self._masker = masker
        self._bus = bus
        self._clock = clock
        self._on_kept = on_kept
        self._undecided: dict[int, anyio.Event] = {}
        self._log = structlog.get_logger("integrationd.webhooks")

    async def receive(self, incoming: Incoming) -> WebhookReply:
        """Take one webhook in and return what the provider is to be answered."""
        with incoming.connection.held() as connection:
            incoming = self._placed(incoming)
            refused = self._outsider(incoming)
            if refused is not None:
                return refused
            try:
                return await self._take(connection, incoming)
            except JournalError as error:
                self._log.warning("webhook_not_kept", connection=connection.name, why=str(error))
                return WebhookReply(status=503)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                # It will come again; perhaps the plugin has been mended by then.
                self._log.exception("webhook_failed", connection=connection.name)
                told = f"the plugin raised {type(error).__name__}"
                self._refuse(incoming, Refusal("plugin_error", told, 500))
                return WebhookReply(status=500)

    def _placed(self, incoming: Incoming) -> Incoming:
        """Note whether the webhook comes from where the connection's provider calls from."""
        allowed = Networks(self._rules(incoming.connection.name).allow_from)
        listed = dataclasses.replace(
            incoming.request, listed=allowed.holds(incoming.request.source)
        )
        return dataclasses.replace(incoming, request=listed)

    def _outsider(self, incoming: Incoming) -> WebhookReply | None:
        """Refuse what comes from, or to, an address that the connection does not take."""
        rules, request = self._rules(incoming.connection.name), incoming.request
        if rules.allow_from and not request.listed:
            self._refuse(incoming, Refusal("source_not_allowed", request.source, 403))
            return _NO_ACCESS
        if rules.require_address and not request.token:
            self._refuse(incoming, Refusal("address_required", "not to an address of ours", 404))
            return _NOT_FOUND
        return None

    async def _take(self, connection: Connection, incoming: Incoming) -> WebhookReply:
        provider, request = connection.provider, incoming.request
        if request.method == "GET":
            with contained():
                return provider.answer_challenge(request) or WebhookReply(status=405)
        with contained():
            proof = provider.verify_webhook(request)
        if not isinstance(proof, Verified):
            self._refuse(incoming, proof)
            return WebhookReply(status=proof.status)
        notices, unreadable = self._read(connection, request)
        if unreadable and proof.by in _NO_PROOF:
            # Nothing vouches for its content, so that it may as well be junk.
            self._refuse(incoming, Refusal("unreadable", unreadable, 400))
            return WebhookReply(status=400)
        with contained():
            reply = provider.webhook_reply(request)
        received = self._received(incoming, proof, notices, unreadable, reply)
        kept, is_copy = await self._inbox.keep(received)
        if is_copy:
            return _reply_of(await self._decided(kept))
        self._bus.publish(WebhookReceived(connection.name, kept.id, kept.types))
        self._on_kept(kept)
        return await self._decide(connection, request, kept)

    def _read(
        self, connection: Connection, request: WebhookRequest
    ) -> tuple[Sequence[Notice], str | None]:
        try:
            return notices_of(connection.provider, request), None
        except UnreadableError as error:
            return (), str(error)

    def _received(
        self,
        incoming: Incoming,
        proof: Verified,
        notices: Sequence[Notice],
        unreadable: str | None,
        reply: WebhookReply,
    ) -> Received:
        connection, request = incoming.connection, incoming.request
        headers = self._masker.headers(request.headers)
        return Received(
            id=new_call_id(request.received_at_ms),
            tenant=connection.tenant or DEFAULT_TENANT,
            connection=connection.name,
            provider=connection.code,
            received_at_ms=request.received_at_ms,
            source=request.source,
            method=request.method,
            path=request.path,
            query=self._masker.without_values(incoming.raw_query),
            headers=msgspec.json.encode(headers).decode(),
            body=_without_values(request.body, self._masker),
            proof=proof.by,
            address_call_id=incoming.call_id,
            dedupe=_dedupe(request, notices),
            reply_status=reply.status,
            reply_type=reply.content_type,
            reply_body=reply.body,
            types=", ".join(notice.type for notice in notices),
            state="unreadable" if unreadable else "new",
            note=unreadable,
        )

    async def _decide(
        self, connection: Connection, request: WebhookRequest, kept: StoredWebhook
    ) -> WebhookReply:
        """Return the reply that was kept, unless the provider asks for a decision first."""
        over = self._undecided[kept.seq] = anyio.Event()
        try:
            decided = await self._decision(connection, request)
            if decided is None:
                return _reply_of(kept)
            await self._inbox.set_reply(
                kept.seq, decided.status, decided.content_type, decided.body
            )
            return decided
        finally:
            del self._undecided[kept.seq]
            over.set()

    async def _decision(
        self, connection: Connection, request: WebhookRequest
    ) -> WebhookReply | None:
        """Have the plugin decide; None where it does not, or fails, or takes too long."""
        try:
            with anyio.move_on_after(DECISION_LIMIT_S), contained():
                return await connection.provider.decide_webhook(request)
        except Exception:  # noqa: BLE001 - a plugin may raise anything
            self._log.exception("webhook_not_decided", connection=connection.name)
        return None

    async def _decided(self, kept: StoredWebhook) -> StoredWebhook:
        """Wait until the first copy has been decided about, and return it as it then is."""
        undecided = self._undecided.get(kept.seq)
        if undecided is None:
            return kept
        await undecided.wait()
        return await self._inbox.by_seq(kept.seq) or kept

    def _refuse(self, incoming: Incoming, refusal: Refusal) -> None:
        connection = incoming.connection
        self._bus.publish(
            WebhookRefused(
                connection.name,
                incoming.request.source,
                refusal.reason,
                refusal.detail,
                connection.tenant or DEFAULT_TENANT,
            )
        )


def _reply_of(kept: StoredWebhook) -> WebhookReply:
    return WebhookReply(
        status=kept.reply_status, body=kept.reply_body, content_type=kept.reply_type
    )


def _without_values(body: bytes, masker: Masker) -> bytes:
    """Return a body in which the secrets that it carries are masked, as some carry their proof."""
    try:
        text = body.decode()
        masked = masker.without_values(text)
        return body if masked == text else masked.encode()
    except UnicodeDecodeError:
        text = body.decode("latin-1")
        masked = masker.without_values(text)
        return body if masked == text else masked.encode("latin-1", "replace")


def _dedupe(request: WebhookRequest, notices: Sequence[Notice]) -> bytes:
    """Return what copies of one webhook have in common: the provider's ids, else every byte."""
    ids = sorted({notice.event_id for notice in notices if notice.event_id})
    told = msgspec.json.encode(["ids", *ids] if ids else ["bytes", request.path])
    return hashlib.sha256(told + (b"" if ids else request.body)).digest()


def request_of(kept: StoredWebhook) -> WebhookRequest:
    """Return a kept webhook as it came in; its headers are masked."""
    headers: Mapping[str, str] = msgspec.json.decode(kept.headers)
    return WebhookRequest(
        method=kept.method,
        path=kept.path,
        query=dict(parse_qsl(kept.query, keep_blank_values=True)),
        headers=tuple(headers.items()),
        body=kept.body,
        source=kept.source,
        received_at_ms=kept.received_at_ms,
        token=kept.proof == "token" or kept.address_call_id is not None,
        listed=kept.proof == "address",
    )
