"""As a new user: the daemon as ``make run`` starts it, and the README's commands beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.daemon import STOP_S, free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FENCED = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
RECIPE = re.compile(r"^run:.*\n\t@exec \$\(BIN\)/integrationd (.*)$", re.MULTILINE)
SHIPPED_ADDRESS = "127.0.0.1:8700"
PROGRAM = Path(sys.executable).with_name("integrationd")


def blocks_with(word: str) -> list[str]:
    return [block for block in FENCED.findall(README) if word in block]


class Shell:
    """Runs what a user types, in the directory that stands for the checkout."""

    def __init__(self, directory: Path, address: str) -> None:
        self._directory = directory
        self._address = address

    def __call__(self, typed: str) -> str:
        """Run it and return what it printed."""
        environ = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-e", "-c", typed.replace(SHIPPED_ADDRESS, self._address)],
            cwd=self._directory,
            env=environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{typed}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def shell(short_path: Path) -> Iterator[Shell]:
    """A checkout in which the daemon runs with the shipped configuration, on another port."""
    recipe = RECIPE.search((ROOT / "Makefile").read_text())
    assert recipe
    shutil.copy(ROOT / "integrationd.toml", short_path)
    address = f"127.0.0.1:{free_port()}"
    environ = {**os.environ, "INTEGRATIOND_API__LISTEN": address}
    with subprocess.Popen(
        [PROGRAM, *recipe[1].split()],
        cwd=short_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        greeting = [process.stdout.readline() for _ in range(5)]
        try:
            assert f"http://{address}" in greeting[2]
            yield Shell(short_path, address)
        finally:
            process.terminate()
            printed = process.communicate(timeout=STOP_S)[0]
    assert process.returncode == 0
    assert "+254711000111" in printed


def test_greeting_names_the_places_and_a_line_to_try(short_path: Path) -> None:
    shutil.copy(ROOT / "integrationd.toml", short_path)
    environ = {**os.environ, "INTEGRATIOND_API__LISTEN": f"127.0.0.1:{free_port()}"}
    with subprocess.Popen(
        [PROGRAM, "run", "--config", "integrationd.toml"],
        cwd=short_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        greeting = [process.stdout.readline() for _ in range(5)]
        try:
            answer = subprocess.run(
                ["sh", "-c", greeting[4]], check=True, capture_output=True, timeout=30
            )
        finally:
            process.terminate()
            process.communicate(timeout=STOP_S)

    assert "integrationd.sock" in greeting[1]
    assert "key in" in greeting[2]
    assert json.loads(answer.stdout)["operation"] == "sms.send"


def test_readme_is_true(shell: Shell) -> None:
    curls = blocks_with("curl")
    assert len(curls) == 3
    short, tcp, long = (json.loads(shell(block)) for block in curls)
    again = json.loads(shell(curls[2]))

    assert short["state"] == "pending"
    assert (tcp["operation"], tcp["state"]) == ("email.send", "completed")
    assert (long["priority"], long["reference"]) == ("high", {"type": "order", "id": "4711"})
    assert again["id"] == long["id"]

    (commands,) = blocks_with("integrationd explain ID")
    told = shell(commands.replace("ID", short["id"]))
    assert short["id"] in told
    listed = json.loads(shell("integrationd calls --json"))["items"]
    assert {call["state"] for call in listed if call["id"] != long["id"]} == {"completed"}
    assert {short["id"], tcp["id"], long["id"]} <= {call["id"] for call in listed}
    explained = shell(f"integrationd explain {short['id']}")
    assert "completed" in explained
    assert "console" in explained


def test_readme_explains_the_commands_that_settle_calls(shell: Shell) -> None:
    shell(blocks_with("curl")[0])

    assert "integrationd.toml" in shell("integrationd config check")
    assert "console" in shell("integrationd connections")
