"""Who a data subject is: a phone number, an e-mail address or a reference, found in any text."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

_PHONE = re.compile(r"\+?[0-9][0-9 ()-]{6,18}[0-9]")
# Country codes whose national form is a 0 and the rest.
_TRUNK_0 = re.compile(r"(?:20|27|211|22[0-9]|23[0-9]|24[0-9]|25[0-8]|26[0-9])(?=[0-9]{8,10}\Z)")


class Subject:
    """Knows every spelling of one subject.

    A phone number is given with its country code; its national form with a leading 0 counts too.

    Args:
        text: The number, the address, or a reference exactly as calls carry it.
    """

    def __init__(self, text: str) -> None:
        self._pattern = re.compile("|".join(_patterns(text.strip())), re.IGNORECASE)

    def is_in(self, values: Iterable[Any]) -> bool:
        """Say whether one of these values names the subject; bytes are read as text."""
        return any(self._is_named(value) for value in values)

    def _is_named(self, value: Any) -> bool:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return isinstance(value, str) and self._pattern.search(value) is not None


def _patterns(text: str) -> Iterable[str]:
    if _PHONE.fullmatch(text):
        digits = re.sub(r"[^0-9]", "", text)
        yield rf"(?<![0-9]){digits}(?![0-9])"
        if trunk := _TRUNK_0.match(digits):
            yield rf"(?<![0-9])0{digits[trunk.end() :]}(?![0-9])"
        return
    for form in sorted({text, quote(text, safe=""), text.encode("unicode_escape").decode()}):
        yield rf"(?<![\w.+-]){re.escape(form)}(?![\w-]|\.\w)"
