"""Where ``vault`` commands work: on the running daemon, or on its journal while none runs."""

import functools
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import anyio
import click
import msgspec

from integrationd.cli.client import Daemon, UnreachableError
from integrationd.cli.exits import CommandError
from integrationd.cli.session import Wish, find_daemon, with_finding_options
from integrationd.cli.terminal import Terminal
from integrationd.clock import to_rfc3339
from integrationd.journal import stored_directory
from integrationd.settings import SHARED_SECRETS_OF, Settings, find_config, load
from integrationd.supervisor.secrets import Vault, refuse_in_use, standalone
from integrationd.supervisor.stored import Stored

_Result = TypeVar("_Result")


class Store(Protocol):
    """The vault; what its methods return has the shape of the API's answers."""

    def of(self, tenant: str) -> "Store":
        """Return the same with the secrets of a tenant."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Say how the vault is."""
        ...

    def init(self) -> Mapping[str, Any]:
        """Make the master key where there is none."""
        ...

    def names(self) -> Mapping[str, Any]:
        """List the secrets."""
        ...

    def set(self, name: str, value: str) -> Mapping[str, Any]:
        """Keep a secret."""
        ...

    def delete(self, name: str) -> Mapping[str, Any]:
        """Delete a secret."""
        ...

    def rotate(self, *, data_keys: bool) -> Mapping[str, Any]:
        """Put a new master key in the place of the old one."""
        ...


class OfDaemon:
    """The vault of a running daemon.

    Args:
        daemon: A client of its API.
        tenant: Whose secrets they are; those of the key's tenant, or of all, if None.
    """

    def __init__(self, daemon: Daemon, tenant: str | None) -> None:
        self._daemon = daemon
        self._options = {} if tenant is None else {"tenant": tenant}

    def of(self, tenant: str) -> "OfDaemon":
        """Return the same with the secrets of a tenant."""
        return OfDaemon(self._daemon, tenant)

    def status(self) -> Mapping[str, Any]:
        """Say how the vault is."""
        return self._daemon.get("/v1/vault").value

    def init(self) -> Mapping[str, Any]:
        """Make the master key where there is none."""
        return self._daemon.post("/v1/vault/init").value

    def names(self) -> Mapping[str, Any]:
        """List the secrets."""
        return self._daemon.get("/v1/vault/secrets", self._options).value

    def set(self, name: str, value: str) -> Mapping[str, Any]:
        """Keep a secret, and have the daemon go on with it."""
        body = msgspec.json.encode({"value": value})
        return self._daemon.put(self._path(name), body).value

    def delete(self, name: str) -> Mapping[str, Any]:
        """Delete a secret."""
        return self._daemon.delete(self._path(name)).value

    def rotate(self, *, data_keys: bool) -> Mapping[str, Any]:
        """Put a new master key in the place of the old one."""
        body = msgspec.json.encode({"data_keys": data_keys})
        return self._daemon.post("/v1/vault/rotate", body).value

    def _path(self, name: str) -> str:
        path = f"/v1/vault/secrets/{quote(name, safe='')}"
        return f"{path}?{urlencode(self._options)}" if self._options else path


class OfJournal:
    """The vault in a journal that no daemon owns.

    Args:
        settings: The configuration that says where it is.
        terminal: The environment and the clock.
        tenant: Whose secrets they are.
    """

    def __init__(self, settings: Settings, terminal: Terminal, tenant: str) -> None:
        self._settings = settings
        self._terminal = terminal
        self._tenant = tenant
        self._by = f"uid:{os.getuid()}"

    def of(self, tenant: str) -> "OfJournal":
        """Return the same with the secrets of a tenant."""
        return OfJournal(self._settings, self._terminal, tenant)

    def status(self) -> Mapping[str, Any]:
        """Say how the vault is."""
        return _shown(self._run(Vault.status))

    def init(self) -> Mapping[str, Any]:
        """Make the master key where there is none."""
        return {"notice": self._run(Vault.init)}

    def names(self) -> Mapping[str, Any]:
        """List the secrets."""
        found = self._run(lambda vault: vault.list(self._tenant))
        items = [
            {"name": one.name, "version": one.version, "set_at": to_rfc3339(one.set_at_ms)}
            for one in found
        ]
        return {"items": items, "next": None}

    def set(self, name: str, value: str) -> Mapping[str, Any]:
        """Keep a secret; the next start goes on with it."""
        change = self._run(lambda vault: vault.set(self._tenant, name, value, self._by))
        at = to_rfc3339(change.set_at_ms)
        return {
            "name": name,
            "version": change.version,
            "set_at": at,
            "notice": change.notice,
            "reload": None,
        }

    def delete(self, name: str) -> Mapping[str, Any]:
        """Delete a secret."""
        refuse_in_use(self._with_stored(), self._tenant, name)
        self._run(lambda vault: vault.delete(self._tenant, name, self._by))
        return {"name": name, "deleted": True}

    def rotate(self, *, data_keys: bool) -> Mapping[str, Any]:
        """Put a new master key in the place of the old one."""
        return _shown(self._run(lambda vault: vault.rotate(self._by, data_keys=data_keys)))

    def _with_stored(self) -> Settings:
        """Return the configuration with the connections that were made over the API."""
        stored = Stored.of(stored_directory(self._settings.journal.path)).made.connections
        connections = {**stored, **self._settings.connections}
        return self._settings.model_copy(update={"connections": connections})

    def _run(self, work: Callable[[Vault], Awaitable[_Result]]) -> _Result:
        self._refuse_for_another_user()

        async def main() -> _Result:
            terminal = self._terminal
            async with standalone(self._settings, terminal.environ, terminal.clock) as vault:
                return await work(vault)

        return anyio.run(main)

    def _refuse_for_another_user(self) -> None:
        """Make nothing that the daemon could not read afterwards."""
        directory = self._settings.journal.path.parent
        if directory.exists() and directory.stat().st_uid != os.geteuid():
            raise CommandError(
                f"no daemon runs, and {directory} belongs to another user",
                hint="Start the daemon first, or run this as the user that it runs as.",
            )


def with_store(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that find the daemon, and ``store``, ``terminal``, ``as_json``.

    The store is of the tenant that the command's ``tenant`` names, where it has that option.
    Where no daemon answers, and the command line names none, the journal itself is used.
    """

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        terminal: Terminal = click.get_current_context().find_root().obj
        tenant: str | None = given.pop("tenant", None)
        wish = Wish(**{name: given.pop(name) for name in Wish.__dataclass_fields__})
        try:
            with Daemon(find_daemon(wish, terminal.environ)) as daemon:
                daemon.get("/healthz")
                return command(store=OfDaemon(daemon, tenant), terminal=terminal, **given)
        except UnreachableError as error:
            if error.sent or wish.socket is not None or wish.url is not None:
                raise
        settings = load(find_config(wish.config, terminal.environ), terminal.environ, known=None)
        store = OfJournal(settings, terminal, tenant or SHARED_SECRETS_OF)
        return command(store=store, terminal=terminal, **given)

    return with_finding_options(run)


def _shown(record: msgspec.Struct) -> Mapping[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(record)
    return shown
