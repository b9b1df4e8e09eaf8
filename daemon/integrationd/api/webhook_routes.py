"""Routes of the inbox: what providers sent, where they send it, and having one worked on again."""

import base64
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.paging import page_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.tenancy import caller_of, may_change, tenant_filter
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.call import EventRecord
from integrationd.clock import to_rfc3339
from integrationd.errors import UnprocessableError
from integrationd.journal import InboxFilter, StoredWebhook

FILTERS = ("connection", "state", "call_id", "tenant")
STATES = frozenset({"new", "held", "unmatched", "applied", "ignored", "unreadable", "failed"})


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as the API shows it.

    Attributes:
        types: What the provider calls what it tells, comma-separated.
        state: ``new``, ``held`` until its call's attempt has ended, ``unmatched`` until its call
            turns up; then ``applied``, ``ignored``, ``unreadable`` or ``failed``.
        note: What came of it, in a sentence.
        proof: ``signature``, ``secret``, or ``token`` for its address alone.
        repeats: How many copies came after it.
        headers: As they came, secrets masked.
        body: As text, where it is text; ``body_base64`` else.
    """

    id: str
    connection: str
    provider: str
    tenant: str
    received_at: str
    source: str
    path: str
    types: str
    state: str
    note: str | None
    call_id: str | None
    proof: str
    repeats: int
    repeated_at: str | None
    reply_status: int
    headers: dict[str, str] | None = None
    body: str | None = None
    body_base64: str | None = None


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a connection's provider sends its webhooks.

    Attributes:
        address: The unguessable address, for the provider's dashboard; null without ``public_url``.
        path: The plain one, for providers that sign what they send.
        received: How many webhooks came, copies not counted.
        repeats: How many copies.
    """

    connection: str
    provider: str
    address: str | None
    path: str
    received: int
    repeats: int
    last_received_at: str | None


class WebhookRoutes:
    """The routes of the inbox."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/webhooks", self.list_webhooks),
            Route("/v1/webhooks/{webhook_id}", self.show),
            Route("/v1/webhooks/{webhook_id}/replay", self.replay, methods=["POST"]),
            Route("/v1/webhook-endpoints", self.endpoints),
        ]

    async def list_webhooks(self, request: Request) -> Response:
        """List webhooks, the latest first, without their bodies."""
        page = read_page(request.query_params, FILTERS)
        state = page.filters.get("state")
        if state is not None and state not in STATES:
            raise UnprocessableError(
                f"there is no state {state[:40]!r}; the states are: {', '.join(sorted(STATES))}"
            )
        tenant = tenant_filter(caller_of(request), page.filters.get("tenant"))
        wanted = InboxFilter(**{**page.filters, "tenant": tenant})
        found = await self._parts.journal.inbox.list(wanted, before=page.before, limit=page.limit)
        items = [_view(one) for one in found]
        return json_reply(page_of(items, [one.seq for one in found], page)).as_response()

    async def show(self, request: Request) -> Response:
        """Show one webhook whole."""
        found = await self._find(request)
        return json_reply(_view(found, **self._content(found))).as_response()

    async def replay(self, request: Request) -> Response:
        """Have one webhook worked on again, with the plugin as it is now."""
        found, caller = await self._find(request), caller_of(request)
        told = EventRecord(
            type="webhook.replayed",
            tenant=found.tenant,
            connection=found.connection,
            data={"by": caller.by, "webhook": found.id, "before": found.state},
        )
        await self._parts.journal.events.append(told, self._parts.clock.now_ms())
        self._parts.hooks.replay(found)
        return json_reply(_view(found), 202).as_response()

    async def _find(self, request: Request) -> StoredWebhook:
        webhook_id, within = request.path_params["webhook_id"], caller_of(request).tenant
        return await self._parts.journal.inbox.get(webhook_id, within)

    async def endpoints(self, request: Request) -> Response:
        """Show where each provider sends its webhooks, and what has come there."""
        caller = caller_of(request)
        counted = {one.connection: one for one in await self._parts.journal.inbox.endpoints()}
        items = []
        for connection in self._parts.registry.connections():
            # An address that all share lets whoever knows it speak for all of them.
            if not may_change(caller, connection.tenant):
                continue
            if not connection.plugin.provider.receives_webhooks():
                continue
            count = counted.get(connection.name)
            last_ms = count.last_received_at_ms if count else None
            items.append(
                EndpointView(
                    connection=connection.name,
                    provider=connection.code,
                    address=self._parts.hooks.address(connection.name),
                    path=f"/webhooks/{connection.code}/{connection.name}",
                    received=count.received if count else 0,
                    repeats=count.repeats if count else 0,
                    last_received_at=to_rfc3339(last_ms) if last_ms is not None else None,
                )
            )
        return json_reply({"items": items, "next": None}).as_response()

    def _content(self, found: StoredWebhook) -> dict[str, Any]:
        headers: dict[str, str] = msgspec.json.decode(found.headers)
        try:
            found.body.decode()
        except UnicodeDecodeError:
            return {"headers": headers, "body_base64": base64.b64encode(found.body).decode()}
        kind = next((value for name, value in headers.items() if name == "content-type"), None)
        return {"headers": headers, "body": self._parts.masker.body(found.body, kind)}


def _view(one: StoredWebhook, **content: Any) -> WebhookView:
    repeated_ms = one.repeated_at_ms
    return WebhookView(
        id=one.id,
        connection=one.connection,
        provider=one.provider,
        tenant=one.tenant,
        received_at=to_rfc3339(one.received_at_ms),
        source=one.source,
        path=one.path,
        types=one.types,
        state=one.state,
        note=one.note,
        call_id=one.call_id,
        proof=one.proof,
        repeats=one.repeats,
        repeated_at=to_rfc3339(repeated_ms) if repeated_ms is not None else None,
        reply_status=one.reply_status,
        **content,
    )


TOLD: Table = {
    ("get", "/v1/webhooks"): Told(
        summary="List what providers sent, the latest first.",
        gives={200: Page[WebhookView]},
        query=(*PAGE, *FILTERS),
        personal="all",
        role=Role.READ,
    ),
    ("get", "/v1/webhooks/{webhook_id}"): Told(
        summary="Show one webhook whole.",
        gives={200: WebhookView},
        personal="readers",
        role=Role.READ,
    ),
    ("post", "/v1/webhooks/{webhook_id}/replay"): Told(
        summary="Have one webhook worked on again.", gives={202: WebhookView}, role=Role.STAFF
    ),
    ("get", "/v1/webhook-endpoints"): Told(
        summary="Show where providers send their webhooks.",
        gives={200: Page[EndpointView]},
        # Who knows an address can send there what an unsigned webhook says.
        role=Role.STAFF,
    ),
}
