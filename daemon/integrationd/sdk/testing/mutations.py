"""A good body made into bad ones: other bytes, other types, missing, deep, huge."""

import copy
import json
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

_FLIPS = 64
_DEEP = 200
_DEEPER = 100_000
_LONG = 100_000

_Path: TypeAlias = tuple[str | int, ...]


def flipped(body: bytes) -> Iterator[bytes]:
    """Give the body with one bit flipped, at places all over it."""
    step = max(1, len(body) // _FLIPS)
    for place in range(0, len(body), step):
        yield body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def rewritten(body: bytes) -> Iterator[bytes]:
    """Give other bytes that say the same: spaces, order and escapes of JSON, order of a form."""
    value = _json(body)
    if value is None:
        others = [urlencode(_form(body)[::-1]).encode()] if _form(body) else []
    else:
        others = [
            json.dumps(value).encode(),
            json.dumps(value, separators=(",", ":")).encode(),
            json.dumps(value, indent=2, ensure_ascii=False).encode(),
            json.dumps(value, sort_keys=True, separators=(",", ":")).encode(),
            body + b"\n",
        ]
    yield from (one for one in dict.fromkeys(others) if one != body)


def misshapen(body: bytes) -> Iterator[bytes]:
    """Give bodies that no provider sends, most of them the good one with one value changed."""
    yield from (b"", b"\x00", b"\xff\xfe", b"null", b"[]", b"{}", b'"x"', b"1", b"{]", b"a=1&a=2")
    yield from (b"[" * _DEEPER, b'{"a":' * _DEEPER, body[: len(body) // 2], body + body)
    value = _json(body)
    if value is not None:
        for path in _paths(value):
            for odd in _odd_values():
                yield json.dumps(_with(value, path, odd)).encode()
            yield json.dumps(_without(value, path)).encode()
        return
    pairs = _form(body)
    for number, (name, _) in enumerate(pairs):
        others = pairs[:number] + pairs[number + 1 :]
        for text in ("", "x", "-1", "1e400", "nan", "\ufffd", "9" * _LONG):
            yield urlencode([*others, (name, text)]).encode()
        yield urlencode(others).encode()


def altered(text: str) -> str:
    """Return a text with another character in its middle."""
    middle = len(text) // 2
    return text[:middle] + ("1" if text[middle] == "0" else "0") + text[middle + 1 :]


def type_of(body: bytes) -> str:
    """Return the content type that a body seems to have."""
    is_json = body.lstrip()[:1] in (b"{", b"[")
    return "application/json" if is_json else "application/x-www-form-urlencoded"


def _odd_values() -> Iterator[Any]:
    yield from (None, True, 0, -1, 1.5, 10**400, float("inf"), float("nan"))
    yield from ("", "x", " ", "-1", "1e400", "1e999999999", "nan", "\x00", "é☃")
    yield from ("9" * _LONG, "x" * _LONG)
    yield from ([], {}, [None], [[]], [{}], {"": None})
    deep: Any = None
    for _ in range(_DEEP):
        deep = [deep]
    yield deep


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _form(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)


def _paths(value: Any, above: _Path = ()) -> Iterator[_Path]:
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for key, item in inside:
        yield (*above, key)
        yield from _paths(item, (*above, key))


def _with(value: Any, path: _Path, other: Any) -> Any:
    changed = copy.deepcopy(value)
    _parent(changed, path)[path[-1]] = other
    return changed


def _without(value: Any, path: _Path) -> Any:
    changed = copy.deepcopy(value)
    del _parent(changed, path)[path[-1]]
    return changed


def _parent(value: Any, path: _Path) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value
