"""Shell completion: the scripts, and the protocol that they speak with the program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, Scripted, call

from integrationd.cli.exits import Exit

PROGRAM = "from integrationd.cli import main; main(prog_name='integrationd')"


def completed(line: str, **environ: str) -> list[str]:
    """Return what bash is offered for the end of a command line."""
    words = f"integrationd {line}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "PYTHONPATH": "daemon",
            "_INTEGRATIOND_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
            **environ,
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return [item.removeprefix("plain,") for item in done.stdout.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_printed_for_every_shell(alone: CommandLine, shell: str) -> None:
    result = alone("completion", shell)

    assert result.exit_code == Exit.OK
    assert f"_INTEGRATIOND_COMPLETE={shell}_complete" in result.stdout


def test_other_shells_are_refused(alone: CommandLine) -> None:
    result = alone("completion", "tcsh")

    assert result.exit_code == Exit.USAGE
    assert "'bash', 'zsh', 'fish'" in result.stderr


def test_bash_takes_the_script(alone: CommandLine, tmp_path: Path) -> None:
    script = tmp_path / "integrationd.bash"
    script.write_text(alone("completion", "bash").stdout)

    done = subprocess.run(
        ["bash", "-c", f"source {script} && complete -p integrationd"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "_integrationd_completion" in done.stdout


def test_commands_and_their_options_are_offered() -> None:
    assert completed("pl") == ["plugins"]
    assert completed("plugins ") == ["check", "list", "new"]
    assert "--idempotency-key" in completed("send --")
    assert completed("calls --state com") == ["completed"]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("explain ", "/v1/calls?limit=100"),
        ("cancel ", "/v1/calls?limit=100&state=pending"),
        ("resolve ", "/v1/calls?limit=100&state=unknown"),
    ],
)
def test_calls_that_a_command_makes_sense_for_are_offered(
    daemon: Playback, line: str, path: str
) -> None:
    other = f"1{CALL_ID[1:]}"
    daemon.play({"items": [call(), call(id=other)], "next": None})

    assert completed(line, INTEGRATIOND_SOCKET=str(daemon.path)) == [CALL_ID, other]
    assert [one.path for one in daemon.asked] == [path]


def test_retry_is_offered_failed_and_expired_calls(daemon: Playback) -> None:
    daemon.play({"items": [call()], "next": None}, {"items": [], "next": None})

    assert completed("retry 019", INTEGRATIOND_SOCKET=str(daemon.path)) == [CALL_ID]
    assert [one.path.rpartition("=")[2] for one in daemon.asked] == ["failed", "expired"]


def test_only_what_goes_on_from_what_is_typed_is_offered(daemon: Playback) -> None:
    hostile = {"id": "con\x1b[0m"}
    daemon.play({"items": [{"id": "console"}, {"id": "partner"}, hostile, {}, 3], "next": None})

    offered = completed("send sms.send --connection con", INTEGRATIOND_SOCKET=str(daemon.path))

    assert offered == ["console"]


def test_operations_of_the_loaded_plugins_are_offered(daemon: Playback) -> None:
    operations = [{"name": "sms.send", "summary": "x"}, {"name": "email.send"}]
    daemon.play({"items": [{"code": "console", "operations": operations}], "next": None})

    assert completed("send ", INTEGRATIOND_SOCKET=str(daemon.path)) == ["email.send", "sms.send"]


def test_socket_on_the_command_line_is_asked(daemon: Playback) -> None:
    daemon.play({"items": [call()], "next": None})

    assert completed(f"explain --socket {daemon.path} ") == [CALL_ID]


def test_without_a_daemon_nothing_is_offered_and_nothing_said(short_path: Path) -> None:
    assert completed("explain ", INTEGRATIOND_SOCKET=str(short_path / "none")) == []


def test_rejected_configuration_is_no_reason_to_speak(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[api\n")

    assert completed("explain ", INTEGRATIOND_CONFIG=str(tmp_path / "c.toml")) == []


@pytest.mark.parametrize(
    "answer",
    [
        Scripted({"title": "no"}, status=500),
        Scripted(text=b"not JSON"),
        Scripted(["a list"]),
        Scripted({"items": "none"}),
        Scripted(raw=b""),
    ],
)
def test_daemon_that_answers_nonsense_is_passed_over(daemon: Playback, answer: Scripted) -> None:
    daemon.play(answer)

    assert completed("explain ", INTEGRATIOND_SOCKET=str(daemon.path)) == []
