"""Two tenants with of everything, each thing named so that it is known wherever it turns up."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
from tests.api.test_webhook_routes import keep
from tests.api.world import SETTINGS, ApiWorld

from integrationd.api.roles import Role
from integrationd.clock import SystemClock
from integrationd.journal import AttemptFilter

OTHER, NOBODY = "zebra", "nobody"
STAGED: Mapping[str, Any] = {
    **SETTINGS,
    "tenants": {"acme": {}, OTHER: {}},
    "connections": {
        **SETTINGS["connections"],
        "acme-stage": {"provider": "rehearsal", "tenant": "acme"},
        "zebra-stage": {"provider": "rehearsal", "tenant": OTHER},
    },
}
# What these are is a number or the mark itself.
COUNTED = ("number", "log_id", "tenant_id")
NEVER = "019bc19c-0c00-7000-8000-00000000c0de"


@dataclasses.dataclass(frozen=True)
class Stage:
    """Two tenants with of everything.

    Attributes:
        world: The daemon.
        clients: Clients with keys of a tenant, by tenant and role.
        ours: What the tenant ``acme`` has, by the name that paths have for it.
        theirs: What the other tenant has, by the name that paths have for it.
        never: Ids of the same form that nothing has.
        marks: Texts by which the other tenant's things are known.
    """

    world: ApiWorld
    clients: Mapping[tuple[str, Role], httpx2.AsyncClient]
    ours: Mapping[str, tuple[str, ...]]
    theirs: Mapping[str, tuple[str, ...]]
    never: Mapping[str, str]
    marks: frozenset[str]

    @property
    def acme(self) -> dict[Role, httpx2.AsyncClient]:
        """Clients with keys of the tenant ``acme``, by role."""
        return {role: self.clients["acme", role] for role in Role}

    @property
    def zebra(self) -> httpx2.AsyncClient:
        """A client with an admin's key of the other tenant."""
        return self.clients[OTHER, Role.ADMIN]


async def made_key(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def settled(client: httpx2.AsyncClient, tenant: str, step: str) -> str:
    """Have a call of a tenant come to an end, whatever that is."""
    body = {
        "operation": "rehearsal.hold",
        "connection": f"{tenant}-stage",
        "payload": {"script": [step]},
        "reference": {"type": "invoice", "id": f"{tenant}-invoice"},
        "metadata": {"of": tenant},
    }
    answer = await client.post("/v1/calls", json=body, headers={"Prefer": "wait=5"})
    assert answer.status_code in (200, 202), answer.text
    found: str = answer.json()["id"]
    return found


async def furnish(world: ApiWorld, client: httpx2.AsyncClient, tenant: str) -> dict[str, Any]:
    """Give a tenant of everything."""
    calls = [await settled(client, tenant, step) for step in ("delivered", "rejected", "uncertain")]
    later = {"operation": "rehearsal.hold", "connection": f"{tenant}-stage"}
    waiting = await client.post("/v1/calls", json={**later, "not_before": "2035-01-01T00:00:00Z"})
    calls.append(waiting.json()["id"])
    number = 1 if tenant == OTHER else 2
    webhook = await keep(
        world, number, tenant=tenant, connection=f"{tenant}-stage", dedupe=bytes([number] * 32)
    )
    key = await made_key(client, name=f"{tenant}-key", role="staff")
    secret = f"/v1/vault/secrets/{tenant}-secret"
    assert (await client.put(secret, json={"value": f"{tenant}-value"})).status_code == 200
    event = {"type": "reward.issued", "data": {"of": tenant}}
    assert (await client.post("/v1/events", json=event)).status_code == 201
    # Nothing is delivered, so that nothing happens by itself while the tests look.
    hook = {"url": f"https://{tenant}.example/in", "events": ["no.such"], "description": tenant}
    subscription = await client.post("/v1/subscriptions", json=hook)
    assert subscription.status_code == 201, subscription.text
    attempts = await world.journal.attempts.list(
        AttemptFilter(tenant=tenant), before=None, limit=10
    )
    return {
        "call_id": tuple(calls),
        "webhook_id": (webhook,),
        "key_id": (key["id"],),
        "number": tuple(str(one.seq) for one in attempts),
        "tenant_id": (tenant,),
        "subscription": (subscription.json()["id"],),
        "log_id": tuple(await log_ids(client)),
    }


async def log_ids(client: httpx2.AsyncClient) -> list[str]:
    found = (await client.get("/api/v1/integrations/logs")).json()["items"]
    return [one["id"] for one in found]


@contextlib.asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    """Run a daemon with the two tenants."""
    world = ApiWorld(directory, SystemClock(), STAGED)
    async with world.running():
        clients = {}
        for tenant in ("acme", OTHER):
            for role in Role:
                key = await made_key(
                    world.client, name=f"{tenant}-{role}", role=role, tenant=tenant
                )
                clients[tenant, role] = world.new_client({"Authorization": f"Bearer {key['key']}"})
        ours = await furnish(world, clients["acme", Role.ADMIN], "acme")
        theirs = await furnish(world, clients[OTHER, Role.ADMIN], OTHER)
        ids = {one for kind in theirs if kind not in COUNTED for one in theirs[kind]}
        yield Stage(
            world=world,
            clients=clients,
            ours={**ours, "name": ("acme-stage", "acme-secret")},
            theirs={**theirs, "name": ("zebra-stage", "zebra-secret")},
            never={
                "call_id": NEVER,
                "webhook_id": NEVER,
                "key_id": "00000000000000ff",
                "number": "999999",
                "tenant_id": NOBODY,
                "subscription": NEVER if "-" in theirs["subscription"][0] else "sub_0000",
                "log_id": "999999",
                "name": "never-there",
            },
            marks=frozenset({OTHER, *ids}),
        )
