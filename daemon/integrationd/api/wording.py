"""What msgspec finds wrong with a request, in words for the person who has to mend it."""

import re
from typing import Any

import msgspec

_UNKNOWN_MEMBER = re.compile(r"Object contains unknown field `([^`]{1,100})`")


def in_words(kind: Any, text: str) -> tuple[str, str]:
    """Split an error of msgspec into a sentence and a JSON pointer.

    A pattern that did not match is told by the description of its member, where it has one.

    Args:
        kind: What the request was decoded into.
        text: The error's message.
    """
    message, found, path = text.partition(" - at `$")
    message, pointer = message.strip(), _pointer(path.rstrip("`")) if found else ""
    unknown = _UNKNOWN_MEMBER.fullmatch(message)
    if unknown:
        return message, f"{pointer}/{unknown[1].replace('~', '~0').replace('/', '~1')}"
    if "matching regex" in message:
        described = _description(kind, pointer)
        if described:
            return f"this has the wrong form; expected: {described}", pointer
    return message, pointer


def _pointer(path: str) -> str:
    """Turn ``.calls[3].payload`` into ``/calls/3/payload``; ``[...]``, any of a map, ends it."""
    known = path.partition("[...]")[0]
    pointer = known.replace("[", "/").replace("]", "").replace(".", "/")
    return pointer if pointer.startswith("/") or not pointer else f"/{pointer}"


def _description(kind: Any, pointer: str) -> str:
    try:
        schema = msgspec.json.schema(kind)
    except TypeError:
        return ""
    definitions = schema.get("$defs", {})
    member: Any = schema
    for segment in pointer.split("/")[1:]:
        member = _step(_resolved(member, definitions), segment, definitions)
    return str(_resolved(member, definitions).get("description", ""))


def _step(schema: dict[str, Any], segment: str, definitions: dict[str, Any]) -> dict[str, Any]:
    for choice in (schema, *schema.get("anyOf", ())):
        resolved = _resolved(choice, definitions)
        if segment in resolved.get("properties", {}):
            found: dict[str, Any] = resolved["properties"][segment]
            return found
        if isinstance(resolved.get("items"), dict):
            items: dict[str, Any] = resolved["items"]
            return items
    return {}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = str(schema.get("$ref", ""))
    found: dict[str, Any] = definitions.get(reference.rpartition("/")[2], schema)
    return found
