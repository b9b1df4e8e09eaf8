"""Removing tenants and connections that were made over the API: only what nothing needs goes."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from integrationd.api.directory_side import KnownConnection
from integrationd.call import pinned_to
from integrationd.delivery.routing import Routing
from integrationd.errors import ConflictError
from integrationd.journal import (
    ConnectionState,
    Directory,
    Journal,
    StoredConnection,
    StoredTenant,
    own_prefix,
)
from integrationd.registry import Connection, Registry
from integrationd.settings import SHARED_SECRETS_OF, RejectedConfigError, vault_references
from integrationd.supervisor.change import Change
from integrationd.supervisor.reload import Reloader

GivingUp: TypeAlias = Callable[[Connection, str], contextlib.AbstractAsyncContextManager[None]]
"""Gives a connection's authorisation back, and forgets it once the connection is gone."""


def _nothing_to_give_up(_connection: Connection, _by: str) -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()


class Removal:
    """Removes tenants and connections.

    Args:
        journal: Where they are kept.
        reloader: Takes over what is left.
        registry: What serves.
        routing: Which connection a lane's calls wait for.

    Attributes:
        giving_up: Gives the authorisation of a connection back.
    """

    def __init__(
        self, journal: Journal, reloader: Reloader, registry: Registry, routing: Routing
    ) -> None:
        self._journal = journal
        self._tables = journal.directory
        self._reloader = reloader
        self._registry = registry
        self._routing = routing
        self.giving_up: GivingUp = _nothing_to_give_up

    async def remove(self, name: str, by: str) -> None:
        """Remove a connection; what it alone has goes with it.

        No new call is given to it from the beginning on, and those that were are seen in the
        commit that removes it: none is left behind.

        Raises:
            ConflictError: Calls wait on it after all.
            JournalError: It cannot be removed.
        """

        def awaits(lane: str) -> bool:
            return name in self._routing.awaited_by(lane)

        change = Change(
            directory=lambda now: now.without(StoredConnection, name).without(
                ConnectionState, name
            ),
            keep=lambda: self._tables.delete_connection(name, by, awaits),
        )
        with self._routing.closed_to_new_calls(name):
            # What is given back is gone, so that it is done for no connection that has to stay.
            if await self._tables.is_awaited(name, awaits):
                raise calls_waiting(name)
            live = self._registry.find(name)
            async with self.giving_up(live, by) if live else contextlib.nullcontext():
                await self._reloader.change(change)

    async def still_open(self, name: str) -> int:
        """Count the calls that wait on a connection, with those that no attempt was made for."""
        count = (await self._journal.ledger.open_calls()).get(name, 0)
        for lane in await self._journal.leases.lanes():
            if pinned_to(lane) is None and name in self._routing.awaited_by(lane):
                count += await self._tables.pending_in(lane, besides=name)
        return count

    def refuse_needed(self, name: str) -> None:
        """Do nothing if neither a route nor another connection needs a connection.

        Raises:
            ConflictError: One does.
        """
        snapshot = self._reloader.snapshot
        for operation, route in snapshot.own.routes.items():
            if name in route.order and route.when_missing != "hold":
                raise ConflictError(
                    f'[routes."{operation}"] of the configuration names connection {name!r}',
                    code="in_use",
                    hint="Take it out of the route first.",
                )
        stored = snapshot.stored.directory.connections.get(name)
        if stored is None:
            return
        owner = stored.tenant or SHARED_SECRETS_OF
        for (tenant, secret), users in vault_references(snapshot.settings).items():
            others = [one for one in users if one != name]
            if tenant == owner and secret.startswith(own_prefix(name)) and others:
                raise ConflictError(
                    f"its secret {secret!r} is used by: {', '.join(others)}",
                    code="secret_in_use",
                    hint="Give these a secret of their own first.",
                )

    async def remove_tenant(
        self, tenant: str, connections: Mapping[str, KnownConnection], by: str
    ) -> None:
        """Remove a tenant that nothing belongs to any more.

        Raises:
            ConflictError: Something does.
            JournalError: It cannot be removed.
        """
        await self._refuse_in_use(tenant, connections)

        def without(now: Directory) -> Directory:
            theirs = [one.id for one in now.connections.values() if one.tenant == tenant]
            _refuse_if({f"connections: {', '.join(theirs)}": bool(theirs)}, tenant)
            return now.without(StoredTenant, tenant)

        keep = Change(directory=without, keep=lambda: self._tables.delete_tenant(tenant, by))
        try:
            await self._reloader.change(keep)
        except RejectedConfigError as error:
            # The file has begun to name it meanwhile.
            theirs = {f"connections: {'; '.join(map(str, error.problems))}": True}
            _refuse_if(theirs, tenant)

    async def _refuse_in_use(self, tenant: str, connections: Mapping[str, KnownConnection]) -> None:
        theirs = [one.id for one in connections.values() if one.tenant == tenant]
        calls = sum(
            line.pending + line.processing + line.waiting + line.unknown
            for line in await self._journal.ledger.lines()
            if line.tenant == tenant
        )
        held = await self._journal.api_keys.at_hand()
        keys = [one.name for one in held.keys if one.tenant == tenant]
        told = await self._journal.subscriptions.list(tenant, before=None, limit=1)
        _refuse_if(
            {
                f"{calls} open calls": bool(calls),
                f"connections: {', '.join(theirs)}": bool(theirs),
                f"API keys: {', '.join(keys)}": bool(keys),
                "subscriptions": bool(told),
            },
            tenant,
        )


def calls_waiting(name: str, count: int | None = None) -> ConflictError:
    """Return the error of a connection that cannot go as long as calls wait on it."""
    how_many = "" if count is None else f": {count}"
    return ConflictError(
        f"connection {name!r} has calls that wait on it{how_many}",
        code="calls_waiting",
        hint="With ?drain=true it takes no new calls and goes when the last has ended.",
    )


def _refuse_if(held: Mapping[str, bool], tenant: str) -> None:
    """Do nothing if a tenant has none of these.

    Raises:
        ConflictError: It has some.
    """
    found = [what for what, is_so in held.items() if is_so]
    if found:
        raise ConflictError(
            f"tenant {tenant!r} still has {'; '.join(found)}",
            code="in_use",
            hint="Remove these first, or suspend the tenant.",
        )
