"""Values that were taken in: they forge no header, no line of the log and no screen."""

import json
import re
import time
from typing import Any

from tests.e2e.running import command
from tests.hostile.sink import Sink
from tests.hostile.target import Target
from tests.hostile.wire import Over

FORGED = "2026-01-01T00:00:00.000000Z [info     ] forged"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
EVIL = f"a\r\n{FORGED}\r\nx-evil: 1 \x1b[2J\x1b]0;owned\x07 \u202egnp.exe \u2028 \x9b31m"
DELIVERED_S = 10.0


def accept(target: Target, over: Over, operation: str, payload: Any, **options: Any) -> str:
    body = json.dumps({"operation": operation, "payload": payload, **options}).encode()
    answer = target.post(body, over=over)
    assert answer.status == 202, answer
    return str(json.loads(answer.body)["id"])


def settled(target: Target, call_id: str) -> str:
    until = time.monotonic() + DELIVERED_S
    while time.monotonic() < until:
        state = str(target.get(f"/v1/calls/{call_id}")["state"])
        if state not in ("pending", "processing"):
            return state
        time.sleep(0.02)
    raise AssertionError(f"{call_id} is not settled")


def test_message_forges_no_line_of_the_log(unharmed: Target, over: Over) -> None:
    before = unharmed.mark()

    call_id = accept(
        unharmed, over, "sms.send", {"to": "+254711000111", "message": EVIL}, connection="text"
    )

    assert settled(unharmed, call_id) == "completed"
    logged = unharmed.log_since(before)
    assert "+254711000111" in logged
    assert not STEERING.search(logged)
    assert not [line for line in logged.splitlines() if line.startswith(FORGED[:30])]


def test_refused_values_forge_no_line_of_the_log(unharmed: Target, over: Over) -> None:
    before = unharmed.mark()

    for member in ("operation", "connection", "tenant", "ordering_key", EVIL):
        body = json.dumps({"operation": "sms.send", member: EVIL}, ensure_ascii=False)
        assert unharmed.post(body.encode(), over=over).status in (400, 422)

    logged = unharmed.log_since(before)
    assert FORGED not in logged
    assert not STEERING.search(logged)


def test_values_forge_no_outbound_header(unharmed: Target, over: Over, sink: Sink) -> None:
    sink.heads.clear()
    call_id = accept(
        unharmed,
        over,
        "http.request",
        {
            "method": "POST",
            "path": "/a b/\u202e\u00e9",
            "query": {EVIL: EVIL},
            "json": {"a": EVIL},
        },
        connection="shop",
    )

    assert settled(unharmed, call_id) == "completed"
    (head,) = sink.heads
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line]
    assert b"x-evil" not in names
    assert names.count(b"host") == 1
    assert not STEERING.search(head.decode("ascii").replace("\r\n", ""))


async def test_screen_is_not_steered(unharmed: Target, over: Over) -> None:
    call_id = accept(
        unharmed,
        over,
        "rehearsal.hold",
        {"reference": EVIL + over},
        metadata={EVIL: EVIL},
        reference={"type": "\u202eorder", "id": "\u202e\u0085\u009b31m"},
    )
    settled(unharmed, call_id)

    for words in (["calls"], ["explain", call_id], ["connections"]):
        shown = await command(unharmed.daemon, *words)
        assert not STEERING.search(shown), words
        assert FORGED not in [line.strip() for line in shown.splitlines()]
