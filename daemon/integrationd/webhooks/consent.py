"""The page that ends an authorisation: a sentence or two, and nothing that could leak."""

import dataclasses
import html
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

PATH = "/oauth/callback"

# The address of this page holds a code, so it goes nowhere: not to a cache, not to another site.
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
)
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How an authorisation has ended.

    Attributes:
        status: The HTTP status.
        title: In two or three words.
        text: What happened, and what to do now; without any token.
    """

    status: int
    title: str
    text: str


Finish: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Ended]]


async def nothing_begun(_query: Mapping[str, str]) -> Ended:
    """End what nobody can have begun."""
    return Ended(404, "Nothing to do here", "No authorisation was begun here.")


def page(ended: Ended) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body of the page."""
    text = _PAGE.format(title=html.escape(ended.title), text=html.escape(ended.text))
    body = text.encode("utf-8", "replace")
    return [*_HEADERS, (b"content-length", str(len(body)).encode())], body
