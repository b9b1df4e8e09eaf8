"""Which of several connections serves an operation of a tenant: the rule by itself, without I/O.

A tenant's own connections go before those that all share; among these the one that is placed first,
then the primary one. Whose account is used never changes by a pause: where a tenant has connections
of its own, its calls wait for one of them.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Place: TypeAlias = tuple[int, int]
UNPLACED: Place = (2, 0)
"""Where a connection stands that neither a route nor its own ``order`` places."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A connection that can do the operation and that the tenant may use.

    Attributes:
        name: The connection's id.
        is_own: Whether it is the tenant's own, rather than shared by all.
        place: Its place in the order; the smallest goes first.
        is_primary: Whether it goes before others of its place.
        is_paused: Whether it takes no work for now.
        is_leaving: Whether it takes no new calls any more.
    """

    name: str
    is_own: bool
    place: Place = UNPLACED
    is_primary: bool = False
    is_paused: bool = False
    is_leaving: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What the rule says.

    Attributes:
        serving: The one that takes calls now, or None.
        awaited: Those that calls wait for where none serves; several where nothing tells which.
    """

    serving: str | None
    awaited: tuple[str, ...] = ()

    @property
    def for_new_call(self) -> str | None:
        """The connection by which a new call is checked, if there is exactly one."""
        if self.serving is not None:
            return self.serving
        return self.awaited[0] if len(self.awaited) == 1 else None


def choose(candidates: Iterable[Candidate], *, for_new_call: bool = False) -> Choice:
    """Choose a connection.

    Args:
        candidates: All that can do the operation.
        for_new_call: Leave out those that are leaving; else they serve what nobody else can.
    """
    every = list(candidates)
    staying = [one for one in every if not one.is_leaving]
    pool = staying if staying or for_new_call else every
    tier = [one for one in pool if one.is_own] or pool
    going = _first([one for one in tier if not one.is_paused])
    if len(going) == 1:
        return Choice(going[0])
    return Choice(None, _first(tier))


def _first(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return all that share the first place."""
    best = min(map(_rank, candidates), default=None)
    return tuple(one.name for one in candidates if _rank(one) == best)


def _rank(candidate: Candidate) -> tuple[Place, bool]:
    return candidate.place, not candidate.is_primary
