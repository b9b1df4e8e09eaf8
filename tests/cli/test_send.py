"""Handing calls over, and waiting for them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, Scripted, StillClock, call, problem

from integrationd.api.schemas import CallRequest
from integrationd.cli.exits import Exit

PENDING = call(state="pending", next_attempt_at="2026-01-31T12:00:00Z", finished_at=None)


def accepted(**changes: Any) -> Scripted:
    return Scripted({**PENDING, **changes}, status=202)


def test_send_hands_pairs_over_as_the_payload(command: CommandLine, daemon: Playback) -> None:
    daemon.play(accepted())

    result = command("send", "sms.send", "to=+254711000111", "message=Hello")

    assert result.exit_code == Exit.OK
    assert result.stdout == f"Call {CALL_ID} is pending; its next attempt is due now.\n"
    assert daemon.asked[0].path == "/v1/calls"
    assert "prefer" not in daemon.asked[0].headers
    assert daemon.asked[0].headers["content-type"] == "application/json"
    assert daemon.asked[0].json == {
        "operation": "sms.send",
        "payload": {"to": "+254711000111", "message": "Hello"},
    }


def test_send_passes_every_option_on_as_the_api_reads_it(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(accepted())

    command(
        *("send", "sms.send", '{"to": "x"}', "--connection", "console", "--priority", "high"),
        *("--not-before", "2026-01-31T18:00", "--expires-in", "1h30m", "--reference", "invoice:42"),
        *(
            "--tenant",
            "acme",
            "--metadata",
            '{"n": 1.10}',
            "--on-uncertain",
            "hold",
            "--idempotency-key",
            "k-1",
        ),
    )

    asked = daemon.asked[0]
    without_metadata = asked.body.replace(b'"metadata":{"n": 1.10},', b"")
    request = msgspec.json.decode(without_metadata, type=CallRequest)
    assert asked.headers["idempotency-key"] == "k-1"
    assert request.tenant == "acme"
    assert (request.connection, request.priority, request.on_uncertain) == (
        "console",
        "high",
        "hold",
    )
    assert request.not_before is not None
    assert request.not_before.isoformat() == "2026-01-31T15:00:00+00:00"
    assert request.expires_in == 5400
    assert request.reference is not None
    assert (request.reference.type, request.reference.id) == ("invoice", "42")
    assert without_metadata != asked.body
    assert bytes(request.payload) == b'{"to": "x"}'


def test_send_reads_standard_input_and_files(
    command: CommandLine, daemon: Playback, tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text('{"to": "file"}')
    daemon.play(accepted(), accepted())

    command("send", "sms.send", "-", stdin='{"to": "stdin"}')
    command("send", "sms.send", f"@{tmp_path}/p.json", "message=x")

    assert daemon.asked[0].json["payload"] == {"to": "stdin"}
    assert daemon.asked[1].json["payload"] == {"to": "file", "message": "x"}


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["{"], "not valid JSON"),
        (["-"], "standard input is not valid JSON"),
        (["--metadata", "[]"], "--metadata must be a JSON object"),
        (["--expires-in", "soon"], "must be a duration"),
        (["--not-before", "soon"], "must be a time such as"),
        (["--not-before", "0001-01-01T00:00"], "must be a time such as"),
        (["--reference", "42"], "TYPE:ID"),
        (["--priority", "urgent"], "'urgent' is not one of"),
        (["--wait=-1"], "--wait"),
        (["--idempotency-key", ""], "printable ASCII"),
        (["--idempotency-key", "a\nb"], "printable ASCII"),
        (["--connection", "\udcff"], "not UTF-8"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    command: CommandLine, daemon: Playback, args: list[str], reason: str
) -> None:
    result = command("send", "sms.send", *args, stdin="")

    assert result.exit_code == Exit.USAGE
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert not daemon.asked


def test_a_refusal_names_the_member_at_fault(command: CommandLine, daemon: Playback) -> None:
    daemon.play(problem(422, "invalid", "Expected `str`", pointer="/payload/to", hint="Mend it."))

    result = command("send", "sms.send", "to:=1")

    assert result.exit_code == Exit.PROBLEM
    assert result.stderr == "error: Expected `str` (at /payload/to)\nhint: Mend it.\n"


def test_a_replayed_call_says_so(command: CommandLine, daemon: Playback) -> None:
    daemon.play(Scripted(call(), status=202, headers={"Idempotency-Replayed": "true"}))

    result = command("send", "sms.send", "--idempotency-key", "k")

    assert "accepted before" in result.stdout
    assert result.exit_code == Exit.OK


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("completed", Exit.OK),
        ("failed", Exit.CALL_FAILED),
        ("expired", Exit.CALL_FAILED),
        ("cancelled", Exit.CALL_FAILED),
        ("unknown", Exit.CALL_OPEN),
        ("waiting", Exit.CALL_OPEN),
        ("pending", Exit.CALL_OPEN),
        ("pruned", Exit.CALL_OPEN),
    ],
)
def test_send_and_wait_exits_by_what_became_of_the_call(
    command: CommandLine, daemon: Playback, state: str, code: Exit
) -> None:
    daemon.play(call(state=state))

    result = command("send", "sms.send", "--wait", "5")

    assert result.exit_code == code
    assert daemon.asked[0].headers["prefer"] == "wait=5"


@pytest.mark.parametrize(
    ("args", "prefer"),
    [
        (["--wait", "to=x"], "wait=30"),
        (["to=x", "--wait"], "wait=30"),
        (["--wait", "{}"], "wait=30"),
        (["--wait=7", "to=x"], "wait=7"),
        (["--wait", "2.5", "to=x"], "wait=3"),
        (["--wait", "600", "to=x"], "wait=60"),
    ],
)
def test_wait_may_stand_without_a_number(
    command: CommandLine, daemon: Playback, args: list[str], prefer: str
) -> None:
    daemon.play(call())

    assert command("send", "sms.send", *args).exit_code == Exit.OK
    assert daemon.asked[0].headers["prefer"] == prefer


def test_a_long_wait_goes_on_in_turns(
    command: CommandLine, daemon: Playback, clock: StillClock
) -> None:
    def pass_a_minute() -> None:
        clock.seconds += 60

    daemon.play(
        Scripted(PENDING, status=202, before=pass_a_minute),
        Scripted(PENDING, before=pass_a_minute),
        call(),
    )

    result = command("send", "sms.send", "--wait", "150")

    assert result.exit_code == Exit.OK
    assert [asked.headers["prefer"] for asked in daemon.asked] == ["wait=60", "wait=60", "wait=30"]
    assert daemon.asked[2].path == f"/v1/calls/{CALL_ID}"


def test_a_wait_ends_with_its_time(
    command: CommandLine, daemon: Playback, clock: StillClock
) -> None:
    def pass_the_time() -> None:
        clock.seconds += 5

    daemon.play(Scripted(PENDING, status=202, before=pass_the_time))

    assert command("send", "sms.send", "--wait", "5").exit_code == Exit.CALL_OPEN


def test_a_daemon_that_lets_nobody_wait_is_not_pressed(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(accepted())

    assert command("send", "sms.send", "--wait", "150").exit_code == Exit.CALL_OPEN
    assert len(daemon.asked) == 1


def test_a_daemon_that_stops_during_the_wait_has_kept_the_call(
    command: CommandLine, daemon: Playback, clock: StillClock
) -> None:
    def pass_a_minute() -> None:
        clock.seconds += 60

    daemon.play(Scripted(PENDING, status=202, before=pass_a_minute), Scripted(raw=b""))

    result = command("send", "sms.send", "--wait", "90")

    assert result.exit_code == Exit.CALL_OPEN
    assert CALL_ID in result.stdout
    assert "The call is kept" in result.stderr


def test_the_result_is_shown(command: CommandLine, daemon: Playback) -> None:
    daemon.play(call(result={"message_id": "m-1\x9b"}))

    result = command("send", "sms.send", "--wait")

    assert result.stdout == (
        f'Call {CALL_ID} is completed: delivered.\nResult: {{"message_id": "m-1\\x9b"}}\n'
    )


@pytest.mark.parametrize(
    ("args", "hint"), [([], "integrationd calls"), (["--idempotency-key", "k"], "accepted once")]
)
def test_a_send_cut_off_says_that_nobody_knows(
    command: CommandLine, daemon: Playback, args: list[str], hint: str
) -> None:
    daemon.play(Scripted(raw=b""))

    result = command("send", "sms.send", *args)

    assert result.exit_code == Exit.UNREACHABLE
    assert "not known whether the call was accepted" in result.stderr
    assert hint in result.stderr


def test_a_send_that_never_left_says_only_that(alone: CommandLine, short_path: Path) -> None:
    result = alone("send", "sms.send", "--socket", str(short_path / "none"))

    assert result.exit_code == Exit.UNREACHABLE
    assert "not known" not in result.stderr


def test_send_with_json_prints_the_call_unchanged(command: CommandLine, daemon: Playback) -> None:
    daemon.play(accepted())

    result = command("send", "sms.send", "--json")

    assert result.stdout_bytes == json.dumps(PENDING).encode() + b"\n"
