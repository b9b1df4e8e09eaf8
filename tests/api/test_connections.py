"""Connections over the API: made, tested, paused, changed, removed; their secrets never shown."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.api.test_tenant_routes import key_of
from tests.api.world import SETTINGS, ApiWorld, code_of, pointer_of

from integrationd.clock import SystemClock

KEY = "canary-3f6d11a0"
AT: dict[str, Any] = {
    "id": "at-main",
    "provider": "africastalking",
    "config": {
        "username": "sandbox",
        "api_key": KEY,
        "base_url": "http://127.0.0.1:9",
        "allow_private": True,
    },
}
STAGE: dict[str, Any] = {"id": "own-stage", "provider": "rehearsal"}
CALL: dict[str, Any] = {"operation": "rehearsal.hold", "payload": {}}
WAIT = {"Prefer": "wait=10"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    tenants: dict[str, dict[str, Any]] = {"school": {}, "shop": {}}
    made = ApiWorld(tmp_path, SystemClock(), {**SETTINGS, "tenants": tenants})
    async with made.running():
        yield made


async def make(world: ApiWorld, **body: Any) -> httpx2.Response:
    return await world.client.post("/v1/connections", json={**AT, **body})


async def shown(world: ApiWorld, name: str = "at-main") -> dict[str, Any]:
    answer = await world.client.get(f"/v1/connections/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def secrets(world: ApiWorld) -> list[str]:
    sealed = await world.journal.secrets.sealed()
    return [f"{one.tenant}/{one.name}" for one in sealed.secrets]


async def test_secret_goes_to_the_vault_and_is_shown_as_set(
    world: ApiWorld, tmp_path: Path
) -> None:
    made = await make(world, tenant="school")
    everything = [
        made.text,
        json.dumps(await shown(world)),
        (await world.client.get("/v1/connections")).text,
        (await world.client.get("/v1/events")).text,
    ]

    assert made.status_code == 201
    secret = made.json()["settings"]["config"]["api_key"]
    assert (secret["set"], secret["set_at"][:2]) == (True, "20")
    assert made.json()["settings"]["config"]["username"] == "sandbox"
    assert await secrets(world) == ["school/connections.at-main.api_key"]
    stored = (await world.journal.directory.read()).connections["at-main"]
    assert "vault:connections.at-main.api_key" in stored.settings
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY not in "".join(everything)
    assert KEY.encode() not in files


async def test_secret_that_is_left_out_of_a_change_stays_and_a_new_one_replaces_it(
    world: ApiWorld,
) -> None:
    await make(world)
    before = await shown(world)
    config = {"username": "other", "base_url": "http://127.0.0.1:9", "allow_private": True}

    left_out = await world.client.put(
        "/v1/connections/at-main", json={"provider": "africastalking", "config": config}
    )
    as_shown = await world.client.put("/v1/connections/at-main", json=before["settings"])
    renewed = await world.client.put(
        "/v1/connections/at-main",
        json={"provider": "africastalking", "config": {**config, "api_key": "another-canary"}},
    )

    kept = before["settings"]["config"]["api_key"]
    assert left_out.json()["settings"]["config"] == {**config, "api_key": kept}
    assert as_shown.json()["settings"] == before["settings"]
    assert renewed.json()["settings"]["config"]["api_key"]["set"] is True
    live = world.registry.connection("at-main")
    assert live.spec.config["api_key"] == "another-canary"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"id": "A B"}, 422, "/id"),
        ({"id": "console"}, 409, "/id"),
        ({"provider": "nobody"}, 422, "/provider"),
        ({"config": {"username": "x"}}, 422, "/config/api_key"),
        ({"config": {**AT["config"], "usrname": "x"}}, 422, "/config/usrname"),
        ({"config": {**AT["config"], "base_url": "ftp://x"}}, 422, "/config/base_url"),
        ({"tenant": "nowhere"}, 422, "/tenant"),
        ({"environment": "space"}, 422, "/environment"),
        ({"rate_limit": "lots"}, 422, "/rate_limit"),
        ({"concurrency": 0}, 422, "/concurrency"),
        ({"order": {"sms": 1}}, 422, "/order/sms"),
        ({"breaker": {"failures": 0}}, 422, "/breaker/failures"),
        ({"colour": "red"}, 422, "/colour"),
        ({"config": {**AT["config"], "username": "env:HOME"}}, 422, "/config/username"),
        ({"config": {**AT["config"], "api_key": "file:/etc/passwd"}}, 422, "/config/api_key"),
        ({"config": {**AT["config"], "api_key": "credential:x"}}, 422, "/config/api_key"),
        ({"config": {**AT["config"], "api_key": "vault:none"}}, 422, "/config/api_key"),
        (
            {"config": {**AT["config"], "api_key": "vault:connections.shop.token"}},
            422,
            "/config/api_key",
        ),
        ({"config": {**AT["config"], "api_key": {"set": True}}}, 422, "/config/api_key"),
    ],
)
async def test_what_cannot_be_a_connection_is_refused_at_its_member_and_leaves_nothing(
    world: ApiWorld, body: dict[str, Any], status: int, pointer: str
) -> None:
    answer = await make(world, **body)

    assert code_of(answer, status)
    assert pointer_of(answer) == pointer
    assert KEY not in answer.text
    assert await secrets(world) == []
    assert not (await world.journal.directory.read()).connections
    assert world.registry.find("at-main") is None


async def test_change_that_cannot_be_made_leaves_the_connection_as_it_was(world: ApiWorld) -> None:
    await make(world)
    live = world.registry.connection("at-main")
    body = {"provider": "africastalking", "config": {"username": "x", "base_url": "nowhere"}}

    refused = await world.client.put("/v1/connections/at-main", json=body)

    assert pointer_of(refused) == "/config/base_url"
    assert world.registry.connection("at-main") is live
    assert (await shown(world))["settings"]["config"]["username"] == "sandbox"


async def test_connection_of_the_file_is_read_only(world: ApiWorld) -> None:
    changed = await world.client.put("/v1/connections/console", json={"provider": "console"})
    removed = await world.client.delete("/v1/connections/console")

    assert (code_of(changed, 409), code_of(removed, 409)) == ("read_only", "read_only")
    assert (await shown(world, "console"))["settings"] is None


async def test_own_secret_of_the_vault_can_be_referred_to(world: ApiWorld) -> None:
    await world.client.put("/v1/vault/secrets/at-key", json={"value": KEY})

    made = await make(world, config={**AT["config"], "api_key": "vault:at-key"})

    assert made.json()["settings"]["config"]["api_key"] == "vault:at-key"
    assert world.registry.connection("at-main").spec.config["api_key"] == KEY
    await world.client.delete("/v1/connections/at-main")
    assert await secrets(world) == ["*/at-key"]


async def test_test_says_what_failed_and_how_to_mend_it_and_is_remembered(
    world: ApiWorld,
) -> None:
    await make(world)

    found = await world.client.post("/v1/connections/at-main/test")

    assert found.status_code == 200
    told = found.json()
    assert told["ok"] is False
    assert "no connection to 127.0.0.1:9" in told["message"]
    assert "check host and port" in told["hint"]
    assert (await shown(world))["last_test"] == told


async def test_test_of_a_private_address_says_who_may_allow_it(world: ApiWorld) -> None:
    await make(world, config={**AT["config"], "allow_private": False})

    told = (await world.client.post("/v1/connections/at-main/test")).json()

    assert "loopback" in told["message"]
    assert "admin of all tenants" in told["hint"]


async def test_test_of_a_plugin_without_one_says_so(world: ApiWorld) -> None:
    told = (await world.client.post("/v1/connections/stage/test")).json()

    assert told["ok"] is False
    assert told["message"] == "rehearsal has no connection test"


async def test_paused_connection_takes_calls_and_sends_none(world: ApiWorld) -> None:
    paused = await world.client.post("/v1/connections/stage/pause")
    accepted = await world.client.post("/v1/calls", json=CALL)
    waiting = await world.look(accepted.json()["id"])

    assert (paused.json()["state"], paused.json()["paused_by"]) == ("paused", "key:bootstrap")
    assert accepted.status_code == 202
    assert waiting["state"] == "pending"
    assert "'stage' is paused by key:bootstrap" in waiting["why"]

    resumed = await world.client.post("/v1/connections/stage/resume")
    done = await world.client.get(f"/v1/calls/{waiting['id']}", headers=WAIT)
    assert resumed.json()["state"] == "serving"
    assert done.json()["state"] == "completed"


async def test_connection_with_waiting_calls_is_removed_only_when_drained(world: ApiWorld) -> None:
    await world.client.post("/v1/connections", json={**STAGE, "tenant": "school"})
    await world.client.post("/v1/connections/own-stage/pause")
    call = {**CALL, "tenant": "school"}
    held = (await world.client.post("/v1/calls", json=call)).json()

    refused = await world.client.delete("/v1/connections/own-stage")
    draining = await world.client.delete("/v1/connections/own-stage?drain=true")
    late = await world.client.post("/v1/calls", json={**call, "connection": "own-stage"})
    moved = await world.client.post("/v1/calls", json=call)

    assert code_of(refused, 409) == "calls_waiting"
    assert (draining.status_code, draining.json()["deleted"]) == (202, False)
    assert "is being removed" in late.json()["detail"]
    assert moved.status_code == 202
    await world.client.post("/v1/connections/own-stage/resume")
    done = await world.client.get(f"/v1/calls/{held['id']}", headers=WAIT)
    assert done.json()["state"] == "completed"
    assert await world.directory.remove_if_idle("own-stage", "key:bootstrap")
    gone = await world.client.get("/v1/connections/own-stage")
    assert gone.status_code == 404


async def test_caller_of_a_tenant_meets_its_own_and_the_shared_connections(
    world: ApiWorld,
) -> None:
    await make(world, tenant="shop")
    async with await key_of(world, "school") as theirs:
        mine = await theirs.post("/v1/connections", json=STAGE)
        listed = (await theirs.get("/v1/connections")).json()["items"]
        foreign = [
            await theirs.get("/v1/connections/at-main"),
            await theirs.put("/v1/connections/at-main", json={"provider": "rehearsal"}),
            await theirs.delete("/v1/connections/at-main"),
            *[await theirs.post(f"/v1/connections/at-main/{verb}") for verb in VERBS],
        ]
        unknown = await theirs.get("/v1/connections/none")
        shared = [await theirs.post(f"/v1/connections/stage/{verb}") for verb in VERBS]
        beyond = [
            await theirs.post("/v1/connections", json={**STAGE, "id": "a", "tenant": None}),
            await theirs.post("/v1/connections", json={**AT, "id": "b"}),
        ]
        other = await theirs.post("/v1/connections", json={**STAGE, "id": "c", "tenant": "shop"})

    assert mine.json()["tenant"] == "school"
    assert {one["id"] for one in listed} == {"stage", "console", "off", "shop", "own-stage"}
    assert {answer.status_code for answer in foreign} == {404}
    assert foreign[0].json()["detail"].replace("at-main", "none") == unknown.json()["detail"]
    assert {code_of(answer, 403) for answer in (*shared, *beyond)} == {"tenant_not_allowed"}
    assert code_of(other, 422) == "no_such_tenant"


VERBS = ("test", "pause", "resume", "breaker/reset")


async def test_truth_of_another_kind_opens_no_private_network_to_a_tenant(world: ApiWorld) -> None:
    async with await key_of(world, "school") as theirs:
        for value in (1, "true", "yes", "on"):
            config = {**AT["config"], "allow_private": value}
            answer = await theirs.post("/v1/connections", json={**AT, "config": config})
            assert code_of(answer, 403) == "tenant_not_allowed"


async def test_only_admins_change_connections(world: ApiWorld) -> None:
    async with await key_of(world, "school", "staff") as staff:
        assert code_of(await staff.post("/v1/connections", json=STAGE), 403) == "role_missing"
        assert code_of(await staff.post("/v1/connections/stage/pause"), 403) == "role_missing"


async def test_tenants_own_connection_carries_its_calls_and_nobody_elses(world: ApiWorld) -> None:
    await world.client.post("/v1/connections", json={**STAGE, "tenant": "school"})

    theirs = await world.play("hold", tenant="school")
    others = await world.play("hold", tenant="shop")
    asked = {**CALL, "tenant": "shop", "connection": "own-stage"}
    refused = await world.client.post("/v1/calls", json=asked)

    assert (theirs["connection"], others["connection"]) == ("own-stage", "stage")
    assert code_of(refused, 422) == "not_configured"


async def test_two_that_nothing_tells_apart_are_ambiguous_until_one_is_primary(
    world: ApiWorld,
) -> None:
    for name in ("one", "two"):
        body = {**STAGE, "id": name, "tenant": "school"}
        assert (await world.client.post("/v1/connections", json=body)).status_code == 201
    call = {**CALL, "tenant": "school"}

    refused = await world.client.post("/v1/calls", json=call)
    preferred = {"provider": "rehearsal", "primary": True}
    await world.client.put("/v1/connections/two", json=preferred)
    done = await world.client.post("/v1/calls", json=call, headers=WAIT)

    assert code_of(refused, 422) == "ambiguous_route"
    assert "one, two" in refused.json()["detail"]
    assert done.json()["connection"] == "two"


async def test_same_id_asked_for_at_once_is_made_once(world: ApiWorld) -> None:
    answers: list[int] = []

    async def ask(owner: str) -> None:
        body = {**STAGE, "tenant": owner}
        answers.append((await world.client.post("/v1/connections", json=body)).status_code)

    async with anyio.create_task_group() as group:
        for owner in ("school", "shop", "school"):
            group.start_soon(ask, owner)

    assert sorted(answers) == [201, 409, 409]


async def test_no_call_slips_in_while_a_connection_is_removed(world: ApiWorld) -> None:
    """Either it stays, or whatever was accepted for it has ended before."""
    call = {**CALL, "tenant": "school", "connection": "own-stage"}
    for _ in range(8):
        await world.client.post("/v1/connections", json={**STAGE, "tenant": "school"})
        accepted: list[str] = []
        gone: list[int] = []

        async def ask(accepted: list[str] = accepted) -> None:
            answer = await world.client.post("/v1/calls", json=call)
            assert answer.status_code in (202, 422), answer.text
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])

        async def remove(gone: list[int] = gone) -> None:
            answer = await world.client.delete("/v1/connections/own-stage")
            gone.append(answer.status_code)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(remove if number == 6 else ask)
        states = [(await world.look(one))["state"] for one in accepted]

        assert gone[0] in (200, 409)
        if gone == [200]:
            assert set(states) <= {"completed"}
        for one in accepted:
            await world.client.get(f"/v1/calls/{one}", headers=WAIT)


async def test_connection_whose_secret_the_file_uses_is_not_removed(tmp_path: Path) -> None:
    """The file would be rejected at the next start."""
    token = "vault:connections.at-main.api_key"
    config = {"base_url": "http://127.0.0.1:9", "auth": {"kind": "bearer", "token": token}}
    filed = {"provider": "http", "config": {**config, "allow_private": True}}
    made = ApiWorld(tmp_path, SystemClock(), {**SETTINGS, "connections": {"filed": filed}})
    async with made.running():
        answer = await make(made)
        assert answer.status_code == 201, answer.text

        refused = await made.client.delete("/v1/connections/at-main")

    assert code_of(refused, 409) == "secret_in_use"
    assert "filed" in refused.json()["detail"]


async def test_tenant_with_a_connection_or_a_subscription_is_not_removed(world: ApiWorld) -> None:
    await world.client.post("/v1/tenants", json={"id": "bus"})
    await world.client.post("/v1/connections", json={**STAGE, "tenant": "bus"})

    refused = await world.client.delete("/v1/tenants/bus")
    await world.client.delete("/v1/connections/own-stage")
    hook = {"url": "https://hooks.example/x", "tenant": "bus", "active": False}
    told = await world.client.post("/v1/subscriptions", json=hook)
    still = await world.client.delete("/v1/tenants/bus")
    await world.client.delete(f"/v1/subscriptions/{told.json()['id']}")
    gone = await world.client.delete("/v1/tenants/bus")

    assert "own-stage" in refused.json()["detail"]
    assert code_of(still, 409) == "in_use"
    assert gone.status_code == 200, gone.text
