"""How long to wait before a call is sent again, or asked about again: pure arithmetic."""

import dataclasses
from typing import Protocol

from integrationd.sdk.provider import QuerySchedule

# By this share a wait that is asked for is shorter or longer.
WAIT_JITTER = 0.1


class Jitter(Protocol):
    """The source of randomness; ``random.Random`` is one."""

    def uniform(self, a: float, b: float, /) -> float:
        """Return a number between ``a`` and ``b``."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When sending again stops, and how long it waits in between.

    Attributes:
        attempts: Sends that may have arrived, at most.
        first_s: The longest wait after the first try, in seconds.
        factor: Each further wait may be this many times as long as the one before; at least 1.
        cap_s: The longest wait of all, in seconds.
        give_up_after_s: Seconds after acceptance at which the call fails.
        waits_s: The wait after each try, in place of the backoff; the last one stays.
    """

    attempts: int = 5
    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 900.0
    give_up_after_s: float = 72 * 3600.0
    waits_s: tuple[float, ...] = ()


def backoff_s(tries: int, policy: RetryPolicy, jitter: Jitter) -> float:
    """Draw the wait after ``tries`` sends: exponential backoff with full jitter.

    The draw is uniform between zero and ``min(cap_s, first_s * factor ** (tries - 1))``, so that
    calls that failed together do not come back together.

    Source: "Exponential Backoff And Jitter", Marc Brooker, AWS Architecture Blog, 2015,
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        tries: Sends begun so far; anything under 1 counts as 1.
        policy: The limits.
        jitter: Where the draw comes from.

    Returns:
        Seconds, from 0 to ``policy.cap_s``; near the wait that is asked for, where one is.
    """
    if policy.waits_s:
        wait_s = policy.waits_s[min(max(tries, 1), len(policy.waits_s)) - 1]
        return jitter.uniform(wait_s * (1 - WAIT_JITTER), wait_s * (1 + WAIT_JITTER))
    longest_s = _grown_s(policy.first_s, policy.factor, tries - 1, policy.cap_s)
    return jitter.uniform(0.0, longest_s)


def next_delay_s(tries: int, policy: RetryPolicy, wait_s: float | None, jitter: Jitter) -> float:
    """Return the wait before the next send: the backoff, but never less than the provider asked.

    Args:
        tries: Sends begun so far.
        policy: The limits.
        wait_s: Seconds that the provider asked for, if it did. A wait beyond
            ``give_up_after_s`` is as good as that, since the call has failed by then.
        jitter: Where the draw comes from.

    Returns:
        Seconds, finite and not negative.
    """
    drawn_s = backoff_s(tries, policy, jitter)
    # Written so that a NaN from a plugin's arithmetic counts as no wait at all.
    if wait_s is None or not wait_s > drawn_s:
        return drawn_s
    return max(drawn_s, min(wait_s, policy.give_up_after_s))


def next_query_delay_s(number: int, schedule: QuerySchedule) -> float:
    """Return the wait before query ``number`` of a call, counted from the send or query before it.

    Args:
        number: 1 for the first query; anything under 1 counts as 1.
        schedule: The plugin's or the connection's schedule.

    Returns:
        Seconds, from 0 to ``schedule.cap_s``.
    """
    return _grown_s(schedule.first_s, schedule.factor, number - 1, schedule.cap_s)


def _grown_s(first_s: float, factor: float, times: int, cap_s: float) -> float:
    try:
        grown_s = first_s * float(factor) ** max(times, 0)
    except OverflowError:
        return cap_s
    return min(cap_s, grown_s)
