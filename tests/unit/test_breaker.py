"""The breaker: every arrow of its diagram, none beside it, and no way to get stuck."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from integrationd.delivery.breaker import UNLIMITED, Breaker, BreakerPolicy, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
NOW_MS = 1_750_000_000_000
OPEN_MS = 60_000
DAY_MS = 86_400_000

ARROWS = {
    (CLOSED, "failure", OPEN),
    (OPEN, "time", HALF_OPEN),
    (HALF_OPEN, "failure", OPEN),
    (HALF_OPEN, "success", CLOSED),
    (OPEN, "reset", CLOSED),
    (HALF_OPEN, "reset", CLOSED),
}


def failed(breaker: Breaker, times: int = 1, now_ms: int = NOW_MS) -> Breaker:
    for _ in range(times):
        breaker = breaker.on_failure(breaker.term, now_ms)
    return breaker


def opened(policy: BreakerPolicy | None = None, now_ms: int = NOW_MS) -> Breaker:
    policy = policy or BreakerPolicy()
    return failed(Breaker(policy=policy), policy.failures, now_ms)


def probing(policy: BreakerPolicy | None = None, now_ms: int = NOW_MS) -> Breaker:
    return opened(policy, now_ms).on_start(now_ms + OPEN_MS)


def results(breaker: Breaker, outcomes: str) -> Breaker:
    """Feed results to a closed breaker: F for a failure, S for a success."""
    for outcome in outcomes:
        breaker = failed(breaker) if outcome == "F" else breaker.on_success(breaker.term)
    return breaker


class TestClosed:
    def test_closed_breaker_permits_any_number(self) -> None:
        assert Breaker().permits(NOW_MS) == UNLIMITED
        assert Breaker().next_change_ms(NOW_MS) is None
        assert Breaker().on_start(NOW_MS) == Breaker()

    def test_failures_in_a_row_open_it(self) -> None:
        breaker = failed(Breaker(), 4)
        assert breaker.state is CLOSED

        assert failed(breaker).state is OPEN

    def test_success_ends_a_row_of_failures(self) -> None:
        breaker = results(Breaker(), "FFFFSFFFF")

        assert breaker.state is CLOSED
        assert failed(breaker).state is OPEN

    def test_neutral_result_changes_nothing(self) -> None:
        breaker = failed(Breaker(), 4)

        assert breaker.on_neutral(breaker.term) is breaker

    def test_success_without_anything_counted_makes_no_new_value(self) -> None:
        breaker = Breaker()

        assert breaker.on_success(breaker.term) is breaker

    def test_default_policy_is_the_documented_one(self) -> None:
        assert BreakerPolicy(failures=5, open_for_s=60.0, successes=3) == BreakerPolicy()
        assert BreakerPolicy().failure_rate is None


class TestFailureRate:
    POLICY = BreakerPolicy(failures=100, failure_rate=0.5, window=8, min_results=4)

    def test_share_of_failures_opens_it(self) -> None:
        breaker = results(Breaker(policy=self.POLICY), "FSF")

        assert failed(breaker.on_success(breaker.term)).state is OPEN

    def test_share_says_nothing_of_too_few_results(self) -> None:
        breaker = results(Breaker(policy=self.POLICY), "FFF")

        assert breaker.state is CLOSED
        assert failed(breaker).state is OPEN

    def test_window_smaller_than_the_minimum_counts_when_full(self) -> None:
        policy = dataclasses.replace(self.POLICY, window=2)

        assert results(Breaker(policy=policy), "F").state is CLOSED
        assert results(Breaker(policy=policy), "FF").state is OPEN

    def test_results_beyond_the_window_are_forgotten(self) -> None:
        breaker = results(Breaker(policy=self.POLICY), "F" + "S" * 7 + "SFFF")

        assert breaker.state is CLOSED
        assert failed(breaker).state is OPEN

    def test_success_never_opens_it(self) -> None:
        breaker = results(Breaker(policy=self.POLICY), "FFF")

        assert breaker.on_success(breaker.term).state is CLOSED

    def test_neutral_result_is_not_part_of_the_share(self) -> None:
        breaker = results(Breaker(policy=self.POLICY), "FS")

        assert breaker.on_neutral(breaker.term) is breaker

    @pytest.mark.parametrize("tenths", range(1, 11))
    def test_share_is_compared_without_rounding_error(self, tenths: int) -> None:
        policy = BreakerPolicy(failures=100, failure_rate=tenths / 10, window=10)

        breaker = results(Breaker(policy=policy), "S" * (10 - tenths) + "F" * (tenths - 1))

        assert breaker.state is CLOSED
        assert failed(breaker).state is OPEN

    @given(st.text("FS", max_size=60), st.integers(1, 12), st.integers(1, 12))
    def test_share_is_that_of_the_last_results(
        self, outcomes: str, window: int, min_results: int
    ) -> None:
        policy = BreakerPolicy(
            failures=100, failure_rate=0.4, window=window, min_results=min_results
        )
        breaker = Breaker(policy=policy)
        for end in range(1, len(outcomes) + 1):
            breaker = results(breaker, outcomes[end - 1])

            last = outcomes[:end][-window:]
            is_due = len(last) >= min(window, min_results) and last.count("F") / len(last) >= 0.4
            assert (breaker.state is OPEN) == (is_due and last[-1] == "F")
            if breaker.state is OPEN:
                return


class TestOpen:
    def test_open_breaker_permits_nothing_until_its_time_is_over(self) -> None:
        breaker = opened()

        assert breaker.permits(NOW_MS) == 0
        assert breaker.permits(NOW_MS + OPEN_MS - 1) == 0
        assert breaker.next_change_ms(NOW_MS) == NOW_MS + OPEN_MS
        assert breaker.permits(NOW_MS + OPEN_MS) == 1

    def test_time_makes_it_half_open_for_all_to_see(self) -> None:
        assert opened().at(NOW_MS + OPEN_MS - 1).state is OPEN
        assert opened().at(NOW_MS + OPEN_MS).state is HALF_OPEN

    def test_attempt_must_not_start(self) -> None:
        with pytest.raises(ValueError, match="open"):
            opened().on_start(NOW_MS + 1)

    def test_late_result_changes_nothing(self) -> None:
        before = failed(Breaker(), 4)
        breaker = failed(before)

        assert breaker.on_failure(before.term, NOW_MS + 30_000) is breaker
        assert breaker.on_success(before.term) is breaker
        assert breaker.on_neutral(before.term) is breaker

    @pytest.mark.parametrize("back_ms", [1, OPEN_MS, 365 * DAY_MS])
    def test_clock_set_back_restarts_its_time(self, back_ms: int) -> None:
        now_ms = NOW_MS - back_ms

        breaker = opened().at(now_ms)

        assert breaker.state is OPEN
        assert breaker.next_change_ms(now_ms) == now_ms + OPEN_MS
        assert breaker.permits(now_ms + OPEN_MS) == 1

    def test_clock_set_back_is_seen_without_keeping_the_look(self) -> None:
        assert opened().next_change_ms(NOW_MS - DAY_MS) == NOW_MS - DAY_MS + OPEN_MS


class TestHalfOpen:
    def test_one_probe_at_a_time(self) -> None:
        breaker = probing()

        assert breaker.permits(NOW_MS + OPEN_MS) == 0
        with pytest.raises(ValueError, match="half_open"):
            breaker.on_start(NOW_MS + OPEN_MS)
        assert breaker.on_success(breaker.term).permits(NOW_MS + OPEN_MS) == 1

    def test_time_changes_nothing(self) -> None:
        breaker = probing()

        assert breaker.at(NOW_MS + DAY_MS) is breaker
        assert breaker.at(NOW_MS - DAY_MS) is breaker
        assert breaker.next_change_ms(NOW_MS + OPEN_MS) is None

    def test_failed_probe_opens_it_anew(self) -> None:
        breaker = probing()
        later_ms = NOW_MS + OPEN_MS + 500

        breaker = breaker.on_failure(breaker.term, later_ms)

        assert breaker.state is OPEN
        assert breaker.next_change_ms(later_ms) == later_ms + OPEN_MS

    def test_successful_probes_close_it(self) -> None:
        breaker = opened()
        states = []
        for _ in range(3):
            breaker = breaker.on_start(NOW_MS + OPEN_MS)
            breaker = breaker.on_success(breaker.term)
            states.append(breaker.state)

        assert states == [HALF_OPEN, HALF_OPEN, CLOSED]
        assert failed(breaker, 4).state is CLOSED

    def test_successes_before_a_failed_probe_do_not_count(self) -> None:
        policy = BreakerPolicy(successes=2)
        breaker = probing(policy)
        breaker = breaker.on_success(breaker.term).on_start(NOW_MS + OPEN_MS)
        reopened_ms = NOW_MS + 2 * OPEN_MS
        breaker = breaker.on_failure(breaker.term, reopened_ms)

        breaker = breaker.on_start(reopened_ms + OPEN_MS)

        assert breaker.on_success(breaker.term).state is HALF_OPEN

    def test_neutral_result_gives_the_probe_back(self) -> None:
        breaker = probing()

        breaker = breaker.on_neutral(breaker.term)

        assert (breaker.state, breaker.successes) == (HALF_OPEN, 0)
        assert breaker.permits(NOW_MS + OPEN_MS) == 1

    @pytest.mark.parametrize("end", ["success", "failure", "neutral"])
    def test_result_from_before_it_opened_is_no_probe(self, end: str) -> None:
        old_term = Breaker().term

        for breaker in (probing(), opened().at(NOW_MS + OPEN_MS)):
            assert report(breaker, end, old_term, NOW_MS + OPEN_MS) is breaker

    @pytest.mark.parametrize("end", ["success", "failure", "neutral"])
    @pytest.mark.parametrize("first_end", ["success", "neutral"])
    def test_probe_that_reports_twice_counts_once(self, first_end: str, end: str) -> None:
        first = probing()
        breaker = report(first, first_end, first.term, NOW_MS + OPEN_MS)

        assert report(breaker, end, first.term, NOW_MS + OPEN_MS) is breaker

    @pytest.mark.parametrize("end", ["success", "failure", "neutral"])
    def test_probe_that_reports_twice_does_not_pass_for_the_next(self, end: str) -> None:
        first = probing()
        breaker = first.on_neutral(first.term).on_start(NOW_MS + OPEN_MS)

        assert report(breaker, end, first.term, NOW_MS + OPEN_MS) is breaker


class TestReset:
    @pytest.mark.parametrize(
        "breaker", [Breaker(), failed(Breaker(), 4), opened(), opened().at(NOW_MS + OPEN_MS)]
    )
    def test_reset_closes_it_with_nothing_counted(self, breaker: Breaker) -> None:
        breaker = breaker.reset()

        assert failed(breaker, 4).state is CLOSED
        assert failed(breaker, 5).state is OPEN

    def test_result_of_a_probe_from_before_the_reset_does_not_count(self) -> None:
        before = probing()
        breaker = before.reset()

        assert breaker.on_failure(before.term, NOW_MS) is breaker


class TestRecord:
    @given(st.text("FS", max_size=30), st.none() | st.just(0.9))
    def test_closed_breaker_keeps_what_it_counted(self, outcomes: str, rate: float | None) -> None:
        policy = BreakerPolicy(failures=100, failure_rate=rate, min_results=40)
        breaker = results(Breaker(policy=policy), outcomes)

        assert Breaker.restore(breaker.to_record(), policy, NOW_MS) == breaker

    def test_open_breaker_stays_open_for_the_rest_of_its_time(self) -> None:
        restored = Breaker.restore(opened().to_record(), BreakerPolicy(), NOW_MS + 1000)

        assert restored.state is OPEN
        assert restored.next_change_ms(NOW_MS + 1000) == NOW_MS + OPEN_MS

    def test_open_breaker_whose_time_ran_out_meanwhile_is_half_open(self) -> None:
        restored = Breaker.restore(opened().to_record(), BreakerPolicy(), NOW_MS + DAY_MS)

        assert restored.state is HALF_OPEN

    def test_open_breaker_restored_under_an_earlier_clock_opens_now(self) -> None:
        restored = Breaker.restore(opened().to_record(), BreakerPolicy(), NOW_MS - DAY_MS)

        assert restored.permits(NOW_MS - DAY_MS + OPEN_MS) == 1

    def test_half_open_breaker_forgets_a_probe_under_way(self) -> None:
        breaker = probing()
        breaker = breaker.on_success(breaker.term).on_start(NOW_MS + OPEN_MS)

        restored = Breaker.restore(breaker.to_record(), BreakerPolicy(), NOW_MS)

        assert (restored.state, restored.successes) == (HALF_OPEN, 1)
        assert restored.permits(NOW_MS) == 1

    def test_policy_of_today_applies_to_a_stored_breaker(self) -> None:
        policy = BreakerPolicy(failures=3, failure_rate=0.5, window=2)

        restored = Breaker.restore(failed(Breaker(), 4).to_record(), policy, NOW_MS)

        assert restored.state is CLOSED
        assert failed(restored).state is OPEN

    @pytest.mark.parametrize(
        "record",
        [
            b"",
            b"\xff\xfe",
            b"[]",
            b"{}",
            b'{"state":"ajar","opened_at_ms":1,"failures":0,"successes":0,"results":""}',
            b'{"state":"open","opened_at_ms":-1,"failures":0,"successes":0,"results":""}',
            b'{"state":"closed","opened_at_ms":1,"failures":0,"successes":0,"results":"x"}',
        ],
    )
    def test_unreadable_record_gives_a_closed_breaker(self, record: bytes) -> None:
        assert Breaker.restore(record, BreakerPolicy(), NOW_MS) == Breaker()

    @given(st.binary())
    def test_no_record_is_an_error(self, record: bytes) -> None:
        Breaker.restore(record, BreakerPolicy(), NOW_MS)


def report(breaker: Breaker, end: str, term: int, now_ms: int) -> Breaker:
    match end:
        case "success":
            return breaker.on_success(term)
        case "failure":
            return breaker.on_failure(term, now_ms)
        case _:
            return breaker.on_neutral(term)


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
