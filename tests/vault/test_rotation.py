"""Rotation: wherever it is cut off, everything opens, and the next need ends what was begun."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.vault.world import BY, VaultWorld, opened, source_in

from integrationd.errors import ConflictError, JournalUnavailableError, MasterKeyError
from integrationd.settings import ConnectionSettings, Settings
from integrationd.vault import MasterFile, MasterSource, new_key

NAMES = [("default", "a"), ("default", "b"), ("school", "a")]


async def fill(world: VaultWorld) -> None:
    for tenant, name in NAMES:
        await world.vault.set(tenant, name, f"{tenant}-{name}", BY)


async def all_open(world: VaultWorld) -> bool:
    found = [await world.value(name, tenant) for tenant, name in NAMES]
    return found == [f"{tenant}-{name}" for tenant, name in NAMES]


async def test_rotation_replaces_the_master_key_and_keeps_the_old_one_aside(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await fill(world)
        old = world.file.read()

        rotated = await world.vault.rotate(BY, data_keys=False)

        assert rotated.master == world.file.read().id != old.id
        assert (rotated.data_keys, rotated.sealed_anew) == (2, 0)
        assert MasterFile(Path(rotated.kept_as)).read() == old
        assert (await world.vault.status()).behind == 0
        assert await all_open(world)


async def test_rotation_of_data_keys_seals_every_secret_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await fill(world)
        before = await world.journal.secrets.sealed()
        old = world.source.load()

        rotated = await world.vault.rotate(BY, data_keys=True)

        after = await world.journal.secrets.sealed()
        assert rotated.sealed_anew == 3
        assert {key.generation for key in after.keys} == {2}
        assert {old.open(key.data_key) for key in before.keys}.isdisjoint(
            {world.source.load().open(key.data_key) for key in after.keys}
        )
        assert {one.sealed for one in before.secrets}.isdisjoint(
            {one.sealed for one in after.secrets}
        )
        assert [one.version for one in before.secrets] == [one.version for one in after.secrets]
        assert await all_open(world)


async def nothing(world: VaultWorld) -> None:
    """Be cut off before the first step."""


async def made_next(world: VaultWorld) -> None:
    """Be cut off when the new master key has been made."""
    world.file.make_next()


async def committed(world: VaultWorld) -> None:
    """Be cut off when every data key has been wrapped by it."""
    keyring = world.source.load()
    await world.journal.secrets.rewrap(keyring.with_current(world.file.make_next()), BY)


async def committed_anew(world: VaultWorld) -> None:
    """Be cut off when every secret has been sealed anew."""
    keyring = world.source.load()
    await world.journal.secrets.rewrap(keyring.with_current(world.file.make_next()), BY, anew=True)


async def linked_aside(world: VaultWorld) -> None:
    """Be cut off between keeping the old file aside and replacing it."""
    await committed(world)
    os.link(world.file.path, world.file.kept(world.file.read()))


@pytest.mark.parametrize("crash", [nothing, made_next, committed, committed_anew, linked_aside])
async def test_rotation_cut_off_anywhere_loses_nothing(
    tmp_path: Path, crash: Callable[[VaultWorld], Awaitable[None]]
) -> None:
    async with opened(tmp_path) as world:
        await fill(world)
        old = world.file.read().id
        await crash(world)
        # As a kill leaves them: nothing is closed, nothing is checkpointed.
        shutil.copytree(tmp_path, tmp_path / "left")

    async with opened(tmp_path / "left") as world:
        assert await all_open(world)
        # Whatever was begun is ended by the next need, and nothing is sealed under a key that goes.
        await world.vault.set("shop", "new", "later", BY)
        assert await all_open(world)
        assert world.file.read_next() is None
        used = (await world.journal.secrets.sealed()).masters
        assert used == {world.file.read().id}
        assert (world.file.read().id == old) == (crash in (nothing, made_next))
        await world.vault.rotate(BY, data_keys=True)
        assert await all_open(world)
        assert await world.value("new", "shop") == "later"


async def test_rotation_whose_commit_is_not_known_to_be_kept_is_ended_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await fill(world)
        await world.journal.close()
        with pytest.raises(JournalUnavailableError):
            await world.vault.rotate(BY, data_keys=False)
        await world.journal.open()

        assert await all_open(world)
        await world.vault.rotate(BY, data_keys=False)
        assert await all_open(world)


async def test_secrets_are_set_and_read_while_keys_rotate(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await fill(world)

        async def rotate() -> None:
            for at in range(10):
                await world.vault.rotate(BY, data_keys=at % 2 == 1)

        async def use(number: int) -> None:
            for at in range(15):
                await world.vault.set(f"tenant-{number}", "x", f"{number}-{at}", BY)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(rotate())
            for number in range(4):
                group.create_task(use(number))

        assert await all_open(world)
        assert [await world.value("x", f"tenant-{number}") for number in range(4)] == [
            f"{number}-14" for number in range(4)
        ]


async def test_secrets_are_read_for_a_configuration_while_keys_rotate(tmp_path: Path) -> None:
    one = ConnectionSettings(provider="http", config={"token": "vault:a"})
    settings = Settings(connections={"c": one})
    async with opened(tmp_path) as world:
        await fill(world)

        async def rotate() -> None:
            for at in range(20):
                await world.vault.rotate(BY, data_keys=at % 2 == 1)

        async def read() -> None:
            for _ in range(150):
                reader = await world.vault.reader(settings)
                await asyncio.sleep(0)
                assert reader("default", "a") == "default-a"

        async with asyncio.TaskGroup() as group:
            group.create_task(rotate())
            for _ in range(3):
                group.create_task(read())


async def test_rotation_whose_caller_goes_away_loses_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await fill(world)
        for turns in range(60):
            rotating = asyncio.create_task(world.vault.rotate(BY, data_keys=turns % 2 == 1))
            for _ in range(turns):
                await asyncio.sleep(0)
            rotating.cancel()
            await world.vault.set("shop", "x", str(turns), BY)
            assert await world.value("x", "shop") == str(turns)
            assert await all_open(world)
            await asyncio.wait({rotating})
        used = (await world.journal.secrets.sealed()).masters
        assert used == {world.file.read().id}


async def test_master_key_of_the_environment_is_changed_by_naming_the_one_before(
    tmp_path: Path,
) -> None:
    environ = {"OLD": new_key().hex(), "NEW": new_key().hex()}
    async with opened(tmp_path, MasterSource("env:OLD", None, environ)) as world:
        await fill(world)
        with pytest.raises(ConflictError) as caught:
            await world.vault.rotate(BY, data_keys=False)
        assert "previous_master_key" in caught.value.hint

    async with opened(tmp_path, MasterSource("env:NEW", "env:OLD", environ)) as world:
        assert await all_open(world)
        assert (await world.vault.status()).behind == 2
        await world.vault.rotate(BY, data_keys=False)

    async with opened(tmp_path, MasterSource("env:NEW", None, environ)) as world:
        assert await all_open(world)
    async with opened(tmp_path, MasterSource("env:OLD", None, environ)) as world:
        with pytest.raises(MasterKeyError):
            await world.value("a")


async def test_master_key_moves_from_a_file_to_a_credential(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text(new_key().hex())
    (tmp_path / "vault").chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    async with opened(tmp_path) as world:
        await fill(world)

    moved = MasterSource("credential:vault", f"file:{tmp_path / 'master.key'}", environ)
    async with opened(tmp_path, moved) as world:
        await world.vault.rotate(BY, data_keys=False)
    (tmp_path / "master.key").unlink()

    async with opened(tmp_path, MasterSource("credential:vault", None, environ)) as world:
        assert await all_open(world)


async def test_rotation_of_an_empty_vault_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.vault.init()

        with pytest.raises(ConflictError, match="nothing to rotate"):
            await world.vault.rotate(BY, data_keys=False)


async def test_init_makes_the_master_key_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        assert (await world.vault.status()).state == "not_made"
        assert "A new master key was made" in await world.vault.init()
        assert await world.vault.init() == ""
        assert (await world.vault.status()).state == "usable"


async def test_missing_previous_key_makes_no_new_master_key(tmp_path: Path) -> None:
    source = source_in(tmp_path, previous=f"file:{tmp_path / 'gone'}")
    source.make()
    key = (tmp_path / "master.key").read_text()

    async with opened(tmp_path, source) as world:
        with pytest.raises(MasterKeyError, match="gone is missing"):
            await world.vault.set("default", "a", "1", BY)

    assert (tmp_path / "master.key").read_text() == key
