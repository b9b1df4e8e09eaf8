"""Routes of the vault: which secrets there are, setting and deleting one, and a new master key."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.paging import options_of
from integrationd.api.parts import Parts
from integrationd.api.ports import ReloadReport, VaultRotation, VaultStatus
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.tenancy import (
    caller_of,
    no_such_tenant,
    refuse_one_tenant,
    tenant_filter,
)
from integrationd.api.told import Page, Table, Told
from integrationd.clock import to_rfc3339
from integrationd.errors import UnprocessableError
from integrationd.settings import SECRET_NAME_PATTERN, SHARED_SECRETS_OF

VALUE_LIMIT_BYTES = 64 * 1024
OPTIONS = ("tenant",)
_MASTER_KEY = "the master key"


class SecretRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``PUT /v1/vault/secrets/{name}``."""

    value: Annotated[str, msgspec.Meta(min_length=1, max_length=VALUE_LIMIT_BYTES)]

    def __repr__(self) -> str:
        return "SecretRequest(***)"


class VaultRotateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/vault/rotate``; with ``data_keys`` every secret is sealed anew."""

    data_keys: bool = False


class VaultMade(msgspec.Struct, frozen=True, kw_only=True):
    """That there is a master key; the notice is empty where there was one before."""

    notice: str


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as the API shows it; never what it holds."""

    name: str
    version: int
    set_at: str


class SecretSetView(SecretView, frozen=True, kw_only=True):
    """A secret that was set.

    Attributes:
        notice: What to know about a master key that was made for it; empty where there was one.
        reload: What became of the reload by which the daemon goes on with it.
    """

    notice: str
    reload: ReloadReport


class SecretGone(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that was deleted."""

    name: str
    deleted: bool = True


class VaultRoutes:
    """The routes of the vault."""

    def __init__(self, parts: Parts) -> None:
        self._vault = parts.vault
        self._tenants = parts.tenants

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/vault", self.status),
            Route("/v1/vault/init", self.init, methods=["POST"]),
            Route("/v1/vault/secrets", self.list_secrets),
            Route("/v1/vault/secrets/{name}", self.set_secret, methods=["PUT"]),
            Route("/v1/vault/secrets/{name}", self.delete_secret, methods=["DELETE"]),
            Route("/v1/vault/rotate", self.rotate, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        """Say how the vault is."""
        refuse_one_tenant(caller_of(request), _MASTER_KEY)
        return json_reply(await self._vault.status()).as_response()

    async def init(self, request: Request) -> Response:
        """Make the master key where there is none."""
        refuse_one_tenant(caller_of(request), _MASTER_KEY)
        return json_reply(VaultMade(notice=await self._vault.init())).as_response()

    async def list_secrets(self, request: Request) -> Response:
        """List the secrets by name, without what they hold."""
        found = await self._vault.list(_whose(request))
        items = [
            SecretView(name=one.name, version=one.version, set_at=to_rfc3339(one.set_at_ms))
            for one in found
        ]
        return json_reply({"items": items, "next": None}).as_response()

    async def set_secret(self, request: Request) -> Response:
        """Keep a secret, in the place of the one of that name; connections go on with it."""
        name = request.path_params["name"]
        if not SECRET_NAME_PATTERN.fullmatch(name):
            raise UnprocessableError(
                f"{name[:80]!r} is no name of a secret",
                hint="Use letters, digits, '.', '_' and '-', begin with a letter or digit.",
            )
        wanted: SecretRequest = decode(SecretRequest, await request.body())
        if len(wanted.value.encode()) > VALUE_LIMIT_BYTES:
            raise UnprocessableError(
                f"a secret has at most {VALUE_LIMIT_BYTES} bytes", pointer="/value"
            )
        caller, tenant = caller_of(request), self._tenant(request)
        change, reload = await self._vault.set(tenant, name, wanted.value, caller.by)
        if caller.tenant is not None:
            # What else has changed may be another tenant's.
            reload = ReloadReport(outcome=reload.outcome)
        view = SecretSetView(
            name=name,
            version=change.version,
            set_at=to_rfc3339(change.set_at_ms),
            notice=change.notice,
            reload=reload,
        )
        return json_reply(view).as_response()

    async def delete_secret(self, request: Request) -> Response:
        """Delete a secret that no connection refers to."""
        name, caller = request.path_params["name"], caller_of(request)
        await self._vault.delete(_whose(request), name, caller.by)
        return json_reply(SecretGone(name=name)).as_response()

    async def rotate(self, request: Request) -> Response:
        """Put a new master key in the place of the old one."""
        caller = caller_of(request)
        refuse_one_tenant(caller, _MASTER_KEY)
        body = await request.body()
        wanted: VaultRotateRequest = (
            decode(VaultRotateRequest, body) if body else VaultRotateRequest()
        )
        rotation = await self._vault.rotate(caller.by, data_keys=wanted.data_keys)
        return json_reply(rotation).as_response()

    def _tenant(self, request: Request) -> str:
        """Return whose secret it is to be.

        Raises:
            UnprocessableError: There is no such tenant, as far as the caller may know.
        """
        tenant = _whose(request)
        if tenant != SHARED_SECRETS_OF and self._tenants.find(tenant) is None:
            raise no_such_tenant(_asked(request) or tenant, pointer="")
        return tenant


def _whose(request: Request) -> str:
    """Return whose secrets are meant: the caller's, else the tenant's that the query names.

    Who is of no tenant and names none means those of connections that all share.
    """
    tenant = tenant_filter(caller_of(request), _asked(request))
    return SHARED_SECRETS_OF if tenant is None else tenant


def _asked(request: Request) -> str | None:
    """Return the tenant that the query names, if it does."""
    return options_of(request.query_params, OPTIONS).get("tenant")


_SEALED = "/v1/vault/secrets/{name}"
TOLD: Table = {
    ("get", "/v1/vault"): Told(
        summary="Say how the vault is.", gives={200: VaultStatus}, role=Role.ADMIN
    ),
    ("post", "/v1/vault/init"): Told(
        summary="Make the master key where there is none.",
        gives={200: VaultMade},
        role=Role.ADMIN,
    ),
    ("get", "/v1/vault/secrets"): Told(
        summary="List the secrets by name, never what they hold.",
        gives={200: Page[SecretView]},
        query=OPTIONS,
        role=Role.ADMIN,
    ),
    ("put", _SEALED): Told(
        summary="Keep a secret; connections that refer to it go on with it.",
        gives={200: SecretSetView},
        takes=SecretRequest,
        query=OPTIONS,
        role=Role.ADMIN,
    ),
    ("delete", _SEALED): Told(
        summary="Delete a secret that no connection refers to.",
        gives={200: SecretGone},
        query=OPTIONS,
        role=Role.ADMIN,
    ),
    ("post", "/v1/vault/rotate"): Told(
        summary="Put a new master key in the place of the old one.",
        gives={200: VaultRotation},
        takes=VaultRotateRequest,
        needs_body=False,
        role=Role.ADMIN,
    ),
}
