"""The vault of a running daemon."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from integrationd.api.ports import ReloadReport, SecretChange, VaultRotation, VaultStatus
from integrationd.journal import StoredSecret
from integrationd.settings import Settings
from integrationd.supervisor.secrets import Vault, refuse_in_use


class Reloads(Protocol):
    """What holds the configuration in force."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        ...

    async def reload_after(
        self, work: Callable[[], Awaitable[SecretChange]], cause: str
    ) -> tuple[SecretChange, ReloadReport]:
        """Have a secret changed and take it over, before any other reload can."""
        ...


class LiveVault:
    """The vault of a running daemon: what changes in it is taken over at once.

    Args:
        vault: The vault.
        reloader: Reads every secret anew and has the daemon go on with them.
    """

    def __init__(self, vault: Vault, reloader: Reloads) -> None:
        self._vault = vault
        self._reloader = reloader

    async def list(self, tenant: str) -> Sequence[StoredSecret]:
        """Return a tenant's secrets, none of them opened."""
        return await self._vault.list(tenant)

    async def status(self) -> VaultStatus:
        """Say how the vault is."""
        return await self._vault.status()

    async def init(self) -> str:
        """Make the master key where there is none; return the notice, empty if there was one."""
        return await self._vault.init()

    async def set(
        self, tenant: str, name: str, value: str, by: str
    ) -> tuple[SecretChange, ReloadReport]:
        """Keep a secret and have the daemon go on with it."""
        return await self._reloader.reload_after(
            lambda: self._vault.set(tenant, name, value, by), f"{by} has set the secret {name}"
        )

    async def delete(self, tenant: str, name: str, by: str) -> None:
        """Delete a secret that no connection refers to.

        Raises:
            ConflictError: A connection refers to it.
            NotFoundError: There is none of that name.
        """
        refuse_in_use(self._reloader.settings, tenant, name)
        await self._vault.delete(tenant, name, by)

    async def rotate(self, by: str, *, data_keys: bool) -> VaultRotation:
        """Put a new master key in the place of the old one."""
        return await self._vault.rotate(by, data_keys=data_keys)
