"""Roles: every route has one, and no key does what its role does not cover."""

import random
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.routing import Route
from tests.api.keys_at_hand import Shelf, scope
from tests.api.world import KEY, ApiWorld, code_of
from tests.fake_clock import FakeClock

from integrationd.api.app import _not_available
from integrationd.api.auth import Access
from integrationd.api.held_keys import HeldKeys
from integrationd.api.openapi_table import ROUTES, SUBMIT_ROLE
from integrationd.api.roles import Role
from integrationd.api.users.paths import TOLD
from integrationd.api.users.prefix import PREFIX, to_ours
from integrationd.events import Bus
from integrationd.settings import Settings
from integrationd.supervisor.live import roles_by

REQUESTS = 5000
# Templates, for which the OpenAPI document has one entry for each contract.
SHORT_FORMS = {("post", "/v1/{category}/{verb}"), ("post", f"{PREFIX}{{category}}/{{verb}}")}
STAFF_ACTS = {
    ("post", "/v1/connections/{name}/authorize"),
    ("delete", "/v1/connections/{name}/authorization"),
    ("post", "/v1/calls"),
    ("post", "/v1/calls/batch"),
    ("delete", "/v1/calls/{call_id}"),
    ("post", "/v1/calls/{call_id}/retry"),
    ("post", "/v1/calls/{call_id}/resolve"),
    ("post", "/v1/calls/{call_id}/acknowledge"),
    ("post", "/v1/webhooks/{webhook_id}/replay"),
    ("post", "/v1/events"),
    ("post", "/v1/connections/{name}/test"),
    ("post", "/v1/subscriptions/{subscription}/test"),
    ("post", "/v1/subscriptions/{subscription}/redeliver"),
}
# What the users' paths have of their own is looked at in test_users_paths.
SAME_AS_OURS = {
    (method, to_ours(path)): told
    for (method, path), told in ROUTES.items()
    if (method, path) not in TOLD
}
FILLED = {
    "{call_id}": "0190b5f0-7c1a-7000-8000-0123456789ab",
    "{webhook_id}": "0190b5f0-7c1a-7000-8000-0123456789ac",
    "{key_id}": "00000000000000ff",
    "{name}": "nobody",
    "{number}": "9",
    "{log_id}": "9",
    "{category}/{verb}": "sms/send",
    "{category}": "sms",
}


def needed(method: str, path: str) -> Role:
    return SUBMIT_ROLE if (method, path) in SHORT_FORMS else ROUTES[method, path].role


def served(world: ApiWorld) -> Iterator[tuple[str, str]]:
    """Yield every method and template that the app answers, but those open to everybody."""
    yield "post", "/v1/calls"
    for route in world.app._starlette.routes:
        if isinstance(route, Route) and route.endpoint is not _not_available:
            for method in route.methods or ():
                told = ROUTES.get((method.lower(), route.path))
                if method != "HEAD" and not (told and told.is_open):
                    yield method.lower(), route.path


def filled(template: str) -> str:
    for name, value in FILLED.items():
        template = template.replace(name, value)
    return template


async def holders(world: ApiWorld) -> dict[Role, httpx2.AsyncClient]:
    clients = {}
    for role in Role:
        body = {"name": f"key-{role}", "role": role}
        shown = (await world.client.post("/v1/keys", json=body)).json()
        clients[role] = world.new_client({"Authorization": f"Bearer {shown['key']}"})
    return clients


# The table


def test_roles_cover_those_before_them() -> None:
    assert [[one.covers(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_reading_never_needs_more_than_its_exceptions() -> None:
    beyond = {path for (method, path), told in SAME_AS_OURS.items() if needs_more(method, told)}
    secrets = {path for path in beyond if path.startswith(("/v1/vault", "/v1/subscriptions"))}

    assert beyond - secrets == {"/v1/keys", "/v1/webhook-endpoints"}


def needs_more(method: str, told: Any) -> bool:
    return method == "get" and not told.is_open and told.role is not Role.READ


def test_staff_acts_are_those_about_calls_and_webhooks() -> None:
    acts = {
        one for one, told in SAME_AS_OURS.items() if one[0] != "get" and told.role is Role.STAFF
    }

    assert acts == STAFF_ACTS
    assert SUBMIT_ROLE is Role.STAFF


def test_whoever_only_reads_changes_nothing() -> None:
    assert not {one for one, told in ROUTES.items() if one[0] != "get" and told.role is Role.READ}


async def test_every_route_has_a_role_and_the_document_shows_it(idle: ApiWorld) -> None:
    shown = (await idle.client.get("/v1/openapi.json")).json()["paths"]
    routes = {one for one in served(idle) if one not in SHORT_FORMS}

    assert len(routes) >= 30
    assert routes <= ROUTES.keys()
    assert {
        (method, path): shown[path][method].get("x-required-role") for method, path in routes
    } == {(method, path): needed(method, path).value for method, path in routes}
    assert shown["/v1/sms/send"]["post"]["x-required-role"] == "staff"
    assert "x-required-role" not in shown["/healthz"]["get"]


# Over the API


async def test_role_that_is_missing_is_named(idle: ApiWorld) -> None:
    clients = await holders(idle)

    sent = await clients[Role.READ].post("/v1/calls", json={"operation": "rehearsal.hold"})
    reset = await clients[Role.STAFF].post("/v1/connections/stage/breaker/reset")

    assert code_of(sent, 403) == "role_missing"
    assert sent.json()["detail"] == "this needs the role staff, and key:key-read has the role read"
    assert "staff or admin" in sent.json()["hint"]
    assert code_of(reset, 403) == "role_missing"
    assert "needs the role admin" in reset.json()["detail"]


async def test_each_role_meets_every_route_as_the_table_says(idle: ApiWorld) -> None:
    clients = await holders(idle)
    wrong = []
    for method, template in sorted(set(served(idle))):
        for role, client in clients.items():
            answer = await client.request(method, filled(template))
            is_refused = answer.status_code == 403 and answer.json()["code"] == "role_missing"
            if is_refused == role.covers(needed(method, template)):
                wrong.append((role, method, template, answer.status_code))

    assert not wrong


async def test_random_keys_never_cross_the_line(idle: ApiWorld) -> None:
    """Keys come and go while they are used; what each may do is known at every moment."""
    chance, routes = random.Random(11), sorted(set(served(idle)))
    routes = [one for one in routes if not one[1].endswith("/config/reload")]
    keys: list[dict[str, Any]] = []
    refused = let_in = unknown = 0
    for number in range(REQUESTS):
        if len(keys) < 12 or chance.random() < 0.02:
            role = chance.choice(list(Role))
            body = {"name": f"n{number}", "role": role}
            keys.append((await idle.client.post("/v1/keys", json=body)).json())
        key = chance.choice(keys)
        if key["state"] != "revoked" and chance.random() < 0.02:
            key["state"] = "revoked"
            await idle.client.delete(f"/v1/keys/{key['id']}")
        method, template = chance.choice(routes)
        headers = {"Authorization": f"Bearer {key['key']}"}
        answer = await idle.client.request(method, filled(template), headers=headers)
        if key["state"] == "revoked":
            assert answer.status_code in (401, 429)
            unknown += 1
        elif Role(key["role"]).covers(needed(method, template)):
            assert answer.status_code not in (401, 429)
            assert answer.status_code != 403
            let_in += 1
        else:
            assert code_of(answer, 403) == "role_missing"
            refused += 1

    assert min(refused, let_in, unknown) > REQUESTS / 20
    ledger = (await idle.client.get("/v1/ledger")).json()
    assert ledger["total"]["accepted"] == 0


async def test_head_needs_what_get_needs(idle: ApiWorld) -> None:
    clients = await holders(idle)

    assert (await clients[Role.READ].head("/v1/ledger")).status_code == 200
    assert (await clients[Role.READ].head("/v1/keys")).status_code == 403


@pytest.mark.parametrize("role", list(Role))
async def test_paths_that_are_not_there_say_so_to_everybody(idle: ApiWorld, role: Role) -> None:
    client = (await holders(idle))[role]

    assert (await client.get("/v1/nothing")).status_code == 404
    assert (await client.put("/v1/calls")).status_code == 405


# Over the socket


def test_peers_have_the_role_of_their_list() -> None:
    api = {"allowed_uids": [1001], "staff_uids": [1002, 1003], "read_uids": [1004]}
    settings = Settings.model_validate({"api": api})
    clock = FakeClock()
    access = Access(HeldKeys(KEY, Shelf(), Bus(), clock), roles_by(settings), "api.key", clock)

    roles = {uid: access.identify(scope(uid=uid)).role for uid in range(1001, 1005)}

    assert roles == {
        1001: Role.ADMIN,
        1002: Role.STAFF,
        1003: Role.STAFF,
        1004: Role.READ,
    }


def test_roles_of_peers_change_while_the_daemon_runs() -> None:
    clock = FakeClock()
    access = Access(HeldKeys(KEY, Shelf(), Bus(), clock), {1001: Role.ADMIN}, "api.key", clock)
    access.allow({1001: Role.READ})

    assert access.identify(scope(uid=1001)).role is Role.READ


def test_root_and_the_daemon_itself_are_admins_whatever_the_lists_say() -> None:
    clock = FakeClock()
    access = Access(HeldKeys(KEY, Shelf(), Bus(), clock), {0: Role.READ}, "api.key", clock)

    assert access.identify(scope(uid=0)).role is Role.ADMIN
