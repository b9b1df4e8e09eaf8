"""JSON Schemas in words, and examples made up from them."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_REFERENCE = "#/components/schemas/"
_TEXTS = ("text", "+254711000111", "KES", "2500.00", "ann@example.org", "https://shop.example/a")


def name_of(schema: Schema) -> str:
    """Return the name of the model that a schema refers to, or nothing."""
    reference: str = schema.get("$ref", "")
    return reference.removeprefix(_REFERENCE)


def in_short(schema: Schema) -> str:
    """Return the type of a value in a few words, with links to models."""
    if name := name_of(schema):
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(in_short(one) for one in schema["anyOf"]))
    if choices := [schema["const"]] if "const" in schema else schema.get("enum"):
        return ", ".join(f"`{one}`" for one in choices)
    return _by_type(schema)


def _by_type(schema: Schema) -> str:
    kind = schema.get("type", "anything")
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    if kind == "array":
        return f"list of {in_short(inner or {})}"
    if kind == "object" and isinstance(inner, dict) and inner:
        return f"object of {in_short(inner)}"
    return f"{kind}{_bounds(schema)}"


def _bounds(schema: Schema) -> str:
    for least, most in (("minimum", "maximum"), ("minLength", "maxLength")):
        low, high = schema.get(least), schema.get(most)
        unit = " characters" if least == "minLength" else ""
        if low is not None and high is not None:
            return f", {low:,} to {high:,}{unit}"
        if high is not None:
            return f", at most {high:,}{unit}"
        if low:
            return f", at least {low:,}{unit}"
    return ""


def words_of(schema: Schema) -> str:
    """Return what a value means."""
    if found := schema.get("description"):
        return str(found)
    choices = schema.get("anyOf", ())
    return next((str(one["description"]) for one in choices if "description" in one), "")


def example_of(schema: Schema, components: Mapping[str, Schema]) -> Any:
    """Make up a value: of an object the members that must be there, and no others.

    Raises:
        ValueError: There is no telling what would do; give an example of it.
    """
    if name := name_of(schema):
        return example_of(components[name], components)
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], components)
    for choices in ([schema["const"]] if "const" in schema else (), schema.get("enum", ())):
        if choices:
            return choices[0]
    return _made_up(schema, components)


def _made_up(schema: Schema, components: Mapping[str, Schema]) -> Any:
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            return {one: example_of(members[one], components) for one in schema.get("required", ())}
        case "array":
            return [example_of(schema["items"], components)]
        case "number" | "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return _text_of(schema)
        case kind:
            raise ValueError(f"there is no telling what an example of {kind} would be")


def _text_of(schema: Schema) -> str:
    for text in (*schema.get("examples", ()), *_TEXTS):
        if re.search(schema.get("pattern", ""), text):
            return str(text)
    raise ValueError(f"none of the usual texts keeps {schema['pattern']}")
