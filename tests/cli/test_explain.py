"""The story of a call, and what may stand in it."""

import json
from typing import Any

import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, call

from integrationd.cli.exits import Exit


def attempt(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "call_id": CALL_ID,
        "tenant": "default",
        "operation": "sms.send",
        "kind": "send",
        "number": 1,
        "connection": "at-main",
        "provider": "africastalking",
        "plugin_digest": "abc",
        "started_at": "2026-01-31T11:57:00.000Z",
        "duration_ms": 1340,
        "outcome": "delivered",
        "reason": None,
        "detail": None,
        "sent": True,
        "status_code": 201,
        "request": None,
        "response": None,
        "rule": "delivered",
        **changes,
    }


def full(**changes: Any) -> dict[str, Any]:
    return {
        **call(),
        "payload": {"to": "+254711000111", "message": "Hello"},
        "metadata": None,
        "result": None,
        "parts": [],
        "attempt_log": [],
        "why": None,
        "until": None,
        **changes,
    }


def told(command: CommandLine, daemon: Playback, **changes: Any) -> str:
    daemon.play(full(**changes))
    result = command("explain", CALL_ID)
    assert result.exit_code == Exit.OK
    return result.stdout


def test_explain_tells_the_whole_story(command: CommandLine, daemon: Playback) -> None:
    failed = attempt(
        outcome="retryable",
        reason="unavailable",
        detail="503 from the provider.",
        status_code=503,
        rule="tried again later",
    )
    second = attempt(number=2, started_at="2026-01-31T11:59:00Z", duration_ms=12)

    story = told(
        command,
        daemon,
        tries=2,
        attempt_log=[failed, second],
        reference={"type": "invoice", "id": "42"},
        result={"message_id": "m-1"},
        metadata={"class": "4B"},
        delivery="read",
    )

    assert story == (
        f"Call {CALL_ID}: sms.send, completed.\n"
        "It was accepted 14:57:00 EAT (3 min ago) for tenant default, "
        "with normal priority and the reference invoice:42.\n"
        'What was asked: {"to": "+254711000111", "message": "Hello"}\n'
        'Kept with it: {"class": "4B"}\n'
        "\n"
        "What was tried\n"
        "  Send 1, 14:57:00 EAT, through at-main (africastalking): "
        "after 1.3 s it failed and may be tried again (HTTP 503).\n"
        "    Why: unavailable: 503 from the provider.\n"
        "    Rule applied: tried again later.\n"
        "  Send 2, 14:59:00 EAT, through at-main (africastalking): "
        "after 12 ms it was delivered (HTTP 201).\n"
        "    Rule applied: delivered.\n"
        "\n"
        "Where it stands\n"
        "  It is completed since 14:57:01 EAT (3 min ago): delivered\n"
        "  The provider knows it as m-1.\n"
        '  Its result: {"message_id": "m-1"}\n'
        "  A later receipt says: read.\n"
    )


def test_explain_of_a_pending_call_says_why_until_when_and_how_to_call_it_off(
    command: CommandLine, daemon: Playback
) -> None:
    story = told(
        command,
        daemon,
        state="pending",
        expires_at="2026-01-31T12:15:00Z",
        why="It was busy. The next attempt is due.",
        until="2026-01-31T12:00:04Z",
    )

    assert "Nothing yet: it has not been attempted." in story
    assert (
        "It is pending. It was busy. The next attempt is due. Until 15:00:04 EAT (in 4 s)." in story
    )
    assert "it expires 15:15:00 EAT (in 15 min)." in story
    assert "Nothing more is tried after 3 Feb 14:57 EAT (in 3 d)." in story
    assert f"Call it off: integrationd cancel {CALL_ID}" in story


def test_explain_of_an_unknown_call_names_every_way_to_settle_it(
    command: CommandLine, daemon: Playback
) -> None:
    story = told(
        command,
        daemon,
        state="unknown",
        why="Nobody knows. The provider is asked next at 2026-01-31T12:00:30.000Z.",
        attempt_log=[
            attempt(outcome="uncertain", status_code=None, rule="the provider is asked"),
            attempt(kind="query", outcome="cannot_tell", reason="no_answer", rule="asked"),
        ],
    )

    assert "nobody can tell whether it arrived." in story
    assert "Query 1" in story
    assert "the provider could not tell" in story
    assert "asked next at 15:00:30 EAT (in 30 s)" in story
    for resolution in ("done", "refused", "repeat"):
        assert f'integrationd resolve {CALL_ID} --as {resolution} --note "..."' in story


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("processing", "Nothing: the attempt is under way."),
        ("waiting", "Nothing: it is settled when the provider tells."),
        ("failed", f"Send it again: integrationd retry {CALL_ID}"),
        ("expired", f"Send it again: integrationd retry {CALL_ID}"),
    ],
)
def test_explain_names_what_a_person_can_do(
    command: CommandLine, daemon: Playback, state: str, advice: str
) -> None:
    assert f"What you can do\n  {advice}\n" in told(command, daemon, state=state)


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_explain_names_nothing_where_nothing_can_be_done(
    command: CommandLine, daemon: Playback, state: str
) -> None:
    assert "What you can do" not in told(command, daemon, state=state)


def test_explain_says_when_a_send_never_left(command: CommandLine, daemon: Playback) -> None:
    story = told(command, daemon, attempt_log=[attempt(outcome="retryable", sent=False)])

    assert "it failed before anything had left this machine" in story


def test_explain_shows_an_outcome_that_it_does_not_know(
    command: CommandLine, daemon: Playback
) -> None:
    assert "after 1.3 s teleported" in told(
        command, daemon, attempt_log=[attempt(outcome="teleported")]
    )


def test_explain_says_when_earlier_exchanges_are_missing(
    command: CommandLine, daemon: Playback
) -> None:
    assert "(earlier exchanges are not shown)" in told(
        command, daemon, tries=2, attempt_log=[attempt(number=2)]
    )


def test_explain_sums_recipients_up_and_names_those_that_are_not_done(
    command: CommandLine, daemon: Playback
) -> None:
    def part(name: str, state: str, **more: Any) -> dict[str, Any]:
        return {"recipient": name, "state": state, "reason": None, "detail": None, **more}

    story = told(
        command,
        daemon,
        parts=[
            part("a", "done"),
            part("b", "failed", reason="bad_number", detail="No such number."),
            part("c", "done", delivery="read"),
            *(part(f"d{at}", "open") for at in range(60)),
        ],
    )

    assert "Of 63 recipients: 2 done, 1 failed, 60 open.\n" in story
    assert "  b: failed, bad_number, No such number.\n" in story
    assert "  c: done, read\n" in story
    assert "  a: " not in story
    assert "... and 12 more; --json lists them all." in story


def test_explain_warns_of_evidence_and_says_how_to_acknowledge_it(
    command: CommandLine, daemon: Playback
) -> None:
    story = told(command, daemon, contradiction="The provider says that it was refused.")

    assert "But evidence speaks against this: The provider says" in story
    assert f"integrationd explain {CALL_ID} --acknowledge" in story


def test_explain_acknowledges_before_it_tells(command: CommandLine, daemon: Playback) -> None:
    daemon.play(call(), full())

    command("explain", CALL_ID, "--acknowledge")

    assert [(asked.method, asked.path) for asked in daemon.asked] == [
        ("POST", f"/v1/calls/{CALL_ID}/acknowledge"),
        ("GET", f"/v1/calls/{CALL_ID}"),
    ]


def test_explain_cuts_a_long_payload_and_cannot_be_steered(
    command: CommandLine, daemon: Playback
) -> None:
    story = told(command, daemon, payload={"a": "\x9b\u202e\n" + "x" * 5000}, detail="\x1b[2J")

    assert 'What was asked: {"a": "\\x9b\\u202e\\n' in story
    assert "…\n" in story
    assert "delivered" not in story
    assert "\\x1b[2J" in story


def test_explain_with_json_prints_the_call_unchanged(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(full())

    result = command("explain", CALL_ID, "--json")

    assert result.stdout_bytes == json.dumps(full()).encode() + b"\n"


def test_explain_tells_what_the_provider_sent(command: CommandLine, daemon: Playback) -> None:
    word = {
        "id": "019bc19c-0c00-7000-8000-00000000c0de",
        "received_at": "2026-01-31T11:58:00.000Z",
        "types": "prompt.paid",
        "state": "applied",
        "note": "prompt.paid: noticed, asked at once.",
    }

    story = told(command, daemon, webhooks=[word])

    assert "What the provider sent" in story
    assert f"noticed, asked at once. (webhook {word['id']})" in story
