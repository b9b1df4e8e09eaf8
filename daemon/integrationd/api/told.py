"""What a route says of itself: what it takes, gives and asks of its caller.

Each module of routes has a table of these; :mod:`integrationd.api.openapi_table` joins them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from integrationd.api.roles import Role

_T = TypeVar("_T")


class Page(msgspec.Struct, Generic[_T], frozen=True):
    """A part of a list; ``next`` is the cursor of the one that follows."""

    items: list[_T]
    next: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a route takes and gives.

    Attributes:
        summary: What it does.
        gives: What is answered, by status; a tuple where it is one of several.
        takes: The body, or None.
        needs_body: Whether a body must be sent where one is taken.
        query: Its options.
        shapes: JSON Schemas of options that are not as everywhere else.
        headers: Its headers.
        problems: Statuses above 499 that are part of its work.
        is_stream: Whether it can answer with a stream of events, too.
        is_open: Whether it answers everybody.
        personal: Where ``[privacy]`` asks for people's numbers and addresses to be masked, whether
            they are for ``all``; of what is for ``readers``, the role ``read``, others see the
            payload and the result as they are.
        role: What the caller must be, where it is not open; an admin, where nothing is said.
    """

    summary: str
    gives: Mapping[int, Any]
    takes: Any = None
    needs_body: bool = True
    query: Sequence[str] = ()
    shapes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    headers: Sequence[str] = ()
    problems: Sequence[int] = ()
    is_stream: bool = False
    is_open: bool = False
    personal: Literal["", "all", "readers"] = ""
    role: Role = Role.ADMIN


Table: TypeAlias = Mapping[tuple[str, str], Told]
PAGE = ("limit", "cursor")
