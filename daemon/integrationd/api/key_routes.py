"""Routes of API keys: make one, list them, replace one, take one away."""

from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.held_keys import BOOTSTRAP, MadeKey
from integrationd.api.paging import options_of, page_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.tenancy import (
    caller_of,
    no_such_tenant,
    tenant_filter,
    tenant_for_new,
)
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.clock import to_rfc3339
from integrationd.errors import ConflictError
from integrationd.journal import NewApiKey, StoredApiKey

RoleName = Literal["admin", "staff", "read"]

FILTERS = ("tenant",)
_LONGEST_LIFE_S = 10 * 366 * 86_400
_LONGEST_GRACE_S = 90 * 86_400
_GRACE_S = 86_400.0
# The answer holds the key.
_UNSTORED = (b"cache-control", b"no-store")
_Life = Annotated[
    float,
    msgspec.Meta(ge=1, le=_LONGEST_LIFE_S, description="Seconds from now, at most ten years."),
]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/keys``.

    Without a tenant the key is for all of them, or for the one that its maker is of.
    """

    name: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(?!\n)$",
            description=(
                "1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit"
            ),
        ),
    ]
    role: RoleName
    tenant: str | None = None
    expires_in: _Life | None = None


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/keys/{id}/rotate``; it may be left out."""

    grace: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=_LONGEST_GRACE_S,
            description="Seconds for which the old key is still good, at most 90 days.",
        ),
    ] = _GRACE_S
    expires_in: _Life | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as the API shows it; never the key itself.

    Attributes:
        prefix: How the key begins, to know it by.
        tenant: Whose things it is for; null for all.
        state: ``valid``, ``grace`` while it is replaced but still good, and then ``replaced``,
            ``expired`` or ``revoked``.
        last_used_at: To a minute; null if never.
        replaced_by: The id of the key that has taken its place.
        grace_until: Until when it is good all the same.
    """

    id: str
    prefix: str
    name: str
    role: str
    tenant: str | None
    state: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None
    replaced_by: str | None
    grace_until: str | None


class MadeKeyView(KeyView, frozen=True, kw_only=True):
    """A new API key.

    Attributes:
        key: The key itself, which is never shown again.
    """

    key: str


class KeyRoutes:
    """The routes below ``/v1/keys``."""

    def __init__(self, parts: Parts) -> None:
        self._keys = parts.journal.api_keys
        self._held_keys = parts.held_keys
        self._tenants = parts.tenants
        self._clock = parts.clock

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/keys", self.list_keys),
            Route("/v1/keys", self.create, methods=["POST"]),
            Route("/v1/keys/{key_id}", self.revoke, methods=["DELETE"]),
            Route("/v1/keys/{key_id}/rotate", self.rotate, methods=["POST"]),
        ]

    async def list_keys(self, request: Request) -> Response:
        """List the keys, the latest first."""
        page = read_page(request.query_params, FILTERS)
        tenant = tenant_filter(caller_of(request), page.filters.get("tenant"))
        found = await self._keys.list(tenant, before=page.before, limit=page.limit)
        now_ms = self._clock.now_ms()
        items = [KeyView(**_shown(one, now_ms)) for one in found]
        return json_reply(page_of(items, [one.seq for one in found], page)).as_response()

    async def create(self, request: Request) -> Response:
        """Make a key; this is the only time that it is shown."""
        options_of(request.query_params, ())
        wanted: KeyRequest = decode(KeyRequest, await request.body())
        caller = caller_of(request)
        tenant = wanted.tenant
        if caller.tenant is not None or tenant is not None:
            tenant = self._known_tenant(tenant_for_new(caller, tenant))
        if wanted.name == BOOTSTRAP:
            raise ConflictError(
                f"{BOOTSTRAP!r} is the name of the key in the key file",
                code="name_taken",
                pointer="/name",
                hint="Choose another name.",
            )
        made = MadeKey.make()
        fresh = self._fresh(made, wanted.name, tenant, wanted.role, wanted.expires_in)
        kept = await self._keys.add(fresh, caller.by)
        self._held_keys.hold(kept)
        return self._reply(made, kept)

    async def rotate(self, request: Request) -> Response:
        """Put a new key in the place of one, which goes on for a while."""
        body = await request.body()
        wanted: RotateRequest = decode(RotateRequest, body) if body else RotateRequest()
        caller, made = caller_of(request), MadeKey.make()
        # Name, tenant and role are those of the old key.
        fresh = self._fresh(made, "", None, "", wanted.expires_in)
        old, kept = await self._keys.rotate(
            request.path_params["key_id"],
            fresh,
            within=caller.tenant,
            grace_ms=round(wanted.grace * 1000),
            by=caller.by,
        )
        self._held_keys.hold(old)
        self._held_keys.hold(kept)
        return self._reply(made, kept)

    async def revoke(self, request: Request) -> Response:
        """Take a key away for ever."""
        caller, key_id = caller_of(request), request.path_params["key_id"]
        self._held_keys.shut_out(key_id, caller.tenant)
        now_ms = self._clock.now_ms()
        kept = await self._keys.revoke(key_id, within=caller.tenant, by=caller.by, now_ms=now_ms)
        self._held_keys.hold(kept)
        return json_reply(KeyView(**_shown(kept, now_ms))).as_response()

    def _known_tenant(self, tenant: str) -> str:
        if self._tenants.find(tenant) is None:
            raise no_such_tenant(tenant)
        return tenant

    def _fresh(
        self, made: MadeKey, name: str, tenant: str | None, role: str, life_s: float | None
    ) -> NewApiKey:
        now_ms = self._clock.now_ms()
        return NewApiKey(
            id=made.id,
            name=name,
            tenant=tenant,
            role=role,
            digest=made.digest,
            created_at_ms=now_ms,
            expires_at_ms=None if life_s is None else now_ms + round(life_s * 1000),
        )

    def _reply(self, made: MadeKey, kept: StoredApiKey) -> Response:
        view = MadeKeyView(key=made.text, **_shown(kept, self._clock.now_ms()))
        return json_reply(view, 201, [_UNSTORED]).as_response()


def _shown(key: StoredApiKey, now_ms: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "prefix": f"idk_{key.id}_",
        "name": key.name,
        "role": key.role,
        "tenant": key.tenant,
        "state": _state(key, now_ms),
        "created_at": to_rfc3339(key.created_at_ms),
        "expires_at": _time(key.expires_at_ms),
        "last_used_at": _time(key.last_used_at_ms),
        "revoked_at": _time(key.revoked_at_ms),
        "replaced_by": key.replaced_by,
        "grace_until": _time(key.grace_until_ms),
    }


def _state(key: StoredApiKey, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return "revoked"
    if key.expires_at_ms is not None and now_ms >= key.expires_at_ms:
        return "expired"
    if key.grace_until_ms is not None:
        return "replaced" if now_ms >= key.grace_until_ms else "grace"
    return "valid"


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_rfc3339(at_ms)


_KEY = "/v1/keys/{key_id}"
TOLD: Table = {
    ("get", "/v1/keys"): Told(
        summary="List the API keys, the latest first.",
        gives={200: Page[KeyView]},
        query=(*PAGE, *FILTERS),
        role=Role.ADMIN,
    ),
    ("post", "/v1/keys"): Told(
        summary="Make an API key; this is the only time that it is shown.",
        gives={201: MadeKeyView},
        takes=KeyRequest,
        role=Role.ADMIN,
    ),
    ("post", f"{_KEY}/rotate"): Told(
        summary="Put a new API key in the place of one, which goes on for a while.",
        gives={201: MadeKeyView},
        takes=RotateRequest,
        needs_body=False,
        role=Role.ADMIN,
    ),
    ("delete", _KEY): Told(
        summary="Revoke an API key for ever.", gives={200: KeyView}, role=Role.ADMIN
    ),
}
