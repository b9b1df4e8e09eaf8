"""Tenants and connections in the journal: kept with their secrets, never served damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import KEY, accept, new, opened, raw

from integrationd.errors import ConflictError, VaultError
from integrationd.journal import (
    ConnectionState,
    Directory,
    Journal,
    NewSecrets,
    StoredConnection,
    StoredTenant,
    directory,
    own_secrets,
    stored_directory,
)
from integrationd.journal.backup import back_up_to, restore
from integrationd.journal.salvage import salvage
from integrationd.journal.verify import verify
from integrationd.vault import Keyring
from integrationd.vault.master import MasterKey

BY = "key:boss"
SECRET = "canary-5b1c0e77"
NAME = "connections.at.api_key"
KEYRING = Keyring(MasterKey(b"m" * 32, "a test"))


def tenant(name: str = "school", **settings: Any) -> StoredTenant:
    return StoredTenant(
        id=name,
        settings=json.dumps({"name": "A school", **settings}),
        created_at_ms=START_MS,
        changed_at_ms=START_MS,
    )


def connection(name: str = "at", owner: str | None = "school", **config: Any) -> StoredConnection:
    written = {"provider": "africastalking", "tenant": owner, "config": config}
    return StoredConnection(
        id=name,
        tenant=owner,
        settings=json.dumps(written),
        created_at_ms=START_MS,
        changed_at_ms=START_MS,
    )


def sealed(value: str = SECRET, name: str = NAME) -> NewSecrets:
    return NewSecrets(keyring=KEYRING, tenant="school", values={name: value})


def nobody(_lane: str) -> bool:
    return False


async def events(journal: Journal) -> list[tuple[str, str | None, Any]]:
    found = await journal.events.after(0, 100)
    return [(one.type, one.tenant, json.loads(one.data)) for one in found]


async def test_everything_comes_back_after_a_restart_as_it_was_kept(path: Path) -> None:
    state = ConnectionState(id="console", paused_at_ms=START_MS, paused_by=BY)
    row = connection(api_key=f"vault:{NAME}")
    async with opened(path) as journal:
        await journal.directory.keep_tenant(tenant(), BY)
        await journal.directory.keep_connection(row, sealed(), BY)
        await journal.directory.keep_state(state, None, "paused", {}, BY)
        kept = await journal.directory.read()

    assert kept.tenants == {"school": tenant()}
    assert kept.connections == {"at": row}
    assert kept.states == {"console": state}
    found = stored_directory(path)
    assert (found.tenants, found.connections, found.states) == (
        kept.tenants,
        kept.connections,
        kept.states,
    )
    assert SECRET.encode() not in path.read_bytes()


async def test_secret_stands_in_the_vault_as_soon_as_its_connection_stands(
    journal: Journal,
) -> None:
    row = connection(api_key=f"vault:{NAME}")

    await journal.directory.keep_connection(row, sealed(), BY)

    assert await journal.secrets.get(KEYRING, "school", NAME) == SECRET
    assert own_secrets(row) == {("school", NAME)}


async def test_connection_whose_secret_cannot_be_sealed_is_not_kept(journal: Journal) -> None:
    await journal.secrets.set(KEYRING, "school", "other", SECRET, BY)
    wrong = NewSecrets(
        keyring=Keyring(MasterKey(b"w" * 32, "a test")), tenant="school", values={NAME: "x"}
    )

    with pytest.raises(VaultError):
        await journal.directory.keep_connection(connection(), wrong, BY)

    assert not (await journal.directory.read()).connections


async def test_secrets_go_with_the_connection_that_they_were_for(journal: Journal) -> None:
    await journal.secrets.set(KEYRING, "school", "by-hand", SECRET, BY)
    row = connection(api_key=f"vault:{NAME}", other="vault:by-hand")
    await journal.directory.keep_connection(row, sealed(), BY)
    state = ConnectionState(id="at", paused_at_ms=START_MS, paused_by=BY)
    await journal.directory.keep_state(state, "school", "paused", {}, BY)

    await journal.directory.delete_connection("at", BY, nobody)

    left = await journal.directory.read()
    assert not left.connections
    assert not left.states
    assert [one.name for one in (await journal.secrets.sealed()).secrets] == ["by-hand"]


async def test_every_secret_of_the_connections_name_goes_with_it(journal: Journal) -> None:
    """Also one that a version before this one left behind, but none of another vault."""
    await journal.directory.keep_connection(connection(api_key=f"vault:{NAME}"), sealed(), BY)
    for owner, name in (("school", "connections.at.old"), ("shop", NAME), ("school", "at")):
        await journal.secrets.set(KEYRING, owner, name, SECRET, BY)

    await journal.directory.delete_connection("at", BY, nobody)

    left = [(one.tenant, one.name) for one in (await journal.secrets.sealed()).secrets]
    assert left == [("school", "at"), ("shop", NAME)]


@pytest.mark.parametrize("pinned", [True, False])
async def test_connection_that_calls_wait_on_is_not_deleted(journal: Journal, pinned: bool) -> None:
    """The commit itself looks, so that no call comes in between."""
    await journal.directory.keep_connection(connection(api_key=f"vault:{NAME}"), sealed(), BY)
    call = await accept(journal, new(connection="at" if pinned else None))

    with pytest.raises(ConflictError, match="calls that wait on it"):
        await journal.directory.delete_connection("at", BY, lambda lane: lane == call.lane)

    assert await journal.directory.is_awaited("at", lambda lane: lane == call.lane)
    assert (await journal.directory.read()).connections
    assert (await journal.secrets.sealed()).secrets


async def test_deleted_tenant_leaves_no_secret_to_the_next_of_its_name(journal: Journal) -> None:
    await journal.directory.keep_tenant(tenant(), BY)
    for owner in ("school", "shop"):
        await journal.secrets.set(KEYRING, owner, "token", SECRET, BY)

    await journal.directory.delete_tenant("school", BY)

    assert [one.tenant for one in (await journal.secrets.sealed()).secrets] == ["shop"]


async def test_secret_that_a_change_leaves_out_is_forgotten(journal: Journal) -> None:
    await journal.directory.keep_connection(connection(api_key=f"vault:{NAME}"), sealed(), BY)

    await journal.directory.keep_connection(connection(username="x"), None, BY)

    assert not (await journal.secrets.sealed()).secrets


async def test_every_act_is_one_event_with_before_and_after(journal: Journal) -> None:
    first, second = connection(username="a"), connection(username="b", api_key="plain-by-mistake")
    await journal.directory.keep_tenant(tenant(), BY)
    await journal.directory.keep_tenant(tenant(status="suspended"), BY)
    await journal.directory.keep_connection(first, None, BY)
    await journal.directory.keep_connection(second, None, BY)
    tested = ConnectionState(id="at", tested_at_ms=1, test_ok=0, test_message="no")
    await journal.directory.keep_state(tested, "school", "tested", {"ok": False}, BY)
    await journal.directory.delete_connection("at", BY, nobody)
    await journal.directory.delete_tenant("school", BY)

    found = await events(journal)
    assert [(kind, whose) for kind, whose, _ in found] == [
        ("tenant.created", "school"),
        ("tenant.changed", "school"),
        ("connection.created", "school"),
        ("connection.changed", "school"),
        ("connection.tested", "school"),
        ("connection.deleted", "school"),
        ("tenant.deleted", "school"),
    ]
    assert {data["by"] for _, _, data in found} == {BY}
    changed = found[3][2]
    assert changed["before"]["config"] == {"username": "a"}
    assert changed["after"]["config"] == {"username": "b", "api_key": "***"}
    assert found[1][2]["after"]["status"] == "suspended"
    assert found[6][2]["after"] is None


async def test_directory_in_memory_is_bounded(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MOST_CONNECTIONS", 1)
    monkeypatch.setattr(directory, "MOST_TENANTS", 1)
    await journal.directory.keep_connection(connection(), None, BY)
    await journal.directory.keep_tenant(tenant(), BY)

    with pytest.raises(ConflictError) as refused:
        await journal.directory.keep_connection(connection("other"), None, BY)
    with pytest.raises(ConflictError):
        await journal.directory.keep_tenant(tenant("other"), BY)
    await journal.directory.keep_connection(connection(username="again"), None, BY)

    assert refused.value.error_code == "too_many_connections"


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("connection", "tenant", "other"),
        ("connection", "settings", "{}"),
        ("tenant", "settings", "{}"),
        ("connection_state", "paused_by", "somebody"),
    ],
)
async def test_damaged_row_is_named_and_not_served(
    path: Path, table: str, column: str, value: str
) -> None:
    state = ConnectionState(id="at", paused_at_ms=START_MS, paused_by=BY)
    async with opened(path) as journal:
        await journal.directory.keep_connection(connection(), None, BY)
        await journal.directory.keep_connection(connection("sound"), None, BY)
        await journal.directory.keep_tenant(tenant(), BY)
        await journal.directory.keep_state(state, "school", "paused", {}, BY)
    with raw(path) as db:
        update = " ".join(["UPDATE", table, "SET", column, "= ? WHERE id IN ('at', 'school')"])
        db.execute(update, (value,))

    async with opened(path) as journal:
        found = await journal.directory.read()

    assert [place[0] for place in found.damaged] == [table]
    assert len(verify(path, KEY).findings) == 1
    assert "sound" in found.connections


async def test_backup_restore_and_salvage_keep_the_directory(path: Path, clock: FakeClock) -> None:
    state = ConnectionState(id="at", paused_at_ms=START_MS, paused_by=BY)
    async with opened(path) as journal:
        await journal.directory.keep_tenant(tenant(), BY)
        await journal.directory.keep_connection(connection(), sealed(), BY)
        await journal.directory.keep_state(state, "school", "paused", {}, BY)
        before = await journal.directory.read()
        back_up_to(path, path.with_name("backup.db"))
    with raw(path) as db:
        db.execute("UPDATE tenant SET settings = '{}'")

    salvage(path, path.with_name("saved.db"), KEY, clock)
    restore(path.with_name("backup.db"), path, KEY, clock)

    saved, restored = stored_directory(path.with_name("saved.db")), stored_directory(path)
    assert (saved.connections, saved.states) == (before.connections, before.states)
    assert not saved.tenants
    assert restored.tenants == before.tenants
    assert restored.connections == before.connections


def test_journal_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert stored_directory(tmp_path / "none.db").connections == Directory().connections
