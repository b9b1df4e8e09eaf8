"""Authorising a connection: a person consents at the provider, and comes back with a code.

What is begun is kept in the journal, so that a restart in between changes nothing. The verifier of
the code is derived from the state by the instance's key: neither the journal nor whoever sees the
address that is opened can make it.
"""

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
import structlog

from integrationd.api.ports import BegunConsent, GivenBack
from integrationd.call import Actor
from integrationd.clock import Clock, to_datetime
from integrationd.errors import ConflictError, DamagedError, IntegrationdError
from integrationd.journal import BegunAuthorisation, Journal, TokenPlace
from integrationd.masking import Masker
from integrationd.registry import Connection, Registry
from integrationd.registry.tokens import TokenHome, Tokens, profile_of
from integrationd.sdk.oauth import OAuth, TokenRequests, authorization_url
from integrationd.sdk.token_keeping import Token, TokenRequestError
from integrationd.sdk.tokens import TokenSource
from integrationd.settings import Settings
from integrationd.supervisor.secrets import Vault
from integrationd.supervisor.tokens import VaultStore
from integrationd.webhooks.consent import PATH, Ended

GOOD_FOR = dt.timedelta(minutes=10)
GIVING_UP_S = 10.0
_STATE_BYTES = 32
_AGAIN = "Begin again where you have the address from."


@dataclasses.dataclass(frozen=True, slots=True)
class Keeping:
    """What tokens and authorisations are kept with.

    Attributes:
        journal: Where they are.
        vault: Seals tokens; without it nothing is begun.
        registry: The live connections.
        clock: Where time is read.
    """

    journal: Journal
    vault: Vault
    registry: Registry
    clock: Clock


class Authorisations:
    """What begins, ends and takes back the authorisation of connections.

    Args:
        tokens: Where their tokens are; kept in the journal from now on.
        keeping: What they are kept with.
        key: The instance's key.
        masker: Masks what a provider says.
        on_authorised: Told which connection was authorised, and who had asked for it.

    Attributes:
        settings: Returns the settings in force.
    """

    def __init__(
        self,
        tokens: Tokens,
        keeping: Keeping,
        key: bytes,
        masker: Masker,
        on_authorised: Callable[[str, str], Awaitable[None]],
    ) -> None:
        journal, boot = keeping.journal, secrets.token_hex(8)
        self._tokens = tokens
        self._states = journal.oauth_states
        self._rows = journal.oauth_tokens
        self._vault = keeping.vault
        self._registry = keeping.registry
        self._clock = keeping.clock
        self._key = hmac.digest(key, b"oauth code verifiers", "sha256")
        self._masker = masker
        self._on_authorised = on_authorised
        self._log = structlog.get_logger("integrationd.tokens")
        self.settings: Callable[[], Settings] = Settings
        tokens.keep_in(lambda home: VaultStore(self._rows, self._vault, home, boot))

    def needs(self, connection: Connection) -> str:
        """Return why a person has to authorise a connection; empty where nobody has to."""
        return self._tokens.needs(connection)

    def is_authorised(self, connection: Connection) -> bool | None:
        """Say whether a person's consent is at hand; None where none is needed."""
        return self._tokens.is_authorised(connection)

    async def begin(self, connection: Connection, by: str) -> BegunConsent:
        """Return the address at which a person consents.

        Raises:
            ConflictError: The connection needs no consent, or nobody could come back from there.
            VaultError: What the consent brings could not be kept.
            JournalError: What is begun cannot be kept.
        """
        profile, home, _source = self._asked(connection)
        redirect_uri = redirect_uri_of(self.settings())
        async with self._vault.keyring(make=True):
            # Found out now, and not when the person has consented.
            pass
        state, now_ms = secrets.token_urlsafe(_STATE_BYTES), self._clock.now_ms()
        url = _url(connection, profile, redirect_uri, state, self._verifier(state))
        begun = BegunAuthorisation(
            tenant=home.tenant,
            connection=connection.name,
            begun_by=str(by),
            begun_from=by.where if isinstance(by, Actor) else "",
            redirect_uri=redirect_uri,
            made_for=home.made_for,
            expires_at_ms=now_ms + round(GOOD_FOR.total_seconds() * 1000),
        )
        await self._states.begin(state, begun, now_ms)
        return BegunConsent(
            connection=connection.name,
            url=url,
            redirect_uri=redirect_uri,
            expires_at=to_datetime(begun.expires_at_ms),
        )

    async def finish(self, query: Mapping[str, str]) -> Ended:
        """Take a person back from the provider, once, and say in words what has come of it."""
        state = query.get("state", "")
        if not state:
            return Ended(400, "Nothing to do here", f"This address lacks its state. {_AGAIN}")
        try:
            begun = await self._states.take(state, self._clock.now_ms())
        except DamagedError:
            begun = None
        except IntegrationdError as error:
            return Ended(503, "Not authorised", f"{error}. {error.hint} {_AGAIN}")
        if begun is None:
            told = "This address was used before, or it is older than 10 minutes."
            return Ended(400, "Not authorised", f"{told} {_AGAIN}")
        connection = self._registry.find(begun.connection)
        home = self._tokens.home(connection) if connection is not None else None
        if connection is None or home is None or not _is_for(begun, home):
            told = f"The connection {begun.connection} has been changed or taken away meanwhile."
            return Ended(409, "Not authorised", f"{told} {_AGAIN}")
        return await self._ended(connection, begun, state, query)

    async def _ended(
        self,
        connection: Connection,
        begun: BegunAuthorisation,
        state: str,
        query: Mapping[str, str],
    ) -> Ended:
        profile, _home, source = self._asked(connection)
        refusal = _refusal(profile, query)
        if refusal is not None:
            return refusal
        requests = _requests(connection, profile, self._clock)

        async def exchange() -> Token:
            return await requests.exchange(query["code"], begun.redirect_uri, self._verifier(state))

        try:
            with connection.held():
                held = await source.adopt(exchange, Actor(begun.begun_by, begun.begun_from))
        except TokenRequestError as error:
            return self._not_exchanged(error)
        except IntegrationdError as error:
            return Ended(503, "Not authorised", f"{error}. {error.hint} {_AGAIN}")
        await self._on_authorised(connection.name, begun.begun_by)
        told = f"The connection {connection.name} is authorised. You can close this window."
        if held.refresh_token is None:
            told += (
                " The provider gave nothing to renew the token with, so that this has to be done"
                " again when it is over."
            )
        return Ended(200, "Authorised", told)

    def _not_exchanged(self, error: TokenRequestError) -> Ended:
        if error.in_doubt:
            told = "The provider's answer was lost, and what you have given it works only once."
            return Ended(502, "Not authorised", f"{told} {_AGAIN}")
        return Ended(502, "Not authorised", f"{self._masker.text(error.failure.detail)} {_AGAIN}")

    async def give_back(self, connection: Connection, by: str) -> GivenBack:
        """Have the provider void the token of a connection, and forget it only then.

        Raises:
            ConflictError: The connection uses no OAuth.
            TokenRequestError: The provider has not voided it; it is kept.
            JournalError: It cannot be forgotten.
        """
        profile, home, source = self._asked(connection, by_consent=False)
        await source.load()
        await source.idle()
        held, is_void = source.held, False
        with source.withheld("its authorisation is being given back"):
            if held is not None and profile.revocation_endpoint:
                hint = "refresh_token" if held.refresh_token else "access_token"
                requests = _requests(connection, profile, self._clock)
                with connection.held():
                    await requests.revoke(held.refresh_token or held.access_token, hint)
                is_void = True
            await self._rows.delete(TokenPlace(home.tenant, home.connection), by)
        source.forget()
        await source.load()
        return GivenBack(connection=connection.name, revoked=is_void)

    @contextlib.asynccontextmanager
    async def giving_up(self, connection: Connection, by: str) -> AsyncIterator[None]:
        """Have the provider void the token of a connection that is removed inside, if it can.

        A provider that refuses, or is not reached in time, keeps nobody from removing it.
        """
        with anyio.move_on_after(GIVING_UP_S) as scope:
            try:
                await self.give_back(connection, by)
            except ConflictError:
                # It uses no OAuth, so there is nothing to void.
                pass
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                self._not_void(connection, str(error))
        if scope.cancelled_caught:
            self._not_void(connection, f"no answer within {GIVING_UP_S:g} s")
        yield
        self._tokens.forget(connection.name)

    def _not_void(self, connection: Connection, why: str) -> None:
        told = self._masker.text(why)
        self._log.warning("token_not_revoked", connection=connection.name, why=told)

    def _asked(
        self, connection: Connection, *, by_consent: bool = True
    ) -> tuple[OAuth, TokenHome, TokenSource]:
        profile, home = profile_of(connection), self._tokens.home(connection)
        source = connection.tokens(self._clock)
        is_asked = profile is not None and (not by_consent or profile.grant == "authorization_code")
        if profile is None or home is None or source is None or not is_asked:
            raise ConflictError(
                f"the connection {connection.name!r} needs nobody's consent",
                code="no_consent_needed",
                hint="Its credentials are in its config.",
            )
        return profile, home, source

    def _verifier(self, state: str) -> str:
        digest = hmac.digest(self._key, state.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def redirect_uri_of(settings: Settings) -> str:
    """Return where people are sent back to: the public address, else one of this machine.

    Raises:
        ConflictError: There is none.
    """
    webhooks = settings.webhooks
    if webhooks.public_url is not None:
        return f"{webhooks.public_url}{PATH}"
    address = webhooks.address
    if address is not None and ipaddress.ip_address(address[0]).is_loopback:
        return f"http://{webhooks.listen}{PATH}"
    raise ConflictError(
        "there is no address that the provider could send a person back to",
        code="no_callback_address",
        hint="Set [webhooks] listen, and public_url unless the browser is on this machine.",
    )


def _requests(connection: Connection, profile: OAuth, clock: Clock) -> TokenRequests:
    if connection.client is None:
        raise ConflictError(
            f"the provider of {connection.name!r} has no HTTP client to ask with",
            hint="Its Config has to derive from HttpProviderConfig.",
        )
    return TokenRequests(profile, connection.client, clock)


def _url(
    connection: Connection, profile: OAuth, redirect_uri: str, state: str, verifier: str
) -> str:
    try:
        return authorization_url(profile, redirect_uri=redirect_uri, state=state, verifier=verifier)
    except ValueError as error:
        raise ConflictError(
            f"the provider of {connection.name!r} does not say where a person consents: {error}",
            hint="Its plugin has to name its authorization_endpoint.",
        ) from None


def _is_for(begun: BegunAuthorisation, home: TokenHome) -> bool:
    return (begun.tenant, begun.made_for) == (home.tenant, home.made_for)


def _refusal(profile: OAuth, query: Mapping[str, str]) -> Ended | None:
    """Return why there is nothing to exchange; None where there is."""
    issuer = query.get("iss")
    if profile.issuer and issuer is not None and issuer != profile.issuer:
        told = "This came from another server than the one that you were sent to."
        return Ended(400, "Not authorised", f"{told} {_AGAIN}")
    if query.get("error") == "access_denied":
        told = "You have not given your consent, or the provider has refused it."
        return Ended(403, "Not authorised", f"{told} {_AGAIN}")
    if "error" in query:
        told = (
            f"The provider says: {query['error'][:100]} {query.get('error_description', '')[:300]}"
        )
        return Ended(502, "Not authorised", f"{told.strip().rstrip('.')}. {_AGAIN}")
    if not query.get("code"):
        return Ended(400, "Not authorised", f"The provider has sent no code. {_AGAIN}")
    return None
