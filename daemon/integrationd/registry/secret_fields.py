"""Which values of a connection's config are secrets, as its provider's own model says.

The model is read as JSON Schema, so that a config can be looked at before it is known to be right.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pydantic

from integrationd.masking import is_secret_name

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value below ``config``."""

_DEPTH_LIMIT = 32
_PATH_FORMATS = frozenset({"path", "file-path", "directory-path"})


def secret_places(schema: Mapping[str, Any], config: Any) -> list[Place]:
    """Return where secrets stand in a config.

    That is what the model types as a secret, and what it does not know but is named like one.

    Args:
        schema: The JSON Schema of the provider's config.
        config: The config as somebody wrote it.
    """
    return list(dict.fromkeys(_walk(schema, config, (), schema, _is_secret)))


def path_places(schema: Mapping[str, Any], config: Any) -> list[Place]:
    """Return where a config names files of the daemon's machine."""
    return list(dict.fromkeys(_walk(schema, config, (), schema, _is_path)))


def typed_secrets(value: Any) -> Iterator[str]:
    """Return what is typed as a secret in a config that its provider's model has taken."""
    if isinstance(value, pydantic.SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, pydantic.SecretBytes):
        yield value.get_secret_value().decode("latin-1")
    elif isinstance(value, pydantic.BaseModel):
        yield from typed_secrets([member for _, member in value])
    elif isinstance(value, Mapping):
        yield from typed_secrets(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for member in value:
            yield from typed_secrets(member)


def value_at(config: Any, place: Place) -> Any:
    """Return what stands at a place; None where there is nothing."""
    for step in place:
        if isinstance(config, Mapping) and isinstance(step, str):
            config = config.get(step)
        elif isinstance(config, list) and isinstance(step, int) and step < len(config):
            config = config[step]
        else:
            return None
    return config


def has_place(config: Any, place: Place) -> bool:
    """Say whether something stands at a place, be it null."""
    above = value_at(config, place[:-1])
    if isinstance(above, Mapping):
        return place[-1] in above
    return isinstance(above, list) and isinstance(place[-1], int) and place[-1] < len(above)


def replaced(config: Any, place: Place, value: Any) -> Any:
    """Return a config with another value at a place; unchanged where nothing leads there."""
    if not place:
        return value
    step, below = place[0], place[1:]
    if isinstance(config, Mapping) and isinstance(step, str):
        if below and step not in config:
            return config
        return {**config, step: replaced(config.get(step), below, value)}
    if isinstance(config, list) and isinstance(step, int) and step < len(config):
        return [*config[:step], replaced(config[step], below, value), *config[step + 1 :]]
    return config


def _walk(
    schema: Mapping[str, Any], value: Any, place: Place, root: Mapping[str, Any], wanted: Any
) -> Iterator[Place]:
    if len(place) > _DEPTH_LIMIT:
        return
    for one in _choices(schema, value, root):
        if place and wanted(one):
            yield place
        if isinstance(value, Mapping):
            for name, member in value.items():
                yield from _member(one, str(name), member, place, root, wanted)
        elif isinstance(value, list):
            for at, member in enumerate(value):
                yield from _walk(one.get("items", {}), member, (*place, at), root, wanted)


def _member(
    schema: Mapping[str, Any],
    name: str,
    value: Any,
    place: Place,
    root: Mapping[str, Any],
    wanted: Any,
) -> Iterator[Place]:
    known = schema.get("properties", {})
    if name not in known and "items" in schema:
        # One by itself stands for a list of one, as far as the model lets it.
        yield from _walk(schema["items"], {name: value}, place, root, wanted)
        return
    rest = schema.get("additionalProperties")
    below = known.get(name) or (rest if isinstance(rest, Mapping) else {})
    if name not in known and wanted is _is_secret and is_secret_name(name):
        yield (*place, name)
    yield from _walk(below, value, (*place, name), root, wanted)


def _choices(
    schema: Mapping[str, Any], value: Any, root: Mapping[str, Any], depth: int = 0
) -> Iterator[Mapping[str, Any]]:
    """Yield the schema itself and all that it offers to choose from, as far as the value fits."""
    if depth > _DEPTH_LIMIT:
        return
    reference = str(schema.get("$ref", ""))
    if reference.startswith("#/$defs/"):
        target = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        yield from _choices(target, value, root, depth + 1)
    if _fits(schema, value):
        yield schema
        for choice in ("anyOf", "oneOf", "allOf"):
            for one in schema.get(choice, ()):
                yield from _choices(one, value, root, depth + 1)


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Say whether a value can be of a choice, by the members that tell choices apart."""
    if not isinstance(value, Mapping):
        return True
    told = {
        name: one["const"]
        for name, one in schema.get("properties", {}).items()
        if isinstance(one, Mapping) and "const" in one
    }
    return all(value.get(name, const) == const for name, const in told.items())


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("writeOnly") is True or schema.get("format") == "password"


def _is_path(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") in _PATH_FORMATS
