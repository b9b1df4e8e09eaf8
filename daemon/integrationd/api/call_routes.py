"""Routes of calls: list, look, retry, cancel, resolve, acknowledge."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.explain import why
from integrationd.api.paging import page_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Role
from integrationd.api.schemas import (
    AttemptView,
    CallView,
    PartView,
    ResolveRequest,
    WordView,
    call_view,
)
from integrationd.api.tenancy import caller_of, tenant_filter
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.call import Call, CallState, Part
from integrationd.clock import to_rfc3339
from integrationd.errors import UnprocessableError
from integrationd.journal import (
    AttemptFilter,
    CallDetail,
    CallFilter,
    InboxFilter,
    StoredAttempt,
    StoredWebhook,
)
from integrationd.sdk.contracts import CATALOGUE
from integrationd.settlement import Resolution, Settlement, cancel, resolve, retry

NOTE_LIMIT = 1000
ATTEMPTS_SHOWN = 100
FILTERS = ("state", "tenant", "operation", "connection", "reference_type", "reference_id")


class CallRoutes:
    """Everything below ``/v1/calls`` but accepting."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._calls = parts.journal.calls

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/calls", self.list_calls, methods=["GET"]),
            Route("/v1/calls/{call_id}", self.show, methods=["GET"]),
            Route("/v1/calls/{call_id}", self.cancel, methods=["DELETE"]),
            Route("/v1/calls/{call_id}/retry", self.retry, methods=["POST"]),
            Route("/v1/calls/{call_id}/resolve", self.resolve, methods=["POST"]),
            Route("/v1/calls/{call_id}/acknowledge", self.acknowledge, methods=["POST"]),
        ]

    async def list_calls(self, request: Request) -> Response:
        """List calls, the latest first."""
        page = read_page(request.query_params, FILTERS)
        wanted = CallFilter(**page.filters)
        if wanted.state is not None and wanted.state not in set(CallState):
            raise UnprocessableError(
                f"there is no state {wanted.state!r}; states are: {', '.join(CallState)}"
            )
        wanted = msgspec.structs.replace(
            wanted, tenant=tenant_filter(caller_of(request), wanted.tenant)
        )
        calls = await self._calls.list(wanted, before=page.before, limit=page.limit)
        items = [call_view(call) for call in calls]
        return json_reply(page_of(items, [call.seq for call in calls], page)).as_response()

    async def show(self, request: Request) -> Response:
        """Show one call with all that belongs to it."""
        call_id, within = request.path_params["call_id"], caller_of(request).tenant
        await self._parts.submitter.look(call_id, request.headers.get("prefer"), within)
        detail = await self._calls.detail(call_id, within)
        attempts = await self._parts.journal.attempts.list(
            AttemptFilter(call_id=call_id), before=None, limit=ATTEMPTS_SHOWN
        )
        words = await self._parts.journal.inbox.list(
            InboxFilter(call_id=call_id), before=None, limit=ATTEMPTS_SHOWN
        )
        return json_reply(self._full_view(detail, attempts, words)).as_response()

    def _full_view(
        self, detail: CallDetail, attempts: Sequence[StoredAttempt], words: Sequence[StoredWebhook]
    ) -> CallView:
        now_ms = self._parts.clock.now_ms()
        reason, until_ms = why(detail.call, self._parts.placement, self._parts.lines, now_ms)
        return msgspec.structs.replace(
            call_view(detail.call),
            payload=msgspec.Raw(self._parts.masker.body(detail.payload).encode()),
            metadata=msgspec.Raw(detail.metadata) if detail.metadata is not None else None,
            result=msgspec.Raw(detail.result) if detail.result is not None else None,
            parts=[PartView.of(part) for part in detail.parts],
            attempt_log=[AttemptView.of(attempt) for attempt in reversed(attempts)],
            webhooks=[WordView.of(webhook) for webhook in reversed(words)],
            why=reason,
            until=to_rfc3339(until_ms) if until_ms is not None else None,
        )

    async def cancel(self, request: Request) -> Response:
        """Cancel a pending call."""
        now_ms, caller = self._parts.clock.now_ms(), caller_of(request)

        def decide(call: Call, _parts: tuple[Part, ...]) -> Settlement:
            return cancel(call, caller.by, now_ms)

        call = await self._calls.change(request.path_params["call_id"], decide, caller.tenant)
        return json_reply(call_view(call)).as_response()

    async def retry(self, request: Request) -> Response:
        """Send a failed or expired call again."""
        now_ms, caller = self._parts.clock.now_ms(), caller_of(request)

        def decide(call: Call, parts: tuple[Part, ...]) -> Settlement:
            contract = CATALOGUE.get(call.operation)
            lifetime_s = contract.expires_in_s if contract else None
            return retry(
                call,
                parts,
                caller.by,
                now_ms,
                expires_at_ms=now_ms + round(lifetime_s * 1000) if lifetime_s else None,
                give_up_at_ms=self._give_up_at_ms(call, now_ms),
            )

        call = await self._calls.change(request.path_params["call_id"], decide, caller.tenant)
        return json_reply(call_view(call), 202).as_response()

    async def resolve(self, request: Request) -> Response:
        """Settle an unknown call by an operator's word."""
        wanted: ResolveRequest = decode(ResolveRequest, await request.body())
        if len(wanted.note) > NOTE_LIMIT:
            raise UnprocessableError(f"a note has at most {NOTE_LIMIT} characters", pointer="/note")
        now_ms, caller = self._parts.clock.now_ms(), caller_of(request)

        def decide(call: Call, parts: tuple[Part, ...]) -> Settlement:
            return resolve(
                call,
                parts,
                Resolution(wanted.resolution),
                caller.by,
                wanted.note,
                now_ms,
                give_up_at_ms=self._give_up_at_ms(call, now_ms),
            )

        call = await self._calls.change(request.path_params["call_id"], decide, caller.tenant)
        return json_reply(call_view(call)).as_response()

    async def acknowledge(self, request: Request) -> Response:
        """Take note of evidence against a final state."""
        call_id, caller = request.path_params["call_id"], caller_of(request)
        call = await self._calls.acknowledge(call_id, caller.by, caller.tenant)
        return json_reply(call_view(call)).as_response()

    def _give_up_at_ms(self, call: Call, now_ms: int) -> int:
        connection = self._parts.placement.of_lane(call.lane)
        return now_ms + round(self._parts.placement.give_up_after_s(connection) * 1000)


_CALL = "/v1/calls/{call_id}"
TOLD: Table = {
    ("get", "/v1/calls"): Told(
        summary="List calls, the latest first.",
        gives={200: Page[CallView]},
        query=(*PAGE, *FILTERS),
        personal="all",
        role=Role.READ,
    ),
    ("get", _CALL): Told(
        summary="Show one call with all that belongs to it.",
        gives={200: CallView},
        headers=("Prefer",),
        personal="readers",
        role=Role.READ,
    ),
    ("delete", _CALL): Told(
        summary="Cancel a pending call.", gives={200: CallView}, role=Role.STAFF
    ),
    ("post", f"{_CALL}/retry"): Told(
        summary="Send a failed or expired call again.", gives={202: CallView}, role=Role.STAFF
    ),
    ("post", f"{_CALL}/resolve"): Told(
        summary="Settle an unknown call by a person's word.",
        gives={200: CallView},
        takes=ResolveRequest,
        role=Role.STAFF,
    ),
    ("post", f"{_CALL}/acknowledge"): Told(
        summary="Take note of evidence against a final state.",
        gives={200: CallView},
        role=Role.STAFF,
    ),
}
