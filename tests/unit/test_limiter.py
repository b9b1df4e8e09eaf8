"""The rate limit: it holds over every window, loses nothing to rounding, and never sticks."""

import fractions
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.limiter import Limiter, Rate
from integrationd.settings.units import parse_rate

NOW_MS = 1_750_000_000_000

rates = st.builds(
    Rate,
    count=st.integers(1, 5000),
    per_s=st.sampled_from([1, 2, 60, 3600, 86_400]),
    burst=st.integers(1, 5) | st.just(100),
)


def allowed(rate: Rate, window_ms: int) -> int:
    """The promise: tokens in a half-open window of so many milliseconds."""
    return math.ceil(window_ms / rate.interval_ms) + rate.burst - 1


def drained(limiter: Limiter, at_ms: list[int]) -> list[int]:
    """Take all there is at each of the times; return the time of every token."""
    taken = []
    for now_ms in at_ms:
        count = limiter.available(now_ms)
        limiter = limiter.take(count, now_ms)
        taken += [now_ms] * count
    return taken


class TestRate:
    @pytest.mark.parametrize(
        ("text", "rate"),
        [
            ("20/s", Rate(20, 1)),
            ("100/m", Rate(5, 3)),
            ("5000/h", Rate(25, 18)),
            ("1000/d", Rate(5, 432)),
            ("1/d", Rate(1, 86_400)),
            ("0.5/s", Rate(1, 2)),
            ("100000/s", Rate(100_000, 1)),
        ],
    )
    def test_rate_is_read_exactly(self, text: str, rate: Rate) -> None:
        assert Rate.per_second(parse_rate(text)) == rate

    def test_burst_goes_with_it(self) -> None:
        assert Rate.per_second(20.0, 5) == Rate(20, 1, 5)

    @given(st.integers(1, 10_000), st.sampled_from([1, 60, 3600, 86_400]))
    def test_rate_survives_the_way_through_a_float(self, count: int, per_s: int) -> None:
        exact = fractions.Fraction(count, per_s)

        rate = Rate.per_second(count / per_s)

        assert fractions.Fraction(rate.count, rate.per_s) == exact

    @pytest.mark.parametrize("tokens", [0.0, -1.0, math.inf, math.nan, 1e-30])
    def test_impossible_rate_is_refused(self, tokens: float) -> None:
        with pytest.raises(ValueError, match="rate"):
            Rate.per_second(tokens)

    @pytest.mark.parametrize(
        ("count", "per_s", "burst", "field"),
        [(0, 1, 1, "count"), (1, 0, 1, "per_s"), (1, 1, 0, "burst"), (1, 1, True, "burst")],
    )
    def test_impossible_field_is_named(
        self, count: int, per_s: int, burst: int, field: str
    ) -> None:
        with pytest.raises(ValueError, match=field):
            Rate(count, per_s, burst)


class TestLimiter:
    def test_first_token_is_available_at_once(self) -> None:
        limiter = Limiter(Rate(1, 3600))

        assert limiter.available(NOW_MS) == 1
        assert limiter.next_ms(NOW_MS) == NOW_MS

    def test_next_token_comes_an_interval_later(self) -> None:
        limiter = Limiter(Rate(20, 1)).take(1, NOW_MS)

        assert limiter.available(NOW_MS + 49) == 0
        assert limiter.next_ms(NOW_MS) == NOW_MS + 50
        assert limiter.available(NOW_MS + 50) == 1

    def test_burst_is_available_after_a_rest_and_not_sooner(self) -> None:
        limiter = Limiter(Rate(10, 1, burst=3))
        assert limiter.available(NOW_MS) == 3

        limiter = limiter.take(3, NOW_MS)

        later = [limiter.available(NOW_MS + step_ms) for step_ms in (0, 99, 100, 200, 300, 9000)]
        assert later == [0, 0, 1, 2, 3, 3]

    def test_rest_earns_no_more_than_the_burst(self) -> None:
        limiter = Limiter(Rate(20, 1)).take(1, NOW_MS)

        assert limiter.available(NOW_MS + 86_400_000) == 1

    def test_rate_above_one_per_millisecond_gives_several_in_one(self) -> None:
        limiter = Limiter(Rate(5000, 1))

        assert drained(limiter, [NOW_MS, NOW_MS, NOW_MS + 1]) == [NOW_MS] * 5 + [NOW_MS + 1] * 5

    def test_taking_none_changes_nothing(self) -> None:
        limiter = Limiter(Rate(1, 1))

        assert limiter.take(0, NOW_MS) is limiter

    @pytest.mark.parametrize("count", [-1, 2])
    def test_taking_what_is_not_there_is_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match=f"{count} tokens cannot be taken, 1 are available"):
            Limiter(Rate(1, 1)).take(count, NOW_MS)

    @given(rates, st.lists(st.integers(0, 5000), max_size=60), st.data())
    def test_promise_holds_over_every_window(
        self, rate: Rate, steps_ms: list[int], data: st.DataObject
    ) -> None:
        limiter, now_ms, taken = Limiter(rate), NOW_MS, Counter[int]()
        for step_ms in steps_ms:
            now_ms += step_ms
            count = data.draw(st.integers(0, limiter.available(now_ms)))
            limiter = limiter.take(count, now_ms)
            taken[now_ms] += count

        # The windows that matter are those from all tokens of one moment to all of another.
        moments = sorted(taken)
        for first, begin_ms in enumerate(moments):
            total = 0
            for end_ms in moments[first:]:
                total += taken[end_ms]
                assert total <= allowed(rate, end_ms - begin_ms + 1)

    @given(rates, st.integers(0, 10**6))
    def test_promise_is_tight_for_whoever_takes_all_there_is(self, rate: Rate, now_ms: int) -> None:
        window_ms = math.ceil(20 * rate.interval_ms)
        limiter, end_ms, taken = Limiter(rate), now_ms + window_ms, 0
        while now_ms < end_ms:
            count = limiter.available(now_ms)
            limiter, taken = limiter.take(count, now_ms), taken + count
            now_ms = limiter.next_ms(now_ms)

        assert taken == allowed(rate, window_ms)

    @given(rates, st.lists(st.integers(0, 5000), max_size=20), st.integers(0, 10**6))
    def test_next_is_the_first_millisecond_with_a_token(
        self, rate: Rate, steps_ms: list[int], ahead_ms: int
    ) -> None:
        limiter, now_ms = Limiter(rate), NOW_MS
        for step_ms in steps_ms:
            now_ms += step_ms
            limiter = limiter.take(limiter.available(now_ms), now_ms)

        next_ms = limiter.next_ms(now_ms)

        assert now_ms <= next_ms <= now_ms + math.ceil(rate.interval_ms)
        assert limiter.available(next_ms) >= 1
        if next_ms > now_ms:
            assert limiter.available(next_ms - 1) == 0
        assert limiter.available(next_ms + ahead_ms) >= 1

    @pytest.mark.parametrize("text", ["7/s", "100/m"])
    def test_a_million_takes_do_not_drift(self, text: str) -> None:
        rate = Rate.per_second(parse_rate(text))
        limiter, now_ms = Limiter(rate), NOW_MS
        for _ in range(1_000_000):
            limiter = limiter.take(1, now_ms)
            now_ms = limiter.next_ms(now_ms)

        assert now_ms == NOW_MS + math.floor(1_000_000 * rate.interval_ms)

    @given(rates, st.integers(0, 100), st.integers(0, 10**9))
    def test_clock_set_back_holds_nothing_for_longer_than_an_interval(
        self, rate: Rate, takes: int, back_ms: int
    ) -> None:
        limiter, now_ms = Limiter(rate), NOW_MS
        for _ in range(takes):
            limiter = limiter.take(limiter.available(now_ms), now_ms)
            now_ms = limiter.next_ms(now_ms)
        now_ms -= back_ms

        next_ms = limiter.next_ms(now_ms)

        assert now_ms <= next_ms <= now_ms + math.ceil(rate.interval_ms)
        assert limiter.available(next_ms) >= 1

    @given(rates, st.integers(0, 50), st.integers(0, 10**6), st.data())
    def test_several_are_available_in_the_millisecond_that_is_told_and_not_before(
        self, rate: Rate, takes: int, later_ms: int, data: st.DataObject
    ) -> None:
        limiter, now_ms = Limiter(rate), NOW_MS
        for _ in range(takes):
            limiter = limiter.take(limiter.available(now_ms), now_ms)
            now_ms = limiter.next_ms(now_ms)
        now_ms += later_ms
        wanted = data.draw(st.integers(1, rate.burst))

        next_ms = limiter.next_ms(now_ms, wanted)

        assert limiter.available(next_ms) >= wanted
        assert next_ms == now_ms or limiter.available(next_ms - 1) < wanted

    @given(rates, st.integers(0, 20), st.data())
    def test_what_is_put_back_is_as_good_as_never_taken(
        self, rate: Rate, takes: int, data: st.DataObject
    ) -> None:
        limiter, now_ms = Limiter(rate), NOW_MS
        for _ in range(takes):
            limiter = limiter.take(1, now_ms)
            now_ms = limiter.next_ms(now_ms)
        before = limiter.available(now_ms)
        count = data.draw(st.integers(0, before))

        after = limiter.take(count, now_ms).put_back(count)

        assert after.available(now_ms) == before

    def test_clock_set_back_lets_one_go_and_then_keeps_the_rate(self) -> None:
        limiter = Limiter(Rate(20, 1, burst=4)).take(4, NOW_MS)
        back_ms = NOW_MS - 3_600_000

        assert limiter.available(back_ms) == 1
        limiter = limiter.take(1, back_ms)

        assert limiter.available(back_ms) == 0
        assert limiter.next_ms(back_ms) == back_ms + 50
