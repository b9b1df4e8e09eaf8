"""What holds for both clients without a daemon: what they offer, and what they repeat."""

import inspect
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from integrationd import client as package
from integrationd.client import AsyncClient, Client, GoneError, UnexpectedAnswerError
from integrationd.client.address import DEFAULT_SOCKET, Address
from integrationd.client.errors import error_of
from integrationd.client.exchange import Lost, Pause, Reply, Request
from integrationd.client.plans import Plans
from integrationd.client.stream import Follower
from integrationd.settings import ApiSettings

FRAME = b'id: %d\nevent: a.b\ndata: {"seq": %d, "type": "a.b", "data": {}}\n\n'


def offered(kind: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def test_both_clients_offer_the_same() -> None:
    blocking, awaiting = offered(Client), offered(AsyncClient)

    assert list(blocking) == list(awaiting)
    for name, method in blocking.items():
        mine, other = inspect.signature(method), inspect.signature(awaiting[name])
        assert list(mine.parameters.values()) == list(other.parameters.values()), name
        if not inspect.isgeneratorfunction(method) and name != "events":
            assert get_type_hints(method) == get_type_hints(awaiting[name]), name
    assert list(inspect.signature(Client).parameters.values()) == list(
        inspect.signature(AsyncClient).parameters.values()
    )


def test_package_offers_what_its_clients_take_and_give() -> None:
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


@pytest.mark.parametrize(
    ("environ", "socket"),
    [({}, DEFAULT_SOCKET), ({"INTEGRATIOND_SOCKET": "/tmp/d.sock"}, Path("/tmp/d.sock"))],
)
def test_daemon_is_looked_for_where_the_command_line_does(
    environ: dict[str, str], socket: Path
) -> None:
    assert Address.find(None, None, None, environ) == Address(socket=socket)
    assert ApiSettings().socket == DEFAULT_SOCKET


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"socket": "a.sock", "url": "http://localhost"}, "not with both"),
        ({"key": "idk_x"}, "goes with a url"),
        ({"url": "localhost:8700"}, "not http"),
        ({"url": "http://localhost", "key": "a\nb"}, "no API key"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(place: dict[str, str], told: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=told):
            kind(**place)  # type: ignore[arg-type] # the parameters differ in kind


def test_key_does_not_show() -> None:
    assert "idk_secret" not in repr(Address.find(None, "http://localhost", "idk_secret", {}))


# What is repeated, and for how long


class Clock:
    """Time that passes only while a plan pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def carried_out(plan: Any, clock: Clock, answers: Iterator[Reply | Lost]) -> Any:
    step = next(plan)
    while True:
        if isinstance(step, Pause):
            clock.now += step.seconds
        heard = None if isinstance(step, Pause) else next(answers)
        try:
            step = plan.send(heard)
        except StopIteration as end:
            return end.value


def problem(status: int, **headers: str) -> Reply:
    body = b'{"title": "", "status": %d, "code": "c", "detail": "d"}' % status
    return Reply(status, headers, body)


DONE = Reply(200, {}, b'{"id": "1", "state": "completed"}')


@pytest.mark.parametrize("status", [429, 503, 507])
def test_retry_after_is_waited_for(status: int) -> None:
    clock = Clock()
    busy = problem(status, **{"retry-after": "7"})

    call = carried_out(Plans(clock.monotonic, 30).call("1"), clock, iter([busy, busy, DONE]))

    assert call.is_completed
    assert clock.now == 114.0


def test_patience_ends_before_a_retry_after_beyond_it() -> None:
    clock = Clock()

    with pytest.raises(package.BusyError):
        carried_out(
            Plans(clock.monotonic, 30).call("1"),
            clock,
            iter([problem(429, **{"retry-after": "31"})]),
        )
    assert clock.now == 100.0


@pytest.mark.parametrize("lost", [Lost("cut", True), problem(503)])
def test_retry_is_not_repeated_where_it_may_have_been_done(lost: Reply | Lost) -> None:
    clock = Clock()

    with pytest.raises(package.ClientError):
        carried_out(Plans(clock.monotonic, 30).retry("1"), clock, iter([lost]))


def test_retry_is_repeated_where_it_was_not_done() -> None:
    clock = Clock()
    answers: Iterator[Reply | Lost] = iter([Lost("refused", False), problem(507), DONE])

    assert carried_out(Plans(clock.monotonic, 30).retry("1"), clock, answers).is_completed


def test_submit_keeps_its_key_and_shortens_its_wait() -> None:
    clock, asked = Clock(), []
    plan = Plans(clock.monotonic, 30).send(package.NewCall(operation="a.b"), 10)
    step: Any = next(plan)
    for _ in range(3):
        while isinstance(step, Pause):
            clock.now += step.seconds
            step = plan.send(None)
        assert isinstance(step, Request)
        asked.append(step)
        clock.now += 2
        step = plan.send(Lost("cut", True))
    plan.close()

    assert len({one.headers["Idempotency-Key"] for one in asked}) == 1
    assert [one.wait_s for one in asked] == [10, 8, 5]


def test_key_that_no_header_can_hold_is_refused_before_it_is_sent() -> None:
    new = package.NewCall(operation="a.b", idempotency_key="a\nb")

    with pytest.raises(ValueError, match="printable"):
        next(Plans(Clock().monotonic, 30).send(new, 0))


def test_answer_of_something_else_is_no_problem_of_the_daemon() -> None:
    assert isinstance(error_of(502, b"<html>"), UnexpectedAnswerError)
    assert isinstance(error_of(410, problem(410).body), GoneError)


# Streams


def test_events_are_whole_however_they_are_cut() -> None:
    sent = b": here\n\n" + b"".join(FRAME % (one, one) for one in range(1, 6))

    for size in (1, 2, 7, 1000):
        follower = Follower(0, {}, 1)
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        assert [e.seq for piece in pieces for e in follower.take(piece)] == [1, 2, 3, 4, 5]


def test_stream_goes_on_after_the_last_event_or_sign_of_life() -> None:
    follower = Follower(None, {"type": "a.*"}, 1)
    assert "Last-Event-ID" not in follower.arguments()["headers"]

    told = list(follower.take(FRAME % (4, 4) + b": here\nid: 9\n\n" + (FRAME % (10, 10))[:30]))

    assert [event.seq for event in told] == [4]
    assert follower.arguments()["headers"]["Last-Event-ID"] == "9"
    again = FRAME % (9, 9) + FRAME % (10, 10)
    assert [event.seq for event in follower.take(again)] == [10]


def test_stream_that_has_stood_is_connected_again_for_ever() -> None:
    follower, gone = Follower(None, {}, 1), Lost("refused", False)
    list(follower.take(b": here\n\n"))

    pauses = [follower.pause_after(gone).seconds for _ in range(50)]

    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert max(pauses) == 5.0
    with pytest.raises(GoneError):
        follower.pause_after(problem(410))


def test_stream_that_never_stood_is_given_up() -> None:
    follower = Follower(None, {}, 0.5)

    with pytest.raises(package.UnreachableError):
        deque(follower.pause_after(Lost("refused", False)) for _ in range(10))


def test_endless_frame_is_no_stream_of_events() -> None:
    follower = Follower(None, {}, 1)

    with pytest.raises(UnexpectedAnswerError):
        deque(list(follower.take(b"x" * 1024 * 1024)) for _ in range(20))
