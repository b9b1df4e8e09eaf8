"""The API of the vault: names and times, never what a secret holds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.world import ApiWorld

from integrationd.clock import SystemClock

CANARY = "canary-77aa01c9"


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
