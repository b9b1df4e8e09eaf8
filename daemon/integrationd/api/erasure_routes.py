"""The route that erases what names one data subject."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.tenancy import caller_of, tenant_for_new
from integrationd.api.told import Table, Told
from integrationd.errors import UnprocessableError
from integrationd.journal.erasure import Erased

SHORTEST_SUBJECT = 4


class ErasureRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose data is to be erased.

    Attributes:
        subject: A phone number with its country code, an e-mail address, or a reference.
        tenant: Whose subject it is; the caller's own, or ``default``, if it does not say.
        dry_run: Only count.
    """

    subject: str
    tenant: str | None = None
    dry_run: bool = False


class ErasureRoutes:
    """The route ``/v1/erasures``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/erasures", self.erase, methods=["POST"])]

    async def erase(self, request: Request) -> Response:
        """Erase what names a subject, or count it."""
        wanted, caller = decode(ErasureRequest, await request.body()), caller_of(request)
        tenant = tenant_for_new(caller, wanted.tenant)
        subject = wanted.subject.strip()
        if len(subject) < SHORTEST_SUBJECT:
            raise UnprocessableError(
                f"a subject has at least {SHORTEST_SUBJECT} characters",
                pointer="/subject",
                hint="Give a phone number with its country code, an e-mail address or a reference.",
            )
        erased = await self._parts.journal.erasures.erase(
            tenant, subject, caller.by, dry_run=wanted.dry_run
        )
        return json_reply(erased).as_response()


TOLD: Table = {
    ("post", "/v1/erasures"): Told(
        summary="Erase what names one data subject in finished calls, or count it.",
        gives={200: Erased},
        takes=ErasureRequest,
        role=Role.ADMIN,
    ),
}
