"""For how long a receiver counts as failing, by itself."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from integrationd.delivery.patience import (
    LONGEST_GAP_MS,
    PATIENCE_MS,
    REACHED_LATELY_MS,
    Failing,
    is_theirs,
)
from integrationd.sdk import Retryable, Uncertain

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_800_000_000_000
STEPS = st.lists(st.tuples(st.integers(-DAY_MS, 30 * DAY_MS), st.booleans()), max_size=30)


def after(first: Failing, *steps: tuple[int, bool]) -> Failing:
    """Return a row of failures after more of them, each so long after the one before."""
    row = first
    for gap_ms, counts in steps:
        row = row.after(row.looked_ms + gap_ms, is_theirs=counts)
    return row


def test_five_days_of_their_own_failures_are_too_long() -> None:
    row = after(Failing(0, 0), *[(HOUR_MS, True)] * (5 * 24 - 1))

    assert not row.is_over
    assert after(row, (HOUR_MS, True)).is_over


def test_time_in_which_we_may_have_been_offline_does_not_count() -> None:
    row = after(Failing(0, 0), *[(HOUR_MS, True)] * 24)

    later = after(row, *[(HOUR_MS, False)] * (6 * 24), (60_000, True))

    assert later.looked_ms - later.since_ms == DAY_MS + 60_000


def test_time_in_which_nothing_was_tried_counts_as_a_day_at_most() -> None:
    assert after(Failing(0, 0), (30 * DAY_MS, True)) == Failing(29 * DAY_MS, 30 * DAY_MS)


@given(STEPS)
def test_row_never_counts_more_than_has_passed_nor_more_than_a_day_a_failure(
    steps: list[tuple[int, bool]],
) -> None:
    row = after(Failing(NOW_MS, NOW_MS), *steps)

    counted_ms = row.looked_ms - row.since_ms
    assert 0 <= counted_ms <= LONGEST_GAP_MS * sum(counts for _, counts in steps)
    assert counted_ms <= sum(max(0, gap_ms) for gap_ms, _ in steps)
    assert row.is_over == (counted_ms >= PATIENCE_MS)


@pytest.mark.parametrize(
    "answer",
    [
        Retryable(reason="http_500", detail=""),
        Retryable(reason="timeout", detail=""),
        Uncertain(reason="timeout", detail=""),
    ],
    ids=lambda one: f"{type(one).__name__} {one.reason}",
)
def test_what_got_to_somebody_is_their_failure(answer: Retryable | Uncertain) -> None:
    assert is_theirs(answer, NOW_MS, reached_ms=0)


@pytest.mark.parametrize("reason", ["dns_failure", "connection_refused", "tls_failure"])
def test_what_never_left_is_their_failure_only_while_others_are_reached(reason: str) -> None:
    unreached = Retryable(reason=reason, detail="", sent=False)

    assert is_theirs(unreached, NOW_MS, reached_ms=NOW_MS - REACHED_LATELY_MS + 1)
    assert not is_theirs(unreached, NOW_MS, reached_ms=NOW_MS - REACHED_LATELY_MS)
    # The clock was set back.
    assert not is_theirs(unreached, NOW_MS, reached_ms=NOW_MS + 1)


def test_what_the_daemon_cut_short_is_nobodys_failure() -> None:
    assert not is_theirs(Uncertain(reason="interrupted", detail=""), NOW_MS, reached_ms=NOW_MS)
