"""The users' providers and webhooks: what can be used, and where providers send what they tell."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from integrationd.api.connection_routes import ConnectionRoutes
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.told import Page, Table, Told
from integrationd.api.users.passing import is_refusal, passed_on, told_in
from integrationd.api.users.prefix import PREFIX
from integrationd.api.users.views import ProviderItem, WebhookItem
from integrationd.api.webhook_routes import EndpointView, WebhookRoutes, WebhookView

_PROVIDERS = f"{PREFIX}providers"
_WEBHOOKS = f"{PREFIX}webhooks"


class _Operation(msgspec.Struct, frozen=True):
    name: str


class _Provider(msgspec.Struct, frozen=True):
    """What is taken over from a provider as ``/v1`` shows it."""

    code: str
    categories: list[str]
    loaded_at: str
    summary: str
    operations: list[_Operation]
    config_schema: dict[str, object]


class _Providers(msgspec.Struct, frozen=True):
    items: list[_Provider]


class ProviderRoutes:
    """Answers below ``providers`` and ``webhooks``.

    Args:
        parts: What the routes work with.
        connections: The routes of providers and connections.
        webhooks: The routes of the inbox.
    """

    def __init__(
        self, parts: Parts, connections: ConnectionRoutes, webhooks: WebhookRoutes
    ) -> None:
        self._registry = parts.registry
        self._logbook = parts.journal.logbook
        self._connections = connections
        self._webhooks = webhooks

    async def providers(self, request: Request) -> Response:
        """Show what can be used, all or of one category."""
        answer = await passed_on(request, self._connections.providers, path=request.path_params)
        if is_refusal(answer):
            return answer
        shared = {one.code for one in self._registry.connections() if one.tenant is None}
        category = request.path_params.get("category")
        items = [
            _provider_item(one, category, is_global=one.code in shared)
            for one in told_in(answer, _Providers).items
        ]
        return json_reply({"items": items, "next": None}).as_response()

    async def endpoints(self, request: Request) -> Response:
        """Show where each provider sends its webhooks."""
        answer = await passed_on(request, self._webhooks.endpoints, path={})
        if is_refusal(answer):
            return answer
        return json_reply({"items": await self._items(answer), "next": None}).as_response()

    async def endpoint_or_webhook(self, request: Request) -> Response:
        """Show one address by its connection's name, or what came there by its own id."""
        name = request.path_params["webhook_id"]
        if self._registry.find(name) is not None:
            answer = await passed_on(request, self._webhooks.endpoints, path={})
            for item in [] if is_refusal(answer) else await self._items(answer):
                if item.id == name:
                    return json_reply(item).as_response()
        return await passed_on(request, self._webhooks.show, path=request.path_params)

    async def _items(self, answer: Response) -> list[WebhookItem]:
        types = await self._logbook.told_types()
        items = []
        for one in told_in(answer, Page[EndpointView]).items:
            connection = self._registry.find(one.connection)
            items.append(
                WebhookItem(
                    id=one.connection,
                    tenant=connection.tenant if connection else None,
                    provider=one.provider,
                    connection=one.connection,
                    endpoint_path=one.path,
                    endpoint_url=one.address,
                    events=list(types.get(one.connection, ())),
                    is_active=connection is not None and connection.enabled,
                    last_received_at=one.last_received_at,
                    receive_count=one.received + one.repeats,
                )
            )
        return items


def _provider_item(one: _Provider, category: str | None, *, is_global: bool) -> ProviderItem:
    return ProviderItem(
        id=one.code,
        code=one.code,
        name=one.summary.rstrip("."),
        category=category or next(iter(one.categories), ""),
        categories=one.categories,
        config_schema=one.config_schema,
        is_global=is_global,
        is_active=True,
        operations=[operation.name for operation in one.operations],
        created_at=one.loaded_at,
    )


TOLD: Table = {
    ("get", _PROVIDERS): Told(
        summary="Show the providers in the users' words.",
        gives={200: Page[ProviderItem]},
        role=Role.READ,
    ),
    ("get", f"{_PROVIDERS}/{{category}}"): Told(
        summary="Show the providers of one category in the users' words.",
        gives={200: Page[ProviderItem]},
        role=Role.READ,
    ),
    ("get", _WEBHOOKS): Told(
        summary="Show where providers send their webhooks, in the users' words.",
        gives={200: Page[WebhookItem]},
        # Who knows an address can send there what an unsigned webhook says.
        role=Role.STAFF,
    ),
    ("get", f"{_WEBHOOKS}/{{webhook_id}}"): Told(
        summary="Show one such address by its connection, or one webhook by its id.",
        gives={200: (WebhookItem, WebhookView)},
        role=Role.STAFF,
    ),
}
