"""A caller of one tenant meets that tenant's subscriptions, and no others."""

from typing import Any

import httpx2
from tests.api.world import ApiWorld, code_of

URL = "https://shop.example/hooks"


async def _admin_of_default(world: ApiWorld) -> httpx2.AsyncClient:
    wanted = {"name": "their-admin", "role": "admin", "tenant": "default"}
    answer = await world.client.post("/v1/keys", json=wanted)
    assert answer.status_code == 201, answer.text
    return world.new_client({"Authorization": f"Bearer {answer.json()['key']}"})


async def _made(client: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/subscriptions", json={"url": URL, **more})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_subscription_of_all_does_not_exist_for_one_tenant(idle: ApiWorld) -> None:
    everybodys = await _made(idle.client)
    one = f"/v1/subscriptions/{everybodys['id']}"
    async with await _admin_of_default(idle) as client:
        answers = [
            await client.get(one),
            await client.put(one, json={"url": URL}),
            await client.delete(one),
            await client.post(f"{one}/rotate"),
            await client.post(f"{one}/test"),
            await client.get(f"{one}/deliveries"),
            await client.post(f"{one}/redeliver", json={"after": 0}),
        ]
        listed = (await client.get("/v1/subscriptions")).json()["items"]

    assert {(one.status_code, code_of(one)) for one in answers} == {(404, "no_such_subscription")}
    assert listed == []


async def test_own_subscription_is_of_the_callers_tenant_and_not_private(idle: ApiWorld) -> None:
    async with await _admin_of_default(idle) as client:
        own = await _made(client)
        private = await client.post(
            "/v1/subscriptions", json={"url": "http://10.0.0.1/", "allow_private": True}
        )
        foreign = await client.post("/v1/subscriptions", json={"url": URL, "tenant": "other"})

    assert own["tenant"] == "default"
    assert (private.status_code, code_of(private)) == (403, "tenant_not_allowed")
    assert (foreign.status_code, code_of(foreign)) == (422, "no_such_tenant")
