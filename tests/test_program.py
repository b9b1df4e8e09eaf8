"""The processes that the suite forks are like those that a user starts."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import program
from tests.faults.daemon import DaemonProcess
from tests.reload.rig import short_directory

SECRET = """\
[connections.shop]
provider = "http"
config = { base_url = "http://shop.example", auth = { kind = "bearer", token = "env:TOKEN" } }
"""
ENVIRON = {"TOKEN": "of-the-shop", "NO_COLOR": "1"}
COMMANDS = [
    ("--version",),
    ("config", "check"),
    ("config", "check", "elsewhere.toml"),
    ("nonsense",),
    ("status",),
    ("vault", "set", "a"),
    ("vault", "list", "--json"),
]


@pytest.fixture
def short_path() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def said(directory: Path, words: tuple[str, ...], *, anew: bool) -> tuple[int, str, str]:
    directory.mkdir(exist_ok=True)
    places = f'[api]\nlisten = ""\nsocket = "d.sock"\n[journal]\npath = "j.db"\n{SECRET}'
    (directory / "integrationd.toml").write_text(places)
    done = program.run(*words, directory=directory, environ=ENVIRON, given="\n", anew=anew)
    place = str(directory)
    return done.returncode, done.stdout.replace(place, ""), done.stderr.replace(place, "")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_forked_command_says_what_a_started_one_says(
    short_path: Path, words: tuple[str, ...]
) -> None:
    """It has the directory, the environment, the input and the exit code that belong to it."""
    forked = said(short_path / "a", words, anew=False)
    started = said(short_path / "b", words, anew=True)

    assert forked == started


@pytest.mark.skipif(program.is_covered(), reason="coverage follows no process that is forked")
def test_forked_daemon_is_a_process_of_its_own(short_path: Path) -> None:
    with DaemonProcess(short_path, "") as daemon:
        daemon.start()
        daemon.wait_ready()
        process = daemon._process
        assert isinstance(process, program.Forked)
        assert process.pid != os.getpid()
        assert Path(f"/proc/{process.pid}/cwd").resolve() == short_path.resolve()
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        daemon.kill()

    assert process.wait() == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()


def test_what_a_process_takes_over_when_it_starts_is_not_forked(short_path: Path) -> None:
    with DaemonProcess(short_path, "", environ={"PYTHONHASHSEED": "1"}) as daemon:
        daemon.start()
        assert isinstance(daemon._process, subprocess.Popen)
