"""What a plugin's method is handed for one attempt."""

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from integrationd.clock import Clock
from integrationd.sdk.exchange import unmarked
from integrationd.sdk.token_keeping import Token
from integrationd.sdk.tokens import TokenSource

if TYPE_CHECKING:
    import httpx2


_UNAUTHORISED = 401
_WANTS_SCOPE = "insufficient_scope"


@dataclasses.dataclass(slots=True, kw_only=True)
class Context:
    """One attempt, as its plugin sees it.

    Attributes:
        call_id: The call's id.
        tenant: Whose call it is.
        operation: ``category.verb``.
        connection: The connection's id.
        environment: ``sandbox`` or ``production``.
        attempt: 1 for the first send, and so on.
        reference: The reference to give to the provider: the app's own if the payload has one,
            else derived from the call's id; the same on every attempt.
        idempotency_key: The key to give to the provider; the same on every attempt.
        provider_reference: The provider's own id from an earlier attempt, if any.
        defaults: What the tenant's calls take that do not say it themselves, as ``[tenants.ID]``
            has it: ``sms_sender``, ``currency`` and so on. What the connection's config says
            comes first.
        open_recipients: The recipients still to be served, where the contract names recipients.
        timeout_s: Seconds that this attempt may take in all.
        clock: Where plugins read time.
        log: A logger bound to the call that masks secrets: ``debug``, ``info``, ``warning``.
        callback_base: What :meth:`callback_url` begins with; empty where nothing can arrive.
        tokens: Where :meth:`token` keeps them, shared by all attempts of the connection.
        fetch_token: The provider's method of that name.
    """

    call_id: str
    tenant: str
    operation: str
    connection: str
    environment: str
    attempt: int
    reference: str
    idempotency_key: str
    timeout_s: float
    clock: Clock
    log: Any
    client: "httpx2.AsyncClient | None" = None
    provider_reference: str | None = None
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    open_recipients: Sequence[str] = ()
    sent: bool | None = None
    callback_base: str = ""
    tokens: TokenSource | None = None
    fetch_token: "Callable[[Context], Awaitable[Token]] | None" = None

    @property
    def http(self) -> "httpx2.AsyncClient":
        """The HTTP client prepared for the connection.

        From the first use on, the daemon knows exactly whether a request left the machine.

        Raises:
            RuntimeError: The provider's config is not an ``HttpProviderConfig``.
        """
        if self.client is None:
            raise RuntimeError("ctx.http needs a Config that derives from HttpProviderConfig")
        if self.sent is None:
            self.sent = False
        return self.client

    @contextlib.contextmanager
    def preliminary(self) -> Iterator[None]:
        """Make requests that prepare the send and have no effect of their own, such as a look-up.

        They do not count as the call's having been sent; if one fails, nothing has happened.
        """
        with unmarked():
            yield

    async def token(self, refused: str | None = None) -> str:
        """Return an access token of the connection, as ``Provider.fetch_token`` gets them.

        It is got once for all calls, ahead of its end, and does not count as sending.

        Args:
            refused: A token that the provider did not take; pass it once for a fresh one.

        Raises:
            RuntimeError: The daemon gave this attempt no place for tokens.
            OutcomeError: There is none now; what it says goes for the call.
            Exception: Whatever ``fetch_token`` raised.
        """
        if self.tokens is None or self.fetch_token is None:
            raise RuntimeError("ctx.token() needs a provider with oauth() or fetch_token()")
        fetch = self.fetch_token
        # Its own, since the renewal may go on when this attempt is over.
        asking = dataclasses.replace(self)
        with self.preliminary():
            return await self.tokens.get(lambda: fetch(asking), refused)

    async def authorised(
        self, send: "Callable[[str], Awaitable[httpx2.Response]]"
    ) -> "httpx2.Response":
        """Make a request under the connection's token; after a 401 once more under a fresh one.

        A 401 says that the request was not carried out, so that repeating it is safe.

        Args:
            send: Makes the request, given the value of the ``Authorization`` header; its body must
                be the same each time.

        Raises:
            OutcomeError: There is no token now; what it says goes for the call.
        """
        token = await self.token()
        response = await send(f"Bearer {token}")
        if response.status_code != _UNAUTHORISED or _WANTS_SCOPE in _challenge(response):
            return response
        self.sent = False
        return await send(f"Bearer {await self.token(refused=token)}")

    def callback_url(self, path: str = "") -> str:
        """Return an address that only this call's provider will know, for its webhooks.

        What comes there is joined to this call. It holds no word that a provider may forbid.

        Args:
            path: Appended, for a provider that wants several: ``/timeout``.

        Raises:
            RuntimeError: ``[webhooks] public_url`` is not set, so nothing could arrive.
        """
        if not self.callback_base:
            raise RuntimeError(
                "the provider needs an address for its callbacks: set [webhooks] public_url"
            )
        return f"{self.callback_base}{path}"

    def not_sent_yet(self) -> None:
        """Promise that nothing has left the machine so far; call before a transport of your own."""
        if self.sent is None:
            self.sent = False

    def mark_sent(self) -> None:
        """Note that from now on the request may have arrived; call just before its first byte."""
        self.sent = True


def _challenge(response: "httpx2.Response") -> str:
    return str(response.headers.get("WWW-Authenticate", ""))
