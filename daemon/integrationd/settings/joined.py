"""The configuration as a whole: what the file says, and what was made over the API beside it."""

import dataclasses
from collections.abc import Collection, Mapping

from integrationd.settings.model import ConnectionSettings, Settings
from integrationd.settings.table import Problem, RejectedConfigError, key_path
from integrationd.settings.tenants import TenantSettings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MadeOverApi:
    """Tenants and connections that are in no file.

    Attributes:
        tenants: The tenants, by id.
        connections: The connections, by id.
    """

    tenants: Mapping[str, TenantSettings] = dataclasses.field(default_factory=dict)
    connections: Mapping[str, ConnectionSettings] = dataclasses.field(default_factory=dict)


def joined(own: Settings, made: MadeOverApi, source: str) -> Settings:
    """Return one configuration of the file's and of what was made over the API.

    Args:
        own: What the file says.
        made: What was made over the API.
        source: The file, for the errors.

    Raises:
        RejectedConfigError: An id is in both.
    """
    problems = [
        *_doubled("tenants", own.tenants, made.tenants),
        *_doubled("connections", own.connections, made.connections),
    ]
    if problems:
        raise RejectedConfigError(source, problems)
    return own.model_copy(
        update={
            "tenants": {**own.tenants, **made.tenants},
            "connections": {**own.connections, **made.connections},
        }
    )


def strangers(
    connections: Mapping[str, ConnectionSettings], tenants: Collection[str]
) -> dict[str, Problem]:
    """Return what is wrong with connections of tenants that there are not, by connection.

    Args:
        connections: The connections, by id.
        tenants: The tenants that there are.
    """
    hint = "make it first ([tenants.ID], or 'integrationd tenants add'), or name another"
    return {
        name: Problem(
            key_path("connections", name, "tenant"), f"there is no tenant {one.tenant!r}; {hint}"
        )
        for name, one in connections.items()
        if one.tenant is not None and one.tenant not in tenants
    }


def _doubled(table: str, own: Mapping[str, object], made: Mapping[str, object]) -> list[Problem]:
    reason = "was made over the API too; rename this one, or remove that one over the API"
    return [Problem(key_path(table, name), reason) for name in own if name in made]
