"""Routes of tenants: whose calls there are, making one, changing it and taking it away."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.connection_body import TenantChange, TenantRequest, check_tenant, written
from integrationd.api.connection_view import tenant_view
from integrationd.api.directory_views import TenantView
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.tenancy import caller_of, may_see, refuse_one_tenant
from integrationd.api.told import Page, Table, Told
from integrationd.errors import ConflictError, NotFoundError


class TenantGone(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that was deleted."""

    id: str
    deleted: bool = True


class TenantRoutes:
    """The routes below ``/v1/tenants``; who is of one tenant sees that one."""

    def __init__(self, parts: Parts) -> None:
        self._directory = parts.directory

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/tenants", self.list_tenants),
            Route("/v1/tenants", self.create, methods=["POST"]),
            Route("/v1/tenants/{tenant_id}", self.show),
            Route("/v1/tenants/{tenant_id}", self.change, methods=["PUT"]),
            Route("/v1/tenants/{tenant_id}", self.delete, methods=["DELETE"]),
        ]

    async def list_tenants(self, request: Request) -> Response:
        """Show all tenants that the caller may see."""
        caller = caller_of(request)
        found = self._directory.tenants().values()
        items = [tenant_view(one) for one in found if may_see(caller, one.id)]
        return json_reply({"items": items, "next": None}).as_response()

    async def show(self, request: Request) -> Response:
        """Show one tenant."""
        tenant = request.path_params["tenant_id"]
        known = self._directory.tenants().get(tenant)
        if known is None or not may_see(caller_of(request), tenant):
            raise _no_such_tenant(tenant)
        return json_reply(tenant_view(known)).as_response()

    async def create(self, request: Request) -> Response:
        """Make a tenant."""
        _for_all(request)
        body: TenantRequest = decode(TenantRequest, await request.body())
        said = written(body)
        check_tenant(body.id, said)
        known = self._directory.tenants().get(body.id)
        if known is not None and known.source != "built-in":
            raise ConflictError(
                f"there is a tenant {body.id!r} already",
                code="exists",
                pointer="/id",
                hint="Choose another id, or change that one.",
            )
        await self._directory.keep_tenant(body.id, said, caller_of(request).by)
        return self._reply(body.id, 201)

    async def change(self, request: Request) -> Response:
        """Put another tenant in the place of one."""
        _for_all(request)
        tenant = request.path_params["tenant_id"]
        body: TenantChange = decode(TenantChange, await request.body())
        said = written(body)
        if tenant not in self._directory.tenants():
            raise _no_such_tenant(tenant)
        check_tenant(tenant, said)
        await self._directory.keep_tenant(tenant, said, caller_of(request).by)
        return self._reply(tenant, 200)

    async def delete(self, request: Request) -> Response:
        """Delete a tenant that nothing belongs to any more."""
        _for_all(request)
        tenant = request.path_params["tenant_id"]
        await self._directory.delete_tenant(tenant, caller_of(request).by)
        return json_reply(TenantGone(id=tenant)).as_response()

    def _reply(self, tenant: str, status: int) -> Response:
        return json_reply(tenant_view(self._directory.tenants()[tenant]), status).as_response()


def _for_all(request: Request) -> None:
    refuse_one_tenant(caller_of(request), "the list of tenants")


def _no_such_tenant(tenant: str) -> NotFoundError:
    return NotFoundError(
        f"there is no tenant {tenant[:80]!r}",
        code="no_such_tenant",
        hint="See 'integrationd tenants'.",
    )


_TENANT = "/v1/tenants/{tenant_id}"
TOLD: Table = {
    ("get", "/v1/tenants"): Told(
        summary="Show the tenants.", gives={200: Page[TenantView]}, role=Role.READ
    ),
    ("post", "/v1/tenants"): Told(
        summary="Make a tenant.", gives={201: TenantView}, takes=TenantRequest, role=Role.ADMIN
    ),
    ("get", _TENANT): Told(summary="Show one tenant.", gives={200: TenantView}, role=Role.READ),
    ("put", _TENANT): Told(
        summary="Put another tenant in the place of one.",
        gives={200: TenantView},
        takes=TenantChange,
        role=Role.ADMIN,
    ),
    ("delete", _TENANT): Told(
        summary="Delete a tenant that nothing belongs to any more.",
        gives={200: TenantGone},
        role=Role.ADMIN,
    ),
}
