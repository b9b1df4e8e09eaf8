"""The gate: breaker, rate and slots joined."""

import pytest
from tests.fake_clock import FakeClock

from integrationd.delivery.breaker import Breaker, BreakerPolicy
from integrationd.delivery.gate import Gate
from integrationd.limiter import Rate
from integrationd.sdk import (
    CannotTell,
    Delivered,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)

MINUTE_MS = 60_000
POLICY = BreakerPolicy(failures=2, open_for_s=60, successes=1)


def gate(clock: FakeClock, rate: Rate | None = None, concurrency: int = 3) -> Gate:
    return Gate("shop", Breaker(policy=POLICY), rate, concurrency, clock)


def test_gate_tells_whose_connection_it_is_of() -> None:
    clock = FakeClock()
    one = Gate("shop", Breaker(policy=POLICY), None, 3, clock, "school")

    _, moved = one.reset("uid:0", clock.now_ms())

    assert (moved.connection, moved.tenant, moved.by) == ("shop", "school", "uid:0")


def fail(one: Gate, now_ms: int) -> None:
    one.end(Uncertain(reason="timeout"), one.start(now_ms), now_ms)


def test_gate_lets_no_more_than_its_slots_run() -> None:
    clock = FakeClock()
    one, now_ms = gate(clock), clock.now_ms()

    terms = [one.start(now_ms) for _ in range(3)]

    assert one.capacity(now_ms) == 0
    assert one.next_ms(now_ms) is None
    one.end(Delivered(), terms[0], now_ms)
    assert one.capacity(now_ms) == 1


def test_gate_waits_for_the_rate() -> None:
    clock = FakeClock()
    one, now_ms = gate(clock, Rate(2, 1)), clock.now_ms()

    one.start(now_ms)

    assert one.capacity(now_ms) == 0
    assert one.next_ms(now_ms) == now_ms + 500


def test_gate_with_an_open_breaker_says_when_it_is_tried_again() -> None:
    clock = FakeClock()
    one, now_ms = gate(clock), clock.now_ms()

    fail(one, now_ms)
    fail(one, now_ms)

    assert one.capacity(now_ms) == 0
    assert one.status().breaker == "open"
    assert one.next_ms(now_ms) == now_ms + MINUTE_MS
    assert one.capacity(now_ms + MINUTE_MS) == 1


def test_gate_closes_in_time_although_the_clock_was_set_back_a_day() -> None:
    clock = FakeClock()
    one, now_ms = gate(clock), clock.now_ms()
    fail(one, now_ms)
    fail(one, now_ms)
    earlier_ms = now_ms - 24 * 60 * MINUTE_MS

    looks = [one.capacity(earlier_ms + minute * MINUTE_MS) for minute in range(3)]

    assert looks == [0, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        Rejected(reason="no"),
        Throttled(),
        CannotTell(reason="cannot_ask"),
    ],
)
def test_gate_breaker_is_not_moved_by_what_says_nothing_of_health(answer: Rejected) -> None:
    clock = FakeClock()
    one, now_ms = gate(clock), clock.now_ms()

    for _ in range(5):
        assert one.end(answer, one.start(now_ms), now_ms) is None

    assert one.status().breaker == "closed"


def test_gate_tells_what_to_store_only_when_the_breaker_moves() -> None:
    clock = FakeClock()
    one, now_ms = gate(clock), clock.now_ms()
    failed = Retryable(reason="busy")

    first = one.end(failed, one.start(now_ms), now_ms)
    second = one.end(failed, one.start(now_ms), now_ms)

    assert first is None
    assert second is not None


def test_gate_forgets_an_attempt_that_never_began() -> None:
    clock = FakeClock()
    one, now_ms = gate(clock, concurrency=1), clock.now_ms()

    one.abandon(one.start(now_ms))

    assert one.capacity(now_ms) == 1
