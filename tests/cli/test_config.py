"""``config check`` and ``run``: what stands on the command line before any daemon does."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.cli.conftest import CommandLine

from integrationd.cli.exits import Exit

CHECKOUT = Path(__file__).parents[2]
CONSOLE = '[connections.console]\nprovider = "console"\n'
PARTNER = """
[connections.partner]
provider = "http"
config = { base_url = "https://partner.example" }
"""


def written(directory: Path, content: str) -> str:
    path = directory / "integrationd.toml"
    path.write_text(content)
    return str(path)


def as_json(command: CommandLine, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("config", "check", "--json", *args).stdout)
    return found


def test_check_sums_a_sound_configuration_up(alone: CommandLine, tmp_path: Path) -> None:
    path = written(tmp_path, CONSOLE + PARTNER + '[routes."sms.send"]\norder = ["console"]\n')

    result = alone("config", "check", path)

    assert result.exit_code == Exit.OK
    assert result.stderr == ""
    assert f"{path}: ok" in result.stdout
    assert "console     console   sandbox      email.send, push.send, sms.send" in result.stdout
    providers = "africastalking, console, http, mpesa, paystack, smtp, stripe"
    assert f"Providers: {providers}" in result.stdout
    assert "Routes: sms.send -> console" in result.stdout


def test_check_of_the_shipped_configuration_finds_nothing(alone: CommandLine) -> None:
    found = as_json(alone, str(CHECKOUT / "integrationd.toml"))

    assert found["ok"]
    assert found["warnings"] == []


def test_check_with_json_tells_all_that_it_found(alone: CommandLine, tmp_path: Path) -> None:
    path = written(tmp_path, CONSOLE)

    found = as_json(alone, path)

    assert found["ok"]
    assert found["file"] == path
    assert found["problems"] == []
    assert found["connections"][0]["id"] == "console"
    assert "sms.send" in found["connections"][0]["operations"]
    assert "http.request" in found["unserved"]


def test_check_lists_the_problems_of_file_secrets_and_providers_together(
    alone: CommandLine, tmp_path: Path
) -> None:
    path = written(
        tmp_path,
        CONSOLE
        + '[connections.a]\nprovider = "http"\nconfig = { base_url = "env:NOT_SET" }\n'
        + '[connections.b]\nprovider = "nobody"\n'
        + '[connections.c]\nprovider = "http"\nconfig = { base_url = "ftp://x" }\n'
        + '[connections.d]\nprovider = "console"\nconfig = { channel = "stdout" }\n',
    )

    result = alone("config", "check", path)

    assert result.exit_code == Exit.CONFIG
    assert result.stdout == ""
    for where, reason in {
        "connections.a.config.base_url": "environment variable NOT_SET is not set",
        "connections.b.provider": "no plugin has the code 'nobody'",
        "connections.c.config.base_url": "must be http:// or https://",
        "connections.d.config.channel": "is not known to this provider",
    }.items():
        assert any(where in line and reason in line for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[api\n", "line 1"),
        ('[api]\nlisten = "0.0.0.0:1"\n', "api.listen"),
        ("[apy]\n", "apy"),
        ('[routes."sms.send"]\norder = ["none"]\n', 'routes."sms.send".order[0]'),
    ],
)
def test_check_names_the_place_of_a_problem(
    alone: CommandLine, tmp_path: Path, content: str, where: str
) -> None:
    found = as_json(alone, written(tmp_path, content))

    assert not found["ok"]
    assert where in found["problems"][0]["where"]
    assert alone("config", "check", written(tmp_path, content)).exit_code == Exit.CONFIG


def door(directory: Path, url: str, secret: str) -> str:
    """Return ``[app]`` with a secret in a file of its own, if there is any."""
    path = directory / "app.secret"
    if secret:
        path.write_text(secret)
        path.chmod(0o600)
    return f'[app]\nevents_url = "{url}"\nsecret = "file:{path}"\n'


@pytest.mark.parametrize(
    ("url", "secret", "told"),
    [
        ("http://127.0.0.1:3000/", "", "app.secret: "),
        ("http://127.0.0.1:3000/", "whsec_abc", "app: what follows whsec_ in a secret is"),
        ("http://user@127.0.0.1/", f"whsec_{'A' * 40}", "app"),
    ],
)
def test_check_names_what_is_wrong_with_the_apps_own_door_as_it_was_written(
    alone: CommandLine, tmp_path: Path, url: str, secret: str, told: str
) -> None:
    result = alone("config", "check", written(tmp_path, door(tmp_path, url, secret)))

    assert result.exit_code == Exit.CONFIG
    assert f"\n  {told}" in result.stderr
    assert "subscription" not in result.stderr


def test_check_counts_no_connection_that_nobody_wrote(alone: CommandLine, tmp_path: Path) -> None:
    app = door(tmp_path, "unix:/run/app.sock", f"whsec_{'A' * 40}")

    found = as_json(alone, written(tmp_path, CONSOLE + app))

    assert found["ok"] is True
    assert [one["id"] for one in found["connections"]] == ["console"]
    assert "webhook.send" in found["unserved"]


def test_check_warns_of_operations_that_several_connections_can_do(
    alone: CommandLine, tmp_path: Path
) -> None:
    path = written(tmp_path, CONSOLE + CONSOLE.replace("s.console", "s.other"))

    result = alone("config", "check", path)

    assert result.exit_code == Exit.OK
    assert 'warning: routes."sms.send": 2 connections can do sms.send' in result.stdout


def test_check_warns_of_a_route_that_leads_nowhere(alone: CommandLine, tmp_path: Path) -> None:
    held = '[routes."sms.send"]\norder = ["later"]\nwhen_missing = "hold"\n'
    wrong = '[routes."http.request"]\norder = ["console"]\n'

    found = as_json(alone, written(tmp_path, CONSOLE + held + wrong))

    assert found["ok"]
    assert [warning["where"] for warning in found["warnings"]] == [
        'routes."http.request"',
        'routes."sms.send"',
    ]


def test_check_warns_of_a_broken_plugin_that_nothing_needs(
    alone: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_this_name\n")
    path = written(tmp_path, '[plugins]\npaths = ["mine.py"]\n' + CONSOLE)

    found = as_json(alone, path)

    assert found["ok"]
    assert found["warnings"][0]["where"] == f"{tmp_path}/mine.py:1"


def test_check_rejects_a_broken_plugin_that_a_connection_needs(
    alone: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_this_name\n")
    path = written(tmp_path, '[plugins]\npaths = ["mine.py"]\n[connections.m]\nprovider = "mine"\n')

    result = alone("config", "check", path)

    assert result.exit_code == Exit.CONFIG
    assert "connections.m.provider" in result.stderr
    assert "nothing_of_this_name" in result.stderr


def test_check_takes_the_configuration_that_run_would(alone: CommandLine, tmp_path: Path) -> None:
    alone.environ["INTEGRATIOND_CONFIG"] = written(tmp_path, CONSOLE)

    assert as_json(alone)["ok"]


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_check_without_a_configuration_says_where_it_looked(
    alone: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    result = alone("config", "check", *args)

    assert result.exit_code == Exit.CONFIG
    assert "there is no configuration" in result.stderr
    assert not args or not json.loads(result.stdout)["ok"]


@pytest.mark.parametrize(
    ("config", "reason"), [("/nowhere/c.toml", "does not exist"), ("/", "is a directory")]
)
def test_check_of_a_file_that_cannot_be_read_says_why(
    alone: CommandLine, config: str, reason: str
) -> None:
    result = alone("config", "check", config)

    assert result.exit_code == Exit.CONFIG
    assert reason in result.stderr


# Run


def test_run_ends_with_4_on_a_rejected_configuration(alone: CommandLine, tmp_path: Path) -> None:
    result = alone("run", "--config", written(tmp_path, "[api\n"))

    assert result.exit_code == Exit.CONFIG
    assert "line 1" in result.stderr


def test_run_without_a_configuration_says_where_it_looked(
    alone: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert alone("run").exit_code == Exit.CONFIG


def started(path: str) -> "subprocess.CompletedProcess[str]":
    return program.run("run", "--config", path, directory=CHECKOUT, within_s=30.0)


def test_run_that_cannot_have_its_files_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where a directory should be")
    path = written(tmp_path, '[api]\nsocket = "s"\nlisten = ""\n[journal]\npath = "var/j.db"\n')

    told = started(path)

    assert told.returncode == Exit.CONFIG
    assert "Traceback" not in told.stderr
    assert "instance.key cannot be read" in told.stderr


def test_run_that_cannot_have_its_address_ends_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        api = f'[api]\nsocket = ""\nlisten = "127.0.0.1:{port}"\n'

        told = started(written(tmp_path, api + '[journal]\npath = "j.db"\n'))

    assert told.returncode in (Exit.PROBLEM, Exit.CONFIG)
    assert "Traceback" not in told.stderr
    assert f"error: cannot listen on 127.0.0.1:{port}" in told.stderr
