"""Routes of providers and connections: what is loaded, and what serves."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.connection_view import connection_view, detail_view
from integrationd.api.directory_side import KnownConnection
from integrationd.api.directory_views import ConnectionDetailView, ConnectionView
from integrationd.api.paging import options_of
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Caller, Role
from integrationd.api.schemas import OperationView, PluginFaultView, ProvidersView, ProviderView
from integrationd.api.tenancy import caller_of, may_change, may_see, refuse_one_tenant
from integrationd.api.told import Page, Table, Told
from integrationd.clock import to_rfc3339
from integrationd.errors import NotFoundError
from integrationd.journal import LedgerLine
from integrationd.registry import PluginVersion
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

    async def connections(self, request: Request) -> Response:
        """Show all connections that the caller may use."""
        caller = caller_of(request)
        lines = await ledger_lines(self._parts, caller)
        items = [
            connection_view(self._parts, one, lines)
            for one in self._parts.directory.connections().values()
            if may_see(caller, one.tenant)
        ]
        return json_reply({"items": items, "next": None}).as_response()

    async def connection(self, request: Request) -> Response:
        """Show one connection."""
        options_of(request.query_params, ())
        return await shown(self._parts, request)

    async def reset_breaker(self, request: Request) -> Response:
        """Close a breaker by hand."""
        known = known_connection(self._parts, request, to_change=True)
        await self._parts.lines.reset_breaker(known.id, caller_of(request).by)
        return await shown(self._parts, request)


def known_connection(parts: Parts, request: Request, *, to_change: bool = False) -> KnownConnection:
    """Return the connection that a request is about.

    Args:
        parts: What the routes work with.
        request: One whose path names it.
        to_change: Whether the caller wants more than to look at it.

    Raises:
        NotFoundError: There is none of that name for the caller.
        NotAllowedError: It is everybody's, and the caller is of one tenant.
    """
    name, caller = request.path_params["name"], caller_of(request)
    known = parts.directory.connections().get(name)
    if known is None or not may_see(caller, known.tenant):
        raise NotFoundError(
            f"there is no connection {name[:80]!r}", hint="See 'integrationd connections'."
        )
    if to_change and not may_change(caller, known.tenant):
        refuse_one_tenant(caller, f"the connection {name}")
    return known


async def shown(parts: Parts, request: Request, status: int = 200) -> Response:
    """Answer with the connection that a request is about, as it is now."""
    known, caller = known_connection(parts, request), caller_of(request)
    may_see_settings = caller.role is Role.ADMIN and may_change(caller, known.tenant)
    lines = await ledger_lines(parts, caller)
    view = await detail_view(parts, known, lines, may_change=may_see_settings)
    return json_reply(view, status).as_response()


async def ledger_lines(parts: Parts, caller: Caller) -> list[LedgerLine]:
    """Return the balance of the calls that a caller may see."""
    lines = await parts.journal.ledger.lines()
    return [line for line in lines if may_see(caller, line.tenant)]


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
        summary="Show one connection.", gives={200: ConnectionDetailView}, role=Role.READ
    ),
    ("post", f"{_CONNECTION}/breaker/reset"): Told(
        summary="Close a breaker by hand.", gives={200: ConnectionDetailView}, role=Role.ADMIN
    ),
}
