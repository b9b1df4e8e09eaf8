"""Waiting: backoff with full jitter, the provider's word, and the schedule of queries."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.retry import RetryPolicy, backoff_s, next_delay_s, next_query_delay_s
from integrationd.sdk.provider import QuerySchedule

POLICY = RetryPolicy()


class Highest:
    """Draws the longest wait there may be."""

    def uniform(self, a: float, b: float, /) -> float:
        assert a == 0
        return b


class Lowest:
    """Draws the shortest wait there may be."""

    def uniform(self, a: float, b: float, /) -> float:
        assert b >= 0
        return a


policies = st.builds(
    RetryPolicy,
    first_s=st.floats(0.001, 86_400),
    factor=st.floats(1, 100),
    cap_s=st.floats(0.001, 86_400),
)


class TestBackoff:
    def test_defaults_are_the_documented_ones(self) -> None:
        assert (
            RetryPolicy(attempts=5, first_s=1.0, factor=2.0, cap_s=900.0, give_up_after_s=259_200.0)
            == RetryPolicy()
        )

    def test_longest_wait_doubles_up_to_the_cap(self) -> None:
        waits = [backoff_s(tries, POLICY, Highest()) for tries in (1, 2, 3, 10, 11, 12)]

        assert waits == [1, 2, 4, 512, 900, 900]

    def test_shortest_wait_is_none(self) -> None:
        assert backoff_s(7, POLICY, Lowest()) == 0

    @pytest.mark.parametrize("tries", [-5, 0, 1])
    def test_no_tries_count_as_one(self, tries: int) -> None:
        assert backoff_s(tries, POLICY, Highest()) == 1

    @pytest.mark.parametrize("tries", [1025, 10**6, 10**400])
    def test_tries_without_number_wait_the_cap(self, tries: int) -> None:
        assert backoff_s(tries, POLICY, Highest()) == 900

    def test_factor_of_one_keeps_the_wait(self) -> None:
        policy = RetryPolicy(factor=1)

        assert backoff_s(10**9, policy, Highest()) == 1

    def test_jitter_is_spread_over_the_whole_span(self) -> None:
        jitter = random.Random(7)

        waits = [backoff_s(4, POLICY, jitter) for _ in range(4000)]

        assert 3.8 < sum(waits) / len(waits) < 4.2
        assert min(waits) < 0.1
        assert max(waits) > 7.9

    @given(st.integers(), policies, st.randoms(use_true_random=False))
    def test_wait_is_between_zero_and_the_cap(
        self, tries: int, policy: RetryPolicy, jitter: random.Random
    ) -> None:
        assert 0 <= backoff_s(tries, policy, jitter) <= policy.cap_s

    @given(st.integers(1, 2000), policies)
    def test_longest_wait_never_shrinks(self, tries: int, policy: RetryPolicy) -> None:
        assert backoff_s(tries, policy, Highest()) <= backoff_s(tries + 1, policy, Highest())


class TestProvidersWait:
    def test_wait_that_is_longer_wins(self) -> None:
        assert next_delay_s(1, POLICY, 30.0, Highest()) == 30

    def test_wait_that_is_shorter_does_not(self) -> None:
        assert next_delay_s(11, POLICY, 30.0, Highest()) == 900

    def test_wait_may_be_longer_than_the_cap(self) -> None:
        assert next_delay_s(1, POLICY, 7200.0, Highest()) == 7200

    def test_without_a_wait_it_is_the_backoff(self) -> None:
        assert next_delay_s(3, POLICY, None, Highest()) == 4

    @pytest.mark.parametrize("wait_s", [math.inf, 1e300])
    def test_wait_without_end_is_as_good_as_giving_up(self, wait_s: float) -> None:
        assert next_delay_s(1, POLICY, wait_s, Lowest()) == POLICY.give_up_after_s

    @pytest.mark.parametrize("wait_s", [math.nan, -math.inf, -5.0, 0.0])
    def test_wait_that_makes_no_sense_is_ignored(self, wait_s: float) -> None:
        assert next_delay_s(3, POLICY, wait_s, Highest()) == 4

    @given(st.integers(), policies, st.none() | st.floats(), st.randoms(use_true_random=False))
    def test_delay_is_finite_and_no_shorter_than_asked(
        self, tries: int, policy: RetryPolicy, wait_s: float | None, jitter: random.Random
    ) -> None:
        delay_s = next_delay_s(tries, policy, wait_s, jitter)

        assert 0 <= delay_s < math.inf
        if wait_s is not None and wait_s <= policy.give_up_after_s:
            assert delay_s >= wait_s


class TestQueries:
    def test_waits_grow_from_the_first_to_the_cap(self) -> None:
        schedule = QuerySchedule(first_s=5, factor=3, cap_s=100)

        assert [next_query_delay_s(number, schedule) for number in range(1, 6)] == [
            5,
            15,
            45,
            100,
            100,
        ]

    @pytest.mark.parametrize("number", [-1, 0, 1])
    def test_no_number_counts_as_the_first(self, number: int) -> None:
        assert next_query_delay_s(number, QuerySchedule()) == 5

    @pytest.mark.parametrize("number", [2000, 10**400])
    def test_number_without_end_waits_the_cap(self, number: int) -> None:
        assert next_query_delay_s(number, QuerySchedule()) == 900

    def test_first_wait_is_capped_too(self) -> None:
        assert next_query_delay_s(1, QuerySchedule(first_s=50, cap_s=20)) == 20
