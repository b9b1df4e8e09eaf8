"""Sealed rows that were changed, moved or cut open nowhere; a killed rotation loses nothing.

Some hundreds of changes and a few kills in the suite, 50,000 and 300 in ``make faults``.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.vault.world import BY, opened

from integrationd.errors import DamagedError, VaultError
from integrationd.journal import Sealed
from integrationd.journal.rows import seal
from integrationd.journal.secret_rows import ALL
from integrationd.vault import Keyring

CHECKOUT = Path(__file__).parents[2]
CHANGES = 600
MANY_CHANGES = 50_000
KILLS = 3
MANY_KILLS = 300
SECRETS = {
    ("default", "a"): "first-secret-of-default",
    ("default", "b"): "second-secret-of-default",
    ("school", "a"): "secret-of-the-school",
}
ROTATING = """
import asyncio, random, sys
from pathlib import Path
from tests.vault.world import BY, opened

async def main():
    async with opened(Path(sys.argv[1])) as world:
        print("begun", flush=True)
        while True:
            await world.vault.rotate(BY, data_keys=random.random() < 0.5)

asyncio.run(main())
"""

Row = tuple[Any, ...]


async def fill(path: Path) -> tuple[list[Row], Keyring]:
    """Keep the secrets and return their rows, and what opens them."""
    async with opened(path) as world:
        for (tenant, name), value in SECRETS.items():
            await world.vault.set(tenant, name, value, BY)
        return await world.journal.rows(ALL), world.source.load()


def changed(rows: Sequence[Row], rng: random.Random) -> tuple[list[Row], tuple[str, str]]:
    """Change one secret's row, or the data key's, as somebody who knows the checksum would.

    Returns:
        The rows, and the tenant and name of a secret that must not open any more.
    """
    found = [list(row) for row in rows]
    keys = [row for row in found if not row[0]]
    secrets = [row for row in found if row[0]]
    victim = rng.choice(secrets)
    key = next(row for row in keys if row[1] == victim[1])
    match rng.randrange(6):
        case 0:
            victim[5] = flipped(victim[5], rng)
        case 1:
            victim[5] = victim[5][: rng.randrange(len(victim[5]))]
        case 2:
            victim[5] = rng.choice([row for row in secrets if row is not victim])[5]
        case 3:
            victim[3] += rng.randrange(1, 9)
        case 4:
            key[4] = flipped(key[4], rng)
        case _:
            key[4] = rng.choice([row for row in keys if row is not key])[4]
    for row in (victim, key):
        row[-1] = seal(*row[1:-1])
    return [tuple(row) for row in found], (victim[1], victim[2])


def flipped(stored: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(stored))
    return stored[:at] + bytes([stored[at] ^ 1 << rng.randrange(8)]) + stored[at + 1 :]


def opened_ones(rows: Sequence[Row], keyring: Keyring, count: int) -> list[int]:
    """Change the rows so often, and return the seeds by which one opened all the same."""
    wrong = []
    for seed in range(count):
        after, (tenant, name) = changed(rows, random.Random(seed))
        try:
            Sealed(after).open(keyring, tenant, name)
        except (VaultError, DamagedError):
            continue
        wrong.append(seed)
    return wrong


async def test_changed_moved_or_cut_row_opens_nowhere(tmp_path: Path) -> None:
    rows, keyring = await fill(tmp_path)

    assert opened_ones(rows, keyring, CHANGES) == []
    # The judge itself opens what is sound.
    sound = Sealed(rows)
    assert {place: sound.open(keyring, *place) for place in SECRETS} == SECRETS


@pytest.mark.slow
async def test_no_row_of_fifty_thousand_changed_ones_opens(tmp_path: Path) -> None:
    rows, keyring = await fill(tmp_path)

    assert opened_ones(rows, keyring, MANY_CHANGES) == []


def kill_while_rotating(path: Path, rng: random.Random) -> None:
    """Have another process rotate the keys, and kill it after a moment."""
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATING, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT / 'daemon'}:{CHECKOUT}"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)


async def all_open(path: Path) -> bool:
    async with opened(path) as world:
        found = {place: await world.value(place[1], place[0]) for place in SECRETS}
    return found == SECRETS


async def survives(path: Path, kills: int) -> None:
    await fill(path)
    for number in range(kills):
        kill_while_rotating(path, random.Random(number))
        assert await all_open(path), f"after kill {number}"


async def test_everything_opens_after_kills_during_rotation(tmp_path: Path) -> None:
    await survives(tmp_path, KILLS)


@pytest.mark.slow
async def test_everything_opens_after_three_hundred_kills_during_rotation(tmp_path: Path) -> None:
    await survives(tmp_path, MANY_KILLS)
