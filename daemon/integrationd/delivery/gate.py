"""One connection's gate: how many attempts may start now, and when to look again.

It joins the breaker, the rate limit and the concurrency limit. One line uses it, on the event
loop, so that nothing can start between asking and taking.
"""

import dataclasses
from collections.abc import Callable
from typing import assert_never

from integrationd.call import Breaker as StoredBreaker
from integrationd.clock import Clock
from integrationd.delivery.answers import RENEWED, Answer
from integrationd.delivery.breaker import Breaker, BreakerPolicy
from integrationd.delivery.terms import Terms
from integrationd.events import BreakerMoved
from integrationd.journal import Transaction, store_breaker
from integrationd.limiter import Limiter, Rate
from integrationd.sdk import outcome as said
from integrationd.settlement import LINK_DOWN


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GateStatus:
    """How a gate stands.

    Attributes:
        breaker: ``closed``, ``open`` or ``half_open``.
        breaker_until_ms: When an open breaker lets a probe through.
        running: Attempts under way.
        concurrency: How many may be under way at a time.
        rate_limit: The rate limit in words, or None.
        next_ms: When the next attempt may start; None while only an event can tell.
    """

    breaker: str
    breaker_until_ms: int | None
    running: int
    concurrency: int
    rate_limit: str | None
    next_ms: int | None


class Gate:
    """What one connection can take now.

    Args:
        connection: The connection's id.
        breaker: Its breaker, as it stood before the restart.
        rate: How many attempts may start in which time; None for any.
        concurrency: How many attempts may be under way at a time.
        clock: Where time is read.
        tenant: Whose connection it is; None where all share it.
    """

    def __init__(
        self,
        connection: str,
        breaker: Breaker,
        rate: Rate | None,
        concurrency: int,
        clock: Clock,
        tenant: str | None = None,
    ) -> None:
        self._connection = connection
        self._breaker = breaker
        self._limiter = Limiter(rate) if rate else None
        self._concurrency = concurrency
        self._clock = clock
        self._tenant = tenant
        self._running = 0

    def use(self, terms: Terms) -> None:
        """Go on under other terms; what is under way and what has happened still count."""
        self._breaker = self._breaker.under(_breaker_policy(terms))
        self._concurrency = terms.settings.concurrency
        self._tenant = terms.settings.tenant
        rate = _rate(terms)
        if rate is None or self._limiter is None:
            self._limiter = Limiter(rate) if rate else None
        elif rate != self._limiter.rate:
            self._limiter = self._limiter.under(rate)

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return self._running

    def capacity(self, now_ms: int) -> int:
        """Return how many attempts may start now."""
        # Kept, so that a clock that was set back does not begin the open time anew at each look.
        self._breaker = self._breaker.at(now_ms)
        room = min(self._concurrency - self._running, self._breaker.permits(now_ms))
        if self._limiter is not None and room > 0:
            room = min(room, self._limiter.available(now_ms))
        return max(room, 0)

    def next_ms(self, now_ms: int) -> int | None:
        """Return when an attempt may start; None while only the end of one can change that."""
        if self._running >= self._concurrency:
            return None
        opens_ms = self._breaker.next_change_ms(now_ms)
        if opens_ms is None and not self._breaker.permits(now_ms):
            return None
        token_ms = self._limiter.next_ms(now_ms) if self._limiter else now_ms
        return max(opens_ms or now_ms, token_ms)

    def start(self, now_ms: int) -> int:
        """Begin an attempt and return the breaker's term, to be given back at its end."""
        self._breaker = self._breaker.on_start(now_ms)
        if self._limiter is not None:
            self._limiter = self._limiter.take(1, now_ms)
        self._running += 1
        return self._breaker.term

    def end(self, answer: Answer, term: int, now_ms: int) -> Callable[[Transaction], None] | None:
        """End an attempt; return what to store if the breaker has moved."""
        self._running -= 1
        before = self._breaker
        match _weight(answer):
            case True:
                self._breaker = before.on_success(term)
            case False:
                self._breaker = before.on_failure(term, now_ms)
            case None:
                self._breaker = before.on_neutral(term)
        if self._breaker.state is before.state:
            return None
        stored, moved = self._moved(before, now_ms)
        return lambda transaction: store_breaker(transaction, stored, moved)

    def abandon(self, term: int) -> None:
        """End an attempt that never began."""
        self._running -= 1
        self._breaker = self._breaker.on_neutral(term)

    def reset(self, by: str, now_ms: int) -> tuple[StoredBreaker, BreakerMoved]:
        """Close the breaker by hand; return what to store."""
        before = self._breaker
        self._breaker = before.reset()
        return self._moved(before, now_ms, by)

    def status(self) -> GateStatus:
        """Return how the gate stands."""
        now_ms = self._clock.now_ms()
        rate = self._limiter.rate if self._limiter else None
        return GateStatus(
            breaker=self._breaker.at(now_ms).state.value,
            breaker_until_ms=self._breaker.next_change_ms(now_ms),
            running=self._running,
            concurrency=self._concurrency,
            rate_limit=f"{rate.count} calls in {rate.per_s} s" if rate else None,
            next_ms=self.next_ms(now_ms),
        )

    def _moved(
        self, before: Breaker, now_ms: int, by: str | None = None
    ) -> tuple[StoredBreaker, BreakerMoved]:
        stored = StoredBreaker(
            connection=self._connection,
            record=self._breaker.to_record(),
            changed_at_ms=now_ms,
        )
        after = self._breaker.state.value
        moved = BreakerMoved(self._connection, before.state.value, after, by, self._tenant)
        return stored, moved


def gate_for(connection: str, terms: Terms, clock: Clock, stored: StoredBreaker | None) -> Gate:
    """Make the gate of a connection from its terms and its stored breaker."""
    policy = _breaker_policy(terms)
    breaker = Breaker(policy=policy)
    if stored is not None:
        breaker = Breaker.restore(stored.record, policy, clock.now_ms())
    settings = terms.settings
    return Gate(connection, breaker, _rate(terms), settings.concurrency, clock, settings.tenant)


def _breaker_policy(terms: Terms) -> BreakerPolicy:
    limits = terms.limits.breaker
    return BreakerPolicy(
        failures=limits.failures,
        open_for_s=limits.open_for,
        successes=limits.successes,
        failure_rate=limits.failure_rate,
        window=limits.window,
    )


def _rate(terms: Terms) -> Rate | None:
    per_second = terms.settings.rate_limit
    return Rate.per_second(per_second, terms.settings.burst) if per_second else None


def _weight(answer: Answer) -> bool | None:
    """Say what an answer tells of the provider's health: good, bad, or nothing."""
    match answer:
        case said.Delivered() | said.Accepted() | said.Done() | said.Refused() | said.Pending():
            return True
        case said.NeverHappened():
            return True
        case said.Retryable() if answer.reason in (RENEWED, LINK_DOWN):
            return None
        case said.Retryable() | said.Uncertain():
            return False
        case said.CannotTell():
            return None if answer.reason in _OUR_OWN else False
        case said.Rejected() | said.Throttled():
            return None
        case _:
            assert_never(answer)


# Reasons why a query came to nothing that say nothing about the provider.
_OUR_OWN = frozenset(
    {"cannot_ask", "interrupted", "not_found", "unknown_here", "no_answer", LINK_DOWN}
)
