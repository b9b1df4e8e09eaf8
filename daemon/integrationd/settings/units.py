"""Durations, rates and sizes as people write them, turned into plain numbers.

The rest of the daemon knows seconds, calls per second and bytes only.
"""

import math
import re
from collections.abc import Callable
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0

_NUMBER = r"\d{1,15}(?:\.\d{1,9})?"
_DURATION_PATTERN = re.compile(
    rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?(?:({_NUMBER})ms)?"
)
_RATE_PATTERN = re.compile(rf"({_NUMBER})\s*/\s*([smhd])")
_SIZE_PATTERN = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB)")
_BARE_PATTERN = re.compile(_NUMBER)

_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SECONDS = {"s": 1.0, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_MAX_NUMBER = 10**15


def parse_duration(value: object) -> float:
    """Turn ``"500ms"``, ``"30s"``, ``"1h30m"``, ``"30d"`` or a number of seconds into seconds.

    Raises:
        ValueError: It is none of these.
    """
    expected = 'must be a duration such as "500ms", "30s", "15m", "1h30m" or "30d"'
    number = _plain_number(value)
    if number is not None:
        return number
    found = _DURATION_PATTERN.fullmatch(value) if isinstance(value, str) and value else None
    if found is None:
        raise ValueError(expected)
    amounts = zip(found.groups(), _UNIT_MS.values(), strict=True)
    # Milliseconds are whole numbers for every common spelling, so the sum carries no rounding.
    return sum(float(amount) * unit_ms for amount, unit_ms in amounts if amount) / 1000


def format_duration(seconds: float) -> str:
    """Return seconds as the shortest text that :func:`parse_duration` reads, to a millisecond."""
    rest_ms = round(seconds * 1000)
    text = ""
    for unit, unit_ms in _UNIT_MS.items():
        amount, rest_ms = divmod(rest_ms, unit_ms)
        text += f"{amount}{unit}" if amount else ""
    return text or "0s"


def parse_rate(value: object) -> float:
    """Turn ``"20/s"``, ``"100/m"``, ``"5/h"``, ``"1000/d"`` or a number into calls per second.

    Raises:
        ValueError: It is none of these.
    """
    number = _plain_number(value)
    if number is not None:
        return number
    found = _RATE_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a rate such as "20/s", "100/m", "5/h" or "1000/d"')
    return float(found[1]) / _SECONDS[found[2]]


def parse_size(value: object) -> int:
    """Turn ``"1MiB"``, ``"64KiB"`` or a number of bytes into bytes.

    Raises:
        ValueError: It is neither, or not a whole number of bytes.
    """
    number = _plain_number(value)
    if number is not None and number.is_integer():
        return int(number)
    found = _SIZE_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a size such as "64KiB", "1MiB" or a number of bytes')
    return int(found[1]) * _BYTES[found[2]]


def format_size(size_bytes: int) -> str:
    """Return bytes as people read them, to a tenth of the largest unit that fits."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _BYTES[unit]:
            return f"{size_bytes / _BYTES[unit]:.1f} {unit}"
    return f"{size_bytes} B"


def duration_between(low_s: float, high_s: float) -> Callable[[float], float]:
    """Make a check that a duration is neither under ``low_s`` nor over ``high_s`` seconds."""

    def check(seconds: float) -> float:
        if not low_s <= seconds <= high_s:
            low, high = format_duration(low_s), format_duration(high_s)
            raise ValueError(f"must be between {low} and {high}")
        return seconds

    return check


def rate_in_bounds(per_second: float) -> float:
    """Check that a rate is one that a limiter can keep.

    Raises:
        ValueError: It is not.
    """
    if not 1 / DAY_S <= per_second <= 100_000:
        raise ValueError('must be between "1/d" and "100000/s"')
    return per_second


def refuse_bool(value: object) -> object:
    """Let anything through but ``true`` and ``false``, which Python takes for 1 and 0.

    Raises:
        ValueError: It is a bool.
    """
    if value is True or value is False:
        raise ValueError("must be a number, not true or false")
    return value


def _plain_number(value: object) -> float | None:
    """Return a number, or the text of one as the environment has it, as a float; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _BARE_PATTERN.fullmatch(value):
        return float(value)
    # The bound comes before the conversion: a TOML integer may be too long for a float.
    if isinstance(value, int | float) and abs(value) <= _MAX_NUMBER and math.isfinite(value):
        return float(value)
    return None


def _written(description: str, pattern: re.Pattern[str]) -> WithJsonSchema:
    """Describe to editors how the file writes a value that is a number here."""
    forms = [{"type": "number"}, {"type": "string", "pattern": f"^(?:{pattern.pattern})$"}]
    return WithJsonSchema({"description": description, "anyOf": forms})


Count: TypeAlias = Annotated[int, BeforeValidator(refuse_bool)]
Number: TypeAlias = Annotated[float, BeforeValidator(refuse_bool)]
Size: TypeAlias = Annotated[
    int, BeforeValidator(parse_size), _written('a size such as "64KiB", or bytes', _SIZE_PATTERN)
]
Rate: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_rate),
    AfterValidator(rate_in_bounds),
    _written('a rate such as "20/s", or calls per second', _RATE_PATTERN),
]
_DURATION = _written('a time such as "30s" or "15m", or seconds', _DURATION_PATTERN)
Timeout: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(duration_between(0.001, 10 * MINUTE_S)),
    _DURATION,
]
Delay: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(duration_between(0.001, DAY_S)),
    _DURATION,
]
Margin: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(duration_between(1, 10 * MINUTE_S)),
    _DURATION,
]
Period: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(duration_between(1, 3650 * DAY_S)),
    _DURATION,
]
