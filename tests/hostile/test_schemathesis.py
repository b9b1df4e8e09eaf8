"""schemathesis reads the daemon's own OpenAPI document and tries what it says, and what it forbids.

It runs as a process of its own, so that nothing of it gets into this one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import openapi_spec_validator
import pytest
from tests.hostile.target import Target

SEED = 20260729
EXPLORE_S = int(os.environ.get("INTEGRATIOND_EXPLORE_S", "300"))
FEWEST_CASES = 1000
# "Not available in this version", "not now", and "no answer in time".
EXPLAINED = ("501", "503", "504")
# What a schema allows may still mean nothing here, such as a connection that does not exist.
REFUSED = ("2xx", "401", "403", "404", "405", "409", "410", "422", "429", *EXPLAINED)

_TRACEBACK = re.compile(r"^Traceback.*?(?=^\S*\d{4}-|\Z)", re.MULTILINE | re.DOTALL)
_CONFIG = """\
[cache]
enabled = false
[checks.not_a_server_error]
expected-statuses = {expected}
[checks.positive_data_acceptance]
expected-statuses = {refused}
[parameters]
"path.name" = "stage"
"path.number" = "1"
"path.category" = "rehearsal"
"query.tenant" = "default"
{places}
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


def furnished(target: Target) -> dict[str, str]:
    """Make one of each thing that has an id, and return the ids by the names in paths."""
    over = httpx2.HTTPTransport(uds=str(target.daemon.socket))
    with httpx2.Client(transport=over, base_url="http://localhost/v1", timeout=20) as client:

        def made(path: str, body: Mapping[str, Any]) -> str:
            answer = client.post(path, json=body)
            assert answer.status_code in (201, 202), answer.text
            return str(answer.json()["id"])

        return {
            "call_id": json.loads(target.post(b'{"operation":"rehearsal.hold"}').body)["id"],
            "key_id": made("/keys", {"name": "spare", "role": "read"}),
            "tenant_id": made("/tenants", {"id": "spare"}),
            "subscription": made("/subscriptions", {"url": "https://shop.example/"}),
        }


def explored(target: Target, directory: Path, *options: str) -> str:
    """Run schemathesis with all of its checks and return what it said; it must find nothing."""
    places = furnished(target)
    config = directory / "schemathesis.toml"
    lines = (f'"path.{name}" = {json.dumps(place)}' for name, place in places.items())
    config.write_text(
        _CONFIG.format(
            expected=json.dumps(["2xx", "4xx", *EXPLAINED]),
            refused=json.dumps(REFUSED),
            places="\n".join(lines),
        )
    )
    key = target.daemon.journal.with_name("api.key").read_text().strip()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{target.daemon.url}/v1/openapi.json", "--no-color", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {key}"),
            # What only reads waits for 10 s.
            *("--request-timeout", "15", "--max-response-time", "14"),
            # Ids stand fixed in the configuration, so what was made last is not what is looked at.
            *("--checks", "all", "--exclude-checks", "ensure_resource_availability"),
            *("--seed", str(SEED), *options),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:] + tracebacks(target)
    return done.stdout


def tracebacks(target: Target) -> str:
    """Return the first of what the daemon did not expect."""
    found = _TRACEBACK.findall(target.daemon.log_file.read_text("utf-8", "replace"))
    return "\n".join(found[:2])[-6000:]


def check_explored(target: Target, said: str) -> None:
    words = said.split()
    tested, selected = words[words.index("Tested:") + 1], words[words.index("Selected:") + 1]
    assert selected.startswith(f"{tested}/")
    assert int(words[words.index("generated,") - 1]) >= FEWEST_CASES
    assert target.get("/v1/ledger")["balances"]
    assert target.get("/v1/ledger")["total"]["accepted"] > 1
    assert not tracebacks(target)


def test_document_of_the_live_daemon_is_valid(fresh: Target) -> None:
    openapi_spec_validator.validate(fresh.get("/v1/openapi.json"))


def test_schemathesis_finds_no_unexplained_answer(fresh: Target, tmp_path: Path) -> None:
    # The other addresses of the same routes have their turn below.
    options = ("--phases", "coverage,fuzzing", "--max-examples", "1")
    said = explored(fresh, tmp_path, *options, "--include-path-regex", "^/(v1/|[a-z]+$)")
    check_explored(fresh, said)


@pytest.mark.slow
@pytest.mark.timeout(EXPLORE_S + 300)
def test_schemathesis_finds_none_however_long_it_looks(fresh: Target, tmp_path: Path) -> None:
    options = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "20")
    check_explored(fresh, explored(fresh, tmp_path, *options, "--max-time", str(EXPLORE_S)))
