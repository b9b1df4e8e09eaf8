"""What counts as secret, and how it is shown: as ``***``.

A secret is known in two ways. By name: what a header, a field or a parameter is called. By value:
the registered secrets of the configuration, wherever they stand: as they are, percent-encoded,
escaped for JSON, or inside something encoded in base64. Nothing here raises, whatever it is given.
"""

import base64
import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

MASK: Final = "***"
SHORTEST_VALUE: Final = 6
SHORTEST_BASE64_BYTES: Final = 8
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
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]")
_USER_BYTES = re.compile(_USER.pattern.encode())

# No encoder changes these, so that they can be looked for before anything is decoded.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_BASE64_PLAIN = re.compile(r"[A-Za-z0-9]+")


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
        given = {form for value in values for form in (value, value.strip())}
        usable = (value for value in given if len(value) >= SHORTEST_VALUE)
        # The longest first, so that a secret within another does not leave the rest of it.
        self._values = tuple(sorted(usable, key=lambda value: (-len(value), value)))
        self._fragments = tuple({piece for value in self._values for piece in _fragments(value)})

    @property
    def values(self) -> tuple[str, ...]:
        """The secrets that it knows by their value."""
        return self._values

    def with_values(self, values: Iterable[str]) -> "Masker":
        """Return a masker that holds these values as well."""
        return Masker((*self._values, *values))

    def learn(self, values: Iterable[str]) -> None:
        """Mask these values as well from now on; what it held before may still be shown."""
        more = vars(self.with_values(values))
        vars(self).clear()
        vars(self).update(more)

    def text(self, text: str) -> str:
        """Mask values, users in URLs, and what follows a secret name and ``:`` or ``=``."""
        if self._is_clean(text.encode("utf-8", "surrogatepass")):
            return text
        return self._masked_text(text)

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
        return self._json_or_text(text)

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
        for fragment in self._fragments:
            if fragment in raw:
                return False
        lower = raw.lower()
        for hint in _HINTS:
            if hint.search(lower):
                return False
        return b"@" not in raw or not _USER_BYTES.search(raw)

    def _masked_text(self, text: str) -> str:
        masked = _USER.sub(f"://{MASK}@", self._without_values(text))
        masked = _PAIR.sub(rf"\1{MASK}", _LINE.sub(rf"\1{MASK}", masked))
        return self._without_values(masked)

    def _without_values(self, text: str) -> str:
        if not self._values:
            return text
        # Again, since a mask with what stands around it may be another value.
        while (masked := self._pattern.sub(MASK, text)) != text:
            text = masked
        return text

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(form for value in self._values for form in _forms(value)))

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


def _fragments(value: str) -> Iterable[bytes]:
    """Return what of a value stands in the bytes of any text that holds it, one for each form."""
    yield max(_PLAIN.findall(value), key=len, default="").encode()
    for core in _base64_cores(value):
        yield max(_BASE64_PLAIN.findall(core), key=len, default="").encode()


def _forms(value: str) -> Iterable[str]:
    """Return patterns for a value in all its forms."""
    yield "".join(r"\\" if char == "\\" else _any_form(char) for char in value)
    if "\\" in value:
        # Apart, since a pattern in which one backslash may be two takes for ever to fail.
        yield "".join(map(_any_form, value))
    for core in _base64_cores(value):
        yield "".join(map(_any_base64_form, core))


@functools.lru_cache(maxsize=1024)
def _any_form(char: str) -> str:
    """Return a pattern for a character as it is, percent-encoded, or escaped for JSON."""
    if _PLAIN.fullmatch(char):
        return re.escape(char)
    percent = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
    units = char.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(rf"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    forms = [f"(?i:{percent})", f"(?i:{escaped})", re.escape(json.dumps(char)[1:-1])]
    if char == "/":
        forms.append(r"\\/")
    if char == " ":
        forms.append(r"\+")
    if char != "\\":
        forms.append(re.escape(char))
    return f"(?:{'|'.join(forms)})"


def _any_base64_form(char: str) -> str:
    match char:
        case "+":
            return f"(?:-|{_any_form(char)})"
        case "/":
            return f"(?:_|{_any_form(char)})"
        case _:
            return char


def _base64_cores(value: str) -> Iterable[str]:
    """Return the part of a value's base64 that no neighbour changes, for each of 3 alignments."""
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) < SHORTEST_BASE64_BYTES:
        return
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        # A character carries 6 bits: those that also carry a neighbour's bits are left out.
        yield encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
