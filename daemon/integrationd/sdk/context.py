"""What a plugin's method is handed for one attempt."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from integrationd.clock import Clock

if TYPE_CHECKING:
    import httpx2


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
        open_recipients: The recipients still to be served, where the contract names recipients.
        timeout_s: Seconds that this attempt may take in all.
        clock: Where plugins read time.
        log: A logger bound to the call that masks secrets: ``debug``, ``info``, ``warning``.
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
    open_recipients: Sequence[str] = ()
    sent: bool | None = None

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

    def not_sent_yet(self) -> None:
        """Promise that nothing has left the machine so far; call before a transport of your own."""
        if self.sent is None:
            self.sent = False

    def mark_sent(self) -> None:
        """Note that from now on the request may have arrived; call just before its first byte."""
        self.sent = True
