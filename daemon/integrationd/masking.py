"""What counts as secret, and how it is shown: as ``***``.

A secret is known in two ways. By name: what a header, a field or a parameter is called. By value:
the registered secrets of the configuration, wherever they stand and however they are encoded
(:mod:`integrationd.spelling`). Nothing here raises, whatever it is given.
"""

import functools
import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

from integrationd.spelling import Spelling, may_be_spelt_out, read_out

MASK: Final = "***"
SHORTEST_VALUE: Final = 6
DEPTH_LIMIT: Final = 64

_NAME_LIMIT = 64
_KEYS = (
    "access|account|api|app|application|auth|client|consumer|encryption|licen[cs]e|master|merchant"
    "|private|secret|security|server|service|session|shared|signing|storage|subscription|webhook"
)
# A name is secret if it ends like this, in any case, with '-', '_', ' ' or nothing between words.
_NAME = rf"""(?:
    token | (?:access|auth|device|fcm|push|refresh|registration)[-_ ]?tokens | (?<![\w-])tokens
  | secrets? | (?:secret|verif)[-_ ]?hash | credentials? | cookies? | signature | assertion
  | authori[sz]ation(?:[-_ ]?code)? | code[-_ ]?verifier | registration[-_ ]?ids
  | pass[-_ ]?(?:words?|wd|phrase|code|key) | (?:{_KEYS})[-_ ]?keys?
  | (?<![a-z])(?:pin|pass|pwd|otp|cvv|cvc|sig|auth|jwt) | (?-i:(?<=[a-z])P(?:in|IN))
)[-_ ]?\d*[\])]*"""
_FLAGS = re.IGNORECASE | re.ASCII | re.VERBOSE
_SECRET_NAME = re.compile(rf"{_NAME}\Z", _FLAGS)
# Name, separator and opening quote or bracket stay; what follows goes.
_PAIR = re.compile(
    rf"""
    ({_NAME}(?:\\*["'])?\s*[:=]+>?\s*(?:\\*["'\[{{])?+)
    (?: (?<=\\["'])[^"'\\]++
      | (?<=")(?:[^"\\]|\\.)++
      | (?<=')(?:[^'\\]|\\.)++
      | (?<=\[)[^\]]++
      | (?<={{)[^}}]++
      | (?<!["'\[{{])(?![\w-]{{1,64}}:\s)
        (?:(?:basic|bearer|digest|hmac|negotiate|token)\s++)?[^\s&;,"'<>\\\[\]{{}})]++
    )""",
    _FLAGS | re.DOTALL,
)
# Header lines whose value has spaces in it.
_LINE = re.compile(r"""((?:authori[sz]ation|cookie)["']?\s*:\s*)[^\s"'\\\[{][^\r\n"']*+""", _FLAGS)
_USER = re.compile(r"""://[^/?#\s"'<>]*@""")

# Something of this stands in every secret name, in lower case. One pattern for each first letter:
# the engine finds a letter many times faster than a choice of letters.
_HINTS = tuple(
    re.compile(hint)
    for hint in (
        rb"k(?:e[ny]|ie)",
        rb"cre[dt]",
        rb"p(?:ass|in(?![a-z])|wd|(?<=otp))",
        rb"auth",
        rb"g(?:nature|istration|(?<=sig))",
        rb"v(?:v|c(?<=cvc)|erif)",
        rb"jwt",
        rb"assertion",
    )
)
_ESCAPED_LETTER = re.compile(rb"\\u00(?:[2-7]|00)|\\x00")
# The zero bytes of UTF-16, as they are or as they are written where they cannot be shown.
_ZERO = re.compile(r"\0|\\{1,8}(?:x00|u0000)")
_USER_BYTES = re.compile(_USER.pattern.encode())


def is_secret_name(name: str) -> bool:
    """Say whether what is called so is to be masked.

    ``X-Api-Key``, ``accessToken`` and ``user_pin`` are; ``token_count``, ``reference`` and a mere
    ``key`` are not.
    """
    return _ends_like_a_secret(name[-_NAME_LIMIT:])


@functools.lru_cache(maxsize=4096)
def _ends_like_a_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


class Masker:
    """Masks by name, and by the values that it holds.

    Args:
        values: Secrets to mask wherever they stand; those under six characters are left out,
            since they would stand everywhere.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._hold(values, {})

    def _hold(self, values: Iterable[str], known: Mapping[str, Spelling]) -> None:
        given = {form for value in values for form in (value, value.strip())}
        usable = (value for value in given if len(value) >= SHORTEST_VALUE)
        # The longest first, so that a secret within another does not leave the rest of it.
        self._values = tuple(sorted(usable, key=lambda value: (-len(value), value)))
        self._spellings = {value: known.get(value) or Spelling(value) for value in self._values}
        found = (piece for one in self._spellings.values() for piece in one.pieces)
        self._fragments = tuple(dict.fromkeys(found))
        self._coded = tuple(one.coded for one in self._spellings.values())
        texts = (text for one in self._spellings.values() for text in one.texts)
        self._texts = tuple(dict.fromkeys(texts))
        self._shortest = min(map(len, self._texts), default=sys.maxsize)

    @property
    def values(self) -> tuple[str, ...]:
        """The secrets that it knows by their value."""
        return self._values

    def with_values(self, values: Iterable[str]) -> "Masker":
        """Return a masker that holds these values as well."""
        more = Masker()
        more._hold((*self._values, *values), self._spellings)
        return more

    def learn(self, values: Iterable[str]) -> None:
        """Mask these values as well from now on; what it held before may still be shown."""
        self._hold((*self._values, *values), self._spellings)

    def exchange(self, gone: Iterable[str], come: Iterable[str]) -> None:
        """Mask some values from now on, and others no longer, as where a token follows another."""
        past = set(gone)
        left = (one for one in self._values if one not in past)
        self._hold((*left, *come), self._spellings)

    def text(self, text: str) -> str:
        """Mask values, users in URLs, and what follows a secret name and ``:`` or ``=``."""
        if self._is_clean(text.encode("utf-8", "surrogatepass")):
            return text
        return self._without_wide_values(self._masked_text(text))

    def without_values(self, text: str) -> str:
        """Mask values alone, and nothing by its name."""
        if not self._values:
            return text
        return self._without_wide_values(self._without_values(text))

    def excerpt(self, text: str, limit: int) -> str:
        """Return the beginning of a text, masked, and without the beginning of a value at its end.

        Args:
            text: What was said; it may have been cut off before.
            limit: How many characters are kept.
        """
        return self.at_cut(self.text(text)[:limit])[:limit]

    def at_cut(self, text: str) -> str:
        """Mask the beginning of a value at the end of a text that was cut off there."""
        for one in self._spellings.values():
            text = one.hidden_at_end(text, MASK)
        return text

    def body(self, body: bytes, content_type: str | None = None) -> str:
        """Return a request's or a reply's body as text, masked.

        JSON stays JSON. What is clean comes back as it is; bytes that are not UTF-8 are replaced.
        Cut long bodies after masking, not before.

        Args:
            body: The bytes of the body.
            content_type: The header, if there is one; forms are known by it.
        """
        text = body.decode("utf-8", "replace")
        if self._is_clean(body):
            return text
        # Without the zero bytes of UTF-16, what is written in it is readable as well.
        text = text.replace("\0", "").removeprefix("\ufeff")
        if content_type and "form-urlencoded" in content_type.lower():
            return self._form(text)
        return self._without_wide_values(self._json_or_text(text))

    def headers(
        self, headers: Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
    ) -> dict[str, str]:
        """Return headers masked by name and value; those of one name are joined by commas."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        masked: dict[str, str] = {}
        for raw_name, raw_value in pairs:
            name, value = _latin(raw_name), _latin(raw_value)
            shown = MASK if value and is_secret_name(name) else self.text(value)
            masked[name] = f"{masked[name]}, {shown}" if name in masked else shown
        return masked

    def url(self, url: str) -> str:
        """Mask the user, the secret parameters of query and fragment, and values anywhere."""
        if self._is_clean(url.encode("utf-8", "surrogatepass")):
            return url
        head, *rest = re.split(r"([?#])", url)
        masked = self._masked_text(head)
        for mark, part in zip(rest[::2], rest[1::2], strict=True):
            masked += mark + self._form(part)
        return self._without_values(masked)

    def value(self, value: Any) -> Any:
        """Return a copy of what JSON can hold, masked by key and value.

        Tuples and sets become lists, bytes text. What is nested too deeply, or in itself, is
        masked. Objects of other types come back as they are: turn them into text first.
        """
        return self._walked(value, DEPTH_LIMIT, {})

    def _is_clean(self, raw: bytes) -> bool:
        """Say quickly that there is nothing to mask; False where there may be something."""
        if b"\0" in raw or (b"\\" in raw and _ESCAPED_LETTER.search(raw)):
            return False
        lower = raw.lower()
        if len(raw) >= self._shortest and self._may_hold_a_value(raw, lower):
            return False
        for hint in _HINTS:
            if hint.search(lower):
                return False
        return b"@" not in raw or not _USER_BYTES.search(raw)

    def _may_hold_a_value(self, raw: bytes, lower: bytes) -> bool:
        for fragment in self._fragments:
            if fragment in raw:
                return True
        for coded in self._coded:
            if coded in lower:
                return True
        return (b"%" in raw or b"&#" in raw) and may_be_spelt_out(raw)

    def _masked_text(self, text: str) -> str:
        masked = _USER.sub(f"://{MASK}@", self._without_values(text))
        masked = _PAIR.sub(rf"\1{MASK}", _LINE.sub(rf"\1{MASK}", masked))
        return self._without_values(masked)

    def _without_values(self, text: str) -> str:
        # Again, since a mask with what stands around it may be another value.
        while (masked := self._once_without_values(text)) != text:
            text = masked
        return text

    def _without_wide_values(self, text: str) -> str:
        """Mask what is written in UTF-16, without whose zero bytes it reads as any other text."""
        if not self._values or not _ZERO.search(text):
            return text
        plain = _ZERO.sub("", text)
        masked = self._without_values(plain)
        return text if masked == plain else masked

    def _once_without_values(self, text: str) -> str:
        for piece in self._texts if len(text) >= self._shortest else ():
            if piece in text:
                for one in self._spellings.values():
                    text = one.hidden(text, MASK)
                break
        if "%" not in text and "\\u" not in text and "&#" not in text:
            return text
        plain = read_out(text)
        for one in self._spellings.values() if plain else ():
            if one.plain in plain:
                text = one.hidden_spelt_out(text, MASK)
        return text

    def _json_or_text(self, text: str) -> str:
        if not text.lstrip().startswith(("{", "[")):
            return self._masked_text(text)
        try:
            parsed = json.loads(text, object_pairs_hook=_without_repeats)
            masked = self.value(parsed)
            shown = text if masked == parsed else _encoded(masked)
        except (ValueError, RecursionError):
            return self._masked_text(text)
        # A value that spans members can only go together with everything around it.
        return shown if self._without_values(shown) == shown else f'"{MASK}"'

    def _form(self, form: str) -> str:
        pairs = self._without_values(form).split("&")
        return self._without_values("&".join(map(self._form_pair, pairs)))

    def _form_pair(self, pair: str) -> str:
        name, mark, value = pair.partition("=")
        if value and is_secret_name(unquote_plus(name)):
            return f"{name}={MASK}"
        plain = unquote_plus(value)
        masked = self._json_or_text(plain)
        if masked != plain:
            value = quote_plus(masked, safe="*", errors="replace")
        return name + mark + value

    def _walked(self, value: Any, depth: int, seen: dict[int, Any]) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray):
            return self.body(bytes(value))
        if isinstance(value, int | float):
            return self._number(value)
        if not isinstance(value, Mapping | list | tuple | set | frozenset):
            return value
        if not depth:
            return MASK
        if id(value) not in seen:
            # While it is being walked it can be met again only within itself.
            seen[id(value)] = MASK
            seen[id(value)] = self._members(value, depth - 1, seen)
        return seen[id(value)]

    def _members(self, value: Any, depth: int, seen: dict[int, Any]) -> Any:
        if not isinstance(value, Mapping):
            return [self._walked(member, depth, seen) for member in value]
        shown: dict[Any, Any] = {}
        for name, member in value.items():
            # Judged as it is shown, since a mask within a name may change how it ends.
            title = self._without_values(name) if isinstance(name, str) else name
            is_secret = isinstance(title, str) and is_secret_name(title)
            hide = is_secret and _holds_something(member)
            shown[title] = MASK if hide else self._walked(member, depth, seen)
        return shown

    def _number(self, value: float) -> Any:
        if not self._values or isinstance(value, bool):
            return value
        try:
            text = repr(value)
        except ValueError:
            # Python refuses to write integers of thousands of digits.
            return MASK
        return value if self._without_values(text) == text else MASK


def _holds_something(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return False
    return bool(value) if isinstance(value, str | bytes | list | dict) else True


def _latin(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names a member twice, and only one of them would be seen")
    return found


def _encoded(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text
