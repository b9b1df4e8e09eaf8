"""The vault's rows: set, read, deleted; and whoever forges them opens nothing."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.vault.world import BY, INSTANCE_KEY, VaultWorld, change, opened, resealed, source_in

from integrationd.clock import SystemClock
from integrationd.errors import DamagedError, IntegrationdError, MasterKeyError, NotFoundError
from integrationd.journal import Sealed, secret_rows, sqlite, stored_vault
from integrationd.journal.salvage import salvage
from integrationd.journal.verify import verify

CANARY = "canary-7f3a9c51"


async def filled(world: VaultWorld) -> list[tuple[str, str]]:
    """Set some secrets for two tenants and return their names."""
    names = [(tenant, f"key-{at}") for tenant in ("default", "school") for at in range(4)]
    for tenant, name in names:
        await world.vault.set(tenant, name, f"{CANARY}-{tenant}-{name}", BY)
    return names


async def test_secret_is_read_back_as_it_was_set(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        for value in ("x", "clé\n", "a" * 65_536, "\ud800"):
            await world.vault.set("default", "at-key", value, BY)

            assert await world.value("at-key") == value


async def test_first_secret_makes_the_master_key_and_says_what_its_loss_costs(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as world:
        assert not world.file.path.exists()

        first = await world.vault.set("default", "a", CANARY, BY)
        second = await world.vault.set("default", "b", CANARY, BY)

        assert world.file.path.stat().st_mode & 0o777 == 0o600
        assert "whoever loses it loses every secret" in first.notice
        assert second.notice == ""
        assert world.notices == [first.notice]


async def test_secret_is_masked_before_it_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.vault.set("default", "a", CANARY, BY)

        assert world.learned == [CANARY]


async def test_versions_are_never_given_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        first = await world.vault.set("default", "a", "1", BY)
        await world.vault.delete("default", "a", BY)
        second = await world.vault.set("default", "a", "2", BY)
        await world.vault.rotate(BY, data_keys=True)
        third = await world.vault.set("default", "a", "3", BY)

        assert [first.version, second.version, third.version] == [1, 2, 3]


async def test_tenants_have_secrets_and_data_keys_of_their_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.vault.set("default", "a", "mine", BY)
        await world.vault.set("school", "a", "theirs", BY)

        assert await world.value("a", "school") == "theirs"
        assert [one.tenant for one in await world.vault.list("school")] == ["school"]
        assert {key.tenant for key in (await world.journal.secrets.sealed()).keys} == {
            "default",
            "school",
        }


async def test_missing_secret_is_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.vault.set("default", "a", "1", BY)

        with pytest.raises(NotFoundError, match="no secret 'b'"):
            await world.value("b")
        with pytest.raises(NotFoundError, match="no secret 'a'"):
            await world.value("a", "school")
        with pytest.raises(NotFoundError, match="no secret 'a'"):
            await world.vault.delete("school", "a", BY)


async def test_every_change_is_an_event_without_the_value(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.vault.set("default", "a", CANARY, BY)
        await world.vault.rotate(BY, data_keys=False)
        await world.vault.delete("default", "a", BY)
        told = await world.journal.events.after(0, 10)

    assert [one.type for one in told] == [
        "vault.secret_set",
        "vault.rotated",
        "vault.secret_deleted",
    ]
    assert all(BY in str(one) and CANARY not in str(one) for one in told)


async def test_plaintext_is_in_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await filled(world)
        await world.vault.rotate(BY, data_keys=True)
        while_open = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    after = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    for found in (while_open, after):
        assert CANARY.encode() not in found
        assert CANARY.encode("utf-16-le") not in found


# Whoever has the files, but not the master key


def is_opened(rows: list[Any], source: Any, tenant: str, name: str) -> bool:
    try:
        Sealed(rows).open(source.load(), tenant, name)
    except IntegrationdError as error:
        told = str(error)
    else:
        return True
    assert repr(tenant) in told
    return False


def forged(rng: random.Random, row: Any, others: list[Any]) -> Any:
    """Return a row with one of its columns changed or taken from another row."""
    changed = list(row)
    blob = 4 if row[0] == 0 else 5
    kind = rng.randrange(4)
    if kind == 0:
        content = bytearray(changed[blob])
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        changed[blob] = bytes(content)
    elif kind == 1:
        changed[blob] = changed[blob][: rng.randrange(len(changed[blob]))]
    elif kind == 2:
        changed[blob] = rng.choice([one for one in others if one[blob] != row[blob]])[blob]
    elif row[0] == 1:
        changed[3] += rng.randrange(1, 5)
    else:
        changed[3] = f"{rng.getrandbits(64):016x}"
    return resealed(changed)


async def test_no_forged_row_opens(tmp_path: Path) -> None:
    rng = random.Random(11)
    async with opened(tmp_path) as world:
        await filled(world)
        rows = await world.journal.rows(secret_rows.ALL)
    source = source_in(tmp_path)
    assert is_opened(rows, source, "school", "key-2")

    for _ in range(4000):
        at = rng.randrange(len(rows))
        row = rows[at]
        fake = forged(rng, row, [one for one in rows if one[0] == row[0]])
        name = row[2] if row[0] else "key-1"
        assert not is_opened([*rows[:at], fake, *rows[at + 1 :]], source, row[1], name), fake


async def test_no_secret_opens_under_another_name_or_tenant(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await filled(world)
    change(
        tmp_path / "journal.db",
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE tenant = 'school'"
        " AND name = 'key-0') WHERE tenant = 'default' AND name = 'key-0'",
    )
    change(tmp_path / "journal.db", "UPDATE secret SET name = 'moved' WHERE name = 'key-1'")

    async with opened(tmp_path) as world:
        for name in ("key-0", "moved"):
            with pytest.raises(IntegrationdError, match=f"the secret '{name}' of tenant 'default'"):
                await world.value(name)
        assert await world.value("key-2") == f"{CANARY}-default-key-2"


async def test_flipped_byte_is_told_by_the_row_and_found_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(tmp_path) as world:
        await filled(world)
    db = sqlite.connect(path)
    db.execute(
        "UPDATE secret SET sealed = zeroblob(60) WHERE tenant = 'default' AND name = 'key-3'"
    )
    db.close()

    async with opened(tmp_path) as world:
        with pytest.raises(DamagedError, match="the secret 'key-3' of tenant 'default'"):
            await world.value("key-3")
        with pytest.raises(DamagedError, match="'key-3'"):
            await world.vault.rotate(BY, data_keys=True)
        assert (await world.vault.status()).problems
        assert await world.value("key-0") == f"{CANARY}-default-key-0"
        await world.vault.set("default", "key-3", "anew", BY)
        assert await world.value("key-3") == "anew"
        db = sqlite.connect(path)
    assert verify(path, INSTANCE_KEY).is_sound
    db.execute("UPDATE data_key SET made_at_ms = 7")
    db.close()
    assert "the data key of tenant 'default'" in "".join(verify(path, INSTANCE_KEY).findings)


async def test_salvaged_journal_holds_the_secrets(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        names = await filled(world)

    salvage(tmp_path / "journal.db", tmp_path / "new.db", INSTANCE_KEY, SystemClock())

    found = stored_vault(tmp_path / "new.db")
    keyring = source_in(tmp_path).load()
    assert [found.open(keyring, *one) for one in names] == [
        f"{CANARY}-{tenant}-{name}" for tenant, name in names
    ]


async def test_secret_without_its_data_key_is_refused_by_the_table(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await filled(world)
    db = sqlite.connect(tmp_path / "journal.db")
    with pytest.raises(sqlite.IntegrityError, match="sealed under this data key"):
        db.execute("DELETE FROM data_key")
    with pytest.raises(sqlite.IntegrityError, match="needs the data key"):
        db.execute("INSERT INTO secret VALUES ('nobody', 'a', 1, 1, zeroblob(40), 0, 0)")
    db.close()


# The master key that does not fit


async def test_other_master_key_opens_nothing_and_seals_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await filled(world)
    (tmp_path / "master.key").rename(tmp_path / "copy")
    source_in(tmp_path).make()

    async with opened(tmp_path) as world:
        with pytest.raises(MasterKeyError, match="is wrapped by the master key"):
            await world.value("key-0")
        with pytest.raises(MasterKeyError, match="is wrapped by the master key"):
            await world.vault.set("default", "key-0", "anew", BY)
        with pytest.raises(MasterKeyError, match="is wrapped by the master key"):
            await world.vault.rotate(BY, data_keys=False)
        assert (await world.vault.status()).state == "unusable"

    (tmp_path / "copy").replace(tmp_path / "master.key")
    async with opened(tmp_path) as world:
        assert await world.value("key-0") == f"{CANARY}-default-key-0"
        assert not (tmp_path / "master.key.next").exists()


async def test_lost_master_key_is_never_made_anew_under_kept_secrets(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await filled(world)
    (tmp_path / "master.key").unlink()

    async with opened(tmp_path) as world:
        for work in (
            world.vault.set("default", "a", "1", BY),
            world.vault.init(),
            world.vault.rotate(BY, data_keys=False),
        ):
            with pytest.raises(MasterKeyError, match=r"master\.key is missing"):
                await work
        status = await world.vault.status()

    assert status.state == "unusable"
    assert "Put your copy of it back" in status.problems[0]
    assert not (tmp_path / "master.key").exists()


async def test_backup_of_before_a_rotation_opens_with_the_kept_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await filled(world)
    shutil.copy(tmp_path / "journal.db", tmp_path / "backup.db")
    async with opened(tmp_path) as world:
        kept_as = (await world.vault.rotate(BY, data_keys=True)).kept_as
    shutil.copy(tmp_path / "backup.db", tmp_path / "journal.db")

    async with opened(tmp_path) as world:
        with pytest.raises(MasterKeyError, match="is wrapped by the master key") as caught:
            await world.value("key-0")
        assert Path(kept_as).name.removeprefix("master.key.") in caught.value.hint
    source = source_in(tmp_path, previous=f"file:{kept_as}")
    async with opened(tmp_path, source) as world:
        assert (await world.vault.status()).behind == 2
        assert (await world.vault.rotate(BY, data_keys=False)).kept_as == ""
    async with opened(tmp_path) as world:
        assert await world.value("key-0") == f"{CANARY}-default-key-0"
