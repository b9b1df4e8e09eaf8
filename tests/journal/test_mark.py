"""The high-water mark: commits that the disk has dropped are noticed, and nothing else is."""

import hmac
import struct
import zlib
from pathlib import Path

import pytest
from tests.journal.cases import KEY, accept, claim_one, complete, copied, new, opened

from integrationd.journal import Journal
from integrationd.journal.mark import Mark, MarkFile, Trust, read_mark


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def mark_of(path: Path) -> Path:
    return path.with_name(path.name + ".mark")


async def fill(journal: Journal, calls: int = 5) -> None:
    for _ in range(calls):
        await accept(journal, new())
        await complete(journal, await claim_one(journal))


async def test_mark_stays_silent_after_a_normal_restart(path: Path) -> None:
    for _ in range(3):
        async with opened(path) as journal:
            await fill(journal)
            assert journal.status().alarm == ""


async def test_mark_stays_silent_after_a_kill(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)
        left = copied(path, tmp_path / "killed")

    async with opened(left) as journal:
        assert journal.status().alarm == ""
        assert len(await journal.rows("SELECT 1 FROM call")) == 5


async def test_mark_raises_the_alarm_when_the_log_is_lost(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)
        mark, _ = read_mark(mark_of(path), KEY)
        left = copied(path, tmp_path / "killed")
    wal_of(left).unlink()

    async with opened(left) as journal:
        alarm = journal.status().alarm
        found = (await journal.rows("SELECT seq FROM commit_mark"))[0][0]
        assert found < mark.commit
        # The one that opening it anew has made, to tell of the loss.
        assert f"it ends at commit {found - 1} and event 0" in alarm
        assert f"but commit {mark.commit} and event {mark.event} had been made durable" in alarm
        # It is served all the same, and nothing is made new.
        assert journal.condition == "ready"


async def test_mark_raises_the_alarm_when_the_log_is_cut(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)
        left = copied(path, tmp_path / "killed")
    stored = wal_of(left).read_bytes()
    wal_of(left).write_bytes(stored[: len(stored) * 3 // 4])

    async with opened(left) as journal:
        assert "has lost commits" in journal.status().alarm
        assert 0 < len(await journal.rows("SELECT 1 FROM call")) < 5


async def test_mark_raises_the_alarm_for_one_flipped_bit_in_the_log(
    path: Path, tmp_path: Path
) -> None:
    async with opened(path) as journal:
        await fill(journal)
        left = copied(path, tmp_path / "killed")
    stored = bytearray(wal_of(left).read_bytes())
    stored[len(stored) // 2] ^= 0x10
    wal_of(left).write_bytes(stored)

    async with opened(left) as journal:
        assert "has lost commits" in journal.status().alarm


async def test_mark_raises_the_alarm_when_the_journal_is_gone(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)
        left = copied(path, tmp_path / "killed")
    left.unlink()
    wal_of(left).unlink()

    async with opened(left) as journal:
        assert "it ends at commit 0 and event 0" in journal.status().alarm


async def test_alarm_is_shown_until_somebody_acknowledges_it(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)
        left = copied(path, tmp_path / "killed")
    wal_of(left).unlink()
    async with opened(left) as journal:
        alarm = journal.status().alarm
        await fill(journal)

    async with opened(left) as journal:
        assert journal.status().alarm == alarm

        assert await journal.acknowledge_alarm("ana")

        assert journal.status().alarm == ""
        (event,) = (await journal.events.after(0, 100))[-1:]
        assert event.type == "journal.acknowledged"
        assert '"by":"ana"' in event.data
        assert "has lost commits" in event.data
        assert not await journal.acknowledge_alarm("ana")
    async with opened(left) as journal:
        assert journal.status().alarm == ""


async def test_alarm_is_raised_again_where_its_text_could_not_be_written(
    path: Path, tmp_path: Path
) -> None:
    async with opened(path) as journal:
        await fill(journal)
        left = copied(path, tmp_path / "killed")
    wal_of(left).unlink()
    # A full disk takes the file's name, but not its text.
    left.with_name(left.name + ".alarm").touch()

    async with opened(left) as journal:
        assert "has lost commits" in journal.status().alarm


async def test_mark_below_the_journal_is_normal(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal, 2)
        earlier = copied(path, tmp_path / "earlier")
        await fill(journal, 3)
    path.with_name(path.name + ".mark").write_bytes(mark_of(earlier).read_bytes())

    async with opened(path) as journal:
        assert journal.status().alarm == ""


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("empty", "is gone"),
        ("missing", "is gone"),
        ("cut", "was not made with this instance key"),
        ("flipped", "was not made with this instance key"),
        ("foreign", "was not made with this instance key"),
        ("of another key", "was not made with this instance key"),
        ("of an earlier version", "was not made with this instance key"),
    ],
)
async def test_mark_that_proves_nothing_is_told_and_made_anew(
    path: Path, left: str, words: str
) -> None:
    async with opened(path) as journal:
        await fill(journal)
    stored = mark_of(path).read_bytes()
    mark_of(path).unlink()
    if left != "missing":
        mark_of(path).write_bytes(spoilt(stored, left))

    async with opened(path) as journal:
        assert words in journal.status().alarm
        (told,) = (await journal.events.after(0, 100))[-1:]
        assert told.type == "journal.lost"
        assert words in told.data
    assert read_mark(mark_of(path), KEY)[1] is Trust.SEALED


def spoilt(stored: bytes, how: str) -> bytes:
    match how:
        case "empty":
            return b""
        case "cut":
            return stored[:30]
        case "flipped":
            return bytes([*stored[:9], stored[9] ^ 0x40, *stored[10:]])
        case "foreign":
            return b"\xff" * 4096
        case "of another key":
            return stored[:-32] + hmac.digest(b"x" * 32, b"mark" + stored[:-32], "sha256")
        case _:
            return earlier(1, 1, bytes(32))


def earlier(commit: int, event: int, head: bytes) -> bytes:
    """Return a mark as versions before the eighth schema wrote it."""
    body = struct.pack("<4sQQ32s", b"idm1", commit, event, head)
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_mark_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    mark_of(tmp_path / "j").write_bytes(earlier(7, 5, b"h" * 32))

    found = read_mark(mark_of(tmp_path / "j"), KEY)

    assert found == (Mark(commit=7, event=5, head=b"h" * 32), Trust.PLAIN)


async def test_mark_names_the_last_commit_event_and_attempt(path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)
        commit = (await journal.rows("SELECT seq FROM commit_mark"))[0][0]
        event, mac = (await journal.rows("SELECT seq, mac FROM event ORDER BY seq DESC"))[0]

        assert journal._mark is not None
        expected = Mark(commit=commit, event=event, head=mac, attempt=5)
        assert journal._mark.read() == (expected, Trust.SEALED)


def test_mark_survives_a_round_trip(tmp_path: Path) -> None:
    file = MarkFile(tmp_path / "mark", KEY)
    mark = Mark(commit=1 << 60, event=3, head=b"h" * 32, attempt=9)

    file.write(mark)

    assert file.read() == (mark, Trust.SEALED)
    file.close()


async def test_journal_files_are_for_their_owner_only(path: Path) -> None:
    async with opened(path) as journal:
        await fill(journal)

        modes = {file.stat().st_mode & 0o777 for file in path.parent.iterdir() if file.is_file()}

    assert modes == {0o600}
