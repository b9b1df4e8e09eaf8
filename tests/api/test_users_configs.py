"""The users' configs: connections with the columns of ``integration_configs``."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.in_users_words import holder, shown
from tests.api.world import SETTINGS, ApiWorld, code_of, pointer_of

from integrationd.api.roles import Role
from integrationd.api.users.prefix import PREFIX
from integrationd.clock import SystemClock

KEY = "canary-9d2c40aa"
PLAIN = {"username": "sandbox", "base_url": "http://127.0.0.1:9", "allow_private": True}
SMS = {"provider": "africastalking", "settings": PLAIN, "credentials": {"api_key": KEY}}
COLUMNS = {
    *("id", "tenant", "provider", "environment", "is_enabled", "is_primary", "last_tested_at"),
    *("last_test_status", "created_at", "updated_at"),
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    """A daemon with two schools."""
    tenants: dict[str, Any] = {"north": {}, "south": {}}
    made = ApiWorld(tmp_path, SystemClock(), {**SETTINGS, "tenants": tenants})
    async with made.running():
        yield made


async def make(world: ApiWorld, **body: Any) -> httpx2.Response:
    return await world.client.post(f"{PREFIX}configs", json={**SMS, **body})


async def change(world: ApiWorld, name: str, **body: Any) -> httpx2.Response:
    return await world.client.put(f"{PREFIX}configs/{name}", json=body)


async def live_config(world: ApiWorld, name: str) -> Any:
    return world.registry.connection(name).spec.config


async def test_configs_are_listed_with_the_columns_of_the_document(world: ApiWorld) -> None:
    found = {item["id"]: item for item in (await shown(world, "configs"))["items"]}

    assert set(SETTINGS["connections"]) == found.keys()
    assert found["stage"].keys() >= COLUMNS
    assert (found["stage"]["is_enabled"], found["off"]["is_enabled"]) == (True, False)
    assert found["stage"]["environment"] == "sandbox"
    assert found["stage"] == await shown(world, "configs/stage")


async def test_config_is_made_and_its_credentials_are_never_shown(world: ApiWorld) -> None:
    made = await make(world, environment="production", is_primary=True)

    item = made.json()
    assert made.status_code == 201
    assert item["id"] == "africastalking"
    assert (item["environment"], item["is_enabled"], item["is_primary"]) == (
        "production",
        True,
        True,
    )
    assert item["settings"] == PLAIN
    assert item["credentials"]["api_key"]["set"] is True
    assert (item["last_test_status"], item["last_tested_at"]) == (None, None)
    assert item == await shown(world, "configs/africastalking")
    assert KEY not in made.text
    assert (await live_config(world, "africastalking"))["api_key"] == KEY


async def test_config_is_named_after_its_school_and_provider(world: ApiWorld) -> None:
    made = await make(world, tenant="north")
    again = await make(world, tenant="north")
    other = await make(world, tenant="south", id="own-name")

    assert [one.json().get("id") for one in (made, other)] == ["north-africastalking", "own-name"]
    assert made.json()["tenant"] == "north"
    assert code_of(again, 409)


async def test_admin_of_a_school_makes_its_own(world: ApiWorld) -> None:
    client = await holder(world, Role.ADMIN, "north")
    body = {**SMS, "settings": {"username": "sandbox"}}

    made = await client.post(f"{PREFIX}configs", json=body)

    assert (made.status_code, made.json()["tenant"]) == (201, "north")
    assert made.json()["id"] == "north-africastalking"


async def test_change_keeps_what_it_does_not_say(world: ApiWorld) -> None:
    before = (await make(world, environment="production")).json()

    off = (await change(world, "africastalking", is_enabled=False)).json()
    renewed = (await change(world, "africastalking", credentials={"api_key": "another"})).json()
    plain = {**PLAIN, "username": "live"}
    moved = (await change(world, "africastalking", settings=plain)).json()

    assert off["is_enabled"] is False
    for name in ("settings", "credentials", "environment", "provider", "tenant"):
        assert off[name] == before[name]
    assert (renewed["is_enabled"], renewed["settings"]) == (False, PLAIN)
    assert moved["settings"] == plain
    assert (await live_config(world, "africastalking")) == {**plain, "api_key": "another"}


async def test_what_was_shown_can_be_sent_back(world: ApiWorld) -> None:
    item = (await make(world)).json()
    said = {name: item[name] for name in ("settings", "credentials", "is_enabled", "environment")}

    answer = await change(world, "africastalking", **said)

    assert answer.json()["settings"] == item["settings"]
    assert (await live_config(world, "africastalking"))["api_key"] == KEY


async def test_config_in_one_is_taken_too(world: ApiWorld) -> None:
    body = {"provider_id": "africastalking", "config": {**PLAIN, "api_key": KEY}}

    made = await world.client.post(f"{PREFIX}configs", json=body)

    assert (made.status_code, made.json()["settings"]) == (201, PLAIN)


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"provider": "nobody"}, 422, "/provider"),
        ({"provider_id": "mpesa"}, 422, "/provider_id"),
        ({"credentials": {}}, 422, "/settings/api_key"),
        ({"settings": {**PLAIN, "usrname": "x"}}, 422, "/settings/usrname"),
        ({"credentials": {"api_key": "env:HOME"}}, 422, "/credentials/api_key"),
        ({"credentials": {"api_key": KEY, "username": "x"}}, 422, "/credentials/username"),
        ({"config": PLAIN}, 422, "/config"),
        ({"is_enabled": "yes"}, 422, "/is_enabled"),
        ({"environment": "test"}, 422, "/environment"),
        ({"surprise": 1}, 422, "/surprise"),
        ({"tenant": "nobody"}, 422, "/tenant"),
        ({"id": "A B"}, 422, "/id"),
    ],
)
async def test_config_that_cannot_be_used_is_refused_by_the_name_it_was_given(
    world: ApiWorld, body: dict[str, Any], status: int, pointer: str
) -> None:
    answer = await make(world, **body)

    assert code_of(answer, status)
    assert pointer_of(answer) == pointer
    assert KEY not in answer.text


async def test_config_without_a_provider_is_refused(world: ApiWorld) -> None:
    answer = await world.client.post(f"{PREFIX}configs", json={"settings": {}})

    assert (code_of(answer, 422), pointer_of(answer)) == ("invalid", "/provider")


async def test_config_of_the_file_is_changed_in_its_file(world: ApiWorld) -> None:
    assert code_of(await change(world, "console", is_enabled=False), 409)
    assert code_of(await world.client.delete(f"{PREFIX}configs/console"), 409)


async def test_test_of_a_config_says_what_it_came_to(world: ApiWorld) -> None:
    await make(world)

    answer = await world.client.post(f"{PREFIX}configs/africastalking/test")
    item = await shown(world, "configs/africastalking")

    found = answer.json()
    assert (answer.status_code, found["last_test_status"]) == (200, "failed")
    assert found["message"]
    assert (item["last_test_status"], item["last_tested_at"], item["last_test_message"]) == (
        "failed",
        found["last_tested_at"],
        found["message"],
    )


async def test_config_is_deleted(world: ApiWorld) -> None:
    await make(world)

    gone = await world.client.delete(f"{PREFIX}configs/africastalking")

    assert (gone.status_code, gone.json()) == (200, {"id": "africastalking", "deleted": True})
    assert code_of(await world.client.get(f"{PREFIX}configs/africastalking"), 404)


@pytest.mark.parametrize(
    ("method", "below"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/test")]
)
async def test_config_of_another_school_is_not_there(
    world: ApiWorld, method: str, below: str
) -> None:
    await make(world, tenant="south")
    client = await holder(world, Role.ADMIN, "north")

    answers = [
        await client.request(method, f"{PREFIX}configs/{name}{below}", json={})
        for name in ("south-africastalking", "nobody-africastalking")
    ]

    codes = {code_of(answer, 404) for answer in answers}
    assert len(codes) == 1
    listed = (await client.get(f"{PREFIX}configs")).json()["items"]
    assert "south-africastalking" not in {item["id"] for item in listed}


async def test_staff_looks_at_configs_and_changes_none(world: ApiWorld) -> None:
    client = await holder(world, Role.STAFF)

    assert (await client.get(f"{PREFIX}configs/stage")).status_code == 200
    for method, path in (
        ("POST", "configs"),
        ("PUT", "configs/stage"),
        ("DELETE", "configs/stage"),
        ("POST", "configs/stage/test"),
    ):
        assert code_of(await client.request(method, PREFIX + path, json={}), 403)
