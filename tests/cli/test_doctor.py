"""``doctor``: one line for each finding, an exit code for all, and never a traceback."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import NOW, CommandLine, Playback

from integrationd import __version__
from integrationd.cli.checkup import Case, Finding, Level, findings_of, ok
from integrationd.cli.checkup_files import (
    check_alarm,
    check_api_key,
    check_directory,
    check_instance_key,
    check_journal_files,
)
from integrationd.cli.checkup_set_up import (
    check_daemon,
    check_listener,
    check_plugins,
    check_references,
    check_socket,
)
from integrationd.cli.exits import Exit
from integrationd.clock import SystemClock
from integrationd.settings import load

KEY = "0123456789abcdef" * 4
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def place(short_path: Path) -> Path:
    """A directory of the daemon's own, with a journal as a running daemon leaves it."""
    path = short_path / "var"
    path.mkdir(mode=0o750)
    for name in ("journal.db", "journal.db.mark", "journal.db.lock"):
        written(path / name, "")
    written(path / "instance.key", KEY)
    written(path / "api.key", "idk_made-up")
    return path


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def configured(place: Path, more: str = "", listen: str = "") -> Path:
    content = f'[api]\nlisten = "{listen}"\nsocket = "{place}/d.sock"\n'
    content += f'[journal]\npath = "{place}/journal.db"\n{more}'
    return written(place.parent / "integrationd.toml", content)


def case_of(place: Path, more: str = "", listen: str = "", **known: Any) -> Case:
    path = configured(place, more, listen)
    known = {"environ": {}, "clock": SystemClock(), **known}
    return Case(config=path, settings=load(path, {}), **known)


def levels(findings: Iterator[Finding]) -> list[str]:
    return [f"{one.level} {one.subject}" for one in findings]


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


# The command


def test_sound_machine_ends_well(alone: CommandLine, place: Path) -> None:
    # The journal's times are the machine's; the command line's clock stands still.
    for path in (*place.iterdir(), place):
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))

    found = json.loads(alone("doctor", "--json", "--config", str(configured(place))).stdout)

    bad = [one for one in found["findings"] if one["level"] == "problem"]
    assert {one["subject"] for one in bad} <= {"clock", "file system"}
    assert {"subject": "API key", "level": "ok"}.items() <= next(
        one for one in found["findings"] if one["subject"] == "API key"
    ).items()


def test_process_tells_line_by_line_and_ends_with_the_exit_code(place: Path) -> None:
    (place / "instance.key").chmod(0o644)

    done = subprocess.run(
        [sys.executable, "-m", "integrationd", "doctor", "--config", str(configured(place))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": "daemon"},
        cwd=Path(__file__).parents[2],
    )

    assert done.returncode == Exit.PROBLEM
    assert done.stderr == ""
    *lines, summary = done.stdout.splitlines()
    assert {line.partition(" ")[0] for line in lines} <= set(Level)
    assert f"ok       program: integrationd {__version__}" in done.stdout
    assert f"problem  instance key: {place}/instance.key is open to others" in done.stdout
    assert f"Run: chmod 600 {place}/instance.key" in done.stdout
    assert "problem" in summary


def test_rejected_configuration_is_a_problem_and_the_machine_is_still_checked(
    alone: CommandLine, tmp_path: Path
) -> None:
    path = written(tmp_path / "c.toml", '[api]\nlisten = "0.0.0.0:1"\n[journl]\n')

    result = alone("doctor", "--config", str(path))

    assert result.exit_code == Exit.PROBLEM
    assert "problem  configuration: api.listen: 0.0.0.0 is not a loopback address" in result.stdout
    assert "problem  configuration: journl: is unknown" in result.stdout
    assert "SQLite: " in result.stdout
    assert "2 problems" in result.stdout.splitlines()[-1]


def test_missing_configuration_is_a_problem(
    alone: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = alone("doctor")

    assert result.exit_code == Exit.PROBLEM
    assert "problem  configuration: there is no configuration" in result.stdout


def test_check_that_raises_becomes_a_finding(place: Path) -> None:
    def check_the_moon(_case: Case) -> Iterator[Finding]:
        yield ok("moon", "is up")
        raise OSError("it fell down")

    def check_the_sun(_case: Case) -> Iterator[Finding]:
        yield ok("sun", "is up")

    found = list(findings_of([check_the_moon, check_the_sun], case_of(place)))

    assert [one.level for one in found] == [Level.PROBLEM, Level.OK]
    assert found[0].subject == "the moon"
    assert found[0].found == "could not be looked at: OSError: it fell down"


# Files


def test_files_of_their_owner_alone_are_ok(place: Path) -> None:
    case = case_of(place)
    checks = (
        check_directory,
        check_journal_files,
        check_instance_key,
        check_api_key,
        check_alarm,
    )

    found = list(findings_of(checks, case))

    assert [one.level for one in found] == [Level.OK] * 5


def test_nothing_there_yet_is_ok_where_it_can_be_made(short_path: Path) -> None:
    case = case_of(short_path / "none")

    found = list(findings_of((check_directory, check_journal_files, check_instance_key), case))

    assert [one.level for one in found] == [Level.OK] * 3
    assert all("the first start makes it" in one.found for one in found)


@pytest.mark.parametrize(("mode", "level"), [(0o777, "problem"), (0o755, "warning")])
def test_directory_open_to_others_is_told(place: Path, mode: int, level: str) -> None:
    place.chmod(mode)

    found = only(check_directory(case_of(place)))

    assert (found.level, found.subject) == (level, "directory")
    assert found.advice.startswith("Run: chmod o-")


def test_directory_that_is_a_file_is_a_problem(short_path: Path) -> None:
    (short_path / "var").touch()

    found = only(check_directory(case_of(short_path / "var")))

    assert "is not a directory" in found.found


@pytest.mark.parametrize(("mode", "level"), [(0o604, "problem"), (0o640, "warning")])
@pytest.mark.parametrize("name", ["journal.db", "journal.db.mark"])
def test_journal_open_to_others_is_told(place: Path, name: str, mode: int, level: str) -> None:
    (place / name).chmod(mode)

    found = only(check_journal_files(case_of(place)))

    assert found.level == level
    assert found.advice == f"Run: chmod 600 {place / name}"


@ROOT_ONLY
def test_file_of_another_user_is_a_problem(place: Path) -> None:
    os.chown(place / "journal.db.mark", 65_534, -1)

    found = only(check_journal_files(case_of(place)))

    assert "the daemon may not be able to write it" in found.found
    assert found.advice == f"Run: chown root {place}/journal.db.mark"


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (None, 0, "is missing beside an existing journal"),
        (KEY, 0o640, "is open to others"),
        ("short", 0o600, "does not hold a key"),
        ("", 0o600, "is empty"),
    ],
)
def test_instance_key_that_cannot_serve_is_a_problem(
    place: Path, text: str | None, mode: int, reason: str
) -> None:
    (place / "instance.key").unlink()
    if text is not None:
        written(place / "instance.key", text, mode)

    found = only(check_instance_key(case_of(place)))

    assert found.level is Level.PROBLEM
    assert reason in found.found


def test_api_key_open_to_others_is_a_problem(place: Path) -> None:
    (place / "api.key").chmod(0o644)

    assert only(check_api_key(case_of(place))).level is Level.PROBLEM


def test_alarm_is_a_problem_until_it_is_acknowledged(place: Path) -> None:
    written(place / "journal.db.alarm", "The journal has lost commits.\n")

    found = only(check_alarm(case_of(place)))

    assert (found.level, found.found) == (Level.PROBLEM, "The journal has lost commits.")
    assert "--acknowledge" in found.advice


def test_missing_mark_is_warned_of(place: Path) -> None:
    (place / "journal.db.mark").unlink()

    assert levels(check_alarm(case_of(place))) == ["warning high-water mark"]


# Secrets, plugins and connections

PARTNER = '[connections.partner]\nprovider = "http"\nconfig = { base_url = "env:NOT_SET" }\n'


def test_secret_that_cannot_be_read_is_told_once(place: Path) -> None:
    case = case_of(place, PARTNER)

    assert levels(check_references(case)) == ["problem secrets"]
    assert levels(check_plugins(case)) == []


def test_secret_that_only_the_running_daemon_has_is_a_warning(place: Path) -> None:
    assert levels(check_references(case_of(place, PARTNER, status={}))) == ["warning secrets"]


def test_secrets_that_can_be_read_are_counted(place: Path) -> None:
    case = case_of(place, PARTNER, environ={"NOT_SET": "https://partner.example"})

    assert only(check_references(case)).found == "1 reference can be read"
    assert only(check_plugins(case)).found == "partner"


def test_plugin_that_exits_is_told_and_does_not_end_the_check_up(place: Path) -> None:
    bad = written(place / "bad.py", "import os\nos._exit(0)\n")
    more = f'[plugins]\npaths = ["{bad}"]\n[connections.a]\nprovider = "nobody"\n'

    found = list(check_plugins(case_of(place, more)))

    assert [one.level for one in found] == [Level.PROBLEM, Level.PROBLEM, Level.WARNING]
    assert "bad.py: ended the process with code 0" in found[0].found
    assert "no sound plugin has the code 'nobody'" in found[1].found


def test_config_that_a_provider_refuses_is_a_problem(place: Path) -> None:
    more = '[connections.partner]\nprovider = "http"\nconfig = { base_url = "ftp://x" }\n'

    found = only(check_plugins(case_of(place, more)))

    assert found.level is Level.PROBLEM
    assert found.found.startswith("connections.partner.config.base_url: must be http://")


# Listeners and the daemon


def test_free_socket_is_ok(place: Path) -> None:
    assert levels(check_socket(case_of(place))) == ["ok socket"]


def test_socket_left_over_is_warned_of(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(place / "d.sock"))

    found = only(check_socket(case_of(place)))

    assert found.level is Level.WARNING
    assert "was left over" in found.found


def test_file_in_the_sockets_place_is_a_problem(place: Path) -> None:
    (place / "d.sock").touch()

    assert levels(check_socket(case_of(place))) == ["problem socket"]


def test_socket_that_nobody_answers_on_is_a_problem(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / "d.sock"))
        silent.listen()

        found = only(check_socket(case_of(place)))

    assert found.level is Level.PROBLEM
    assert "does not answer" in found.found


def test_free_address_is_ok(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert levels(check_listener(case_of(place, listen=f"127.0.0.1:{port}"))) == ["ok TCP"]


def test_address_of_another_program_is_a_problem(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.listen()
        server.settimeout(10)

        found = only(check_listener(case_of(place, listen=f"127.0.0.1:{port}")))

    assert found.level is Level.PROBLEM
    assert "is taken by another program" in found.found


def test_running_daemon_is_asked_how_it_is(
    alone: CommandLine, daemon: Playback, place: Path
) -> None:
    path = written(
        place.parent / "c.toml",
        f'[api]\nlisten = ""\nsocket = "{daemon.path}"\n[journal]\npath = "{place}/journal.db"\n',
    )
    daemon.play({"version": __version__, "status": "attention", "problems": ["A disk is full."]})

    result = alone("doctor", "--config", str(path))

    assert [one.path for one in daemon.asked] == ["/v1/status"]
    assert "warning  daemon: A disk is full. See: integrationd status" in result.stdout
    assert f"ok       socket: {daemon.path} is served by the running daemon" in result.stdout


def test_daemon_of_another_version_is_warned_of(place: Path) -> None:
    case = case_of(place, status={"version": "0.0.1", "status": "ok", "problems": []})

    found = only(check_daemon(case))

    assert found.level is Level.WARNING
    assert f"but {__version__} is installed" in found.found
