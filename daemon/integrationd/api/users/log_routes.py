"""The users' log: attempts and webhooks in one list, in their words."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from integrationd.api.paging import options_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.resource_routes import ResourceRoutes
from integrationd.api.roles import Role
from integrationd.api.schemas import Moment
from integrationd.api.tenancy import caller_of, tenant_filter
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.api.users.passing import is_refusal, passed_on, told_in
from integrationd.api.users.prefix import PREFIX
from integrationd.api.users.views import LogItem, log_item
from integrationd.api.users.words import (
    DIRECTIONS,
    LOG_STATUSES,
    TIMEOUTS,
    exchanges_of,
    is_inbound,
)
from integrationd.api.webhook_routes import WebhookRoutes
from integrationd.clock import from_datetime
from integrationd.errors import UnprocessableError
from integrationd.journal import LogEntry, LogFilter, LogPlace

# These are those of the log itself; the others say which exchanges and when.
_SAME = ("provider", "connection", "operation", "reference_type", "reference_id")
FILTERS = ("direction", "status", "tenant", *_SAME, "external_reference", "since", "until")
_LOGS = f"{PREFIX}logs"
_LOG = f"{_LOGS}/{{log_id}}"
_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_NOTHING: tuple[str, ...] = ()


class _Exchange(msgspec.Struct, frozen=True):
    """What was said in an attempt, as ``/v1`` shows it; empty where nothing is known."""

    request: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    response: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class _Webhook(msgspec.Struct, frozen=True):
    """What was said in a webhook, as ``/v1`` shows it."""

    path: str
    reply_status: int
    headers: dict[str, str] | None
    body: str | None
    body_base64: str | None


class Said(NamedTuple):
    """What was said in an exchange, masked."""

    request: msgspec.Raw | None
    response: msgspec.Raw | None


class LogRoutes:
    """Answers below ``logs``.

    Args:
        parts: What the routes work with.
        resources: The routes of attempts.
        webhooks: The routes of the inbox.
    """

    def __init__(self, parts: Parts, resources: ResourceRoutes, webhooks: WebhookRoutes) -> None:
        self._logbook = parts.journal.logbook
        self._resources = resources
        self._webhooks = webhooks

    async def list_logs(self, request: Request) -> Response:
        """List exchanges, the latest first, without what was said in them."""
        options = options_of(request.query_params, (*PAGE, *FILTERS))
        after = _place(options.pop("cursor", None))
        page = read_page(QueryParams(options), FILTERS)
        tenant = tenant_filter(caller_of(request), options.get("tenant"))
        found, place = await self._logbook.list(
            _wanted(options, tenant), after=after, limit=page.limit
        )
        more = len(found) == page.limit
        view = {"items": [log_item(one) for one in found], "next": _cursor(place) if more else None}
        return json_reply(view).as_response()

    async def show(self, request: Request) -> Response:
        """Show one exchange with what was said in it."""
        log_id, within = request.path_params["log_id"], caller_of(request).tenant
        if _NUMBER.fullmatch(log_id):
            entry = await self._logbook.attempt(int(log_id), within)
            answer = await passed_on(
                request, self._resources.attempt, path={"number": log_id}, query={}
            )
        else:
            entry = await self._logbook.webhook(log_id, within)
            answer = await passed_on(
                request, self._webhooks.show, path={"webhook_id": log_id}, query={}
            )
        if is_refusal(answer):
            return answer
        said = _said(entry, answer)
        item = msgspec.structs.replace(
            log_item(entry), request_data=said.request, response_data=said.response
        )
        return json_reply(item).as_response()


def _said(entry: LogEntry, answer: Response) -> Said:
    """Return what was said in an exchange from how ``/v1`` shows it."""
    if not entry.is_inbound:
        exchange = told_in(answer, _Exchange)
        return Said(_or_null(exchange.request), _or_null(exchange.response))
    webhook = told_in(answer, _Webhook)
    request: dict[str, Any] = {"path": webhook.path, "headers": webhook.headers or {}}
    if webhook.body_base64 is not None:
        request["body_base64"] = webhook.body_base64
    else:
        request["body"] = webhook.body
    return Said(_raw(request), _raw({"status": webhook.reply_status}))


def _or_null(value: msgspec.Raw) -> msgspec.Raw | None:
    return value if bytes(value) else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _wanted(options: dict[str, str], tenant: str | None) -> LogFilter:
    """Return the filter that the users' options stand for.

    Raises:
        UnprocessableError: One of them makes no sense.
    """
    outcomes = states = timed_out = None
    if "status" in options:
        outcomes, timed_out, states = exchanges_of(options["status"])
    if "direction" in options:
        inbound = is_inbound(options["direction"])
        outcomes, states = (_NOTHING, states) if inbound else (outcomes, _NOTHING)
    return LogFilter(
        **{name: options.get(name) for name in (*_SAME, "external_reference")},
        tenant=tenant,
        outcomes=outcomes,
        timed_out=timed_out,
        timeouts=TIMEOUTS,
        states=states,
        since_ms=_moment(options, "since"),
        until_ms=_moment(options, "until"),
    )


def _moment(options: dict[str, str], name: str) -> int | None:
    if name not in options:
        return None
    try:
        return from_datetime(msgspec.convert(options[name], Moment, strict=False))
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise UnprocessableError(
            f"{name} is not a time of RFC 3339 with its zone, such as 2026-01-31T08:00:00Z",
            hint="Write the + of a zone as %2B.",
        ) from None


def _cursor(place: LogPlace) -> str:
    return f"{place.attempt}.{place.webhook}"


def _place(cursor: str | None) -> LogPlace:
    if cursor is None:
        return LogPlace()
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise UnprocessableError("cursor is not one that this API has given out")
    return LogPlace(*map(int, found.groups()))


_TIME = {"type": "string", "format": "date-time"}
_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "direction": {"type": "string", "enum": list(DIRECTIONS)},
    "status": {"type": "string", "enum": list(LOG_STATUSES)},
    "since": _TIME,
    "until": _TIME,
}
TOLD: Table = {
    ("get", _LOGS): Told(
        summary="List attempts and webhooks as one log, the latest first.",
        gives={200: Page[LogItem]},
        query=(*PAGE, *FILTERS),
        shapes=_SHAPES,
        personal="all",
        role=Role.READ,
    ),
    ("get", _LOG): Told(
        summary="Show one entry of the log with what was said in it.",
        gives={200: LogItem},
        personal="readers",
        role=Role.READ,
    ),
}
