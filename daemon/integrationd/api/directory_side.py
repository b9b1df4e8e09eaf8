"""What the API needs from the directory of tenants and connections; the supervisor passes it in."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from integrationd.journal import ConnectionState
from integrationd.registry import Connection
from integrationd.settings import ConnectionSettings, TenantSettings


class KnownTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant.

    Attributes:
        id: Its id.
        settings: What holds for it.
        source: ``file``, ``api``, or ``built-in`` for the one that is always there.
        created_at_ms: When it was made over the API, or None.
        changed_at_ms: When it was changed over the API last, or None.
    """

    id: str
    settings: TenantSettings
    source: str
    created_at_ms: int | None = None
    changed_at_ms: int | None = None


class KnownConnection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection, whether it serves or not.

    Attributes:
        id: Its id.
        tenant: Whose it is; everybody's when None.
        source: ``file`` or ``api``.
        settings: What holds for it; None where that cannot be used.
        live: What serves, or would serve if it were enabled; None where it cannot be made.
        state: What was done to it by hand.
        problems: Why it cannot be made.
        written: What its maker wrote; each secret as that it is set, and when. None for one of
            the file.
        created_at_ms: When it was made over the API, or None.
        changed_at_ms: When it was changed over the API last, or None.
    """

    id: str
    tenant: str | None
    source: str
    settings: ConnectionSettings | None
    live: Connection | None
    state: ConnectionState
    problems: tuple[str, ...] = ()
    written: Mapping[str, Any] | None = None
    created_at_ms: int | None = None
    changed_at_ms: int | None = None


class DirectorySide(Protocol):
    """Tenants and connections, those of the file and those made over the API."""

    def tenants(self) -> Mapping[str, KnownTenant]:
        """Return every tenant, by id."""
        ...

    def connections(self) -> Mapping[str, KnownConnection]:
        """Return every connection, by id, those of the file first."""
        ...

    async def told(self, known: KnownConnection) -> KnownConnection:
        """Return a connection with what its maker wrote."""
        ...

    async def keep_tenant(self, tenant: str, written: Mapping[str, Any], by: str) -> None:
        """Keep a tenant and take it over.

        Raises:
            UnprocessableError: Its settings cannot be used.
            ConflictError: It is one of the file, or there are too many.
        """
        ...

    async def delete_tenant(self, tenant: str, by: str) -> None:
        """Delete a tenant that nothing belongs to any more.

        Raises:
            NotFoundError: There is none of that id.
            ConflictError: It is one of the file, or something still belongs to it.
        """
        ...

    async def create_connection(self, name: str, written: Mapping[str, Any], by: str) -> None:
        """Make a connection and let it serve.

        Raises:
            UnprocessableError: It cannot be made; the error points at the member at fault.
            ConflictError: There is one of that id, or there are too many.
        """
        ...

    async def change_connection(self, name: str, written: Mapping[str, Any], by: str) -> None:
        """Put another connection in the place of one; secrets that are left out stay.

        Raises:
            UnprocessableError: It cannot be made; the error points at the member at fault.
            ConflictError: It is one of the file.
        """
        ...

    async def delete_connection(self, name: str, by: str, *, drain: bool) -> bool:
        """Delete a connection; say whether it is gone already.

        Args:
            name: Its id.
            by: Who asks.
            drain: Where calls wait on it, have it take no new ones and go after the last.

        Raises:
            ConflictError: It is one of the file, or calls wait on it.
        """
        ...

    async def pause(self, name: str, by: str) -> None:
        """Have a connection take no work."""
        ...

    async def resume(self, name: str, by: str) -> None:
        """Have a paused connection take work again."""
        ...

    async def test(self, name: str, by: str) -> ConnectionState:
        """Try a connection's credentials and keep what was found."""
        ...
