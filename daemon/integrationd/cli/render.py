"""How values look on a terminal: cleaned, aligned, and with times that a person can read."""

import dataclasses
import datetime as dt
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

COLOURS = {
    "completed": "green",
    "ok": "green",
    "ready": "green",
    "up": "green",
    "closed": "green",
    "done": "green",
    "pending": "yellow",
    "processing": "cyan",
    "waiting": "cyan",
    "half_open": "yellow",
    "unknown": "magenta",
    "attention": "yellow",
    "failed": "red",
    "expired": "red",
    "degraded": "red",
    "down": "red",
    "open": "red",
}

_JOINERS = "\u200c\u200d"
_STEERING_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_SECONDS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def clean(text: str) -> str:
    """Return text with everything that could steer a terminal written as escapes.

    That is control characters with line ends among them, marks that change the direction of the
    text, and what has no glyph. The joiners stay: several scripts cannot do without them.
    """
    if text.isprintable():
        return text
    return "".join(each if _is_harmless(each) else _escaped(each) for each in text)


def cleaned(value: Any) -> Any:
    """Return a JSON value with all its texts cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    if isinstance(value, dict):
        return {clean(key): cleaned(each) for key, each in value.items()}
    return value


def json_for_terminal(text: str) -> str:
    """Return JSON that means the same and cannot steer a terminal."""
    return _STEERING_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line_json(value: Any, limit: int) -> str:
    """Return a JSON value on one line, cut to ``limit`` characters."""
    return cut(clean(json.dumps(value, ensure_ascii=False)), limit)


def width(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, room: int) -> str:
    """Return as much of a text as fits into ``room`` columns, with ``…`` where it was cut."""
    if width(text) <= room:
        return text
    kept, left = "", room - 1
    for each in text:
        left -= _columns(each)
        if left < 0:
            break
        kept += each
    return f"{kept}…"


def paint(text: str, word: str = "") -> str:
    """Colour a text by the state that it names, or that ``word`` names."""
    colour = COLOURS.get(word or text.strip())
    return click.style(text, fg=colour) if colour else text


class Table:
    """Rows under headers, column by column; the last column takes what room is left.

    Rows may come in batches, so that a long list needs no memory; columns only grow.

    Args:
        headers: One for each column.
        room: The columns of the terminal; None to cut nothing.
    """

    def __init__(self, headers: Sequence[str], room: int | None) -> None:
        self._headers = headers
        self._room = room
        self._widths = [width(header) for header in headers]
        self._has_begun = False

    def lines(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """Return the lines of one batch of rows, the header before the first."""
        batch = list(rows)
        for row in batch:
            self._widths = [max(pair) for pair in zip(self._widths, map(width, row), strict=True)]
        if batch and not self._has_begun:
            self._has_begun = True
            yield click.style(self._line(self._headers, is_painted=False), bold=True)
        for row in batch:
            yield self._line(row, is_painted=True)

    def _line(self, row: Sequence[str], *, is_painted: bool) -> str:
        padded = [
            cell + " " * (room - width(cell))
            for cell, room in zip(row[:-1], self._widths, strict=False)
        ]
        used = sum(self._widths[:-1]) + 2 * len(padded)
        last = row[-1] if self._room is None else cut(row[-1], max(self._room - used, 20))
        cells = [*padded, last]
        return "  ".join(map(paint, cells) if is_painted else cells).rstrip()


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """Shows the API's times to a person.

    Attributes:
        now: The present.
        zone: The zone to show them in; the machine's own when None.
    """

    now: dt.datetime
    zone: dt.tzinfo | None = None

    def at(self, stamp: str | None) -> str:
        """Return a moment in local time, as short as its day allows; ``-`` where there is none."""
        moment = _read(stamp)
        if moment is None:
            return stamp or "-"
        here, today = moment.astimezone(self.zone), self.now.astimezone(self.zone)
        if here.date() == today.date():
            return f"{here:%H:%M:%S %Z}"
        return (
            f"{here:%-d %b %H:%M %Z}" if here.year == today.year else f"{here:%-d %b %Y %H:%M %Z}"
        )

    def relative(self, stamp: str | None) -> str:
        """Return how far a moment is away: ``in 4 s``, ``3 min ago``, ``now``."""
        moment = _read(stamp)
        if moment is None:
            return ""
        seconds = (moment - self.now).total_seconds()
        if abs(seconds) < 1:
            return "now"
        return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"

    def is_ahead(self, stamp: str | None) -> bool:
        """Say whether a moment is still to come."""
        moment = _read(stamp)
        return moment is not None and (moment - self.now).total_seconds() >= 1

    def both(self, stamp: str | None) -> str:
        """Return a moment in local time and how far it is away."""
        relative = self.relative(stamp)
        return f"{self.at(stamp)} ({relative})" if relative else self.at(stamp)

    def localised(self, text: str) -> str:
        """Return a sentence of the daemon's with the times in it shown as :meth:`at` does."""
        return _STAMP.sub(lambda found: self.both(found[0]), text)


def span(seconds: float) -> str:
    """Return a length of time in the unit that suits it: ``12 ms``, ``1.3 s``, ``40 min``."""
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    for length, unit in _SECONDS:
        if seconds >= 2 * length or length == 1:
            return f"{round(seconds / length)} {unit}"
    return f"{round(seconds)} s"


def _read(stamp: str | None) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(stamp or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _is_harmless(character: str) -> bool:
    return (
        character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
