"""The fields of a connection's config on the command line, and its secrets, which are not on it."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from integrationd.cli.exits import CommandError
from integrationd.registry.secret_fields import Place, secret_places, value_at

_FIELD = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)(?P<sign>:?=)(?P<value>.*)", re.DOTALL)
_SAFE = ("vault:", "@")


def read_fields(items: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config that arguments describe.

    ``FIELD=TEXT`` and ``FIELD:=JSON`` are taken as they are, ``FIELD=@-`` is read from standard
    input, ``FIELD=@PATH`` from a file and ``FIELD=@env:NAME`` from the environment variable. A dot
    leads into a table.

    Args:
        items: The arguments.
        schema: The provider's config schema.

    Raises:
        click.UsageError: One is none of these, or a secret stands on the command line.
    """
    plain: dict[str, Any] = {}
    for item in items:
        found = _FIELD.fullmatch(item)
        if found is None:
            raise click.UsageError(f"{item.partition('=')[0][:80]!r} is not FIELD=VALUE")
        _put(plain, found["name"].split("."), _literal(found))
    for place in secret_places(schema, plain):
        value = value_at(plain, place)
        if isinstance(value, str) and value and not value.startswith(_SAFE):
            name = ".".join(map(str, place))
            raise click.UsageError(
                f"{name} is a secret, and other users see command lines: write {name}=@- to give it"
                " on standard input, or leave it out to be asked for it"
            )
    return {name: _fetched(value) for name, value in plain.items()}


def ask_for_missing(config: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Ask at the terminal for the secrets that a new connection needs and nobody has given.

    Raises:
        CommandError: There is no terminal to ask at.
    """
    for name in _missing_secrets(config, schema):
        if not sys.stdin.isatty():
            raise CommandError(
                f"{name} is missing, and there is no terminal to ask for it at",
                hint=f"Write {name}=@- and give it on standard input.",
            )
        config[name] = click.prompt(name, hide_input=True, err=True)


def _missing_secrets(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    for name in schema.get("required", ()):
        probe: Place = (name,)
        if name not in config and probe in secret_places(schema, {name: "x"}):
            yield name


def _literal(found: re.Match[str]) -> Any:
    if found["sign"] == "=":
        return found["value"]
    try:
        return msgspec.json.decode(found["value"])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise click.UsageError(
            f"the value of {found['name']} is not valid JSON: {error}"
        ) from error


def _put(config: dict[str, Any], way: Sequence[str], value: Any) -> None:
    for step in way[:-1]:
        below = config.setdefault(step, {})
        if not isinstance(below, dict):
            raise click.UsageError(f"{'.'.join(way)}: {step} is given as a value already")
        config = below
    if way[-1] in config:
        raise click.UsageError(f"{'.'.join(way)} is given twice")
    config[way[-1]] = value


def _fetched(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _fetched(member) for name, member in value.items()}
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    source = value[1:]
    if source.startswith("env:"):
        return _from_environment(source.removeprefix("env:"))
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = content.decode()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.UsageError(f"{source} cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{source} is not UTF-8 text") from error
    return text.removesuffix("\n").removesuffix("\r")


def _from_environment(name: str) -> str:
    found = click.get_current_context().find_root().obj.environ.get(name)
    if found is None:
        raise click.UsageError(f"the environment variable {name} is not set")
    text: str = found
    return text
