"""Tenants at acceptance: whose a call is, what a tenant may have, and keys and secrets of each."""

import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.world import SETTINGS, ApiWorld, code_of, pointer_of
from tests.fake_clock import FakeClock

from integrationd.journal import CallFilter
from integrationd.settings import TenantSettings

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
STAGED: Mapping[str, Any] = {
    **SETTINGS,
    "tenants": {
        "acme": {},
        "bolt": {},
        "closed": {"status": "suspended"},
        "paced": {"rate_limit": "2/s", "burst": 3},
        "capped": {"daily_quota": 5},
        "slow": {"rate_limit": "1/m"},
    },
    "connections": {
        **SETTINGS["connections"],
        "acme-stage": {"provider": "rehearsal", "tenant": "acme"},
        "bolt-stage": {"provider": "rehearsal", "tenant": "bolt"},
    },
}
HOLD = {"operation": "rehearsal.hold", "connection": "stage"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ApiWorld]:
    made = ApiWorld(tmp_path, clock, STAGED)
    async with made.opened():
        yield made


async def holder(world: ApiWorld, tenant: str, role: str = "staff") -> httpx2.AsyncClient:
    """Return a client with a key of a tenant."""
    body = {"name": f"of-{tenant}-{role}", "role": role, "tenant": tenant}
    answer = await world.client.post("/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    return world.new_client({"Authorization": f"Bearer {answer.json()['key']}"})


async def send(client: httpx2.AsyncClient, key: str | None = None, **more: Any) -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/v1/calls", json={**HOLD, **more}, headers=headers)


async def kept(world: ApiWorld, tenant: str) -> int:
    found = await world.journal.calls.list(CallFilter(tenant=tenant), before=None, limit=500)
    return len(found)


# Whose call it is


async def test_call_is_of_the_tenant_that_it_names_and_else_of_the_default(world: ApiWorld) -> None:
    named = await send(world.client, tenant="acme")
    unnamed = await send(world.client)
    short = await world.client.post("/v1/rehearsal/hold?tenant=acme&connection=stage", json={})

    assert [one.json()["tenant"] for one in (named, unnamed, short)] == ["acme", "default", "acme"]


async def test_call_of_a_tenants_key_is_of_that_tenant(world: ApiWorld) -> None:
    acme = await holder(world, "acme")

    answers = [
        await send(acme),
        await send(acme, tenant="acme"),
        await acme.post("/v1/rehearsal/hold?connection=stage", json={}),
    ]
    batch = await acme.post("/v1/calls/batch", json={"calls": [HOLD, {**HOLD, "tenant": "acme"}]})

    assert {one.json()["tenant"] for one in answers} == {"acme"}
    assert {one["tenant"] for one in batch.json()["items"]} == {"acme"}


@pytest.mark.parametrize("tenant", ["bolt", "nobody", "default", "closed", "", "x" * 300])
async def test_foreign_tenant_is_one_that_does_not_exist(world: ApiWorld, tenant: str) -> None:
    acme = await holder(world, "acme")

    answer = await send(acme, tenant=tenant)

    assert code_of(answer, 422) == "no_such_tenant"
    assert pointer_of(answer) == "/tenant"
    assert answer.json()["hint"]
    batch = await acme.post("/v1/calls/batch", json={"calls": [HOLD, {**HOLD, "tenant": tenant}]})
    assert code_of(batch, 422) == "no_such_tenant"
    assert pointer_of(batch) == "/calls/1/tenant"
    assert await kept(world, "acme") == 0


async def test_tenant_that_is_not_configured_takes_no_calls(world: ApiWorld) -> None:
    acme = await holder(world, "acme")
    world.tenants.use({})

    assert code_of(await send(world.client, tenant="acme"), 422) == "no_such_tenant"
    assert code_of(await send(acme), 422) == "no_such_tenant"
    assert (await send(world.client)).status_code == 202
    assert (await acme.get("/v1/calls")).json() == {"items": [], "next": None}


async def test_suspended_tenant_takes_no_new_calls_until_it_is_active_again(
    world: ApiWorld,
) -> None:
    closed = await holder(world, "closed")
    refused = await send(closed)

    assert code_of(refused, 403) == "tenant_suspended"
    assert code_of(await send(world.client, tenant="closed"), 403) == "tenant_suspended"
    world.tenants.use({"closed": TenantSettings()})
    assert (await send(closed)).status_code == 202


async def test_connection_of_another_tenant_is_one_that_does_not_exist(world: ApiWorld) -> None:
    acme = await holder(world, "acme")

    theirs = await send(acme, connection="bolt-stage")
    never = await send(acme, connection="none-stage")
    for_all = await send(world.client, tenant="acme", connection="bolt-stage")

    assert code_of(theirs, 422) == "not_configured"
    assert theirs.text.replace("bolt-stage", "") == never.text.replace("none-stage", "")
    assert code_of(for_all, 422) == "not_configured"
    assert (await send(acme, connection="acme-stage")).status_code == 202


async def test_reference_taken_by_another_tenant_does_not_name_its_call(world: ApiWorld) -> None:
    acme, bolt = await holder(world, "acme"), await holder(world, "bolt")
    first = await send(acme, payload={"reference": "INV-1"})

    same = await send(acme, payload={"reference": "INV-1"})
    foreign = await send(bolt, payload={"reference": "INV-1"})

    assert code_of(same, 409) == code_of(foreign, 409) == "reference_taken"
    assert first.json()["id"] in same.text
    assert first.json()["id"] not in foreign.text


# Idempotency


async def test_key_of_one_tenant_never_gives_the_call_of_another(world: ApiWorld) -> None:
    acme, bolt = await holder(world, "acme"), await holder(world, "bolt")

    one, other = await send(acme, key="k"), await send(bolt, key="k")
    again = await send(acme, key="k")

    assert one.json()["id"] != other.json()["id"]
    assert "idempotency-replayed" not in other.headers
    assert again.json()["id"] == one.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_same_request_is_the_same_whether_its_tenant_is_named(world: ApiWorld) -> None:
    acme = await holder(world, "acme")

    answers = [
        await send(acme, key="k"),
        await send(acme, key="k", tenant="acme"),
        await send(world.client, key="k", tenant="acme"),
    ]
    by_default = [
        await send(world.client, key="d"),
        await send(world.client, "d", tenant="default"),
    ]

    assert len({one.json()["id"] for one in answers}) == 1
    assert len({one.json()["id"] for one in by_default}) == 1


# Rate


async def test_rate_is_kept_and_retry_after_is_exact(world: ApiWorld, clock: FakeClock) -> None:
    slow = await holder(world, "slow")
    assert (await send(slow)).status_code == 202
    await clock.advance(10.5)

    refused = await send(slow)

    assert code_of(refused, 429) == "tenant_rate"
    assert refused.headers["retry-after"] == "50"
    assert refused.json()["retry_after_s"] == 50
    await clock.advance(49.4)
    assert (await send(slow)).headers["retry-after"] == "1"
    await clock.advance(0.1)
    assert (await send(slow)).status_code == 202
    assert await kept(world, "slow") == 2


async def test_burst_may_come_at_once(world: ApiWorld, clock: FakeClock) -> None:
    answers = [await send(world.client, tenant="paced") for _ in range(5)]
    await clock.advance(1)
    answers += [await send(world.client, tenant="paced") for _ in range(5)]

    statuses = [one.status_code for one in answers]
    assert statuses == [202, 202, 202, 429, 429, 202, 202, 429, 429, 429]


async def test_batch_counts_as_its_calls_and_is_refused_whole(
    world: ApiWorld, clock: FakeClock
) -> None:
    def batch(count: int) -> dict[str, Any]:
        return {"calls": [{**HOLD, "tenant": "paced"}] * count + [HOLD]}

    assert (await world.client.post("/v1/calls/batch", json=batch(2))).status_code == 202
    refused = await world.client.post("/v1/calls/batch", json=batch(2))

    assert code_of(refused, 429) == "tenant_rate"
    assert refused.headers["retry-after"] == "1"
    assert (await kept(world, "paced"), await kept(world, "default")) == (2, 1)
    await clock.advance(1)
    assert (await world.client.post("/v1/calls/batch", json=batch(2))).status_code == 202
    more = await world.client.post("/v1/calls/batch", json=batch(4))
    assert code_of(more, 422) == "over_burst"


async def test_replay_counts_for_nothing(world: ApiWorld) -> None:
    for number, _ in itertools.product(range(3), range(4)):
        assert (await send(world.client, f"k{number}", tenant="paced")).status_code == 202
    items = [{**HOLD, "tenant": "paced", "idempotency_key": f"k{number}"} for number in range(3)]

    batch = await world.client.post("/v1/calls/batch", json={"calls": items * 5})
    fresh = await send(world.client, "k9", tenant="paced")

    assert batch.status_code == 202
    assert code_of(fresh, 429) == "tenant_rate"
    assert await kept(world, "paced") == 3


async def test_call_that_is_refused_for_another_reason_counts_for_nothing(world: ApiWorld) -> None:
    await send(world.client, tenant="paced", payload={"reference": "R"})
    for _ in range(5):
        taken = await send(world.client, tenant="paced", payload={"reference": "R"})
        assert code_of(taken, 409) == "reference_taken"

    assert (await send(world.client, tenant="paced")).status_code == 202
    assert (await send(world.client, tenant="paced")).status_code == 202
    assert (await send(world.client, tenant="paced")).status_code == 429


async def test_rate_of_one_tenant_is_no_concern_of_another(world: ApiWorld) -> None:
    await send(world.client, tenant="slow")
    assert (await send(world.client, tenant="slow")).status_code == 429

    assert {(await send(world.client, tenant="acme")).status_code for _ in range(20)} == {202}


async def test_rate_that_is_changed_holds_from_then_on(world: ApiWorld, clock: FakeClock) -> None:
    await send(world.client, tenant="slow")
    faster = TenantSettings.model_validate({"rate_limit": "10/s"})
    world.tenants.use({"slow": faster})
    await clock.advance(0.1)

    assert (await send(world.client, tenant="slow")).status_code == 202
    world.tenants.use({"slow": TenantSettings()})
    assert {(await send(world.client, tenant="slow")).status_code for _ in range(9)} == {202}


# Quota


async def test_quota_is_kept_until_the_next_day(world: ApiWorld, clock: FakeClock) -> None:
    into_day_ms = clock.now_ms() % DAY_MS
    await clock.advance((DAY_MS - into_day_ms - HOUR_MS) / 1000 + 0.25)
    capped = await holder(world, "capped")
    answers = [await send(capped) for _ in range(7)]

    assert [one.status_code for one in answers] == [202] * 5 + [429] * 2
    assert code_of(answers[-1]) == "tenant_quota"
    assert answers[-1].headers["retry-after"] == "3600"
    await clock.advance(3600)
    assert [(await send(capped)).status_code for _ in range(6)] == [202] * 5 + [429]


async def test_quota_counts_a_batch_as_its_calls(world: ApiWorld) -> None:
    def items(count: int) -> dict[str, Any]:
        return {"calls": [{**HOLD, "tenant": "capped"}] * count}

    assert (await world.client.post("/v1/calls/batch", json=items(3))).status_code == 202
    refused = await world.client.post("/v1/calls/batch", json=items(3))
    assert code_of(refused, 429) == "tenant_quota"
    assert (await world.client.post("/v1/calls/batch", json=items(2))).status_code == 202
    assert code_of(await world.client.post("/v1/calls/batch", json=items(6)), 422) == "over_quota"
    assert await kept(world, "capped") == 5


async def test_quota_does_not_count_replays(world: ApiWorld) -> None:
    for number, _ in itertools.product(range(5), range(3)):
        assert (await send(world.client, f"k{number}", tenant="capped")).status_code == 202

    assert code_of(await send(world.client, "k9", tenant="capped"), 429) == "tenant_quota"
    assert (await send(world.client, "k4", tenant="capped")).status_code == 202


async def test_quota_count_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    for count in (3, 2, 0):
        world = ApiWorld(tmp_path, clock, STAGED)
        async with world.opened():
            taken = [(await send(world.client, tenant="capped")).status_code for _ in range(3)]
        assert taken.count(202) == count


async def test_new_quota_counts_what_has_come_in_today(world: ApiWorld, clock: FakeClock) -> None:
    for _ in range(4):
        await send(world.client, tenant="acme")
    await clock.advance(1)
    world.tenants.use({"acme": TenantSettings(daily_quota=6)})

    assert [(await send(world.client, tenant="acme")).status_code for _ in range(3)] == [
        202,
        202,
        429,
    ]


# Keys and secrets


async def test_admin_of_a_tenant_makes_keys_of_it_only(world: ApiWorld) -> None:
    acme = await holder(world, "acme", "admin")

    own = await acme.post("/v1/keys", json={"name": "till", "role": "admin"})
    named = await acme.post("/v1/keys", json={"name": "desk", "role": "read", "tenant": "acme"})
    foreign = await acme.post("/v1/keys", json={"name": "spy", "role": "read", "tenant": "bolt"})

    assert [one.json()["tenant"] for one in (own, named)] == ["acme", "acme"]
    assert code_of(foreign, 422) == "no_such_tenant"
    unknown = await world.client.post("/v1/keys", json={"name": "x", "role": "read", "tenant": "x"})
    assert code_of(unknown, 422) == "no_such_tenant"


async def test_each_tenant_names_its_keys_as_it_likes(world: ApiWorld) -> None:
    acme, bolt = await holder(world, "acme", "admin"), await holder(world, "bolt", "admin")
    body = {"name": "till", "role": "staff"}

    made = [await one.post("/v1/keys", json=body) for one in (acme, bolt, world.client)]
    again = await acme.post("/v1/keys", json=body)

    assert [one.status_code for one in made] == [201] * 3
    assert code_of(again, 409) == "name_taken"
    assert made[0].json()["id"] in again.text


async def test_secrets_of_a_tenant_are_its_own(world: ApiWorld) -> None:
    acme, bolt = await holder(world, "acme", "admin"), await holder(world, "bolt", "admin")
    path = "/v1/vault/secrets/token"
    await acme.put(path, json={"value": "of acme"})

    assert (await bolt.get("/v1/vault/secrets")).json()["items"] == []
    assert (await bolt.delete(path)).status_code == 404
    assert (await world.client.get("/v1/vault/secrets")).json()["items"] == []
    by_name = await world.client.get("/v1/vault/secrets", params={"tenant": "acme"})
    assert [one["name"] for one in by_name.json()["items"]] == ["token"]
    set_for = await world.client.put(path, params={"tenant": "bolt"}, json={"value": "of bolt"})
    assert set_for.status_code == 200
    assert len((await bolt.get("/v1/vault/secrets")).json()["items"]) == 1
    nobody = await world.client.put(path, params={"tenant": "x"}, json={"value": "of nobody"})
    assert code_of(nobody, 422) == "no_such_tenant"
    assert (await world.client.delete(path, params={"tenant": "acme"})).status_code == 200


async def test_reload_of_a_tenants_secret_tells_nothing_of_others(world: ApiWorld) -> None:
    acme = await holder(world, "acme", "admin")

    told = (await acme.put("/v1/vault/secrets/token", json={"value": "v"})).json()["reload"]

    assert told == {"outcome": told["outcome"], "changes": [], "problems": [], "warnings": []}


# What is counted


async def test_ledger_status_and_metrics_are_of_the_tenant(world: ApiWorld) -> None:
    acme = await holder(world, "acme")
    for tenant, count in (("acme", 2), ("bolt", 3), ("default", 4)):
        for _ in range(count):
            await send(world.client, tenant=tenant)

    ledger = (await acme.get("/v1/ledger")).json()
    status = (await acme.get("/v1/status")).json()
    metrics = (await acme.get("/metrics")).text

    assert [line["tenant"] for line in ledger["items"]] == ["acme"]
    assert ledger["total"]["accepted"] == 2
    assert status["ledger"]["pending"] == 2
    assert {one["id"] for one in status["connections"]} & {"acme-stage", "bolt-stage"} == {
        "acme-stage"
    }
    assert (
        'integrationd_calls_accepted_total{operation="rehearsal.hold",tenant="acme"} 2' in metrics
    )
    samples = [line for line in metrics.splitlines() if not line.startswith("#")]
    assert samples
    assert all('tenant="acme"' in line for line in samples)
    total = (await world.client.get("/v1/ledger")).json()["total"]
    assert (total["tenant"], total["accepted"]) == ("*", 9)
