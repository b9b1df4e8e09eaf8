"""How every route of the API treats what is another tenant's: the matrix of the isolation tests.

A route that is not in here fails a test: say how it keeps tenants apart before it is served.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from integrationd.api.openapi_table import ROUTES

Body: TypeAlias = Mapping[str, Any] | None
USERS = "/api/v1/integrations"
SHORT = ("post", "/v1/{category}/{verb}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Treats:
    """How a route keeps tenants apart.

    Attributes:
        how: ``named``: it is about one thing, and another tenant's is none that exists;
            ``own``: it shows, or makes, the caller's own; ``common``: it concerns every tenant, so
            callers of one are refused; ``open``: it answers everybody alike.
        body: A body that it takes; ``{tenant}`` and ``{connection}`` stand for another's.
        foreign: Bodies that name what is another tenant's.
    """

    how: Literal["named", "own", "common", "open"]
    body: Body = None
    foreign: tuple[Mapping[str, Any], ...] = ()


NAMED, OWN, COMMON, OPEN = (
    Treats(how="named"),
    Treats(how="own"),
    Treats(how="common"),
    Treats(how="open"),
)
CALL = {"operation": "rehearsal.hold", "connection": "acme-stage"}
ABROAD = (
    {"operation": "rehearsal.hold", "tenant": "{tenant}"},
    {"operation": "rehearsal.hold", "connection": "{connection}"},
)
HOOK = {"url": "https://hooks.example/in", "events": ["call.*"]}
STAGE: Mapping[str, Any] = {"provider": "rehearsal", "config": {}}
KEY = {"name": "made", "role": "read"}
ROTATE = {"data_keys": False}
ERASE = {"subject": "+254700000000"}
EVENT = {"type": "reward.issued", "data": {}}

_ONE_CALL, _ONE_HOOK = "/v1/calls/{call_id}", "/v1/subscriptions/{subscription}"
_ONE_CONNECTION, _ONE_SECRET = "/v1/connections/{name}", "/v1/vault/secrets/{name}"
_PLAIN: Mapping[tuple[str, str], Treats] = {
    ("get", "/healthz"): OPEN,
    ("get", "/readyz"): OPEN,
    ("get", "/metrics"): OWN,
    ("get", "/v1/openapi.json"): OWN,
    ("get", "/v1/status"): OWN,
    ("get", "/v1/ledger"): OWN,
    ("post", "/v1/journal/acknowledge"): COMMON,
    ("get", "/v1/attempts"): OWN,
    ("get", "/v1/attempts/{number}"): NAMED,
    SHORT: OWN,
    ("post", "/v1/calls"): Treats(how="own", body=CALL, foreign=ABROAD),
    ("post", "/v1/calls/batch"): Treats(
        how="own",
        body={"calls": [CALL]},
        foreign=tuple({"calls": [CALL, one]} for one in ABROAD),
    ),
    ("get", "/v1/calls"): OWN,
    ("get", _ONE_CALL): NAMED,
    ("delete", _ONE_CALL): NAMED,
    ("post", f"{_ONE_CALL}/acknowledge"): NAMED,
    ("post", f"{_ONE_CALL}/resolve"): Treats(how="named", body={"resolution": "done"}),
    ("post", f"{_ONE_CALL}/retry"): NAMED,
    ("get", "/v1/config"): COMMON,
    ("get", "/v1/config/diff"): COMMON,
    ("post", "/v1/config/reload"): COMMON,
    ("get", "/v1/providers"): OWN,
    ("get", "/v1/providers/{category}"): OWN,
    ("get", "/v1/connections"): OWN,
    ("post", "/v1/connections"): Treats(
        how="own",
        body={"id": "acme-made", **STAGE},
        foreign=({"id": "acme-other", "tenant": "{tenant}", **STAGE},),
    ),
    ("get", _ONE_CONNECTION): NAMED,
    ("put", _ONE_CONNECTION): Treats(how="named", body=STAGE),
    ("delete", _ONE_CONNECTION): NAMED,
    ("delete", f"{_ONE_CONNECTION}/authorization"): NAMED,
    ("post", f"{_ONE_CONNECTION}/authorize"): NAMED,
    ("post", f"{_ONE_CONNECTION}/breaker/reset"): NAMED,
    ("post", f"{_ONE_CONNECTION}/pause"): NAMED,
    ("post", f"{_ONE_CONNECTION}/resume"): NAMED,
    ("post", f"{_ONE_CONNECTION}/test"): NAMED,
    ("get", "/v1/events"): OWN,
    ("post", "/v1/events"): Treats(
        how="own", body=EVENT, foreign=({**EVENT, "tenant": "{tenant}"},)
    ),
    ("post", "/v1/erasures"): Treats(
        how="own", body=ERASE, foreign=({**ERASE, "tenant": "{tenant}"},)
    ),
    ("get", "/v1/keys"): OWN,
    ("post", "/v1/keys"): Treats(how="own", body=KEY, foreign=({**KEY, "tenant": "{tenant}"},)),
    ("delete", "/v1/keys/{key_id}"): NAMED,
    ("post", "/v1/keys/{key_id}/rotate"): NAMED,
    ("get", "/v1/subscriptions"): OWN,
    ("post", "/v1/subscriptions"): Treats(
        how="own", body=HOOK, foreign=({**HOOK, "tenant": "{tenant}"},)
    ),
    ("get", _ONE_HOOK): NAMED,
    ("put", _ONE_HOOK): Treats(how="named", body=HOOK),
    ("delete", _ONE_HOOK): NAMED,
    ("get", f"{_ONE_HOOK}/deliveries"): NAMED,
    ("post", f"{_ONE_HOOK}/redeliver"): Treats(
        how="named", body={"from": "2026-01-01T00:00:00Z", "dry_run": True}
    ),
    ("post", f"{_ONE_HOOK}/rotate"): NAMED,
    ("post", f"{_ONE_HOOK}/test"): NAMED,
    ("get", "/v1/tenants"): OWN,
    ("post", "/v1/tenants"): Treats(how="common", body={"id": "made"}),
    ("get", "/v1/tenants/{tenant_id}"): NAMED,
    ("put", "/v1/tenants/{tenant_id}"): Treats(how="common", body={"name": "x"}),
    ("delete", "/v1/tenants/{tenant_id}"): COMMON,
    ("get", "/v1/vault"): COMMON,
    ("post", "/v1/vault/init"): COMMON,
    ("post", "/v1/vault/rotate"): Treats(how="common", body=ROTATE),
    ("get", "/v1/vault/secrets"): OWN,
    ("put", _ONE_SECRET): Treats(how="own", body={"value": "acme holds this"}),
    ("delete", _ONE_SECRET): NAMED,
    ("get", "/v1/webhook-endpoints"): OWN,
    ("get", "/v1/webhooks"): OWN,
    ("get", "/v1/webhooks/{webhook_id}"): NAMED,
    ("post", "/v1/webhooks/{webhook_id}/replay"): NAMED,
}
_CONFIG = f"{USERS}/configs/{{name}}"
_USERS: Mapping[tuple[str, str], Treats] = {
    ("get", f"{USERS}/logs"): OWN,
    ("get", f"{USERS}/logs/{{log_id}}"): NAMED,
    ("get", f"{USERS}/queue"): OWN,
    ("get", f"{USERS}/queue/{{call_id}}"): NAMED,
    ("delete", f"{USERS}/queue/{{call_id}}"): NAMED,
    ("post", f"{USERS}/queue/{{call_id}}/retry"): NAMED,
    ("get", f"{USERS}/configs"): OWN,
    ("post", f"{USERS}/configs"): Treats(
        how="own",
        body={"id": "acme-users", **STAGE},
        foreign=({"id": "acme-others", "tenant": "{tenant}", **STAGE},),
    ),
    ("get", _CONFIG): NAMED,
    ("put", _CONFIG): Treats(how="named", body=STAGE),
    ("delete", _CONFIG): NAMED,
    ("post", f"{_CONFIG}/test"): NAMED,
}


def _twins() -> dict[tuple[str, str], Treats]:
    """Return the users' paths that are others by another name, treated as these are."""
    found = {}
    for method, path in ROUTES:
        twin = (method, path.replace(USERS, "/v1", 1))
        if path.startswith(USERS) and (method, path) not in _USERS and twin in _PLAIN:
            found[method, path] = _PLAIN[twin]
    return found


MATRIX: Mapping[tuple[str, str], Treats] = {**_PLAIN, **_twins(), **_USERS}
