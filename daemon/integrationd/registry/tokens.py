"""The access tokens of all connections: one source for each, whichever version of it serves.

A background task renews those that are in use ahead of their end, so that calls need not wait for
it, and takes up at the start what a crash has cut off.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import structlog

from integrationd.call import DEFAULT_TENANT
from integrationd.clock import Clock
from integrationd.errors import IntegrationdError
from integrationd.registry.connection import Connection
from integrationd.registry.containment import contained
from integrationd.retry import Jitter
from integrationd.sdk.context import Context
from integrationd.sdk.oauth import OAuth
from integrationd.sdk.outcome import OutcomeError
from integrationd.sdk.token_keeping import Held, MemoryStore, Terms, Token, TokenStore
from integrationd.sdk.tokens import Learn, TokenSource
from integrationd.settings.tenants import SHARED_SECRETS_OF

TICK_S = 10.0
AHEAD_SHARE = 0.8
JITTER_SHARE = 0.05
USED_WITHIN_S = 86_400.0
PAUSE_S = 30.0
PAUSE_SHARE = 0.05
OPERATION = "oauth.refresh"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenHome:
    """What is known of a connection to whoever keeps its token.

    Attributes:
        tenant: Whose data key seals it; what all share has one of its own.
        connection: The connection's id.
        made_for: A digest of what its tokens are bound to.
        by_consent: Whether the first one needs a person's consent.
    """

    tenant: str
    connection: str
    made_for: str
    by_consent: bool


StoreOf: TypeAlias = Callable[[TokenHome], TokenStore]


@dataclasses.dataclass(slots=True)
class _Kept:
    """One connection's tokens.

    Attributes:
        home: Where they are kept.
        source: Hands them out.
        pause_until_s: When a renewal ahead that failed is tried again.
        drawn: For which generation of the token ``share`` was drawn.
        share: At which share of its life it is renewed ahead.
    """

    home: TokenHome
    source: TokenSource
    pause_until_s: float = 0.0
    drawn: int = -1
    share: float = AHEAD_SHARE


class Tokens:
    """The token sources of all connections.

    Args:
        clock: Where time is read.
        jitter: Randomness, so that tokens got together are not renewed together.
        learn: Told which values are tokens no more, and which are now, so that they are masked.
    """

    def __init__(self, clock: Clock, jitter: Jitter, learn: Learn | None = None) -> None:
        self._clock = clock
        self._jitter = jitter
        self._learn = learn
        self._connections: Callable[[], Sequence[Connection]] = tuple
        self._is_held: Callable[[str], bool] = lambda _connection: False
        self._keep_in: StoreOf = _in_memory
        self._kept: dict[str, _Kept] = {}
        self._log = structlog.get_logger("integrationd.tokens")

    def look_after(self, connections: Callable[[], Sequence[Connection]]) -> None:
        """Look after the tokens of these connections."""
        self._connections = connections

    def hold_while(self, is_held: Callable[[str], bool]) -> None:
        """Renew nothing ahead for connections that wait for this machine's own link."""
        self._is_held = is_held

    def keep_in(self, keep_in: StoreOf) -> None:
        """Keep tokens there from now on; to be called before the first is asked for."""
        self._keep_in = keep_in

    def source(self, connection: Connection, clock: Clock) -> TokenSource:
        """Return where a connection's tokens are kept.

        A version of the connection whose tokens are bound to something else gets a source anew.
        """
        profile = profile_of(connection)
        home = TokenHome(
            tenant=connection.tenant or SHARED_SECRETS_OF,
            connection=connection.name,
            made_for=_made_for(connection, profile),
            by_consent=profile is not None and profile.grant == "authorization_code",
        )
        known = self._kept.get(connection.name)
        if known is None or known.home != home:
            terms = Terms(
                connection=connection.name,
                by_consent=home.by_consent,
                rotation=profile.rotation if profile is not None else "none",
            )
            known = _Kept(home, TokenSource(clock, self._keep_in(home), terms, self._learn))
            self._kept[connection.name] = known
        return known.source

    def home(self, connection: Connection) -> TokenHome | None:
        """Return where a connection's tokens are kept; None for one that uses none."""
        if connection.tokens(self._clock) is None:
            return None
        return self._kept[connection.name].home

    def forget(self, connection: str) -> None:
        """Hold no token of a connection any more; one of its name begins anew."""
        self._kept.pop(connection, None)

    def needs(self, connection: Connection) -> str:
        """Return why a person has to authorise a connection; empty where nobody has to."""
        source = self._source_or_none(connection)
        return source.needs if source is not None else ""

    def is_authorised(self, connection: Connection) -> bool | None:
        """Say whether a person's consent is at hand; None where none is needed, or not known."""
        source = self._source_or_none(connection)
        if source is None or not source.terms.by_consent:
            return None
        return not source.needs

    async def run(self) -> None:
        """Renew ahead, for the daemon's life."""
        while True:
            await self.run_once()
            await self._clock.sleep(TICK_S)

    async def run_once(self) -> None:
        """Read what is kept of new connections, and renew what is due."""
        serving = {one.name: one for one in self._connections() if one.enabled}
        for name in self._kept.keys() - {one.name for one in self._connections()}:
            self.forget(name)
        for connection in serving.values():
            source = self._source_or_none(connection)
            if source is None:
                continue
            try:
                await source.load()
                kept = self._kept.get(connection.name)
                if kept is not None and self._is_due(kept) and not self._is_held(connection.name):
                    await self._renew(connection, source)
            except (IntegrationdError, OutcomeError) as error:
                self._put_off(connection.name, source, error)
            except Exception:  # noqa: BLE001 - a plugin may raise anything; the others go on
                self._log.warning("token_not_renewed", connection=connection.name, exc_info=True)
                self._put_off(connection.name, source, None)

    def _source_or_none(self, connection: Connection) -> TokenSource | None:
        try:
            with contained():
                return connection.tokens(self._clock)
        except Exception:  # noqa: BLE001 - a plugin's oauth() may raise anything; its calls say so
            return None

    def _is_due(self, kept: _Kept) -> bool:
        source, now_s = kept.source, self._clock.monotonic()
        if source.needs or now_s < kept.pause_until_s:
            return False
        if source.in_doubt:
            return True
        held, life_s, used_s = source.held, source.lifetime_s, source.used_s
        if held is None or not life_s or used_s is None or now_s - used_s > USED_WITHIN_S:
            return False
        if kept.drawn != held.generation:
            kept.drawn = held.generation
            kept.share = AHEAD_SHARE + self._jitter.uniform(-JITTER_SHARE, JITTER_SHARE)
        return source.left_s <= (1 - kept.share) * life_s

    async def _renew(self, connection: Connection, source: TokenSource) -> Held:
        context = token_context(connection, self._clock, source)

        async def fetch() -> Token:
            with contained():
                return await connection.provider.fetch_token(context)

        with connection.held():
            return await source.renew(fetch)

    def _put_off(self, name: str, source: TokenSource, error: Exception | None) -> None:
        pause_s = max(PAUSE_S, PAUSE_SHARE * (source.lifetime_s or 0.0))
        kept = self._kept.get(name)
        if kept is not None:
            kept.pause_until_s = self._clock.monotonic() + self._jitter.uniform(
                pause_s, 2 * pause_s
            )
        if error is not None:
            self._log.info("token_not_renewed", connection=name, why=str(error))


def profile_of(connection: Connection) -> OAuth | None:
    """Return what a connection's plugin declares of its authorization server, if anything."""
    return connection.provider.oauth()


def token_context(connection: Connection, clock: Clock, source: TokenSource) -> Context:
    """Return the context of a token request that is no call's."""
    return Context(
        call_id="",
        tenant=connection.tenant or DEFAULT_TENANT,
        operation=OPERATION,
        connection=connection.name,
        environment=connection.environment,
        attempt=1,
        reference="",
        idempotency_key="",
        timeout_s=connection.timeout_s,
        clock=clock,
        log=structlog.get_logger("integrationd.plugin").bind(connection=connection.name),
        client=connection.client,
        tokens=source,
        fetch_token=connection.provider.fetch_token,
    )


def _made_for(connection: Connection, profile: OAuth | None) -> str:
    if profile is not None:
        return f"{profile.fingerprint} {connection.client.base_url if connection.client else ''}"
    # Whatever of the config the plugin asks with; sealed wherever it is kept.
    config = repr(sorted(connection.spec.config.items()))
    return hashlib.sha256(config.encode("utf-8", "surrogatepass")).hexdigest()


def _in_memory(_home: TokenHome) -> TokenStore:
    return MemoryStore()
