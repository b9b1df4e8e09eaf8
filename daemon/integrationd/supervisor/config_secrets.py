"""A connection's config over the API: its secrets go to the vault, and references stay.

A secret is shown as ``{"set": true, "set_at": ...}`` ever after; sent back like that, or left out,
it stays as it is.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from integrationd.clock import to_rfc3339
from integrationd.errors import UnprocessableError
from integrationd.journal import own_prefix
from integrationd.registry.secret_fields import (
    Place,
    has_place,
    replaced,
    secret_places,
    value_at,
)
from integrationd.settings import SECRET_NAME_PATTERN

VALUE_LIMIT_BYTES = 64 * 1024
_REFERENCE = "vault:"
_LITERAL = "literal:"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A config without its secrets.

    Attributes:
        config: The config, with references in their places.
        secrets: What new secrets hold, by their names in the vault.
    """

    config: Mapping[str, Any]
    secrets: Mapping[str, str] = dataclasses.field(repr=False)


def parted(
    connection: str,
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    before: Mapping[str, Any],
) -> Parted:
    """Take the secrets out of a config.

    Args:
        connection: The connection's id.
        config: The config as its maker wrote it.
        schema: The JSON Schema of the provider's config.
        before: The config as it is stored; empty for a new connection.

    Raises:
        UnprocessableError: A secret cannot be kept; the error points at it.
    """
    kept = _with_kept(connection, config, schema, before)
    secrets: dict[str, str] = {}
    for place in secret_places(schema, kept):
        value = value_at(kept, place)
        if not isinstance(value, str) or not value or value.startswith(_REFERENCE):
            continue
        name = secret_name(connection, place)
        secrets[name] = _checked(value.removeprefix(_LITERAL), place)
        kept = replaced(kept, place, f"{_REFERENCE}{name}")
    return Parted(config=kept, secrets=secrets)


def shown(
    connection: str, config: Mapping[str, Any], set_at_ms: Mapping[str, int]
) -> Mapping[str, Any]:
    """Return a stored config as the API shows it.

    Args:
        connection: The connection's id.
        config: The config as it is stored.
        set_at_ms: When the secrets of its vault were set, UTC milliseconds, by name.
    """
    found: Mapping[str, Any] = _shown(config, f"{_REFERENCE}{own_prefix(connection)}", set_at_ms)
    return found


def secret_name(connection: str, place: Place) -> str:
    """Return the name in the vault of a connection's own secret."""
    name = own_prefix(connection) + ".".join(map(str, place))
    if SECRET_NAME_PATTERN.fullmatch(name):
        return name
    return own_prefix(connection) + hashlib.sha256(repr(place).encode()).hexdigest()[:32]


def _with_kept(
    connection: str,
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    before: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Put the references back that stand for secrets which were left out, or sent as shown."""
    own = f"{_REFERENCE}{own_prefix(connection)}"
    for place in secret_places(schema, before):
        stored = value_at(before, place)
        is_own = isinstance(stored, str) and stored.startswith(own)
        if is_own and (not has_place(config, place) or _is_shown(value_at(config, place))):
            config = replaced(config, place, stored)
    for place in secret_places(schema, config):
        if _is_shown(value_at(config, place)):
            raise UnprocessableError(
                "there is no secret here that could be kept",
                pointer=pointer_to(place),
                hint="Give its value.",
            )
    return config


def pointer_to(place: Place) -> str:
    """Return the JSON pointer of a place in the config."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in place)
    return "/".join(("/config", *steps))


def _is_shown(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("set") is True and value.keys() <= _SHOWN_KEYS


_SHOWN_KEYS = {"set", "set_at"}


def _checked(value: str, place: Place) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise UnprocessableError("this is no text", pointer=pointer_to(place)) from None
    if not 0 < size <= VALUE_LIMIT_BYTES:
        raise UnprocessableError(
            f"a secret has from 1 to {VALUE_LIMIT_BYTES} bytes", pointer=pointer_to(place)
        )
    return value


def _shown(value: Any, own: str, set_at_ms: Mapping[str, int]) -> Any:
    if isinstance(value, Mapping):
        return {name: _shown(member, own, set_at_ms) for name, member in value.items()}
    if isinstance(value, list):
        return [_shown(member, own, set_at_ms) for member in value]
    if isinstance(value, str) and value.startswith(own):
        at_ms = set_at_ms.get(value.removeprefix(_REFERENCE))
        return {"set": at_ms is not None, "set_at": None if at_ms is None else to_rfc3339(at_ms)}
    return value
