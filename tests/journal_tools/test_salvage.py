"""Salvage keeps what is intact, drops what is not, and leaves the damaged file as it is."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import KEY, opened, raw

from integrationd.call import Call, CallState, Part
from integrationd.errors import ConflictError
from integrationd.journal import CallFilter
from integrationd.journal.salvage import salvage
from integrationd.journal.verify import verify
from integrationd.settlement import Settlement, retry

PAGE = 4096


async def test_salvage_of_a_sound_journal_keeps_everything(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    into = tmp_path / "new.db"

    report = salvage(path, into, KEY, clock)

    assert (report.kept, report.lost, report.doubtful, report.webhooks) == (36, 0, 1, 2)
    assert verify(into, KEY).is_sound
    async with opened(path) as old, opened(into) as journal:
        for call in await old.calls.list(CallFilter(), before=None, limit=100):
            saved = await journal.calls.detail(call.id)
            known = await old.calls.detail(call.id)
            assert (saved.payload, saved.metadata, saved.result, saved.parts) == (
                known.payload,
                known.metadata,
                known.result,
                known.parts,
            )
            if call.state is not CallState.PROCESSING:
                assert saved.call.state is call.state
            else:
                assert (saved.call.state, saved.call.reason) == (CallState.UNKNOWN, "salvaged")


def test_salvage_drops_a_damaged_call_and_names_it(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    with raw(path) as db:
        lost = db.execute("SELECT id FROM call WHERE seq = 4").fetchone()[0]
        db.execute("UPDATE call_body SET payload = x'7b7d' WHERE seq = 4")

    report = salvage(path, tmp_path / "new.db", KEY, clock)

    assert (report.kept, report.lost) == (35, 1)
    assert report.lost_ids == [lost]


async def test_salvaged_call_whose_payload_was_erased_cannot_be_sent_again(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    with raw(path) as db:
        erased = db.execute("SELECT id FROM call WHERE seq = 21").fetchone()[0]
        db.execute("UPDATE call_body SET erased_event = 5 WHERE seq = 21")
    into = tmp_path / "new.db"

    report = salvage(path, into, KEY, clock)

    assert (report.kept, report.lost) == (36, 0)
    assert verify(into, KEY).is_sound
    async with opened(into) as journal:
        ((told,),) = await journal.rows("SELECT seq FROM event WHERE type = 'journal.salvaged'")
        with pytest.raises(ConflictError, match="was erased") as refused:
            await journal.calls.change(erased, _again)
    assert f"Event {told} tells" in refused.value.hint


def _again(call: Call, parts: Sequence[Part]) -> Settlement:
    return retry(call, parts, "ana", START_MS, expires_at_ms=None, give_up_at_ms=START_MS + 1)


def test_salvage_of_a_journal_from_before_erasures_keeps_its_calls(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    with raw(path) as db:
        db.execute("ALTER TABLE call_body DROP COLUMN erased_event")

    assert salvage(path, tmp_path / "new.db", KEY, clock).kept == 36


def test_salvage_takes_no_other_files_place(path: Path, clock: FakeClock) -> None:
    with pytest.raises(ConflictError, match="exists already"):
        salvage(path, path, KEY, clock)


@pytest.mark.parametrize("seed", range(12))
def test_salvage_of_a_file_with_broken_pages_keeps_sound_calls_only(
    path: Path, tmp_path: Path, clock: FakeClock, seed: int
) -> None:
    rng, damaged = random.Random(seed), bytearray(path.read_bytes())
    # A page on which payloads stand; without the schema's pages nothing could be read.
    leaf = rng.choice(
        [at // PAGE for at in range(len(damaged)) if damaged.startswith(b"hello", at)]
    )
    for at in range(leaf * PAGE + 200, leaf * PAGE + 600):
        damaged[at] = rng.randrange(256)
    path.write_bytes(damaged)
    into = tmp_path / "new.db"

    report = salvage(path, into, KEY, clock)

    assert path.read_bytes() == bytes(damaged)
    assert report.kept > 0
    assert verify(into, KEY).is_sound
