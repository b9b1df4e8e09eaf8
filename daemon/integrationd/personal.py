"""Phone numbers and e-mail addresses, and how they are shown where ``[privacy]`` asks for it.

A phone number is known by its form: with ``+`` that of any country, without it those of the
countries whose mobile numbers cannot be taken for anything else, and nationally those of Kenya,
Nigeria and Zimbabwe. Under a name such as ``phone`` whatever may be a number is one. What stands
within a word, an id or a decimal number is none. ``+254712344567`` is shown as ``+2547****4567``,
``wanjiru@example.org`` as ``w***@example.org``. Nothing here raises, whatever it is given.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "****"
HIDDEN_NAME: Final = "***"
DEPTH_LIMIT: Final = 64

_FEWEST_DIGITS, _MOST_DIGITS = 8, 15
_GAP = r"[ \u00a0-]"
_PLUS = r"(?:\+|%2[Bb])"
# Kenya, Nigeria and Zimbabwe, then their neighbours, by what mobile numbers begin with.
_MOBILE = (
    r"254[17]\d{8}|234[789][01]\d{8}|2637[1378]\d{7}"
    r"|25[05]7\d{8}|2556\d{8}|2567\d{8}|260[79]\d{8}"
)
_NATIONAL = r"0[17]\d{8}|0[789][01]\d{8}"
_GROUPS = rf"\d{{2,4}}(?:{_GAP}?\d{{3,4}}){{1,3}}"
_PHONE = re.compile(
    rf"""
    # At the start of a word, but not of a later part of a decimal number or of an id.
    (?: (?<![\w*-]) (?<!\d\.) | (?<=%[0-9A-Fa-f]{{2}}) | (?<=\\[nrt]) )
    (?: {_PLUS} [1-9]\d{{7,14}}
      | (?:00)? (?:{_MOBILE})
      | {_NATIONAL}
      # In groups; and then not those of a longer row of groups, a date or a time.
      | (?<!\d{_GAP}) (?<!\d,)
        (?: {_PLUS} [1-9]\d{{0,2}} {_GAP}? (?:\(0?\){_GAP}?)? (?!\d{{4}}-\d\d-\d\d) {_GROUPS}
          | (?:25[0456]|234|26[03]) {_GAP} [17-9]\d{{1,2}} {_GAP}? \d{{3}} {_GAP}? \d{{3,4}}
          | \(?0[17-9]\d{{1,2}}\)? {_GAP} \d{{3}} {_GAP}? \d{{3,4}}
        )
        (?! {_GAP}\d | [:,]\d )
    )
    (?! \w | -\w | \.\d )
    """,
    re.VERBOSE | re.ASCII,
)
_EMAIL = re.compile(
    r"""
    (?<![\w.+%*'-])
    ((?:%2[Bb]|[\w.+'-]){1,64})
    (@|%40|\\u0040)
    ((?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24})
    (?![\w-])
    """,
    re.VERBOSE,
)
_SIGN = re.compile(r"@|%40|\\u0040")
# Seven digits in a row, gaps aside, are in every number.
_DIGITS = re.compile(rf"\d(?:[ \u00a0()-]{{0,3}}\d){{{_FEWEST_DIGITS - 2},}}", re.ASCII)
_WHOLE = re.compile(r"\+?\(?\d(?:[ \u00a0().-]{0,3}\d){7,14}", re.ASCII)
_PHONE_NAME = re.compile(
    r"(?:phone|mobile|msisdn|whatsapp|\A(?:cell|fax|tel|wa_?id|payer|sender|recipient|party_?[ab]))"
    r"(?:[-_ ]?(?:no|numbers?|s))?\Z",
    re.IGNORECASE,
)
_ID_NAME = re.compile(r"(?:(?:\A|[-_ ])(?i:ids?)|(?<=[a-z])I[dD]s?)\Z")
# These may be a person's number all the same.
_PERSONS_ID = re.compile(r"reference_?id|wa_?id|mail", re.IGNORECASE)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class PersonalData:
    """Masks what tells who a person is, while it is switched on.

    Args:
        is_masked: Whether it is switched on.
    """

    def __init__(self, is_masked: bool = False) -> None:
        self.is_masked = is_masked

    def text(self, text: str) -> str:
        """Return a text with phone numbers and e-mail addresses masked."""
        if not self.is_masked:
            return text
        return masked_text(text)

    def body(self, text: str) -> str:
        """Return the text of a body, masked; JSON stays JSON, and what is clean as it is."""
        if not self.is_masked:
            return text
        if not text.lstrip().startswith(("{", "[")):
            return masked_text(text)
        try:
            parsed = json.loads(text)
            shown = _walked(parsed, "", DEPTH_LIMIT)
            return text if shown == parsed else _encode(shown)
        except (ValueError, RecursionError):
            return masked_text(text)

    def value(self, value: Any) -> Any:
        """Return a copy of what JSON can hold, masked; what it cannot hold comes back as it is."""
        return _walked(value, "", DEPTH_LIMIT) if self.is_masked else value


def masked_text(text: str) -> str:
    """Return a text with the phone numbers and e-mail addresses in it masked."""
    if _SIGN.search(text):
        text = _EMAIL.sub(_shown_address, text)
    return _PHONE.sub(_shown_match, text) if _DIGITS.search(text) else text


def _shown_address(found: re.Match[str]) -> str:
    name, sign, host = found.groups()
    return f"{name[0] if len(name) > 1 else ''}{HIDDEN_NAME}{sign}{host}"


def _shown_match(found: re.Match[str]) -> str:
    return _shown_number(found[0])


def _shown_number(number: str) -> str:
    """Return a number of which enough is left for its owner to know it."""
    plus = re.match(_PLUS, number)
    digits = re.sub(r"\D", "", number[plus.end() :] if plus else number)
    first, last = (4, 4) if len(digits) > 11 else (2, 4) if len(digits) > 9 else (0, 2)
    return f"{plus[0] if plus else ''}{digits[:first]}{HIDDEN}{digits[-last:]}"


def _walked(value: Any, name: str, depth: int) -> Any:
    if isinstance(value, str):
        return _member(value, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(value, name)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if not depth:
        return HIDDEN
    if isinstance(value, Mapping):
        return {
            masked_text(key) if isinstance(key, str) else key: _walked(
                inner, key if isinstance(key, str) else "", depth - 1
            )
            for key, inner in value.items()
        }
    return [_walked(inner, name, depth - 1) for inner in value]


def _member(value: str, name: str) -> str:
    if _is_id(name):
        return value
    if _PHONE_NAME.search(name) and _WHOLE.fullmatch(value):
        return _shown_number(value)
    return masked_text(value)


def _number(value: int, name: str) -> Any:
    if not 10 ** (_FEWEST_DIGITS - 1) <= value < 10**_MOST_DIGITS or _is_id(name):
        return value
    text = str(value)
    if _PHONE_NAME.search(name):
        return _shown_number(text)
    shown = masked_text(text)
    return value if shown == text else shown


def _is_id(name: str) -> bool:
    return _ID_NAME.search(name) is not None and not _PERSONS_ID.search(name)
