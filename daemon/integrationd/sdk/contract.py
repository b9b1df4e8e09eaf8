"""What a contract is: the typed request and result of one operation, the same for every provider.

The structs themselves stand in :mod:`integrationd.sdk.contracts`, one file per category.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from integrationd.sdk.money import Money

OnUncertain: TypeAlias = Literal["hold", "repeat"]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every contract's request: immutable, keyword-only, unknown members refused."""


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every contract's result, as documented to the app."""


def _no_recipients(_request: Any) -> Sequence[str]:
    return ()


def _no_money(_request: Any) -> Money | None:
    return None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The promise that every provider of an operation keeps.

    Attributes:
        operation: ``category.verb``, for example ``sms.send``.
        request: The struct that the payload is decoded into.
        result: The struct that documents the result.
        on_uncertain: What to do with a send of unknown outcome that can neither be repeated
            safely nor asked about: ``hold`` it for a person, or ``repeat`` it.
        max_repeats: How often at most ``repeat`` repeats.
        expires_in_s: Seconds after acceptance at which a late effect would be a wrong one.
        effect: False for operations that only read; they are never held for later.
        recipients: The recipients of a request to many, in order; each becomes a part.
        money: What a request asks for or sends; a payment of anything else is never called paid.
        summary: One line for the API's documentation.
    """

    operation: str
    request: type[msgspec.Struct]
    result: type[msgspec.Struct]
    on_uncertain: OnUncertain = "hold"
    max_repeats: int = 1
    expires_in_s: float | None = None
    effect: bool = True
    recipients: Callable[[Any], Sequence[str]] = _no_recipients
    money: Callable[[Any], Money | None] = _no_money
    summary: str = ""

    @property
    def category(self) -> str:
        """The part of the operation before the dot."""
        return self.operation.partition(".")[0]
