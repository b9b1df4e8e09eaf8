"""The JSON Schema of ``integrationd.toml``, for editors that complete and check while one types."""

from collections.abc import Mapping
from typing import Any

from integrationd.settings.model import CONNECTION_PATTERN, Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_REFERENCE = {
    "type": "string",
    "pattern": "^(?:env|file|credential|vault):",
    "description": "where the value is read: env:NAME, file:PATH, credential:NAME or vault:NAME",
}
# As pydantic writes bounds inside of optional fields, which JSON Schema does not know.
_KEYWORDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}


def config_schema(providers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the schema of the whole file.

    Args:
        providers: JSON Schema of each provider's config, by code; a connection's ``config`` is
            held to that of its provider.
    """
    found: dict[str, Any] = _tidied(Settings.model_json_schema(), "")
    schema = {"$schema": DIALECT, **found, "title": "integrationd.toml"}
    names = {"pattern": f"^(?:{CONNECTION_PATTERN.pattern})$"}
    schema["properties"]["connections"]["propertyNames"] = names
    connection = schema["$defs"]["ConnectionSettings"]
    if providers:
        connection["properties"]["provider"]["examples"] = sorted(providers)
        connection["allOf"] = [_rule(code) for code in sorted(providers)]
    for code, provider in providers.items():
        own = _tidied(provider, f"{code}.")
        schema["$defs"] |= {f"{code}.{name}": one for name, one in own.pop("$defs", {}).items()}
        schema["$defs"][code] = _with_references(own)
    return schema


def _rule(code: str) -> dict[str, Any]:
    """Return the rule that holds a provider's connections to the provider's schema."""
    return {
        "if": {"properties": {"provider": {"const": code}}},
        "then": {"properties": {"config": {"$ref": f"{_DEFINITIONS}{code}"}}},
    }


def _with_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Let the values of a provider's config be references as well."""
    fields = schema.get("properties", {})
    return {**schema, "properties": {name: _or_reference(fields[name]) for name in fields}}


def _or_reference(field: Mapping[str, Any]) -> dict[str, Any]:
    about = {key: field[key] for key in ("title", "description", "default") if key in field}
    return {**about, "anyOf": [dict(field), _REFERENCE]}


def _tidied(value: Any, prefix: str) -> Any:
    """Return a schema with its definitions under longer names and its bounds as JSON Schema has."""
    if isinstance(value, list):
        return [_tidied(member, prefix) for member in value]
    if isinstance(value, str) and value.startswith(_DEFINITIONS):
        return f"{_DEFINITIONS}{prefix}{value.removeprefix(_DEFINITIONS)}"
    if not isinstance(value, Mapping):
        return value
    is_bounded = "type" in value
    return {
        (_KEYWORDS.get(key, key) if is_bounded else key): _tidied(member, prefix)
        for key, member in value.items()
    }
