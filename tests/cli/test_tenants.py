"""Tenants, as a person deals with them in a terminal."""

from typing import Any

import pytest
from tests.cli.conftest import CommandLine, Playback, Scripted, problem

from integrationd.cli.exits import Exit


def tenant(**changes: Any) -> dict[str, Any]:
    return {
        "id": "school",
        "name": "A school",
        "status": "active",
        "metadata": {"town": "Nakuru"},
        "defaults": {"currency": "KES"},
        "rate_limit": 20.0,
        "burst": 1,
        "daily_quota": None,
        "retention": {"calls": 60.0, "attempts": None, "inbox": None},
        "source": "api",
        "created_at": "2026-01-31T11:57:00.000Z",
        "changed_at": "2026-01-31T11:57:00.000Z",
        **changes,
    }


@pytest.mark.parametrize("words", [("tenants",), ("tenants", "list")])
def test_tenants_are_a_table(
    command: CommandLine, daemon: Playback, words: tuple[str, ...]
) -> None:
    more = tenant(id="default", name="", source="built-in", rate_limit=None, daily_quota=500)
    daemon.play({"items": [tenant(), more], "next": None})

    result = command(*words)

    head, first, second = (line.split() for line in result.stdout.splitlines())
    assert head[:2] == ["TENANT", "STATUS"]
    assert first == ["school", "active", "api", "20/s", "-", "A", "school"]
    assert second == ["default", "active", "built-in", "-", "500"]


def test_tenant_is_added_with_what_was_given_and_nothing_else(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(Scripted(tenant(), 201))

    result = command(
        "tenants", "add", "school", "--name", "A school", "--default", "currency=KES",
        "--default", "note=a=b", "--rate-limit", "20/s",
    )  # fmt: skip

    assert result.exit_code == Exit.OK
    assert result.stdout == "Tenant school is made.\n"
    assert daemon.asked[0].method == "POST"
    assert daemon.asked[0].json == {
        "id": "school",
        "name": "A school",
        "defaults": {"currency": "KES", "note": "a=b"},
        "rate_limit": "20/s",
    }


def test_change_leaves_what_is_not_named_as_it_is(command: CommandLine, daemon: Playback) -> None:
    daemon.play(tenant(), tenant(daily_quota=9))

    result = command("tenants", "change", "school", "--daily-quota", "9")

    assert result.stdout == "Tenant school is changed.\n"
    assert (daemon.asked[1].method, daemon.asked[1].path) == ("PUT", "/v1/tenants/school")
    assert daemon.asked[1].json == {
        "name": "A school",
        "status": "active",
        "metadata": {"town": "Nakuru"},
        "defaults": {"currency": "KES"},
        "rate_limit": 20.0,
        "burst": 1,
        "daily_quota": 9,
        "retention": {"calls": 60.0},
    }


@pytest.mark.parametrize(
    ("verb", "status", "told"),
    [
        ("suspend", "suspended", "Tenant school is suspended; its calls wait.\n"),
        ("activate", "active", "Tenant school is active.\n"),
    ],
)
def test_tenant_is_suspended_and_activated(
    command: CommandLine, daemon: Playback, verb: str, status: str, told: str
) -> None:
    daemon.play(tenant(), tenant(status=status))

    result = command("tenants", verb, "school")

    assert daemon.asked[1].json["status"] == status
    assert result.stdout == told


def test_removal_that_is_refused_says_what_is_left(command: CommandLine, daemon: Playback) -> None:
    daemon.play(problem(409, "in_use", "tenant 'school' still has 2 open calls"))

    result = command("tenants", "remove", "school")

    assert result.exit_code == Exit.PROBLEM
    assert "still has 2 open calls" in result.stderr


def test_id_is_written_so_that_it_leads_nowhere_else(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(problem(404, "no_such_tenant", "there is no tenant"))

    command("tenants", "remove", "../keys")

    assert daemon.asked[0].path == "/v1/tenants/..%2Fkeys"


@pytest.mark.parametrize("words", [("--default", "currency"), ("--default", "=KES")])
def test_default_without_a_value_is_refused(
    command: CommandLine, daemon: Playback, words: tuple[str, ...]
) -> None:
    result = command("tenants", "add", "school", *words)

    assert result.exit_code == Exit.USAGE
    assert "is not KEY=VALUE" in result.stderr
    assert not daemon.asked
