"""What each route of the API takes, gives and asks of its caller, all in one table.

The OpenAPI document is made from it, and the app lets nobody past the role that it names.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from integrationd.api import (
    authorisation_routes,
    call_routes,
    config_routes,
    connection_change_routes,
    connection_routes,
    erasure_routes,
    event_routes,
    key_routes,
    resource_routes,
    subscription_routes,
    tenant_routes,
    vault_routes,
    webhook_routes,
)
from integrationd.api.idempotency import KEY_LIMIT
from integrationd.api.roles import Role
from integrationd.api.schemas import BatchRequest, CallRequest, CallView
from integrationd.api.told import Table, Told
from integrationd.api.users.paths import with_users_paths


class Kept(msgspec.Struct, frozen=True):
    """A call that was kept: as in ``CallView``, or only these two where it was pruned since."""

    id: str
    state: str


class Batch(msgspec.Struct, frozen=True):
    """The calls of a batch, in its order."""

    items: list[Kept]


class OpenApi(msgspec.Struct, frozen=True):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


SUBMIT = ("Prefer", "Idempotency-Key")
SUBMIT_ROLE = Role.STAFF
HEADERS: Mapping[str, dict[str, Any]] = {
    "Last-Event-ID": {
        "type": "string",
        "description": "Of a stream: the number of the last event that was seen.",
    },
    "Prefer": {
        "type": "string",
        "description": "wait=N: answer when the call is settled, or after N seconds, at most 60.",
    },
    "Idempotency-Key": {
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_LIMIT,
        "pattern": "^[ -~]*[!-~][ -~]*$",
        "description": "Printable; the same key and request give the same call.",
    },
}
_OWN: Table = {
    ("post", "/v1/calls"): Told(
        summary="Accept a call; it is safe on disk when this answers.",
        gives={200: CallView, 202: (CallView, Kept)},
        takes=CallRequest,
        headers=SUBMIT,
        problems=(504,),
        role=SUBMIT_ROLE,
    ),
    ("post", "/v1/calls/batch"): Told(
        summary="Accept up to 1,000 calls, all or none.",
        gives={202: Batch},
        takes=BatchRequest,
        role=SUBMIT_ROLE,
    ),
    ("get", "/v1/openapi.json"): Told(
        summary="Show this document.", gives={200: OpenApi}, role=Role.READ
    ),
}
_OURS: Table = {
    **_OWN,
    **call_routes.TOLD,
    **resource_routes.TOLD,
    **connection_routes.TOLD,
    **connection_change_routes.TOLD,
    **tenant_routes.TOLD,
    **erasure_routes.TOLD,
    **authorisation_routes.TOLD,
    **config_routes.TOLD,
    **event_routes.TOLD,
    **webhook_routes.TOLD,
    **key_routes.TOLD,
    **subscription_routes.TOLD,
    **vault_routes.TOLD,
}
ROUTES: Table = with_users_paths(_OURS)
