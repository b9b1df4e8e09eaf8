"""A connection's breaker: a value that says how many attempts may start, and moves by results.

    closed ──(failures in a row, or too high a share of failures)──> open
    open ──(open_for is over)──> half_open
    half_open ──(a probe fails)──> open
    half_open ──(enough probes succeed)──> closed
    open, half_open ──(reset by hand)──> closed

Every method returns the breaker as it is afterwards; comparing ``state`` before and after shows a
transition. An attempt remembers the ``term`` of the breaker that it began under. A term ends with
every change of state and with every probe, so that a result from before says nothing about now: it
neither prolongs an open breaker nor passes for the probe that is under way.
"""

import dataclasses
import enum
import sys
from typing import Annotated, Final

import msgspec

UNLIMITED: Final = sys.maxsize


class BreakerState(enum.StrEnum):
    """Whether attempts may start: any, none, or one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker moves.

    Attributes:
        failures: Failures in a row that open it.
        open_for_s: Seconds that it stays open.
        successes: Probes in a row that must succeed to close it.
        failure_rate: Share of failures among the last results that opens it, over 0 and at most
            1; None for no such rule.
        window: How many results the share is taken of.
        min_results: Results without which the share says nothing; the window if that is smaller.
    """

    failures: int = 5
    open_for_s: float = 60.0
    successes: int = 3
    failure_rate: float | None = None
    window: int = 20
    min_results: int = 10


_Whole = Annotated[int, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct):
    """A breaker as it is stored; the last results are 0s and 1s, the newest at the end."""

    state: BreakerState
    opened_at_ms: _Whole
    failures: _Whole
    successes: _Whole
    results: Annotated[str, msgspec.Meta(pattern="^[01]*$")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One connection's breaker.

    Attributes:
        policy: When it moves.
        state: See :class:`BreakerState`.
        term: Grows by one with every change of state and every probe.
        opened_at_ms: When it last opened, UTC milliseconds.
        failures: While closed: failures in a row.
        successes: While half open: successful probes in a row.
        probing: While half open: whether a probe is under way.
        results: While closed, under a rule about shares: the last results, True for a failure.
    """

    policy: BreakerPolicy = BreakerPolicy()
    state: BreakerState = BreakerState.CLOSED
    term: int = 0
    opened_at_ms: int = 0
    failures: int = 0
    successes: int = 0
    probing: bool = False
    results: tuple[bool, ...] = ()

    def at(self, now_ms: int) -> "Breaker":
        """Return the breaker as time alone has made it; look through this, and keep what it says.

        An open breaker whose time is over is half open. Where the clock was set back to before it
        opened, it counts as opened now, so that it is never open for longer than the policy says.
        """
        if self.state is not BreakerState.OPEN:
            return self
        if now_ms >= self._ends_ms(now_ms):
            return self._moved(BreakerState.HALF_OPEN)
        if now_ms < self.opened_at_ms:
            return dataclasses.replace(self, opened_at_ms=now_ms)
        return self

    def under(self, policy: BreakerPolicy) -> "Breaker":
        """Return the breaker as it stands, under another policy from now on."""
        return dataclasses.replace(self, policy=policy)

    def permits(self, now_ms: int) -> int:
        """Return how many attempts may start now: :data:`UNLIMITED`, 1 as a probe, or 0."""
        current = self.at(now_ms)
        match current.state:
            case BreakerState.CLOSED:
                return UNLIMITED
            case BreakerState.OPEN:
                return 0
            case BreakerState.HALF_OPEN:
                return 0 if current.probing else 1

    def next_change_ms(self, now_ms: int) -> int | None:
        """Return when time alone will change what is permitted, or None if only results can."""
        is_open = self.at(now_ms).state is BreakerState.OPEN
        return self._ends_ms(now_ms) if is_open else None

    def on_start(self, now_ms: int) -> "Breaker":
        """Note that an attempt starts; one that starts while half open is the probe.

        Call it in the same step as :meth:`permits`, before anything is awaited, and remember the
        ``term`` of what it returns. Every start is to be followed by one of :meth:`on_success`,
        :meth:`on_failure` and :meth:`on_neutral`.

        Raises:
            ValueError: No attempt may start now.
        """
        current = self.at(now_ms)
        if not current.permits(now_ms):
            raise ValueError(f"no attempt may start now, the breaker is {current.state}")
        if current.state is BreakerState.HALF_OPEN:
            return dataclasses.replace(current, term=current.term + 1, probing=True)
        return current

    def on_success(self, term: int) -> "Breaker":
        """Count an attempt that the provider served."""
        if not self._counts(term):
            return self
        if self.state is BreakerState.HALF_OPEN:
            if self.successes + 1 >= self.policy.successes:
                return self._moved(BreakerState.CLOSED)
            return dataclasses.replace(self, successes=self.successes + 1, probing=False)
        if not self.failures and self.policy.failure_rate is None:
            return self
        return dataclasses.replace(self, failures=0, results=self._results_and(failure=False))

    def on_failure(self, term: int, now_ms: int) -> "Breaker":
        """Count an attempt that the provider failed to serve, or whose outcome nobody knows."""
        if not self._counts(term):
            return self
        failures, results = self.failures + 1, self._results_and(failure=True)
        if self.state is BreakerState.HALF_OPEN or self._is_too_bad(failures, results):
            return self._moved(BreakerState.OPEN, opened_at_ms=now_ms)
        return dataclasses.replace(self, failures=failures, results=results)

    def on_neutral(self, term: int) -> "Breaker":
        """Note the end of an attempt that says nothing about the provider's health.

        Such are a refusal and a request to slow down, and an attempt that never left the machine
        or never began. Only a probe is given back; nothing is counted.
        """
        if not self._counts(term) or not self.probing:
            return self
        return dataclasses.replace(self, probing=False)

    def reset(self) -> "Breaker":
        """Return it closed, with nothing counted; results under way will not count either."""
        return self._moved(BreakerState.CLOSED)

    def to_record(self) -> bytes:
        """Return what has to be stored for it to survive a restart, as a JSON object."""
        record = _Record(
            state=self.state,
            opened_at_ms=self.opened_at_ms,
            failures=self.failures,
            successes=self.successes,
            results="".join("01"[failed] for failed in self.results),
        )
        return msgspec.json.encode(record)

    @classmethod
    def restore(cls, record: bytes, policy: BreakerPolicy, now_ms: int) -> "Breaker":
        """Return a stored breaker as it stands now; a probe that was under way is forgotten.

        A record that cannot be read gives a closed breaker, which finds out anew.
        """
        try:
            found = msgspec.json.decode(record, type=_Record)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return cls(policy=policy)
        stored = cls(
            policy=policy,
            state=found.state,
            opened_at_ms=found.opened_at_ms,
            failures=found.failures,
            successes=found.successes,
            results=tuple(result == "1" for result in found.results),
        )
        return stored.at(now_ms)

    def _ends_ms(self, now_ms: int) -> int:
        """Return when the time that it stays open is over."""
        return min(self.opened_at_ms, now_ms) + round(self.policy.open_for_s * 1000)

    def _is_too_bad(self, failures: int, results: tuple[bool, ...]) -> bool:
        policy = self.policy
        if failures >= policy.failures:
            return True
        needed = min(policy.min_results, policy.window)
        if policy.failure_rate is None or len(results) < needed:
            return False
        return sum(results) / len(results) >= policy.failure_rate

    def _counts(self, term: int) -> bool:
        """Whether a result says something about now: in this term, and half open only a probe's."""
        is_expected = self.state is BreakerState.CLOSED or self.probing
        return is_expected and term == self.term

    def _results_and(self, *, failure: bool) -> tuple[bool, ...]:
        if self.policy.failure_rate is None:
            return ()
        return (*self.results, failure)[-self.policy.window :]

    def _moved(self, state: BreakerState, *, opened_at_ms: int | None = None) -> "Breaker":
        return Breaker(
            policy=self.policy,
            state=state,
            term=self.term + 1,
            opened_at_ms=self.opened_at_ms if opened_at_ms is None else opened_at_ms,
        )
