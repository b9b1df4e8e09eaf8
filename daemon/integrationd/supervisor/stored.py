"""What was made over the API, as settings; what of it cannot be used is left out, and why is told.

Nothing that is stored may stop a start or a reload: whoever made it may not be there.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec
import pydantic

from integrationd.call import DEFAULT_TENANT
from integrationd.delivery.routing import ByHand
from integrationd.journal import (
    Directory,
    DirectoryTables,
    StoredConnection,
    StoredTenant,
)
from integrationd.registry import ConnectionSpec, LoadedPlugins, Plan, Registry
from integrationd.settings import (
    ConnectionSettings,
    MadeOverApi,
    Problem,
    RejectedConfigError,
    TenantSettings,
)
from integrationd.supervisor.fed import of_app

Problems = Mapping[str, tuple[Problem, ...]]

_Model = TypeVar("_Model", bound=pydantic.BaseModel)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The directory, with what it holds as settings.

    Attributes:
        directory: What is stored.
        made: What of it can be used, as far as its settings tell.
        unusable: The connections whose settings cannot be used, and why.
        warnings: What is to be told of the rest.
        unread: Why the journal cannot be read, so that there may be more; empty where it was.
    """

    directory: Directory = dataclasses.field(default_factory=Directory)
    made: MadeOverApi = dataclasses.field(default_factory=MadeOverApi)
    unusable: Problems = dataclasses.field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    unread: str = ""

    @property
    def tenants(self) -> Collection[str]:
        """The tenants that there are besides those of the file, be it that they are damaged."""
        damaged = (name for table, name in self.directory.damaged if table == "tenant")
        return {DEFAULT_TENANT, *self.directory.tenants, *damaged}

    @property
    def names(self) -> Collection[str] | None:
        """The connections that there are; None while nobody knows."""
        return None if self.unread else self.directory.connections.keys()

    @classmethod
    def of(cls, directory: Directory) -> "Stored":
        """Read what is stored; what cannot be read is told."""
        tenants, damaged_tenants = _read(directory.tenants, TenantSettings, "tenants")
        connections, unusable = _read(directory.connections, ConnectionSettings, "connections")
        for (table, name), reason in directory.damaged.items():
            told = (Problem(f"{table}s.{name}", reason),)
            if table == "connection":
                unusable[name] = told
            else:
                damaged_tenants[f"{table}.{name}"] = told
        return cls(
            directory=directory,
            made=MadeOverApi(tenants=tenants, connections=connections),
            unusable=unusable,
            warnings=tuple(one for found in damaged_tenants.values() for one in found),
        )

    def by_hand(self, left_out: Problems) -> ByHand:
        """Return what was done to connections besides configuring them."""
        states = self.directory.states.values()
        return ByHand(
            paused={one.id: one.paused_by or "" for one in states if one.is_paused},
            leaving=frozenset(one.id for one in states if one.is_draining),
            unmade={name: "; ".join(one.reason for one in left_out[name]) for name in left_out},
        )


def read_settings(kind: type[_Model], text: str) -> _Model:
    """Return what a maker wrote as settings.

    Raises:
        pydantic.ValidationError: It does not keep the rules of this version.
        msgspec.DecodeError: It is no JSON.
    """
    return kind.model_validate(msgspec.json.decode(text, type=dict[str, object]))


async def read_stored(tables: DirectoryTables) -> Stored:
    """Return what is stored now.

    Raises:
        JournalError: The journal cannot be read.
    """
    return Stored.of(await tables.read())


async def plan_sparing(
    registry: Registry,
    plugins: LoadedPlugins,
    specs: Sequence[ConnectionSpec],
    spared: Collection[str],
) -> tuple[Plan, Problems]:
    """Plan a set, without those of some connections that cannot be made.

    Args:
        registry: What serves.
        plugins: The plugins to make them with.
        specs: All connections.
        spared: Those that are left out rather than refuse the set.

    Returns:
        The plan, and what is wrong with those that were left out.

    Raises:
        RejectedConfigError: One of the others cannot be made.
    """
    left_out: dict[str, tuple[Problem, ...]] = {}
    while True:
        wanted = [one for one in specs if one.name not in left_out]
        try:
            return await registry.plan(plugins, wanted), left_out
        except RejectedConfigError as error:
            others = [one for one in error.problems if connection_at(one.where) not in spared]
            if others:
                raise RejectedConfigError(error.source, [*map(of_app, others)]) from error
            left_out |= _by_connection(error.problems)


def connection_at(where: str) -> str:
    """Return the connection that a problem is about; empty if it is about something else."""
    table, _, rest = where.partition(".")
    return rest.partition(".")[0] if table == "connections" else ""


def _by_connection(problems: Sequence[Problem]) -> dict[str, tuple[Problem, ...]]:
    found: dict[str, tuple[Problem, ...]] = {}
    for one in problems:
        name = connection_at(one.where)
        found[name] = (*found.get(name, ()), one)
    return found


def _read(
    stored: Mapping[str, StoredTenant] | Mapping[str, StoredConnection],
    kind: type[_Model],
    table: str,
) -> tuple[dict[str, _Model], dict[str, tuple[Problem, ...]]]:
    usable: dict[str, _Model] = {}
    unusable: dict[str, tuple[Problem, ...]] = {}
    for name, one in stored.items():
        try:
            usable[name] = read_settings(kind, one.settings)
        except pydantic.ValidationError as error:
            unusable[name] = tuple(
                Problem(".".join((table, name, *map(str, each["loc"]))), each["msg"])
                for each in error.errors(include_url=False, include_context=False)
            )
        except msgspec.DecodeError as error:
            unusable[name] = (Problem(f"{table}.{name}", f"is no JSON: {error}"),)
    return usable, unusable
