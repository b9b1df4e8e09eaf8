"""Connections, made and changed by a person in a terminal; secrets never stand on the line."""

from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import CommandLine, Playback, Scripted, problem

from integrationd.cli.exits import Exit

KEY = "canary-18f0aa"
SCHEMA = {
    "type": "object",
    "required": ["username", "api_key"],
    "properties": {
        "username": {"type": "string"},
        "api_key": {"type": "string", "format": "password", "writeOnly": True},
        "timeout": {"type": "number"},
        "auth": {
            "type": "object",
            "properties": {"kind": {"type": "string"}, "token": {"writeOnly": True}},
        },
    },
}
PROVIDERS = {"items": [{"code": "africastalking", "config_schema": SCHEMA}], "next": None}
ADD = ("connections", "add", "at", "africastalking")


def connection(**changes: Any) -> dict[str, Any]:
    return {
        "id": "at",
        "provider": "africastalking",
        "environment": "sandbox",
        "state": "serving",
        "tenant": None,
        "source": "api",
        "operations": ["sms.send"],
        "breaker": "closed",
        "pending": 2,
        "problem": None,
        "paused_by": None,
        "settings": {
            "provider": "africastalking",
            "config": {
                "username": "sandbox",
                "api_key": {"set": True, "set_at": "2026-01-31T11:57:00.000Z"},
                "auth": {"kind": "bearer"},
            },
        },
        "last_test": {
            "ok": False,
            "message": "The provider answered 401",
            "hint": "Check username and api_key",
            "tested_at": "2026-01-31T11:57:00.000Z",
        },
        **changes,
    }


def test_added_connection_takes_its_secret_from_standard_input(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(PROVIDERS, Scripted(connection(), 201))

    result = command(
        *ADD, "username=sandbox", "api_key=@-", "timeout:=2.5", "auth.kind=bearer", "--tenant",
        "school", "--production", "--rate-limit", "20/s", stdin=f"{KEY}\n",
    )  # fmt: skip

    assert result.exit_code == Exit.OK
    assert "integrationd connections test at" in result.stdout
    assert daemon.asked[1].json == {
        "id": "at",
        "provider": "africastalking",
        "environment": "production",
        "tenant": "school",
        "primary": False,
        "rate_limit": "20/s",
        "config": {
            "username": "sandbox",
            "api_key": KEY,
            "timeout": 2.5,
            "auth": {"kind": "bearer"},
        },
    }
    assert KEY not in result.stdout + result.stderr


def test_secret_is_read_from_a_file_or_a_variable(
    command: CommandLine, daemon: Playback, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\r\n")
    command.environ["USERNAME"] = "sandbox"
    daemon.play(PROVIDERS, Scripted(connection(), 201))

    command(*ADD, "username=@env:USERNAME", f"api_key=@{tmp_path / 'key'}")

    assert daemon.asked[1].json["config"] == {"username": "sandbox", "api_key": KEY}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ((f"api_key={KEY}",), "api_key is a secret, and other users see command lines"),
        ((f"auth.token={KEY}",), "auth.token is a secret"),
        ((f'auth:={{"token": "{KEY}"}}',), "auth.token is a secret"),
        (("username",), "'username' is not FIELD=VALUE"),
        (("username=a", "username=b"), "username is given twice"),
        (("auth=x", "auth.kind=y"), "auth is given as a value already"),
        (("timeout:={",), "the value of timeout is not valid JSON"),
        (("username=@env:NONE",), "the environment variable NONE is not set"),
        (("username=@/none/there",), "/none/there cannot be read"),
    ],
)
def test_field_that_cannot_be_used_is_refused_without_repeating_it(
    command: CommandLine, daemon: Playback, fields: tuple[str, ...], told: str
) -> None:
    daemon.play(PROVIDERS)

    result = command(*ADD, *fields)

    assert result.exit_code == Exit.USAGE
    assert told in " ".join(result.stderr.split())
    assert KEY not in result.stdout + result.stderr
    assert len(daemon.asked) == 1


def test_missing_secret_is_not_asked_for_without_a_terminal(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(PROVIDERS)

    result = command(*ADD, "username=sandbox")

    assert result.exit_code == Exit.PROBLEM
    assert "api_key is missing" in result.stderr
    assert "api_key=@-" in result.stderr


def test_unknown_provider_is_told_with_those_that_there_are(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(PROVIDERS)

    result = command("connections", "add", "at", "africatalking")

    assert "no provider 'africatalking'" in result.stderr
    assert "There are: africastalking." in result.stderr


def test_change_sends_back_what_is_not_named_as_it_was_shown(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(connection(), PROVIDERS, connection())

    result = command("connections", "change", "at", "username=live", "auth.token=@-", stdin=KEY)

    assert result.stdout == "Connection at is changed.\n"
    assert (daemon.asked[2].method, daemon.asked[2].path) == ("PUT", "/v1/connections/at")
    assert daemon.asked[2].json == {
        "provider": "africastalking",
        "config": {
            "username": "live",
            "api_key": {"set": True, "set_at": "2026-01-31T11:57:00.000Z"},
            "auth": {"kind": "bearer", "token": KEY},
        },
    }


def test_connection_of_the_file_is_changed_in_the_file(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(connection(source="file", settings=None))

    result = command("connections", "change", "at", "username=live")

    assert result.exit_code == Exit.PROBLEM
    assert "Change it in the configuration file" in result.stderr


@pytest.mark.parametrize(("ok", "code"), [(True, Exit.OK), (False, Exit.ATTENTION)])
def test_test_tells_what_was_found_and_how_to_mend_it(
    command: CommandLine, daemon: Playback, ok: bool, code: Exit
) -> None:
    hint = None if ok else "Check the key"
    daemon.play({"ok": ok, "message": "It answered", "hint": hint, "duration_ms": 12})

    result = command("connections", "test", "at")

    assert result.exit_code == code
    assert f"{'ok' if ok else 'failed'}: It answered (12 ms)" in result.stdout
    assert ("Check the key" in result.stdout) is not ok


@pytest.mark.parametrize(
    ("words", "answer", "asked", "told"),
    [
        (("pause", "at"), connection(), "POST /v1/connections/at/pause", "is paused"),
        (("resume", "at"), connection(), "POST /v1/connections/at/resume", "takes work again"),
        (("remove", "at"), {"deleted": True}, "DELETE /v1/connections/at", "is removed"),
        (
            ("remove", "at", "--drain"),
            {"deleted": False},
            "DELETE /v1/connections/at?drain=true",
            "goes when its last has ended",
        ),
    ],
)
def test_connection_is_paused_resumed_and_removed(
    command: CommandLine,
    daemon: Playback,
    words: tuple[str, ...],
    answer: dict[str, Any],
    asked: str,
    told: str,
) -> None:
    daemon.play(answer)

    result = command("connections", *words)

    assert f"{daemon.asked[0].method} {daemon.asked[0].path}" == asked
    assert told in result.stdout


def test_removal_that_is_refused_says_why(command: CommandLine, daemon: Playback) -> None:
    daemon.play(problem(409, "calls_waiting", "connection 'at' has calls that wait on it: 3"))

    result = command("connections", "remove", "at")

    assert result.exit_code == Exit.PROBLEM
    assert "calls that wait on it: 3" in result.stderr


def test_connection_is_shown_with_its_secrets_as_set(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(connection(paused_by="uid:0", paused_at="2026-01-31T11:57:00.000Z"))

    told = command("connections", "show", "at").stdout

    assert "of: all tenants, made in: api" in told
    assert "paused by uid:0" in told
    assert "username: sandbox" in told
    assert "api_key: a secret, set" in told
    assert "The provider answered 401" in told
    assert "Check username and api_key" in told


@pytest.mark.parametrize("name", ["../keys", "A", "a b", "x" * 64])
def test_name_that_no_connection_can_have_is_asked_about_nowhere(
    command: CommandLine, daemon: Playback, name: str
) -> None:
    result = command("connections", "show", name)

    assert result.exit_code == Exit.USAGE
    assert not daemon.asked
