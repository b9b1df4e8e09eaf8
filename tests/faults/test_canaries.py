"""Secrets put through every path are found nowhere; a planted one is found everywhere.

About a hundred canaries in the suite, 2,000 in ``make faults``, or ``INTEGRATIOND_CANARIES``.
"""

import os
import random
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.faults.aviary import Aviary, talk
from tests.faults.leaks import canary, encoded, leaks
from tests.sdk.scripted_server import serving

CANARIES = 100
MANY = int(os.environ.get("INTEGRATIOND_CANARIES", "2000"))
# What is looked for is a row of bytes, so what stands further away makes no difference.
AROUND = 4096
PLANTED = encoded(canary("planted", random.Random(1)))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="idcan") as made:
        yield Path(made)


async def fly(directory: Path, count: int, form: str) -> Mapping[str, bytes]:
    """Have all canaries told, through two kills, and return what is left of it anywhere."""
    async with serving(talk) as server:
        aviary = Aviary(directory, server.url, count, form)
        await aviary.fill()
        with aviary.daemon as daemon:
            await aviary.start()
            async with daemon.client(timeout_s=120) as client:
                await aviary.hand_over(client)
                await aviary.tell(client)
            daemon.kill()
            places = {f"killed {name}": found for name, found in aviary.places().items()}
            await aviary.start()
            async with daemon.client(timeout_s=120) as client:
                await aviary.test_and_hook(client)
                await aviary.reject(client)
                await aviary.look(client)
            places |= {f"running {name}": found for name, found in aviary.places().items()}
            assert daemon.stop() == 0
        places |= aviary.places()
    assert aviary.count >= count
    found = leaks(places, aviary.made)
    assert not found, "\n".join(
        f"{one.place}: {one.encoding}: {one.around!r}" for one in found[:40]
    )
    return places


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["json", pytest.param("console", marks=pytest.mark.slow)])
async def test_no_file_log_or_answer_holds_a_secret(directory: Path, form: str) -> None:
    places = await fly(directory, CANARIES, form)

    # What was to be masked was there to be masked.
    assert places["daemon.log"].count(b"***") > CANARIES // 10
    assert b"***" in places["journal.db"]
    assert places["backup.db"].startswith(b"SQLite format 3")
    planted(places)


@pytest.mark.slow
async def test_no_file_log_or_answer_holds_one_of_many_secrets(directory: Path) -> None:
    planted(await fly(directory, MANY, "json"))


def planted(places: Mapping[str, bytes]) -> None:
    """Put a canary in every place, in every encoding, and have each of them found."""
    for place, content in places.items():
        half = len(content) // 2
        before, after = content[max(0, half - AROUND) : half], content[half : half + AROUND]
        for name, form in PLANTED.items():
            assert leaks({place: before + form + after}), (place, name)


def test_planted_secret_is_found_in_a_free_page(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    db = sqlite3.connect(file)
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("CREATE TABLE kept (said TEXT)")
    db.executemany("INSERT INTO kept VALUES (?)", [(PLANTED["hex"].decode(),)] * 500)
    db.commit()
    db.execute("DELETE FROM kept")
    db.commit()
    assert db.execute("PRAGMA freelist_count").fetchone()[0] > 0
    db.close()

    assert leaks({"journal": file.read_bytes()})
    assert not leaks({"journal": b"hex and base64 of nothing"})
