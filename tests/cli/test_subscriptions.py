"""``integrationd subscriptions``: lists, secrets apart from notes, and what the daemon is asked."""

from typing import Any

import pytest
from tests.cli.conftest import CommandLine, Playback

from integrationd.cli.exits import Exit

ID = "sub_0123456789abcdef"


def subscription(**changes: Any) -> dict[str, Any]:
    usual = {
        "id": ID,
        "name": "shop",
        "tenant": None,
        "url": "https://shop.example/hooks",
        "events": ["payment.*"],
        "scheme": "standard",
        "state": "active",
        "stopped": None,
        "problem": "",
        "last_event": 7,
        "behind": 3,
        "open": 1,
        "delivered": 5,
        "failed": 2,
        "failing_since": None,
    }
    return {**usual, **changes}


@pytest.mark.parametrize("words", [("subscriptions",), ("subscriptions", "list")])
def test_subscriptions_are_a_table(
    command: CommandLine, daemon: Playback, words: tuple[str, ...]
) -> None:
    daemon.play({"items": [subscription(), subscription(state="stopped")], "next": None})

    result = command(*words)

    assert result.exit_code == Exit.OK
    head, first, second = (line.split() for line in result.stdout.splitlines())
    assert head == ["ID", "NAME", "TENANT", "STATE", "BEHIND", "FAILED", "URL"]
    assert first == [ID, "shop", "all", "active", "3", "2", "https://shop.example/hooks"]
    assert second[3] == "stopped"


def test_added_subscription_prints_its_secret_alone(command: CommandLine, daemon: Playback) -> None:
    daemon.play({**subscription(), "secret": "whsec_x"})

    result = command(
        *("subscriptions", "add", "https://shop.example/hooks", "--event", "payment.*"),
        *("--name", "shop", "--header", "X-Own: a"),
    )

    assert result.stdout == "whsec_x\n"
    assert ID in result.stderr
    asked = daemon.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/subscriptions")
    assert asked.json["events"] == ["payment.*"]
    assert asked.json["headers"] == {"X-Own": "a"}


def test_redelivery_can_be_counted_first(command: CommandLine, daemon: Playback) -> None:
    daemon.play({"count": 12, "delivery": None, "dry_run": True})

    result = command("subscriptions", "redeliver", ID, "--after", "3", "--dry-run")

    assert result.stdout == "12 events would be delivered once more.\n"
    assert daemon.asked[0].json == {"after": 3, "dry_run": True}


def test_show_tells_why_it_is_stopped(command: CommandLine, daemon: Playback) -> None:
    daemon.play(subscription(state="stopped", stopped="gone"))

    result = command("subscriptions", "show", ID)

    assert "because     gone" in result.stdout
    assert "1 open, 5 delivered, 2 failed" in result.stdout


def test_what_is_no_id_is_refused_here(command: CommandLine, daemon: Playback) -> None:
    result = command("subscriptions", "remove", "../keys")

    assert result.exit_code == Exit.USAGE
    assert not daemon.asked
