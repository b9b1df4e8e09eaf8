"""docs/payments.md as a new user goes through it, against ``make demo``."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.faults.daemon import STOP_S, free_port

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "payments.md").read_text()
BLOCKS: list[str] = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
SETTLE_S = 40.0
ENDS = {
    "1": ("failed", "insufficient_funds"),
    "2": ("failed", "cancelled"),
    "3": ("completed", "confirmed"),
    "4": ("completed", "confirmed"),
    "5": ("unknown", "connection_lost"),
    "6": ("completed", "confirmed"),
}


def block_with(word: str) -> str:
    (found,) = [block for block in BLOCKS if word in block]
    return found


@pytest.fixture
def shell(short_path: Path) -> Iterator[Callable[[str], str]]:
    """A checkout in which ``make demo`` runs, and a second terminal."""
    program = Path(sys.executable)
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}"}
    environ |= {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    environ |= {"INTEGRATIOND_SOCKET": f"{short_path}/var/demo/integrationd.sock"}

    def typed(text: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", text],
            cwd=short_path,
            env=environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    log = short_path / "demo.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [program, "-m", "tests.money.demo"],
            cwd=short_path,
            env={**environ, "DEMO_HOOKS_PORT": str(free_port())},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait((short_path / "var/demo/integrationd.sock").exists)
            yield typed
        finally:
            process.terminate()
            process.wait(STOP_S)
    assert process.returncode == 0, log.read_text()
    assert "is prompted for KES 2500" in log.read_text()


def _wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + SETTLE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


def _calls(at: Path) -> dict[str, dict[str, Any]]:
    """Return the calls by the last digit of the phone that was prompted."""
    socket = httpx2.HTTPTransport(uds=str(at / "var/demo/integrationd.sock"))
    with httpx2.Client(transport=socket, base_url="http://localhost/v1") as client:
        listed = client.get("/calls").json()["items"]
        full = [client.get(f"/calls/{one['id']}").json() for one in listed]
    return {one["payload"]["customer"]["phone"][-1]: one for one in full}


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guide uses curl")
def test_payments_guide_is_true(shell: Callable[[str], str], short_path: Path) -> None:
    asked = json.loads(shell(block_with("curl")))
    assert asked["state"] == "waiting"
    assert "PIN" in asked["result"]["instructions"]

    shell(block_with("for digit"))
    _wait(lambda: all(_calls(short_path)[digit]["state"] == ENDS[digit][0] for digit in ENDS))

    calls = _calls(short_path)
    assert {digit: (calls[digit]["state"], calls[digit]["reason"]) for digit in ENDS} == ENDS
    assert calls["0"]["result"]["receipt"]
    assert [calls[digit]["tries"] for digit in sorted(calls)] == [1] * 7
    assert "prompt.paid" in shell("integrationd webhooks list")
    assert "receipt" in shell(f"integrationd explain {asked['id']}")

    resolve = block_with("integrationd resolve").replace("ID", calls["5"]["id"])
    shell(resolve.replace("integrationd resolve", "integrationd resolve --yes"))
    assert _calls(short_path)["5"]["state"] == "completed"
