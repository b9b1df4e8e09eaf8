"""Routes of providers and connections: what is loaded, and what serves."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.schemas import (
    ConnectionView,
    OperationView,
    PluginFaultView,
    ProvidersView,
    ProviderView,
)
from integrationd.api.told import Page, Table, Told
from integrationd.clock import to_rfc3339
from integrationd.journal import LedgerLine
from integrationd.registry import Connection, PluginVersion
from integrationd.sdk.provider import request_schema


class ConnectionRoutes:
    """The routes below ``/v1/providers`` and ``/v1/connections``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/providers", self.providers),
            Route("/v1/providers/{category}", self.providers),
            Route("/v1/connections", self.connections),
            Route("/v1/connections/{name}", self.connection),
            Route("/v1/connections/{name}/breaker/reset", self.reset_breaker, methods=["POST"]),
        ]

    async def providers(self, request: Request) -> Response:
        """Show what is loaded, all or of one category."""
        category = request.path_params.get("category")
        views = [_provider_view(one) for one in self._parts.registry.providers()]
        faults = [
            PluginFaultView(path=str(one.path), line=one.line, reason=one.reason)
            for one in self._parts.registry.faults
        ]
        wanted = [one for one in views if category is None or category in one.categories]
        return json_reply(ProvidersView(items=wanted, faults=faults)).as_response()

    async def connections(self, _request: Request) -> Response:
        """Show all connections."""
        lines = await self._parts.journal.ledger.lines()
        items = [
            connection_view(self._parts, one, lines) for one in self._parts.registry.connections()
        ]
        return json_reply({"items": items, "next": None}).as_response()

    async def connection(self, request: Request) -> Response:
        """Show one connection."""
        return await self._show(request.path_params["name"])

    async def reset_breaker(self, request: Request) -> Response:
        """Close a breaker by hand."""
        name, by = request.path_params["name"], request.scope["integrationd.caller"].name
        await self._parts.lines.reset_breaker(name, by)
        return await self._show(name)

    async def _show(self, name: str) -> Response:
        connection = self._parts.registry.connection(name)
        lines = await self._parts.journal.ledger.lines()
        return json_reply(connection_view(self._parts, connection, lines)).as_response()


def connection_view(
    parts: Parts, connection: Connection, lines: list[LedgerLine]
) -> ConnectionView:
    """Return a connection as the API shows it."""
    status = parts.lines.line_status(connection.name)
    until_ms = status.breaker_until_ms
    return ConnectionView(
        id=connection.name,
        provider=connection.code,
        environment=connection.environment,
        enabled=connection.enabled,
        operations=sorted(connection.plugin.operations),
        breaker=status.breaker,
        breaker_until=to_rfc3339(until_ms) if until_ms is not None else None,
        running=status.running,
        concurrency=status.concurrency,
        rate_limit=status.rate_limit,
        pending=sum(line.pending for line in lines if line.connection == connection.name),
    )


def _provider_view(plugin: PluginVersion) -> ProviderView:
    operations = [
        OperationView(
            name=name,
            summary=served.contract.summary,
            effect=served.contract.effect,
            can_be_asked=name in plugin.queries,
            request_schema=request_schema(served.contract),
        )
        for name, served in sorted(plugin.operations.items())
    ]
    return ProviderView(
        code=plugin.code,
        categories=sorted({one.name.partition(".")[0] for one in operations}),
        path=plugin.path.name,
        digest=plugin.digest,
        loaded_at=to_rfc3339(plugin.loaded_at_ms),
        summary=(plugin.provider.__doc__ or "").strip().partition("\n")[0],
        operations=operations,
        config_schema=dict(plugin.config_schema),
    )


_CONNECTION = "/v1/connections/{name}"
TOLD: Table = {
    ("get", "/v1/providers"): Told(
        summary="Show what is loaded.", gives={200: ProvidersView}, role=Role.READ
    ),
    ("get", "/v1/providers/{category}"): Told(
        summary="Show what is loaded of one category.", gives={200: ProvidersView}, role=Role.READ
    ),
    ("get", "/v1/connections"): Told(
        summary="Show all connections.", gives={200: Page[ConnectionView]}, role=Role.READ
    ),
    ("get", _CONNECTION): Told(
        summary="Show one connection.", gives={200: ConnectionView}, role=Role.READ
    ),
    ("post", f"{_CONNECTION}/breaker/reset"): Told(
        summary="Close a breaker by hand.", gives={200: ConnectionView}, role=Role.ADMIN
    ),
}
