"""What differs between two configurations, and what a running daemon cannot take over."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pydantic

from integrationd.settings.model import Settings
from integrationd.settings.subscriptions import FedConnection
from integrationd.settings.table import Problem, key_path

_Place: TypeAlias = tuple[str | int, ...]

_SHOWN_CHARACTERS = 120
_ABSENT = object()
_REFERENCE_PATTERN = re.compile(r"(?:env|file|credential|vault):")
# What is opened, bound or derived from once, at the start.
_FIXED = ("journal", "vault")
_FIXED_OF_WEBHOOKS = frozenset({"listen"})
_FIXED_OF_API = frozenset({"key_file", "listen", "socket", "socket_group", "socket_mode"})


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One key that differs.

    Attributes:
        where: ``table.key``.
        before: Its value until now as text; None where it was not there.
        after: Its new value as text; None where it is gone.
    """

    where: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.where} = {self.after} (new)"
        if self.after is None:
            return f"{self.where} (gone)"
        return f"{self.where}: {self.before} -> {self.after}"


def changes(before: Settings, after: Settings) -> tuple[Change, ...]:
    """Return every key that differs, defaults filled in, in the order of the tables.

    A connection or route that is new or gone is one change. Values of a connection's ``config``
    are shown only where they are references, since any of the others may be a secret.
    """
    return tuple(_differences(before, after, ()))


def needing_restart(found: Sequence[Change]) -> list[Problem]:
    """Return what a running daemon cannot take over, as problems of the new configuration."""
    return [
        Problem(change.where, f"needs a restart to change (it is {change.before})")
        for change in found
        if _is_fixed(change.where)
    ]


def _is_fixed(where: str) -> bool:
    table, _, key = where.partition(".")
    fixed = {"api": _FIXED_OF_API, "webhooks": _FIXED_OF_WEBHOOKS}.get(table, frozenset())
    return table in _FIXED or key in fixed


def _differences(before: Any, after: Any, where: _Place) -> Iterator[Change]:
    if before == after:
        return
    if type(before) is type(after) and isinstance(before, pydantic.BaseModel):
        for name in type(before).model_fields:
            yield from _differences(getattr(before, name), getattr(after, name), (*where, name))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            one, other = before.get(name, _ABSENT), after.get(name, _ABSENT)
            if isinstance(one, FedConnection) or isinstance(other, FedConnection):
                # It follows from [app], where the change is told.
                continue
            yield from _differences(one, other, (*where, name))
    else:
        yield Change(key_path(*where), _shown(before, where), _shown(after, where))


def _shown(value: Any, where: _Place) -> str | None:
    if value is _ABSENT:
        return None
    if isinstance(value, pydantic.BaseModel):
        return _summary(value)
    if _may_be_secret(where) and not (isinstance(value, str) and _REFERENCE_PATTERN.match(value)):
        return "***"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _summary(value: pydantic.BaseModel) -> str:
    told = getattr(value, "provider", None) or ", ".join(getattr(value, "order", ()))
    return str(told) or "set"


def _may_be_secret(where: _Place) -> bool:
    if where[:2] == ("app", "secret"):
        return True
    return len(where) > 2 and where[0] == "connections" and where[2] == "config"
