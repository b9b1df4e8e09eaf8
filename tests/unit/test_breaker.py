"""The breaker, rule by rule."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.breaker_cases import (
    CLOSED,
    DAY_MS,
    HALF_OPEN,
    NOW_MS,
    OPEN,
    OPEN_MS,
    failed,
    opened,
    probing,
    report,
    results,
)

from integrationd.delivery.breaker import UNLIMITED, Breaker, BreakerPolicy


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
