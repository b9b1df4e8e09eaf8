"""What the tests of the users' paths ask."""

from typing import Any

import httpx2
from tests.api.world import ApiWorld

from integrationd.api.roles import Role
from integrationd.api.users.prefix import PREFIX

PHONE = "+254711000111"
SMS = {"to": PHONE, "message": "Fees are due"}


async def shown(world: ApiWorld, path: str, **params: str) -> Any:
    answer = await world.client.get(PREFIX + path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(
    world: ApiWorld, path: str, body: Any, query: str = "", **headers: str
) -> httpx2.Response:
    return await world.client.post(f"{PREFIX}{path}{query}", json=body, headers=headers)


async def holder(world: ApiWorld, role: Role, tenant: str | None = None) -> httpx2.AsyncClient:
    body = {"name": f"{role}-{tenant or 'all'}", "role": role, "tenant": tenant}
    answer = await world.client.post("/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    return world.new_client({"Authorization": f"Bearer {answer.json()['key']}"})
