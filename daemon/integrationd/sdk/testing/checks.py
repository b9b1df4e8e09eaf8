"""Checks that explain themselves wherever they run, with or without pytest's own rewriting."""

from typing import Any, TypeVar, overload

_Wanted = TypeVar("_Wanted")
_Other = TypeVar("_Other")


def require(is_so: bool, otherwise: str) -> None:
    """Fail the test unless something is so.

    Raises:
        AssertionError: It is not.
    """
    if not is_so:
        raise AssertionError(otherwise)


@overload
def expect(outcome: object, kind: type[_Wanted], /) -> _Wanted: ...
@overload
def expect(outcome: object, kind: type[_Wanted], other: type[_Other], /) -> _Wanted | _Other: ...
@overload
def expect(outcome: object, /, *kinds: type[object]) -> object: ...


def expect(outcome: object, /, *kinds: type[Any]) -> Any:
    """Return the outcome if it is of one of the kinds, else fail the test.

    Raises:
        AssertionError: It is of another kind.
    """
    wanted = " or ".join(kind.__name__ for kind in kinds)
    require(isinstance(outcome, kinds), f"expected {wanted}, not {outcome!r}")
    return outcome
