"""``audit``: what it finds that is wrong, what an export shows, and what the commands say."""

import json
import shutil
from pathlib import Path

import pytest
from tests.journal.cases import KEY, accept, claim_one, complete, new, opened, raw
from tests.journal_tools.test_commands import integrationd

from integrationd.errors import DamagedError
from integrationd.journal.audit import audit, check_export, export_to


def exported(path: Path, target: Path) -> Path:
    with target.open("wb") as file:
        export_to(path, KEY, file)
    return target


async def go_on(path: Path) -> None:
    async with opened(path) as journal:
        await accept(journal, new(connection="later"))
        await complete(journal, await claim_one(journal, "@later/default"))


def test_audit_finds_nothing_in_a_sound_journal(path: Path) -> None:
    report = audit(path, KEY)

    assert report.findings == report.remarks == []
    assert (report.first, report.attempts) == (1, 20)


def test_audit_misses_the_mark_but_not_of_a_backup(path: Path) -> None:
    path.with_name(path.name + ".mark").unlink()

    assert audit(path, KEY).findings == [
        "the high-water mark is missing, so the end may have been cut off"
    ]
    assert audit(path, KEY, is_backup=True).is_sound


async def test_loss_that_a_daemon_found_is_told_for_ever(path: Path) -> None:
    """Opening the journal makes the mark anew, and the alarm's file can be taken away."""
    with raw(path) as db:
        db.execute("DELETE FROM event WHERE seq > 20")
    async with opened(path):
        pass
    path.with_name(path.name + ".alarm").unlink()

    report = audit(path, KEY)

    assert any("has lost commits" in remark for remark in report.remarks)


async def test_export_shows_that_all_files_were_put_back(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path.parent, tmp_path / "older")
    await go_on(path)
    export = exported(path, tmp_path / "audit.jsonl")

    older = tmp_path / "older" / path.name
    assert audit(older, KEY).is_sound
    report = audit(older, KEY, against=export)

    assert any("the export has event" in finding for finding in report.findings)
    assert any("the export has attempt 21" in finding for finding in report.findings)


async def test_journal_that_went_on_fits_its_export(path: Path, tmp_path: Path) -> None:
    export = exported(path, tmp_path / "audit.jsonl")
    await go_on(path)

    assert audit(path, KEY, against=export).is_sound


@pytest.mark.parametrize("line", [0, 1, 5, -2, -1])
def test_changed_export_is_refused(path: Path, tmp_path: Path, line: int) -> None:
    export = exported(path, tmp_path / "audit.jsonl")
    lines = export.read_text().splitlines(keepends=True)
    without = tmp_path / "without.jsonl"
    without.write_text("".join(one for one in lines if one is not lines[line]))
    lines[line] = lines[line].replace('"', '" ', 1).replace("1", "2", 1)
    export.write_text("".join(lines))

    for file in (export, without):
        with pytest.raises(DamagedError):
            check_export(file, KEY)


def test_export_of_another_instance_is_refused(path: Path, tmp_path: Path) -> None:
    export = exported(path, tmp_path / "audit.jsonl")

    with pytest.raises(DamagedError, match="another instance"):
        check_export(export, b"x" * 32)


def test_what_does_not_verify_is_not_exported(path: Path, tmp_path: Path) -> None:
    with raw(path) as db:
        db.execute("UPDATE event SET data = '{}' WHERE seq = 2")

    with pytest.raises(DamagedError, match="does not verify: event 2"):
        exported(path, tmp_path / "audit.jsonl")


def test_commands_export_and_verify(path: Path, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"

    written = integrationd("audit", "export", export, "--journal", path)
    alone = integrationd("audit", "verify", "--export", export, "--journal", path)
    both = integrationd("audit", "verify", "--against", export, "--journal", path, "--json")

    assert "20 attempts are in" in written.stdout, written.stderr
    assert export.stat().st_mode & 0o777 == 0o600
    assert "verifies" in alone.stdout, alone.stderr
    assert json.loads(both.stdout)["sound"] is True


def test_verify_command_ends_with_1_and_names_what_is_wrong(path: Path) -> None:
    with raw(path) as db:
        db.execute("DELETE FROM attempt WHERE seq = 4")

    told = integrationd("audit", "verify", "--journal", path)

    assert told.returncode == 1
    assert "attempts 4 to 4 are missing" in told.stderr
