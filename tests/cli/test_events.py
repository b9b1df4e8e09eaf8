"""The event log, as a person reads it in a terminal."""

import json
from typing import Any

import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, Scripted, StillClock, problem

from integrationd.cli.exits import Exit


def event(seq: int = 12, **changes: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "type": "call.failed",
        "at": "2026-01-31T11:57:00.000Z",
        "tenant": "default",
        "call_id": CALL_ID,
        "connection": "console",
        "data": {"operation": "sms.send", "state": "failed", "detail": "No such number."},
        **changes,
    }


def page(*items: dict[str, Any], upto: int = 12) -> dict[str, Any]:
    return {"items": list(items), "next": str(upto)}


def frames(*events: dict[str, Any], start: int = 11) -> Scripted:
    """Return a stream that breaks off after some events."""
    text = f"retry: 2000\n: here\nid: {start}\n\n"
    for one in events:
        text += f"id: {one['seq']}\nevent: {one['type']}\ndata: {json.dumps(one)}\n\n"
    return Scripted(text=text.encode(), headers={"Content-Type": "text/event-stream"})


class PatientClock(StillClock):
    """A clock on which pauses take no time."""

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def patient(daemon: Playback) -> CommandLine:
    return CommandLine(PatientClock(), {"INTEGRATIOND_SOCKET": str(daemon.path)})


def test_last_events_are_a_table(command: CommandLine, daemon: Playback) -> None:
    about = {"tenant": None, "call_id": None, "data": {"before": "closed", "told": [1], "x": None}}
    daemon.play(page(event(), event(13, type="breaker.opened", **about)))

    shown = command("events")

    assert shown.exit_code == Exit.OK
    header, first, second = shown.stdout.splitlines()
    assert header.split() == ["NUMBER", "AT", "TYPE", "TENANT", "ABOUT", "WHAT"]
    assert first.split()[0] == "12"
    assert first.endswith("No such number.")
    assert CALL_ID in first
    assert second.split()[-2:] == ["console", "before=closed"]
    assert daemon.asked[0].path == "/v1/events?last=20"


def test_filters_are_handed_on(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    words = ("--type", "payment.*", "--type", "call.failed", "--tenant", "shop")
    shown = command("events", *words, "--call", CALL_ID, "--connection", "till", "--limit", "5")

    assert shown.stdout == "No events.\n"
    asked = daemon.asked[0].path
    assert "type=payment.%2A%2Ccall.failed" in asked or "type=payment.*%2Ccall.failed" in asked
    assert all(one in asked for one in ("tenant=shop", f"call_id={CALL_ID}", "last=5"))


def test_pages_in_which_nothing_matches_are_passed_over(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(page(upto=10_000), page(event(10_400), upto=10_400), page(upto=10_400))

    shown = command("events", "--after", "0", "--type", "call.failed", "--json")

    assert json.loads(shown.stdout) == {"items": [event(10_400)], "next": "10400"}
    assert [one.path.partition("?")[2].split("&")[1] for one in daemon.asked] == [
        "after=0",
        "after=10000",
        "after=10400",
    ]


def test_following_goes_on_behind_the_last_event_when_the_daemon_comes_back(
    patient: CommandLine, daemon: Playback
) -> None:
    daemon.play(
        frames(event(12)),
        Scripted(raw=b""),
        problem(503, "journal_unavailable", "recovering"),
        frames(event(13), start=12),
        problem(410, "events_gone", "events 14 to 20 have been pruned"),
    )

    shown = patient("events", "--follow", "--after", "11", "--json")

    assert shown.exit_code == Exit.PROBLEM
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [one.get("seq") for one in lines] == [12, 13, None]
    cursors = [one.headers.get("last-event-id") for one in daemon.asked]
    assert cursors == [None, "12", "12", "12", "13"]
    assert {one.headers["accept"] for one in daemon.asked} == {"text/event-stream"}
    assert shown.stderr.count("has gone away") == 2
    assert shown.stderr.count("The daemon is back.") == 1
    assert "have been pruned" in shown.stderr


def test_cursor_moves_on_by_signs_of_life_and_half_an_event_counts_for_nothing(
    patient: CommandLine, daemon: Playback
) -> None:
    torn = b"id: 12\nevent: a.b\n\n: here\nid: 40\n\nid: 41\nevent: a.b\ndata: {}"
    daemon.play(
        Scripted(text=torn, headers={"Content-Type": "text/event-stream"}),
        problem(403, "uid_not_allowed", "no"),
    )

    shown = patient("events", "--follow")

    assert shown.stdout == ""
    assert daemon.asked[0].path == "/v1/events?last=20"
    assert daemon.asked[1].headers["last-event-id"] == "40"


def test_following_without_a_daemon_says_so_at_once(alone: CommandLine) -> None:
    shown = alone("events", "--follow", "--socket", "/nowhere/d.sock")

    assert shown.exit_code == Exit.UNREACHABLE


def test_what_could_steer_a_terminal_is_escaped(patient: CommandLine, daemon: Playback) -> None:
    daemon.play(frames(event(data={"detail": "\x1b[2Jgone"})), problem(401, "key_missing", "no"))

    shown = patient("events", "--follow")

    assert "\x1b" not in shown.stdout
    assert "gone" in shown.stdout
