"""Routes that change connections: make, test, pause, resume, change and remove them."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.connection_body import (
    ConnectionChange,
    ConnectionRequest,
    check_connection,
    check_paths,
    written,
)
from integrationd.api.connection_routes import known_connection, shown
from integrationd.api.directory_views import ConnectionDetailView, ConnectionTestView
from integrationd.api.paging import options_of
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Caller, Role
from integrationd.api.tenancy import caller_of, no_such_tenant, refuse_one_tenant
from integrationd.api.told import Table, Told
from integrationd.errors import UnprocessableError


class ConnectionGone(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that was deleted.

    Attributes:
        deleted: False while calls still wait on it; it goes when the last has ended.
    """

    id: str
    deleted: bool


class ConnectionChangeRoutes:
    """The routes below ``/v1/connections`` that change something."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._directory = parts.directory

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/v1/connections/{name}"
        return [
            Route("/v1/connections", self.create, methods=["POST"]),
            Route(one, self.change, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/test", self.test, methods=["POST"]),
            Route(f"{one}/pause", self.pause, methods=["POST"]),
            Route(f"{one}/resume", self.resume, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make a connection and let it serve."""
        body: ConnectionRequest = decode(ConnectionRequest, await request.body())
        caller = caller_of(request)
        said = self._checked(body.id, body, caller)
        tenant = self._tenant(body, caller)
        await self._directory.create_connection(body.id, {**said, "tenant": tenant}, caller.by)
        request.path_params["name"] = body.id
        return await shown(self._parts, request, 201)

    async def change(self, request: Request) -> Response:
        """Put another connection in the place of one; secrets that are left out stay."""
        options_of(request.query_params, ())
        known, caller = known_connection(self._parts, request, to_change=True), caller_of(request)
        body: ConnectionChange = decode(ConnectionChange, await request.body())
        said = self._checked(known.id, body, caller)
        tenant = known.tenant if body.tenant is msgspec.UNSET else body.tenant
        said = {**said, "tenant": tenant}
        await self._directory.change_connection(known.id, said, caller.by)
        return await shown(self._parts, request)

    async def delete(self, request: Request) -> Response:
        """Delete a connection; with ``drain`` it goes when no calls wait on it any more."""
        drain = options_of(request.query_params, ("drain",)).get("drain", "false")
        if drain not in ("true", "false"):
            raise UnprocessableError("drain is true or false")
        known = known_connection(self._parts, request, to_change=True)
        by = caller_of(request).by
        gone = await self._directory.delete_connection(known.id, by, drain=drain == "true")
        view = ConnectionGone(id=known.id, deleted=gone)
        return json_reply(view, 200 if gone else 202).as_response()

    async def test(self, request: Request) -> Response:
        """Try a connection's credentials, without any effect."""
        known = known_connection(self._parts, request, to_change=True)
        state = await self._directory.test(known.id, caller_of(request).by)
        return json_reply(ConnectionTestView.of(state)).as_response()

    async def pause(self, request: Request) -> Response:
        """Have a connection take no work; its calls wait."""
        known = known_connection(self._parts, request, to_change=True)
        await self._directory.pause(known.id, caller_of(request).by)
        return await shown(self._parts, request)

    async def resume(self, request: Request) -> Response:
        """Have a paused connection take work again."""
        known = known_connection(self._parts, request, to_change=True)
        await self._directory.resume(known.id, caller_of(request).by)
        return await shown(self._parts, request)

    def _checked(self, name: str, body: ConnectionChange, caller: Caller) -> dict[str, object]:
        said = written(body)
        check_connection(name, said, caller)
        plugin = self._parts.registry.versions.get(body.provider)
        if plugin is not None and isinstance(body.config, dict):
            check_paths(plugin.config_schema, body.config, caller)
        return said

    def _tenant(self, body: ConnectionRequest, caller: Caller) -> str | None:
        """Return whose the new connection is."""
        asked = caller.tenant if body.tenant is msgspec.UNSET else body.tenant
        if caller.tenant is not None:
            if asked is None:
                refuse_one_tenant(caller, "a connection without a tenant")
            elif asked != caller.tenant:
                raise no_such_tenant(asked)
        if asked is not None and self._parts.tenants.find(asked) is None:
            raise no_such_tenant(asked)
        return asked


_ONE = "/v1/connections/{name}"
TOLD: Table = {
    ("post", "/v1/connections"): Told(
        summary="Make a connection and let it serve.",
        gives={201: ConnectionDetailView},
        takes=ConnectionRequest,
        role=Role.ADMIN,
    ),
    ("put", _ONE): Told(
        summary="Put another connection in the place of one; secrets that are left out stay.",
        gives={200: ConnectionDetailView},
        takes=ConnectionChange,
        role=Role.ADMIN,
    ),
    ("delete", _ONE): Told(
        summary="Delete a connection; with drain it goes after its last call.",
        gives={200: ConnectionGone, 202: ConnectionGone},
        query=("drain",),
        role=Role.ADMIN,
    ),
    ("post", f"{_ONE}/test"): Told(
        summary="Try a connection's credentials, without any effect.",
        gives={200: ConnectionTestView},
        role=Role.STAFF,
    ),
    ("post", f"{_ONE}/pause"): Told(
        summary="Have a connection take no work; its calls wait.",
        gives={200: ConnectionDetailView},
        role=Role.ADMIN,
    ),
    ("post", f"{_ONE}/resume"): Told(
        summary="Have a paused connection take work again.",
        gives={200: ConnectionDetailView},
        role=Role.ADMIN,
    ),
}
