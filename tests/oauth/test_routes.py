"""The routes of consent: whose connection, in which role, and which connection needs none."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.api.in_users_words import holder
from tests.api.world import SETTINGS, ApiWorld, code_of

from integrationd.api.roles import Role
from integrationd.clock import SystemClock

TENANTS = {"hill": {"name": "Hill School"}, "lake": {"name": "Lake School"}}
OWN = {"provider": "rehearsal", "tenant": "hill"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    connections = {**SETTINGS["connections"], "hill-stage": OWN}
    settings = {**SETTINGS, "tenants": TENANTS, "connections": connections}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.opened():
        yield made


async def asked(client: httpx2.AsyncClient, name: str) -> list[httpx2.Response]:
    return [
        await client.post(f"/v1/connections/{name}/authorize"),
        await client.delete(f"/v1/connections/{name}/authorization"),
    ]


async def test_connection_without_oauth_needs_nobodys_consent(world: ApiWorld) -> None:
    for answer in await asked(world.client, "stage"):
        assert code_of(answer, 409) == "no_consent_needed"


async def test_connection_of_another_tenant_is_none(world: ApiWorld) -> None:
    async with await holder(world, Role.ADMIN, "lake") as stranger:
        found = await asked(stranger, "hill-stage")
        nobody = await asked(stranger, "no-such-stage")

    for foreign, missing in zip(found, nobody, strict=True):
        assert code_of(foreign, 404) == code_of(missing, 404)
        assert (
            foreign.json()["detail"].replace("hill-stage", "no-such-stage")
            == (missing.json()["detail"])
        )


async def test_staff_may_authorise_what_is_its_tenants_own_and_not_what_all_share(
    world: ApiWorld,
) -> None:
    async with await holder(world, Role.STAFF, "hill") as staff:
        for answer in await asked(staff, "hill-stage"):
            assert code_of(answer, 409) == "no_consent_needed"
        for answer in await asked(staff, "stage"):
            assert code_of(answer, 403) == "tenant_not_allowed"


async def test_reader_may_not_authorise(world: ApiWorld) -> None:
    async with await holder(world, Role.READ) as reader:
        for answer in await asked(reader, "stage"):
            assert code_of(answer, 403) == "role_missing"
