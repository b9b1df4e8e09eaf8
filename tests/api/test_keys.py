"""API keys over the API: shown once, expiring, replaced and revoked, of one tenant or of all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.world import ApiWorld, code_of, pointer_of
from tests.fake_clock import FakeClock

from integrationd.clock import SystemClock


async def made(client: httpx2.AsyncClient, name: str = "shop", **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/keys", json={"name": name, "role": "staff", **more})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def holder(world: ApiWorld, key: Mapping[str, Any]) -> httpx2.AsyncClient:
    return world.new_client({"Authorization": f"Bearer {key['key']}"})


async def status_with(world: ApiWorld, key: Mapping[str, Any]) -> int:
    async with holder(world, key) as client:
        return (await client.get("/v1/ledger")).status_code


async def test_key_is_shown_once_and_works_at_once(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/keys", json={"name": "shop", "role": "staff"})
    shown = answer.json()
    listed = await idle.client.get("/v1/keys")

    assert answer.headers["cache-control"] == "no-store"
    assert shown["key"].startswith(shown["prefix"])
    assert (shown["state"], shown["tenant"], shown["expires_at"]) == ("valid", None, None)
    assert await status_with(idle, shown) == 200
    key = shown.pop("key")
    assert listed.json() == {"items": [shown], "next": None}
    assert key not in listed.text


async def test_key_is_nowhere_in_the_files(idle: ApiWorld, tmp_path: Path) -> None:
    key = (await made(idle.client))["key"]
    secret = key.split("_", 2)[2].encode()

    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]


async def test_acts_are_told_under_the_name_of_the_key(idle: ApiWorld) -> None:
    boss = await made(idle.client, "boss", role="admin")
    async with holder(idle, boss) as client:
        shop = await made(client)
        body = {"operation": "rehearsal.hold"}
        call = (await client.post("/v1/calls", json=body)).json()["id"]
        cancelled = (await client.delete(f"/v1/calls/{call}")).json()
        await client.delete(f"/v1/keys/{shop['id']}")

    found = await idle.journal.events.after(0, 100)
    acts = [(one.type, json.loads(one.data)["by"]) for one in found if one.type[:4] == "key."]
    assert cancelled["detail"] == "Cancelled by key:boss."
    assert acts == [
        ("key.created", "key:bootstrap"),
        ("key.created", "key:boss"),
        ("key.revoked", "key:boss"),
    ]


async def test_revoked_key_is_refused_at_once_and_for_good(idle: ApiWorld) -> None:
    key = await made(idle.client)
    assert await status_with(idle, key) == 200

    revoked = await idle.client.delete(f"/v1/keys/{key['id']}")

    assert revoked.json()["state"] == "revoked"
    assert await status_with(idle, key) == 401
    await idle.held_keys.load()
    assert await status_with(idle, key) == 401
    again = await idle.client.delete(f"/v1/keys/{key['id']}")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]


async def test_revoked_key_is_refused_even_if_the_journal_cannot_be_told(
    idle: ApiWorld, tmp_path: Path
) -> None:
    key = await made(idle.client)
    await idle.journal.close()
    refused = await idle.client.delete(f"/v1/keys/{key['id']}")

    assert code_of(refused, 503) == "journal_unavailable"
    async with holder(idle, key) as client:
        assert code_of(await client.get("/v1/status"), 401) == "key_wrong"
    await idle.journal.open()
    await idle.held_keys.load()
    assert await status_with(idle, key) == 401


async def test_key_can_revoke_itself(idle: ApiWorld) -> None:
    key = await made(idle.client, role="admin")
    async with holder(idle, key) as client:
        assert (await client.delete(f"/v1/keys/{key['id']}")).status_code == 200
        assert code_of(await client.get("/v1/keys"), 401) == "key_wrong"


async def test_rotation_keeps_the_old_key_for_its_grace(tmp_path: Path) -> None:
    clock = FakeClock()
    world = ApiWorld(tmp_path, clock)
    async with world.opened():
        old = await made(world.client, tenant="default", expires_in=10_000)
        await clock.advance(100)
        path = f"/v1/keys/{old['id']}/rotate"
        new = (await world.client.post(path, json={"grace": 60})).json()
        at_first = [await status_with(world, one) for one in (old, new)]
        await clock.advance(60)
        later = [await status_with(world, one) for one in (old, new)]
        async with holder(world, old) as client:
            refused = await client.get("/v1/ledger")
        again = await world.client.post(path)
        listed = (await world.client.get("/v1/keys")).json()["items"]

    assert (new["name"], new["role"], new["tenant"]) == ("shop", "staff", "default")
    assert (at_first, later) == ([200, 200], [401, 200])
    assert code_of(refused) == "key_replaced"
    assert code_of(again, 409) == "key_replaced"
    assert [(one["id"], one["state"]) for one in listed] == [
        (new["id"], "valid"),
        (old["id"], "replaced"),
    ]
    assert listed[1]["replaced_by"] == new["id"]


async def test_rotation_without_grace_ends_the_old_key_at_once(idle: ApiWorld) -> None:
    old = await made(idle.client)
    new = await idle.client.post(f"/v1/keys/{old['id']}/rotate", json={"grace": 0})

    assert await status_with(idle, old) == 401
    assert await status_with(idle, new.json()) == 200


async def test_rotation_without_a_body_gives_a_day(idle: ApiWorld) -> None:
    old = await made(idle.client)
    await idle.client.post(f"/v1/keys/{old['id']}/rotate")

    (_, listed) = (await idle.client.get("/v1/keys")).json()["items"]
    assert listed["state"] == "grace"
    assert await status_with(idle, old) == 200


async def test_key_is_refused_from_the_moment_on_that_it_expires(tmp_path: Path) -> None:
    clock = FakeClock()
    world = ApiWorld(tmp_path, clock)
    async with world.opened():
        key = await made(world.client, expires_in=60)
        await clock.advance(59.999)
        before = await status_with(world, key)
        await clock.advance(0.001)
        async with holder(world, key) as client:
            refused = await client.get("/v1/ledger")
        (listed,) = (await world.client.get("/v1/keys")).json()["items"]

    assert before == 200
    assert code_of(refused, 401) == "key_expired"
    assert listed["expires_at"] in refused.json()["detail"]
    assert listed["state"] == "expired"


@pytest.mark.parametrize(
    ("changes", "status", "code", "pointer"),
    [
        ({"name": ""}, 422, "invalid", "/name"),
        ({"name": "Shop"}, 422, "invalid", "/name"),
        ({"name": "a\n"}, 422, "invalid", "/name"),
        ({"name": "a" * 64}, 422, "invalid", "/name"),
        ({"name": "bootstrap"}, 409, "name_taken", "/name"),
        ({"name": "taken"}, 409, "name_taken", "/name"),
        ({"role": "owner"}, 422, "invalid", "/role"),
        ({"tenant": "north"}, 422, "no_such_tenant", "/tenant"),
        ({"tenant": ""}, 422, "no_such_tenant", "/tenant"),
        ({"expires_in": 0}, 422, "invalid", "/expires_in"),
        ({"expires_in": -1}, 422, "invalid", "/expires_in"),
        ({"expires_in": 1e12}, 422, "invalid", "/expires_in"),
        ({"key": "idk_mine"}, 422, "invalid", "/key"),
    ],
)
async def test_key_that_cannot_be_is_not_made(
    idle: ApiWorld, changes: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    await made(idle.client, "taken")
    refused = await idle.client.post("/v1/keys", json={"name": "shop", "role": "read", **changes})

    assert code_of(refused, status) == code
    assert pointer_of(refused) == pointer
    assert len((await idle.client.get("/v1/keys")).json()["items"]) == 1


async def test_key_that_is_not_there_is_not_found(idle: ApiWorld) -> None:
    answers = [
        await idle.client.delete("/v1/keys/nobody"),
        await idle.client.post("/v1/keys/nobody/rotate"),
    ]

    assert {code_of(answer, 404) for answer in answers} == {"no_such_key"}


async def test_keys_are_listed_page_by_page(idle: ApiWorld) -> None:
    for number in range(3):
        await made(idle.client, f"app-{number}")

    first = (await idle.client.get("/v1/keys?limit=2")).json()
    second = (await idle.client.get(f"/v1/keys?limit=2&cursor={first['next']}")).json()

    names = [one["name"] for page in (first, second) for one in page["items"]]
    assert names == ["app-2", "app-1", "app-0"]
    assert second["next"] is None


async def test_options_where_there_are_none_are_refused(idle: ApiWorld) -> None:
    body = {"name": "shop", "role": "read"}

    assert code_of(await idle.client.post("/v1/keys?x=1", json=body), 400) == "unknown_option"
    assert code_of(await idle.client.get("/v1/keys?state=valid"), 400) == "unknown_option"


async def test_admin_of_one_tenant_deals_with_its_keys_only(idle: ApiWorld) -> None:
    own = await made(idle.client, "own", role="admin", tenant="default")
    other = await made(idle.client, "other")
    async with holder(idle, own) as client:
        unsaid = (await client.post("/v1/keys", json={"name": "unsaid", "role": "read"})).json()
        foreign = await client.post(
            "/v1/keys", json={"name": "foreign", "role": "read", "tenant": "north"}
        )
        below = await made(client, "below", tenant="default")
        listed = (await client.get("/v1/keys")).json()["items"]
        refused = [
            await client.delete(f"/v1/keys/{other['id']}"),
            await client.post(f"/v1/keys/{other['id']}/rotate"),
        ]

    assert unsaid["tenant"] == "default"
    assert code_of(foreign, 422) == "no_such_tenant"
    assert [one["name"] for one in listed] == [below["name"], "unsaid", "own"]
    assert {code_of(answer, 404) for answer in refused} == {"no_such_key"}
    assert await status_with(idle, other) == 200


async def test_use_is_noted(world: ApiWorld) -> None:
    key = await made(world.client)
    await status_with(world, key)

    for _ in range(500):
        (listed,) = (await world.client.get("/v1/keys")).json()["items"]
        if listed["last_used_at"]:
            break
        await SystemClock().sleep(0.01)

    assert listed["last_used_at"] >= key["created_at"]


async def test_requests_are_known_without_the_journal(
    idle: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(idle.client)
    reads: list[str] = []

    async def rows(sql: str, _parameters: object = ()) -> list[Any]:
        reads.append(sql)
        return []

    monkeypatch.setattr(idle.journal, "rows", rows)
    monkeypatch.setattr(idle.journal, "rows_slowly", rows)
    async with holder(idle, key) as client:
        for _ in range(50):
            assert (await client.get("/v1/config")).status_code == 200

    assert not reads
