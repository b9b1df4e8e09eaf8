"""Pages of lists: ``{"items": [...], "next": cursor or null}``."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import QueryParams

from integrationd.errors import BadRequestError, UnprocessableError

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 500
_LARGEST_NUMBER = (1 << 63) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for.

    Attributes:
        limit: How many items at most.
        before: Only items with a smaller number; from the latest when None.
        filters: What else the items must be.
    """

    limit: int
    before: int | None
    filters: Mapping[str, str]


def options_of(query: QueryParams, known: Sequence[str]) -> dict[str, str]:
    """Return the options in a query, each of them known and given once.

    Raises:
        BadRequestError: One is not known, or is given twice.
    """
    options = dict(query)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise BadRequestError(
            f"unknown option {unknown[0]!r} in the query",
            code="unknown_option",
            hint=f"The options are: {', '.join(known)}." if known else "There are none here.",
        )
    if len(options) != len(query.multi_items()):
        raise BadRequestError("an option is given twice in the query", code="doubled_option")
    return options


def read_page(query: QueryParams, filters: Sequence[str]) -> Page:
    """Read a page from query parameters.

    Raises:
        BadRequestError: A parameter is not known, or is given twice.
        UnprocessableError: A parameter makes no sense.
    """
    options = options_of(query, ("limit", "cursor", *filters))
    limit = _number(options.get("limit", str(DEFAULT_LIMIT)), "limit")
    if not 1 <= limit <= LARGEST_LIMIT:
        raise UnprocessableError(f"limit is a number from 1 to {LARGEST_LIMIT}")
    cursor = options.get("cursor")
    return Page(
        limit=limit,
        before=None if cursor is None else _number(cursor, "cursor"),
        filters={name: options[name] for name in filters if name in options},
    )


def page_of(items: Sequence[Any], numbers: Sequence[int], page: Page) -> dict[str, Any]:
    """Return the items with the cursor of the next page, if there may be one."""
    more = len(items) == page.limit
    return {"items": items, "next": str(numbers[-1]) if more else None}


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise UnprocessableError(f"{name} is not a number that this API has given out")
    return min(int(text), _LARGEST_NUMBER)
