"""Routes by which a person authorises a connection at its provider, or takes that back."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.parts import Parts
from integrationd.api.ports import BegunConsent, GivenBack
from integrationd.api.problems import problem
from integrationd.api.replies import json_reply, problem_reply
from integrationd.api.roles import Role
from integrationd.api.tenancy import caller_of, may_change, may_see, refuse_one_tenant
from integrationd.api.told import Table, Told
from integrationd.clock import from_datetime, to_rfc3339
from integrationd.errors import NotFoundError
from integrationd.registry import Connection
from integrationd.sdk.outcome import Retryable, Throttled
from integrationd.sdk.token_keeping import TokenRequestError

RETRY_AFTER_S = 30


class BegunConsentView(msgspec.Struct, frozen=True):
    """Where a person consents, and until when.

    Attributes:
        connection: The connection's id.
        url: The address to open in a browser; good once.
        expires_at: Until when it is good.
        redirect_uri: Where the person is sent back to; it must be registered at the provider.
    """

    connection: str
    url: str
    expires_at: str
    redirect_uri: str

    @classmethod
    def of(cls, begun: BegunConsent) -> "BegunConsentView":
        """Return what was begun as the API shows it."""
        expires_at = to_rfc3339(from_datetime(begun.expires_at))
        return cls(begun.connection, begun.url, expires_at, begun.redirect_uri)


class AuthorisationRoutes:
    """The routes below ``/v1/connections/{name}`` that concern consent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(_AUTHORIZE, self.authorize, methods=["POST"]),
            Route(_AUTHORISATION, self.give_back, methods=["DELETE"]),
        ]

    async def authorize(self, request: Request) -> Response:
        """Begin an authorisation."""
        connection = self._connection(request)
        begun = await self._parts.authorisations.begin(connection, caller_of(request).by)
        return json_reply(BegunConsentView.of(begun)).as_response()

    async def give_back(self, request: Request) -> Response:
        """Have the provider void a token, and forget it."""
        connection = self._connection(request)
        try:
            given = await self._parts.authorisations.give_back(connection, caller_of(request).by)
        except TokenRequestError as error:
            return self._not_voided(error)
        return json_reply(given).as_response()

    def _connection(self, request: Request) -> Connection:
        """Return the connection that a request is about.

        Raises:
            NotFoundError: There is none for this caller.
            NotAllowedError: All tenants share it, and the caller is of one.
        """
        name, caller = request.path_params["name"], caller_of(request)
        found = self._parts.registry.connection(name)
        if not may_see(caller, found.tenant):
            raise NotFoundError(
                f"there is no connection {name!r}", hint="See 'integrationd connections'."
            )
        if not may_change(caller, found.tenant):
            refuse_one_tenant(caller, f"the connection {name}")
        return found

    def _not_voided(self, error: TokenRequestError) -> Response:
        failure = error.failure
        is_later = isinstance(failure, Retryable | Throttled)
        wait_s = getattr(failure, "wait_s", None) or RETRY_AFTER_S
        told = problem(
            503 if is_later else 502,
            "not_revoked",
            f"The provider has not voided the token, so it is kept. "
            f"{self._parts.masker.text(failure.detail)}",
            hint="Try again later, or take the consent back at the provider.",
            retry_after_s=round(wait_s) if is_later else 0,
        )
        return problem_reply(told).as_response()


_AUTHORIZE = "/v1/connections/{name}/authorize"
_AUTHORISATION = "/v1/connections/{name}/authorization"
TOLD: Table = {
    ("post", _AUTHORIZE): Told(
        summary="Begin an authorisation: return the address at which a person consents.",
        gives={200: BegunConsentView},
        problems=(503,),
        role=Role.STAFF,
    ),
    ("delete", _AUTHORISATION): Told(
        summary="Have the provider void a connection's token, and forget it.",
        gives={200: GivenBack},
        problems=(502, 503),
        role=Role.STAFF,
    ),
}
