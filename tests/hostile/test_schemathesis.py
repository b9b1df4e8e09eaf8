"""schemathesis reads the daemon's own OpenAPI document and tries what it says, and what it forbids.

It runs as a process of its own, so that nothing of it gets into this one.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.target import Target

SEED = 20260729
# Besides 4xx: "not available in this version", "not now", and "no answer in time".
EXPECTED = ("2xx", "4xx", "501", "503", "504")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
)
FEWEST_CASES = 1000

_CONFIG = """\
[cache]
enabled = false
[checks.not_a_server_error]
expected-statuses = {expected}
[parameters]
"path.call_id" = {call_id}
"path.name" = "stage"
"path.number" = "1"
"query.tenant" = "default"
"""


@pytest.fixture
def fresh() -> Iterator[Target]:
    """A daemon that nobody has spoken to."""
    directory = Path(tempfile.mkdtemp(prefix="idst"))
    try:
        with Target(directory) as target:
            yield target
            target.stop()
    finally:
        shutil.rmtree(directory)


def explored(target: Target, directory: Path, examples: int, phases: str) -> str:
    """Run schemathesis and return what it said; it must have found nothing."""
    call_id = json.loads(target.post(b'{"operation":"rehearsal.hold"}').body)["id"]
    config = directory / "schemathesis.toml"
    config.write_text(_CONFIG.format(expected=json.dumps(EXPECTED), call_id=json.dumps(call_id)))
    key = target.daemon.journal.with_name("api.key").read_text().strip()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{target.daemon.url}/v1/openapi.json", "--no-color", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {key}", "--request-timeout", "15"),
            *("--checks", ",".join(CHECKS), "--phases", phases),
            *("--seed", str(SEED), "--max-examples", str(examples)),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def check_explored(target: Target, said: str) -> None:
    words = said.split()
    assert int(words[words.index("generated,") - 1]) >= FEWEST_CASES
    assert target.get("/v1/ledger")["balances"]
    assert target.get("/v1/ledger")["total"]["accepted"] > 1
    assert "Traceback" not in target.daemon.log_file.read_text("utf-8", "replace")


def test_schemathesis_finds_no_unexplained_answer(fresh: Target, tmp_path: Path) -> None:
    check_explored(fresh, explored(fresh, tmp_path, 2, "coverage,fuzzing"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_schemathesis_finds_none_however_long_it_looks(fresh: Target, tmp_path: Path) -> None:
    check_explored(fresh, explored(fresh, tmp_path, 60, "coverage,fuzzing,stateful"))
