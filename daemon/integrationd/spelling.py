"""One secret in every form in which encoders write it, and how it is found in each of them.

As it is; with what encoders change percent-encoded or escaped for JSON; within something encoded in
base64; in hexadecimal; and with every character percent-encoded, or escaped for JSON or HTML.
"""

import base64
import functools
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

SHORTEST_BASE64_BYTES = 8
# Of a secret that was cut off, so much tells it from chance.
SHORTEST_PART = 6
# Enough to tell a secret by; short ones are found faster.
PIECE = 12

# No encoder changes these, so that they can be looked for before anything is decoded.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_BASE64_PLAIN = re.compile(r"[A-Za-z0-9]+")
# Four in a row, since hardly any encoder writes what it need not write like this.
_SPELT_OUT = (
    r"(?:%[2-7][0-9A-Fa-f]){4}|(?:\\{1,8}u00[2-7][0-9A-Fa-f]){4}"
    r"|(?:&\#[xX]?0{0,5}[0-9A-Fa-f]{2,3};){4}"
)
_SPELT_OUT_TEXT = re.compile(_SPELT_OUT)
_SPELT_OUT_BYTES = re.compile(_SPELT_OUT.encode())
_ESCAPE = re.compile(
    r"%([0-9A-Fa-f]{2})|\\{1,8}u00([0-9A-Fa-f]{2})|&#0*(\d{2,3});|&#[xX]0*([0-9A-Fa-f]{2});"
)


class Spelling:
    """One secret, and what finds it.

    Args:
        value: The secret.

    Attributes:
        value: The secret.
        pieces: One of them stands in the bytes of any text that holds it, but in hexadecimal or
            spelt out.
        coded: One of it in hexadecimal, in lower case.
        texts: The pieces, and those in hexadecimal in either case, as text.
    """

    def __init__(self, value: str) -> None:
        self.value = value
        self._coded = value.encode("utf-8", "surrogatepass").hex()
        pieces = tuple(dict.fromkeys(piece[:PIECE] for piece in _pieces(value)))
        coded = self._coded[:PIECE]
        self.texts = (*pieces, coded, coded.upper())
        self.pieces = tuple(piece.encode() for piece in pieces)
        self.coded = coded.encode()

    def hidden(self, text: str, mask: str) -> str:
        """Return a text with the secret masked in all forms but the spelt out ones."""
        for piece in self.texts:
            if piece in text:
                return self._pattern.sub(mask, text)
        return text

    def hidden_at_end(self, text: str, mask: str) -> str:
        """Return a text with the secret's beginning masked where the text was cut off in it."""
        tail = text.rstrip("….")
        for form in self._whole:
            begun = tail.find(form[:SHORTEST_PART], max(0, len(tail) - len(form)))
            while begun >= 0:
                if form.startswith(tail[begun:]):
                    return f"{tail[:begun]}{mask}{text[len(tail) :]}"
                begun = tail.find(form[:SHORTEST_PART], begun + 1)
        return text

    @functools.cached_property
    def _whole(self) -> tuple[str, ...]:
        """The forms that are cut off somewhere within, as texts."""
        escaped = json.dumps(self.value)[1:-1]
        cores = _base64_cores(self.value)
        plain = (self.value, escaped, quote(self.value), quote(self.value, safe=""))
        whole = (*plain, *cores, self._coded, self._coded.upper(), *_spelt_out(self.value))
        return tuple(dict.fromkeys(whole))

    def hidden_spelt_out(self, text: str, mask: str) -> str:
        """Return a text with the secret masked where all of it is spelt out."""
        return self._spelt_out.sub(mask, text)

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join([*_forms(self.value), f"(?i:{self._coded})"]))

    @functools.cached_property
    def _spelt_out(self) -> re.Pattern[str]:
        raw = self.value.encode("utf-8", "surrogatepass")
        percent = "".join(f"%{byte:02x}" for byte in raw)
        escaped = "".join(rf"\\+u{unit}" for unit in _units(self.value))
        html = "".join(rf"&\#(?:0*{ord(char)}|x0*{ord(char):x});" for char in self.value)
        return re.compile(f"{percent}|{escaped}|{html}", re.IGNORECASE)

    @property
    def plain(self) -> str:
        """What of it no encoder changes; the longest such run."""
        return self.texts[0]


def may_be_spelt_out(raw: bytes) -> bool:
    """Say whether a run of characters in the bytes of a text is spelt out."""
    return _SPELT_OUT_BYTES.search(raw) is not None


def read_out(text: str) -> str:
    """Return a text with what is spelt out in it as it reads; empty where nothing is."""
    if _SPELT_OUT_TEXT.search(text) is None:
        return ""
    return _ESCAPE.sub(_char, text)


def _char(found: re.Match[str]) -> str:
    percent, escaped, decimal, hexadecimal = found.groups()
    return chr(int(decimal) if decimal else int(percent or escaped or hexadecimal, 16))


def _spelt_out(value: str) -> Iterable[str]:
    """Return a value spelt out in each way, in the cases in which encoders write that."""
    percent = "".join(f"%{byte:02x}" for byte in value.encode("utf-8", "surrogatepass"))
    escaped = "".join(f"\\u{unit}" for unit in _units(value))
    coded = "".join(f"&#x{ord(char):x};" for char in value)
    upper = "".join(f"%{one.upper()}" for one in percent.split("%")[1:])
    yield from (percent, upper, escaped, escaped.upper().replace("\\U", "\\u"))
    yield from (coded, coded.upper().replace("X", "x"), coded.upper())
    yield "".join(f"&#{ord(char)};" for char in value)


def _pieces(value: str) -> Iterable[str]:
    """Return what of a value stands in any text that holds it, one for each such form."""
    yield max(_PLAIN.findall(value), key=len, default="")
    for core in _base64_cores(value):
        yield max(_BASE64_PLAIN.findall(core), key=len, default="")


def _forms(value: str) -> Iterable[str]:
    """Return patterns for a value in all its forms but hexadecimal and the spelt out ones."""
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
    escaped = "".join(rf"\\u{unit}" for unit in _units(char))
    forms = [f"(?i:{percent})", f"(?i:{escaped})", re.escape(json.dumps(char)[1:-1])]
    if char == "/":
        forms.append(r"\\/")
    if char == " ":
        forms.append(r"\+")
    if char in _HTML:
        forms.append(_HTML[char])
    if char != "\\":
        forms.append(re.escape(char))
    return f"(?:{'|'.join(forms)})"


_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;|&#34;", "'": "&#x27;|&#39;|&apos;"}


def _units(text: str) -> list[str]:
    """Return the UTF-16 code units of a text, each as four hexadecimal digits."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return [units[at : at + 4] for at in range(0, len(units), 4)]


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
