"""Routes of the vault: which secrets there are, setting and deleting one, and a new master key."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.parts import Parts
from integrationd.api.ports import ReloadReport, VaultRotation, VaultStatus
from integrationd.api.problems import problem
from integrationd.api.replies import json_reply, problem_reply
from integrationd.api.roles import Caller, Role
from integrationd.api.told import Page, Table, Told
from integrationd.call import DEFAULT_TENANT
from integrationd.clock import to_rfc3339
from integrationd.errors import UnprocessableError
from integrationd.settings import SECRET_NAME_PATTERN

VALUE_LIMIT_BYTES = 64 * 1024


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
        return _beyond(_caller(request)) or json_reply(await self._vault.status()).as_response()

    async def init(self, request: Request) -> Response:
        """Make the master key where there is none."""
        refusal = _beyond(_caller(request))
        if refusal is not None:
            return refusal
        return json_reply(VaultMade(notice=await self._vault.init())).as_response()

    async def list_secrets(self, request: Request) -> Response:
        """List the secrets by name, without what they hold."""
        found = await self._vault.list(_tenant(request))
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
        caller = _caller(request)
        change, reload = await self._vault.set(_tenant(request), name, wanted.value, caller.name)
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
        name = request.path_params["name"]
        await self._vault.delete(_tenant(request), name, _caller(request).name)
        return json_reply(SecretGone(name=name)).as_response()

    async def rotate(self, request: Request) -> Response:
        """Put a new master key in the place of the old one."""
        caller = _caller(request)
        refusal = _beyond(caller)
        if refusal is not None:
            return refusal
        body = await request.body()
        wanted: VaultRotateRequest = (
            decode(VaultRotateRequest, body) if body else VaultRotateRequest()
        )
        rotation = await self._vault.rotate(caller.name, data_keys=wanted.data_keys)
        return json_reply(rotation).as_response()


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["integrationd.caller"]
    return caller


def _tenant(request: Request) -> str:
    return _caller(request).tenant or DEFAULT_TENANT


def _beyond(caller: Caller) -> Response | None:
    """Refuse what concerns all tenants to a caller of one."""
    if caller.tenant is None:
        return None
    told = problem(
        403,
        "tenant_not_allowed",
        f"{caller.name} is of the tenant {caller.tenant}, and the master key is everybody's",
        hint="Use a key for all tenants, or the socket.",
    )
    return problem_reply(told).as_response()


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
        role=Role.ADMIN,
    ),
    ("put", _SEALED): Told(
        summary="Keep a secret; connections that refer to it go on with it.",
        gives={200: SecretSetView},
        takes=SecretRequest,
        role=Role.ADMIN,
    ),
    ("delete", _SEALED): Told(
        summary="Delete a secret that no connection refers to.",
        gives={200: SecretGone},
        role=Role.ADMIN,
    ),
    ("post", "/v1/vault/rotate"): Told(
        summary="Put a new master key in the place of the old one.",
        gives={200: VaultRotation},
        takes=VaultRotateRequest,
        role=Role.ADMIN,
    ),
}
