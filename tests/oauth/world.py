"""Tokens in one process: a real journal, a real vault, the real plugin, a clock that is told."""

import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from integrationd.call import Actor
from integrationd.events import Bus
from integrationd.journal import EventFilter, Journal, TokenPlace
from integrationd.masking import Masker
from integrationd.registry import Connection, ConnectionSpec, Registry, load_plugins
from integrationd.registry.tokens import Tokens, token_context
from integrationd.sdk.testing import FakeClock
from integrationd.settings import Settings
from integrationd.supervisor.authorisations import Authorisations, Keeping
from integrationd.supervisor.secrets import Vault
from integrationd.vault import MasterSource

PLUGIN = Path(__file__).with_name("plugin.py")
INSTANCE_KEY = b"i" * 32
BY = Actor("key:head-teacher", "127.0.0.1")
PUBLIC_URL = "https://hooks.school.example"
BY_CONSENT: Mapping[str, Any] = {"grant": "authorization_code", "rotation": "strict"}


class World:
    """One run of a daemon, as far as tokens are concerned.

    Args:
        directory: Where the journal and the master key are; the next run finds them there.
        url: Where the authorization server is.
        config: What differs from the plugin's own config.
        clock: Shared by runs where time goes on.
        tenant: Whose connection it is.
        plugin: The plugin, if it is another one.

    Attributes:
        authorised: Which connections were authorised.
        consents: What people consent to.
        journal: Where tokens are kept.
        masker: Masks the log.
        settings: The configuration in force.
        tokens: What is tested.
        vault: Seals them.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        config: Mapping[str, Any] | None = None,
        clock: FakeClock | None = None,
        tenant: str | None = None,
        plugin: Path = PLUGIN,
    ) -> None:
        self.directory = directory
        self.clock = clock or FakeClock()
        self.journal = Journal(directory / "journal.db", INSTANCE_KEY, Bus(), self.clock)
        self.masker = Masker()
        self.tokens = Tokens(self.clock, random.Random(7), self.masker.exchange)
        loaded = load_plugins([plugin], self.clock)
        self.registry = Registry(loaded, self.tokens)
        self.tokens.look_after(self.registry.connections)
        source = MasterSource(f"file:{directory / 'master.key'}", None, {})
        self.vault = Vault(self.journal.secrets, source, lambda _values: None, lambda _notice: None)
        self.authorised: list[tuple[str, str]] = []
        self.settings = Settings.model_validate({"webhooks": {"public_url": PUBLIC_URL}})
        keeping = Keeping(self.journal, self.vault, self.registry, self.clock)
        self.consents = Authorisations(
            self.tokens, keeping, INSTANCE_KEY, self.masker, self._on_authorised
        )
        self.consents.settings = lambda: self.settings
        self._spec = ConnectionSpec(
            name="mail",
            provider=next(iter(loaded.versions)),
            environment="sandbox",
            config={"base_url": url, "allow_private": True, **(config or {})},
            timeout_s=5.0,
            tenant=tenant,
        )

    async def _on_authorised(self, connection: str, by: str) -> None:
        self.authorised.append((connection, by))

    @property
    def connection(self) -> Connection:
        """The connection."""
        return self.registry.connection("mail")

    @property
    def place(self) -> TokenPlace:
        """Where its token is kept."""
        return TokenPlace(self._spec.tenant or "*", "mail")

    async def token(self, refused: str | None = None) -> str:
        """Return a token, as a call would get it."""
        source = self.connection.tokens(self.clock)
        assert source is not None
        return await token_context(self.connection, self.clock, source).token(refused)

    async def events(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return what the event log says of connections."""
        page = await self.journal.events.after(0, 1000, EventFilter(types=("connection.*",)))
        return [(one.type, json.loads(one.data)) for one in page]


@contextlib.asynccontextmanager
async def opened(world: World) -> AsyncIterator[World]:
    """Open everything, close it at the end."""
    await world.registry.replace([world._spec])
    await world.journal.open()
    try:
        yield world
    finally:
        await world.registry.aclose()
        await world.journal.close()
