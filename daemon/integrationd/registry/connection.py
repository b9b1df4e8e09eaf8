"""A live connection: a provider object, made from a plugin version and a config."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import anyio

from integrationd.clock import Clock
from integrationd.registry.containment import contained
from integrationd.registry.loader import PluginVersion
from integrationd.registry.secret_fields import typed_secrets
from integrationd.sdk.http import PreparedClient, prepare_client
from integrationd.sdk.provider import HttpProviderConfig, Provider, ProviderConfig
from integrationd.sdk.tokens import TokenSource
from integrationd.sdk.transport import Transport

CLOSE_LIMIT_S = 5.0


class TokenDesk(Protocol):
    """Where the access tokens of all connections are kept."""

    def source(self, connection: "Connection", clock: Clock) -> TokenSource:
        """Return where those of one are kept."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSpec:
    """What a connection is made from.

    Attributes:
        name: The connection's id.
        provider: The provider's code.
        environment: ``sandbox`` or ``production``.
        config: The provider's config with every reference resolved; never shown.
        timeout_s: Seconds that one attempt may take in all.
        enabled: Whether it serves; one that does not is checked all the same.
        tenant: Whose it is; everybody's when None.
    """

    name: str
    provider: str
    environment: str
    config: Mapping[str, Any] = dataclasses.field(repr=False)
    timeout_s: float
    enabled: bool = True
    tenant: str | None = None


class Connection:
    """A connection that serves, made from one plugin version.

    Attributes:
        spec: What it was made from.
        name: The connection's id.
        environment: ``sandbox`` or ``production``.
        timeout_s: Seconds that one attempt may take in all.
        enabled: Whether it serves.
        tenant: Whose it is; everybody's when None.
        plugin: The plugin version that it was made from.
        secrets: What its config types as a secret, wherever that came from.
        is_outside: Whether it may lead beyond the machine's own networks only.
        provider: The provider object; it serves this connection only.
        client: The prepared HTTP client, where the provider's config asks for one.
    """

    def __init__(self, spec: ConnectionSpec, plugin: PluginVersion, config: ProviderConfig) -> None:
        self.spec = spec
        self.name = spec.name
        self.environment = spec.environment
        self.timeout_s = spec.timeout_s
        self.enabled = spec.enabled
        self.tenant = spec.tenant
        self.plugin = plugin
        self.secrets = frozenset(typed_secrets(config))
        self.is_outside = getattr(config, "allow_private", None) is False
        self.provider: Provider = plugin.provider(config, self)
        self.client = _client(config, spec.timeout_s)
        self._tokens: TokenSource | None = None
        self._desk: TokenDesk | None = None
        self._holders = 0
        self._let_go: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.name} of {self.code}>"

    @property
    def code(self) -> str:
        """The provider's code."""
        return self.plugin.code

    def keep_tokens_at(self, desk: TokenDesk) -> None:
        """Have its access tokens kept together with those of the versions before and after it."""
        self._desk = desk

    def tokens(self, clock: Clock) -> TokenSource | None:
        """Return where its access tokens are kept; None for a provider that uses none."""
        if self._tokens is None and self.plugin.provider.uses_tokens():
            desk = self._desk
            self._tokens = TokenSource(clock) if desk is None else desk.source(self, clock)
        return self._tokens

    def serves(self, operation: str) -> bool:
        """Say whether calls of the operation can go through it."""
        return self.enabled and operation in self.plugin.operations

    def is_made_from(self, spec: ConnectionSpec, plugin: PluginVersion) -> bool:
        """Say whether making it anew from these would make the same."""
        return self.plugin is plugin and self.spec == spec

    def hold(self) -> None:
        """Keep it open; each hold must be let go of once."""
        self._holders += 1

    def let_go(self) -> None:
        """End a hold."""
        self._holders -= 1
        if self._holders == 0 and self._let_go is not None:
            self._let_go.set()

    @contextlib.contextmanager
    def held(self) -> Iterator[Self]:
        """Keep it open while an attempt uses it."""
        self.hold()
        try:
            yield self
        finally:
            self.let_go()

    async def retire(self) -> None:
        """Wait until no attempt holds it, then close it.

        Raises:
            Exception: Whatever the plugin raised.
        """
        while self._holders:
            self._let_go = anyio.Event()
            await self._let_go.wait()
        await self.aclose()

    async def aclose(self) -> None:
        """Close the provider, which has :data:`CLOSE_LIMIT_S` for it, and its HTTP client.

        Raises:
            Exception: Whatever the plugin raised; the client is closed all the same.
        """
        try:
            if self._tokens is not None:
                # Cut off, a refresh may cost the customer's consent; it has a limit of its own.
                await self._tokens.idle()
            with anyio.fail_after(CLOSE_LIMIT_S), contained():
                await self.provider.aclose()
        finally:
            if self.client is not None:
                await self.client.aclose()


def _client(config: ProviderConfig, timeout_s: float) -> PreparedClient | None:
    if not isinstance(config, HttpProviderConfig):
        return None
    return prepare_client(
        base_url=config.base_url,
        timeout_s=timeout_s,
        transport=Transport(
            allow_private=config.allow_private, max_body_bytes=config.max_reply_bytes
        ),
    )
