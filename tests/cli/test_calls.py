"""Listing calls, and what a person can do about one."""

import json
import urllib.parse
from typing import Any

import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, call, problem

from integrationd.cli.exits import Exit

OTHER_ID = CALL_ID[:-1] + "c"


def page(*items: dict[str, Any], cursor: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next": cursor}


def test_calls_are_a_table_with_whole_ids(command: CommandLine, daemon: Playback) -> None:
    daemon.play(
        page(
            call(state="pending", next_attempt_at="2026-01-31T12:00:04Z", detail="It was busy."),
            call(id=OTHER_ID, connection=None, state="failed", detail="Bad number."),
        )
    )

    result = command("calls")

    assert result.exit_code == Exit.OK
    assert result.stdout.splitlines() == [
        "ID                                    STATE    OPERATION  CONNECTION  ACCEPTED      NOTE",
        f"{CALL_ID}  pending  sms.send   console     14:57:00 EAT  goes in 4 s: It was busy.",
        f"{OTHER_ID}  failed   sms.send   -           14:57:00 EAT  Bad number.",
    ]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"state": "pending", "next_attempt_at": "2026-01-31T11:00:00Z", "detail": "x"}, "x"),
        ({"state": "waiting", "ask_at": "2026-01-31T12:01:00Z"}, "asked in 60 s: delivered"),
        ({"state": "unknown", "reason": "timeout"}, "held for a person: timeout"),
        ({"state": "unknown", "reason": None}, "held for a person"),
        ({"state": "completed", "detail": "1 of 2 failed."}, "1 of 2 failed."),
        ({"state": "completed", "delivery": "read"}, "read"),
        ({"contradiction": "It was refused."}, "contradicted: It was refused."),
    ],
)
def test_calls_note_what_comes_next_or_why_it_ended(
    command: CommandLine, daemon: Playback, changes: dict[str, Any], note: str
) -> None:
    daemon.play(page(call(**changes)))

    assert command("calls").stdout.rstrip("\n").endswith(f"EAT  {note}")


def test_calls_pass_filters_on(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    result = command(
        *("calls", "--state", "failed", "--operation", "sms.send", "--connection", "a b"),
        *("--tenant", "acme", "--reference", "invoice:4:2", "--limit", "7"),
    )

    assert result.stdout == "No calls.\n"
    assert sorted(urllib.parse.parse_qsl(daemon.asked[0].path.partition("?")[2])) == [
        ("connection", "a b"),
        ("limit", "7"),
        ("operation", "sms.send"),
        ("reference_id", "4:2"),
        ("reference_type", "invoice"),
        ("state", "failed"),
        ("tenant", "acme"),
    ]


def test_calls_say_that_there_may_be_more(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page(call(), cursor="9"))

    assert "--all" in command("calls", "--limit", "1").stderr


def test_calls_follow_the_cursor_to_the_end(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page(call(), cursor="9"), page(call(id=OTHER_ID), cursor="5"), page())

    result = command("calls", "--all")

    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ID", CALL_ID, OTHER_ID]
    assert "cursor=9" in daemon.asked[1].path
    assert "cursor=5" in daemon.asked[2].path
    assert result.stderr == ""


def test_calls_take_no_more_pages_than_the_limit_needs(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(page(call(), cursor="9"), page(call(id=OTHER_ID), cursor="5"))

    command("calls", "--limit", "250")

    assert ["limit=200" in daemon.asked[0].path, "limit=50" in daemon.asked[1].path] == [True, True]


def test_calls_with_json_are_the_page_unchanged(command: CommandLine, daemon: Playback) -> None:
    listing = page(call(detail="Wanjikũ \x9b"), cursor="9")
    daemon.play(listing)

    result = command("calls", "--json")

    assert result.stdout_bytes == json.dumps(listing).encode() + b"\n"


@pytest.mark.parametrize("pages", [[page()], [page(call(), cursor="9"), page(call(id=OTHER_ID))]])
def test_all_calls_with_json_are_one_object(
    command: CommandLine, daemon: Playback, pages: list[dict[str, Any]]
) -> None:
    daemon.play(*pages)

    result = command("calls", "--all", "--json")

    items = [item for one in pages for item in one["items"]]
    assert json.loads(result.stdout) == {"items": items, "next": None}


@pytest.mark.parametrize("reference", ["42", ":42", "invoice:"])
def test_a_reference_has_a_type_and_an_id(command: CommandLine, reference: str) -> None:
    result = command("calls", "--reference", reference)

    assert result.exit_code == Exit.USAGE
    assert "TYPE:ID" in result.stderr


def test_values_from_outside_cannot_steer_the_terminal(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(page(call(state="failed", detail="\x1b]0;x\x07\nroot# \u202e")))

    result = command("calls", color=True)

    assert "\\x1b]0;x\\x07\\nroot# \\u202e" in result.stdout
    assert len(result.stdout.splitlines()) == 2


# Retry, cancel, resolve


def test_retry_says_when_it_goes(command: CommandLine, daemon: Playback) -> None:
    daemon.play(call(state="pending", next_attempt_at="2026-01-31T12:00:00Z"))

    result = command("retry", CALL_ID)

    assert result.stdout == f"Call {CALL_ID} is pending; its next attempt is due now.\n"
    assert daemon.asked[0].method == "POST"
    assert daemon.asked[0].path == f"/v1/calls/{CALL_ID}/retry"


def test_cancel_deletes(command: CommandLine, daemon: Playback) -> None:
    daemon.play(call(state="cancelled", detail="Cancelled by uid:0."))

    result = command("cancel", CALL_ID)

    assert result.stdout == f"Call {CALL_ID} is cancelled: Cancelled by uid:0.\n"
    assert (daemon.asked[0].method, daemon.asked[0].path) == ("DELETE", f"/v1/calls/{CALL_ID}")


def test_resolve_says_how_and_why(command: CommandLine, daemon: Playback) -> None:
    daemon.play(call(detail="Resolved as done by uid:0. Seen."))

    result = command("resolve", CALL_ID, "--as", "done", "--note", "Seen.")

    assert result.exit_code == Exit.OK
    assert daemon.asked[0].path == f"/v1/calls/{CALL_ID}/resolve"
    assert daemon.asked[0].json == {"resolution": "done", "note": "Seen."}


def test_resolve_needs_to_know_how(command: CommandLine) -> None:
    assert command("resolve", CALL_ID).exit_code == Exit.USAGE


def test_repeat_is_not_asked_about_where_nobody_sits(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(call(state="pending"))

    assert command("resolve", CALL_ID, "--as", "repeat").exit_code == Exit.OK
    assert daemon.asked[0].json["resolution"] == "repeat"


def test_a_conflict_is_told_with_its_hint(command: CommandLine, daemon: Playback) -> None:
    daemon.play(problem(409, "not_retryable", "it is unknown", hint="Resolve it."))

    result = command("retry", CALL_ID)

    assert result.exit_code == Exit.PROBLEM
    assert result.stderr == "error: it is unknown\nhint: Resolve it.\n"


@pytest.mark.parametrize("args", [["retry"], ["cancel"], ["explain"], ["resolve", "--as", "done"]])
@pytest.mark.parametrize("call_id", ["..", "", CALL_ID[:8], f"{CALL_ID}/retry", CALL_ID + "\n"])
def test_only_whole_ids_are_taken(command: CommandLine, args: list[str], call_id: str) -> None:
    result = command(*args, call_id)

    assert result.exit_code == Exit.USAGE
    assert "ids are given whole" in result.stderr


@pytest.mark.parametrize(
    "args", [["retry", CALL_ID], ["cancel", CALL_ID], ["resolve", CALL_ID, "--as", "refused"]]
)
def test_actions_with_json_print_the_call_unchanged(
    command: CommandLine, daemon: Playback, args: list[str]
) -> None:
    daemon.play(call())

    result = command(*args, "--json")

    assert result.stdout_bytes == json.dumps(call()).encode() + b"\n"
