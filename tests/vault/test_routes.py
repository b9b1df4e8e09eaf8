"""The API of the vault: names and times, never what a secret holds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.test_tenant_routes import key_of
from tests.api.world import SETTINGS, ApiWorld

from integrationd.clock import SystemClock

CANARY = "canary-77aa01c9"
REFERENCE = "vault:shared-key"


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    made = ApiWorld(
        tmp_path,
        SystemClock(),
        {"connections": {"c": {"provider": "console", "config": {"colour": "vault:used"}}}},
    )
    await made.journal.open()
    try:
        async with made.client:
            yield made
    finally:
        await made.journal.close()


async def test_secret_is_listed_without_what_it_holds(idle: ApiWorld) -> None:
    kept = await idle.client.put("/v1/vault/secrets/at-key", json={"value": CANARY})
    listed = await idle.client.get("/v1/vault/secrets")

    assert kept.status_code == 200
    assert kept.json()["version"] == 1
    assert [(one["name"], one["version"]) for one in listed.json()["items"]] == [("at-key", 1)]
    assert CANARY not in kept.text + listed.text


async def test_secret_is_deleted_once(idle: ApiWorld) -> None:
    await idle.client.put("/v1/vault/secrets/a", json={"value": CANARY})

    gone = await idle.client.delete("/v1/vault/secrets/a")
    again = await idle.client.delete("/v1/vault/secrets/a")

    assert gone.json() == {"name": "a", "deleted": True}
    assert (again.status_code, again.json()["code"]) == (404, "no_such_secret")


async def test_secret_in_use_is_not_deleted(idle: ApiWorld) -> None:
    await idle.client.put("/v1/vault/secrets/used", json={"value": CANARY})

    refused = await idle.client.delete("/v1/vault/secrets/used")

    assert (refused.status_code, refused.json()["code"]) == (409, "secret_in_use")
    assert "is used by: c" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["-a", "a b", "a\u00e9", "x" * 129, "..", "%0a"])
async def test_name_that_no_reference_can_have_is_refused(idle: ApiWorld, name: str) -> None:
    refused = await idle.client.put(f"/v1/vault/secrets/{name}", json={"value": CANARY})

    assert refused.status_code in (404, 405, 422)
    assert (await idle.client.get("/v1/vault/secrets")).json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"canary-77aa01c9"',
        b'{"value": ""}',
        b'{"value": ["canary-77aa01c9"]}',
        b'{"value": "canary-77aa01c9", "canary-77aa01c9x": 1}',
        b'{"value": "canary-77aa01c9',
        b'{"value": "canary-77aa01c9' + b"x" * 65_536 + b'"}',
        b'{"value": "' + "é".encode() * 40_000 + b'"}',
    ],
)
async def test_body_that_holds_no_secret_is_refused_without_repeating_it(
    idle: ApiWorld, body: bytes
) -> None:
    refused = await idle.client.put("/v1/vault/secrets/a", content=body)

    assert refused.status_code in (400, 413, 422)
    assert CANARY not in refused.text.replace(f"{CANARY}x", "")


async def test_rotation_and_status_say_how_the_vault_is(idle: ApiWorld) -> None:
    before = (await idle.client.get("/v1/vault")).json()
    refused = await idle.client.post("/v1/vault/rotate")
    made = (await idle.client.post("/v1/vault/init")).json()
    await idle.client.put("/v1/vault/secrets/a", json={"value": CANARY})
    rotated = (await idle.client.post("/v1/vault/rotate", json={"data_keys": True})).json()
    after = (await idle.client.get("/v1/vault")).json()

    assert (before["state"], before["secrets"]) == ("not_made", 0)
    assert refused.status_code == 409
    assert "A new master key was made" in made["notice"]
    assert (rotated["data_keys"], rotated["sealed_anew"]) == (1, 1)
    assert (after["state"], after["master"], after["behind"]) == ("usable", rotated["master"], 0)


async def test_master_key_that_others_can_read_is_told_with_its_remedy(
    idle: ApiWorld, tmp_path: Path
) -> None:
    (tmp_path / "master.key").write_text("ab" * 16 + "cd" * 16)
    (tmp_path / "master.key").chmod(0o644)

    refused = await idle.client.put("/v1/vault/secrets/a", json={"value": CANARY})
    status = (await idle.client.get("/v1/vault")).json()

    assert refused.json()["code"] == "master_key_unusable"
    assert "chmod 600" in refused.json()["hint"]
    assert status["state"] == "unusable"
    assert "open to others" in status["problems"][0]


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    made = ApiWorld(tmp_path, SystemClock(), SETTINGS)
    async with made.running():
        yield made


async def test_secrets_of_what_all_share_are_no_tenants(shared: ApiWorld) -> None:
    """An admin of the tenant ``default`` meets them no more than one of any other."""
    await shared.client.put("/v1/vault/secrets/shared-key", json={"value": CANARY})
    named = "/v1/vault/secrets/shared-key?tenant=*"
    async with await key_of(shared, "default") as theirs:
        listed = (await theirs.get("/v1/vault/secrets")).json()["items"]
        by_name = (await theirs.get("/v1/vault/secrets?tenant=*")).json()["items"]
        set_anew = await theirs.put(named, json={"value": "planted"})
        gone = [await theirs.delete(path) for path in (named, "/v1/vault/secrets/shared-key")]
        config = {
            "base_url": "https://evil.example",
            "auth": {"kind": "bearer", "token": REFERENCE},
        }
        taken = await theirs.post(
            "/v1/connections", json={"id": "mine", "provider": "http", "config": config}
        )
        told = (await theirs.get("/v1/events")).text

    assert listed == by_name == []
    assert (set_anew.status_code, set_anew.json()["code"]) == (422, "no_such_tenant")
    assert [one.status_code for one in gone] == [404, 404]
    assert taken.status_code == 422
    assert "the vault of tenant default holds no secret 'shared-key'" in taken.json()["detail"]
    assert "shared-key" not in told
    kept = (await shared.client.get("/v1/vault/secrets?tenant=*")).json()["items"]
    assert [(one["name"], one["version"]) for one in kept] == [("shared-key", 1)]


async def test_admin_of_all_names_the_tenant_whose_secret_it_sets(shared: ApiWorld) -> None:
    for query in ("", "?tenant=*", "?tenant=default"):
        answer = await shared.client.put(f"/v1/vault/secrets/a{query}", json={"value": CANARY})
        assert answer.status_code == 200, answer.text

    sealed = await shared.journal.secrets.sealed()

    assert [(one.tenant, one.version) for one in sealed.secrets] == [("*", 2), ("default", 1)]
