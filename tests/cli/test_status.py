"""The daemon's condition, and its connections."""

import json
from typing import Any

import pytest
from tests.cli.conftest import CommandLine, Playback, Scripted, problem

from integrationd.cli.exits import Exit


def connection(**changes: Any) -> dict[str, Any]:
    return {
        "id": "at-main",
        "provider": "africastalking",
        "environment": "sandbox",
        "enabled": True,
        "operations": ["sms.send"],
        "breaker": "closed",
        "breaker_until": None,
        "running": 1,
        "concurrency": 8,
        "rate_limit": "20/s",
        "pending": 3,
        **changes,
    }


def status(**changes: Any) -> dict[str, Any]:
    counts = {"pending": 3, "processing": 1, "waiting": 0, "unknown": 0}
    ended = {"completed": 6, "failed": 0, "expired": 0, "cancelled": 0}
    journal = {"condition": "ready", "reason": "", "alarm": "", "sqlite_version": "3.51.3"}
    return {
        "status": "ok",
        "version": "0.1.0",
        "started_at": "2026-01-31T09:00:00.000Z",
        "problems": [],
        "journal": {**journal, "exclusive": False, "wal_bytes": 4_300_000},
        "link": {"state": "up", "since": None, "why": ""},
        "ledger": {"tenant": "*", "connection": None, "accepted": 10, **counts, **ended},
        "oldest_pending_at": "2026-01-31T11:58:00.000Z",
        "connections": [connection()],
        **changes,
    }


def test_status_of_a_sound_daemon_exits_0(command: CommandLine, daemon: Playback) -> None:
    daemon.play(status())

    result = command("status")

    assert result.exit_code == Exit.OK
    assert result.stdout.splitlines() == [
        "integrationd 0.1.0: ok, running since 12:00:00 EAT (3 h ago)",
        "",
        "Journal: ready, SQLite 3.51.3, write-ahead log 4.1 MiB",
        "Link:    up",
        "Calls:   accepted 10 = pending 3 + processing 1 + completed 6",
        "         the oldest pending one is from 14:58:00 EAT (2 min ago)",
        "",
        "CONNECTION  PROVIDER        ENVIRONMENT  BREAKER  RUNNING  PENDING  LIMIT  NOTE",
        "at-main     africastalking  sandbox      closed   1/8      3        20/s",
    ]


@pytest.mark.parametrize("condition", ["attention", "degraded"])
def test_status_that_needs_a_person_exits_7_with_problems_first(
    command: CommandLine, daemon: Playback, condition: str
) -> None:
    told = "Connection at-main: its breaker is open until 2026-01-31T12:00:40.000Z."
    daemon.play(status(status=condition, problems=[told]))

    result = command("status")

    assert result.exit_code == Exit.ATTENTION
    assert result.stdout.splitlines()[2] == (
        "  ! Connection at-main: its breaker is open until 15:00:40 EAT (in 40 s)."
    )


def test_status_says_that_the_ledger_does_not_balance(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(status(ledger={"accepted": 5, "pending": 3}))

    assert "accepted 5 does not equal pending 3" in command("status").stdout


def test_status_shows_a_journal_in_trouble(command: CommandLine, daemon: Playback) -> None:
    journal = {"condition": "full", "reason": "No room.", "exclusive": True, "wal_bytes": 10}
    daemon.play(status(status="degraded", journal=journal, ledger={}, connections=[]))

    shown = command("status").stdout

    assert "Journal: full, No room., SQLite" in shown
    assert "one exclusive connection" in shown
    assert "accepted 0\n" in shown
    assert "There are no connections" in shown


def test_status_shows_that_the_link_is_down(command: CommandLine, daemon: Playback) -> None:
    link = {"state": "down", "since": "2026-01-31T11:00:00.000Z", "why": "Nobody answers."}
    daemon.play(status(status="attention", link=link))

    assert "Link:    down since 14:00:00 EAT (60 min ago)" in command("status").stdout


def test_status_shows_the_room_on_the_journals_disk(command: CommandLine, daemon: Playback) -> None:
    room = {"level": "ample", "free_bytes": 5 << 30, "disk_bytes": 20 << 30}
    daemon.play(status(journal={**status()["journal"], **room}))
    low = {**room, "level": "high", "reason": "The journal's disk is low on room."}
    daemon.play(status(journal={**status()["journal"], **low}))

    assert "Journal: ready, 5.0 GiB of 20.0 GiB free, SQLite 3.51.3" in command("status").stdout
    assert (
        "Journal: ready, low on room: 5.0 GiB of 20.0 GiB free, calls of low priority are refused,"
        " SQLite 3.51.3"
    ) in command("status").stdout


def test_status_acknowledges_the_alarm_first(command: CommandLine, daemon: Playback) -> None:
    daemon.play({"acknowledged": True}, status())

    command("status", "--acknowledge")

    assert [(asked.method, asked.path) for asked in daemon.asked] == [
        ("POST", "/v1/journal/acknowledge"),
        ("GET", "/v1/status"),
    ]


@pytest.mark.parametrize(("condition", "code"), [("ok", Exit.OK), ("attention", Exit.ATTENTION)])
def test_status_with_json_is_unchanged(
    command: CommandLine, daemon: Playback, condition: str, code: Exit
) -> None:
    daemon.play(status(status=condition))

    result = command("status", "--json")

    assert result.stdout_bytes == json.dumps(status(status=condition)).encode() + b"\n"
    assert result.exit_code == code


# Connections


@pytest.mark.parametrize("args", [["connections"], ["connections", "list"]])
def test_connections_are_listed(command: CommandLine, daemon: Playback, args: list[str]) -> None:
    off = connection(id="old", enabled=False, rate_limit=None)
    hurt = connection(breaker="open", breaker_until="2026-01-31T12:00:40Z")
    daemon.play({"items": [hurt, off], "next": None})

    result = command(*args)

    _, hurt_line, off_line = result.stdout.splitlines()
    assert hurt_line == (
        "at-main     africastalking  sandbox      open     1/8      3        20/s   "
        "tried again in 40 s"
    )
    assert off_line == (
        "old         africastalking  sandbox      closed   1/8      3        -      switched off"
    )


def test_connections_take_options_without_a_command(command: CommandLine, daemon: Playback) -> None:
    listing = {"items": [connection()], "next": None}
    daemon.play(listing)

    result = command("connections", "--json")

    assert result.stdout_bytes == json.dumps(listing).encode() + b"\n"


def test_connections_explain_themselves(command: CommandLine) -> None:
    assert "reset-breaker" in command("connections", "--help").stdout


def test_connections_refuse_an_unknown_command(command: CommandLine) -> None:
    result = command("connections", "explode")

    assert result.exit_code == Exit.USAGE
    assert "No such command 'explode'" in result.stderr


def test_reset_breaker_posts(command: CommandLine, daemon: Playback) -> None:
    daemon.play(connection())

    result = command("connections", "reset-breaker", "at-main")

    assert result.stdout == "Connection at-main: its breaker is closed.\n"
    assert daemon.asked[0].method == "POST"
    assert daemon.asked[0].path == "/v1/connections/at-main/breaker/reset"


def test_reset_breaker_of_none_is_told(command: CommandLine, daemon: Playback) -> None:
    daemon.play(problem(404, "not_found", "there is no connection 'x'"))

    assert command("connections", "reset-breaker", "x").exit_code == Exit.PROBLEM


@pytest.mark.parametrize("name", ["..", "a/b", "", "A"])
def test_reset_breaker_takes_names_only(command: CommandLine, name: str) -> None:
    assert command("connections", "reset-breaker", name).exit_code == Exit.USAGE


def test_an_answer_of_another_version_is_shown_as_far_as_it_goes(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(Scripted({"status": "ok", "version": "9"}))

    assert "integrationd 9: ok" in command("status").stdout
