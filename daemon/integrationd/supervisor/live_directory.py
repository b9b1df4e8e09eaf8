"""The directory of a running daemon: tenants and connections of the file and of the API, as one.

Whatever changes is first planned as a reload would, then kept, then taken over in one step.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from integrationd.api.directory_side import KnownConnection, KnownTenant
from integrationd.call import DEFAULT_TENANT, is_subscription
from integrationd.clock import Clock
from integrationd.delivery.connection_check import Checked, check_connection
from integrationd.delivery.routing import Routing
from integrationd.errors import ConflictError, NotFoundError, UnprocessableError
from integrationd.journal import (
    ConnectionState,
    Directory,
    Journal,
    NewSecrets,
    StoredConnection,
    StoredTenant,
)
from integrationd.masking import Masker
from integrationd.registry import Registry
from integrationd.settings import RejectedConfigError, TenantSettings
from integrationd.settings.tenants import SHARED_SECRETS_OF
from integrationd.supervisor.change import Change
from integrationd.supervisor.config_refusal import refused
from integrationd.supervisor.config_secrets import parted, shown
from integrationd.supervisor.reload import Reloader
from integrationd.supervisor.removal import GivingUp, Removal, calls_waiting
from integrationd.supervisor.secrets import Vault

_UNMADE_HINT = "Mend it as the message says; then test it again."


class LiveDirectory:
    """Tenants and connections of a running daemon.

    Args:
        journal: Where those made over the API are kept.
        reloader: Plans and takes over.
        registry: What serves.
        vault: Where secrets are sealed.
        routing: Which connection a lane's calls wait for.
        clock: Where time is read.
    """

    def __init__(
        self,
        journal: Journal,
        reloader: Reloader,
        registry: Registry,
        vault: Vault,
        routing: Routing,
        clock: Clock,
    ) -> None:
        self._tables = journal.directory
        self._reloader = reloader
        self._registry = registry
        self._vault = vault
        self._removal = Removal(journal, reloader, registry, routing)
        self._clock = clock

    def give_up_tokens(self, giving_up: GivingUp) -> None:
        """Have the authorisation of whatever is removed given back in this way."""
        self._removal.giving_up = giving_up

    def tenants(self) -> Mapping[str, KnownTenant]:
        """Return every tenant, by id."""
        snapshot = self._reloader.snapshot
        found = {
            DEFAULT_TENANT: KnownTenant(
                id=DEFAULT_TENANT, settings=TenantSettings(), source="built-in"
            )
        }
        for name, settings in snapshot.settings.tenants.items():
            stored = snapshot.stored.directory.tenants.get(name)
            found[name] = KnownTenant(
                id=name,
                settings=settings,
                source="file" if stored is None else "api",
                created_at_ms=stored.created_at_ms if stored else None,
                changed_at_ms=stored.changed_at_ms if stored else None,
            )
        return found

    def connections(self) -> Mapping[str, KnownConnection]:
        """Return every connection, by id, those of the file first."""
        snapshot = self._reloader.snapshot
        directory = snapshot.stored.directory
        found = (*snapshot.settings.connections, *snapshot.stored.unusable)
        # Those of subscriptions are shown as what they are.
        names = [name for name in found if not is_subscription(name)]
        return {name: self._known(name, directory) for name in dict.fromkeys(names)}

    def _known(self, name: str, directory: Directory) -> KnownConnection:
        snapshot, stored = self._reloader.snapshot, directory.connections.get(name)
        settings = snapshot.settings.connections.get(name)
        tenant = stored.tenant if stored is not None else settings.tenant if settings else None
        return KnownConnection(
            id=name,
            tenant=tenant,
            source="file" if name in snapshot.own.connections else "api",
            settings=settings,
            live=self._registry.find(name),
            state=directory.state(name),
            problems=tuple(one.reason for one in snapshot.left_out.get(name, ())),
            created_at_ms=stored.created_at_ms if stored else None,
            changed_at_ms=stored.changed_at_ms if stored else None,
        )

    async def told(self, known: KnownConnection) -> KnownConnection:
        """Return a connection with what its maker wrote."""
        stored = self._reloader.snapshot.stored.directory.connections.get(known.id)
        if stored is None:
            return known
        found = await self._vault.list(_secrets_of(stored.tenant))
        set_at_ms = {one.name: one.set_at_ms for one in found}
        written = _written(stored)
        config = shown(known.id, written.get("config", {}), set_at_ms)
        return msgspec.structs.replace(known, written={**written, "config": config})

    async def keep_tenant(self, tenant: str, written: Mapping[str, Any], by: str) -> None:
        """Keep a tenant and take it over."""
        known = self.tenants().get(tenant)
        if known is not None and known.source == "file":
            raise _of_the_file("tenant", tenant)
        now_ms = self._clock.now_ms()
        made_ms = known.created_at_ms if known is not None else None
        row = StoredTenant(
            id=tenant,
            settings=_json(written),
            created_at_ms=now_ms if made_ms is None else made_ms,
            changed_at_ms=now_ms,
        )
        await self._change(
            lambda before: before.put(row), lambda: self._tables.keep_tenant(row, by)
        )

    async def delete_tenant(self, tenant: str, by: str) -> None:
        """Delete a tenant that nothing belongs to any more."""
        known = self.tenants().get(tenant)
        if known is None:
            raise NotFoundError(f"there is no tenant {tenant[:80]!r}", code="no_such_tenant")
        if known.source != "api":
            raise _of_the_file("tenant", tenant)
        await self._removal.remove_tenant(tenant, self.connections(), by)

    async def create_connection(self, name: str, written: Mapping[str, Any], by: str) -> None:
        """Make a connection and let it serve."""
        if name in self.connections():
            raise ConflictError(
                f"there is a connection {name!r} already",
                code="exists",
                pointer="/id",
                hint="Choose another id; ids are the same for all tenants.",
            )
        await self._keep(name, written, None, by)

    async def change_connection(self, name: str, written: Mapping[str, Any], by: str) -> None:
        """Put another connection in the place of one; secrets that are left out stay."""
        stored = self._reloader.snapshot.stored.directory.connections.get(name)
        if stored is None:
            raise _of_the_file("connection", name)
        if stored.tenant != written.get("tenant"):
            raise UnprocessableError(
                "the tenant of a connection cannot be changed",
                pointer="/tenant",
                hint="Make another connection, and remove this one.",
            )
        await self._keep(name, written, stored, by)

    async def _keep(
        self, name: str, written: Mapping[str, Any], before: StoredConnection | None, by: str
    ) -> None:
        plugin = self._registry.versions.get(str(written["provider"]))
        if plugin is None:
            raise UnprocessableError(
                f"no plugin has the code {str(written['provider'])[:80]!r}",
                code="no_such_provider",
                pointer="/provider",
                hint=f"Loaded are: {', '.join(sorted(self._registry.versions))}.",
            )
        earlier = _written(before).get("config", {}) if before is not None else {}
        parts = parted(name, written.get("config", {}), plugin.config_schema, earlier)
        now_ms = self._clock.now_ms()
        row = StoredConnection(
            id=name,
            tenant=written.get("tenant"),
            settings=_json({**written, "config": parts.config}),
            created_at_ms=now_ms if before is None else before.created_at_ms,
            changed_at_ms=now_ms,
        )
        self._vault.learn(parts.secrets.values())

        async def keep() -> None:
            async with self._sealing(row.tenant, parts.secrets) as secrets:
                await self._tables.keep_connection(row, secrets, by)

        owner = _secrets_of(row.tenant)
        secrets = {(owner, each): value for each, value in parts.secrets.items()}
        try:
            await self._change(lambda now: _with(now, row, before), keep, name, secrets)
        except RejectedConfigError as error:
            raise refused(error, name, written) from error

    @contextlib.asynccontextmanager
    async def _sealing(
        self, tenant: str | None, values: Mapping[str, str]
    ) -> AsyncIterator[NewSecrets | None]:
        if not values:
            yield None
            return
        async with self._vault.sealing() as keyring:
            yield NewSecrets(keyring=keyring, tenant=_secrets_of(tenant), values=values)

    async def delete_connection(self, name: str, by: str, *, drain: bool) -> bool:
        """Delete a connection; say whether it is gone already."""
        known = self.connections()[name]
        if known.source == "file":
            raise _of_the_file("connection", name)
        self._removal.refuse_needed(name)
        waiting = await self._removal.still_open(name)
        if waiting and not drain:
            raise calls_waiting(name, waiting)
        if not waiting:
            await self._removal.remove(name, by)
            return True
        now_ms = self._clock.now_ms()
        change = {"draining_at_ms": now_ms, "draining_by": str(by)}
        await self._keep_state(known, "draining", change, {"waiting": waiting}, by)
        return False

    def is_leaving(self, name: str) -> bool:
        """Say whether a connection goes when it has no calls any more."""
        return self._reloader.snapshot.stored.directory.state(name).is_draining

    def leaving(self) -> Mapping[str, str]:
        """Return the connections that go when they have no calls any more, and who deleted them."""
        states = self._reloader.snapshot.stored.directory.states.values()
        return {one.id: one.draining_by or "" for one in states if one.is_draining}

    async def remove_if_idle(self, name: str, by: str) -> bool:
        """Remove a connection that is leaving, if it has no calls any more."""
        if await self._removal.still_open(name):
            return False
        await self._removal.remove(name, by)
        return True

    async def pause(self, name: str, by: str) -> None:
        """Have a connection take no work."""
        known = self.connections()[name]
        if not known.state.is_paused:
            change = {"paused_at_ms": self._clock.now_ms(), "paused_by": str(by)}
            await self._keep_state(known, "paused", change, {}, by)

    async def resume(self, name: str, by: str) -> None:
        """Have a paused connection take work again."""
        known = self.connections()[name]
        if known.state.is_paused:
            change = {"paused_at_ms": None, "paused_by": None}
            await self._keep_state(known, "resumed", change, {}, by)

    async def test(self, name: str, by: str) -> ConnectionState:
        """Try a connection's credentials and keep what was found."""
        found = await self._tested(name)
        # Looked for again, since it may have been removed meanwhile.
        known = self.connections().get(name)
        if known is None:
            raise NotFoundError(f"there is no connection {name!r}", code="no_such_connection")
        change = {
            "tested_at_ms": self._clock.now_ms(),
            "test_ok": int(found.ok),
            "test_message": found.message,
            "test_hint": found.hint,
            "test_duration_ms": found.duration_ms,
        }
        told = {"ok": found.ok, "message": found.message}
        return await self._keep_state(known, "tested", change, told, by)

    async def _tested(self, name: str) -> Checked:
        known = self.connections()[name]
        if known.live is None:
            message = "it cannot be made: " + ("; ".join(known.problems) or "it is not in force")
            return Checked(ok=False, message=message, hint=_UNMADE_HINT)
        resolved = self._reloader.snapshot.resolved.get(name)
        referred = resolved.secrets if resolved is not None else frozenset()
        masker = Masker(referred | known.live.secrets)
        return await check_connection(known.live, masker, self._clock)

    async def _keep_state(
        self,
        known: KnownConnection,
        act: str,
        change: Mapping[str, Any],
        told: Mapping[str, Any],
        by: str,
    ) -> ConnectionState:
        state = known.state

        def directory(now: Directory) -> Directory:
            nonlocal state
            state = msgspec.structs.replace(now.state(known.id), **change)
            return now.put(state)

        async def keep() -> None:
            await self._tables.keep_state(state, known.tenant, act, told, by)

        await self._change(directory, keep)
        return state

    async def _change(
        self,
        directory: Callable[[Directory], Directory],
        keep: Callable[[], Awaitable[None]],
        makes: str | None = None,
        secrets: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        await self._reloader.change(
            Change(directory=directory, keep=keep, makes=makes, secrets=secrets or {})
        )


def _with(now: Directory, row: StoredConnection, before: StoredConnection | None) -> Directory:
    """Return the directory with another row, made from one as it was.

    Raises:
        ConflictError: Somebody else has changed that row meanwhile.
    """
    if now.connections.get(row.id) != before:
        raise ConflictError(
            f"connection {row.id!r} has been changed meanwhile",
            code="changed",
            hint="Look at it again, and then repeat what is still to be done.",
        )
    after = now.put(row)
    return after.without(ConnectionState, row.id) if before is None else after


def _secrets_of(tenant: str | None) -> str:
    return tenant or SHARED_SECRETS_OF


def _written(stored: StoredConnection) -> dict[str, Any]:
    written: dict[str, Any] = msgspec.json.decode(stored.settings)
    return written


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _of_the_file(what: str, name: str) -> ConflictError:
    return ConflictError(
        f"{what} {name!r} is not one that was made over the API",
        code="read_only",
        hint="Change it in the configuration file.",
    )
