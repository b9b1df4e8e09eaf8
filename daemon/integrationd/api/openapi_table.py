"""What each route of the API takes and gives: the table that the OpenAPI document is made from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from integrationd.api.accept import KEY_LIMIT
from integrationd.api.call_routes import FILTERS
from integrationd.api.ports import ReloadReport
from integrationd.api.resource_routes import ATTEMPT_FILTERS
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
        query: Its options.
        headers: Its headers.
        problems: Statuses above 499 that are part of its work.
        is_open: Whether it answers everybody.
    """

    summary: str
    gives: Mapping[int, Any]
    takes: Any = None
    query: Sequence[str] = ()
    headers: Sequence[str] = ()
    problems: Sequence[int] = ()
    is_open: bool = False


SUBMIT = ("Prefer", "Idempotency-Key")
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
    ("get", "/metrics"): Told(summary="Tell Prometheus.", gives={200: str}),
    ("get", "/v1/openapi.json"): Told(summary="Show this document.", gives={200: OpenApi}),
    ("get", "/v1/status"): Told(
        summary="Show what a person looks at first.", gives={200: StatusView}
    ),
    ("get", "/v1/ledger"): Told(summary="Show the balance.", gives={200: LedgerView}),
    ("post", "/v1/journal/acknowledge"): Told(
        summary="Take note of lost commits.", gives={200: Acknowledged}
    ),
    ("post", "/v1/calls"): Told(
        summary="Accept a call; it is safe on disk when this answers.",
        gives={200: CallView, 202: (CallView, Kept)},
        takes=CallRequest,
        headers=SUBMIT,
        problems=(504,),
    ),
    ("post", "/v1/calls/batch"): Told(
        summary="Accept up to 1,000 calls, all or none.", gives={202: Batch}, takes=BatchRequest
    ),
    ("get", "/v1/calls"): Told(
        summary="List calls, the latest first.",
        gives={200: Page[CallView]},
        query=(*_PAGE, *FILTERS),
    ),
    ("get", _CALL): Told(
        summary="Show one call with all that belongs to it.",
        gives={200: CallView},
        headers=("Prefer",),
    ),
    ("delete", _CALL): Told(summary="Cancel a pending call.", gives={200: CallView}),
    ("post", f"{_CALL}/retry"): Told(
        summary="Send a failed or expired call again.", gives={202: CallView}
    ),
    ("post", f"{_CALL}/resolve"): Told(
        summary="Settle an unknown call by a person's word.",
        gives={200: CallView},
        takes=ResolveRequest,
    ),
    ("post", f"{_CALL}/acknowledge"): Told(
        summary="Take note of evidence against a final state.", gives={200: CallView}
    ),
    ("get", "/v1/attempts"): Told(
        summary="List exchanges, the latest first.",
        gives={200: Page[AttemptView]},
        query=(*_PAGE, *ATTEMPT_FILTERS),
    ),
    ("get", "/v1/attempts/{number}"): Told(summary="Show one exchange.", gives={200: AttemptView}),
    ("get", "/v1/providers"): Told(summary="Show what is loaded.", gives={200: ProvidersView}),
    ("get", "/v1/providers/{category}"): Told(
        summary="Show what is loaded of one category.", gives={200: ProvidersView}
    ),
    ("get", "/v1/connections"): Told(
        summary="Show all connections.", gives={200: Page[ConnectionView]}
    ),
    ("get", _CONNECTION): Told(summary="Show one connection.", gives={200: ConnectionView}),
    ("post", f"{_CONNECTION}/breaker/reset"): Told(
        summary="Close a breaker by hand.", gives={200: ConnectionView}
    ),
    ("get", "/v1/webhooks"): Told(
        summary="List what providers sent, the latest first.",
        gives={200: Page[WebhookView]},
        query=(*_PAGE, *WEBHOOK_FILTERS),
    ),
    ("get", "/v1/webhooks/{webhook_id}"): Told(
        summary="Show one webhook whole.", gives={200: WebhookView}
    ),
    ("post", "/v1/webhooks/{webhook_id}/replay"): Told(
        summary="Have one webhook worked on again.", gives={202: WebhookView}
    ),
    ("get", "/v1/webhook-endpoints"): Told(
        summary="Show where providers send their webhooks.", gives={200: Page[EndpointView]}
    ),
    ("get", "/v1/config"): Told(
        summary="Show which configuration is in force.", gives={200: ConfigView}
    ),
    ("get", "/v1/config/diff"): Told(
        summary="Show what a reload would do.", gives={200: ReloadReport}
    ),
    ("post", "/v1/config/reload"): Told(
        summary="Reload; what is refused changes nothing.", gives={200: ReloadReport}
    ),
}
