"""A rate limit: the generic cell rate algorithm (GCRA) as a value.

The promise, for every window of ``w`` whole milliseconds, wherever it begins: no more than
``ceil(w / interval) + burst - 1`` tokens are taken in it, where ``interval`` is the rate's
milliseconds per token. With a burst of 1, "20/s" is 20 in any second, 1 in any 50 ms.

Times are counted in units of 1/count of a millisecond, in which both a millisecond and the
interval are whole numbers: nothing is rounded, so nothing drifts. Time itself comes in whole
milliseconds; a token that falls due within a millisecond may be taken from its beginning.

Source: ATM Forum Traffic Management Specification 4.1, 1999, section 4.4.3 (virtual scheduling).
"""

import dataclasses
import fractions
import math

_MAX_DENOMINATOR = 10**9


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """So many tokens in so many seconds, evenly spread.

    Attributes:
        count: Tokens, at least 1.
        per_s: Seconds in which they become due, at least 1.
        burst: Tokens that may be taken at once after a rest, at least 1.

    Raises:
        ValueError: One of them is not a whole number of at least 1.
    """

    count: int
    per_s: int
    burst: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"{field.name} must be a whole number of at least 1, not {value!r}"
                )

    @classmethod
    def per_second(cls, tokens: float, burst: int = 1) -> "Rate":
        """Make a rate from tokens per second, as the settings have it: 1.6666666666666667 is 5/3.

        Raises:
            ValueError: It is not a positive number, or too small to be kept.
        """
        if not (math.isfinite(tokens) and tokens > 0):
            raise ValueError(
                f"a rate must be a positive number of calls per second, not {tokens!r}"
            )
        exact = fractions.Fraction(tokens).limit_denominator(_MAX_DENOMINATOR)
        if not exact:
            raise ValueError(f"a rate of {tokens!r} calls per second is too small to be kept")
        return cls(exact.numerator, exact.denominator, burst)

    @property
    def interval_ms(self) -> fractions.Fraction:
        """Milliseconds from one token to the next."""
        return fractions.Fraction(self.per_s * 1000, self.count)


@dataclasses.dataclass(frozen=True, slots=True)
class Limiter:
    """What has been taken of a rate so far.

    Milliseconds may be those of any clock, always of the same one. Where it steps back, no token
    is held back for longer than one interval, and no more goes out in excess than one millisecond
    allows.

    Attributes:
        rate: The limit.
        due: When the next token is due at an even pace, in units of 1/count of a millisecond.
    """

    rate: Rate
    due: int | None = None

    def available(self, now_ms: int) -> int:
        """Return how many tokens may be taken now, from 0 to what a burst allows."""
        early = self._now(now_ms) + self._slack - self._due(now_ms)
        return max(0, early // self._interval + 1)

    def take(self, count: int, now_ms: int) -> "Limiter":
        """Return the limiter after ``count`` tokens; ``now_ms`` as :meth:`available` was asked.

        Raises:
            ValueError: So many are not available.
        """
        if not 0 <= count <= self.available(now_ms):
            raise ValueError(
                f"{count} tokens cannot be taken, {self.available(now_ms)} are available"
            )
        if count == 0:
            return self
        return Limiter(self.rate, self._due(now_ms) + count * self._interval)

    def put_back(self, count: int) -> "Limiter":
        """Return the limiter as if ``count`` of the tokens taken had not been."""
        if self.due is None:
            return self
        return Limiter(self.rate, self.due - count * self._interval)

    def next_ms(self, now_ms: int, count: int = 1) -> int:
        """Return the first millisecond, now or later, in which a token is available.

        Args:
            now_ms: Now.
            count: How many are wanted together, at most what a burst allows.
        """
        earliest = self._due(now_ms) + (count - 1) * self._interval - self._slack
        # Upwards, since the division of negative numbers rounds down.
        return max(now_ms, -(-earliest // self.rate.count))

    def under(self, rate: Rate) -> "Limiter":
        """Return the limiter under another rate; what has been taken stays taken."""
        if self.due is None:
            return Limiter(rate)
        return Limiter(rate, -(-self.due * rate.count // self.rate.count))

    @property
    def _interval(self) -> int:
        return self.rate.per_s * 1000

    @property
    def _slack(self) -> int:
        """How long before it is due a token may go: a burst, and the rest of the millisecond."""
        return (self.rate.burst - 1) * self._interval + self.rate.count - 1

    def _now(self, now_ms: int) -> int:
        return now_ms * self.rate.count

    def _due(self, now_ms: int) -> int:
        now = self._now(now_ms)
        if self.due is None or self.due <= now:
            return now
        if self.due > now + self._slack + self._interval:
            # No taking can have led here: the clock was set back. One token is let go.
            return now + (self.rate.burst - 1) * self._interval
        return self.due
