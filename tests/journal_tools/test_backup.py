"""Backups are sound copies of one commit; restoring sends nothing twice and deletes nothing."""

from pathlib import Path

import anyio
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import KEY, accept, new, opened

from integrationd.call import CallState
from integrationd.errors import ConflictError, DamagedError, JournalLockedError
from integrationd.journal import CallFilter
from integrationd.journal.backup import back_up_to, restore
from integrationd.journal.verify import verify


def test_backup_is_sound_and_private(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"

    report = back_up_to(path, target)

    assert verify(target, KEY).is_sound
    assert report.calls == 36
    assert target.stat().st_mode & 0o777 == 0o600


def test_backup_takes_no_other_files_place_unless_told(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("mine")

    with pytest.raises(ConflictError, match="exists already"):
        back_up_to(path, target)

    assert target.read_text() == "mine"
    assert back_up_to(path, target, overwrite=True).calls == 36


async def test_backup_under_load_holds_whole_commits(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal, anyio.create_task_group() as group:

        async def load() -> None:
            while True:
                await accept(journal, new())

        group.start_soon(load)
        reports = []
        for number in range(3):
            target = tmp_path / f"copy-{number}.db"
            reports.append(await anyio.to_thread.run_sync(back_up_to, path, target))
            assert verify(target, KEY).is_sound
        group.cancel_scope.cancel()

    assert reports[0].commit < reports[-1].commit


async def test_restore_puts_in_doubt_what_may_have_been_delivered_since(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    target = tmp_path / "copy.db"
    back_up_to(path, target)

    report = restore(target, path, KEY, clock)

    assert report.doubtful == 11
    assert len(report.moved_aside) >= 2
    assert verify(path, KEY).is_sound
    async with opened(path) as journal:
        assert journal.status().alarm == ""
        calls = await journal.calls.list(CallFilter(), before=None, limit=100)
        assert {call.state for call in calls} == {
            CallState.COMPLETED,
            CallState.FAILED,
            CallState.UNKNOWN,
        }
        restored = [call for call in calls if call.reason == "restored"]
        assert len(restored) == 11
        assert all(call.doubt for call in restored)
        assert all(line.balances for line in await journal.ledger.lines())
        await accept(journal, new())
    assert verify(path, KEY).is_sound


async def test_restore_of_a_stopped_daemons_backup_may_leave_calls_pending(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    target = tmp_path / "copy.db"
    back_up_to(path, target)

    restore(target, path, KEY, clock, assume_undelivered=True)

    async with opened(path) as journal:
        pending = await journal.calls.list(CallFilter(state="pending"), before=None, limit=100)
        assert len(pending) == 10


async def test_restore_leaves_a_running_daemon_alone(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    target = tmp_path / "copy.db"
    back_up_to(path, target)

    async with opened(path):
        with pytest.raises(JournalLockedError):
            restore(target, path, KEY, clock)

    assert verify(path, KEY).is_sound


def test_restore_refuses_a_backup_that_is_not_sound(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    target = tmp_path / "copy.db"
    back_up_to(path, target)
    damaged = bytearray(target.read_bytes())
    at = damaged.index(b"hello")
    damaged[at] ^= 1
    target.write_bytes(damaged)
    before = path.read_bytes()

    with pytest.raises(DamagedError, match="is not sound"):
        restore(target, path, KEY, clock)

    assert path.read_bytes() == before
