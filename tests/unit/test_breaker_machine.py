"""The breaker: every arrow of its diagram, none beside it, and no way to get stuck."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.breaker_cases import (
    ARROWS,
    CLOSED,
    DAY_MS,
    HALF_OPEN,
    NOW_MS,
    OPEN,
    OPEN_MS,
    report,
)

from integrationd.delivery.breaker import UNLIMITED, Breaker, BreakerPolicy, BreakerState


@dataclasses.dataclass(frozen=True)
class World:
    """A breaker of a small policy, the time since it opened, and the attempts under way.

    An attempt is the number of terms that have gone by since it began; old ones are all alike.
    """

    breaker: Breaker
    elapsed_ms: int
    attempts: tuple[int, ...]

    def after(self, breaker: Breaker, elapsed_ms: int, attempts: tuple[int, ...]) -> "World":
        gone = breaker.term - self.breaker.term
        aged = tuple(sorted(min(1, age + gone) for age in attempts))
        opened = breaker.state is OPEN and self.breaker.state is not OPEN
        plain = dataclasses.replace(breaker, term=0, opened_at_ms=NOW_MS)
        return World(plain, 0 if opened else elapsed_ms, aged)

    def steps(self) -> Iterator[tuple[str, "World"]]:
        """Do everything that can happen next, each thing by itself."""
        now_ms = NOW_MS + self.elapsed_ms
        yield "reset", self.after(self.breaker.reset(), self.elapsed_ms, self.attempts)
        later_ms = min(self.elapsed_ms + OPEN_MS // 2, OPEN_MS)
        yield "time", self.after(self.breaker.at(NOW_MS + later_ms), later_ms, self.attempts)
        if self.breaker.permits(now_ms) and len(self.attempts) < 3:
            started = self.breaker.on_start(now_ms)
            begun = self.after(started, self.elapsed_ms, self.attempts)
            yield "start", dataclasses.replace(begun, attempts=(0, *begun.attempts))
        for index, age in enumerate(self.attempts):
            others = self.attempts[:index] + self.attempts[index + 1 :]
            for end in ("success", "failure", "neutral"):
                ended = report(self.breaker, end, self.breaker.term - age, now_ms)
                yield end, self.after(ended, self.elapsed_ms, others)


def explored(policy: BreakerPolicy) -> dict[World, list[tuple[str, World]]]:
    """Walk through every world that can be reached."""
    found: dict[World, list[tuple[str, World]]] = {}
    ahead = [World(Breaker(policy=policy, opened_at_ms=NOW_MS), 0, ())]
    while ahead:
        world = ahead.pop()
        if world not in found:
            found[world] = list(world.steps())
            ahead.extend(after for _, after in found[world])
    return found


POLICIES = [
    BreakerPolicy(failures=2, successes=2),
    BreakerPolicy(failures=1, successes=1),
    BreakerPolicy(failures=9, successes=2, failure_rate=0.5, window=3, min_results=2),
]


class TestEveryReachableWorld:
    """Exhaustive for small policies: not a sample, but all there is."""

    @pytest.mark.parametrize("policy", POLICIES)
    def test_arrows_are_exactly_those_of_the_diagram(self, policy: BreakerPolicy) -> None:
        arrows = {
            (before.breaker.state, action, after.breaker.state)
            for before, steps in explored(policy).items()
            for action, after in steps
            if before.breaker.state is not after.breaker.state
        }

        assert arrows == ARROWS

    @pytest.mark.parametrize("policy", POLICIES)
    def test_an_attempt_may_start_or_is_under_way_or_time_will_permit_one(
        self, policy: BreakerPolicy
    ) -> None:
        for world in explored(policy):
            now_ms = NOW_MS + world.elapsed_ms
            is_probing = world.breaker.probing and 0 in world.attempts
            next_ms = world.breaker.next_change_ms(now_ms)
            if next_ms is not None:
                assert now_ms < next_ms <= now_ms + OPEN_MS
                assert world.breaker.permits(next_ms) == 1
            else:
                assert world.breaker.permits(now_ms) or is_probing

    @pytest.mark.parametrize("policy", POLICIES)
    def test_results_of_an_earlier_term_change_nothing(self, policy: BreakerPolicy) -> None:
        for world in explored(policy):
            for end in ("success", "failure", "neutral"):
                now_ms = NOW_MS + world.elapsed_ms
                assert report(world.breaker, end, world.breaker.term - 1, now_ms) is world.breaker


class BreakerMachine(RuleBasedStateMachine):
    """Attempts that start and end in any order, restarts, resets, and a clock that jumps."""

    @initialize(
        failures=st.integers(1, 6),
        successes=st.integers(1, 4),
        rate=st.none() | st.floats(0.01, 1),
        window=st.integers(1, 12),
        min_results=st.integers(1, 12),
    )
    def begin(
        self, failures: int, successes: int, rate: float | None, window: int, min_results: int
    ) -> None:
        self.policy = BreakerPolicy(
            failures=failures,
            successes=successes,
            failure_rate=rate,
            window=window,
            min_results=min_results,
        )
        self.breaker = Breaker(policy=self.policy)
        self.now_ms = NOW_MS
        self.attempts: list[tuple[int, BreakerState]] = []
        self.probe: int | None = None
        self.in_a_row = 0

    def move(self, change: Callable[[Breaker], Breaker], action: str) -> None:
        before = self.breaker
        self.breaker = change(before)
        if self.breaker.state is not before.state:
            assert (before.state, action, self.breaker.state) in ARROWS
            assert self.breaker.term > before.term
            self.probe = None
            self.in_a_row = 0

    @rule(step_ms=st.sampled_from([0, 1, 1000, OPEN_MS - 1, OPEN_MS, DAY_MS, -1, -1000, -DAY_MS]))
    def time_passes(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.move(lambda breaker: breaker.at(self.now_ms), "time")

    @precondition(lambda self: self.breaker.permits(self.now_ms) > 0)
    @rule()
    def attempt_starts(self) -> None:
        assert self.probe is None
        self.move(lambda breaker: breaker.on_start(self.now_ms), "time")
        self.attempts.append((self.breaker.term, self.breaker.state))
        if self.breaker.state is HALF_OPEN:
            self.probe = self.breaker.term

    @precondition(lambda self: self.breaker.permits(self.now_ms) == 0)
    @rule()
    def attempt_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no attempt may start"):
            self.breaker.on_start(self.now_ms)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), end=st.sampled_from(["success", "failure", "neutral"]))
    def attempt_ends(self, data: st.DataObject, end: str) -> None:
        index = data.draw(st.integers(0, len(self.attempts) - 1))
        term, began = self.attempts.pop(index)
        before = self.breaker
        is_current = term == before.term and began is before.state
        if is_current and term == self.probe:
            self.probe = None
        if is_current and began is CLOSED and end != "neutral":
            self.in_a_row = self.in_a_row + 1 if end == "failure" else 0
        due = self.in_a_row >= self.policy.failures
        self.move(lambda breaker: report(breaker, end, term, self.now_ms), end)
        if not is_current:
            assert self.breaker is before
        if is_current and end == "failure" and (began is HALF_OPEN or due):
            assert self.breaker.state is OPEN

    @rule()
    def person_resets(self) -> None:
        self.move(lambda breaker: breaker.reset(), "reset")
        self.probe, self.in_a_row = None, 0
        assert self.breaker.state is CLOSED

    @rule(down_ms=st.sampled_from([0, OPEN_MS - 1, OPEN_MS, DAY_MS, -DAY_MS]))
    def daemon_restarts(self, down_ms: int) -> None:
        before, self.now_ms = self.breaker, self.now_ms + down_ms
        self.breaker = Breaker.restore(before.to_record(), self.policy, self.now_ms)
        assert self.breaker.state is before.at(self.now_ms).state
        assert self.breaker.failures == before.failures
        self.attempts, self.probe = [], None

    @invariant()
    def permits_what_the_state_says(self) -> None:
        seen = self.breaker.at(self.now_ms)
        expected = {CLOSED: UNLIMITED, OPEN: 0, HALF_OPEN: 0 if self.probe is not None else 1}
        assert self.breaker.permits(self.now_ms) == expected[seen.state]

    @invariant()
    def is_never_open_for_longer_than_its_time(self) -> None:
        next_ms = self.breaker.next_change_ms(self.now_ms)
        if next_ms is not None:
            assert self.now_ms < next_ms <= self.now_ms + OPEN_MS


TestBreakerMachine = BreakerMachine.TestCase
