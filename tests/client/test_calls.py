"""Calls by the client: handed over once, waited for, listed, and acted upon."""

import datetime as dt
import time
import uuid
from typing import Any

import pytest
from tests.client.conftest import Door
from tests.client.cutting import Cutter
from tests.faults.daemon import DaemonProcess, free_port

from integrationd.client import (
    AccessError,
    BusyError,
    ConflictError,
    InvalidError,
    NewCall,
    NoAnswerError,
    NotFoundError,
    Reference,
    UnexpectedAnswerError,
    UnreachableError,
)

LATER = dt.datetime(2035, 1, 1, tzinfo=dt.UTC)
NOBODY = "0190a1b2-0000-7000-8000-000000000000"


def test_send_returns_the_call_that_was_kept(client: Any) -> None:
    call = client.send(
        "rehearsal.hold",
        {"script": ["delivered"]},
        not_before=LATER,
        priority="high",
        reference=Reference("order", "4711"),
        metadata={"pupil": 17},
    )

    shown = client.call(call.id)
    assert (call.state, call.is_open, call.is_final) == ("pending", True, False)
    assert (shown.priority, shown.reference) == ("high", Reference("order", "4711"))
    assert shown.next_attempt_at == LATER
    assert shown.payload == {"script": ["delivered"]}
    assert shown.metadata == {"pupil": 17}
    assert client.cancel(call.id).state == "cancelled"


def test_send_that_waits_returns_the_result(client: Any) -> None:
    call = client.send("rehearsal.hold", wait=10)

    assert call.is_completed
    assert call.result == {"step": "delivered"}
    (attempt,) = client.call(call.id).attempt_log
    assert (attempt.kind, attempt.outcome, attempt.connection) == ("send", "delivered", "stage")


def test_send_that_waits_too_short_returns_the_open_call(client: Any) -> None:
    began = time.monotonic()
    call = client.send("rehearsal.hold", not_before=LATER, wait=1.3)
    took_s = time.monotonic() - began

    assert call.state == "pending"
    assert 1.2 < took_s < 3
    client.cancel(call.id)


def test_wait_returns_when_the_call_was_attempted(client: Any) -> None:
    call = client.send("rehearsal.hold", {"script": ["slow:0.5"]})

    assert client.wait(call.id, 10).is_completed


def test_wait_for_the_end_outlasts_what_is_still_open_at_the_provider(client: Any) -> None:
    call = client.send("rehearsal.ask", {"script": ["accepted"]}, wait=5)

    assert call.state == "waiting"
    assert client.wait(call.id, 0.5, final=True).state == "waiting"
    assert client.wait(call.id, 15, final=True).is_completed


def test_same_key_makes_one_call(client: Any, door: Door) -> None:
    key = f"café {door.over} {uuid.uuid4()}"

    first, second = (client.send("rehearsal.hold", {}, key=key) for _ in range(2))

    assert first.id == second.id
    with pytest.raises(InvalidError) as refused:
        client.send("rehearsal.hold", {"script": ["rejected"]}, key=key)
    assert refused.value.status == 422
    assert refused.value.idempotency_key == key


def test_batch_is_accepted_as_a_whole_or_not_at_all(client: Any) -> None:
    good, bad = NewCall(operation="rehearsal.hold"), NewCall(operation="rehearsal.nothing")

    calls = client.send_many([good, good])

    assert len({one.id for one in calls}) == 2
    with pytest.raises(InvalidError) as refused:
        client.send_many([good, bad])
    assert refused.value.problem.pointer == "/calls/1/operation"


def test_lists_go_on_over_all_pages(client: Any) -> None:
    mark = f"page-{uuid.uuid4()}"
    one = NewCall(operation="rehearsal.hold", reference=Reference("page", mark))
    made = client.send_many([one] * 450)

    listed = list(client.calls(reference_type="page", reference_id=mark))

    assert [call.id for call in reversed(listed)] == [call.id for call in made]
    some = [item["id"] for item in client.items("/v1/calls", reference_id=mark)]
    assert some == [call.id for call in listed]


def test_people_settle_what_failed_and_what_nobody_knows(client: Any) -> None:
    failed = client.send("rehearsal.hold", {"script": ["rejected", "delivered"]}, wait=5)
    unknown = client.send("rehearsal.hold", {"script": ["uncertain"]}, wait=5)

    client.retry(failed.id)
    resolved = client.resolve(unknown.id, "done", note="it is on the statement")

    assert (failed.state, failed.reason) == ("failed", "refused")
    assert client.wait(failed.id, 5).is_completed
    assert (unknown.state, resolved.state) == ("unknown", "completed")
    for act in (client.retry, client.cancel):
        with pytest.raises(ConflictError):
            act(resolved.id)


def test_cancelling_twice_is_no_error(client: Any) -> None:
    call = client.send("rehearsal.hold", not_before=LATER)

    assert [client.cancel(call.id).state for _ in range(2)] == ["cancelled"] * 2


def test_ledger_and_status_are_told(client: Any) -> None:
    client.send("rehearsal.hold", wait=5)

    ledger, status = client.ledger(), client.status()

    assert ledger.balances
    assert ledger.total.accepted >= ledger.total.completed >= 1
    assert status.version
    assert status.ledger.accepted == ledger.total.accepted


def test_anything_else_is_asked_for_by_its_path(client: Any) -> None:
    shown = client.request("get", "/v1/connections", params={})

    assert {"stage", "console"} <= {one["id"] for one in shown["items"]}


# Errors


def test_refusals_have_a_kind_and_say_what_to_mend(client: Any) -> None:
    with pytest.raises(InvalidError) as refused:
        client.send("sms.send", {"to": "0711", "message": "Hi"})
    assert refused.value.code == "invalid"
    assert refused.value.problem.pointer == "/payload/to"
    assert "/payload/to" in str(refused.value)
    with pytest.raises(NotFoundError):
        client.call(NOBODY)
    with pytest.raises(NotFoundError):
        client.wait("../status", 1)
    with pytest.raises(NoAnswerError):
        client.send("rehearsal.read", {"script": ["slow:5"]}, wait=1)


def test_wrong_key_is_an_access_error(door: Door, daemon: DaemonProcess) -> None:
    with (
        door.open_at(url=daemon.url, key="idk_wrong_key", patience=0.5) as client,
        pytest.raises((AccessError, BusyError)) as refused,
    ):
        client.ledger()
    assert refused.value.code in ("key_wrong", "too_many_bad_keys")


def test_nobody_there_is_unreachable_after_patience(door: Door) -> None:
    began = time.monotonic()
    with (
        door.open_at(url=f"http://127.0.0.1:{free_port()}", patience=0.6) as client,
        pytest.raises(UnreachableError) as failed,
    ):
        client.send("sms.send", {"to": "+254711000111", "message": "Hi"}, key="k-1")

    assert 0.2 < time.monotonic() - began < 3
    assert not failed.value.maybe_arrived
    assert failed.value.idempotency_key == "k-1"


def test_something_else_that_answers_is_named_as_that(door: Door, daemon: DaemonProcess) -> None:
    with (
        door.open_at(url=f"{daemon.url}/nowhere", key="idk_x", patience=0.5) as client,
        pytest.raises((NotFoundError, AccessError, BusyError)),
    ):
        client.ledger()
    with door.open(daemon) as client, pytest.raises(UnexpectedAnswerError):
        client.request("GET", "/metrics")


# Lost answers


@pytest.mark.parametrize("loss", ["all", "half"])
def test_lost_answers_make_no_second_call(door: Door, daemon: DaemonProcess, loss: Any) -> None:
    mark = f"{loss}-{uuid.uuid4()}"
    with Cutter(daemon.socket) as line, door.open_at(url=line.url, patience=5) as client:
        line.losses.extend([loss] * 3)
        call = client.send("rehearsal.hold", reference=Reference("lost", mark), wait=5)
        posts = [one for one in line.passed if one.startswith(b"POST")]

    assert call.is_completed
    assert len(posts) == 4
    with door.open(daemon) as client:
        kept = list(client.calls(reference_type="lost", reference_id=mark))
        assert [(one.id, one.attempts) for one in kept] == [(call.id, 1)]


def test_lost_answers_make_no_second_batch(door: Door, daemon: DaemonProcess) -> None:
    mark = f"batch-{uuid.uuid4()}"
    one = NewCall(operation="rehearsal.hold", reference=Reference("lost", mark))
    with Cutter(daemon.socket) as line, door.open_at(url=line.url, patience=5) as client:
        line.losses.extend(["all", "half"])
        made = client.send_many([one] * 3)

    with door.open(daemon) as client:
        kept = list(client.calls(reference_id=mark))
        assert {call.id for call in kept} == {call.id for call in made}
        assert len(kept) == 3


def test_what_cannot_be_repeated_is_not(door: Door, daemon: DaemonProcess) -> None:
    with door.open(daemon) as client:
        call = client.send("rehearsal.hold", {"script": ["uncertain"]}, wait=5)
    assert call.state == "unknown"
    with Cutter(daemon.socket) as line, door.open_at(url=line.url, patience=5) as client:
        line.losses.append("all")
        with pytest.raises(UnreachableError) as failed:
            client.resolve(call.id, "repeat")
        assert failed.value.maybe_arrived
        assert len(line.passed) == 1
