"""The payload of ``send``: JSON from anywhere, or ``key=value`` pairs, or both.

Values are never decoded further than needed: what was written is what is sent, digit by digit.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

LIMIT_BYTES = 1024 * 1024

_PAIR = re.compile(r'(?P<key>[^\s=:{\["@][^=:]*)(?P<sign>:?=)(?P<value>.*)', re.DOTALL)


def read_payload(items: Sequence[str]) -> msgspec.Raw:
    """Return the payload that the arguments describe, as raw JSON.

    Raises:
        click.UsageError: They describe none.
    """
    documents = [item for item in items if _is_document(item)]
    pairs = [item for item in items if not _is_document(item)]
    if len(documents) > 1:
        raise click.UsageError("give one payload: JSON, @FILE or -")
    document = _read_document(documents[0]) if documents else msgspec.Raw(b"{}")
    if not pairs:
        return document
    members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    for pair in pairs:
        key, value = _split_pair(pair)
        if key in members:
            raise click.UsageError(f"the payload has {key!r} twice")
        members[key] = value
    return msgspec.Raw(msgspec.json.encode(members))


def as_object(text: bytes, source: str) -> msgspec.Raw:
    """Check that a text is a JSON object, and return it as it is.

    Raises:
        click.UsageError: It is not.
    """
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{source} must be a JSON object, in braces") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"{source} is not valid JSON: {error}") from error
    return msgspec.Raw(text)


def _is_document(item: str) -> bool:
    return item == "-" or item.lstrip().startswith(("@", "{", "["))


def _read_document(item: str) -> msgspec.Raw:
    if item == "-":
        source = "standard input"
        return as_object(_limited(sys.stdin.buffer.read(LIMIT_BYTES + 1), source), source)
    if item.startswith("@"):
        return as_object(_read_file(Path(item[1:])), item[1:])
    return as_object(_utf8(item), "the payload")


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(LIMIT_BYTES + 1), str(path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.UsageError(f"{path} cannot be read: {reason}") from error


def _limited(content: bytes, source: str) -> bytes:
    if len(content) > LIMIT_BYTES:
        raise click.UsageError(f"{source} holds more than 1 MiB, the most that a call may")
    return content.removeprefix(b"\xef\xbb\xbf")


def _split_pair(pair: str) -> tuple[str, msgspec.Raw]:
    found = _PAIR.fullmatch(pair)
    if found is None:
        raise click.UsageError(
            f"{pair[:80]!r} is neither JSON in braces, @FILE, - nor KEY=VALUE or KEY:=JSON"
        )
    key, value = _utf8(found["key"]).decode(), _utf8(found["value"])
    if found["sign"] == "=":
        return key, msgspec.Raw(msgspec.json.encode(value.decode()))
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise click.UsageError(
            f"the value of {key!r} is not valid JSON: {error}; write {key}=... for a text"
        ) from error
    return key, msgspec.Raw(value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError("an argument is not UTF-8 text") from error
