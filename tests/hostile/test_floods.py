"""Clients that are slow, huge, many or gone: nobody waits for them, and nothing grows."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.hostile.target import DEADLINE_S, QUICK_S, Target
from tests.hostile.wire import Over, Wire, request

MIB = 1024 * 1024
SLOW_CLIENTS = 20
IDLE_CONNECTIONS = 1000
PIPELINED = 10_000
RESETS = 100
TWINS = 100
# A deadline, the moment in which a refused client may still send, and a busy machine.
PATIENCE_S = DEADLINE_S + 4.0

_CALL = b'{"operation":"rehearsal.hold","payload":{"script":["delivered"]}}'
_DECLARED = request(b"POST", b"/v1/calls", None, b"content-length: 1000")
_CHUNKED = request(b"POST", b"/v1/calls", None, b"transfer-encoding: chunked")
_HEALTH = request(b"GET", b"/healthz", None)


@contextlib.contextmanager
def trickling(wire: Wire, every_s: float = 0.05) -> Iterator[None]:
    """Send a byte now and then until the context ends."""
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(every_s) and wire.send(b"x"):
            pass

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    "begun",
    [b"P", _DECLARED[:-4] + b"\r\na: ", _DECLARED, _CHUNKED + b"3e8\r\n"],
    ids=["method", "header", "declared body", "chunked body"],
)
def test_slow_client_is_refused_in_time(unharmed: Target, over: Over, begun: bytes) -> None:
    def be_slow(_: int) -> tuple[int, str, float]:
        began = time.monotonic()
        with Wire(unharmed.daemon, over) as wire:
            wire.send(begun)
            with trickling(wire):
                answer = wire.last_answer()
        assert answer is not None
        return answer.status, answer.code, time.monotonic() - began

    with ThreadPoolExecutor(SLOW_CLIENTS) as pool:
        endings = list(pool.map(be_slow, range(SLOW_CLIENTS)))

    if begun == b"P":
        # No method grows this long: it need not be waited for.
        assert {status for status, _, _ in endings} <= {400, 408}
    else:
        assert {(status, code) for status, code, _ in endings} == {(408, "request_timeout")}
    assert max(seconds for _, _, seconds in endings) < PATIENCE_S


def test_body_that_was_expected_and_never_comes_is_given_up(unharmed: Target, over: Over) -> None:
    with Wire(unharmed.daemon, over) as wire:
        wire.send(
            request(b"POST", b"/v1/calls", None, b"content-length: 9", b"expect: 100-continue")
        )
        first, last = wire.answer(), wire.last_answer()

    assert first is not None
    assert last is not None
    assert (first.status, last.status, last.code) == (100, 408, "request_timeout")


@pytest.mark.parametrize("size", [200 * MIB, 10 * 1024 * MIB], ids=["200 MiB", "10 GiB"])
def test_declared_flood_is_refused_before_it_comes(unharmed: Target, over: Over, size: int) -> None:
    def flood(wire: Wire) -> None:
        wire.send(request(b"POST", b"/v1/calls", None, b"content-length: %d" % size))
        pour(wire, b"x" * MIB, 200)

    assert_refused_as_too_large(unharmed, over, flood)


def test_chunked_flood_is_refused_on_the_way(unharmed: Target, over: Over) -> None:
    def flood(wire: Wire) -> None:
        wire.send(_CHUNKED)
        pour(wire, b"100000\r\n" + b"x" * MIB + b"\r\n", 200)

    assert_refused_as_too_large(unharmed, over, flood)


def pour(wire: Wire, piece: bytes, times: int) -> None:
    for _ in range(times):
        if not wire.send(piece):
            return


def assert_refused_as_too_large(target: Target, over: Over, flood: Callable[[Wire], None]) -> None:
    with Wire(target.daemon, over) as wire:
        flood(wire)
        # Whoever goes on for longer than the daemon listens may find a reset.
        with contextlib.suppress(ConnectionResetError):
            answer = wire.answer()
            assert answer is not None
            assert (answer.status, answer.code) == (413, "too_large")


def test_pipeline_without_end_is_cut_in_order(unharmed: Target, over: Over) -> None:
    with Wire(unharmed.daemon, over) as wire:
        sender = threading.Thread(target=wire.send, args=(_HEALTH * PIPELINED,))
        sender.start()
        answers = wire.answers()
        sender.join()

    statuses = [answer.status for answer in answers]
    assert 0 < len(statuses) < PIPELINED
    assert set(statuses[:-1]) <= {200}
    assert (statuses[-1], answers[-1].code) == (429, "pipeline_full")


def test_idle_connections_disturb_nobody_and_end(unharmed: Target, over: Over) -> None:
    with contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(Wire(unharmed.daemon, over, PATIENCE_S + 5))
            for _ in range(IDLE_CONNECTIONS)
        ]
        began = time.monotonic()
        assert unharmed.get("/healthz", over) == {"status": "ok"}
        assert time.monotonic() - began < QUICK_S
        assert [wire.answer() for wire in wires] == [None] * IDLE_CONNECTIONS
        assert time.monotonic() - began < PATIENCE_S


def test_half_closed_client_gets_its_answer(unharmed: Target, over: Over) -> None:
    with Wire(unharmed.daemon, over) as wire:
        wire.send(request(body=_CALL))
        wire.finish()
        answers = wire.answers()

    unharmed.note(answers)
    assert [answer.status for answer in answers] == [202]


@pytest.mark.parametrize("part", [len(request(body=_CALL)), 40, -10], ids=["all", "head", "body"])
def test_client_that_resets_may_ask_again(unharmed: Target, over: Over, part: int) -> None:
    """Whatever of it was kept before the reset, its key finds it; nothing is kept twice."""
    for number in range(RESETS):
        key = b"idempotency-key: %b-%d-%d" % (over.encode(), part, number)
        with Wire(unharmed.daemon, over) as wire:
            wire.send(request(b"POST", b"/v1/calls", _CALL, key)[:part])
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 10 == 0:
            assert unharmed.post(_CALL, key).status == 202
    for number in range(RESETS):
        key = b"idempotency-key: %b-%d-%d" % (over.encode(), part, number)
        assert unharmed.post(_CALL, key).status == 202


def test_twins_of_one_key_are_one_call(unharmed: Target, over: Over) -> None:
    key = b"idempotency-key: twins-" + over.encode()
    starting = threading.Barrier(TWINS)

    def order(_: int) -> str:
        starting.wait(20)
        answer = unharmed.post(_CALL, key, over=over)
        assert answer.status == 202, answer
        return str(json.loads(answer.body)["id"])

    with ThreadPoolExecutor(TWINS) as pool:
        ids = set(pool.map(order, range(TWINS)))
    changed = unharmed.post(_CALL.replace(b"delivered", b"rejected"), key, over=over)

    assert len(ids) == 1
    assert changed.status == 422
