"""The commands that look after the journal."""

import json
import subprocess
from pathlib import Path

from tests import program
from tests.journal.cases import raw

CHECKOUT = Path(__file__).parents[2]


def integrationd(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return program.run(*words, directory=CHECKOUT)


def test_commands_back_up_verify_and_restore(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"

    backed_up = integrationd("backup", target, "--journal", path)
    verified = integrationd("verify", "--journal", target, "--json")
    restored = integrationd("restore", target, "--journal", path, "--yes")

    assert backed_up.returncode == 0, backed_up.stderr
    assert "36 calls are in" in backed_up.stdout
    assert json.loads(verified.stdout)["sound"] is True
    assert restored.returncode == 0, restored.stderr
    assert "11 of them may have been delivered since" in restored.stdout


def test_verify_command_ends_with_1_and_says_what_to_do(path: Path, tmp_path: Path) -> None:
    with raw(path) as db:
        db.execute("UPDATE call_body SET payload = x'7b7d' WHERE seq = 4")

    told = integrationd("verify", "--journal", path)
    saved = integrationd("salvage", "--journal", path, "--into", tmp_path / "new.db")

    assert told.returncode == 1
    assert "fails its checksum" in told.stderr
    assert "integrationd salvage" in told.stderr
    assert "35 calls are saved" in saved.stdout
