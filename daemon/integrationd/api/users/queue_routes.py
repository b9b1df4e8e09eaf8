"""The users' queue: calls in their words, and the operations that put calls into it."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from integrationd.api.body import read_body
from integrationd.api.call_routes import CallRoutes
from integrationd.api.paging import options_of, page_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply, problem_reply
from integrationd.api.roles import Role, role_refusal
from integrationd.api.schemas import CallView, call_view
from integrationd.api.submit import OPTIONS
from integrationd.api.tenancy import caller_of, tenant_filter
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.api.users.passing import (
    Endpoint,
    answered_with,
    is_refusal,
    passed_on,
    told_in,
)
from integrationd.api.users.payloads import point_back, translated
from integrationd.api.users.prefix import PREFIX
from integrationd.api.users.views import CallShown, KeptItem, QueueItem, queue_item
from integrationd.api.users.words import FAULTS, QUEUE_STATUSES, priority_name, states_of
from integrationd.errors import RequestError
from integrationd.journal import CallFilter

FAULTS_SHOWN = 10
FILTERS = ("status", "tenant", "operation", "connection", "reference_type", "reference_id")
_QUEUE = f"{PREFIX}queue"
_PRUNED = "pruned"


class QueueRoutes:
    """Answers below ``queue``, and those of the operations.

    Args:
        parts: What the routes work with.
        calls: The routes of calls.
        submit: The short form's route of ``/v1``.
        max_body: The largest payload, in bytes.
    """

    def __init__(self, parts: Parts, calls: CallRoutes, submit: Endpoint, max_body: int) -> None:
        self._parts = parts
        self._calls = calls
        self._submit = submit
        self._max_body = max_body

    async def list_queue(self, request: Request) -> Response:
        """List the queue, the latest first; a status may stand for several states."""
        page = read_page(request.query_params, FILTERS)
        filters: dict[str, str | None] = dict(page.filters)
        status = filters.pop("status", None)
        filters["tenant"] = tenant_filter(caller_of(request), filters.get("tenant"))
        found = [
            call
            for state in ([None] if status is None else states_of(status))
            for call in await self._parts.journal.calls.list(
                CallFilter(**filters, state=state), before=page.before, limit=page.limit
            )
        ]
        latest = sorted(found, key=lambda call: -call.seq)[: page.limit]
        items = await self._items([call_view(call) for call in latest])
        return json_reply(page_of(items, [call.seq for call in latest], page)).as_response()

    async def show(self, request: Request) -> Response:
        """Show one item with its payload and result."""
        return await self._by(request, self._calls.show)

    async def cancel(self, request: Request) -> Response:
        """Cancel a pending item."""
        return await self._by(request, self._calls.cancel)

    async def retry(self, request: Request) -> Response:
        """Send a failed item again."""
        return await self._by(request, self._calls.retry)

    async def send(self, request: Request) -> Response:
        """``POST {category}/{verb}``: the body is the payload, in the users' names or ours."""
        refusal = role_refusal(caller_of(request), Role.STAFF)
        if refusal is not None:
            return problem_reply(refusal).as_response()
        path = request.path_params
        operation = f"{path['category']}.{path['verb']}"
        options = options_of(request.query_params, OPTIONS)
        if "priority" in options:
            options["priority"] = priority_name(options["priority"])
        body = await read_body(request.receive, self._max_body)
        try:
            payload = translated(operation, body)
            answer = await passed_on(request, self._submit, path=path, query=options, body=payload)
        except RequestError as error:
            point_back(operation, body, error)
            raise
        return await self._in_their_words(answer)

    async def _by(self, request: Request, endpoint: Endpoint) -> Response:
        path = request.path_params
        return await self._in_their_words(await passed_on(request, endpoint, path=path))

    async def _in_their_words(self, answer: Response) -> Response:
        """Return the answer about a call in the users' words."""
        if is_refusal(answer):
            return answer
        kept = told_in(answer, _Kept)
        location = {b"location": f"{_QUEUE}/{kept.id}".encode()}
        if kept.state == _PRUNED:
            return answered_with(answer, KeptItem(kept.id, _PRUNED), location)
        (item,) = await self._items([told_in(answer, CallShown)])
        return answered_with(answer, item, location)

    async def _items(self, calls: Sequence[CallView | CallShown]) -> list[QueueItem]:
        begun = [call.id for call in calls if call.tries or call.queries]
        logbook = self._parts.journal.logbook
        faults = await logbook.faults(begun, FAULTS, FAULTS_SHOWN) if begun else {}
        sends_ms = await logbook.last_sends_ms(begun) if begun else {}
        items = []
        for call in calls:
            connection = self._parts.registry.find(call.connection or "")
            items.append(
                queue_item(
                    call,
                    provider=connection.code if connection else None,
                    max_attempts=self._parts.placement.attempts(connection),
                    last_send_ms=sends_ms.get(call.id),
                    faults=faults.get(call.id, ()),
                )
            )
        return items


class _Kept(msgspec.Struct, frozen=True):
    """What every answer about a call says."""

    id: str
    state: str


_ITEM = f"{_QUEUE}/{{call_id}}"
_SHAPES = {"status": {"type": "string", "enum": list(QUEUE_STATUSES)}}
TOLD: Table = {
    ("get", _QUEUE): Told(
        summary="List the queue: calls in the users' words, the latest first.",
        gives={200: Page[QueueItem]},
        query=(*PAGE, *FILTERS),
        shapes=_SHAPES,
        personal="all",
        role=Role.READ,
    ),
    ("get", _ITEM): Told(
        summary="Show one item of the queue with its payload and result.",
        gives={200: QueueItem},
        headers=("Prefer",),
        personal="readers",
        role=Role.READ,
    ),
    ("delete", _ITEM): Told(
        summary="Cancel a pending item of the queue.", gives={200: QueueItem}, role=Role.ADMIN
    ),
    ("post", f"{_ITEM}/retry"): Told(
        summary="Send a failed item of the queue again.",
        gives={202: QueueItem},
        role=Role.ADMIN,
    ),
}
