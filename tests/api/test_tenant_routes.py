"""Tenants over the API: made, changed, suspended and taken away; each caller sees its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.world import SETTINGS, ApiWorld, code_of, pointer_of

from integrationd.clock import SystemClock

HOLD = {"operation": "rehearsal.hold", "payload": {}, "connection": "stage"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    settings = {**SETTINGS, "tenants": {"filed": {"name": "Of the file"}}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.running():
        yield made


async def make(world: ApiWorld, **body: Any) -> httpx2.Response:
    return await world.client.post("/v1/tenants", json={"id": "school", **body})


async def key_of(world: ApiWorld, tenant: str, role: str = "admin") -> httpx2.AsyncClient:
    """Return a client that shows a key of a tenant."""
    body = {"name": f"k-{tenant}-{role}", "role": role, "tenant": tenant}
    answer = await world.client.post("/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    return world.new_client({"Authorization": f"Bearer {answer.json()['key']}"})


async def test_tenant_is_made_changed_and_taken_away(world: ApiWorld) -> None:
    made = await make(world, name="A school", defaults={"currency": "KES"}, rate_limit="5/s")
    changed = await world.client.put("/v1/tenants/school", json={"status": "suspended"})
    gone = await world.client.delete("/v1/tenants/school")
    after = await world.client.get("/v1/tenants/school")

    assert made.status_code == 201
    assert made.json()["source"] == "api"
    assert (made.json()["rate_limit"], made.json()["defaults"]) == (5.0, {"currency": "KES"})
    assert (changed.json()["status"], changed.json()["name"]) == ("suspended", "")
    assert changed.json()["created_at"] == made.json()["created_at"]
    assert gone.json() == {"id": "school", "deleted": True}
    assert code_of(after, 404) == "no_such_tenant"


async def test_list_shows_those_of_the_file_and_the_one_that_is_always_there(
    world: ApiWorld,
) -> None:
    await make(world)

    listed = (await world.client.get("/v1/tenants")).json()["items"]

    assert {one["id"]: one["source"] for one in listed} == {
        "default": "built-in",
        "filed": "file",
        "school": "api",
    }


async def test_tenant_of_the_file_is_read_only(world: ApiWorld) -> None:
    for answer in (
        await world.client.put("/v1/tenants/filed", json={}),
        await world.client.delete("/v1/tenants/filed"),
    ):
        assert code_of(answer, 409) == "read_only"
    assert code_of(await world.client.post("/v1/tenants", json={"id": "filed"}), 409) == "exists"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": "a b"}, "/id"),
        ({"id": ""}, "/id"),
        ({"status": "asleep"}, "/status"),
        ({"daily_quota": 0}, "/daily_quota"),
        ({"rate_limit": "many"}, "/rate_limit"),
        ({"retention": {"calls": "never"}}, "/retention/calls"),
        ({"nickname": "x"}, "/nickname"),
    ],
)
async def test_what_cannot_be_a_tenant_is_refused_at_its_member(
    world: ApiWorld, body: dict[str, Any], pointer: str
) -> None:
    answer = await make(world, **body)

    assert code_of(answer, 422)
    assert pointer_of(answer) == pointer
    assert len((await world.client.get("/v1/tenants")).json()["items"]) == 2


async def test_tenant_with_things_of_its_own_is_not_deleted(world: ApiWorld) -> None:
    await make(world)
    body = {"id": "own", "provider": "rehearsal", "tenant": "school"}
    assert (await world.client.post("/v1/connections", json=body)).status_code == 201
    async with await key_of(world, "school", "read"):
        refused = await world.client.delete("/v1/tenants/school")

    assert code_of(refused, 409) == "in_use"
    assert "connections: own" in refused.json()["detail"]
    assert "API keys: k-school-read" in refused.json()["detail"]


async def test_caller_of_a_tenant_sees_that_one_and_makes_none(world: ApiWorld) -> None:
    await make(world)
    async with await key_of(world, "school") as theirs:
        listed = (await theirs.get("/v1/tenants")).json()["items"]
        other = await theirs.get("/v1/tenants/filed")
        nobody = await theirs.get("/v1/tenants/none")
        refused = [
            await theirs.post("/v1/tenants", json={"id": "more"}),
            await theirs.put("/v1/tenants/school", json={"daily_quota": None}),
            await theirs.delete("/v1/tenants/filed"),
        ]

    assert [one["id"] for one in listed] == ["school"]
    assert (other.status_code, nobody.status_code) == (404, 404)
    assert other.json()["detail"].replace("filed", "none") == nobody.json()["detail"]
    assert {code_of(answer, 403) for answer in refused} == {"tenant_not_allowed"}


async def test_calls_of_a_suspended_tenant_wait_and_go_on_by_themselves(world: ApiWorld) -> None:
    await make(world)
    await world.client.post("/v1/connections/stage/pause")
    accepted = (await world.client.post("/v1/calls", json={**HOLD, "tenant": "school"})).json()
    await world.client.put("/v1/tenants/school", json={"status": "suspended"})
    await world.client.post("/v1/connections/stage/resume")

    waiting = await world.look(accepted["id"])
    assert waiting["state"] == "pending"
    assert "tenant 'school' is suspended" in waiting["why"]

    await world.client.put("/v1/tenants/school", json={"status": "active"})
    headers = {"Prefer": "wait=10"}
    done = await world.client.get(f"/v1/calls/{accepted['id']}", headers=headers)
    assert done.json()["state"] == "completed"
