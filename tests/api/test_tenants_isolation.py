"""Two tenants, every route, every role: what is another's does not exist for a key of one.

The other tenant has of everything, all of it named so that it is known wherever it turns up. What
is asked about it must be answered, byte for byte, as if nobody had ever heard of it.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.tenant_matrix import MATRIX, SHORT, Body, Treats
from tests.api.tenant_stage import NEVER, NOBODY, OTHER, Stage, staged
from tests.api.world import code_of

from integrationd.api.openapi_table import ROUTES
from integrationd.api.roles import Role

IGNORED_HEADERS = {"content-length", "date", "x-request-id"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as made:
        yield made


# The matrix


def test_every_route_is_in_the_matrix() -> None:
    routes = {*ROUTES, SHORT}

    assert not routes - MATRIX.keys(), "say in tests/api/tenant_matrix.py how these treat tenants"
    assert not MATRIX.keys() - routes, "these are served no more"


def plain(text: str, said: str) -> str:
    """Take out of an answer what was asked about."""
    return re.sub(rf"(?<![\w-]){re.escape(said)}(?![\w-])", "<it>", text)


def shown(answer: httpx2.Response, *said: str) -> tuple[int, dict[str, str], str]:
    """Return all of an answer but what was asked about."""
    text = answer.text
    for one in said:
        text = plain(text, one)
    headers = {
        name: plain(value, said[0]) if said else value
        for name, value in answer.headers.items()
        if name not in IGNORED_HEADERS
    }
    return answer.status_code, headers, text


def filled(body: Body, tenant: str, connection: str) -> Any:
    text = json.dumps(body).replace("{tenant}", tenant).replace("{connection}", connection)
    return json.loads(text)


def path_of(template: str) -> str:
    return template.replace("{category}/{verb}", "rehearsal/hold").replace("{category}", "sms")


async def ask(client: httpx2.AsyncClient, method: str, path: str, body: Body) -> httpx2.Response:
    return (
        await client.request(method, path, json=body)
        if body is not None
        else (await client.request(method, path))
    )


def parameter_of(path: str) -> str | None:
    """Return the name of what a path is about, without that of a category."""
    _, brace, rest = path_of(path).partition("{")
    return rest.partition("}")[0] if brace else None


def of_kind(how: str) -> Iterator[tuple[str, str, Treats]]:
    for (method, path), treats in sorted(MATRIX.items()):
        if treats.how == how:
            yield method, path, treats


async def test_thing_of_another_tenant_is_answered_as_one_that_is_not_there(stage: Stage) -> None:
    before = await snapshot(stage)
    compared = 0
    for method, template, treats in of_kind("named"):
        kind = parameter_of(template)
        assert kind is not None, template
        for role, client in stage.acme.items():
            never = template.replace(f"{{{kind}}}", stage.never[kind])
            expected = shown(await ask(client, method, never, treats.body), stage.never[kind])
            for theirs in stage.theirs[kind]:
                path = template.replace(f"{{{kind}}}", theirs)
                found = shown(await ask(client, method, path, treats.body), theirs)
                assert found == expected, (role, method, path)
                assert found[0] in (403, 404), (role, method, path)
                if found[0] == 403:
                    assert '"role_missing"' in found[2], (role, method, path)
                compared += 1

    assert compared > 200
    assert await snapshot(stage) == before


async def test_waiting_for_a_foreign_call_is_answered_at_once_as_for_none(stage: Stage) -> None:
    client, headers = stage.acme[Role.READ], {"Prefer": "wait=30"}
    never = await client.get(f"/v1/calls/{NEVER}", headers=headers)
    for call_id in stage.theirs["call_id"]:
        found = await client.get(f"/v1/calls/{call_id}", headers=headers)
        assert shown(found, call_id) == shown(never, NEVER)


async def test_nothing_of_another_tenant_is_ever_shown(stage: Stage) -> None:
    """Neither where a key looks at all that it may, nor where it makes something."""
    for method, template, treats in of_kind("own"):
        path = path_of(template).replace("{name}", "acme-made")
        for role, client in stage.acme.items():
            answer = await ask(client, method, path, treats.body)
            assert answer.status_code < 500, (role, method, path, answer.text)
            leaked = [mark for mark in stage.marks if mark in answer.text]
            assert not leaked, (role, method, path, answer.text)
            if method == "get":
                assert answer.status_code == 200 or code_of(answer, 403) == "role_missing"


async def test_naming_another_tenant_is_answered_as_naming_none_that_exists(stage: Stage) -> None:
    before = await snapshot(stage)
    compared = 0
    for method, template, treats in of_kind("own"):
        for role, client in stage.acme.items():
            for body in treats.foreign:
                pairs = [
                    await ask(client, method, path_of(template), filled(body, *names))
                    for names in ((OTHER, "zebra-stage"), (NOBODY, "never-there"))
                ]
                theirs = shown(pairs[0], "zebra-stage", OTHER)
                never = shown(pairs[1], "never-there", NOBODY)
                assert theirs == never, (role, method, template, body)
                assert theirs[0] in (403, 404, 422), (role, method, template, body, theirs)
                compared += 1

    assert compared >= 20
    assert await snapshot(stage) == before


async def test_filter_for_another_tenant_finds_nothing(stage: Stage) -> None:
    values = {
        "tenant": (OTHER, NOBODY),
        "connection": ("zebra-stage", "never-there"),
        "call_id": (stage.theirs["call_id"][0], NEVER),
        "reference_id": ("zebra-invoice", "never-there"),
    }
    compared = 0
    for method, template, treats in of_kind("own"):
        told = ROUTES.get((method, template))
        for name in {*(told.query if told else ("tenant", "connection"))} & values.keys():
            path = path_of(template).replace("{name}", "zebra-secret")
            for role, client in stage.acme.items():
                answers = [
                    await client.request(method, path, params={name: value}, json=treats.body)
                    for value in values[name]
                ]
                theirs, never = map(shown, answers, values[name])
                compared += 1
                assert theirs[0] == never[0], (role, method, path, name)
                assert theirs[2] == never[2], (role, method, path, name)
                assert not [mark for mark in stage.marks if mark in theirs[2]]

    assert compared >= 30


async def test_what_concerns_all_tenants_is_refused_to_keys_of_one(stage: Stage) -> None:
    for method, template, treats in of_kind("common"):
        path = template.replace("{tenant_id}", "acme")
        answer = await ask(stage.acme[Role.ADMIN], method, path, treats.body)
        assert code_of(answer, 403) == "tenant_not_allowed", (method, path)


async def snapshot(stage: Stage) -> dict[str, Any]:
    """Return all that the other tenant sees of its own."""
    lists = ("calls", "attempts", "webhooks", "keys", "connections", "vault/secrets", "ledger")
    more = ("subscriptions", "events")
    found = {one: (await stage.zebra.get(f"/v1/{one}")).json() for one in (*lists, *more)}
    for key in found["keys"]["items"]:
        # Whoever looks uses a key.
        del key["last_used_at"]
    for page in found.values():
        # How far the log of all goes is nobody's secret.
        page.pop("upto", None)
    for one in found["subscriptions"]["items"]:
        del one["last_event"], one["behind"]
    return found


async def test_the_other_tenant_meets_its_own(stage: Stage) -> None:
    """What the matrix asks about is there: its owner is shown it."""
    for method, template, _treats in of_kind("named"):
        kind = parameter_of(template)
        if method != "get" or kind == "name":
            continue
        for theirs in stage.theirs[kind or ""]:
            answer = await stage.zebra.get(template.replace(f"{{{kind}}}", theirs))
            assert answer.status_code == 200, (template, theirs, answer.text)
    assert (await stage.zebra.get("/v1/connections/zebra-stage")).status_code == 200
    names = (await stage.zebra.get("/v1/vault/secrets")).json()["items"]
    assert "zebra-secret" in [one["name"] for one in names]
