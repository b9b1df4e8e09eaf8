"""Routes of the event log: read it from a cursor, follow it as a stream, publish to it."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.auth import AccessRefusedError
from integrationd.api.event_streams import EventStream, check_cursor
from integrationd.api.event_views import EventsView, EventView
from integrationd.api.idempotency import checked, key_of
from integrationd.api.paging import DEFAULT_LIMIT, LARGEST_LIMIT, options_of
from integrationd.api.parts import Parts
from integrationd.api.replies import json_reply
from integrationd.api.roles import Caller, Role
from integrationd.api.schemas import Reference
from integrationd.api.tenancy import caller_of, refuse_inactive, tenant_filter, tenant_for_new
from integrationd.api.told import Table, Told
from integrationd.call import EventRecord
from integrationd.errors import (
    TooLargeError,
    UnprocessableError,
)
from integrationd.event_types import RESERVED, is_reserved, is_type, is_type_pattern
from integrationd.journal import EventFilter, EventPage, NewEvent, StoredEvent

DATA_LIMIT_BYTES = 20 * 1024
TYPES_LIMIT = 20
STREAM_TYPE = "text/event-stream"
OPTIONS = ("after", "last", "limit", "type", "tenant", "call_id", "connection")
_LARGEST_NUMBER = (1 << 63) - 1
_REFERENCE = ("reference_type", "reference_id")
_canonical = msgspec.json.Encoder(order="deterministic").encode


class EventRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/events``: an event of the app's own.

    Attributes:
        type: Dotted, lower case, for example ``reward.issued``; none of the daemon's own words.
        data: What happened.
        tenant: Whose it is.
        reference: What it is about, as the app knows it; told beside the data.
    """

    type: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    tenant: str | None = None
    reference: Reference | None = None


class EventRoutes:
    """The routes of the event log."""

    def __init__(self, parts: Parts) -> None:
        self._log = parts.journal.events
        self._streams = parts.streams
        self._tenants = parts.tenants
        self._clock = parts.clock

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/events", self.read, methods=["GET"]),
            Route("/v1/events", self.publish, methods=["POST"]),
        ]

    async def read(self, request: Request) -> Response:
        """Read the log from a cursor, or follow it."""
        options = options_of(request.query_params, OPTIONS)
        wanted, limit = _wanted(options, caller_of(request)), _number(options, "limit")
        limit = DEFAULT_LIMIT if limit is None else limit
        if not 1 <= limit <= LARGEST_LIMIT:
            raise UnprocessableError(f"limit is a number from 1 to {LARGEST_LIMIT}")
        after, last = _number(options, "after"), _number(options, "last")
        if after is not None and last is not None:
            raise UnprocessableError("give after or last, not both")
        if last is not None and last > LARGEST_LIMIT:
            raise UnprocessableError(f"last is a number from 0 to {LARGEST_LIMIT}")
        if request.method == "GET" and _wants_stream(request):
            return await self._follow(request, wanted, _last_seen(request, after), last or 0)
        page = await self._page(wanted, after or 0, last, limit)
        return json_reply(EventsView.of(page)).as_response()

    async def _page(
        self, wanted: EventFilter, after: int, last: int | None, limit: int
    ) -> EventPage:
        if last is not None:
            return await self._log.latest(last, wanted)
        page = await self._log.after(after, limit, wanted)
        check_cursor(after, page)
        return page

    async def _follow(
        self, request: Request, wanted: EventFilter, after: int | None, last: int
    ) -> Response:
        """Return a stream; without a cursor it begins at the end, or so many events before it."""
        if after is None:
            page = await self._log.latest(last, wanted)
            after = page.events[0].seq - 1 if page.events else page.upto
        else:
            check_cursor(after, await self._log.after(after, 1))
        caller = caller_of(request)
        return EventStream(self._streams, caller.name, after, wanted, _let_in(request, caller))

    async def publish(self, request: Request) -> Response:
        """Append an event of the app's own."""
        wanted: EventRequest = decode(EventRequest, await request.body())
        tenant = self._tenant(wanted, caller_of(request))
        record = EventRecord(type=_checked_type(wanted.type), tenant=tenant, data=_data(wanted))
        shown = [value for name, value in request.headers.raw if name == b"idempotency-key"]
        new = NewEvent(
            record=record, idempotency_key=checked(key_of(shown)), digest=_digest(record)
        )
        published = await self._log.publish(new, self._clock.now_ms())
        data = _canonical(record.data).decode()
        event = StoredEvent(published.seq, published.at_ms, record.type, tenant, None, None, data)
        replayed = [(b"idempotency-replayed", b"true")] if published.is_replay else []
        return json_reply(EventView.of(event), 201, replayed).as_response()

    def _tenant(self, wanted: EventRequest, caller: Caller) -> str:
        tenant = tenant_for_new(caller, wanted.tenant)
        refuse_inactive(self._tenants, tenant)
        return tenant


def _wanted(options: Mapping[str, str], caller: Caller) -> EventFilter:
    types = tuple(options["type"].split(",")) if "type" in options else ()
    if len(types) > TYPES_LIMIT:
        raise UnprocessableError(f"at most {TYPES_LIMIT} types can be asked for at a time")
    for one in types:
        if not is_type_pattern(one):
            raise UnprocessableError(
                f"{one[:80]!r} is neither the type of an event nor a prefix like 'payment.*'"
            )
    return EventFilter(
        types=types,
        tenant=tenant_filter(caller, options.get("tenant")),
        call_id=options.get("call_id"),
        connection=options.get("connection"),
    )


def _number(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise UnprocessableError(f"{name} is a number, and {text[:80]!r} is none")
    return min(int(text), _LARGEST_NUMBER)


def _wants_stream(request: Request) -> bool:
    accepted = request.headers.get("accept", "").lower().split(",")
    return any(one.partition(";")[0].strip() == STREAM_TYPE for one in accepted)


def _last_seen(request: Request, after: int | None) -> int | None:
    """Return where to go on: what a reader that comes back has seen counts for more."""
    seen = request.headers.get("last-event-id")
    if not seen:
        return after
    return _number({"Last-Event-ID": seen}, "Last-Event-ID")


def _let_in(request: Request, caller: Caller) -> Callable[[], bool]:
    """Return what says whether the caller is still who it was; keys may be revoked meanwhile."""
    scope = request.scope

    def is_let_in() -> bool:
        try:
            now: Caller = scope["integrationd.access"].identify(scope)
        except AccessRefusedError:
            return False
        return now == caller

    return is_let_in


def _checked_type(name: str) -> str:
    if not is_type(name):
        raise UnprocessableError(
            f"{name[:80]!r} cannot be the type of an event",
            pointer="/type",
            hint="It is of two or more words of lower-case letters, digits and underscores,"
            " with dots between them, for example reward.issued.",
        )
    if is_reserved(name):
        raise UnprocessableError(
            f"events named {name.partition('.')[0]}.… are the daemon's own",
            code="reserved_type",
            pointer="/type",
            hint="Begin with another word; taken are: " + ", ".join(sorted(RESERVED)) + ".",
        )
    return name


def _data(wanted: EventRequest) -> Mapping[str, Any]:
    """Return the data, with the reference beside it as in the daemon's own events."""
    if len(_canonical(wanted.data)) > DATA_LIMIT_BYTES:
        raise TooLargeError(
            f"data is over {DATA_LIMIT_BYTES} bytes",
            pointer="/data",
            hint="Tell what happened and where the rest can be read.",
        )
    if wanted.reference is None:
        return wanted.data
    taken = next((name for name in _REFERENCE if name in wanted.data), None)
    if taken is not None:
        raise UnprocessableError(
            f"with a reference, data cannot have a {taken} of its own", pointer=f"/data/{taken}"
        )
    values = (wanted.reference.type, wanted.reference.id)
    return {**wanted.data, **dict(zip(_REFERENCE, values, strict=True))}


def _digest(record: EventRecord) -> bytes:
    return hashlib.sha256(_canonical([record.type, record.tenant, record.data])).digest()


_NUMBER = {"type": "integer", "minimum": 0}
TOLD: Table = {
    ("get", "/v1/events"): Told(
        summary="Read the event log from a cursor, or follow it as a stream.",
        gives={200: EventsView},
        query=OPTIONS,
        shapes={"after": _NUMBER, "last": {**_NUMBER, "maximum": LARGEST_LIMIT}},
        headers=("Last-Event-ID",),
        problems=(503,),
        is_stream=True,
        personal="all",
        role=Role.READ,
    ),
    ("post", "/v1/events"): Told(
        summary="Publish an event of the app's own to all who are told of it.",
        gives={201: EventView},
        takes=EventRequest,
        headers=("Idempotency-Key",),
        role=Role.STAFF,
    ),
}
