"""What each route of the API takes, gives and asks of its caller.

The OpenAPI document is made from this table, and the app lets nobody past the role that it names.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from integrationd.api.accept import KEY_LIMIT
from integrationd.api.call_routes import FILTERS
from integrationd.api.key_routes import KeyRequest, KeyView, MadeKeyView, RotateRequest
from integrationd.api.ports import ReloadReport, VaultRotation, VaultStatus
from integrationd.api.resource_routes import ATTEMPT_FILTERS
from integrationd.api.roles import Role
from integrationd.api.schemas import (
    AttemptView,
    BatchRequest,
    CallRequest,
    CallView,
    ConfigView,
    ConnectionView,
    LedgerView,
    ProvidersView,
    ResolveRequest,
    StatusView,
)
from integrationd.api.vault_routes import (
    SecretGone,
    SecretRequest,
    SecretSetView,
    SecretView,
    VaultMade,
    VaultRotateRequest,
)
from integrationd.api.webhook_routes import FILTERS as WEBHOOK_FILTERS
from integrationd.api.webhook_routes import EndpointView, WebhookView

_T = TypeVar("_T")


class Health(msgspec.Struct, frozen=True):
    """That the daemon lives, or takes calls."""

    status: str


class Acknowledged(msgspec.Struct, frozen=True):
    """What was taken note of."""

    acknowledged: bool


class Kept(msgspec.Struct, frozen=True):
    """A call that was kept: as in ``CallView``, or only these two where it was pruned since."""

    id: str
    state: str


class Page(msgspec.Struct, Generic[_T], frozen=True):
    """A part of a list; ``next`` is the cursor of the one that follows."""

    items: list[_T]
    next: str | None


class Batch(msgspec.Struct, frozen=True):
    """The calls of a batch, in its order."""

    items: list[Kept]


class OpenApi(msgspec.Struct, frozen=True):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a route takes and gives.

    Attributes:
        summary: What it does.
        gives: What is answered, by status; a tuple where it is one of several.
        takes: The body, or None.
        needs_body: Whether a body must be sent where one is taken.
        query: Its options.
        headers: Its headers.
        problems: Statuses above 499 that are part of its work.
        is_open: Whether it answers everybody.
        role: What the caller must be, where it is not open; an admin, where nothing is said.
    """

    summary: str
    gives: Mapping[int, Any]
    takes: Any = None
    needs_body: bool = True
    query: Sequence[str] = ()
    headers: Sequence[str] = ()
    problems: Sequence[int] = ()
    is_open: bool = False
    role: Role = Role.ADMIN


SUBMIT = ("Prefer", "Idempotency-Key")
SUBMIT_ROLE = Role.STAFF
_PAGE = ("limit", "cursor")
HEADERS: Mapping[str, dict[str, Any]] = {
    "Prefer": {
        "type": "string",
        "description": "wait=N: answer when the call is settled, or after N seconds, at most 60.",
    },
    "Idempotency-Key": {
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_LIMIT,
        "description": "Printable; the same key and request give the same call.",
    },
}
_CONNECTION = "/v1/connections/{name}"
_CALL = "/v1/calls/{call_id}"
_KEY = "/v1/keys/{key_id}"
_SEALED = "/v1/vault/secrets/{name}"
ROUTES: Mapping[tuple[str, str], Told] = {
    ("get", "/healthz"): Told(
        summary="Say that the daemon lives.", gives={200: Health}, is_open=True
    ),
    ("get", "/readyz"): Told(
        summary="Say whether new calls are accepted.",
        gives={200: Health},
        problems=(503,),
        is_open=True,
    ),
    ("get", "/metrics"): Told(summary="Tell Prometheus.", gives={200: str}, role=Role.READ),
    ("get", "/v1/openapi.json"): Told(
        summary="Show this document.", gives={200: OpenApi}, role=Role.READ
    ),
    ("get", "/v1/status"): Told(
        summary="Show what a person looks at first.", gives={200: StatusView}, role=Role.READ
    ),
    ("get", "/v1/ledger"): Told(
        summary="Show the balance.", gives={200: LedgerView}, role=Role.READ
    ),
    ("post", "/v1/journal/acknowledge"): Told(
        summary="Take note of lost commits.", gives={200: Acknowledged}, role=Role.ADMIN
    ),
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
    ("get", "/v1/calls"): Told(
        summary="List calls, the latest first.",
        gives={200: Page[CallView]},
        query=(*_PAGE, *FILTERS),
        role=Role.READ,
    ),
    ("get", _CALL): Told(
        summary="Show one call with all that belongs to it.",
        gives={200: CallView},
        headers=("Prefer",),
        role=Role.READ,
    ),
    ("delete", _CALL): Told(
        summary="Cancel a pending call.", gives={200: CallView}, role=Role.STAFF
    ),
    ("post", f"{_CALL}/retry"): Told(
        summary="Send a failed or expired call again.", gives={202: CallView}, role=Role.STAFF
    ),
    ("post", f"{_CALL}/resolve"): Told(
        summary="Settle an unknown call by a person's word.",
        gives={200: CallView},
        takes=ResolveRequest,
        role=Role.STAFF,
    ),
    ("post", f"{_CALL}/acknowledge"): Told(
        summary="Take note of evidence against a final state.",
        gives={200: CallView},
        role=Role.STAFF,
    ),
    ("get", "/v1/attempts"): Told(
        summary="List exchanges, the latest first.",
        gives={200: Page[AttemptView]},
        query=(*_PAGE, *ATTEMPT_FILTERS),
        role=Role.READ,
    ),
    ("get", "/v1/attempts/{number}"): Told(
        summary="Show one exchange.", gives={200: AttemptView}, role=Role.READ
    ),
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
    ("get", "/v1/webhooks"): Told(
        summary="List what providers sent, the latest first.",
        gives={200: Page[WebhookView]},
        query=(*_PAGE, *WEBHOOK_FILTERS),
        role=Role.READ,
    ),
    ("get", "/v1/webhooks/{webhook_id}"): Told(
        summary="Show one webhook whole.", gives={200: WebhookView}, role=Role.READ
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
    ("get", "/v1/config"): Told(
        summary="Show which configuration is in force.", gives={200: ConfigView}, role=Role.READ
    ),
    ("get", "/v1/config/diff"): Told(
        summary="Show what a reload would do.", gives={200: ReloadReport}, role=Role.READ
    ),
    ("post", "/v1/config/reload"): Told(
        summary="Reload; what is refused changes nothing.",
        gives={200: ReloadReport},
        role=Role.ADMIN,
    ),
    ("get", "/v1/keys"): Told(
        summary="List the API keys, the latest first.",
        gives={200: Page[KeyView]},
        query=_PAGE,
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
