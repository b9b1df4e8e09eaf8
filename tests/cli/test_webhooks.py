"""What providers sent, as a person reads it in a terminal."""

import json
from typing import Any

import pytest
from tests.cli.conftest import CALL_ID, CommandLine, Playback, problem

from integrationd.cli.exits import Exit

WEBHOOK_ID = "0190b5f0-7c1a-7000-8000-00000000b0b0"


def webhook(**changes: Any) -> dict[str, Any]:
    return {
        "id": WEBHOOK_ID,
        "connection": "till",
        "provider": "paystack",
        "tenant": "default",
        "received_at": "2026-01-31T11:57:00.000Z",
        "source": "52.31.139.75",
        "path": "",
        "types": "charge.success",
        "state": "applied",
        "note": "charge.success: confirmed by the provider.",
        "call_id": CALL_ID,
        "proof": "signature",
        "repeats": 0,
        "repeated_at": None,
        "reply_status": 200,
        "headers": None,
        "body": None,
        "body_base64": None,
        **changes,
    }


def endpoint(**changes: Any) -> dict[str, Any]:
    return {
        "connection": "till",
        "provider": "paystack",
        "address": "https://hooks.school.example/hooks/6e74",
        "path": "/webhooks/paystack/till",
        "received": 12,
        "repeats": 3,
        "last_received_at": "2026-01-31T11:57:00.000Z",
        **changes,
    }


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "next": None}


@pytest.mark.parametrize("words", [("webhooks",), ("webhooks", "list")])
def test_webhooks_are_a_table_with_whole_ids(
    command: CommandLine, daemon: Playback, words: tuple[str, ...]
) -> None:
    daemon.play(page(webhook(), webhook(types="", state="ignored", note=None)))

    result = command(*words)

    assert result.exit_code == Exit.OK
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["ID", "RECEIVED", "CONNECTION", "TYPES", "STATE", "NOTE"]
    assert first.split()[0] == WEBHOOK_ID
    assert first.endswith("charge.success  applied  charge.success: confirmed by the provider.")
    assert second.split()[-2:] == ["-", "ignored"]


def test_empty_inbox_says_so(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    assert command("webhooks").stdout == "No webhooks.\n"


def test_filters_are_passed_on(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    command("webhooks", "list", "--connection", "till", "--state", "unmatched", "--limit", "5")

    path, _, query = daemon.asked[0].path.partition("?")
    assert path == "/v1/webhooks"
    assert sorted(query.split("&")) == ["connection=till", "limit=5", "state=unmatched"]


def test_one_webhook_is_told_as_a_story(command: CommandLine, daemon: Playback) -> None:
    body = '{"event":"charge.success"}'
    daemon.play(
        webhook(body=body, repeats=2, repeated_at="2026-01-31T11:58:00.000Z", headers={"a": "b"})
    )

    result = command("webhooks", "show", WEBHOOK_ID)

    assert result.exit_code == Exit.OK
    assert daemon.asked[0].path == f"/v1/webhooks/{WEBHOOK_ID}"
    for words in (
        f"Webhook {WEBHOOK_ID} is applied: charge.success: confirmed by the provider.",
        "to till (paystack) from 52.31.139.75",
        "Proved by signature; answered 200",
        "Tells: charge.success",
        f"About call {CALL_ID}",
        "Copies: 2, the last ",
        body,
    ):
        assert words in result.stdout


def test_body_that_is_no_text_is_shown_as_what_it_is(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(webhook(body_base64="/w==", types="", call_id=None))

    result = command("webhooks", "show", WEBHOOK_ID)

    assert result.stdout.endswith("(not text, base64) /w==\n")
    assert "Tells: nothing that concerns us" in result.stdout
    assert "About call" not in result.stdout


def test_what_a_stranger_wrote_cannot_steer_the_terminal(
    command: CommandLine, daemon: Playback
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r"
    daemon.play(page(webhook(types=evil, note=evil)), webhook(body=evil, types=evil))

    for words in (("webhooks",), ("webhooks", "show", WEBHOOK_ID)):
        shown = command(*words).stdout
        assert "\x1b" not in shown
        assert "\x07" not in shown


def test_replay_asks_for_it_and_says_so(command: CommandLine, daemon: Playback) -> None:
    daemon.play(webhook())

    result = command("webhooks", "replay", WEBHOOK_ID)

    assert (daemon.asked[0].method, daemon.asked[0].path) == (
        "POST",
        f"/v1/webhooks/{WEBHOOK_ID}/replay",
    )
    assert result.stdout == f"Webhook {WEBHOOK_ID} is worked on again.\n"


@pytest.mark.parametrize("verb", ["show", "replay"])
@pytest.mark.parametrize("given", ["", "x", "../calls", WEBHOOK_ID[:-1], WEBHOOK_ID.upper() + "0"])
def test_what_is_no_id_is_refused_before_the_daemon_is_asked(
    command: CommandLine, daemon: Playback, verb: str, given: str
) -> None:
    result = command("webhooks", verb, given)

    assert result.exit_code == Exit.USAGE
    assert "not the id of a webhook" in result.stderr
    assert daemon.asked == []


def test_webhook_that_is_not_there_is_told_as_the_daemon_tells_it(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(problem(404, "no_such_webhook", f"there is no webhook '{WEBHOOK_ID}'"))

    result = command("webhooks", "show", WEBHOOK_ID)

    assert result.exit_code != Exit.OK
    assert "there is no webhook" in result.stderr


def test_endpoints_are_a_table_with_their_addresses(command: CommandLine, daemon: Playback) -> None:
    daemon.play(
        page(
            endpoint(),
            endpoint(connection="b", address=None, received=0, repeats=0, last_received_at=None),
        )
    )

    result = command("webhooks", "endpoints")

    assert daemon.asked[0].path == "/v1/webhook-endpoints"
    _, first, second = result.stdout.splitlines()
    assert first.split()[:4] == ["till", "paystack", "12", "3"]
    assert first.endswith("https://hooks.school.example/hooks/6e74")
    assert second.split() == ["b", "paystack", "0", "0", "never", "/webhooks/paystack/till"]


def test_nobody_that_receives_says_so(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    assert command("webhooks", "endpoints").stdout == "No connection receives webhooks.\n"


def test_json_is_what_the_daemon_said(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page(webhook()))

    result = command("webhooks", "list", "--json")

    assert json.loads(result.stdout)["items"][0]["id"] == WEBHOOK_ID
