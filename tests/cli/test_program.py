"""The program as a whole: finding the daemon, and how every fault ends."""

import importlib
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, Scripted, call, problem

from integrationd import __version__
from integrationd.cli.exits import Exit
from integrationd.cli.program import COMMANDS, main
from integrationd.cli.session import Wish, find_daemon
from integrationd.client.address import Address

PROGRAM = [sys.executable, "-m", "integrationd"]
LISTING = {"items": [call()], "next": None}


def started(*args: str, **environ: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*PROGRAM, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "daemon", **environ},
        cwd=Path(__file__).parents[2],
    )


# What is listed


def test_help_lists_all_commands_and_exit_codes(alone: CommandLine) -> None:
    result = alone("--help")

    assert result.exit_code == Exit.OK
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
    assert all(f"{code.value:>3}  {code.meaning}" in result.stdout for code in Exit)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_there_and_explains_itself(alone: CommandLine, name: str) -> None:
    result = alone(name, "--help")

    assert result.exit_code == Exit.OK
    assert f"Usage: integrationd {name}" in result.stdout


def test_every_command_of_a_module_is_listed() -> None:
    program = click.Group()
    for listed in COMMANDS.values():
        importlib.import_module(f"integrationd.cli.{listed.module}").register(program)

    assert set(program.commands) == set(COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, integrationd.cli as cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "print(sorted({'httpx2', 'msgspec', 'pydantic', 'asyncio'} & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": "daemon"}

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environ
    )

    assert told.stdout.splitlines()[-1] == b"[]"


def test_version_is_that_of_the_package(alone: CommandLine) -> None:
    assert alone("--version").stdout == f"integrationd {__version__}\n"


def test_no_command_shows_the_help(alone: CommandLine) -> None:
    result = alone()

    assert result.exit_code == Exit.USAGE
    assert "Usage: integrationd" in result.stderr


# Finding the daemon


def test_socket_option_beats_everything(short_path: Path) -> None:
    found = find_daemon(Wish(socket=Path("/a")), {"INTEGRATIOND_SOCKET": "/b"})

    assert found == Address(socket=Path("/a"))


def test_url_option_beats_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("idk_secret\n")

    found = find_daemon(
        Wish(url="http://127.0.0.1:8700", key_file=tmp_path / "key"), {"INTEGRATIOND_SOCKET": "/b"}
    )

    assert found == Address(url="http://127.0.0.1:8700", key="idk_secret")
    assert "idk_secret" not in repr(found)


def test_environment_beats_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[api]\nsocket = "d.sock"\n')
    environ = {"INTEGRATIOND_SOCKET": "/b", "INTEGRATIOND_CONFIG": str(tmp_path / "c.toml")}

    assert find_daemon(Wish(), environ) == Address(socket=Path("/b"))


def test_configuration_on_the_command_line_beats_the_environment(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[api]\nsocket = "d.sock"\n')

    found = find_daemon(Wish(config=tmp_path / "c.toml"), {"INTEGRATIOND_SOCKET": "/b"})

    assert found == Address(socket=tmp_path / "d.sock")


def test_configuration_without_a_socket_leads_to_tcp(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[api]\nsocket = ""\nkey_file = "k"\n')
    (tmp_path / "k").write_text("idk_1\n")

    found = find_daemon(Wish(config=tmp_path / "c.toml"), {})

    assert found == Address(url="http://127.0.0.1:8700", key="idk_1")


def test_without_any_configuration_the_usual_socket_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    found = find_daemon(Wish(), {})

    assert found == Address(socket=Path("/run/integrationd/integrationd.sock"))


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--socket", "/a", "--url", "http://b"], "not with both"),
        (["--socket", "/a", "--key-file", "/k"], "goes with --url"),
        (["--url", "ftp://b"], "is not http:// or https://"),
        (["--url", "http://b:99999999"], "is not http:// or https://"),
        (["--url", "http://a..b"], "is not http:// or https://"),
        (["--url", "http://user@b"], "is not http:// or https://"),
        (["--url", "http://b", "--key-file", "/nowhere/k"], "No such file"),
        (["--url", "http://b", "--key-file", "/dev/null"], "does not hold an API key"),
    ],
)
def test_a_wish_that_makes_no_sense_is_a_usage_error(
    alone: CommandLine, args: list[str], reason: str
) -> None:
    result = alone("status", *args)

    assert result.exit_code == Exit.USAGE
    assert reason in result.stderr
    assert "hint: See 'integrationd status --help'." in result.stderr


def test_a_rejected_configuration_names_the_line_and_the_way_round(
    alone: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("[api\n")

    result = alone("status", "--config", str(tmp_path / "c.toml"))

    assert result.exit_code == Exit.CONFIG
    assert "line 1" in result.stderr
    assert "--socket" in result.stderr


# Faults


def test_a_missing_socket_says_how_to_start_the_daemon(
    alone: CommandLine, short_path: Path
) -> None:
    result = alone("status", "--socket", str(short_path / "none"))

    assert result.exit_code == Exit.UNREACHABLE
    assert result.stderr.splitlines() == [
        f"error: the daemon cannot be reached: there is no socket {short_path}/none",
        "hint: Start it with 'integrationd run', or say where it listens with --socket or --url.",
    ]


def test_a_socket_left_over_says_that_nothing_listens(alone: CommandLine, short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(short_path / "old"))

        result = alone("status", "--socket", str(short_path / "old"))

    assert result.exit_code == Exit.UNREACHABLE
    assert "nothing listens on the socket" in result.stderr


def test_a_socket_path_that_is_too_long_is_told(alone: CommandLine, short_path: Path) -> None:
    result = alone("status", "--socket", str(short_path / ("x" * 200)))

    assert result.exit_code == Exit.UNREACHABLE
    assert "too long" in result.stderr


def test_a_refused_address_is_told(alone: CommandLine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        result = alone("status", "--url", f"http://127.0.0.1:{free.getsockname()[1]}")

    assert result.exit_code == Exit.UNREACHABLE
    assert "connection refused" in result.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_forbidden_socket_says_who_may_use_it(short_path: Path, daemon: Playback) -> None:
    daemon.path.chmod(0o600)
    short_path.chmod(0o755)
    code = (
        "import os; os.setuid(65534)\n"
        "from integrationd.cli import main\n"
        f"main(['status', '--socket', '{daemon.path}'])"
    )
    # All is imported before the user changes, who may not be able to read the checkout.
    preload = "import integrationd.cli.status, encodings.idna, httpcore2, sys\n"
    environ = {**os.environ, "PYTHONPATH": "daemon"}

    told = subprocess.run(
        [sys.executable, "-c", preload + code], capture_output=True, check=False, env=environ
    )

    assert told.returncode == Exit.UNREACHABLE, told.stderr
    assert b"you may not use the socket" in told.stderr


def test_a_wrong_key_is_told_with_the_daemons_own_hint(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(problem(401, "key_wrong", "the API key is wrong", hint="See /var/api.key."))

    result = command("status")

    assert result.exit_code == Exit.PROBLEM
    assert result.stderr == "error: the API key is wrong\nhint: See /var/api.key.\n"
    assert result.stdout == ""


def test_a_problem_with_json_is_printed_unchanged(command: CommandLine, daemon: Playback) -> None:
    scripted = problem(404, "not_found", "there is no such call")
    daemon.play(scripted)

    result = command("explain", CALL_ID, "--json")

    assert result.exit_code == Exit.PROBLEM
    assert result.stdout_bytes == scripted.bytes() + b"\n"
    assert "there is no such call" in result.stderr


def test_a_problem_cannot_steer_the_terminal(command: CommandLine, daemon: Playback) -> None:
    daemon.play(problem(422, "invalid", "no \x1b[2J\u202e", pointer="/payload/\x07"))

    result = command("status")

    assert result.stderr == "error: no \\x1b[2J\\u202e (at /payload/\\x07)\n"


@pytest.mark.parametrize(
    "scripted",
    [
        Scripted(text=b"<html>", status=502),
        Scripted(text=b"<html>"),
        Scripted([]),
        Scripted({}, status=302, headers={"Location": "/x"}),
        Scripted(text=b"[" * 100_000),
    ],
)
def test_something_else_that_listens_there_is_recognised(
    command: CommandLine, daemon: Playback, scripted: Scripted
) -> None:
    daemon.play(scripted)

    result = command("status")

    assert result.exit_code == Exit.PROBLEM
    assert "not as integrationd does" in result.stderr


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", b"\0\r\n\r\n"]
)
def test_a_daemon_that_breaks_off_is_told(
    command: CommandLine, daemon: Playback, raw: bytes
) -> None:
    daemon.play(Scripted(raw=raw))

    result = command("status")

    assert result.exit_code == Exit.UNREACHABLE
    assert "broke off" in result.stderr


def test_an_argument_that_is_not_utf8_is_told(command: CommandLine) -> None:
    result = command("calls", "--operation", "\udcff")

    assert result.exit_code == Exit.USAGE
    assert "not UTF-8" in result.stderr


# The process


def test_a_reader_that_stops_reading_ends_it_quietly(daemon: Playback) -> None:
    items = [call(detail="x" * 2000) for _ in range(200)]
    daemon.play({"items": items, "next": None})

    process = started("calls", INTEGRATIOND_SOCKET=str(daemon.path))
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, told = process.communicate(timeout=20)

    assert (process.returncode, told) == (Exit.BROKEN_PIPE, b"")


def test_a_full_disk_behind_the_output_is_told(daemon: Playback) -> None:
    daemon.play(LISTING)
    environ = {**os.environ, "PYTHONPATH": "daemon", "INTEGRATIOND_SOCKET": str(daemon.path)}

    with Path("/dev/full").open("wb") as full:
        told = subprocess.run(
            [*PROGRAM, "calls"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env=environ,
            timeout=20,
        )

    assert told.returncode == Exit.PROBLEM
    assert told.stderr.splitlines() == [
        b"error: the output cannot be written: no space left on device"
    ]


def test_ctrl_c_ends_it_without_a_traceback(daemon: Playback) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    daemon.play(Scripted(raw=b"", before=lambda: _interrupt(processes)))

    processes.append(started("status", INTEGRATIOND_SOCKET=str(daemon.path)))
    output, told = processes[0].communicate(timeout=20)

    assert processes[0].returncode == Exit.INTERRUPTED
    assert (output, told.strip()) == (b"", b"")


def _interrupt(processes: list["subprocess.Popen[bytes]"]) -> None:
    processes[0].send_signal(signal.SIGINT)
    processes[0].wait(timeout=20)


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("X", "1")])
def test_colour_is_for_terminals_of_people_who_want_it(
    daemon: Playback, variable: str, value: str
) -> None:
    daemon.play(LISTING)
    leader, follower = pty.openpty()
    environ = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    environ |= {"PYTHONPATH": "daemon", "INTEGRATIOND_SOCKET": str(daemon.path), variable: value}

    subprocess.run([*PROGRAM, "calls"], stdout=follower, check=True, env=environ, timeout=20)
    os.close(follower)
    shown = os.read(leader, 10_000)
    os.close(leader)

    assert (b"\x1b[" in shown) == (variable == "X")
    assert CALL_ID.encode() in shown


@pytest.mark.parametrize(
    ("typed", "args", "code"),
    [(b"n\n", [], Exit.PROBLEM), (b"y\n", [], Exit.OK), (b"", ["--yes"], Exit.OK)],
)
def test_repeat_is_confirmed_by_the_person_at_the_terminal(
    daemon: Playback, typed: bytes, args: list[str], code: Exit
) -> None:
    daemon.play(call(state="pending"))
    leader, follower = pty.openpty()
    os.write(leader, typed)

    told = subprocess.run(
        [*PROGRAM, "resolve", CALL_ID, "--as", "repeat", *args],
        stdin=follower,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": "daemon", "INTEGRATIOND_SOCKET": str(daemon.path)},
        timeout=20,
    )
    os.close(leader)
    os.close(follower)

    assert told.returncode == code
    assert (b"may have arrived" in told.stderr) == (not args)
    assert bool(daemon.asked) == (code == Exit.OK)


def test_not_standalone_leaves_the_ending_to_the_caller(short_path: Path) -> None:
    with pytest.raises(click.ClickException):
        main(["status", "--socket", str(short_path / "none")], standalone_mode=False)
