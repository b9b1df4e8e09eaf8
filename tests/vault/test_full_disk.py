"""A full disk keeps no secret from being read at the start."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journal.test_full_disk import ON_A_SMALL_DISK, fill
from tests.vault.world import BY, opened, source_in

from integrationd.journal import stored_vault


def _copy(directory: Path, left: Path) -> None:
    """Copy by another process, since closing a file drops the locks that this one holds on it."""
    found = [directory / f"journal.db{suffix}" for suffix in ("", "-wal", ".mark")]
    subprocess.run(["cp", *map(str, found), str(left)], check=True)


async def left_by_a_kill(directory: Path) -> None:
    """Read a journal that was left with its write-ahead log on a disk that has filled up since."""
    left = directory / "left"
    left.mkdir()
    async with opened(directory) as world:
        await world.vault.set("default", "a", "value", BY)
        _copy(directory, left)
    (directory / "journal.db").unlink()
    assert (left / "journal.db-wal").stat().st_size > 0
    filler = fill(directory)

    found = stored_vault(left / "journal.db")

    assert found.open(source_in(directory).load(), "default", "a") == "value"
    filler.unlink()
    shutil.copy(directory / "master.key", left)
    async with opened(left) as world:
        assert await world.value("a") == "value"
        assert world.journal.status().alarm == ""


def test_secrets_are_read_from_a_full_disk(tmp_path: Path) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = [*alone, "sh", "-c", ON_A_SMALL_DISK, str(tmp_path)]
    try:
        able = subprocess.run([*mount, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("this machine lets nobody mount a file system of his own")

    told = subprocess.run(
        [*mount, sys.executable, "-m", __name__, str(tmp_path)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert told.returncode == 0, told.stderr


if __name__ == "__main__":
    asyncio.run(left_by_a_kill(Path(sys.argv[1])))
